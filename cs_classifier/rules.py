"""The regex baseline: readable rules with triggers, context, exemptions and inline examples.

Rules live in ``configs/rules.yaml`` and are matched on normalised text by RE2, in linear time. A
rule fires where a trigger matches, unless an exemption stands in the same clause of the line
(quote, denial, prohibition, legitimate scene) or its context conditions do not hold. Spans always
refer to the original line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cs_classifier import resources
from cs_classifier.errors import ConfigError
from cs_classifier.labels import LabelSet, load_labels
from cs_classifier.matching import PatternSet, compile_pattern
from cs_classifier.metrics import wilson
from cs_classifier.normalize import NormalizedText, normalize
from cs_classifier.records import LabelledMessage, Message, RuleHit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

MIN_EXAMPLES = 2
_CLAUSE_END = re.compile(r"[,。!?;~\n…]|(?:但是|不过|可是|然后)")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Example(_Strict):
    """One inline test line."""

    text: str
    context: str = ""


class Examples(_Strict):
    """Lines that a rule must hit, and lines that look like it and must not be hit."""

    positive: tuple[Example, ...] = Field(min_length=MIN_EXAMPLES)
    negative: tuple[Example, ...] = Field(min_length=MIN_EXAMPLES)


class Rule(_Strict):
    """One rule for a clause of a label, or for an auxiliary tag."""

    id: str
    clause: str = ""
    tag: str = ""
    strength: float = Field(default=0.8, gt=0, le=1)  # a score, not a probability
    triggers: tuple[str, ...] = Field(min_length=1)  # any, in the agent line
    needs: tuple[str, ...] = ()  # any, anywhere in the agent line
    context: tuple[str, ...] = ()  # any, in the customer's message
    unless: tuple[str, ...] = ()  # none in the clause of the line where the trigger stands
    unless_line: tuple[str, ...] = ()  # none anywhere in the line
    unless_context: tuple[str, ...] = ()  # none in the customer's message
    exempt: tuple[str, ...] = ()  # names of shared exemption lists, applied like ``unless``
    source: str
    examples: Examples

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if bool(self.clause) == bool(self.tag):
            msg = f"rule {self.id}: give either a clause or a tag"
            raise ValueError(msg)
        return self

    @property
    def target(self) -> str:
        """Label id, or tag id."""
        return self.tag or self.clause.partition(".")[0]


class RuleFile(_Strict):
    """The content of ``configs/rules.yaml``."""

    version: str
    fragments: dict[str, str] = {}  # {{name}} in any pattern is replaced by (?:...)
    exemptions: dict[str, tuple[str, ...]] = {}
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class ExampleFailure:
    """An inline example that does not do what it says."""

    rule: str
    example: Example
    expected: bool


@dataclass(frozen=True)
class RuleStatistics:
    """What one rule does on labelled lines (terms as in Snorkel's ``LFAnalysis``)."""

    rule: str
    target: str
    hits: int
    coverage: float  # share of lines hit
    overlap: float  # share of lines hit together with another rule of the same label
    conflict: float  # share of lines hit that are also hit for another label
    correct: int
    precision: float  # NaN without hits
    interval: tuple[float, float]


class RuleSet:
    """Compiled rules; :meth:`match` is their one use."""

    def __init__(self, file: RuleFile, label_set: LabelSet, where: str = "rules") -> None:
        """Check targets and compile.

        Raises:
            ConfigError: unknown clause, tag, fragment or exemption, repeated id, bad pattern.
        """
        _check(file, label_set, where)
        self.file, self.rules, self.where = file, file.rules, where
        expand = _Expander(file.fragments, where)
        self._compiled = [_compile(rule, file, expand) for rule in file.rules]
        self._triggers = _trigger_set(file.rules, expand)

    def match(self, text: NormalizedText, context: str = "") -> list[RuleHit]:
        """Hits in rule order, one per rule; ``context`` is normalised text."""
        hits = []
        for number in self._triggers.matching(text.text):
            conditions = self._compiled[number]
            if conditions.hold(text.text, context) and (span := self._span(number, text.text)):
                rule = self.rules[number]
                start, end = text.original_span(*span)
                found = text.original[start:end]
                hits.append(
                    RuleHit(rule.id, rule.target, rule.clause, rule.strength, start, end, found)
                )
        return hits

    def _span(self, number: int, text: str) -> tuple[int, int] | None:
        """Span of the leftmost trigger of a rule whose clause of the line holds no exemption."""
        unless = self._compiled[number].unless
        for match in self._triggers[number].finditer(text):
            span: tuple[int, int] = match.span()
            if span[1] > span[0] and not (unless and unless.search(_segment(text, span))):
                return span
        return None

    def failures(self) -> list[ExampleFailure]:
        """Inline examples that fail; empty when all is well."""
        found = []
        for rule in self.rules:
            cases = [(e, True) for e in rule.examples.positive]
            cases += [(e, False) for e in rule.examples.negative]
            for example, expected in cases:
                hits = self.match(normalize(example.text), normalize(example.context).text)
                if any(hit.rule == rule.id for hit in hits) != expected:
                    found.append(ExampleFailure(rule.id, example, expected))
        return found

    def match_message(self, message: Message) -> list[RuleHit]:
        """Normalise and match one message."""
        return self.match(normalize(message.text), normalize(message.context).text)


@dataclass(frozen=True)
class _Conditions:
    """A rule's conditions, each list as one compiled alternation; None where there is none."""

    needs: Any
    context: Any
    unless: Any
    unless_line: Any
    unless_context: Any

    def hold(self, text: str, context: str) -> bool:
        """Whether everything that concerns the whole line or the context is fulfilled."""
        return not (
            (self.needs and not self.needs.search(text))
            or (self.context and not self.context.search(context))
            or (self.unless_line and self.unless_line.search(text))
            or (self.unless_context and self.unless_context.search(context))
        )


def _compile(rule: Rule, file: RuleFile, expand: _Expander) -> _Conditions:
    exempting = [pattern for name in rule.exempt for pattern in file.exemptions[name]]
    where = f"{expand.where}: rule {rule.id}"

    def one(patterns: Iterable[str]) -> Any:  # noqa: ANN401
        expanded = [expand(pattern) for pattern in patterns]
        return compile_pattern(_any_of(expanded), where) if expanded else None

    return _Conditions(
        needs=one(rule.needs),
        context=one(rule.context),
        unless=one([*rule.unless, *exempting]),
        unless_line=one(rule.unless_line),
        unless_context=one(rule.unless_context),
    )


def _trigger_set(rules: Sequence[Rule], expand: _Expander) -> PatternSet:
    """One pattern per rule; an error names the rule."""
    triggers = [_any_of(map(expand, rule.triggers)) for rule in rules]
    try:
        return PatternSet(triggers, expand.where)
    except ConfigError:
        for rule, trigger in zip(rules, triggers, strict=True):
            compile_pattern(trigger, f"{expand.where}: rule {rule.id}")
        raise


def _any_of(patterns: Iterable[str]) -> str:
    return "|".join(f"(?:{pattern})" for pattern in patterns)


class _Expander:
    """Replaces ``{{name}}`` by the fragment of that name."""

    def __init__(self, fragments: dict[str, str], where: str) -> None:
        self.fragments, self.where = fragments, where

    def __call__(self, pattern: str) -> str:
        while found := re.search(r"\{\{(\w+)\}\}", pattern):
            if found[1] not in self.fragments:
                msg = f"{self.where}: unknown fragment {{{{{found[1]}}}}} in {pattern!r}"
                raise ConfigError(msg)
            pattern = pattern.replace(found[0], f"(?:{self.fragments[found[1]]})")
        return pattern


def _segment(text: str, span: tuple[int, int]) -> str:
    """The clause of the line around ``span``: between punctuation or turning words."""
    start, end = 0, len(text)
    for match in _CLAUSE_END.finditer(text):
        if match.end() <= span[0]:
            start = match.end()
        elif match.start() >= span[1]:
            end = match.start()
            break
    return text[start:end]


def _check(file: RuleFile, label_set: LabelSet, where: str) -> None:
    seen = set()
    for rule in file.rules:
        if rule.id in seen:
            msg = f"{where}: rule id '{rule.id}' occurs twice"
            raise ConfigError(msg)
        seen.add(rule.id)
        if rule.clause and rule.clause not in label_set.clauses:
            msg = f"{where}: rule {rule.id}: unknown clause '{rule.clause}'"
            raise ConfigError(msg)
        if rule.tag and rule.tag not in label_set.tag_ids:
            msg = f"{where}: rule {rule.id}: unknown tag '{rule.tag}'"
            raise ConfigError(msg)
        if unknown := set(rule.exempt) - set(file.exemptions):
            msg = f"{where}: rule {rule.id}: unknown exemption {sorted(unknown)}"
            raise ConfigError(msg)


def load_rules(path: Path | None = None, label_set: LabelSet | None = None) -> RuleSet:
    """Read and compile a rule file; the shipped one by default.

    Raises:
        ConfigError: missing or invalid file; the message names the rule.
    """
    if path is None and label_set is None:
        return _shipped()
    path = path or resources.find("configs/rules.yaml")
    try:
        file = RuleFile.model_validate(resources.read_yaml(path))
    except OSError as error:
        msg = f"cannot read rules {path}: {error.strerror}"
        raise ConfigError(msg) from error
    except (yaml.YAMLError, ValidationError) as error:
        msg = f"{path}: {error}"
        raise ConfigError(msg) from error
    return RuleSet(file, label_set or load_labels(), str(path))


@cache
def _shipped() -> RuleSet:
    return load_rules(resources.find("configs/rules.yaml"), load_labels())


def statistics(rules: RuleSet, lines: Sequence[LabelledMessage]) -> list[RuleStatistics]:
    """Coverage, overlap, conflict and precision (95 % Wilson interval) of every rule."""
    hits = [rules.match_message(line.message) for line in lines]
    table = []
    for rule in rules.rules:
        rows = [i for i, found in enumerate(hits) if any(hit.rule == rule.id for hit in found)]
        others = [[hit for hit in hits[i] if hit.rule != rule.id and hit.clause] for i in rows]
        correct = sum(rule.target in lines[i].labels for i in rows)
        table.append(
            RuleStatistics(
                rule=rule.id,
                target=rule.target,
                hits=len(rows),
                coverage=len(rows) / max(1, len(lines)),
                overlap=sum(any(h.target == rule.target for h in o) for o in others)
                / max(1, len(lines)),
                conflict=sum(any(h.target != rule.target for h in o) for o in others)
                / max(1, len(lines)),
                correct=correct,
                precision=correct / len(rows) if rows else float("nan"),
                interval=wilson(correct, len(rows)),
            )
        )
    return table
