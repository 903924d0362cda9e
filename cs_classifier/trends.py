"""The nights before: what is kept of them, and whether tonight differs.

The history is a JSONL file with one :class:`Record` per night; nothing in it is a customer's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date as calendar_date
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, ValidationError, field_validator

from cs_classifier.config import Config
from cs_classifier.errors import DataError, MissingExtraError
from cs_classifier.nightly import Share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cs_classifier.nightly import Night, Spelling

WINDOW = 7  # nights before, which tonight is compared with
MIN_NIGHTS = 3  # of them; with fewer there is no comparison
ALPHA = 0.01  # level of the tests of one night together
EXTRA = "evaluate"  # brings scipy
ANY = ""  # in place of a label: lines suspected of any


class Record(Config):
    """What the history keeps of a night: one line of its file."""

    date: str
    input: str  # fingerprint of the lines
    models: tuple[str, ...]
    scored: int = Field(ge=0)
    violations: dict[str, int]  # lines per label, and under ``ANY``
    reviews: dict[str, int]
    spellings: tuple[str, ...] = ()

    @field_validator("date")
    @classmethod
    def _is_date(cls, value: str) -> str:
        calendar_date.fromisoformat(value)
        return value

    def share(self, label: str) -> Share:
        """Suspected violations among the scored lines."""
        return Share(self.violations.get(label, 0), self.scored)


@dataclass(frozen=True, slots=True)
class Change:
    """Tonight against the nights before, for one label or ``ANY``; see :func:`changes`."""

    label: str
    now: Share
    before: Share
    nights: int
    dispersion: float
    p_value: float
    verdict: Literal["higher", "lower", "usual"]


def record(night: Night) -> Record:
    """What the history keeps of a night.

    Raises:
        DataError: the night has no date, or not an ISO one.
    """
    tallies = {ANY: night.total, **{tally.name: tally for tally in night.labels}}
    try:
        return Record(
            date=night.date,
            input=night.fingerprint,
            models=night.models,
            scored=night.total.lines,
            violations={label: tally.violations for label, tally in tallies.items()},
            reviews={label: tally.reviews for label, tally in tallies.items()},
            spellings=tuple(s.key for s in (*night.spellings, *night.mixtures)),
        )
    except ValidationError as error:
        msg = f"'{night.date}' is not the date of a night; give one such as --date 2026-11-11"
        raise DataError(msg) from error


def parse_history(text: str, where: str) -> tuple[Record, ...]:
    """The nights of a history file, oldest first.

    Raises:
        DataError: a line is damaged; with its number.
    """
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(Record.model_validate_json(line))
        except ValidationError as error:
            msg = f"{where}, line {number}: not a night's record; delete the line, or the file"
            raise DataError(msg) from error
    return tuple(sorted(records, key=lambda r: r.date))


def dump_history(history: Sequence[Record]) -> str:
    """What :func:`parse_history` reads."""
    return "".join(past.model_dump_json() + "\n" for past in history)


def with_night(history: Sequence[Record], tonight: Record) -> tuple[Record, ...]:
    """The history with tonight in it; an earlier run of the same night is replaced."""
    others = [past for past in history if past.date != tonight.date]
    return tuple(sorted([*others, tonight], key=lambda r: r.date))


def comparable(history: Sequence[Record], tonight: Record) -> tuple[Record, ...]:
    """The last :data:`WINDOW` nights before tonight by the same model, the same input left out."""
    before = [
        past
        for past in history
        if past.date < tonight.date and past.models == tonight.models and past.scored
    ]
    return tuple(past for past in before if past.input != tonight.input)[-WINDOW:]


def changes(history: Sequence[Record], tonight: Record) -> tuple[Change, ...]:
    """Tonight's rate of suspected violations against the nights before, per label and for any.

    Given the sum of both counts, tonight's is binomial if the rate is the same (the conditional
    test of Przyborowski and Wilenski 1940). Nights vary more than that, so the counts are divided
    by the Pearson dispersion of the nights before if it exceeds 1, and the tail is then Student's
    with one degree of freedom less than there are nights, as the dispersion is an estimate
    (quasi-likelihood, McCullagh and Nelder 1989, §4.5). Two-sided, at ``ALPHA`` divided by the
    number of tests (Bonferroni). Empty with fewer than :data:`MIN_NIGHTS` nights or no line scored.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    nights = comparable(history, tonight)
    if len(nights) < MIN_NIGHTS or not tonight.scored:
        return ()
    labels = list(tonight.violations)
    return tuple(_change(label, nights, tonight, ALPHA / len(labels)) for label in labels)


def _change(label: str, nights: Sequence[Record], tonight: Record, alpha: float) -> Change:
    shares = [night.share(label) for night in nights]
    now = tonight.share(label)
    before = Share(sum(s.count for s in shares), sum(s.total for s in shares))
    dispersion = _dispersion(shares, before)
    p_value = _p_value(now, before, dispersion, len(nights) - 1)
    higher = now.count * before.total > before.count * now.total
    verdict: Literal["higher", "lower", "usual"] = "higher" if higher else "lower"
    return Change(
        label=label,
        now=now,
        before=before,
        nights=len(nights),
        dispersion=dispersion,
        p_value=p_value,
        verdict=verdict if p_value < alpha else "usual",
    )


def _dispersion(shares: Sequence[Share], pooled: Share) -> float:
    """Pearson's chi-square over its degrees of freedom, at least 1."""
    rate = pooled.count / pooled.total
    if not 0 < rate < 1:
        return 1.0
    counts = np.array([s.count for s in shares], dtype=np.float64)
    totals = np.array([s.total for s in shares], dtype=np.float64)
    chi_square = float(np.sum((counts - totals * rate) ** 2 / (totals * rate * (1 - rate))))
    return max(1.0, chi_square / (len(shares) - 1))


def _p_value(now: Share, before: Share, dispersion: float, freedom: int) -> float:
    """Twice the smaller tail."""
    try:
        from scipy import special  # scipy.stats takes seconds to load
    except ImportError:
        raise MissingExtraError(EXTRA, "scipy") from None
    count, past = round(now.count / dispersion), round(before.count / dispersion)
    share = now.total / (now.total + before.total)
    at_most = special.bdtr(count, count + past, share)
    at_least = special.bdtrc(count - 1, count + past, share) if count else 1.0
    p_value = min(1.0, 2 * float(min(at_most, at_least)))
    if dispersion == 1:
        return p_value
    return float(2 * special.stdtr(freedom, special.ndtri(p_value / 2)))


def dated(night: Night, history: Sequence[Record]) -> Night:
    """The night with the date of the first night, up to this one, that had each spelling."""
    seen: dict[str, str] = {}
    for past in history:  # oldest first
        for key in past.spellings:
            seen.setdefault(key, past.date)

    def add(spelling: Spelling) -> Spelling:
        return replace(spelling, first_seen=min(seen.get(spelling.key, night.date), night.date))

    return replace(
        night,
        spellings=tuple(map(add, night.spellings)),
        mixtures=tuple(map(add, night.mixtures)),
    )
