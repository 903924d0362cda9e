"""All about one disputed line in one file: what was said, what was found, and on what rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cs_classifier.errors import DataError
from cs_classifier.reports.markdown import number
from cs_classifier.reports.output import pieces, render
from cs_classifier.reviews import NONE, VERDICTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cs_classifier.performance.hits import Hit
    from cs_classifier.reports.scorecard import Report
    from cs_classifier.reviews import Review
    from cs_classifier.scored import ScoredLine
    from cs_classifier.transcripts import Role

Spoken = tuple[str, "Role", str]  # time as written, role, text

_BEFORE, _AFTER = 20, 10  # messages shown around the line
_SPEAKERS: dict[Role, str] = {
    "agent": "agent_role",
    "customer": "customer",
    "bot": "bot",
    "system": "system",
}


class RuleText(NamedTuple):
    """A rule of the regex baseline, as people read it."""

    clause: str
    source: str


def to_html(  # noqa: PLR0913
    report: Report,
    key: str,
    *,
    lines: Sequence[ScoredLine],
    transcript: Sequence[Spoken] = (),
    rules: Mapping[str, RuleText] | None = None,
    thresholds: Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """The bundle for one line.

    Args:
        report: the scorecard's report, which says whether identifiers are masked.
        key: of the line, as the scorecard shows it.
        lines: all scored lines, shown around it where ``transcript`` is empty.
        transcript: every message of its conversation.
        rules: clause and source of each rule.
        thresholds: label to (review, violation) of the model that scored the line, if known.

    Raises:
        DataError: no hit has this key.
        MissingExtraError: jinja2 is not installed.
    """
    hits = [hit for hit in report.scorecard.hits if hit.line.key == key]
    if not hits:
        msg = f"no hit has the key '{key}'; the scorecard shows the key of every hit"
        raise DataError(msg)
    line = hits[0].line
    spoken = list(transcript) or _scored_around(line, lines)
    return render(
        "dispute.html.j2",
        words=report.words,
        language="zh-CN" if report.language == "zh" else "en",
        key=key,
        facts=_facts(report, line),
        pieces=pieces(line.text, [(e.start, e.end) for e in line.evidence], masked=report.masked),
        context=report.show(line.context),
        hits=[_hit(report, hit, thresholds) for hit in hits],
        turns=list(_turns(report, line, spoken)),
        complete=bool(transcript),
        rules=[
            (rule, report.label(rules[rule].clause), rules[rule].source)
            for rule in line.rules
            if rules and rule in rules
        ],
        reviews=[_review(report, review) for review in hits[0].reviews],
        masked=report.masked,
    )


def _facts(report: Report, line: ScoredLine) -> list[tuple[str, str]]:
    words = report.words
    values = {
        "key": line.key,
        "agent": line.agent_id,
        "shop": line.shop,
        "platform": line.platform,
        "conversation": line.conversation_id,
        "time": line.timestamp,
        "row": f"{line.file}:{line.row}",
        "model": line.model,
        "rules": report.scorecard.rules,
    }
    return [(words[name], value) for name, value in values.items() if value]


def _hit(
    report: Report, hit: Hit, thresholds: Mapping[str, tuple[float, float]] | None
) -> dict[str, Any]:
    words = report.words
    clause = report.label_set.clauses.get(hit.clause)
    bounds = (thresholds or {}).get(hit.label)
    return {
        "label": report.label(hit.label),
        "state": words[hit.state],
        "bad": hit.state == "confirmed",
        "appeal": words[hit.appeal] if hit.appeal else "",
        "clause": report.label(hit.clause),
        "clause_id": hit.clause,
        "definition": clause.definition if clause else "",
        "rule": clause.rule if clause else "",
        "source": clause.source if clause else "",
        "facts": [
            words["probability"].format(value=number(report.probability(hit), 4)),
            words["threshold"].format(violation=number(bounds[1], 4), review=number(bounds[0], 4))
            if bounds
            else words["no_threshold"],
            words["severity"].format(value=hit.severity),
            *report.flags(hit),
        ],
    }


def _scored_around(line: ScoredLine, lines: Iterable[ScoredLine]) -> list[Spoken]:
    """The scored lines of the conversation, each after what the customer said before it."""
    found: list[Spoken] = []
    heard = ""
    for other in lines:
        same = line.conversation_id and other.conversation_id == line.conversation_id
        if other.file != line.file or not (same or other.row == line.row):
            continue
        if other.context and other.context != heard:
            found.append(("", "customer", other.context))
        heard = other.context
        found.append((other.timestamp, "agent", other.text))
    return found


def _turns(report: Report, line: ScoredLine, spoken: Sequence[Spoken]) -> Iterable[dict[str, Any]]:
    spans = [(e.start, e.end) for e in line.evidence]
    same = [i for i, (_, _, text) in enumerate(spoken) if text.strip() == line.text.strip()]
    exact = [i for i in same if spoken[i][0] == line.timestamp]
    here = next(iter(exact or same), None)
    first = max(0, (here or 0) - _BEFORE)
    for i, (time, role, text) in enumerate(spoken[first : (here or 0) + _AFTER + 1], first):
        # Cells lose blanks at their ends here, so evidence only fits the line's own text.
        marked = pieces(line.text, spans, masked=report.masked)
        plain = [(report.show(text), False)]
        yield {
            "time": time,
            "who": report.words[_SPEAKERS[role]],
            "customer": role == "customer",
            "here": i == here,
            "pieces": marked if i == here else plain,
        }


def _review(report: Report, review: Review) -> list[str]:
    """Who, what, the corrected labels, appeal and note."""
    verdict = review.verdict or ""
    labels = review.correction
    return [
        review.annotator,
        VERDICTS[review.verdict] if review.verdict and report.language == "zh" else verdict,
        "" if labels is None else "、".join(map(report.label, labels)) or NONE,
        review.appeal,
        report.show(review.note),
    ]
