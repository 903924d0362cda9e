"""What the reviewed sample says of all lines: prevalence, precision and recall."""

from cs_classifier.estimation.reviewed import estimate, labelled, merged
from cs_classifier.estimation.shares import (
    CLEAR,
    REVIEW,
    VIOLATION,
    Answers,
    jeffreys,
    measure,
)
from cs_classifier.estimation.values import (
    ANY,
    LEVEL,
    Drift,
    Estimate,
    EstimateReport,
    LabelEstimates,
    Measures,
    Refit,
    StratumCounts,
)

__all__ = [
    "ANY",
    "CLEAR",
    "LEVEL",
    "REVIEW",
    "VIOLATION",
    "Answers",
    "Drift",
    "Estimate",
    "EstimateReport",
    "LabelEstimates",
    "Measures",
    "Refit",
    "StratumCounts",
    "estimate",
    "jeffreys",
    "labelled",
    "measure",
    "merged",
]
