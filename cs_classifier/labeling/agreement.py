"""How far annotators agree, label by label.

Cohen's kappa for each pair (Cohen 1960), Krippendorff's alpha for all of them, with answers missing
(Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", binary data), and positive
agreement (Cicchetti & Feinstein 1990), which says more than either where a label is rare.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from cs_classifier.labeling.store import histories
from cs_classifier.metrics import bootstrap_weights, interval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from cs_classifier.labeling.store import Event, History

    Array = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

RESAMPLES = 1000
_DEFINED = 0.95  # share of the resamples that must have a value

Reason = Literal["", "no_overlap", "one_value", "one_group", "unstable"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Coefficient(_Value):
    """A measure with its 95 % interval; ``None`` where there is none, and ``reason`` says why.

    ``no_overlap``: no line has two answers. ``one_value``: all answers are alike, or, for positive
    agreement, nobody gave the label. ``one_group``: there is no second group to draw. ``unstable``:
    too many resamples hold no value, or all hold the same, which chance would not leave so.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: Reason = ""


class Counts(_Value):
    """The four cells of two people (or a person and the truth) for one label."""

    both: int
    first: int  # only the first gave the label
    second: int
    neither: int


class LabelAgreement(_Value):
    """All annotators together; ``counts`` and ``positive`` are those of all pairs of answers."""

    label: str
    counts: Counts
    alpha: Coefficient
    positive: Coefficient


class PairAgreement(_Value):
    """Two annotators."""

    first: str
    second: str
    label: str
    counts: Counts
    kappa: Coefficient
    positive: Coefficient


class Confusion(_Value):
    """An annotator (first) against the adjudicated labels (second)."""

    annotator: str
    label: str
    counts: Counts


class Annotator(_Value):
    """How much an annotator did; ``doubtful`` lines are those that stayed undecided."""

    name: str
    answered: int
    doubtful: int


class AgreementReport(_Value):
    """What the votes say; ``overlap`` counts the lines with two answers, of all ``lines``.

    ``disputed`` lines wait for a ruling.
    """

    lines: int
    overlap: int
    groups: int
    disputed: int
    adjudicated: int
    annotators: tuple[Annotator, ...]
    labels: tuple[LabelAgreement, ...]
    pairs: tuple[PairAgreement, ...]
    confusions: tuple[Confusion, ...]


