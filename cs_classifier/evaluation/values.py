"""What an evaluation found: values that reports are made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

RESAMPLES = 1000
MODEL, REVIEW, REGEX, TFIDF = "model", "model+review", "regex", "tfidf"
SYSTEM_NAMES = {
    MODEL: "BERT, decision violation",
    REVIEW: "BERT, violation or review",
    REGEX: "regex baseline",
    TFIDF: "TF-IDF + logistic regression baseline",
}


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(_Value):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class LabelScores(_Value):
    """One system on one label."""

    label: str
    support: int
    called: int
    hits: int
    precision: Estimate
    recall: Estimate
    f1: Estimate
    average_precision: float
    ece: float | None  # systems with probabilities only
    reliability: tuple[tuple[float, float, int], ...] = ()


class ClauseScores(_Value):
    """One system on one clause: its violations, and the hard negatives written near it."""

    clause: str
    support: int
    recall: float
    near: int  # hard negatives near the clause
    false_alarms: int  # of those, called with the clause's label
    precision: float  # hits / (hits + false alarms)
    f1: float


class SystemScores(_Value):
    """One system on all labels."""

    system: str
    name: str
    macro_f1: Estimate
    labels: tuple[LabelScores, ...]
    clauses: tuple[ClauseScores, ...]
    clean_lines: int
    clean_called: int
    per_thousand_clean: Estimate  # clean lines called with any label, per 1,000
    # Share of contrast groups in which every label of every line is right; None without groups.
    groups_right: Estimate | None = None


class Difference(_Value):
    """The model's F1 minus a baseline's, paired; and recall at the baseline's own precision."""

    baseline: str
    label: str  # a label id, or "macro"
    f1: Estimate
    beats: bool  # the interval lies above zero
    model_recall_at_baseline_precision: float | None = None
    baseline_recall: float | None = None


class Error(_Value):
    """A line on which the model's violation decision is wrong."""

    id: str
    label: str
    kind: str  # "missed" or "false"
    probability: float
    outcome: str
    context: str
    text: str
    clause: str


class OriginScores(_Value):
    """One origin (world, attack); numbers of the systems in the order of the report."""

    origin: str
    lines: int
    clean_lines: int
    macro_f1: tuple[float, ...]
    clean_called: tuple[int, ...]


class EvaluationReport(_Value):
    """Everything one evaluation found."""

    model: str
    files: tuple[str, ...]
    lines: int
    borderline: int
    groups: int
    systems: tuple[SystemScores, ...]
    differences: tuple[Difference, ...]
    errors: tuple[Error, ...]
    notes: tuple[str, ...] = ()
    contrast_groups: int = 0  # groups of lines with different gold labels
    origins: tuple[OriginScores, ...] = ()  # where there are several
