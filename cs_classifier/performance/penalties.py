"""The team's own scoring rules (``configs/scorecard.yaml``) and what they make of confirmed hits.

``score = clamp(base - sum over clauses of min(cap, deduction * n * severity factor))``. Only what a
person confirmed counts; the verdict "fail" needs a confirmed hit of a fatal clause.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from cs_classifier.config import Config
from cs_classifier.errors import ConfigError
from cs_classifier.performance.clock import Window  # noqa: TC001 (pydantic reads it)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

AppealState = Literal["upheld", "dismissed", "pending"]
Verdict = Literal["fail", "pass", "below", "insufficient", "none"]


class Penalty(Config):
    """What one clause costs: points per hit before factors, at most ``cap`` in all."""

    deduction: float = Field(default=3, ge=0)
    cap: float = Field(default=30, ge=0)
    fatal: bool = False


class Repeat(Config):
    """A hit on a further day within ``days`` counts by the next factor, the last one for ever."""

    days: int = Field(default=30, ge=1)
    factors: tuple[float, ...] = Field(default=(1.0,), min_length=1)


class Minimum(Config):
    """Below these, no rank and no "worse" (turns), no confirmed rate and no verdict (reviewed)."""

    turns: int = Field(default=200, ge=1)
    reviewed: int = Field(default=30, ge=1)


class ScoreRules(Config):
    """Everything about a scorecard that a team may set."""

    version: str
    base: float = 100
    pass_line: float = 70
    severity_factors: dict[int, float] = Field(default={1: 1.0, 2: 2.0, 3: 3.0})
    default: Penalty = Penalty()
    clauses: dict[str, Penalty] = Field(default_factory=dict)
    repeat: Repeat = Repeat()
    minimum: Minimum = Minimum()
    false_alarm: float = Field(default=0.05, gt=0, lt=1)  # of the whole night
    margin: float = Field(default=1.2, ge=1)  # "worse" means beyond this multiple of the team
    appeals: dict[AppealState, tuple[str, ...]] = Field(default_factory=dict)
    provoked_clauses: tuple[str, ...] = ()  # found in what the customer wrote
    self_corrections: tuple[str, ...] = ()  # phrases that take a line back
    shifts: dict[str, Window] = Field(default_factory=dict)  # where the file names none

    @field_validator("severity_factors")
    @classmethod
    def _complete(cls, factors: dict[int, float]) -> dict[int, float]:
        if set(factors) != {1, 2, 3}:
            msg = "give a factor for each of the severities 1, 2 and 3"
            raise ValueError(msg)
        return factors

    @cached_property
    def identity(self) -> str:
        """Version and checksum of the rules, to be kept with every result."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()
        return f"{self.version}+{digest[:12]}"

    @cached_property
    def appeal_states(self) -> dict[str, AppealState]:
        """State of an appeal by what a reviewer writes into the cell."""
        return {word: state for state, words in self.appeals.items() for word in words}


@dataclass(frozen=True, slots=True)
class Offence:
    """One confirmed hit; ``day`` is an ISO date, or empty where the time is not known."""

    clause: str  # a label id where no clause is known
    severity: int
    day: str


@dataclass(frozen=True, slots=True)
class Deduction:
    """What one clause cost."""

    clause: str
    hits: int
    points: float
    capped: bool
    fatal: bool


def deduct(
    offences: Sequence[Offence], rules: ScoreRules, *, earlier: Sequence[Offence] = ()
) -> tuple[Deduction, ...]:
    """Points per clause, most first; ``earlier`` offences only raise the repeat factor."""
    known: dict[str, set[str]] = defaultdict(set)
    by_clause: dict[str, list[Offence]] = defaultdict(list)
    for offence in (*earlier, *offences):
        known[offence.clause].add(offence.day)
    for offence in offences:
        by_clause[offence.clause].append(offence)
    found = []
    for clause, hits in by_clause.items():
        penalty = rules.clauses.get(clause, rules.default)
        points = sum(
            penalty.deduction
            * rules.severity_factors[hit.severity]
            * _factor(hit.day, known[clause], rules.repeat)
            for hit in hits
        )
        found.append(
            Deduction(
                clause, len(hits), min(points, penalty.cap), points > penalty.cap, penalty.fatal
            )
        )
    return tuple(sorted(found, key=lambda row: (-row.points, row.clause)))


def _factor(at: str, days: Iterable[str], repeat: Repeat) -> float:
    """By the number of earlier days with the same clause; an unknown day is no repeat."""
    if not at:
        return repeat.factors[0]
    today = date.fromisoformat(at)
    past = sum(
        0 < (today - date.fromisoformat(other)).days <= repeat.days for other in days if other
    )
    return repeat.factors[min(past, len(repeat.factors) - 1)]


def score(deductions: Sequence[Deduction], rules: ScoreRules) -> float:
    """Points that are left, between 0 and the base."""
    return max(0.0, rules.base - sum(row.points for row in deductions))


def verdict(deductions: Sequence[Deduction], rules: ScoreRules, *, reviewed: int) -> Verdict:
    """What follows; a fatal hit is a fact, everything else needs enough reviewed lines."""
    if any(row.fatal for row in deductions):
        return "fail"
    if not reviewed:
        return "none"
    if reviewed < rules.minimum.reviewed:
        return "insufficient"
    return "pass" if score(deductions, rules) >= rules.pass_line else "below"


def check_clauses(rules: ScoreRules, clauses: Mapping[str, object], labels: Sequence[str]) -> None:
    """Check that every clause named in the rules exists.

    Raises:
        ConfigError: one does not.
    """
    wrong = [
        name
        for name in (*rules.clauses, *rules.provoked_clauses)
        if name not in clauses and name not in labels
    ]
    if wrong:
        msg = f"scoring rules: unknown clause '{wrong[0]}'; see configs/labels.yaml"
        raise ConfigError(msg)
