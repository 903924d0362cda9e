"""The ``label`` commands."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

app = typer.Typer(
    no_args_is_help=True, help="Store labels, choose what to label next, and see who agrees."
)
Store = Annotated[Path, typer.Option("--store", "-s", help="Label store: one JSONL file.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]
Who = Annotated[
    str, typer.Option(help="Annotator of rows that name none. Default: the file's name.")
]
Language = Annotated[
    Literal["zh", "en"], typer.Option("--language", "-l", help="Language: zh or en.")
]


@app.command("import")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Review files, Label Studio or doccano exports, or tables with text and labels.",
            metavar="FILE...",
        ),
    ],
    store: Store,
    who: Who = "",
    source: Annotated[
        Literal["review", "import", "appeal", "adjudication"] | None,
        typer.Option(help="Default: review for review files, import for others."),
    ] = None,
    when: Annotated[
        str | None, typer.Option(help="When they were labelled, as 2026-11-22T18:00+08:00.")
    ] = None,
) -> None:
    """Add what people said to the store; what it knows already is left out."""
    from cs_classifier.errors import DataError
    from cs_classifier.labeling import exchange
    from cs_classifier.labeling import store as stores
    from cs_classifier.labels import load_labels

    try:
        moment = stores.utc(when) if when else datetime.now(UTC).isoformat(timespec="seconds")
    except ValueError as error:
        msg = f"--when: {error}"
        raise DataError(msg) from error
    label_set = load_labels()
    filled = exchange.read(files, label_set=label_set, when=moment, who=who, source=source)
    added = stores.append(store, filled.events, label_set=label_set)
    _say(
        f"{len(added)} new, {len(filled.events) - len(added)} known already, "
        f"{filled.open} rows open → {store}"
    )


@app.command("export")
def export(
    store: Store,
    output: Output,
    format: Annotated[  # noqa: A002
        Literal["jsonl", "label-studio", "doccano", "workbook"],
        typer.Option(help="jsonl: labelled lines for calibrate, evaluate and train."),
    ] = "jsonl",
    language: Language = "zh",
) -> None:
    """Write what holds now of every line; unresolved lines are borderline."""
    from cs_classifier.labeling import exchange
    from cs_classifier.labeling import store as stores
    from cs_classifier.labels import load_labels

    label_set = load_labels()
    lines = stores.truth(stores.load(store, label_set))
    exchange.write(lines, output, format=format, label_set=label_set, language=language)
    unsure = sum(line.status == "borderline" for line in lines)
    _say(f"{len(lines)} lines, {unsure} of them borderline → {output}")


@app.command("split")
def split(
    store: Store,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write the parts to.")],
    calibration: Annotated[float, typer.Option(min=0, max=1, help="About this share.")] = 0.2,
    test: Annotated[float, typer.Option(min=0, max=1, help="About this share.")] = 0.2,
    by: Annotated[
        Literal["shop", "group"], typer.Option(help="Never parted; group: conversation, template.")
    ] = "shop",
) -> None:
    """Write train.jsonl, calibration.jsonl and test.jsonl that share no shop and no template.

    A line stays in its part while the store grows.
    """
    from cs_classifier.labeling import exchange, parting
    from cs_classifier.labeling import store as stores
    from cs_classifier.labels import load_labels

    label_set = load_labels()
    if calibration + test > 1:
        msg = "--calibration and --test are more than everything"
        raise typer.BadParameter(msg)
    known = stores.histories(stores.load(store, label_set)).values()
    found = parting.part(known, calibration=calibration, test=test, by=by)
    for name, lines in found.parts.items():
        exchange.write(lines, output / f"{name}.jsonl", format="jsonl", label_set=label_set)
        violating = sum(bool(line.labels) for line in lines)
        sys.stdout.write(f"{name}\t{len(lines)}\t{violating} violating\n")
    _say(
        f"left out: {found.borderline} borderline, {found.doubled} whose group, template or words "
        f"a stricter part holds → {output}"
    )


@app.command("queue")
def queue(
    scored: Annotated[
        list[Path], typer.Argument(help="Files that 'predict' wrote.", metavar="SCORED...")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Review file: .xlsx, .jsonl, or .json for Label Studio."
        ),
    ],
    budget: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines.")] = 200,
    store: Annotated[
        Path | None, typer.Option("--store", "-s", help="What has labels is not asked again.")
    ] = None,
    like: Annotated[str, typer.Option(help="Choose lines like this one.")] = "",
    seed: Annotated[int, typer.Option(help="For the random share.")] = 0,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change one value: random=0.5. Repeatable.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="The mapping that was given to 'predict'.")
    ] = None,
    language: Language = "zh",
) -> None:
    """Choose what to label next: uncertain lines of every label, disagreements, and random ones.

    A queue is no sample: use 'sample' to estimate anything.
    """
    import numpy as np

    from cs_classifier import scored as scored_files
    from cs_classifier.config import build_config
    from cs_classifier.labeling import queue as queues
    from cs_classifier.labeling import store as stores
    from cs_classifier.labeling.words import reasons
    from cs_classifier.labels import load_labels
    from cs_classifier.reports.workbook import write_sample
    from cs_classifier.transcripts import ColumnMap

    label_set = load_labels()
    settings = build_config(queues.QueueConfig, {}, overrides or [], where="--set")
    known = stores.truth(stores.load(store, label_set)) if store else []
    chosen = queues.queue(
        scored_files.read(scored, columns=ColumnMap.parse(columns)),
        budget,
        rng=np.random.default_rng(seed),
        labelled=[line.message for line in known],
        like=like,
        config=settings,
    )
    counts = reasons(chosen, label_set, language=language)
    write_sample(chosen, output, label_set=label_set, info=counts, language=language)
    for reason, count in counts.items():
        sys.stdout.write(f"{reason}\t{count}\n")
    _say(f"{len(chosen)} → {output}")


@app.command("agreement")
def agreement(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files as for 'label import'.", metavar="[FILE...]")
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--store", "-s", help="Label store to compare instead.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The report as JSON.")
    ] = None,
    seed: Annotated[int, typer.Option(help="For the intervals.")] = 0,
    language: Language = "zh",
) -> None:
    """Compare annotators label by label: kappa, alpha, positive agreement, with 95 % intervals."""
    import numpy as np

    from cs_classifier.labeling import agreement as comparing
    from cs_classifier.labeling import exchange
    from cs_classifier.labeling import store as stores
    from cs_classifier.labeling.words import agreement_text
    from cs_classifier.labels import load_labels
    from cs_classifier.reports.output import write_text

    if not files and not store:
        msg = "give files, or --store"
        raise typer.BadParameter(msg)
    label_set = load_labels()
    events = list(stores.load(store, label_set)) if store else []
    if files:
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        events += exchange.read(files, label_set=label_set, when=moment).events
    report = comparing.agreement(events, label_ids=label_set.ids, rng=np.random.default_rng(seed))
    if output:
        write_text(output, report.model_dump_json(indent=1) + "\n")
    sys.stdout.write(agreement_text(report, label_set, language=language) + "\n")


@app.command("adjudicate")
def adjudicate(store: Store, output: Output, language: Language = "zh") -> None:
    """Write the disputed lines for a third person.

    Bring the answers back with 'label import FILE --source adjudication'.
    """
    from cs_classifier.labeling import exchange
    from cs_classifier.labeling import store as stores
    from cs_classifier.labels import load_labels

    label_set = load_labels()
    events = stores.load(store, label_set)
    count = exchange.write_conflicts(events, output, label_set=label_set, language=language)
    _say(f"{count} disputed lines → {output}")


@app.command("show")
def show(
    text: Annotated[str, typer.Argument(help="The agent's line, a part of it, or its key.")],
    store: Store,
    no_mask: Annotated[
        bool, typer.Option("--no-mask", help="Show phone numbers and the like.")
    ] = False,
    language: Language = "zh",
) -> None:
    """Show the history of a line: who said what, when, and why."""
    from cs_classifier.labeling import store as stores
    from cs_classifier.labeling.words import history_text
    from cs_classifier.labels import load_labels

    label_set = load_labels()
    found = stores.find(stores.load(store, label_set), text)
    for history in found:
        shown = history_text(history, label_set, language=language, masked=not no_mask)
        sys.stdout.write(shown + "\n\n")


def _say(text: str) -> None:
    Console(stderr=True).print(escape(text), highlight=False, soft_wrap=True)
