"""A small encoder that finds most lines clean beyond doubt, so that the large one need not run.

It is the large encoder's first layers and its last one, fine-tuned to give the same logits
("knowledge distillation", Hinton et al. 2015). Only what it clears is decided by it; that is most
of ordinary traffic. Whatever it suspects, and whatever a rule hits, the large encoder scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy.typing as npt

    from cs_classifier.classifiers.base import Encoder

    Array = npt.NDArray[np.float64]

WEIGHTS, GRAPH, LIMITS = "screen.safetensors", "screen.onnx", "screen.json"  # files of an artifact
MIN_CLEARED = 20  # lines that a line of best fit takes
NEVER = -1e9  # no logit is below


class LabelLimit(BaseModel):
    """What the screen's logit of one label means."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    limit: float  # below it the label is clear; of the logit with the n-gram model's share
    slope: float = Field(gt=0)  # the large model's logit is about slope * logit + offset there
    offset: float


class ScreenLimits(BaseModel):
    """Of all labels, in label order."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    labels: tuple[LabelLimit, ...]
    missed: float  # share of the lines that a label reports, which lie below its limit

    def suspects(self, logits: Array) -> npt.NDArray[np.bool_]:
        """Whether a label reaches its limit; ``logits`` and result of shape ``(n, n_labels)``."""
        return logits >= np.array([label.limit for label in self.labels])

    def estimates(self, logits: Array) -> Array:
        """The large model's logits, about, of rows that are cleared; same shape."""
        slopes, offsets = np.array([(label.slope, label.offset) for label in self.labels]).T
        found: Array = slopes * logits + offsets
        return found

    @classmethod
    def choose(
        cls, logits: Array, full: Array, levels: npt.NDArray[np.int64], *, missed: float
    ) -> Self:
        """Choose limits under which a share ``missed`` of each label's reported lines lies.

        Args:
            logits: the screen's, ``(n, n_labels)``, on lines that neither model was trained on.
            full: the large model's.
            levels: its decisions; see :meth:`Decision.levels`.
            missed: between 0 and 1. A label that reports nothing here is never cleared.
        """
        return cls(
            labels=tuple(
                _limit(logits[:, j], full[:, j], levels[:, j] > 0, missed)
                for j in range(logits.shape[1])
            ),
            missed=missed,
        )

    def filled_by(self, other: ScreenLimits) -> ScreenLimits:
        """These, and those of ``other`` for labels that had no line here."""
        pairs = zip(self.labels, other.labels, strict=True)
        labels = tuple(theirs if own.limit == NEVER else own for own, theirs in pairs)
        return self.model_copy(update={"labels": labels})

    def stricter(self, other: ScreenLimits) -> ScreenLimits:
        """Per label the lower of this limit and of one chosen on other, perhaps few, lines.

        A label that ``other`` had no line for keeps its limit.
        """
        return self.model_copy(
            update={
                "labels": tuple(
                    old if new.limit == NEVER or new.limit > old.limit else new
                    for old, new in zip(self.labels, other.labels, strict=True)
                )
            }
        )


def _limit(x: Array, y: Array, reported: npt.NDArray[np.bool_], missed: float) -> LabelLimit:
    if not reported.any():
        return LabelLimit(limit=NEVER, slope=1.0, offset=0.0)
    limit = float(np.quantile(x[reported], missed, method="lower"))
    cleared = x < limit
    if cleared.sum() < MIN_CLEARED or np.ptp(x[cleared]) == 0:
        return LabelLimit(limit=limit, slope=1.0, offset=0.0)
    slope, offset = np.polyfit(x[cleared], y[cleared], 1)
    if slope <= 0:
        slope, offset = 1.0, float((y - x)[cleared].mean())
    return LabelLimit(limit=limit, slope=float(slope), offset=float(offset))


@dataclass(frozen=True)
class Screen:
    """The small encoder with its limits."""

    encoder: Encoder
    limits: ScreenLimits
