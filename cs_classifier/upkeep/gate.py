"""The promotion gate: may a new model take the place of the one in use?

Both models are compared on the same frozen lines, which neither has been trained or calibrated on.
Differences are paired: a resample of whole groups (cluster bootstrap) scores both models at once.
A label is worse if the one-sided bootstrap test, corrected over labels (Holm 1979), says so for
average precision, for F1 at each model's own thresholds, or for recall at the old model's
precision.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

from cs_classifier import corpus, datasets, metrics
from cs_classifier.config import Config
from cs_classifier.decision import OUTCOMES, lower_bound
from cs_classifier.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from cs_classifier.pipeline import Pipeline
    from cs_classifier.records import LabelledMessage

    Array = npt.NDArray[np.float64]
    Weights = npt.NDArray[np.int64]

Measure = Literal["average_precision", "f1", "recall"]
MEASURES: tuple[Measure, ...] = ("average_precision", "f1", "recall")
POWER = 0.8  # with which a difference of size ``detectable`` would be found
FEW = 10  # violations below which a label cannot be judged
COARSE = 0.1  # F1; a smallest detectable difference above this is warned of
_CHUNK = 200  # resamples at once, to bound memory


class Comparison(Config):
    """One measure, the new model against the old; ``difference`` is new minus old."""

    old: float
    new: float
    difference: float
    low: float  # 95 % interval of the difference
    high: float
    p: float  # one-sided, of "the new model is not worse"
    adjusted: float  # the same after Holm's correction over labels
    detectable: float  # a loss of this size would have been found in 80 % of such tests


class LabelGate(Config):
    """One label. A measure is None where it is undefined, or the old model lacks the label."""

    label: str
    support: int
    called: int  # by the new model, as "violation"
    hits: int
    precision_bound: float | None  # one-sided Clopper-Pearson upper bound; None without calls
    average_precision: Comparison | None
    f1: Comparison | None
    recall: Comparison | None  # both at no less than the old model's precision


class Finding(Config):
    """A reason against the new model, or something that could not be told."""

    kind: Literal["worse", "floor", "clean", "dropped", "few", "coarse", "added", "uncalled"]
    label: str = ""
    measure: str = ""


class GateReport(Config):
    """What the gate found; the new model passes if there is no failure."""

    old: str
    new: str
    lines: int
    groups: int
    clean_lines: int
    floor: float
    alpha: float
    resamples: int
    seen: int  # training and calibration lines that the frozen lines were held against
    unchecked: tuple[str, ...] = ()  # training files that are not at hand any more
    labels: tuple[LabelGate, ...]
    clean: Comparison | None  # share of clean lines called with any label; lower is better
    failures: tuple[Finding, ...]
    warnings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether the new model may replace the old one."""
        return not self.failures


def judge(  # noqa: PLR0913
    old: Pipeline,
    new: Pipeline,
    lines: Sequence[LabelledMessage],
    *,
    rng: np.random.Generator,
    seen: Sequence[LabelledMessage] = (),
    unchecked: Sequence[str] = (),
    floor: float | None = None,
    alpha: float = 0.05,
    resamples: int = 2000,
) -> GateReport:
    """Compare two models on the gold lines of a frozen set.

    Args:
        old: the model in use.
        new: the candidate; labels are compared by id, in its order.
        lines: the frozen set.
        rng: for the bootstrap.
        seen: what either model was trained or calibrated on, held against the frozen set.
        unchecked: training files that could not be held against it, for the report.
        floor: precision that "violation" must not be significantly below; by default the one that
            the new model's thresholds were chosen for.
        alpha: probability of refusing, on one measure, a model that is no worse on any label.
        resamples: of the bootstrap.

    Raises:
        DataError: no gold lines, or one of them is (nearly) among ``seen``.
    """
    frozen = datasets.gold(lines)
    if not frozen:
        msg = "the frozen set holds no gold lines"
        raise DataError(msg)
    check_unseen(frozen, seen)
    floor = new.decision.config.precision_floor if floor is None else floor
    ids = new.label_set.ids
    gold = np.array([[label in line.labels for label in ids] for line in frozen])
    ours, theirs = _Side(new, ids, frozen), _Side(old, ids, frozen)
    shared = [j for j, label in enumerate(ids) if label in old.label_set.ids]
    groups = [line.group for line in frozen]
    tests = _tests(gold, ours, theirs, shared, _chunks(groups, resamples, rng))
    compared = {m: _compare([tests[m, j] for j in shared], alpha) for m in MEASURES}
    bound = 1 - alpha / len(ids)  # Bonferroni: the bounds hold together
    rows = tuple(
        LabelGate(
            label=label,
            support=int(gold[:, j].sum()),
            called=int(ours.calls[:, j].sum()),
            hits=int((ours.calls & gold)[:, j].sum()),
            precision_bound=_upper_bound(ours.calls[:, j], gold[:, j], bound),
            **{m: compared[m][shared.index(j)] if j in shared else None for m in MEASURES},
        )
        for j, label in enumerate(ids)
    )
    clean = _compare([tests["clean", -1]], alpha, sign=-1)[0]
    dropped = [label for label in old.label_set.ids if label not in ids]
    return GateReport(
        old=old.model_id,
        new=new.model_id,
        lines=len(frozen),
        groups=len(set(groups)),
        clean_lines=int((~gold.any(axis=1)).sum()),
        floor=floor,
        alpha=alpha,
        resamples=resamples,
        seen=len(seen),
        unchecked=tuple(unchecked),
        labels=rows,
        clean=clean,
        failures=tuple(_failures(rows, clean, dropped, floor=floor, alpha=alpha)),
        warnings=tuple(_warnings(rows, [ids[j] for j in shared])),
    )


