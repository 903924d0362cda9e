"""The evaluation report as text, JSON and one offline HTML page."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from cs_classifier.errors import ArtifactError, MissingExtraError
from cs_classifier.evaluation import (
    MODEL,
    TFIDF,
    Difference,
    Error,
    EvaluationReport,
    LabelScores,
    SystemScores,
)
from cs_classifier.reports import figures
from cs_classifier.reports.markdown import MISSING, interval, number, table
from cs_classifier.reports.masking import mask
from cs_classifier.reports.wording import (
    MACRO,
    SYSTEMS,
    TEXTS,
    Language,
    clause_name,
    comparable,
    label_name,
    sentence,
    verdict,
)

if TYPE_CHECKING:
    from pathlib import Path

    from cs_classifier.labels import LabelSet

MAX_ERRORS = 200  # shown on the page; the JSON holds all
_OPTIONAL = (
    "ece",
    "model_recall_at_baseline_precision",
    "baseline_recall",
    "groups_right",
)  # null is None there


def to_text(report: EvaluationReport, label_set: LabelSet, *, language: Language = "en") -> str:
    """Compact Markdown that also reads well in a terminal; clauses and errors are on the page."""
    words = TEXTS[language]
    parts = [
        f"# {words['title']}: {report.model}",
        f"{words['lines']}: {report.lines} · {words['groups']}: {report.groups} · "
        f"{words['borderline']}: {report.borderline}"
        + (f" · {words['files']}: {', '.join(report.files)}" if report.files else ""),
        _f1_table(report, label_set, language),
        _model_table(report, label_set, language),
    ]
    if report.differences:
        parts += [f"{words['differences']}:", _difference_table(report, label_set, language)]
    rates = [
        f"- {SYSTEMS[language][s.system]}: {interval(s.per_thousand_clean, 1)} "
        f"({s.clean_called}/{s.clean_lines})"
        for s in report.systems
    ]
    parts += [f"{words['clean']}:", "\n".join(rates)]
    if report.contrast_groups:
        parts += [
            words["contrast"].format(n=report.contrast_groups) + ":",
            "\n".join(f"- {name}: {right}" for name, right in _contrast_rows(report, language)),
        ]
    if report.origins:
        parts += [f"{words['origins']}:", table(*_origin_table(report, language))]
    notes = [words["interval_note"], *(words.get(note, note) for note in report.notes)]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes)]) + "\n"


def _f1_table(report: EvaluationReport, label_set: LabelSet, language: Language) -> str:
    words, systems = TEXTS[language], report.systems
    header = [
        f"{words['f1']} [95 %]",
        words["support"],
        *(SYSTEMS[language][s.system] for s in systems),
    ]
    rows = [
        [label_name(label_set, scores.label, language), scores.support]
        + [interval(system.labels[j].f1) for system in systems]
        for j, scores in enumerate(systems[0].labels)
    ]
    total = sum(scores.support for scores in systems[0].labels)
    return table(header, [*rows, [words["macro"], total, *(interval(s.macro_f1) for s in systems)]])


def _model_table(report: EvaluationReport, label_set: LabelSet, language: Language) -> str:
    words = TEXTS[language]
    header = [SYSTEMS[language][MODEL], *(words[k] for k in ("precision", "recall", "ap", "ece"))]
    return table(
        header,
        [
            [
                label_name(label_set, scores.label, language),
                interval(scores.precision),
                interval(scores.recall),
                number(scores.average_precision),
                number(scores.ece, 3),
            ]
            for scores in _system(report, MODEL).labels
        ],
    )


def _difference_table(report: EvaluationReport, label_set: LabelSet, language: Language) -> str:
    words = TEXTS[language]
    keys = ("label", "difference", "verdict", "baseline_recall", "recall_at")
    rows = _difference_rows(report, label_set, language)
    return table([words[key] for key in keys], rows)


def _difference_rows(
    report: EvaluationReport, label_set: LabelSet, language: Language
) -> list[list[str]]:
    """Label, difference, verdict, the baseline's recall, and ours at its precision."""
    return [
        [
            label_name(label_set, row.label, language),
            interval(row.f1),
            verdict(row, language) if comparable(report, row) else MISSING,
            number(row.baseline_recall),
            number(row.model_recall_at_baseline_precision),
        ]
        for row in report.differences
    ]


