"""Rates of a team's members, each drawn towards the team: a hierarchical beta-binomial model.

The rate of member *i* is Beta(a, a(1-m)/m) around the team's mean rate *m*; ``s = 1/sqrt(a)`` is,
for small rates, the members' coefficient of variation. Both hyperparameters are integrated over a
grid instead of being plugged in, so that a team of three, a team without any hit or a team without
differences needs no special case (Gelman 2006, Bayesian Analysis 1: uniform prior on the spread).

A member's posterior under this model is the one that follows from a prior fitted to the *other*
members: what the others say of *m* and *s*, times the member's own likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cs_classifier.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

_EXTRA = "evaluate"  # brings scipy
_TAIL = 0.025  # of every interval
_SPREADS = np.geomspace(0.03, 2.0, 16)  # s; beyond 2, nearly all hits are one member's
_STEPS = np.linspace(-5, 5, 21)  # of log m, in its standard deviations
_MAX_MEAN = 0.95


@dataclass(frozen=True, slots=True)
class Rate:
    """``count`` out of ``of`` with its 95 % interval; both may be weighted, hence fractional."""

    value: float
    low: float
    high: float
    count: float
    of: float


@dataclass(frozen=True)
class Posterior:
    """What is known of the members' rates; arrays of shape ``(members,)``.

    ``not_worse`` is the posterior probability that the member's rate is at most ``margin`` times
    the team's mean rate.
    """

    mean: Array
    low: Array
    high: Array
    not_worse: Array
    team: tuple[float, float, float]  # mean rate of the team with its interval
    weights: Array  # (grid,)
    alpha: Array  # (grid, members)
    beta: Array

    def draws(self, size: int, rng: np.random.Generator) -> Array:
        """Joint posterior draws of the rates, shape ``(size, members)``."""
        points = rng.choice(len(self.weights), size=size, p=self.weights)
        return rng.beta(self.alpha[points], self.beta[points])


def fit(counts: npt.ArrayLike, turns: npt.ArrayLike, *, margin: float = 1.0) -> Posterior:
    """Posterior of the rates of one team.

    Args:
        counts: hits of each member, ``0 <= counts <= turns``; fractions are allowed.
        turns: what they are out of; at least one member must have some.
        margin: multiple of the team's mean that ``not_worse`` compares with.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    special = _special()
    k, n = np.asarray(counts, dtype=np.float64), np.asarray(turns, dtype=np.float64)
    mean, shape, log_prior = _grid(k, n)
    prior_a, prior_b = shape[:, None], (shape * (1 - mean) / mean)[:, None]
    alpha, beta = prior_a + k, prior_b + (n - k)
    log_likelihood = special.betaln(alpha, beta) - special.betaln(prior_a, prior_b)
    weights = special.softmax(log_prior + log_likelihood.sum(axis=1))
    first = alpha / (alpha + beta)
    second = first * (alpha + 1) / (alpha + beta + 1)
    average = weights @ first
    spread = weights @ second - average**2
    low, high = _matched(average, spread)
    below = special.betainc(alpha, beta, np.minimum(margin * mean, 1)[:, None])
    return Posterior(
        mean=average,
        low=low,
        high=high,
        not_worse=np.minimum(1.0, weights @ below),  # rounding may carry a sum of weights past 1
        team=_quantiles(mean, weights),
        weights=weights,
        alpha=alpha,
        beta=beta,
    )


def _grid(k: Array, n: Array) -> tuple[Array, Array, Array]:
    """Means, shapes and log prior of all grid points; means lie where the data put them."""
    total, pooled = n.sum(), (k.sum() + 0.5) / (n.sum() + 1)
    spread = np.repeat(_SPREADS, len(_STEPS))
    width = np.sqrt(1 / (k.sum() + 0.5) + spread**2 * np.sum((n / total) ** 2))
    steps = np.tile(_STEPS, len(_SPREADS))
    mean = np.minimum(pooled * np.exp(steps * width), _MAX_MEAN)
    # Uniform in s (the grid is geometric) and Jeffreys-like in m, m^(-1/2), on a log m grid.
    log_prior = np.log(spread) + np.log(width) + 0.5 * np.log(mean)
    return mean, 1 / spread**2, log_prior