class _Side:
    """One model on the frozen lines: probabilities and violation calls ``(n, n_labels)``."""

    def __init__(
        self, model: Pipeline, ids: Sequence[str], lines: Sequence[LabelledMessage]
    ) -> None:
        """Score; a label that the model lacks is never called."""
        predictions = model.predict([line.message for line in lines])
        own = np.array([p.probabilities for p in predictions])
        called = model.decision.levels(own) == OUTCOMES.index("violation")
        self.any_call = called.any(axis=1)
        self.probabilities = np.zeros((len(lines), len(ids)))
        self.calls = np.zeros((len(lines), len(ids)), dtype=np.bool_)
        for j, label in enumerate(ids):
            if label in model.label_set.ids:
                column = model.label_set.index(label)
                self.probabilities[:, j], self.calls[:, j] = own[:, column], called[:, column]


def _chunks(groups: Sequence[str], resamples: int, rng: np.random.Generator) -> Iterable[Weights]:
    """Weights of the lines as they are, then of the resamples."""
    yield np.ones((1, len(groups)), dtype=np.int64)
    for start in range(0, resamples, _CHUNK):
        yield metrics.bootstrap_weights(groups, min(_CHUNK, resamples - start), rng)


def _tests(
    gold: npt.NDArray[np.bool_],
    new: _Side,
    old: _Side,
    labels: Sequence[int],
    weights: Iterable[Weights],
) -> dict[tuple[str, int], Array]:
    """(measure, label) to old and new values, ``(1 + resamples, 2)``; the first row is no resample.

    ("clean", -1) holds the shares of clean lines that are called.
    """
    parts: dict[tuple[str, int], list[Array]] = {}
    clean = ~gold.any(axis=1)
    for w in weights:
        for j in labels:
            values = [_measures(gold[:, j], s, j, old.calls[:, j], w) for s in (old, new)]
            for k, measure in enumerate(MEASURES):
                pair = np.column_stack([value[k] for value in values])
                parts.setdefault((measure, j), []).append(pair)
        called = np.column_stack([w @ (side.any_call & clean) for side in (old, new)])
        parts.setdefault(("clean", -1), []).append(_ratio(called, (w @ clean)[:, None]))
    return {key: np.concatenate(part) for key, part in parts.items()}


def _measures(
    gold: npt.NDArray[np.bool_], side: _Side, label: int, base: npt.NDArray[np.bool_], w: Weights
) -> tuple[Array, Array, Array]:
    """Average precision, F1, and the best recall at no less than the precision of calls ``base``.

    Each of shape ``(resamples,)``, NaN where undefined.
    """
    scores, calls = side.probabilities[:, label], side.calls[:, label]
    support = w @ gold
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # ties share a threshold
    drawn = w[:, order]
    hits = np.cumsum(drawn * gold[order], axis=1)[:, ends]
    called = np.cumsum(drawn, axis=1)[:, ends]
    precision = hits / np.maximum(called, 1)
    steps = np.diff(hits, prepend=0, axis=1)
    required = _ratio(w @ (base & gold), w @ base)
    reached = np.where(precision >= required[:, None], hits, 0).max(axis=1)
    recall = np.where(np.isnan(required), np.nan, _ratio(reached, support))
    f1 = np.where(support > 0, metrics.f1(w @ (calls & gold), w @ calls, support), np.nan)
    return _ratio((steps * precision).sum(axis=1), support), f1, recall


