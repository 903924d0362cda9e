"""Labels that are probably wrong: where cross-validated probabilities contradict them.

Confident learning (Northcutt, Jiang & Chuang 2021), label by label. Every line is scored by a model
that has seen neither it nor its group. What the model thinks of the given answer is divided by what
it thinks, on average, of lines with that same answer: a rare label, of which a model is never sure,
is thus held to its own standard. An answer is *suspected* where the opposite one also reaches its
own average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cs_classifier.classifiers.regex import RegexClassifier
from cs_classifier.errors import DataError, MissingExtraError
from cs_classifier.normalize import normalize

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cs_classifier.labels import LabelSet
    from cs_classifier.records import LabelledMessage
    from cs_classifier.rules import RuleSet

    Array = npt.NDArray[np.float64]

FOLDS = 5
REGULARISATION = 4.0  # C of the logistic regression, as in the TF-IDF baseline
NEIGHBOURS = 3
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Doubt:
    """One answer of a line that its probability contradicts."""

    label: str
    given: bool  # whether the line carries the label
    probability: float  # cross-validated, of the label
    quality: float  # of the given answer, relative to the lines with the same answer; low is bad
    suspected: bool  # the opposite answer is as probable as where it is given


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A labelled line with similar words."""

    line: LabelledMessage
    similarity: float  # cosine of TF-IDF vectors


@dataclass(frozen=True, slots=True)
class Suspect:
    """A line whose labels are in doubt, with the reasons, the strongest first.

    ``suggested`` are the labels with the suspected answers turned round.
    """

    line: LabelledMessage
    quality: float
    doubts: tuple[Doubt, ...]
    suggested: tuple[str, ...]
    neighbours: tuple[Neighbour, ...]


def rank(  # noqa: PLR0913
    lines: Sequence[LabelledMessage],
    label_set: LabelSet,
    rules: RuleSet,
    *,
    limit: int | None = None,
    probabilities: Array | None = None,
    folds: int = FOLDS,
) -> list[Suspect]:
    """Rank lines by how doubtful their most doubtful label is, the worst first.

    Args:
        lines: labelled lines.
        label_set: the labels.
        rules: their hits are features beside the words; they do not depend on the labels.
        limit: how many lines to return; all by default.
        probabilities: ``(n, n_labels)`` of a model that was not trained on these lines; averaged
            with the cross-validated ones.
        folds: of the cross-validation; a group is never parted.

    Raises:
        DataError: fewer groups than folds.
        MissingExtraError: scikit-learn or scipy is not installed.
    """
    gold = np.array([label_set.row(line.labels) for line in lines], dtype=np.bool_)
    words = features(lines)
    p = cross_validated(words, gold, lines, rules=rules, label_set=label_set, folds=folds)
    if probabilities is not None:
        p = (p + probabilities) / 2
    quality, suspected = confidence(p, gold)
    order = np.argsort(quality.min(axis=1), kind="stable")[:limit]
    neighbours = _neighbours(words, order)
    return [
        Suspect(
            line=lines[i],
            quality=float(quality[i].min()),
            doubts=_doubts(label_set, gold[i], p[i], quality[i], suspected[i]),
            suggested=tuple(
                label for j, label in enumerate(label_set.ids) if gold[i, j] != suspected[i, j]
            ),
            neighbours=tuple(Neighbour(lines[k], similarity) for k, similarity in near),
        )
        for i, near in zip(order.tolist(), neighbours, strict=True)
    ]


def confidence(p: Array, gold: npt.NDArray[np.bool_]) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Quality of every given answer and whether it is suspected, both ``(n, n_labels)``.

    Where no line gives the opposite answer, nothing is suspected.

    >>> p = np.array([[0.9], [0.8], [0.1], [0.1], [0.85]])
    >>> quality, suspected = confidence(p, np.array([[True], [True], [True], [False], [False]]))
    >>> suspected[:, 0].tolist()
    [False, False, True, False, True]
    >>> int(quality[:, 0].argmin())
    2
    """
    yes = np.array([_mean(p[gold[:, j], j]) for j in range(p.shape[1])])
    no = np.array([_mean(1 - p[~gold[:, j], j]) for j in range(p.shape[1])])
    quality = np.where(gold, p, 1 - p) / np.where(gold, yes, no)
    opposite = np.where(gold, 1 - p, p) / np.where(gold, no, yes)
    return quality, (opposite >= 1) & (quality < 1)


def _mean(values: Array) -> float:
    return max(float(values.mean()), _TINY) if len(values) else float("nan")


def _doubts(
    label_set: LabelSet,
    gold: npt.NDArray[np.bool_],
    p: Array,
    quality: Array,
    suspected: npt.NDArray[np.bool_],
) -> tuple[Doubt, ...]:
    """The worst answer of a line, and every other suspected one."""
    order = np.argsort(quality, kind="stable").tolist()
    return tuple(
        Doubt(
            label=label_set.ids[j],
            given=bool(gold[j]),
            probability=float(p[j]),
            quality=float(quality[j]),
            suspected=bool(suspected[j]),
        )
        for j in order
        if j == order[0] or suspected[j]
    )


def features(lines: Sequence[LabelledMessage]) -> Any:  # noqa: ANN401
    """TF-IDF of character n-grams of the line and, apart from them, of the context; sparse."""
    try:
        from scipy.sparse import csr_matrix, hstack
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        extra = "evaluate"
        raise MissingExtraError(extra, "scikit-learn") from error
    parts = []
    for texts in (
        [normalize(line.message.text).text for line in lines],
        [normalize(line.message.context).text for line in lines],
    ):
        vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
        parts.append(vectorizer.fit_transform(texts) if any(texts) else csr_matrix((len(texts), 0)))
    return hstack(parts).tocsr()


def cross_validated(  # noqa: PLR0913
    words: Any,  # noqa: ANN401
    gold: npt.NDArray[np.bool_],
    lines: Sequence[LabelledMessage],
    *,
    rules: RuleSet,
    label_set: LabelSet,
    folds: int,
) -> Array:
    """Probabilities ``(n, n_labels)`` of logistic regressions that have not seen a line's group."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    groups = [line.group for line in lines]
    if len(set(groups)) < folds:
        msg = f"{len(set(groups))} groups are too few to cross-validate; give more labelled lines"
        raise DataError(msg)
    strengths = RegexClassifier(rules, label_set).scores([line.message for line in lines])
    columns = hstack([words, csr_matrix(strengths)]).tocsr()
    p = np.zeros(gold.shape)
    for train, held in GroupKFold(folds).split(columns, groups=groups):
        for j, y in enumerate(gold[train].T):
            if y.all() or not y.any():
                p[held, j] = float(y.all())
                continue
            model = LogisticRegression(C=REGULARISATION, max_iter=1000).fit(columns[train], y)
            p[held, j] = model.predict_proba(columns[held])[:, 1]
    return p


def _neighbours(words: Any, rows: npt.NDArray[np.int64]) -> list[list[tuple[int, float]]]:  # noqa: ANN401
    """The nearest other lines of some lines, by cosine; none without a word in common."""
    from sklearn.preprocessing import normalize as unit

    unit_words = unit(words)
    found = []
    for i in rows.tolist():
        similarity = (unit_words @ unit_words[i].T).toarray().ravel()
        similarity[i] = 0.0
        nearest = np.argsort(-similarity, kind="stable")[:NEIGHBOURS].tolist()
        found.append([(k, float(similarity[k])) for k in nearest if similarity[k] > 0])
    return found