def _quantiles(values: Array, weights: Array) -> tuple[float, float, float]:
    """Mean and interval of a weighted grid."""
    order = np.argsort(values)
    below = np.cumsum(weights[order]) - weights[order] / 2
    low, high = np.interp([_TAIL, 1 - _TAIL], below, values[order])
    return float(weights @ values), float(low), float(high)


def _matched(mean: Array, variance: Array) -> tuple[Array, Array]:
    """Equal-tailed interval of the Beta with the moments of the posterior, a mixture of Betas."""
    size = mean * (1 - mean) / np.maximum(variance, 1e-300) - 1
    inverse = _special().betaincinv
    a, b = mean * size, (1 - mean) * size
    return inverse(a, b, _TAIL), inverse(a, b, 1 - _TAIL)


def stand_out(tails: Sequence[float], level: float) -> list[bool]:
    """The largest set of members whose expected number of false alarms is at most ``level``.

    A member's tail is the posterior probability that calling it out would be wrong, so the sum over
    the set is that number (Müller, Parmigiani & Rice 2007), and by Markov's inequality it also
    bounds the probability of any false alarm among all members looked at.

    >>> stand_out([0.02, 0.5, 0.01], 0.05)
    [True, False, True]
    >>> stand_out([0.04, 0.04, 0.04], 0.05)
    [True, False, False]
    """
    order = sorted(range(len(tails)), key=lambda i: tails[i])
    found, expected = [False] * len(tails), 0.0
    for i in order:
        expected += tails[i]
        if expected > level:
            break
        found[i] = True
    return found


def design_effect(members: npt.ArrayLike, hits: npt.ArrayLike, turns: npt.ArrayLike) -> float:
    """How much more hits vary than if turns of one conversation were independent; at least 1.

    Counts and turns divided by it can be used as binomial ones (Rao & Scott 1992, Biometrics 48).
    Differences between members do not add to it.

    Args:
        members: number of the member whose conversation it is, for each conversation.
        hits: hits of each conversation.
        turns: turns of each conversation.
    """
    _, member = np.unique(np.asarray(members), return_inverse=True)
    k, n = np.asarray(hits, dtype=np.float64), np.asarray(turns, dtype=np.float64)
    size = np.bincount(member)
    rate = np.bincount(member, k) / np.bincount(member, n)
    squares = np.bincount(member, (k - rate[member] * n) ** 2)
    several = size > 1
    observed = np.sum(squares[several] * size[several] / (size[several] - 1))
    expected = np.sum((rate * (1 - rate) * np.bincount(member, n))[several])
    return max(1.0, float(observed / expected)) if expected > 0 else 1.0


def jeffreys(count: float, of: float) -> Rate:
    """A rate with its Jeffreys interval (Brown, Cai & DasGupta 2001), which takes fractions.

    The interval begins at 0 for no hits and ends at 1 for hits only.
    """
    inverse = _special().betaincinv
    a, b = count + 0.5, of - count + 0.5
    low = 0.0 if count <= 0 else float(inverse(a, b, _TAIL))
    high = 1.0 if count >= of else float(inverse(a, b, 1 - _TAIL))
    return Rate(count / of if of else float("nan"), low, high, count, of)


def observed_to_expected(count: float, expected: float) -> Rate:
    """Ratio with the exact Poisson interval of the count (Garwood 1936); ``expected`` is > 0."""
    inverse = _special().gammaincinv
    low = float(inverse(count, _TAIL)) if count > 0 else 0.0
    high = float(inverse(count + 1, 1 - _TAIL))
    return Rate(count / expected, low / expected, high / expected, count, expected)


def hajek(values: npt.ArrayLike, probabilities: npt.ArrayLike) -> Rate:
    """Share of a population from draws with known inclusion probabilities (Hájek 1971).

    ``count`` and ``of`` are sums of weights. The interval is Jeffreys' on the effective number of
    draws, (sum w)^2 / sum w^2 (Kish 1965; Korn & Graubard 1998).
    """
    y, weight = np.asarray(values, dtype=np.float64), 1 / np.asarray(probabilities, np.float64)
    total, hits = float(weight.sum()), float(weight @ y)
    effective = total**2 / float(weight @ weight)
    at = jeffreys(effective * hits / total, effective)
    return Rate(hits / total, at.low, at.high, hits, total)


def _special() -> Any:  # noqa: ANN401
    try:
        from scipy import special
    except ImportError:
        raise MissingExtraError(_EXTRA, "scipy") from None
    return special
