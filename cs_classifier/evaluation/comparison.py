"""Regex, TF-IDF and the model side by side on the same labelled lines.

Every number comes with its support and a 95 % interval by cluster bootstrap over groups;
differences to a baseline are paired, that is taken within each resample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cs_classifier import datasets, metrics, splits
from cs_classifier.classifiers.regex import RegexClassifier
from cs_classifier.classifiers.tfidf import TfidfClassifier
from cs_classifier.decision import to_levels
from cs_classifier.errors import DataError
from cs_classifier.evaluation.values import (
    MODEL,
    REGEX,
    RESAMPLES,
    REVIEW,
    SYSTEM_NAMES,
    TFIDF,
    ClauseScores,
    Difference,
    Error,
    Estimate,
    EvaluationReport,
    LabelScores,
    OriginScores,
    SystemScores,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cs_classifier.labels import LabelSet
    from cs_classifier.pipeline import Pipeline
    from cs_classifier.records import LabelledMessage, Prediction

    Array = npt.NDArray[np.float64]
    Calls = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _System:
    """Scores and calls ``(n, n_labels)`` of one system."""

    key: str
    scores: Array
    calls: Calls
    calibrated: bool


def evaluate(
    pipeline: Pipeline,
    lines: Sequence[LabelledMessage],
    *,
    train: Sequence[LabelledMessage] = (),
    files: Sequence[str] = (),
    seed: int = 0,
) -> EvaluationReport:
    """Compare on the gold lines of ``lines``; borderline ones are only counted.

    Args:
        pipeline: the model.
        lines: labelled lines that the model has not been trained on; none is a ``DataError``.
        train: the model's training lines, to fit the TF-IDF baseline; without, it is left out.
        files: names for the report.
        seed: for the bootstrap.
    """
    gold_lines = datasets.gold(lines)
    if not gold_lines:
        msg = "no gold lines to evaluate on"
        raise DataError(msg)
    label_set = pipeline.label_set
    gold = np.array([label_set.row(line.labels) for line in gold_lines], dtype=np.float64)
    gold = gold.reshape(len(gold_lines), len(label_set))
    predictions = pipeline.predict([line.message for line in gold_lines])
    systems = _systems(pipeline, gold_lines, predictions, train)
    rng = np.random.default_rng(seed)
    weights = metrics.bootstrap_weights([line.group for line in gold_lines], RESAMPLES, rng)
    notes = [] if train else ["TF-IDF left out: the model's training lines are not at hand"]
    return EvaluationReport(
        model=pipeline.model_id,
        files=tuple(files),
        lines=len(gold_lines),
        borderline=len(lines) - len(gold_lines),
        groups=len({line.group for line in gold_lines}),
        systems=tuple(_scores(s, gold, gold_lines, weights, label_set) for s in systems),
        differences=tuple(_differences(systems, gold, weights, label_set)),
        errors=tuple(_errors(gold_lines, predictions, label_set)),
        notes=tuple(notes),
        contrast_groups=len(contrast_groups(gold_lines)),
        origins=tuple(_origins(systems, gold, gold_lines)),
    )


def _systems(
    pipeline: Pipeline,
    lines: Sequence[LabelledMessage],
    predictions: Sequence[Prediction],
    train: Sequence[LabelledMessage],
) -> list[_System]:
    messages = [line.message for line in lines]
    probabilities = np.array([p.probabilities for p in predictions])
    levels = to_levels([p.outcomes for p in predictions])
    regex = RegexClassifier(pipeline.rules, pipeline.label_set).scores(messages)
    systems = [_System(REGEX, regex, regex > 0, calibrated=False)]
    if train:
        tfidf, thresholds = fit_tfidf(train, pipeline.label_set)
        scores = tfidf.scores(messages)
        systems.append(_System(TFIDF, scores, scores >= thresholds, calibrated=True))
    systems.append(_System(MODEL, probabilities, levels == 2, calibrated=True))  # noqa: PLR2004
    systems.append(_System(REVIEW, probabilities, levels >= 1, calibrated=True))
    return systems


def fit_tfidf(
    train: Sequence[LabelledMessage], label_set: LabelSet, *, seed: int = 0
) -> tuple[TfidfClassifier, Array]:
    """Fit the TF-IDF baseline; its thresholds give the best F1 on a held-out fifth of ``train``."""
    lines = datasets.gold(train)
    rest, held = splits.by_group(lines, 0.2, np.random.default_rng(seed))
    partial = TfidfClassifier.fit(*_arrays(rest, label_set), seed=seed)
    messages, gold = _arrays(held, label_set)
    scores = partial.scores(messages)
    thresholds = np.array(
        [best_f1_threshold(scores[:, j], gold[:, j]) for j in range(gold.shape[1])]
    )
    return TfidfClassifier.fit(*_arrays(lines, label_set), seed=seed), thresholds


def _arrays(lines: Sequence[LabelledMessage], label_set: LabelSet) -> tuple[list, Array]:  # type: ignore[type-arg]
    return [line.message for line in lines], np.array(
        [label_set.row(line.labels) for line in lines], dtype=np.float64
    )


def best_f1_threshold(scores: Array, gold: Array) -> float:
    """The score from which calling a line positive gives the best F1; 0.5 without positives."""
    if not gold.any():
        return 0.5
    candidates = np.unique(scores)
    called = np.array([(scores >= t).sum() for t in candidates])
    hits = np.array([gold[scores >= t].sum() for t in candidates])
    return float(candidates[int(np.nanargmax(metrics.f1(hits, called, gold.sum())))])


def _estimate(value: float, samples: Array) -> Estimate:
    low, high = metrics.interval(samples)
    return Estimate(value=float(value), low=low, high=high)


def _counts(
    calls: Calls, gold: Array, weights: npt.NDArray[np.int64]
) -> tuple[Array, Array, Array]:
    """Weighted hits, called, support, each ``(resamples, n_labels)``."""
    w = weights.astype(np.float64)
    return w @ (calls * gold), w @ calls.astype(np.float64), w @ gold


def _ratio(part: Array, whole: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def _scores(
    system: _System,
    gold: Array,
    lines: Sequence[LabelledMessage],
    weights: npt.NDArray[np.int64],
    label_set: LabelSet,
) -> SystemScores:
    hits, called, support = _counts(system.calls, gold, weights)
    all_hits, all_called, all_support = _counts(
        system.calls, gold, np.ones((1, len(gold)), dtype=np.int64)
    )
    f1_samples = metrics.f1(hits, called, support)
    f1_values = metrics.f1(all_hits, all_called, all_support)[0]
    rows = []
    for j, label in enumerate(label_set.ids):
        column = system.scores[:, j]
        rows.append(
            LabelScores(
                label=label,
                support=int(all_support[0, j]),
                called=int(all_called[0, j]),
                hits=int(all_hits[0, j]),
                precision=_estimate(_ratio(all_hits, all_called)[0, j], _ratio(hits, called)[:, j]),
                recall=_estimate(_ratio(all_hits, all_support)[0, j], _ratio(hits, support)[:, j]),
                f1=_estimate(f1_values[j], f1_samples[:, j]),
                average_precision=metrics.average_precision(gold[:, j], column),
                ece=metrics.expected_calibration_error(gold[:, j], column)
                if system.calibrated
                else None,
                reliability=tuple(metrics.reliability(gold[:, j], column))
                if system.calibrated
                else (),
            )
        )
    clean = ~gold.any(axis=1)
    any_call = system.calls.any(axis=1) & clean
    rate = _ratio(weights @ any_call.astype(np.float64), weights @ clean.astype(np.float64))
    return SystemScores(
        system=system.key,
        name=SYSTEM_NAMES[system.key],
        macro_f1=_estimate(_nanmean(f1_values), np.array([_nanmean(r) for r in f1_samples])),
        labels=tuple(rows),
        clauses=tuple(_clauses(system, lines, label_set)),
        clean_lines=int(clean.sum()),
        clean_called=int(any_call.sum()),
        per_thousand_clean=_estimate(1000 * any_call.sum() / max(1, clean.sum()), 1000 * rate),
        groups_right=_groups_right(system, gold, lines, weights),
    )


def contrast_groups(lines: Sequence[LabelledMessage]) -> list[list[int]]:
    """Row numbers of each group whose lines differ in their labels."""
    groups: dict[str, list[int]] = {}
    for i, line in enumerate(lines):
        groups.setdefault(line.group, []).append(i)
    return [rows for rows in groups.values() if len({lines[i].labels for i in rows}) > 1]


def _groups_right(
    system: _System,
    gold: Array,
    lines: Sequence[LabelledMessage],
    weights: npt.NDArray[np.int64],
) -> Estimate | None:
    """Share of contrast groups with no wrong call at all."""
    groups = contrast_groups(lines)
    if not groups:
        return None
    wrong = (system.calls != (gold > 0)).any(axis=1)
    right = np.array([not wrong[rows].any() for rows in groups], dtype=np.float64)
    drawn = weights[:, [rows[0] for rows in groups]].astype(np.float64)  # one weight per group
    return _estimate(right.mean(), _ratio(drawn @ right, drawn.sum(axis=1)))


def _origins(
    systems: Sequence[_System], gold: Array, lines: Sequence[LabelledMessage]
) -> list[OriginScores]:
    """Scores by origin; none where all lines have the same one."""
    names = sorted({line.origin for line in lines})
    if len(names) < 2:  # noqa: PLR2004
        return []
    found = []
    for name in names:
        here = np.array([line.origin == name for line in lines])
        clean, once = ~gold[here].any(axis=1), np.ones((1, int(here.sum())), dtype=np.int64)
        f1 = [metrics.f1(*_counts(s.calls[here], gold[here], once))[0] for s in systems]
        found.append(
            OriginScores(
                origin=name,
                lines=int(here.sum()),
                clean_lines=int(clean.sum()),
                macro_f1=tuple(_nanmean(values) for values in f1),
                clean_called=tuple(int(s.calls[here][clean].any(axis=1).sum()) for s in systems),
            )
        )
    return found


def _nanmean(values: Array) -> float:
    return float(np.mean(values[~np.isnan(values)])) if not np.isnan(values).all() else float("nan")


def _clauses(
    system: _System, lines: Sequence[LabelledMessage], label_set: LabelSet
) -> list[ClauseScores]:
    table = []
    for clause in label_set.clauses.values():
        column = label_set.index(clause.label)
        here = [i for i, line in enumerate(lines) if clause.id in line.clauses]
        violating = [i for i in here if clause.label in lines[i].labels]
        near = [i for i in here if not lines[i].labels]
        hits = int(system.calls[violating, column].sum())
        false = int(system.calls[near, column].sum())
        table.append(
            ClauseScores(
                clause=clause.id,
                support=len(violating),
                recall=hits / len(violating) if violating else float("nan"),
                near=len(near),
                false_alarms=false,
                precision=hits / (hits + false) if hits + false else float("nan"),
                f1=float(metrics.f1(hits, hits + false, len(violating))),
            )
        )
    return table


def _differences(
    systems: Sequence[_System], gold: Array, weights: npt.NDArray[np.int64], label_set: LabelSet
) -> list[Difference]:
    by_key = {system.key: system for system in systems}
    model = by_key[MODEL]
    ours = metrics.f1(*_counts(model.calls, gold, weights))
    once = np.ones((1, len(gold)), dtype=np.int64)
    ours_here = metrics.f1(*_counts(model.calls, gold, once))[0]
    table = []
    for key in (REGEX, TFIDF):
        if key not in by_key:
            continue
        base = by_key[key]
        theirs = metrics.f1(*_counts(base.calls, gold, weights))
        theirs_here = metrics.f1(*_counts(base.calls, gold, once))[0]
        macro = np.array([_nanmean(a) - _nanmean(b) for a, b in zip(ours, theirs, strict=True)])
        table.append(_difference(key, "macro", _nanmean(ours_here) - _nanmean(theirs_here), macro))
        for j, label in enumerate(label_set.ids):
            row = _difference(key, label, ours_here[j] - theirs_here[j], ours[:, j] - theirs[:, j])
            recall, reached = recall_at_precision(model.scores[:, j], base.calls[:, j], gold[:, j])
            table.append(
                row.model_copy(
                    update={
                        "baseline_recall": recall,
                        "model_recall_at_baseline_precision": reached,
                    }
                )
            )
    return table


def _difference(baseline: str, label: str, value: float, samples: Array) -> Difference:
    estimate = _estimate(value, samples)
    return Difference(baseline=baseline, label=label, f1=estimate, beats=bool(estimate.low > 0))


def recall_at_precision(
    scores: Array, baseline_calls: Calls, gold: Array
) -> tuple[float | None, float | None]:
    """Recall of a baseline, and the best recall of ``scores`` at no less than its precision."""
    if not gold.any() or not baseline_calls.any():
        return None, None
    precision = float(gold[baseline_calls].mean())
    recall = float(baseline_calls[gold > 0].mean())
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(gold[order])
    ends = np.append(np.diff(scores[order]) != 0, True)  # lines of equal score go together
    holds = ends & (hits / np.arange(1, len(scores) + 1) >= precision)
    return recall, float(hits[holds].max() / gold.sum()) if holds.any() else 0.0


def _errors(
    lines: Sequence[LabelledMessage], predictions: Sequence[Prediction], label_set: LabelSet
) -> list[Error]:
    """Wrong violation decisions, the most confident mistakes first."""
    found = []
    for line, prediction in zip(lines, predictions, strict=True):
        for j, label in enumerate(label_set.ids):
            called, right = prediction.outcomes[j] == "violation", label in line.labels
            if called != right:
                found.append(
                    Error(
                        id=line.id,
                        label=label,
                        kind="missed" if right else "false",
                        probability=prediction.probabilities[j],
                        outcome=prediction.outcomes[j],
                        context=line.message.context,
                        text=line.message.text,
                        clause="+".join(line.clauses),
                    )
                )
    return sorted(found, key=lambda e: e.probability if e.kind == "missed" else 1 - e.probability)