def _ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Array = np.true_divide(part, whole)
    return ratio


def _compare(tests: Sequence[Array], alpha: float, *, sign: int = 1) -> list[Comparison | None]:
    """Test a family; ``sign`` is -1 where lower is better. None where a value is undefined."""
    samples = [sign * (test[1:, 1] - test[1:, 0]) for test in tests]
    samples = [values[~np.isnan(values)] for values in samples]
    defined = [i for i, t in enumerate(tests) if len(samples[i]) and not np.isnan(t[0]).any()]
    # The share of resamples in which the new model is at least as good, counting the data itself.
    p = [(1 + int((samples[i] >= 0).sum())) / (1 + len(samples[i])) for i in defined]
    z = NormalDist().inv_cdf(1 - alpha / max(1, len(p))) + NormalDist().inv_cdf(POWER)
    found: list[Comparison | None] = [None] * len(tests)
    for i, raw, adjusted in zip(defined, p, holm(p), strict=True):
        old, new = map(float, tests[i][0])
        low, high = metrics.interval(sign * samples[i])
        found[i] = Comparison(
            old=old,
            new=new,
            difference=new - old,
            low=low,
            high=high,
            p=raw,
            adjusted=adjusted,
            detectable=z * float(samples[i].std()),
        )
    return found


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


def _upper_bound(
    calls: npt.NDArray[np.bool_], gold: npt.NDArray[np.bool_], confidence: float
) -> float | None:
    """One-sided Clopper-Pearson upper bound of the precision of ``calls``."""
    called, wrong = int(calls.sum()), int((calls & ~gold).sum())
    return 1 - lower_bound(wrong, called, confidence) if called else None


def _failures(
    rows: Sequence[LabelGate],
    clean: Comparison | None,
    dropped: Sequence[str],
    *,
    floor: float,
    alpha: float,
) -> Iterable[Finding]:
    yield from (Finding(kind="dropped", label=label) for label in dropped)
    for row in rows:
        for measure in MEASURES:
            comparison: Comparison | None = getattr(row, measure)
            if comparison and comparison.adjusted < alpha:
                yield Finding(kind="worse", label=row.label, measure=measure)
        if row.precision_bound is not None and row.precision_bound < floor:
            yield Finding(kind="floor", label=row.label)
    if clean and clean.p < alpha:
        yield Finding(kind="clean")


def _warnings(rows: Sequence[LabelGate], shared: Sequence[str]) -> Iterable[Finding]:
    for row in rows:
        if row.label not in shared:
            yield Finding(kind="added", label=row.label)
        if row.support < FEW:
            yield Finding(kind="few", label=row.label)
        elif row.f1 and row.f1.detectable > COARSE:
            yield Finding(kind="coarse", label=row.label)
        if not row.called:
            yield Finding(kind="uncalled", label=row.label)


def check_unseen(frozen: Sequence[LabelledMessage], seen: Sequence[LabelledMessage]) -> None:
    """Make sure that no frozen line shares id or group with a seen one, or nearly repeats it.

    Raises:
        DataError: it names the first such line and says how many there are.
        MissingExtraError: scikit-learn is not installed.
    """
    ids, groups = {line.id for line in seen}, {line.group for line in seen}
    found = [(line.id, "the same id") for line in frozen if line.id in ids]
    found += [
        (line.id, f"the same group '{line.group}'") for line in frozen if line.group in groups
    ]
    found += [
        (line.id, f"nearly the same words as '{other.id}'")
        for line, other, _ in corpus.near_duplicates(frozen, seen)
    ]
    if found:
        identity, reason = found[0]
        count = len({identity for identity, _ in found})
        msg = (
            f"{count} lines of the frozen set were seen in training or calibration, such as "
            f"'{identity}' ({reason}); take them out"
        )
        raise DataError(msg)
