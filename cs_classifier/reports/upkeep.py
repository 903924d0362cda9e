"""The gate's report, suspected label errors and the rule ledger, for people and as files."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cs_classifier.errors import DataError
from cs_classifier.metrics import wilson
from cs_classifier.reports.markdown import MISSING, number, table
from cs_classifier.reports.masking import hide
from cs_classifier.reports.output import write_book, write_text
from cs_classifier.reports.upkeep_words import WORDS
from cs_classifier.reports.wording import label_name
from cs_classifier.upkeep.gate import MEASURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cs_classifier.labels import LabelSet
    from cs_classifier.reports.wording import Language
    from cs_classifier.upkeep.gate import Comparison, Finding, GateReport, LabelGate
    from cs_classifier.upkeep.label_errors import Doubt, Suspect
    from cs_classifier.upkeep.ledger import Ledger, RuleEntry

_NAMED = 3  # files that are named in the text; the JSON names all


def gate_text(report: GateReport, label_set: LabelSet, *, language: Language = "zh") -> str:
    """Verdict, reasons, and the figures of every label."""
    words = WORDS[language]
    header = [words[key] for key in ("label", "support", *MEASURES, "precision")]
    rows = [
        [
            label_name(label_set, row.label, language),
            row.support,
            *(_comparison(getattr(row, measure)) for measure in MEASURES),
            _share(row.hits, row.called),
        ]
        for row in report.labels
    ]
    parts = [
        f"# {words['title'].format(new=report.new, old=report.old)}",
        words["passed" if report.passed else "refused"],
        *_findings(words["why"], report.failures, report, label_set, language),
        words["counts"].format(
            lines=report.lines, groups=report.groups, clean=report.clean_lines, seen=report.seen
        ),
        table(header, rows),
        words["clean"].format(cell=_comparison(report.clean), n=report.clean_lines),
        *_findings(words["warnings"], report.warnings, report, label_set, language),
        words["note"].format(resamples=report.resamples, alpha=report.alpha),
    ]
    if report.unchecked:
        names = ", ".join(report.unchecked[:_NAMED]) + " …" * (len(report.unchecked) > _NAMED)
        parts.append(words["unchecked"].format(n=len(report.unchecked), names=names))
    return "\n\n".join(parts) + "\n"


def _findings(
    title: str,
    findings: Sequence[Finding],
    report: GateReport,
    label_set: LabelSet,
    language: Language,
) -> list[str]:
    lines = [f"- {_sentence(f, report, label_set, language)}" for f in findings]
    return ["\n".join([title, *lines])] if lines else []


def _sentence(finding: Finding, report: GateReport, label_set: LabelSet, language: Language) -> str:
    words = WORDS[language]
    rows = {row.label: row for row in report.labels}
    row: LabelGate | None = rows.get(finding.label)
    if row is None:  # of the whole model, or of a label that it lacks
        clean = report.clean
        key = "clean_worse" if finding.kind == "clean" else finding.kind
        return words[key].format(
            label=finding.label,
            cell=_comparison(clean),
            n=report.clean_lines,
            p=number(clean.p if clean else None, 4),
        )
    comparison: Comparison | None = getattr(row, finding.measure or "f1")
    return words[finding.kind].format(
        label=label_name(label_set, row.label, language),
        measure=words.get(finding.measure, ""),
        cell=_comparison(comparison),
        p=number(comparison.adjusted if comparison else None, 4),
        hits=row.hits,
        called=row.called,
        support=row.support,
        bound=number(row.precision_bound, 3),
        floor=report.floor,
        detectable=number(comparison.detectable if comparison else None),
    )


def _comparison(comparison: Comparison | None) -> str:
    if comparison is None:
        return MISSING
    c = comparison
    bounds = f"[{c.low:+.3f}, {c.high:+.3f}]"
    return f"{number(c.old, 3)} → {number(c.new, 3)} ({c.difference:+.3f} {bounds})"


def _share(part: int, whole: int) -> str:
    """A share with its Wilson interval.

    >>> _share(9, 10), _share(0, 0)
    ('9/10 [0.60, 0.98]', '–')
    """
    if not whole:
        return MISSING
    low, high = wilson(part, whole)
    return f"{part}/{whole} [{low:.2f}, {high:.2f}]"


def write_suspects(
    suspects: Sequence[Suspect], path: Path, label_set: LabelSet, *, language: Language = "zh"
) -> None:
    """Write the ranking as .xlsx for people or .jsonl for programs; identifiers are masked.

    Raises:
        DataError: another suffix, or the file cannot be written.
    """
    words = WORDS[language]
    if path.suffix == ".jsonl":
        write_text(path, "".join(_json_line(suspect) for suspect in suspects))
        return
    _require(path, ".xlsx", ".jsonl")
    keys = ("rank", "id", "context", "text", "given", "suggested", "quality", "reason")
    most = max((len(suspect.neighbours) for suspect in suspects), default=0)
    header = [words[key] for key in keys] + [f"{words['near']} {i + 1}" for i in range(most)]
    rows = [_suspect_row(i, s, label_set, language) for i, s in enumerate(suspects, 1)]
    write_book(path, [(words["suspects"], header, rows)])


def _suspect_row(
    rank: int, suspect: Suspect, label_set: LabelSet, language: Language
) -> list[object]:
    line = suspect.line
    return [
        rank,
        line.id,
        hide(line.message.context),
        hide(line.message.text),
        _names(line.labels, label_set, language),
        _names(suspect.suggested, label_set, language),
        round(suspect.quality, 3),
        reason(suspect.doubts, label_set, language),
        *(
            f"{hide(near.line.message.context)} → {hide(near.line.message.text)} "
            f"[{_names(near.line.labels, label_set, language)}] {near.similarity:.2f}"
            for near in suspect.neighbours
        ),
    ]


def reason(doubts: Iterable[Doubt], label_set: LabelSet, language: Language) -> str:
    """Why a line is suspected, in words."""
    words = WORDS[language]
    return "; ".join(
        words["is_given" if doubt.given else "not_given"].format(
            label=label_name(label_set, doubt.label, language), p=number(doubt.probability)
        )
        for doubt in doubts
    )


def _json_line(suspect: Suspect) -> str:
    line = suspect.line
    row = {
        "id": line.id,
        "context": hide(line.message.context),
        "text": hide(line.message.text),
        "labels": list(line.labels),
        "suggested": list(suspect.suggested),
        "quality": suspect.quality,
        "doubts": [asdict(doubt) for doubt in suspect.doubts],
        "neighbours": [
            {
                "id": near.line.id,
                "text": hide(near.line.message.text),
                "labels": list(near.line.labels),
                "similarity": near.similarity,
            }
            for near in suspect.neighbours
        ],
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


def _names(labels: Sequence[str], label_set: LabelSet, language: Language) -> str:
    names = [label_name(label_set, label, language) for label in labels]
    return " + ".join(names) or WORDS[language]["none"]


def ledger_text(ledger: Ledger, label_set: LabelSet, *, language: Language = "zh") -> str:
    """Rules that hit anything, what no rule catches, and suggested patterns."""
    words = WORDS[language]
    header, rows = _rule_table(ledger, language)
    hit = [row[:-2] for row, rule in zip(rows, ledger.rules, strict=True) if rule.statistics.hits]
    missed = [
        words["missed"].format(
            label=label_name(label_set, label, language),
            missed=count,
            total=total,
            share=_share(count, total),
        )
        for label, (count, total) in ledger.missed.items()
        if total
    ]
    parts = [
        f"# {words['rules']}",
        words["bars"].format(
            lines=ledger.lines, **ledger.config.model_dump(include={"keep", "retire", "reviewed"})
        ),
        table(header[:-2], hit),
        "\n".join(f"- {line}" for line in missed),
    ]
    if ledger.suggestions:
        parts += [f"{words['patterns']}:", table(*_pattern_table(ledger, label_set, language))]
    return "\n\n".join(parts) + "\n"


def write_ledger(
    ledger: Ledger, path: Path, label_set: LabelSet, *, language: Language = "zh"
) -> None:
    """Write the whole ledger as .xlsx or .json.

    Raises:
        DataError: another suffix, or the file cannot be written.
    """
    words = WORDS[language]
    if path.suffix == ".json":
        document = asdict(ledger) | {"config": ledger.config.model_dump()}
        write_text(path, json.dumps(_without_nan(document), ensure_ascii=False, indent=1) + "\n")
        return
    _require(path, ".xlsx", ".json")
    rules = (words["rules"], *_rule_table(ledger, language))
    patterns = (words["patterns"].partition("（")[0].partition(" (")[0],
                *_pattern_table(ledger, label_set, language))  # fmt: skip
    write_book(path, [rules, patterns])


def _rule_table(ledger: Ledger, language: Language) -> tuple[list[str], list[list[object]]]:
    words = WORDS[language]
    keys = ("rule", "target", "hits", "coverage", "overlap", "conflict", "rule_precision")
    header = [words[key] for key in (*keys, "verdict", "sources", "wrong")]
    return header, [_rule_row(rule, words) for rule in ledger.rules]


def _rule_row(entry: RuleEntry, words: dict[str, str]) -> list[object]:
    row = entry.statistics
    shares = [f"{share:.4f}" for share in (row.coverage, row.overlap, row.conflict)]
    if entry.verdict is None:
        return [row.rule, row.target, row.hits, *shares, MISSING, MISSING, "", ""]
    return [
        row.rule,
        row.target,
        row.hits,
        *shares,
        _share(row.correct, row.hits),
        words[entry.verdict],
        "; ".join(f"{s.origin or MISSING} {_share(s.correct, s.hits)}" for s in entry.sources),
        ", ".join(entry.wrong),
    ]


def _pattern_table(
    ledger: Ledger, label_set: LabelSet, language: Language
) -> tuple[list[str], list[list[object]]]:
    words = WORDS[language]
    keys = ("label", "pattern", "lines", "elsewhere", "z", "examples")
    rows: list[list[object]] = [
        [
            label_name(label_set, one.label, language),
            one.pattern,
            f"{one.lines}/{one.missed}",
            one.elsewhere,
            number(one.z, 1),
            ", ".join(one.examples),
        ]
        for one in ledger.suggestions
    ]
    return [words[key] for key in keys], rows


def _without_nan(value: Any) -> Any:  # noqa: ANN401
    """NaN, which JSON lacks, as null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if value != value else value  # noqa: PLR0124


def _require(path: Path, *suffixes: str) -> None:
    if path.suffix not in suffixes:
        msg = f"{path}: the name must end in {' or '.join(suffixes)}"
        raise DataError(msg)
