"""The regex baseline as a classifier: a label's score is the strength of its strongest rule hit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cs_classifier.labels import LabelSet
    from cs_classifier.records import Message, RuleHit
    from cs_classifier.rules import RuleSet


class RegexClassifier:
    """Rules alone."""

    name = "regex"

    def __init__(self, rules: RuleSet, label_set: LabelSet) -> None:
        """Keep ``rules``; scores come in the order of ``label_set``."""
        self.rules, self.label_set = rules, label_set

    def scores(self, messages: Sequence[Message]) -> npt.NDArray[np.float64]:
        """Strengths in [0, 1], shape ``(n, n_labels)``; 0 where no rule fires."""
        return strengths([self.rules.match_message(m) for m in messages], self.label_set)


def strengths(hits: Sequence[Sequence[RuleHit]], label_set: LabelSet) -> npt.NDArray[np.float64]:
    """Strongest hit per label, shape ``(n, n_labels)``; hits of tags do not count."""
    out = np.zeros((len(hits), len(label_set)))
    for i, row in enumerate(hits):
        for hit in row:
            if hit.clause:
                column = label_set.index(hit.target)
                out[i, column] = max(out[i, column], hit.strength)
    return out
