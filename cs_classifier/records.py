"""The values that flow through the package; all are frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["clear", "review", "violation"]


@dataclass(frozen=True, slots=True)
class Message:
    """One agent line with the customer's preceding message (empty when there is none)."""

    text: str
    context: str = ""


@dataclass(frozen=True, slots=True)
class LabelledMessage:
    """A line with its gold labels, as stored in ``data/*.jsonl``.

    ``clauses`` names the violated clauses of a positive, or the clause that a hard negative
    stands near. ``group`` ties lines that a split must not part.
    """

    id: str
    message: Message
    labels: tuple[str, ...]
    clauses: tuple[str, ...] = ()
    status: Literal["gold", "borderline"] = "gold"
    group: str = ""
    origin: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a label was suspected: characters ``start:end`` of the original line."""

    label: str
    source: str  # rule id, "model", or "model-partial" (see evidence.py)
    clause: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class RuleHit:
    """One rule that fired on one line, with its span in the original text."""

    rule: str
    target: str  # label or tag id
    clause: str  # "" for tags
    strength: float
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the pipeline says of one message. Probabilities are calibrated, in label order."""

    probabilities: tuple[float, ...]
    outcomes: tuple[Outcome, ...]
    hits: tuple[RuleHit, ...] = ()
    tags: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = field(default=())
    clauses: tuple[str, ...] = ()  # the likeliest clause of each flagged label
    truncated: bool = False
