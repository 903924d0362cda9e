"""What every classifier offers, so that rules, TF-IDF and BERT meet in the same evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from cs_classifier.records import Message


class Classifier(Protocol):
    """Scores messages; higher means more suspect. What a score means is up to the classifier."""

    name: str

    def scores(self, messages: Sequence[Message]) -> npt.NDArray[np.float64]:
        """Scores of shape ``(n, n_labels)`` in label order."""
        ...


class Encoder(Protocol):
    """Anything that turns (context, text) pairs of normalised text into logits."""

    @property
    def name(self) -> str:
        """Engine, device and precision, for the summary of a run."""
        ...

    def logits(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float64]:
        """Logits of shape ``(n, n_outputs)``: labels, then clauses if the model names them."""
        ...
