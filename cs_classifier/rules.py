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
from typing import TYPE_CHECKING, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cs_classifier import resources
from cs_classifier.errors import ConfigError
from cs_classifier.labels import LabelSet, load_labels
from cs_classifier.matching import PatternSet
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
        self._text_index: dict[str, int] = {}
        self._context_index: dict[str, int] = {}
        text, context = self._text_index, self._context_index
        self._parts = []
        for rule in file.rules:
            unless = [*rule.unless, *(p for name in rule.exempt for p in file.exemptions[name])]
            self._parts.append(
                _Parts(
                    triggers=_intern(text, map(expand, rule.triggers)),
                    needs=_intern(text, map(expand, rule.needs)),
                    unless=_intern(text, map(expand, unless)),
                    unless_line=_intern(text, map(expand, rule.unless_line)),
                    context=_intern(context, map(expand, rule.context)),
                    unless_context=_intern(context, map(expand, rule.unless_context)),
                )
            )
        self._text = PatternSet(list(text), where)
        self._context = PatternSet(list(context), where)
        self._by_trigger: dict[int, list[int]] = {}
        for number, parts in enumerate(self._parts):
            for trigger in parts.triggers:
                self._by_trigger.setdefault(trigger, []).append(number)

    def match(self, text: NormalizedText, context: str = "") -> list[RuleHit]:
        """Hits in rule order, one per rule; ``context`` is normalised text."""
        in_text = set(self._text.matching(text.text))
        candidates = sorted({n for p in in_text for n in self._by_trigger.get(p, ())})
        if not candidates:
            return []
        in_context = set(self._context.matching(context))
        hits = []
        for number in candidates:
            parts = self._parts[number]
            if parts.hold(in_text, in_context) and (
                span := self._first_span(text.text, parts, in_text)
            ):
                rule = self.rules[number]
                start, end = text.original_span(*span)
                found = text.original[start:end]
                hits.append(
                    RuleHit(rule.id, rule.target, rule.clause, rule.strength, start, end, found)
                )
        return hits

    def _first_span(self, text: str, parts: _Parts, in_text: set[int]) -> tuple[int, int] | None:
        """Span of the leftmost trigger whose clause holds no exemption."""
        spans: list[tuple[int, int]] = sorted(
            match.span()
            for trigger in parts.triggers & in_text
            for match in self._text.patterns[trigger].finditer(text)
            if match.end() > match.start()
        )
        exempting = [self._text.patterns[p] for p in parts.unless & in_text]
        for span in spans:
            segment = _segment(text, span)
            if not any(pattern.search(segment) for pattern in exempting):
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
class _Parts:
    """Numbers of a rule's patterns in the text and context pattern sets."""

    triggers: frozenset[int]
    needs: frozenset[int]
    unless: frozenset[int]
    unless_line: frozenset[int]
    context: frozenset[int]
    unless_context: frozenset[int]

    def hold(self, in_text: set[int], in_context: set[int]) -> bool:
        """Whether everything that concerns the whole line or the context is fulfilled."""
        return (
            (not self.needs or bool(self.needs & in_text))
            and (not self.context or bool(self.context & in_context))
            and not self.unless_line & in_text
            and not self.unless_context & in_context
        )


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


def _intern(index: dict[str, int], patterns: Iterable[str]) -> frozenset[int]:
    return frozenset(index.setdefault(pattern, len(index)) for pattern in patterns)


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
        file = RuleFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
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