def agreement(
    events: Iterable[Event],
    *,
    label_ids: Sequence[str],
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> AgreementReport:
    """Compare the latest answers of the annotators; appeals and adjudications are no answers.

    Intervals come from drawing whole groups of lines.
    """
    lines = [history for history in histories(events).values() if history.votes]
    names = sorted({who for history in lines for who in history.votes})
    votes = _votes(lines, names, label_ids)
    shared = (votes[:, :, 0] >= 0).sum(axis=1) > 1 if names else np.zeros(0, dtype=bool)
    groups = [h.line.group for h, use in zip(lines, shared, strict=True) if use]
    sums = _Groups(groups, resamples, rng)
    seen = votes[shared]
    return AgreementReport(
        lines=len(lines),
        overlap=len(groups),
        groups=len(set(groups)),
        disputed=sum(history.disputed for history in lines),
        adjudicated=len(_adjudicated(lines)),
        annotators=tuple(_annotator(name, lines) for name in names),
        labels=tuple(_together(x, seen[:, :, j], sums) for j, x in enumerate(label_ids)),
        pairs=tuple(
            _pair(names[a], names[b], label, seen[:, [a, b], j], sums)
            for a, b in combinations(range(len(names)), 2)
            for j, label in enumerate(label_ids)
            if (seen[:, [a, b], 0] >= 0).all(axis=1).any()
        ),
        confusions=tuple(_confusions(lines, names, label_ids)),
    )


def _votes(lines: Sequence[History], names: Sequence[str], label_ids: Sequence[str]) -> Ints:
    """Answers, shape ``(n, n_annotators, n_labels)``: 1, 0, or -1 where there is none."""
    votes = np.full((len(lines), len(names), len(label_ids)), -1)
    for row, history in zip(votes, lines, strict=True):
        for who, vote in history.votes.items():
            if vote.new is not None:
                row[names.index(who)] = [label in vote.new for label in label_ids]
    return votes


def _annotator(name: str, lines: Sequence[History]) -> Annotator:
    mine = [history.votes[name] for history in lines if name in history.votes]
    doubtful = sum(vote.new is None for vote in mine)
    return Annotator(name=name, answered=len(mine) - doubtful, doubtful=doubtful)


class _Groups:
    """Sums over lines, for all of them and for resamples of their groups."""

    def __init__(self, groups: Sequence[str], resamples: int, rng: np.random.Generator) -> None:
        names, self.number = np.unique(np.array(groups, dtype=object), return_inverse=True)
        self.count = len(names)
        self.draws = (
            bootstrap_weights(np.arange(self.count), resamples, rng)
            if self.count
            else np.zeros((0, 0), dtype=np.int64)
        )

    def coefficient(self, measure: Callable[..., Array], columns: Sequence[Array]) -> Coefficient:
        """``measure`` of the sums of ``columns``, each of shape ``(n,)``."""
        if not np.sum(columns):
            return Coefficient(value=None, reason="no_overlap")
        parts = np.array([np.bincount(self.number, c, minlength=self.count) for c in columns])
        value = float(measure(*parts.sum(axis=1)))
        if np.isnan(value):
            return Coefficient(value=None, reason="one_value")
        if self.count == 1:
            return Coefficient(value=value, reason="one_group")
        samples = measure(*(parts @ self.draws.T))
        if np.mean(~np.isnan(samples)) < _DEFINED:
            return Coefficient(value=value, reason="unstable")
        low, high = interval(samples)
        if low == high:
            return Coefficient(value=value, reason="unstable")
        return Coefficient(value=value, low=low, high=high)


def alpha(mixed: Array, ones: Array, zeros: Array) -> Array:
    """Krippendorff's alpha of binary answers, elementwise; NaN where all are alike.

    ``ones`` and ``zeros`` count the answers to lines that have at least two, and ``mixed`` sums
    ``ones * zeros / (answers - 1)`` over these lines.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = 1 - (ones + zeros - 1) * mixed / (ones * zeros)
    return np.where(ones * zeros > 0, found, np.nan)


def kappa(both: Array, first: Array, second: Array, neither: Array) -> Array:
    """Cohen's kappa, elementwise; NaN where both always gave the same one answer."""
    n = both + first + second + neither
    with np.errstate(invalid="ignore", divide="ignore"):
        chance = ((both + first) * (both + second) + (second + neither) * (first + neither)) / n**2
        found: Array = ((both + neither) / n - chance) / (1 - chance)
    return np.where((n > 0) & (chance < 1), found, np.nan)


def positive(both: Array, first: Array, second: Array, _neither: Array) -> Array:
    """``2 both / (2 both + first + second)``, elementwise; NaN where nobody gave the label."""
    given = 2 * both + first + second
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(given > 0, 2 * both / given, np.nan)


def _together(label: str, votes: Ints, sums: _Groups) -> LabelAgreement:
    ones, zeros = (votes == 1).sum(axis=1), (votes == 0).sum(axis=1)
    mixed = ones * zeros / np.maximum(ones + zeros - 1, 1)
    cells = np.sum(
        [_cells(votes[:, [a, b]]) for a, b in combinations(range(votes.shape[1]), 2)]
        or [np.zeros((4, len(votes)))],
        axis=0,
    )
    return LabelAgreement(
        label=label,
        counts=_counts(cells),
        alpha=sums.coefficient(alpha, [mixed, ones, zeros]),
        positive=sums.coefficient(positive, list(cells)),
    )


def _pair(first: str, second: str, label: str, votes: Ints, sums: _Groups) -> PairAgreement:
    cells = _cells(votes)
    return PairAgreement(
        first=first,
        second=second,
        label=label,
        counts=_counts(cells),
        kappa=sums.coefficient(kappa, list(cells)),
        positive=sums.coefficient(positive, list(cells)),
    )


def _cells(votes: Ints) -> Array:
    """Which of the four cells each line with two answers is in, shape ``(4, n)``."""
    a, b = votes.T
    cells = [(a == x) & (b == y) for x, y in ((1, 1), (1, 0), (0, 1), (0, 0))]
    return np.array(cells, dtype=np.float64)


def _counts(cells: Array) -> Counts:
    both, first, second, neither = (round(n) for n in cells.sum(axis=1).tolist())
    return Counts(both=both, first=first, second=second, neither=neither)


def _adjudicated(lines: Iterable[History]) -> list[History]:
    return [
        h
        for h in lines
        if h.ruling and h.ruling.source == "adjudication" and h.ruling.new is not None
    ]


def _confusions(
    lines: Sequence[History], names: Sequence[str], label_ids: Sequence[str]
) -> list[Confusion]:
    ruled = _adjudicated(lines)
    votes = _votes(ruled, names, label_ids)
    ruling = [h.ruling.new if h.ruling and h.ruling.new else () for h in ruled]
    truth = np.array([[x in labels for x in label_ids] for labels in ruling], dtype=np.int64)
    found = []
    for i, name in enumerate(names):
        for j, label in enumerate(label_ids):
            if (votes[:, i, j] >= 0).any():
                cells = _cells(np.column_stack([votes[:, i, j], truth[:, j]]))
                found.append(Confusion(annotator=name, label=label, counts=_counts(cells)))
    return found
