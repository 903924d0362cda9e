"""What the nightly report says: its sentences, and its sections as tables and charts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cs_classifier.errors import DataError
from cs_classifier.metrics import wilson
from cs_classifier.nightly import Share
from cs_classifier.reports.columns import Bar, chart
from cs_classifier.reports.markdown import MISSING, number
from cs_classifier.reports.masking import mask
from cs_classifier.reports.nightly_words import ESTIMATES, REASONS, STEPS, TEXTS
from cs_classifier.reports.wording import Language, clause_name, label_name
from cs_classifier.transcripts import NEEDS_MEDIA_REVIEW
from cs_classifier.trends import ANY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cs_classifier.decision import Decision
    from cs_classifier.labels import LabelSet
    from cs_classifier.nightly import Night, Spelling, Tally
    from cs_classifier.trends import Change, Record

MAX_ROWS = 50  # of a table on the page
MAX_NIGHTS = 14  # in the trend
LENGTH = 300  # characters of a line on the page


@dataclass(frozen=True)
class NightReport:
    """A night with everything that is shown beside it.

    ``history`` holds tonight too. ``decision`` are the thresholds of the model ``decision_of``.
    ``estimate`` and ``service`` are what the JSON files of those names hold.
    """

    night: Night
    label_set: LabelSet
    changes: tuple[Change, ...] = ()
    compared: int = 0  # nights before by the same model
    history: tuple[Record, ...] = ()
    decision: Decision | None = None
    decision_of: str = ""
    estimate: Mapping[str, Any] | None = None
    service: Sequence[Mapping[str, Any]] = ()
    repeated: str = ""  # date of another night with the same lines


def sentences(report: NightReport, language: Language) -> list[str]:
    """What a manager reads: three to five sentences, each with its denominators."""
    words, night = TEXTS[language], report.night
    media = sum(p.count for p in night.problems if p.reason == NEEDS_MEDIA_REVIEW)
    space = " " if language == "zh" else ": "
    scope = words["s_scope"].format(
        date=night.date and night.date + space,
        scored=night.total.lines,
        conversations=night.conversations,
        agents=night.agents,
        shops=len(night.shops),
        rows=night.rows,
        unscored=night.rows - night.total.lines,
        media=media,
    )
    found = night.total.violation
    low, high = map(_per_thousand, found.interval)
    rate = _per_thousand(found.count / found.total) if found.total else MISSING
    lines = [
        scope,
        words["s_found" if found.enough else "s_few"].format(
            count=found.count,
            total=found.total,
            rate=rate,
            low=low,
            high=high,
            reviews=night.total.reviews,
        ),
    ]
    first, *others = sorted(night.labels, key=lambda tally: -tally.violations)
    if first.violations and others:
        second = others[0]
        lines.append(
            words["s_top"].format(
                name=name_of(report, first.name, language),
                count=first.violations,
                total=first.lines,
                second=name_of(report, second.name, language),
                next=second.violations,
            )
        )
    if report.history:
        lines.append(_change_sentence(report, language))
    if night.templates:
        top = night.templates[0]
        lines.append(
            words["s_template"].format(count=top.suspected, hits=len(night.hits), agents=top.agents)
        )
    return lines


def _change_sentence(report: NightReport, language: Language) -> str:
    words = TEXTS[language]
    if not report.changes:
        return words["s_no_history"].format(nights=report.compared)

    def say(form: str, change: Change) -> str:
        return words[form].format(
            name=name_of(report, change.label, language),
            verdict=words[change.verdict],
            nights=change.nights,
            count=change.now.count,
            total=change.now.total,
            past=change.before.count,
            past_total=change.before.total,
        )

    unusual = [say("s_one_change", c) for c in report.changes if c.verdict != "usual"]
    if unusual:
        both = words["join"].join(unusual)
        return words["s_change"].format(nights=report.compared, changes=both)
    return say("s_usual", next(c for c in report.changes if c.label == ANY))


def name_of(report: NightReport, label: str, language: Language) -> str:
    """Name of a label; one that is not in the label set keeps its id."""
    if label in {ANY, "any"}:
        return TEXTS[language]["any"]
    known = label in report.label_set.ids
    return label_name(report.label_set, label, language) if known else label


def sections(report: NightReport, language: Language) -> list[dict[str, Any]]:
    """Title, notes, charts and a table of each section that has anything to show."""
    words, night = TEXTS[language], report.night
    tables = [
        _labels(report, language),
        _trend(report, language),
        _comparison(report, language),
        _section(words, "by_clause", *_tallies(report, night.clauses, "clause", language))
        | {"notes": [words["clause_note"]]},
        _section(words, "by_shop", *_tallies(report, night.shops, "shop", language)),
        _section(words, "by_platform", *_tallies(report, night.platforms, "platform", language)),
        _hours(report, language),
        _templates(report, language),
        _spellings(report, night.spellings, "spellings", language),
        _spellings(report, night.mixtures, "mixtures", language),
        _problems(report, language),
        _estimate(report, language),
        _service(report, language),
    ]
    return [table for table in tables if table["rows"]]


def _section(
    words: Mapping[str, str], name: str, head: Sequence[str], rows: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """One section; ``head`` and ``rows`` are keys of ``words`` and cells."""
    notes = []
    if len(rows) > MAX_ROWS:
        notes = [words["shown"].format(shown=MAX_ROWS, total=len(rows))]
    head = [words.get(key, key) for key in head]
    return {
        "title": words[name], "notes": notes, "charts": [], "head": head, "rows": rows[:MAX_ROWS],
    }  # fmt: skip


def _tallies(
    report: NightReport, tallies: Sequence[Tally], kind: str, language: Language
) -> tuple[list[str], list[list[str]]]:
    words = TEXTS[language]
    head = [kind, "lines", "violations", "violation_rate", "reviews", "review_rate"]
    rows = []
    for tally in tallies:
        name = clause_name(report.label_set, tally.name, language) if kind == "clause" else (
            name_of(report, tally.name, language) if kind == "label" else mask(tally.name)
        )  # fmt: skip
        cells = [f"{tally.lines:,}", f"{tally.violations:,}", _rate(tally.violation, words)]
        rows.append([name, *cells, f"{tally.reviews:,}", _rate(tally.review, words)])
    return head, rows


def _rate(share: Share, words: Mapping[str, str]) -> str:
    if not share.enough:
        return words["few"]
    low, high = share.interval
    return (
        f"{_per_thousand(share.count / share.total)} [{_per_thousand(low)}, {_per_thousand(high)}]"
    )


def _per_thousand(share: float) -> str:
    """One decimal, or two where one would hide a bound."""
    return number(1000 * share, 1 if 1000 * share >= 10 else 2)  # noqa: PLR2004


def _labels(report: NightReport, language: Language) -> dict[str, Any]:
    words, night = TEXTS[language], report.night
    head, rows = _tallies(report, night.labels, "label", language)
    if report.decision:
        head.append("thresholds")
        for row, at in zip(rows, report.decision.labels, strict=False):
            row.append(f"{at.review:.3f} / {at.violation:.3f}")
    bars = [(name_of(report, t.name, language), t.violation, "") for t in night.labels]
    return _section(words, "by_label", head, rows) | {
        "charts": [_chart(words["by_label"], bars, words)]
    }


def _hours(report: NightReport, language: Language) -> dict[str, Any]:
    words, night = TEXTS[language], report.night
    section = _section(words, "by_hour", *_tallies(report, night.hours, "hour", language))
    shares = {tally.name: tally.violation for tally in night.hours}
    bars = [(f"{h:02d}", shares.get(f"{h:02d}", Share(0, 0)), "") for h in range(24)]
    if night.untimed:
        section["notes"].append(words["untimed_note"].format(count=night.untimed))
    return section | {"charts": [_chart(words["by_hour"], bars, words, every=3)]}


def _trend(report: NightReport, language: Language) -> dict[str, Any]:
    """The last nights, as charts and in numbers."""
    words, shown = TEXTS[language], report.history[-MAX_NIGHTS:]
    labels = (ANY, *report.night.label_ids)
    names = [name_of(report, label, language) for label in labels]
    rows = [
        [past.date, f"{past.scored:,}", *(_rate(past.share(label), words) for label in labels)]
        for past in reversed(shown)
    ]
    every = max(1, math.ceil(len(shown) / 5))
    charts = []
    for label, name in zip(labels, names, strict=True):
        bars = [(p.date[5:], p.share(label), _night_class(report.night, p)) for p in shown]
        charts.append(_chart(name, bars, words, every=every))
    section = _section(words, "trend", ["night", "lines", *names], rows if len(rows) > 1 else [])
    return section | {"charts": charts, "notes": [words["trend_hint"]]}


def _comparison(report: NightReport, language: Language) -> dict[str, Any]:
    """Tonight against the nights before."""
    words = TEXTS[language]
    rows = [
        [
            name_of(report, change.label, language),
            *(
                f"{share.count:,}/{share.total:,} · {_rate(share, words)}"
                for share in (change.now, change.before)
            ),
            number(change.dispersion),
            f"{change.p_value:.2g}",
            words[change.verdict],
        ]
        for change in report.changes
    ]
    head = ["label", "now", "before", "dispersion", "p_value", "verdict"]
    return _section(words, "comparison", head, rows)


def _chart(
    title: str, bars: Sequence[Bar], words: Mapping[str, str], *, every: int = 1
) -> tuple[str, str]:
    """A chart under its title."""
    return title, chart(title, words["chart"].format(title=title), bars, every=every)


def _night_class(night: Night, past: Record) -> str:
    if past.date == night.date:
        return "tonight"
    return "" if past.models == night.models else "other"


def _templates(report: NightReport, language: Language) -> dict[str, Any]:
    words = TEXTS[language]
    rows = [
        [
            shorten(t.example),
            f"{t.suspected:,}",
            f"{t.sent:,}",
            f"{t.agents:,}",
            words["join"].join(name_of(report, label, language) for label in t.labels),
        ]
        for t in report.night.templates
    ]
    section = _section(
        words, "templates", ["example", "suspected", "sent", "agents", "label"], rows
    )
    return section | {"notes": [words["template_note"], *section["notes"]]}


def _spellings(
    report: NightReport, spellings: Sequence[Spelling], name: str, language: Language
) -> dict[str, Any]:
    words, mixed = TEXTS[language], name == "mixtures"
    rows = []
    for s in spellings:
        new = len(report.history) > 1 and s.first_seen == report.night.date
        seen = words["new"] if new else s.first_seen or MISSING
        middle = [f"{s.others:,}"] if mixed else [s.meaning, STEPS[language].get(s.step, s.step)]
        rows.append([s.surface, f"{s.suspected:,}", *middle, seen])
    middle = ["others"] if mixed else ["meaning", "step"]
    section = _section(words, name, ["surface", "suspected", *middle, "first_seen"], rows)
    note = words["mixture_note" if mixed else "spelling_note"]
    return section | {"notes": [note, *section["notes"]]}


def _problems(report: NightReport, language: Language) -> dict[str, Any]:
    words = TEXTS[language]
    rows = [
        [
            REASONS[language].get(p.reason, mask(p.reason)),
            f"{p.count:,}",
            words["was_scored" if p.scored else "not_scored"],
            words["join"].join(words["row"].format(file=f, row=row) for f, row in p.rows),
        ]
        for p in report.night.problems
    ]
    section = _section(words, "problems", ["reason", "rows", "kind", "where"], rows)
    return section | {"notes": [words["problem_note"], *section["notes"]]}


def _estimate(report: NightReport, language: Language) -> dict[str, Any]:
    """What ``estimate`` found: one column per value that has an interval."""
    words, names = TEXTS[language], ESTIMATES[language]
    data = report.estimate or {}
    overall = data.get("overall")
    labels = [
        *([overall] if isinstance(overall, dict) else []),
        *_entries(data.get("labels", []), "--estimate"),
    ]
    columns = [k for k in dict.fromkeys(k for entry in labels for k in entry) if k in names]
    rows = [
        [
            name_of(report, str(entry.get("label", "")), language),
            *(_value(entry.get(column)) for column in columns),
        ]
        for entry in labels
    ]
    head = ["label", *(names[column] for column in columns)]
    section = _section(words, "estimate", head, rows)
    if isinstance(reviewed := data.get("reviewed"), int):
        section["notes"].append(words["estimate_note"].format(reviewed=f"{reviewed:,}"))
    return section


def _value(value: object) -> str:
    """An estimate in percent, with its interval and denominator where they are given."""
    if not isinstance(value, dict) or not isinstance(value.get("low"), int | float):
        return MISSING
    low, high = (f"{100 * float(value[bound]):.2f}" for bound in ("low", "high"))
    point = value.get("value")
    text = f"{100 * float(point):.2f} % " if isinstance(point, int | float) else ""
    n = next((value[key] for key in ("reviewed", "denominator") if key in value), None)
    return f"{text}[{low}, {high}]" + (f" n={n:,}" if isinstance(n, int | float) else "")


def _service(report: NightReport, language: Language) -> dict[str, Any]:
    words = TEXTS[language]
    entries = _entries(report.service, "--service")
    entries.sort(key=lambda entry: entry.get("met") is not False)  # what failed first
    rows = []
    for entry in entries:
        met = entry.get("met")
        rows.append(
            [
                mask(" · ".join(str(entry[key]) for key in ("name", "day") if entry.get(key))),
                *(mask(str(entry.get(key) or MISSING)) for key in ("platform", "shop")),
                *_counted(entry.get("numerator"), entry.get("denominator")),
                str(entry.get("threshold") or MISSING),
                words["unknown" if met is None else "yes" if met else "no"],
            ]
        )
    head = ["check", "platform", "shop", "ratio", "rate", "threshold", "met"]
    return _section(words, "service", head, rows)


def _counted(count: object, total: object) -> tuple[str, str]:
    """Numerator over denominator, and the rate with its 95 % Wilson interval."""
    if not isinstance(count, int) or not isinstance(total, int) or not 0 <= count <= total > 0:
        return MISSING, MISSING
    low, high = wilson(count, total)
    rate = f"{100 * count / total:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{count:,}/{total:,}", rate


def _entries(value: object, option: str) -> list[dict[str, Any]]:
    if isinstance(value, list | tuple) and all(isinstance(entry, dict) for entry in value):
        return list(value)
    msg = f"{option}: no list of results; give the JSON that 'cs-classifier' wrote for this night"
    raise DataError(msg)


def shorten(text: str) -> str:
    """At most :data:`LENGTH` characters."""
    return text if len(text) <= LENGTH else text[: LENGTH - 1] + "…"