def _contrast_rows(report: EvaluationReport, language: Language) -> list[tuple[str, str]]:
    """Share of contrast groups that each system has entirely right."""
    return [
        (SYSTEMS[language][s.system], interval(s.groups_right))
        for s in report.systems
        if s.groups_right
    ]


def _origin_table(
    report: EvaluationReport, language: Language
) -> tuple[list[str], list[list[object]]]:
    """Header and rows: per origin the macro-F1 and the clean lines called, system by system."""
    words = TEXTS[language]
    names = [SYSTEMS[language][s.system] for s in report.systems]
    header = [words["origin"], words["lines"], *(f"{words['f1']} {name}" for name in names)]
    header += [f"{words['clean_called']} {name}" for name in names]
    return header, [
        [
            o.origin,
            o.lines,
            *(number(value) for value in o.macro_f1),
            *(f"{called}/{o.clean_lines}" for called in o.clean_called),
        ]
        for o in report.origins
    ]


def _system(report: EvaluationReport, key: str) -> SystemScores:
    return next(system for system in report.systems if system.system == key)


def to_json(report: EvaluationReport) -> dict[str, Any]:
    """Values for strict JSON: NaN becomes null, and the lines of the error list are masked."""
    data = report.model_dump(mode="json")
    for error in data["errors"]:
        error.update(context=mask(error["context"]), text=mask(error["text"]))
    return dict(_replace_nan(data))


