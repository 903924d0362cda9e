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
        key: of the line, as the scorecard shows it or as in the file.
        lines: all scored lines, shown around it where ``transcript`` is empty.
        transcript: every message of its conversation.
        rules: clause and source of each rule.
        thresholds: label to (review, violation) of the model that scored the line, if known.

    Raises:
        DataError: no hit has this key, or those of several lines.
        MissingExtraError: jinja2 is not installed.
    """
    line = line_of(report, key)
    hits = [hit for hit in report.scorecard.hits if hit.line == line]
    spoken = list(transcript) or _scored_around(line, lines)
    here = _position(line, spoken)
    return render(
        "dispute.html.j2",
        words=report.words,
        language="zh-CN" if report.language == "zh" else "en",
        key=report.key(line),
        facts=_facts(report, line),
        pieces=pieces(line.text, [(e.start, e.end) for e in line.evidence], masked=report.masked),
        context=report.show(line.context),
        hits=[_hit(report, hit, thresholds) for hit in hits],
        turns=list(_turns(report, line, spoken, here)),
        located=here is not None,
        complete=bool(transcript),
        rules=[
            (rule, report.label(rules[rule].clause), rules[rule].source)
            for rule in line.rules
            if rules and rule in rules
        ],
        reviews=[_review(report, review) for review in hits[0].reviews],
        masked=report.masked,
    )


def line_of(report: Report, key: str) -> ScoredLine:
    """The line with a hit whose key, as shown or as in the file, is ``key``.

    Raises:
        DataError: there is none, or there are several.
    """
    lines = dict.fromkeys(hit.line for hit in report.scorecard.hits)
    found = [line for line in lines if key in {line.key, report.key(line)}]
    if len(found) == 1:
        return found[0]
    if found:
        msg = f"{len(found)} lines have the key '{key}'; give the key as it is in the file"
    else:
        msg = f"no hit has the key '{key}'; the scorecard shows the key of every hit"
    raise DataError(msg)


def _facts(report: Report, line: ScoredLine) -> list[tuple[str, str]]:
    words = report.words
    values = {
        "key": report.key(line),
        "agent": line.agent_id,
        "shop": line.shop,
        "platform": line.platform,
        "conversation": report.conversation(line),
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
        "clause": report.clause(hit),
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


def _position(line: ScoredLine, spoken: Sequence[Spoken]) -> int | None:
    """Where the line stands; ``None`` if it is not found, or if several could be it."""
    text, time = line.text.strip(), line.timestamp.strip()
    same = [i for i, turn in enumerate(spoken) if turn[1] == "agent" and turn[2].strip() == text]
    found = [i for i in same if spoken[i][0].strip() == time] or same
    return found[0] if len(found) == 1 else None


def _turns(
    report: Report, line: ScoredLine, spoken: Sequence[Spoken], here: int | None
) -> Iterable[dict[str, Any]]:
    """The turns around the line, which is marked; all of them if its place is not known."""
    spans = [(e.start, e.end) for e in line.evidence]
    first, last = (0, len(spoken)) if here is None else (max(0, here - _BEFORE), here + _AFTER + 1)
    for i, (time, role, text) in enumerate(spoken[first:last], first):
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
