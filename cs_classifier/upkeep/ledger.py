"""The rule ledger: what each rule is worth on reviewed lines, and what no rule catches yet."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from cs_classifier.config import Config
from cs_classifier.metrics import wilson
from cs_classifier.normalize import normalize
from cs_classifier.rules import RuleStatistics, statistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cs_classifier.records import LabelledMessage
    from cs_classifier.rules import RuleSet

Verdict = Literal["keep", "tighten", "retire", "undecided"]
EXAMPLES = 5
_LONGEST, _SHORTEST, _GAP = 6, 2, 8  # characters of a pattern's pieces, and between two of them
_LETTERS = re.compile(r"[^\W\d_]+")  # no digits: a pattern must not hold somebody's number
_PRIOR = 500.0  # weight of the corpus as prior, in lines
_ALL, _CLEAN = "*", ""  # keys beside label ids


class LedgerConfig(Config):
    """When a rule is kept, tightened or retired, and which patterns are suggested."""

    keep: float = Field(default=0.8, gt=0, lt=1)  # lower bound of precision from which to keep
    retire: float = Field(default=0.5, gt=0, lt=1)  # upper bound of precision below which to retire
    reviewed: int = Field(default=10, ge=1)  # hits below which nothing is said
    lines: int = Field(default=3, ge=2)  # missed lines that a suggested pattern must occur in
    patterns: int = Field(default=10, ge=0)  # suggested per label, at most


@dataclass(frozen=True, slots=True)
class SourceCount:
    """Hits of one rule on the lines of one origin."""

    origin: str
    hits: int
    correct: int
    interval: tuple[float, float]  # of precision, Wilson, 95 %


@dataclass(frozen=True, slots=True)
class RuleEntry:
    """One rule. A rule for a tag has no verdict: tags are not reviewed."""

    statistics: RuleStatistics
    verdict: Verdict | None
    sources: tuple[SourceCount, ...]
    wrong: tuple[str, ...]  # ids of some lines that it hit wrongly


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A pattern that missed violations of a label share and no clean line contains."""

    label: str
    pattern: str  # a regular expression on normalised text
    lines: int  # missed violations with it
    missed: int  # missed violations of the label in all
    elsewhere: int  # violations of other labels with it
    z: float  # log-odds against the other lines, in standard deviations
    examples: tuple[str, ...]  # ids


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything about the rules on one collection of reviewed lines."""

    lines: int
    config: LedgerConfig
    rules: tuple[RuleEntry, ...]
    suggestions: tuple[Suggestion, ...]
    missed: Mapping[str, tuple[int, int]]  # label to (violations no rule of it hits, violations)


def build(
    rules: RuleSet,
    lines: Sequence[LabelledMessage],
    label_ids: Sequence[str],
    config: LedgerConfig | None = None,
) -> Ledger:
    """Hold every rule against reviewed lines, and look for patterns where no rule hits."""
    config = config or LedgerConfig()
    hits = [{hit.rule: hit.target for hit in rules.match_message(line.message)} for line in lines]
    entries = [
        RuleEntry(
            statistics=row,
            verdict=verdict(row, config) if row.target in label_ids else None,
            sources=tuple(_sources(row, lines, hits)) if row.target in label_ids else (),
            wrong=tuple(
                line.id
                for line, found in zip(lines, hits, strict=True)
                if row.rule in found and row.target not in line.labels
            )[:EXAMPLES]
            if row.target in label_ids
            else (),
        )
        for row in statistics(rules, lines)
    ]
    missed = {
        label: [
            line
            for line, found in zip(lines, hits, strict=True)
            if label in line.labels and label not in found.values()
        ]
        for label in label_ids
    }
    return Ledger(
        lines=len(lines),
        config=config,
        rules=tuple(entries),
        suggestions=tuple(suggest(missed, lines, config)),
        missed={
            label: (len(missed[label]), sum(label in line.labels for line in lines))
            for label in label_ids
        },
    )


def verdict(row: RuleStatistics, config: LedgerConfig) -> Verdict:
    """What to do with a rule, by the interval of its precision."""
    low, high = row.interval
    if row.hits < config.reviewed:
        return "undecided"
    if low >= config.keep:
        return "keep"
    return "retire" if high < config.retire else "tighten"


def _sources(
    row: RuleStatistics, lines: Sequence[LabelledMessage], hits: Sequence[Mapping[str, str]]
) -> Iterator[SourceCount]:
    correct: dict[str, list[bool]] = defaultdict(list)
    for line, found in zip(lines, hits, strict=True):
        if row.rule in found:
            correct[line.origin].append(row.target in line.labels)
    for origin, right in sorted(correct.items()):
        yield SourceCount(origin, len(right), sum(right), wilson(sum(right), len(right)))


def suggest(
    missed: Mapping[str, Sequence[LabelledMessage]],
    lines: Sequence[LabelledMessage],
    config: LedgerConfig,
) -> Iterator[Suggestion]:
    """Patterns that several missed violations of a label share and no clean line contains.

    Args:
        missed: per label, its violations that no rule catches.
        lines: all reviewed lines, those among them.
        config: how often and how many.
    """
    where = {label: _shared(rows, config.lines) for label, rows in missed.items()}
    wanted = {pattern for shared in where.values() for pattern in shared}
    spoken: dict[str, Counter[str]] = {pattern: Counter() for pattern in wanted}
    for line in lines:
        for pattern in candidates(normalize(line.message.text).text) & wanted:
            spoken[pattern].update((_ALL, *line.labels) if line.labels else (_ALL, _CLEAN))
    for label, rows in missed.items():
        others = sum(label not in line.labels for line in lines)
        free = {
            pattern: spoken[pattern][_ALL] - spoken[pattern][label]
            for pattern in where[label]
            if not spoken[pattern][_CLEAN]
        }
        yield from _chosen(label, rows, where[label], free, others, config)


def _shared(lines: Sequence[LabelledMessage], least: int) -> dict[str, list[int]]:
    """Pattern to the numbers of the lines that it matches, for patterns of enough lines."""
    where: dict[str, list[int]] = defaultdict(list)
    for i, line in enumerate(lines):
        for pattern in candidates(normalize(line.message.text).text):
            where[pattern].append(i)
    return {pattern: rows for pattern, rows in where.items() if len(rows) >= least}


def _chosen(  # noqa: PLR0913, PLR0917
    label: str,
    missed: Sequence[LabelledMessage],
    where: Mapping[str, list[int]],
    free: Mapping[str, int],
    others: int,
    config: LedgerConfig,
) -> Iterator[Suggestion]:
    """The patterns with the highest log-odds, each catching enough lines that are still missed."""
    z = {p: log_odds(len(where[p]), n, missed=len(missed), others=others) for p, n in free.items()}
    caught: set[int] = set()
    count = 0
    # Among patterns of the same lines the longest single piece is the easiest to read.
    for pattern in sorted(free, key=lambda p: (-z[p], "." in p, -len(p), p)):
        rows = where[pattern]
        if count == config.patterns:
            return
        if len(set(rows) - caught) >= config.lines:
            caught.update(rows)
            count += 1
            examples = tuple(missed[i].id for i in rows[:EXAMPLES])
            yield Suggestion(
                label, pattern, len(rows), len(missed), free[pattern], z[pattern], examples
            )


def candidates(text: str) -> set[str]:
    """Patterns that match ``text``: runs of letters, and two pairs of letters near each other.

    >>> sorted(candidates("加我vx"))
    ['vx', '加我', '加我.{0,8}vx', '加我v', '加我vx', '我v', '我vx']
    """
    found = set()
    pairs = []
    for run in _LETTERS.finditer(text):
        word, start = run.group(), run.start()
        for i in range(len(word) - _SHORTEST + 1):
            pairs.append((start + i, word[i : i + _SHORTEST]))
            found |= {word[i : i + n] for n in range(_SHORTEST, _LONGEST + 1) if i + n <= len(word)}
    for k, (at, first) in enumerate(pairs):
        for later, second in pairs[k + 1 : k + 1 + _SHORTEST + _GAP]:
            if at + _SHORTEST <= later <= at + _SHORTEST + _GAP:
                found.add(f"{first}.{{0,{_GAP}}}{second}")
    return found


def log_odds(inside: int, outside: int, *, missed: int, others: int) -> float:
    """How much more a pattern belongs to the missed lines than to the others, as a z-score.

    Log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi & Quinn 2008); the prior
    is the pattern's share of all lines, worth ``_PRIOR`` lines. 0 if every line has the pattern.

    Args:
        inside: missed lines with the pattern.
        outside: other lines with it.
        missed: missed lines in all.
        others: other lines in all.

    >>> few, many = (log_odds(n, 0, missed=50, others=1000) for n in (3, 6))
    >>> many > few > log_odds(3, 60, missed=50, others=1000)
    True
    """
    if inside + outside == missed + others:
        return 0.0
    prior = _PRIOR * (inside + outside) / (missed + others)
    odds = [
        np.log((count + prior) / (total + _PRIOR - count - prior))
        for count, total in ((inside, missed), (outside, others))
    ]
    return float((odds[0] - odds[1]) / np.sqrt(1 / (inside + prior) + 1 / (outside + prior)))