def _replace_nan(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _replace_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(data: dict[str, Any]) -> EvaluationReport:
    """Read back what :func:`to_json` gave."""
    return EvaluationReport.model_validate(_restore_nan(data))


def _restore_nan(value: Any, key: str = "") -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {name: _restore_nan(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_restore_nan(item) for item in value]
    return math.nan if value is None and key not in _OPTIONAL else value


def write(
    report: EvaluationReport, label_set: LabelSet, folder: Path, language: Language = "zh"
) -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.json`` into ``folder``; return their paths.

    Raises:
        ArtifactError: the folder cannot be written.
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    page = to_html(report, label_set, language=language)
    text = json.dumps(to_json(report), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    paths = folder / "report.html", folder / "report.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in zip(paths, (page, text), strict=True):
            path.write_text(content, encoding="utf-8")
    except OSError as error:
        msg = f"cannot write the report to {folder}: {error.strerror}"
        raise ArtifactError(msg) from error
    return paths


def to_html(report: EvaluationReport, label_set: LabelSet, *, language: Language = "zh") -> str:
    """One page that needs nothing else: styles and plots are inside, nothing is fetched.

    Raises:
        MissingExtraError: matplotlib or jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise MissingExtraError(figures.EXTRA, "jinja2") from None
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cs_classifier.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = [label_name(label_set, label, language) for label in (*label_set.ids, MACRO)]
    return environment.get_template("evaluation.html.j2").render(
        report=report,
        words=TEXTS[language],
        language="zh-CN" if language == "zh" else "en",
        systems=[(s.system.replace("+", "-"), SYSTEMS[language][s.system]) for s in report.systems],
        sentences=_sentences(report, label_set, language),
        labels=_label_rows(report, label_set, language),
        differences=_difference_rows(report, label_set, language),
        forest=Markup(figures.f1_by_system(report, names)),
        reliability=[Markup(p) for p in _plots(report, names)],
        clauses=_clause_rows(report, label_set, language),
        clean=[
            (SYSTEMS[language][s.system], interval(s.per_thousand_clean, 1), s.clean_called)
            for s in report.systems
        ],
        contrast=_contrast_rows(report, language),
        origins=_origin_table(report, language) if report.origins else None,
        errors=_error_lists(report, label_set, language),
        notes=[TEXTS[language].get(note, note) for note in report.notes],
    )


def _sentences(
    report: EvaluationReport, label_set: LabelSet, language: Language
) -> list[tuple[str, list[tuple[bool, str]]]]:
    """Per label, macro first: (whether the model beats it, sentence) for every baseline."""
    by_label: dict[str, list[Difference]] = {MACRO: [], **{label: [] for label in label_set.ids}}
    for row in report.differences:
        if comparable(report, row):
            by_label[row.label].append(row)
    return [
        (label_name(label_set, label, language), [(r.beats, sentence(r, language)) for r in rows])
        for label, rows in by_label.items()
        if rows
    ]


def _label_rows(
    report: EvaluationReport, label_set: LabelSet, language: Language
) -> list[tuple[str, int, list[list[str]]]]:
    """Per label: name, support, and the cells of each system."""
    rows = []
    for j, label in enumerate(label_set.ids):
        cells = [
            [SYSTEMS[language][system.system], *_cells(system.labels[j])]
            for system in report.systems
        ]
        support = report.systems[0].labels[j].support
        rows.append((label_name(label_set, label, language), support, cells))
    macro = [
        [SYSTEMS[language][system.system], interval(system.macro_f1), "", "", "", "", ""]
        for system in report.systems
    ]
    total = sum(scores.support for scores in report.systems[0].labels)
    return [*rows, (TEXTS[language]["macro"], total, macro)]


def _cells(scores: LabelScores) -> list[str]:
    return [
        interval(scores.f1),
        interval(scores.precision),
        interval(scores.recall),
        str(scores.called),
        number(scores.average_precision),
        number(scores.ece, 3),
    ]


def _plots(report: EvaluationReport, names: list[str]) -> list[str]:
    """One reliability plot per label, of the systems that give probabilities."""
    shown = [s for s in report.systems if s.system in {MODEL, TFIDF}]
    return [
        figures.reliability(
            [(s.system, s.labels[j]) for s in shown], names[j], salt=f"reliability-{j}"
        )
        for j in range(len(names) - 1)
    ]


def _clause_rows(
    report: EvaluationReport, label_set: LabelSet, language: Language
) -> list[dict[str, Any]]:
    """Clauses with at least one line: recall and false alarms of each system."""
    rows = []
    for i, clause in enumerate(report.systems[0].clauses):
        if not clause.support + clause.near:
            continue
        label = label_set.clauses[clause.clause].label
        scores = [system.clauses[i] for system in report.systems]
        rows.append(
            {
                "label": label_name(label_set, label, language),
                "name": clause_name(label_set, clause.clause, language),
                "support": clause.support,
                "recall": [number(s.recall) for s in scores],
                "false": [f"{s.false_alarms}/{s.near}" if s.near else MISSING for s in scores],
            }
        )
    return rows


def _error_lists(
    report: EvaluationReport, label_set: LabelSet, language: Language
) -> list[dict[str, Any]]:
    """Missed and false calls apart; together at most ``MAX_ERRORS``."""
    kinds = {k: [e for e in report.errors if e.kind == k] for k in ("missed", "false")}
    half, lists = MAX_ERRORS // 2, []
    for kind, other in (("missed", "false"), ("false", "missed")):
        shown = kinds[kind][: max(half, MAX_ERRORS - len(kinds[other]))]
        rows = [_error_row(error, label_set, language) for error in shown]
        lists.append({"kind": kind, "total": len(kinds[kind]), "rows": rows})
    return lists


def _error_row(error: Error, label_set: LabelSet, language: Language) -> dict[str, str]:
    return {
        "label": label_name(label_set, error.label, language),
        "id": error.id,
        "context": mask(error.context),
        "text": mask(error.text),
        "probability": number(error.probability, 3),
        "outcome": TEXTS[language][error.outcome],
        "clause": clause_name(label_set, error.clause, language),
    }
