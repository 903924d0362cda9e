"""This night against the earlier ones, and against what the system promises.

Both ask about the system, so they use the long-run intervals. These are widened (Bonferroni) so
that with all labels together a false alarm is raised in at most one night in twenty.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from cs_classifier.estimation.values import LEVEL, MEASURES, Drift, Estimate, EstimateReport, Refit

if TYPE_CHECKING:
    from collections.abc import Sequence


def drifts(report: EstimateReport, previous: Sequence[EstimateReport]) -> list[Drift]:
    """Measures whose difference from the earlier nights has an interval without 0."""
    pairs = []
    for measure in MEASURES:
        for now in (*report.labels, report.overall):
            past = [
                estimate
                for one in previous
                for same in (*one.labels, one.overall)
                if same.label == now.label and (estimate := getattr(same, measure))
            ]
            if past and (today := getattr(now, measure)):
                pairs.append((now.label, measure, today, past))
    wider = _wider(len(pairs))
    found = []
    for label, measure, today, past in pairs:
        before, low, high = _change(today, past, wider)
        if low > 0 or high < 0:
            ends = {"before": before, "low": low, "high": high, "nights": len(past)}
            found.append(Drift(label=label, measure=measure, **ends))
    return found


def _change(today: Estimate, past: Sequence[Estimate], wider: float) -> tuple[float, float, float]:
    """Mean of the earlier nights by effective size, and limits of today minus it (MOVER)."""
    weight = np.array([one.effective for one in past])
    weight /= weight.sum()
    value, low, high = np.array([[p.value, p.system_low, p.system_high] for p in past]).T
    before = float(weight @ value)
    down, up = np.linalg.norm(weight * (value - low)), np.linalg.norm(weight * (high - value))
    change = today.value - before
    return (
        before,
        change - wider * float(np.hypot(today.value - today.system_low, up)),
        change + wider * float(np.hypot(today.system_high - today.value, down)),
    )


def _wider(comparisons: int) -> float:
    """By how much intervals must be wider so that ``comparisons`` of them hold together."""
    normal, tail = NormalDist(), (1 - LEVEL) / 2
    return normal.inv_cdf(1 - tail / max(1, comparisons)) / normal.inv_cdf(1 - tail)


def refits(report: EstimateReport) -> list[Refit]:
    """Labels whose precision lies below the floor, or whose probabilities do not add up."""
    wider = _wider(2 * len(report.labels))
    found = []
    for label in report.labels:
        called, share = label.precision_violation, label.prevalence
        if called and _widened(called, wider)[1] < report.floor:
            found.append(Refit(label=label.label, reason="precision"))
        low, high = _widened(share, wider)
        if label.expected is not None and not low <= label.expected <= high:
            found.append(Refit(label=label.label, reason="calibration"))
    return found


def _widened(one: Estimate, wider: float) -> tuple[float, float]:
    down, up = one.value - one.system_low, one.system_high - one.value
    return one.value - wider * down, one.value + wider * up
