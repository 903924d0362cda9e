"""From probabilities to clear / review / violation, per label.

The thresholds are values that can be re-applied to stored probabilities without the model.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cs_classifier.config import DecisionConfig

if TYPE_CHECKING:
    import numpy.typing as npt

    from cs_classifier.records import Outcome

    Array = npt.NDArray[np.float64]

OUTCOMES: tuple[Outcome, ...] = ("clear", "review", "violation")


class LabelThresholds(BaseModel):
    """Where the two decisions of one label begin, and what held when they were chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    review: float = Field(ge=0, le=1)
    violation: float = Field(ge=0, le=1)
    precision: float | None = None  # of "violation" on the calibration set
    precision_bound: float | None = None  # its lower confidence bound
    floor_met: bool = False  # whether that bound reaches the configured floor
    recall: float | None = None  # of "violation"
    review_recall: float | None = None  # of "review or violation"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.review > self.violation:
            msg = f"review threshold {self.review} lies above violation threshold {self.violation}"
            raise ValueError(msg)
        return self


class Decision(BaseModel):
    """Thresholds of all labels, in label order."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    labels: tuple[LabelThresholds, ...]
    config: DecisionConfig

    @cached_property
    def _bounds(self) -> tuple[Array, Array]:
        return (
            np.array([label.review for label in self.labels]),
            np.array([label.violation for label in self.labels]),
        )

    def levels(self, probabilities: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """0 clear, 1 review, 2 violation; shape ``(n, n_labels)``. A label is at its threshold."""
        p = np.asarray(probabilities, dtype=np.float64)
        review, violation = self._bounds
        return (p >= review).astype(np.int64) + (p >= violation)

    def outcomes(self, probabilities: npt.ArrayLike) -> list[tuple[Outcome, ...]]:
        """Outcome per row and label."""
        return [tuple(OUTCOMES[level] for level in row) for row in self.levels(probabilities)]


def choose(
    probabilities: Array, gold: Array, config: DecisionConfig, *, natural: npt.NDArray[np.bool_]
) -> Decision:
    """Choose thresholds on a calibration set.

    ``violation`` is the lowest threshold whose precision, by a one-sided Clopper-Pearson lower
    bound, reaches the floor, and at which no more than ``max_violation_rate`` of the natural clean
    lines would be hit. Where too few positives exist to prove the floor, the threshold with the
    best bound is taken and ``floor_met`` is false; where no positive lies above that limit, the
    threshold stands just above it. ``review`` is the highest threshold that reaches
    the recall target, raised until no more than ``max_review_rate`` of the natural clean lines are
    sent to a person.

    Args:
        probabilities: calibrated, shape ``(n, n_labels)``.
        gold: 0/1, same shape.
        config: the targets.
        natural: ``(n,)``, true for lines drawn as traffic comes rather than enriched.
    """
    labels = [
        _choose_label(probabilities[:, j], gold[:, j] > 0, natural, config)
        for j in range(gold.shape[1])
    ]
    return Decision(labels=tuple(labels), config=config)


def _choose_label(
    p: Array,
    gold: npt.NDArray[np.bool_],
    natural: npt.NDArray[np.bool_],
    config: DecisionConfig,
) -> LabelThresholds:
    clean = np.sort(p[natural & ~gold])
    if not gold.any():
        return LabelThresholds(review=1.0, violation=1.0)
    candidates = np.unique(p[gold])
    candidates = candidates[candidates > _rate_limit(clean, config.max_violation_rate)]
    if not len(candidates):
        candidates = np.array([_just_above(_rate_limit(clean, config.max_violation_rate))])
    hits = np.array([(p[gold] >= t).sum() for t in candidates])
    called = np.array([(p >= t).sum() for t in candidates])
    bounds = np.array(
        [lower_bound(h, n, config.confidence) for h, n in zip(hits, called, strict=True)]
    )
    met = bounds >= config.precision_floor
    # argmax finds the first: the lowest threshold that holds, or the best bound there is
    at = int(np.argmax(met)) if met.any() else int(np.argmax(bounds))
    violation = float(_midpoint(p, candidates[at]))
    wanted = float(np.quantile(p[gold], 1 - config.recall_target, method="lower"))
    review = min(violation, _raised(wanted, clean, config.max_review_rate))
    return LabelThresholds(
        review=review,
        violation=violation,
        precision=float(hits[at] / called[at]) if called[at] else None,
        precision_bound=float(bounds[at]),
        floor_met=bool(met[at]),
        recall=float((p[gold] >= violation).mean()),
        review_recall=float((p[gold] >= review).mean()),
    )


def _rate_limit(clean: Array, rate: float) -> float:
    """The probability that at most ``rate`` of the sorted ``clean`` values exceed."""
    if not len(clean):
        return 0.0
    return float(clean[min(len(clean) - 1, int(np.ceil(len(clean) * (1 - rate))))])


def _midpoint(p: Array, threshold: float) -> float:
    """Half way to the next lower value, so that the threshold does not sit on one line."""
    below = p[p < threshold]
    if not len(below):
        return threshold
    middle = float((threshold + below.max()) / 2)
    return middle if middle > below.max() else threshold  # the two may be neighbours


def _raised(threshold: float, clean: Array, rate: float) -> float:
    """``threshold``, or the lowest above it that at most ``rate`` of the ``clean`` values reach."""
    limit = _rate_limit(clean, rate)
    raised = max(threshold, limit)
    return raised if (clean >= raised).sum() <= rate * len(clean) else _just_above(limit)


def _just_above(p: float) -> float:
    return min(1.0, float(np.nextafter(p, 2.0)))


def lower_bound(successes: int, trials: int, confidence: float) -> float:
    """One-sided Clopper-Pearson (1934) lower bound of a proportion, by bisection.

    >>> round(lower_bound(59, 59, 0.95), 3)
    0.95
    >>> lower_bound(0, 5, 0.95)
    0.0
    """
    if successes == 0:
        return 0.0
    low, high = 0.0, successes / trials
    for _ in range(50):
        middle = (low + high) / 2
        # P(X >= successes | middle) grows with middle; the bound is where it equals 1 - confidence
        if _upper_tail(successes, trials, middle) < 1 - confidence:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _upper_tail(successes: int, trials: int, p: float) -> float:
    """P(X >= successes) for X binomial(trials, p)."""
    if p <= 0:
        return 0.0
    k = np.arange(successes, trials + 1)
    log_choose = _log_factorial(trials) - _log_factorials(k) - _log_factorials(trials - k)
    return float(np.exp(log_choose + k * np.log(p) + (trials - k) * np.log1p(-p)).sum())


def _log_factorials(n: npt.NDArray[np.int64]) -> Array:
    table = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, max(1, int(n.max())) + 1)))])
    return table[n]


def _log_factorial(n: int) -> float:
    return float(np.log(np.arange(1, n + 1)).sum())
