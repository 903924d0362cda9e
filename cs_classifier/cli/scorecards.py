"""``scorecard`` and ``service``."""

from __future__ import annotations

import json
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from cs_classifier.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cs_classifier.performance.penalties import ScoreRules
    from cs_classifier.reports.scorecard import Report
    from cs_classifier.scored import ScoredFile
    from cs_classifier.transcripts import ColumnMap

Columns = Annotated[
    str | None,
    typer.Option(
        help="Names of your columns: 'text=内容,agent_id=客服昵称', a YAML file, "
        "or a shipped mapping: qianniu, qiyu, pdd, generic_zh."
    ),
]
Model = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="Model folder, for its thresholds. Default: the shipped."),
]
Language = Annotated[
    Literal["zh", "en"], typer.Option("--language", "-l", help="Language: zh or en.")
]


def scorecard(
    inputs: Annotated[
        list[Path], typer.Argument(help="Files that 'predict' wrote.", metavar="SCORED...")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help=".html, .xlsx or .json; the suffix decides.")
    ],
    reviewed: Annotated[
        list[Path] | None,
        typer.Option(help="Review files that came back, of this night and of earlier ones."),
    ] = None,
    measured: Annotated[
        Path | None, typer.Option(help="JSON that 'estimate -o' wrote: corrects for model errors.")
    ] = None,
    by: Annotated[
        Literal["agent", "shop", "team", "shift"], typer.Option(help="Whom the cards are about.")
    ] = "agent",
    config: Annotated[
        Path | None, typer.Option(help="Scoring rules. Default: the shipped scorecard.yaml.")
    ] = None,
    columns: Columns = None,
    transcript: Annotated[
        list[Path] | None,
        typer.Option(help="Transcripts, to show the conversation in a dispute bundle."),
    ] = None,
    dispute: Annotated[
        str | None,
        typer.Option(
            help="Instead of scorecards, write all about one line (.html), for an appeal: the key "
            "that the scorecard shows beside each hit.",
            metavar="KEY",
        ),
    ] = None,
    model: Model = None,
    language: Language = "zh",
    no_mask: Annotated[
        bool, typer.Option("--no-mask", help="Show phone numbers, accounts and addresses.")
    ] = False,
) -> None:
    """Make scorecards: suspected and confirmed violations with intervals and evidence.

    Nothing is confirmed without review files. Counts that are too small get no rank.
    """
    from cs_classifier import scored
    from cs_classifier.config import load_config
    from cs_classifier.labels import load_labels
    from cs_classifier.performance import scorecard as scorecards
    from cs_classifier.performance.penalties import ScoreRules
    from cs_classifier.reports.output import read_json
    from cs_classifier.reports.scorecard import Report
    from cs_classifier.resources import find
    from cs_classifier.transcripts import ColumnMap

    _check_output(output, dispute)
    mapping = ColumnMap.parse(columns)
    rules = load_config(ScoreRules, config or find("configs/scorecard.yaml"))
    label_set = load_labels()
    lines = scored.read(inputs, columns=mapping)
    if reviewed:
        from cs_classifier.reports.workbook import read_reviews

        reviews = read_reviews(reviewed, label_set=label_set)
    else:
        reviews = []
    result = scorecards.build(
        lines,
        label_set=label_set,
        rules=rules,
        by=by,
        reviews=reviews,
        measured=scorecards.parse_measured(read_json(measured, "estimate")) if measured else None,
        insult=_insult(rules),
    )
    report = Report(result, label_set=label_set, rules=rules, language=language, masked=not no_mask)
    if dispute is None:
        report.write(output)
    else:
        _write_bundle(report, dispute, output, lines, transcript or [], mapping, model)
    console = Console(stderr=True)
    if no_mask:
        console.print(f"Note: {escape(str(output))} is not masked; limit who sees it.")
    worse = sum(card.figures.worse for card in result.cards)
    console.print(
        f"{len(result.cards)} cards, {len(result.hits)} hits, {worse} clearly above their team, "
        f"rules {result.rules} → {escape(str(output))}",
        highlight=False,
        soft_wrap=True,
    )


