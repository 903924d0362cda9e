"""The nightly report as JSON and one offline HTML page; identifiers are always masked."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from cs_classifier.nightly import top_probability
from cs_classifier.reports.markdown import number
from cs_classifier.reports.masking import hide, mask, shown_key
from cs_classifier.reports.nightly_sections import (
    LENGTH,
    NightReport,
    name_of,
    sections,
    sentences,
    shorten,
)
from cs_classifier.reports.nightly_words import TEXTS
from cs_classifier.reports.output import Piece, pieces, render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cs_classifier.nightly import Tally
    from cs_classifier.reports.wording import Language
    from cs_classifier.scored import ScoredLine

MAX_HITS = 500  # on the page; the JSON names all
MAX_ALIKE = 3  # of them that differ in digits only


def marked(line: ScoredLine, labels: Sequence[str]) -> list[Piece]:
    """The masked line in pieces, and whether each is evidence of one of ``labels``."""
    spans = [(e.start, e.end) for e in line.evidence if e.label in labels]
    return pieces(line.text, spans, masked=True)


def to_json(report: NightReport) -> dict[str, Any]:
    """Everything but the lines themselves; of these the keys, all of them."""
    night = report.night
    data = asdict(replace(night, hits=()))
    for name in ("labels", "clauses", "shops", "platforms", "hours"):
        data[name] = [_tally_json(tally) for tally in getattr(night, name)]
    data["total"] = _tally_json(night.total)
    data["problems"] = [asdict(p) | {"reason": mask(p.reason)} for p in night.problems]
    data["hits"] = [
        {
            "key": shown_key(line.key, line.conversation_id),
            "file": line.file,
            "row": line.row,
            "labels": list(line.labels),
            "review": list(line.review),
            "probability": top_probability(line, night.label_ids),
        }
        for line in night.hits
    ]
    data["changes"] = [asdict(change) for change in report.changes]
    data["history"] = [past.model_dump(mode="json") for past in report.history]
    data["estimate"], data["service"] = report.estimate, list(report.service)
    data["thresholds"] = report.decision.model_dump(mode="json") if report.decision else None
    data["summary"] = {language: sentences(report, language) for language in TEXTS}
    return data


def _tally_json(tally: Tally) -> dict[str, Any]:
    low, high = tally.violation.interval
    rate = tally.violations / tally.lines if tally.lines else None
    rates = {"rate": rate, "low": low, "high": high, "enough": tally.violation.enough}
    return {**asdict(tally), "name": mask(tally.name), **rates}


def to_html(report: NightReport, *, language: Language = "zh") -> str:
    """One page that needs nothing else; it sorts and filters if scripts may run.

    Raises:
        MissingExtraError: jinja2 is not installed.
        DataError: the estimate or the service checks are not what those commands write.
    """
    return render(
        "nightly.html.j2",
        night=report.night,
        words=TEXTS[language],
        language="zh-CN" if language == "zh" else "en",
        sentences=sentences(report, language),
        warnings=_warnings(report, TEXTS[language]),
        max_alike=MAX_ALIKE,
        trend=bool(report.history),
        sections=sections(report, language),
        hits=[_hit(report, line, language) for line in _shown(report.night.hits)],
    )


def _warnings(report: NightReport, words: Mapping[str, str]) -> list[str]:
    found = []
    if report.repeated:
        found.append(words["repeated"].format(date=report.repeated))
    if report.decision and report.decision_of not in report.night.models:
        found.append(words["other_model"].format(model=report.decision_of))
    return found


def _shown(hits: Sequence[ScoredLine]) -> list[ScoredLine]:
    """The first hits, without those that repeat a wording again and again."""
    alike: Counter[str] = Counter()
    shown: list[ScoredLine] = []
    for line in hits:
        wording = re.sub(r"\d+", "#", line.text)
        alike[wording] += 1
        if alike[wording] <= MAX_ALIKE and len(shown) < MAX_HITS:
            shown.append(line)
    return shown


def _hit(report: NightReport, line: ScoredLine, language: Language) -> dict[str, Any]:
    words = TEXTS[language]
    return {
        "labels": [name_of(report, label, language) for label in line.suspected],
        "outcome": words["violation" if line.labels else "review"],
        "violation": bool(line.labels),
        "probability": number(top_probability(line, report.night.label_ids), 3),
        "context": shorten(hide(line.context)),
        "pieces": _shorten(marked(line, line.suspected)),
        **{key: mask(getattr(line, key)) for key in ("shop", "platform", "agent_id")},
        "time": line.timestamp,
        "key": shown_key(line.key, line.conversation_id),
    }


def _shorten(pieces: Sequence[Piece]) -> list[Piece]:
    left, kept = LENGTH, []
    for text, evidence in pieces:
        if left > 0:
            kept.append((text if len(text) <= left else text[:left] + "…", evidence))
        left -= len(text)
    return kept


def dump(report: NightReport) -> str:
    """:func:`to_json` as strict JSON text."""
    return json.dumps(to_json(report), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
