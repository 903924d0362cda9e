"""From probabilities to clear / review / violation, per label.

The thresholds are values that can be re-applied to stored probabilities without the model.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cs_classifier import metrics
from cs_classifier.config import DecisionConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cs_classifier.records import Outcome

    Array = npt.NDArray[np.float64]

OUTCOMES: tuple[Outcome, ...] = ("clear", "review", "violation")
RESAMPLES = 50  # of the calibration set, over which the violation threshold is averaged


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

    def levels(
        self, probabilities: npt.ArrayLike, strengths: npt.ArrayLike = 0
    ) -> npt.NDArray[np.int64]:
        """0 clear, 1 review, 2 violation; shape ``(n, n_labels)``. A label is at its threshold.

        What a rule of ``review_strength`` or more found is not clear, whatever the probability:
        in ordinary traffic most hits of such rules are violations, however ordinary the rest of
        the line. A violation it becomes by the probability alone.
        """
        p = np.asarray(probabilities, dtype=np.float64)
        review, violation = self._bounds
        seen = (p >= review) | (np.asarray(strengths) >= self.config.review_strength)
        return seen.astype(np.int64) + (p >= violation)

    def outcomes(
        self, probabilities: npt.ArrayLike, strengths: npt.ArrayLike = 0
    ) -> list[tuple[Outcome, ...]]:
        """Outcome per row and label; arguments as for ``levels``."""
        levels = self.levels(probabilities, strengths)
        return [tuple(OUTCOMES[level] for level in row) for row in levels]


def to_levels(outcomes: Sequence[Sequence[Outcome]]) -> npt.NDArray[np.int64]:
    """The numbers of outcomes, as ``Decision.levels`` gives them."""
    return np.array([[OUTCOMES.index(outcome) for outcome in row] for row in outcomes])


def choose(
    probabilities: Array,
    gold: Array,
    config: DecisionConfig,
    *,
    natural: npt.NDArray[np.bool_],
    groups: Sequence[str] | None = None,
) -> Decision:
    """Choose thresholds on a calibration set.

    ``violation`` is the lowest threshold whose precision, by a one-sided Clopper-Pearson lower
    bound, reaches the floor, and at which no more than ``max_violation_rate`` of the natural clean
    lines would be hit; where no threshold proves the floor, the one with the best bound. A single
    high-scoring clean line can move that threshold far, so it is found on ``RESAMPLES`` resamples
    of whole groups, and the mean of the log-odds is taken ("bagging", Breiman 1996), raised if need
    be until the natural limit holds on the set itself, and to ``min_probability``: what is less
    likely than that in ordinary traffic is for a person to read. ``floor_met`` says whether the
    bound reaches the floor there. ``review`` is the highest threshold that reaches the recall
    target, raised until no more than ``max_review_rate`` of the natural clean lines are sent to a
    person.

    Args:
        probabilities: calibrated, shape ``(n, n_labels)``.
        gold: 0/1, same shape.
        config: the targets.
        natural: ``(n,)``, true for lines drawn as traffic comes rather than enriched.
        groups: ``(n,)``, lines that are not independent share one; by default, each is its own.
    """
    rng = np.random.default_rng(0)
    names = np.arange(len(gold)) if groups is None else np.asarray(groups)
    resamples = metrics.bootstrap_weights(names, RESAMPLES, rng)
    labels = [
        _choose_label(probabilities[:, j], gold[:, j] > 0, natural, config, resamples)
        for j in range(gold.shape[1])
    ]
    return Decision(labels=tuple(labels), config=config)


def _choose_label(
    p: Array,
    gold: npt.NDArray[np.bool_],
    natural: npt.NDArray[np.bool_],
    config: DecisionConfig,
    resamples: npt.NDArray[np.int64],
) -> LabelThresholds:
    if not gold.any():
        return LabelThresholds(review=1.0, violation=1.0)
    order = np.argsort(-p, kind="stable")
    p, gold, natural = p[order], gold[order], natural[order]
    clean = np.sort(p[natural & ~gold])
    found = [_lowest_proven(p, gold, natural, weights, config) for weights in resamples[:, order]]
    wanted = _mean_probability([t for t in found if t is not None])
    violation = max(_raised(wanted, clean, config.max_violation_rate), config.min_probability)
    called, hits = int((p >= violation).sum()), int((p[gold] >= violation).sum())
    bound = lower_bound(hits, called, config.confidence)
    reached = float(np.quantile(p[gold], 1 - config.recall_target, method="lower"))
    review = min(violation, _raised(reached, clean, config.max_review_rate))
    return LabelThresholds(
        review=review,
        violation=violation,
        precision=hits / called if called else None,
        precision_bound=bound,
        floor_met=bound >= config.precision_floor,
        recall=float((p[gold] >= violation).mean()),
        review_recall=float((p[gold] >= review).mean()),
    )


def _lowest_proven(
    p: Array,
    gold: npt.NDArray[np.bool_],
    natural: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.int64],
    config: DecisionConfig,
) -> float | None:
    """The lowest threshold that holds where line ``i`` counts ``weights[i]`` times.

    ``p`` falls. A threshold lies half way between a value that a violating line has and the next
    lower one, so that it does not sit on a line. None where no violating line has any weight.
    """
    starts = np.flatnonzero(np.append([True], p[1:] < p[:-1]))  # equal values are called together
    values = p[starts]
    called, hits, clean = (
        np.add.reduceat(counts, starts)
        for counts in (weights, weights * gold, weights * (natural & ~gold))
    )
    at = np.flatnonzero(hits)
    if not len(at):
        return None
    limit = config.max_violation_rate * clean.sum()
    called, hits, clean = (np.cumsum(counts)[at] for counts in (called, hits, clean))
    if not (clean <= limit).any():
        return _just_above(values[at[0]])
    at, called, hits = (counts[clean <= limit] for counts in (at, called, hits))
    floor, confidence = config.precision_floor, config.confidence
    pairs = list(zip(hits.tolist(), called.tolist(), strict=True))
    # The bound lies below the proportion, so most thresholds need no closer look.
    met = [h >= floor * n and h >= _hits_needed(n, floor, confidence) for h, n in pairs]
    if any(met):
        best = np.flatnonzero(met)[-1]
    else:
        best = np.argmax([lower_bound(h, n, confidence) for h, n in pairs])
    return float(values[at[best] : at[best] + 2].mean())


@lru_cache(maxsize=100_000)
def _hits_needed(called: int, floor: float, confidence: float) -> int:
    """The fewest hits among ``called`` whose lower bound reaches the floor; more than all if none.

    The bound reaches the floor where so many hits would be rarer than ``1 - confidence`` at it.
    """
    return (
        next(
            (
                hits
                for hits in range(called, -1, -1)
                if _upper_tail(hits, called, floor) > 1 - confidence
            ),
            -1,
        )
        + 1
    )


def _mean_probability(values: Sequence[float]) -> float:
    """The probability whose log-odds are the mean of those of ``values``."""
    p = np.clip(values, 1e-12, 1 - 1e-12)
    return float(1 / (1 + np.exp(-np.mean(np.log(p / (1 - p))))))


def _rate_limit(clean: Array, rate: float) -> float:
    """The probability that at most ``rate`` of the sorted ``clean`` values exceed."""
    if not len(clean):
        return 0.0
    return float(clean[min(len(clean) - 1, int(np.ceil(len(clean) * (1 - rate))))])


def _raised(threshold: float, clean: Array, rate: float) -> float:
    """``threshold``, or the lowest above it that at most ``rate`` of the ``clean`` values reach."""
    limit = _rate_limit(clean, rate)
    raised = max(threshold, limit)
    return raised if (clean >= raised).sum() <= rate * len(clean) else _just_above(limit)


def _just_above(p: float) -> float:
    return min(1.0, float(np.nextafter(p, 2.0)))


@lru_cache(maxsize=100_000)
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
