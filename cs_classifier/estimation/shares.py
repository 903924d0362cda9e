"""Prevalence, precision and recall of one label from weighted answers, with intervals.

Points are stratified Hájek means (Horvitz & Thompson 1952; Hájek 1971; Särndal, Swensson & Wretman
1992, section 5.7).

Intervals: the lines of one stratum with one decision are a cell. A cell gets the Jeffreys interval
(Brown, Cai & DasGupta 2001) at its effective sample size (Korn & Graubard 1998: from the
linearized variance, Kish's where the answers are all alike), drawn in by the finite-population
correction. Cells are put together by the method of variance estimates recovery (MOVER: Zou &
Donner 2008; Donner & Zou 2012 for ratios). Unlike normal and bootstrap intervals this leaves room
above a stratum without hits. ``docs/sampling.md`` says how well it covers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cs_classifier.errors import DataError, MissingExtraError
from cs_classifier.estimation.values import LEVEL, Estimate, Measures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

CLEAR, REVIEW, VIOLATION = LEVELS = range(3)  # what was decided
_BISECTIONS = 50


@dataclass(frozen=True, slots=True)
class Answers:
    """Answered lines as numbers, shape ``(n,)``, for one label.

    ``weight`` says how many lines each stands for; ``level`` is what was decided.
    """

    stratum: Ints
    weight: Array
    truth: Flags
    level: Ints


@dataclass(frozen=True, slots=True)
class _Bounds:
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Cell:
    """Lines of one stratum with one decision; ``share`` of them is true."""

    level: int
    weight: Array
    hits: int
    share: _Bounds  # of these lines
    system: _Bounds  # in the long run


def measure(answers: Answers) -> Measures:
    """All measures of one label.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    cells = _cells(answers)

    def having(*levels: int) -> list[_Cell]:
        return [cell for cell in cells if cell.level in levels]

    prevalence = _share(cells)
    if prevalence is None:
        msg = "there is nothing to estimate from"
        raise DataError(msg)
    return Measures(
        prevalence=prevalence,
        precision_violation=_share(having(VIOLATION)),
        precision_review=_share(having(REVIEW)),
        recall_violation=_recall(having(VIOLATION), having(REVIEW, CLEAR)),
        recall_review=_recall(having(VIOLATION, REVIEW), having(CLEAR)),
    )


def _cells(answers: Answers) -> list[_Cell]:
    found = []
    for key in np.unique(answers.stratum * len(LEVELS) + answers.level):
        stratum, level = divmod(int(key), len(LEVELS))
        here = (answers.stratum == stratum) & (answers.level == level)
        weight, truth = answers.weight[here], answers.truth[here]
        found.append(_Cell(level, weight, int(truth.sum()), *_cell_bounds(weight, truth)))
    return found


def _cell_bounds(weight: Array, truth: Flags) -> tuple[_Bounds, _Bounds]:
    """Share of true lines, in this finite population and in the long run."""
    lines = float(weight.sum())
    share = float(weight @ truth) / lines
    # Where all lines are alike no variance shows; then every line counts as if it might differ.
    residual = (truth - share) ** 2 if 0 < truth.sum() < len(truth) else np.ones(len(truth))
    drawn, finite = float(weight**2 @ residual), float(weight * (weight - 1) @ residual)
    spread = share * (1 - share) if 0 < truth.sum() < len(truth) else 1.0
    trials = min(float(len(weight)), spread * lines**2 / drawn)
    low, high = jeffreys(share * trials, trials)
    unseen = max(0.0, finite / drawn) ** 0.5  # finite population: 0 if every line was seen
    night = _Bounds(share, share - unseen * (share - low), share + unseen * (high - share))
    return night, _Bounds(share, low, high)


def jeffreys(hits: float, trials: float, level: float = LEVEL) -> tuple[float, float]:
    """Jeffreys interval of a proportion, its open side closed at 0 hits and at all.

    Raises:
        MissingExtraError: scipy is not installed.

    >>> tuple(round(bound, 4) for bound in jeffreys(0, 150))
    (0.0, 0.0166)
    """
    try:
        from scipy.special import betaincinv
    except ModuleNotFoundError as error:
        extra = "evaluate"
        raise MissingExtraError(extra, "scipy") from error
    shape, tail = (hits + 0.5, trials - hits + 0.5), (1 - level) / 2
    low = float(betaincinv(*shape, tail)) if hits > 0 else 0.0
    high = float(betaincinv(*shape, 1 - tail)) if hits < trials else 1.0
    return low, high


def _total(cells: Sequence[_Cell], *, system: bool = False) -> _Bounds:
    """True lines of the cells together (MOVER for sums)."""
    parts = [(float(c.weight.sum()), c.system if system else c.share) for c in cells]
    value = sum(lines * share.value for lines, share in parts)
    down = sum((lines * (share.value - share.low)) ** 2 for lines, share in parts)
    up = sum((lines * (share.high - share.value)) ** 2 for lines, share in parts)
    return _Bounds(value, value - down**0.5, value + up**0.5)


def _share(cells: Sequence[_Cell]) -> Estimate | None:
    if not cells:
        return None
    weight = np.concatenate([c.weight for c in cells])
    lines = float(weight.sum())
    return _described(
        *((b.value / lines, b.low / lines, b.high / lines) for b in _both(cells)),
        hits=sum(c.hits for c in cells),
        reviewed=len(weight),
        effective=float(lines**2 / (weight @ weight)),
        lines=lines,
    )


def _recall(found: Sequence[_Cell], missed: Sequence[_Cell]) -> Estimate | None:
    """``found / (found + missed)`` in true lines; ``None`` without any (MOVER for ratios)."""
    true = _total((*found, *missed)).value
    if true <= 0:
        return None
    hits, misses = sum(c.hits for c in found), sum(c.hits for c in missed)
    return _described(
        *(_part(a, b) for a, b in zip(_both(found), _both(missed), strict=True)),
        hits=hits,
        reviewed=hits + misses,
        effective=float(hits + misses),
        lines=true,
    )


def _both(cells: Sequence[_Cell]) -> tuple[_Bounds, _Bounds]:
    return _total(cells), _total(cells, system=True)


def _part(a: _Bounds, b: _Bounds) -> tuple[float, float, float]:
    """``a / (a + b)``; a share ``c`` lies between its limits if ``(1 - c) a - c b`` may be 0."""

    def reach(c: float, sign: int) -> float:
        one = a.high - a.value if sign > 0 else a.value - a.low
        other = b.value - b.low if sign > 0 else b.high - b.value
        return (1 - c) * a.value - c * b.value + sign * float(np.hypot((1 - c) * one, c * other))

    low, high = (_root(partial(reach, sign=sign)) for sign in (-1, 1))
    return a.value / (a.value + b.value), low, high


def _root(falling: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return high


def _described(
    night: tuple[float, float, float], system: tuple[float, float, float], **counts: float
) -> Estimate:
    """The estimate, limits kept within 0 and 1 and around the value in spite of rounding."""
    value = min(1.0, night[0])
    return Estimate.model_validate(
        {
            "value": value,
            "low": min(max(0.0, night[1]), value),
            "high": max(min(1.0, night[2]), value),
            "system_low": min(max(0.0, system[1]), value),
            "system_high": max(min(1.0, system[2]), value),
            **counts,
        }
    )
