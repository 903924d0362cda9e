"""Regex, TF-IDF and the model side by side on labelled lines."""

from cs_classifier.evaluation.comparison import (
    best_f1_threshold,
    evaluate,
    fit_tfidf,
    recall_at_precision,
)
from cs_classifier.evaluation.values import (
    MODEL,
    REGEX,
    RESAMPLES,
    REVIEW,
    SYSTEM_NAMES,
    TFIDF,
    ClauseScores,
    Difference,
    Error,
    Estimate,
    EvaluationReport,
    LabelScores,
    OriginScores,
    SystemScores,
)

__all__ = [
    "MODEL",
    "REGEX",
    "RESAMPLES",
    "REVIEW",
    "SYSTEM_NAMES",
    "TFIDF",
    "ClauseScores",
    "Difference",
    "Error",
    "Estimate",
    "EvaluationReport",
    "LabelScores",
    "OriginScores",
    "SystemScores",
    "best_f1_threshold",
    "evaluate",
    "fit_tfidf",
    "recall_at_precision",
]
