"""Fit the n-gram model that stands beside the encoder."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from cs_classifier.classifiers.ngrams import NgramModel, ngrams
from cs_classifier.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

REGULARISATION = 4.0  # C of the logistic regression, as in the TF-IDF baseline


def fit(
    pairs: Sequence[tuple[str, str]],
    gold: npt.NDArray[np.float64],
    *,
    weight: float,
    min_lines: int = 2,
) -> NgramModel:
    """Fit one logistic regression per label on ``(context, text)`` pairs of normalised text.

    Args:
        pairs: training lines.
        gold: labels ``(n, n_labels)``.
        weight: by which the logits are multiplied before they are added to the encoder's.
        min_lines: that an n-gram must occur in.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from scipy.sparse import csr_matrix
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        msg = "train"
        raise MissingExtraError(msg, "scikit-learn") from error
    blocks = [block for pair in pairs for block in ngrams(pair)]
    vocabulary, idf = _vocabulary(blocks, len(pairs), min_lines)
    n_labels = gold.shape[1]
    model = NgramModel(vocabulary, idf, np.zeros((len(vocabulary), n_labels)), np.zeros(n_labels))
    columns, values, starts = model.features(blocks)
    ends = [*starts[::2], len(columns)]  # a pair has two blocks
    matrix = csr_matrix((values, columns, ends), shape=(len(pairs), len(vocabulary)))
    for j, column in enumerate(gold.T):
        if 0 < column.sum() < len(column):
            fitted = LogisticRegression(C=REGULARISATION, solver="liblinear").fit(matrix, column)
            model.weights[:, j] = weight * fitted.coef_[0]
            model.bias[j] = weight * fitted.intercept_[0]
    return model


def _vocabulary(
    blocks: Sequence[Counter[str]], n_lines: int, min_lines: int
) -> tuple[list[str], npt.NDArray[np.float64]]:
    """N-grams of at least ``min_lines`` lines, sorted, and their smoothed idf."""
    lines = Counter(ngram for block in blocks for ngram in block)
    kept = sorted(ngram for ngram, n in lines.items() if n >= min_lines and "\n" not in ngram)
    frequency = np.array([lines[ngram] for ngram in kept], dtype=np.float64)
    return kept, np.log((1 + n_lines) / (1 + frequency)) + 1