def service(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Transcripts with roles and times.", metavar="TRANSCRIPT..."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help=".json, .xlsx or .html; the suffix decides.")
    ],
    config: Annotated[
        Path | None, typer.Option(help="The checks. Default: the shipped service.yaml.")
    ] = None,
    columns: Columns = None,
    language: Language = "zh",
) -> None:
    """Check reply rates, first responses, night contact, repetition and silence after 稍等.

    These come from times and roles alone; the model has no part in them.
    """
    from cs_classifier import tables
    from cs_classifier.config import load_config
    from cs_classifier.performance import dialogues
    from cs_classifier.performance import service as checks
    from cs_classifier.reports import service as reports
    from cs_classifier.resources import find
    from cs_classifier.transcripts import ColumnMap

    mapping = ColumnMap.parse(columns)
    rules = load_config(checks.ServiceRules, config or find("configs/service.yaml"))
    transcript = dialogues.collect(
        chain.from_iterable(map(tables.read, inputs)),
        columns=mapping,
        queued=rules.queued,
        accepted=rules.accepted,
    )
    if not transcript.dialogues:
        msg = (
            f"{', '.join(map(str, inputs))}: no conversation with roles and times; say where they "
            "stand with --columns role=NAME,timestamp=NAME,conversation_id=NAME"
        )
        raise DataError(msg)
    report = checks.check(transcript, rules, files=[path.name for path in inputs])
    reports.write(report, output, language=language)
    missed = sum(result.met is False for result in report.results)
    Console(stderr=True).print(
        f"{report.dialogues} conversations, {len(report.results)} results, {missed} below their "
        f"threshold; left out: {report.untimed} conversations without times, "
        f"{report.unplaced} rows → {escape(str(output))}",
        highlight=False,
        soft_wrap=True,
    )


def _check_output(output: Path, dispute: str | None) -> None:
    from cs_classifier.reports.scorecard import SUFFIXES

    allowed = SUFFIXES if dispute is None else (".html",)
    if output.suffix.lower() not in allowed:
        msg = f"end it in {' or '.join(allowed)}"
        raise typer.BadParameter(msg, param_hint="--output")


def _insult(rules: ScoreRules) -> Callable[[str], bool] | None:
    """Whether a rule of one of the provoking clauses matches; texts repeat, so it remembers."""
    if not rules.provoked_clauses:
        return None
    from cs_classifier.records import Message
    from cs_classifier.rules import load_rules

    loaded, clauses = load_rules(), set(rules.provoked_clauses)

    @cache
    def insults(text: str) -> bool:
        return any(hit.clause in clauses for hit in loaded.match_message(Message(text)))

    return insults


def _write_bundle(
    report: Report,
    key: str,
    output: Path,
    lines: ScoredFile,
    transcripts: list[Path],
    mapping: ColumnMap,
    model: Path | None,
) -> None:
    from cs_classifier import tables
    from cs_classifier.performance import dialogues
    from cs_classifier.reports import dispute
    from cs_classifier.reports.output import write_text
    from cs_classifier.rules import load_rules

    own = dispute.line_of(report, key)
    spoken = []
    if own.conversation_id:
        rows = chain.from_iterable(map(tables.read, transcripts))
        spoken = dialogues.said(rows, own.conversation_id, columns=mapping)
    page = dispute.to_html(
        report,
        key,
        lines=lines.lines,
        transcript=spoken,
        rules={rule.id: dispute.RuleText(rule.clause, rule.source) for rule in load_rules().rules},
        thresholds=_thresholds(model, own.model),
    )
    write_text(output, page)


def _thresholds(folder: Path | None, model_id: str) -> dict[str, tuple[float, float]] | None:
    """Thresholds by label from the model folder, if that is the model that scored the line."""
    from cs_classifier.decision import Decision
    from cs_classifier.errors import ConfigError
    from cs_classifier.resources import find

    try:
        folder = folder or find("models/default")
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        text = (folder / "decision.json").read_text(encoding="utf-8")
        decision = Decision.model_validate_json(text)
        names = manifest["labels"] if manifest["id"] == model_id else []
    except (ConfigError, OSError, ValueError, KeyError):
        return None
    return {
        name: (at.review, at.violation) for name, at in zip(names, decision.labels, strict=False)
    }
