"""A scorecard as a workbook: summary, hits, appeals by clause, and how the run was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cs_classifier.performance.hits import Hit
    from cs_classifier.performance.scorecard import Card
    from cs_classifier.reports.output import Sheet
    from cs_classifier.reports.scorecard import Report

_RATES = ("raw_rate", "shrunken_rate", "corrected_rate", "observed_expected")
_PER = (1000, 1000, 1000, 1)
_AFTER = (
    *("rank_low", "rank_high", "remark", "decided", "confirmed_lines", "appealed", "upheld"),
    *("points", "result"),
)
_HIT = (
    *("key", "conversation", "time", "platform", "shop", "agent", "context", "text", "label"),
    *("clause", "severity_name", "evidence", "value", "rule_hits", "flags", "outcome"),
    *("annotator", "note", "appeal", "row", "model"),
)
_APPEALS = ("clause", "hit_count", "appealed", "upheld", "pending")


def sheets(report: Report) -> Iterator[Sheet]:
    """Titles, headers and rows of all sheets."""
    words, card = report.words, report.scorecard
    head = [words[card.by], *(words[k] for k in ("shop", "team", "turns", "suspected_lines"))]
    for key in _RATES:
        head += [words[key], words["low"], words["high"]]
    head += [words[key] for key in _AFTER]
    yield words["summary"], head, (_member(report, member) for member in card.cards)
    yield words["hits_sheet"], [words[k] for k in _HIT], (_hit(report, hit) for hit in card.hits)
    appeals = [
        [report.label(name), a.confirmed, a.appealed, a.upheld, a.pending]
        for name, a in card.clauses.items()
    ]
    yield words["clauses"], [words[key] for key in _APPEALS], appeals
    run = [*report.facts(), *((words["notes"], note) for note in report.notes())]
    yield words["run"], [words["item"], words["content"]], run


def _member(report: Report, card: Card) -> list[object]:
    figures = card.figures
    row: list[object] = [*card.member, card.team, card.turns, card.suspected]
    rates = (figures.raw, figures.shrunken, figures.corrected, figures.case_mix)
    for rate, per in zip(rates, _PER, strict=True):
        values = (rate.value, rate.low, rate.high) if rate else ()
        row += [round(per * value, 3) for value in values] or [None] * 3
    remark = report.words["worse"] if figures.worse else ""
    return [
        *row,
        *(figures.rank or (None, None)),
        remark if figures.enough else report.few,
        card.reviewed.decided,
        card.reviewed.confirmed,
        card.appeals.appealed,
        card.appeals.upheld,
        card.score,
        report.words[card.verdict],
    ]


def _hit(report: Report, hit: Hit) -> list[object]:
    line, probability = hit.line, report.probability(hit)
    return [
        report.key(line),
        report.conversation(line),
        line.timestamp,
        line.platform,
        line.shop,
        line.agent_id,
        report.show(line.context),
        report.show(line.text),
        report.label(hit.label),
        report.clause(hit),
        hit.severity,
        " | ".join(report.evidence(hit)),
        None if probability is None else round(probability, 4),
        "|".join(line.rules),
        "、".join(report.flags(hit)),
        report.words[hit.state],
        "、".join(dict.fromkeys(r.annotator for r in hit.reviews if r.annotator)),
        report.show("；".join(r.note for r in hit.reviews if r.note)),
        report.words[hit.appeal] if hit.appeal else "",
        f"{line.file}:{line.row}",
        line.model,
    ]
