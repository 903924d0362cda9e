"""Textbook metrics on arrays of shape ``(n, n_labels)``; nothing here reads files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]


def average_precision(gold: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Area under the precision-recall curve, ``sum (R_k - R_(k-1)) P_k``; NaN without positives.

    Ties share one threshold, as in ``sklearn.metrics.average_precision_score``.

    >>> average_precision([0, 1, 1], [0.1, 0.9, 0.8])
    1.0
    """
    y, s = np.asarray(gold, dtype=bool), np.asarray(scores, dtype=np.float64)
    if not y.any():
        return float("nan")
    order = np.argsort(-s, kind="stable")
    hits = np.cumsum(y[order])
    last_of_tie = np.append(np.diff(s[order]) != 0, True)
    hits, ranks = hits[last_of_tie], np.flatnonzero(last_of_tie) + 1
    recall = hits / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * hits / ranks))


def mean_average_precision(gold: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Mean of :func:`average_precision` over the labels that have positives."""
    y, s = np.asarray(gold), np.asarray(scores)
    values = [average_precision(y[:, j], s[:, j]) for j in range(y.shape[1])]
    return float(np.nanmean(values)) if not np.all(np.isnan(values)) else float("nan")


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927), 95 % by default.

    >>> tuple(round(bound, 3) for bound in wilson(0, 10))
    (0.0, 0.278)
    """
    if trials == 0:
        return 0.0, 1.0
    share, square = successes / trials, z * z / trials
    centre = (share + square / 2) / (1 + square)
    half = z / (1 + square) * np.sqrt(share * (1 - share) / trials + square / (4 * trials))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def f1(hits: npt.ArrayLike, called: npt.ArrayLike, support: npt.ArrayLike) -> Array:
    """``2 * hits / (called + support)``, elementwise; NaN where both are 0."""
    both = np.asarray(called, dtype=np.float64) + np.asarray(support, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(both > 0, 2 * np.asarray(hits, dtype=np.float64) / both, np.nan)


def expected_calibration_error(
    gold: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = 10
) -> float:
    """Mean distance between confidence and frequency over equal-width bins, weighted by size.

    The binary form of Guo et al. 2017. With rare positives nearly all lines fall into the lowest
    bin, so read it beside the reliability table.
    """
    table = reliability(gold, probabilities, bins)
    total = sum(row[2] for row in table)
    return float(sum(n * abs(p - y) for p, y, n in table) / total) if total else float("nan")


def reliability(
    gold: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = 10
) -> list[tuple[float, float, int]]:
    """(mean probability, frequency of the label, lines) of each bin that is not empty."""
    y, p = np.asarray(gold, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    number = np.minimum((p * bins).astype(int), bins - 1)
    return [
        (float(p[number == b].mean()), float(y[number == b].mean()), int((number == b).sum()))
        for b in range(bins)
        if (number == b).any()
    ]


def bootstrap_weights(
    groups: npt.ArrayLike, resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """How often each line occurs in each resample, shape ``(resamples, n)``.

    Whole groups are drawn with replacement (cluster bootstrap; Field & Welsh 2007), since lines of
    one group are not independent.
    """
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    count = int(number.max()) + 1
    draws = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    return draws[:, number]


def interval(samples: npt.ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap samples, NaN samples left out."""
    values = np.asarray(samples, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
