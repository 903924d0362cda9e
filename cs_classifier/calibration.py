"""From logit and rule evidence to a probability that means what it says.

Per label, ``p = sigmoid(slope * logit + rule * strength + offset)`` (Platt 1999, with the strength
of the label's strongest rule hit as a second input). The slope is kept positive and the rule weight
within ``[0, MAX_RULE_WEIGHT]``: more evidence never lowers a probability, and a keyword alone never
carries a line that the encoder finds clean. Lines are weighted so that the fitted world has the
configured prevalence (King & Zeng 2001, "weighting for rare events").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

MAX_RULE_WEIGHT = 2.0  # logits; the encoder's clean and violating lines lie about 8 apart
PRIOR_PRECISION = 1.0  # of the Gaussian prior on slope and rule weight: tames separable data
_STEPS = 500
_MAX_DAMPING = 1e12


class LabelCalibration(BaseModel):
    """Parameters of one label."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    slope: float
    rule: float
    offset: float
    positives: int  # lines the fit has seen
    lines: int


class Calibrator(BaseModel):
    """Calibration of all labels; plain numbers, stored as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    labels: tuple[LabelCalibration, ...]
    prevalence: float

    def transform(self, logits: npt.ArrayLike, strengths: npt.ArrayLike) -> Array:
        """Probabilities of ``logits`` and rule ``strengths``, all of shape ``(n, n_labels)``."""
        parameters = np.array([[c.slope, c.rule, c.offset] for c in self.labels]).T
        x = np.asarray(logits, dtype=np.float64)
        s = np.asarray(strengths, dtype=np.float64)
        return _sigmoid(parameters[0] * x + parameters[1] * s + parameters[2])

    @classmethod
    def fit(
        cls,
        logits: npt.ArrayLike,
        strengths: npt.ArrayLike,
        gold: npt.ArrayLike,
        *,
        prevalence: float,
        weights: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit on arrays ``(n, n_labels)``; ``weights`` ``(n,)`` are sampling weights.

        A label without positives keeps slope 1 and the offset that the prevalence implies.
        """
        x, s = np.asarray(logits, dtype=np.float64), np.asarray(strengths, dtype=np.float64)
        y = np.asarray(gold, dtype=np.float64)
        base = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
        fits = [
            _fit_label(x[:, j], s[:, j], y[:, j], base, prevalence=prevalence)
            for j in range(y.shape[1])
        ]
        return cls(labels=tuple(fits), prevalence=prevalence)


def prevalence_weights(gold: Array, base: Array, prevalence: float) -> Array:
    """Weights that make the weighted share of positives equal ``prevalence``; mean 1."""
    positive, negative = float(base @ gold), float(base @ (1 - gold))
    weights = base * np.where(gold > 0, prevalence / positive, (1 - prevalence) / negative)
    scaled: Array = weights * (len(gold) / weights.sum())
    return scaled


def _fit_label(
    logits: Array, strengths: Array, gold: Array, base: Array, *, prevalence: float
) -> LabelCalibration:
    """Penalised maximum likelihood by damped projected Newton steps (convex, three parameters)."""
    counts = {"positives": int(gold.sum()), "lines": len(gold)}
    log_odds = float(np.log(prevalence / (1 - prevalence)))
    if not 0 < gold.sum() < len(gold):
        return LabelCalibration(slope=1.0, rule=0.0, offset=log_odds, **counts)
    weights = prevalence_weights(gold, base, prevalence)
    design = np.column_stack([logits, strengths, np.ones_like(logits)])
    low, high = np.array([0.05, 0.0, -np.inf]), np.array([5.0, MAX_RULE_WEIGHT, np.inf])
    prior = np.array([1.0, MAX_RULE_WEIGHT / 2, 0.0])
    precision = np.array([PRIOR_PRECISION, PRIOR_PRECISION, 0.0])
    theta, damping = np.array([1.0, 0.0, log_odds]), 1e-9

    def loss(at: Array) -> float:
        z = design @ at
        return float(
            weights @ (np.logaddexp(0, z) - gold * z) + 0.5 * precision @ (at - prior) ** 2
        )

    for _ in range(_STEPS):
        p = _sigmoid(design @ theta)
        gradient = design.T @ (weights * (p - gold)) + precision * (theta - prior)
        curvature = (design * (weights * p * (1 - p))[:, None]).T @ design + np.diag(precision)
        blocked = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
        free = ~blocked
        # Damping turns a step that does not help, as on saturated lines or at a bound, downhill.
        curvature += damping * np.diag(np.diag(curvature) + 1)
        step = np.zeros(3)
        step[free] = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        updated = np.clip(theta - step, low, high)
        if loss(updated) > loss(theta):
            damping *= 10
            if damping > _MAX_DAMPING:
                break
            continue
        moved, theta, damping = np.abs(updated - theta).max(), updated, max(1e-9, damping / 10)
        if moved < 1e-9:  # noqa: PLR2004
            break
    slope, rule, offset = (float(v) for v in theta)
    return LabelCalibration(slope=slope, rule=rule, offset=offset, **counts)


def _sigmoid(z: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * z))  # does not overflow
