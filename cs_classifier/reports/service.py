"""Service checks as one offline HTML page, a workbook, or JSON; conversations by short hashes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cs_classifier.errors import DataError
from cs_classifier.performance.clock import spelled
from cs_classifier.reports.markdown import MISSING, number
from cs_classifier.reports.masking import pseudonym
from cs_classifier.reports.output import render, write_book, write_text
from cs_classifier.reports.scorecard_words import WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cs_classifier.performance.service import Check, Result, ServiceReport
    from cs_classifier.reports.output import Sheet
    from cs_classifier.reports.wording import Language

SUFFIXES = (".json", ".xlsx", ".html")
SHOWN = 5  # conversations on the page; the other formats hold all


def write(report: ServiceReport, path: Path, *, language: Language = "zh") -> None:
    """Write by suffix; the file appears whole or not at all.

    Raises:
        DataError: another suffix, or the file cannot be written.
        MissingExtraError: jinja2 is not installed.
    """
    suffix = path.suffix.lower()
    if suffix == ".html":
        write_text(path, to_html(report, language=language))
    elif suffix == ".json":
        data = to_json(report, language=language)
        write_text(path, json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    elif suffix == ".xlsx":
        write_book(path, sheets(report, language=language))
    else:
        msg = f"{path}: service checks are written as {', '.join(SUFFIXES)}"
        raise DataError(msg)


def to_json(report: ServiceReport, *, language: Language = "zh") -> dict[str, Any]:
    """One entry per result: those of shops under ``checks``, those of agents under ``agents``."""
    rules = {rule.name: rule for rule in report.rules.checks}
    entries: dict[str, list[dict[str, Any]]] = {"shop": [], "agent": []}
    for result in report.results:
        rule = rules[result.check]
        entries[result.scope].append(
            {
                "name": _name(rule, result, language),
                "check": result.check,
                "variant": result.variant,
                "platform": result.platform,
                "shop": result.shop,
                "agent": result.agent,
                "day": result.day,
                "numerator": result.numerator,
                "denominator": result.denominator,
                "rate": result.rate,
                "interval": list(result.interval) if result.interval else None,
                "threshold": rule.threshold,
                "met": result.met,
                "undecided": result.undecided,
                "median_seconds": result.median,
                "p90_seconds": result.ninetieth,
                "remarks": result.remarks,
                "offending": list(map(pseudonym, result.offending)),
            }
        )
    return {
        "rules": report.rules.identity,
        "files": ", ".join(report.files),
        "rows": report.rows,
        "conversations": report.dialogues,
        "untimed_conversations": report.untimed,
        "unplaced_rows": report.unplaced,
        "definitions": {rule.name: _definition(rule, language) for rule in report.rules.checks},
        "agents": {"checks": entries["agent"]},
        "checks": entries["shop"],
    }


def _name(rule: Check, result: Result, language: Language) -> str:
    """The check's title, and that bots are left out."""
    title: str = getattr(rule.title, language)
    human = WORDS[language]["human_only"]
    return f"{title} · {human}" if result.variant == "human" else title


def _definition(rule: Check, language: Language) -> dict[str, str]:
    words = WORDS[language]
    return {
        "title": getattr(rule.title, language),
        "platform": ", ".join(rule.platforms) or words["all"],
        "window": spelled(rule.window),
        "formula": getattr(rule.formula, language),
        "threshold": MISSING if rule.threshold is None else _threshold(rule),
        "source": rule.source,
    }


def _threshold(rule: Check) -> str:
    sign = "≥" if rule.counts_good else "≤"
    return f"{sign} {number(100 * (rule.threshold or 0), 0)} %"


_HEAD = ("check", "platform", "shop", "agent", "day", "numerator", "denominator", "percentage")
_TAIL = ("threshold_name", "met", "undecided", "waits", "offending")


def _cells(report: ServiceReport, result: Result, language: Language) -> list[object]:
    """What a row shows, without the conversations."""
    words = WORDS[language]
    rule = next(rule for rule in report.rules.checks if rule.name == result.check)
    met = words["not_judged"] if result.met is None else words["yes" if result.met else "no"]
    waits = MISSING
    if result.median is not None:
        waits = f"{number(result.median, 0)} / {number(result.ninetieth, 0)}"
    return [
        _name(rule, result, language),
        result.platform,
        result.shop,
        result.agent,
        result.day,
        result.numerator,
        result.denominator,
        _percentage(result),
        MISSING if rule.threshold is None else _threshold(rule),
        met,
        result.undecided,
        waits,
    ]


def _percentage(result: Result) -> str:
    if result.rate is None or result.interval is None:
        return MISSING
    low, high = (number(100 * bound, 1) for bound in result.interval)
    return f"{number(100 * result.rate, 1)} % [{low}, {high}]"


def _conversations(result: Result, language: Language, limit: int | None = None) -> str:
    words = WORDS[language]
    shown = list(map(pseudonym, result.offending[:limit]))
    if left := len(result.offending) - len(shown):
        shown.append(words["more"].format(count=left))
    remarks = [f"{words.get(name, name)} {count}" for name, count in result.remarks.items()]
    return ", ".join([*shown, *remarks])


def _facts(report: ServiceReport, language: Language) -> list[tuple[str, str]]:
    words = WORDS[language]
    return [
        (words["files"], ", ".join(report.files)),
        (words["rules_version"], report.rules.identity),
        (words["rows"], f"{report.rows:,}"),
        (words["dialogues"], f"{report.dialogues:,}"),
        (words["untimed"], f"{report.untimed:,}"),
        (words["unplaced"], f"{report.unplaced:,}"),
    ]


def sheets(report: ServiceReport, *, language: Language = "zh") -> Iterator[Sheet]:
    """Results, definitions, and what they rest on."""
    words = WORDS[language]
    rows = (
        [*_cells(report, result, language), _conversations(result, language)]
        for result in report.results
    )
    yield words["service_title"], [words[key] for key in (*_HEAD, *_TAIL)], rows
    keys = ("check", "platform", "window", "formula", "threshold_name", "source")
    definitions = [list(_definition(rule, language).values()) for rule in report.rules.checks]
    yield words["formula"], [words[key] for key in keys], definitions
    yield words["run"], [words["item"], words["content"]], _facts(report, language)


def to_html(report: ServiceReport, *, language: Language = "zh") -> str:
    """One page that needs nothing else.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    words = WORDS[language]
    head = [words[key] for key in (*_HEAD, *_TAIL)]
    tables = []
    for scope, empty in (("shop", "agent"), ("agent", "day")):
        shown = [i for i, key in enumerate((*_HEAD, *_TAIL)) if key != empty]
        rows = []
        for result in (r for r in report.results if r.scope == scope):
            cells = [*_cells(report, result, language), _conversations(result, language, SHOWN)]
            rows.append(([cells[i] for i in shown], result.met is False))
        tables.append((words[f"by_{scope}"], [head[i] for i in shown], rows))
    return render(
        "service.html.j2",
        words=words,
        language="zh-CN" if language == "zh" else "en",
        facts=_facts(report, language),
        tables=tables,
        definitions=[_definition(rule, language) for rule in report.rules.checks],
    )
