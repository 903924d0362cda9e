"""A reviewed line, and what the review says to be true of it.

One contract for everything that hands lines to people and takes their answers back: the sample,
the workbook, the estimates, the scorecard and the label store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cs_classifier.scored import ScoredLine

Verdict = Literal["confirmed", "rejected", "doubtful"]
VERDICTS: dict[Verdict, str] = {"confirmed": "确认", "rejected": "误判", "doubtful": "存疑"}
NONE = "无"  # as a correction: the line has no label at all


@dataclass(frozen=True, slots=True)
class Sampled:
    """A line drawn for review.

    ``probability`` is the probability with which the plan drew it (first-order inclusion
    probability, 0 < p <= 1); ``stratum`` is the part of the plan that drew it. ``shown`` are the
    labels that the reviewer sees as suspected: none where the review is blind.
    """

    line: ScoredLine
    stratum: str
    probability: float
    shown: tuple[str, ...]
    blind: bool = False

    @property
    def picked(self) -> bool:
        """Whether ``label queue`` chose the line, so that it stands for no others."""
        return self.stratum.startswith("queue:")


@dataclass(frozen=True, slots=True)
class Review:
    """What a person said of a sampled line; ``verdict`` is ``None`` while it is open.

    ``correction`` holds the true labels where the reviewer named them, else ``None``.
    """

    sampled: Sampled
    verdict: Verdict | None
    correction: tuple[str, ...] | None = None
    annotator: str = ""
    note: str = ""
    appeal: str = ""

    @property
    def truth(self) -> tuple[str, ...] | None:
        """The true labels; ``None`` while open or doubtful.

        A correction decides. Without one, "confirmed" means that exactly the shown labels are
        true (none, where none was shown) and "rejected" that the line has no label.
        """
        if self.verdict is None or self.verdict == "doubtful":
            return None
        if self.correction is not None:
            return self.correction
        return self.sampled.shown if self.verdict == "confirmed" else ()
