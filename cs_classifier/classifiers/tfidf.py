"""The second baseline: TF-IDF of characters and jieba words with logistic regression.

Character n-grams of the agent line and, apart from them, of the customer's message, plus words of
the agent line. It is fitted on the encoder's training lines whenever an evaluation asks for it.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from cs_classifier.errors import MissingExtraError
from cs_classifier.normalize import normalize

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cs_classifier.records import Message

REGULARISATION = 4.0  # C of the logistic regression
MIN_LINES = 2  # that a feature must occur in


def _line(pair: tuple[str, str]) -> str:
    return pair[1]


def _context(pair: tuple[str, str]) -> str:
    return pair[0]


def _words(text: str) -> list[str]:
    import jieba

    jieba.setLogLevel(logging.WARNING)
    return [word for word in jieba.cut(text) if word.strip()]


class TfidfClassifier:
    """Fitted TF-IDF + logistic regression, one binary problem per label."""

    name = "tfidf"

    def __init__(self, features: Any, models: Sequence[Any]) -> None:  # noqa: ANN401
        """Use :meth:`fit`."""
        self._features, self._models = features, models

    @classmethod
    def fit(
        cls, messages: Sequence[Message], gold: npt.NDArray[np.float64], *, seed: int = 0
    ) -> TfidfClassifier:
        """Fit on ``messages`` and gold labels ``(n, n_labels)``.

        Raises:
            MissingExtraError: scikit-learn or jieba is not installed.
        """
        try:
            from sklearn.feature_extraction.text import TfidfVectorizer
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import FeatureUnion
        except ImportError as error:
            msg = "evaluate"
            raise MissingExtraError(msg, "scikit-learn") from error
        common = {"sublinear_tf": True, "min_df": MIN_LINES, "lowercase": True}
        characters = {"analyzer": "char", "ngram_range": (1, 3), **common}
        words = {"tokenizer": _words, "token_pattern": None, "ngram_range": (1, 2), **common}
        pairs = _pairs(messages)
        parts = [
            ("line", TfidfVectorizer(preprocessor=_line, **characters)),
            ("words", TfidfVectorizer(preprocessor=_line, **words)),
        ]
        if _have_context(pairs):
            parts.append(("context", TfidfVectorizer(preprocessor=_context, **characters)))
        features = FeatureUnion(parts)
        matrix = features.fit_transform(pairs)
        models = [
            LogisticRegression(C=REGULARISATION, max_iter=1000, random_state=seed).fit(matrix, y)
            if 0 < y.sum() < len(y)
            else None
            for y in gold.T
        ]
        return cls(features, models)

    def scores(self, messages: Sequence[Message]) -> npt.NDArray[np.float64]:
        """Probabilities of shape ``(n, n_labels)``; 0 for a label without training positives."""
        matrix = self._features.transform(_pairs(messages))
        columns = [
            np.zeros(len(messages)) if model is None else model.predict_proba(matrix)[:, 1]
            for model in self._models
        ]
        return np.column_stack(columns)


def _have_context(pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether customers' messages share anything at all; data may come without them."""
    lines = Counter(character for context, _ in pairs for character in set(context))
    return any(count >= MIN_LINES for count in lines.values())


def _pairs(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(normalize(m.context).text, normalize(m.text).text) for m in messages]
