"""From reviewed rows to a report, and to labelled lines.

In each stratum the answered rows, weighted by the inverse of their inclusion probability, stand for
all its lines. Open, doubtful and deleted rows therefore bias nothing as long as it was chance that
left them open.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cs_classifier.errors import DataError
from cs_classifier.estimation.drift import drifts, refits
from cs_classifier.estimation.shares import CLEAR, REVIEW, VIOLATION, Answers, measure
from cs_classifier.estimation.values import (
    ANY,
    Estimate,
    EstimateReport,
    LabelEstimates,
    Measures,
    StratumCounts,
)
from cs_classifier.records import LabelledMessage, Message
from cs_classifier.sampling import KINDS, Stratum, template

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cs_classifier.reviews import Review

    Array = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

_LEVELS = {"clear": CLEAR, "review": REVIEW, "violation": VIOLATION}


def estimate(
    reviews: Sequence[Review],
    *,
    label_ids: Sequence[str],
    night: str,
    previous: Sequence[EstimateReport] = (),
    floor: float = 0.95,
) -> EstimateReport:
    """Estimate from the reviews of a sample, and compare with ``previous`` nights.

    Args:
        reviews: all rows of the returned workbooks, open ones too; of one night or of several.
        label_ids: the labels that the lines were scored for, in order.
        night: names the sample, as 2026-11-11; earlier reports of that name are not compared with.
        previous: earlier reports; those of other models are not compared with.
        floor: precision that the violation decision is to hold.

    Raises:
        DataError: no row is answered, or a line is not from a file scored for these labels.
        MissingExtraError: scipy is not installed.
    """
    rows, disputed = merged(reviews)
    if any(row.sampled.picked for row in rows):
        msg = "these lines come from 'label queue', which is no sample; use 'label import' for them"
        raise DataError(msg)
    answered = [row for row in rows if row.truth is not None]
    if not answered:
        msg = "no row has an answer; fill in the result column of the workbook first"
        raise DataError(msg)
    names, weight, strata = _weights(rows)
    truth, level, probability = _columns(answered, label_ids)
    found = [
        LabelEstimates(
            label=label,
            expected=float(weight @ probability[:, j] / weight.sum()),
            **_fields(measure(Answers(names, weight, truth[:, j], level[:, j]))),
        )
        for j, label in enumerate(label_ids)
    ]
    any_true = Answers(names, weight, np.any(truth, axis=1), level.max(axis=1))
    seen = sum(s.lines for s in strata if s.answered)
    lines = max(_night_lines(rows), sum(s.lines for s in strata))
    models = tuple(dict.fromkeys(row.sampled.line.model for row in rows))
    earlier = [one for one in previous if one.night != night and {*one.models} == {*models}]
    report = EstimateReport(
        night=night,
        models=models,
        reviewed=len(answered),
        open=sum(row.verdict is None for row in rows),
        doubtful=sum(row.verdict == "doubtful" for row in rows) - disputed,
        disputed=disputed,
        lines=lines,
        unseen=lines - seen,
        strata=strata,
        labels=tuple(found),
        overall=LabelEstimates(label=ANY, **_fields(measure(any_true))),
        floor=floor,
        nights=len(earlier),
    )
    update = {"drifts": tuple(drifts(report, earlier)), "refits": tuple(refits(report))}
    return report.model_copy(update=update)


def _fields(measures: Measures) -> dict[str, Estimate | None]:
    return {name: getattr(measures, name) for name in Measures.model_fields}


def merged(reviews: Sequence[Review]) -> tuple[list[Review], int]:
    """One review per drawn line, and how many lines are disputed.

    Where several reviewers gave one answer it stands; where they differ the line is doubtful.
    """
    by_line: dict[tuple[str, str, int, str], list[Review]] = defaultdict(list)
    for review in reviews:
        line = review.sampled.line
        by_line[line.key, line.file, line.row, review.sampled.stratum].append(review)
    rows, disputed = [], 0
    for same in by_line.values():
        given = [review for review in same if review.verdict is not None]
        decided = {frozenset(r.truth) for r in given if r.truth is not None}
        first = next((r for r in given if r.truth is not None), (given or same)[0])
        if len(decided) > 1:
            disputed += 1
            first = replace(first, verdict="doubtful")
        rows.append(first)
    return rows, disputed


def _weights(rows: Sequence[Review]) -> tuple[Ints, Array, tuple[StratumCounts, ...]]:
    """Stratum number and weight of each answered row, and the strata."""
    parsed = [Stratum.parse(row.sampled.stratum) for row in rows]
    names = sorted({stratum.name for stratum in parsed}, key=_plan_order)
    code = np.array([names.index(stratum.name) for stratum in parsed])
    inverse = 1 / np.array([row.sampled.probability for row in rows])
    answered = np.array([row.truth is not None for row in rows])
    strata = []
    for i, name in enumerate(names):
        # Nights may be pooled; without counts the weights must do.
        nights = {(s.draw, s.lines, s.total) for s in parsed if s.name == name}
        lines = sum(count for _, count, _ in nights) or float(inverse[code == i].sum())
        mine = answered & (code == i)
        if mine.any():
            inverse[mine] *= lines / inverse[mine].sum()
        counts = {"rows": int((code == i).sum()), "answered": int(mine.sum())}
        strata.append(StratumCounts(stratum=name, lines=lines, **counts))
    return code[answered], inverse[answered], tuple(strata)


def _plan_order(name: str) -> tuple[int, str]:
    kind = name.partition(":")[0]
    return KINDS.index(kind) if kind in KINDS else len(KINDS), name


def _night_lines(rows: Sequence[Review]) -> int:
    nights = {(s.draw, s.total) for row in rows if (s := Stratum.parse(row.sampled.stratum))}
    return sum(total for _, total in nights)


def _columns(answered: Sequence[Review], label_ids: Sequence[str]) -> tuple[Flags, Ints, Array]:
    """Truth, decision and probability of each row and label, shape ``(n, n_labels)``."""
    for row in answered:
        line = row.sampled.line
        strange = {*(row.truth or ()), *line.suspected} - set(label_ids)
        if strange or len(line.probabilities) != len(label_ids):
            msg = (
                f"{line.file}, row {line.row}: scored or reviewed for other labels "
                f"({', '.join(sorted(strange)) or len(line.probabilities)}); "
                "estimate samples of one label set together"
            )
            raise DataError(msg)
    truth = [[label in (row.truth or ()) for label in label_ids] for row in answered]
    level = [[_LEVELS[row.sampled.line.outcome(x)] for x in label_ids] for row in answered]
    return (
        np.array(truth),
        np.array(level),
        np.array([row.sampled.line.probabilities for row in answered]),
    )


def labelled(reviews: Sequence[Review], *, night: str) -> list[LabelledMessage]:
    """Reviewed lines for calibration and training; doubtful and disputed ones are borderline.

    The random part is ``natural:``, the rest of the sample ``enriched:``. Lines of one
    conversation, or else of one template, are one group.
    """
    lines = []
    for review in merged(reviews)[0]:
        if review.verdict is None:
            continue
        line, truth = review.sampled.line, review.truth
        guess = review.sampled.shown if review.correction is None else review.correction
        part = "natural" if Stratum.parse(review.sampled.stratum).uniform else "enriched"
        lines.append(
            LabelledMessage(
                id=f"review-{night}-{line.key}",
                message=Message(line.text, line.context),
                labels=guess if truth is None else truth,
                status="borderline" if truth is None else "gold",
                group=line.conversation_id or template(line.text),
                origin=f"{part}:review-{night}",
                note=review.note,
            )
        )
    return lines
