"""``report``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from cs_classifier.errors import ArtifactError, DataError

if TYPE_CHECKING:
    from cs_classifier.decision import Decision
    from cs_classifier.trends import Record


def _always_masked(value: bool) -> bool:
    if value:
        msg = "reports are always masked; the review workbook holds the lines as they are"
        raise typer.BadParameter(msg)
    return value


# The types stand here, where they are needed when the module is loaded.
Inputs = Annotated[list[Path], typer.Argument(help="Files 'predict' wrote.", metavar="SCORED...")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The page, one HTML file.")]
Json = Annotated[Path | None, typer.Option("--json", help="The same and more as JSON.")]
Date = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d"], help="Of the night. Default: the commonest in the lines' times."
    ),
]
History = Annotated[
    Path | None,
    typer.Option(
        help="JSONL file with one line per night, for trends; tonight's line is added, or "
        "replaced if the night is reported again."
    ),
]
Estimate = Annotated[Path | None, typer.Option(help="JSON that 'estimate' wrote for this night.")]
Service = Annotated[Path | None, typer.Option(help="JSON that 'service' wrote for this night.")]
Model = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="Model folder that scored; shows its thresholds."),
]


def report(
    inputs: Inputs,
    output: Output,
    json_file: Json = None,
    date: Date = None,
    history: History = None,
    estimate: Estimate = None,
    service: Service = None,
    model: Model = None,
    columns: Annotated[
        str | None, typer.Option(help="The mapping that was given to 'predict'.")
    ] = None,
    language: Annotated[
        Literal["zh", "en"], typer.Option("--language", "-l", help="zh or en.")
    ] = "zh",
    no_mask: Annotated[
        bool, typer.Option("--no-mask", hidden=True, callback=_always_masked)
    ] = False,
) -> None:
    """Report on one night: what was scored and suspected, where, and how it changed.

    One offline HTML page that sorts and filters; telephone numbers, accounts and the like are
    masked. Everything is a suspicion until a person confirms it.
    """
    from cs_classifier import nightly, scored, trends
    from cs_classifier.labels import load_labels
    from cs_classifier.reports import nightly as page
    from cs_classifier.reports import nightly_sections
    from cs_classifier.reports.masking import hide
    from cs_classifier.reports.output import write_text
    from cs_classifier.transcripts import ColumnMap

    console = Console(stderr=True)
    _check_outputs([*inputs, *filter(None, [estimate, service])], output, json_file, history)
    past = _read_history(history) if history else ()
    file = scored.read(inputs, columns=ColumnMap.parse(columns))
    usual_date = nightly.night_of(file.lines)
    day = date.date().isoformat() if date else usual_date
    if day != usual_date and usual_date:
        console.print(escape(f"Note: most lines are of {usual_date}, not {day}"), highlight=False)
    night = nightly.build(file, date=day, mask=hide)
    repeated = ""
    changes: tuple[trends.Change, ...] = ()
    compared = 0
    if history:
        tonight = trends.record(night)
        past = trends.with_night(past, tonight)
        repeated = next((p.date for p in past if p.input == tonight.input and p.date != day), "")
        changes, compared = trends.changes(past, tonight), len(trends.comparable(past, tonight))
        night = trends.dated(night, past)
    decision, model_id = _thresholds(model) if model else (None, "")
    result = nightly_sections.NightReport(
        night=night,
        label_set=load_labels(model / "labels.yaml" if model else None),
        changes=changes,
        compared=compared,
        history=past,
        decision=decision,
        decision_of=model_id,
        estimate=_object(estimate) if estimate else None,
        service=_list(service) if service else (),
        repeated=repeated,
    )
    html = page.to_html(result, language=language)
    if json_file:
        write_text(json_file, page.dump(result))
    write_text(output, html)
    if history:
        write_text(history, trends.dump_history(past))
    for sentence in nightly_sections.sentences(result, language):
        typer.echo(sentence)


def _check_outputs(inputs: list[Path], *outputs: Path | None) -> None:
    taken = {path.resolve() for path in inputs}
    for path in filter(None, outputs):
        if path.resolve() in taken:
            msg = f"{path} is given twice; choose another name for what is written"
            raise DataError(msg)
        taken.add(path.resolve())


def _read_history(path: Path) -> tuple[Record, ...]:
    from cs_classifier import trends
    from cs_classifier.reports.output import read_text

    return trends.parse_history(read_text(path), str(path)) if path.exists() else ()


def _thresholds(model: Path) -> tuple[Decision, str]:
    from cs_classifier.artifact import read_manifest
    from cs_classifier.decision import Decision
    from cs_classifier.reports.output import read_text

    try:
        decision = Decision.model_validate_json(read_text(model / "decision.json"))
    except ValueError as error:
        msg = f"{model / 'decision.json'} does not fit this version; give the folder of a model"
        raise ArtifactError(msg) from error
    return decision, read_manifest(model).id


def _object(path: Path) -> dict[str, Any]:
    from cs_classifier.reports.output import read_json

    value = read_json(path, "estimate")
    if not isinstance(value, dict):
        msg = f"{path}: not a JSON object; give what 'cs-classifier estimate -o' wrote"
        raise DataError(msg)
    return value


def _list(path: Path) -> list[Any]:
    """The list in the file, or the only list in its object."""
    from cs_classifier.reports.output import read_json

    value = read_json(path, "service")
    lists = [v for v in value.values() if isinstance(v, list)] if isinstance(value, dict) else []
    found = lists[0] if len(lists) == 1 else value
    if not isinstance(found, list):
        msg = f"{path}: no list of checks; give what 'cs-classifier service -o' wrote"
        raise DataError(msg)
    return found
