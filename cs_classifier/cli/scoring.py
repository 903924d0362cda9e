"""``predict`` and ``explain``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from cs_classifier.pipeline import Pipeline
    from cs_classifier.records import Prediction

Model = Annotated[
    Path | None, typer.Option("--model", "-m", help="Model folder. Default: the shipped one.")
]


class _Rate(ProgressColumn):
    """Rows per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} rows/s")


def predict(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="csv, tsv, xlsx, jsonl or parquet files; '-' is stdin.", metavar="INPUT..."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Scored file; the suffix decides its format. '-' is stdout."
        ),
    ],
    model: Model = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="How your columns are called: 'text=内容,agent_id=客服昵称', a YAML file, "
            "or a shipped mapping such as qianniu."
        ),
    ] = None,
    input_format: Annotated[
        str | None, typer.Option("--format", help="Input format, when the suffix does not tell.")
    ] = None,
    output_format: Annotated[
        str | None, typer.Option(help="Output format, when the suffix does not tell.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 uses every core.")] = 0,
    language: Annotated[
        Literal["zh", "en"],
        typer.Option("--language", "-l", help="Language of the summary: zh or en."),
    ] = "zh",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bar, no summary.")
    ] = False,
) -> None:
    """Score transcripts: one output row per agent line, input columns kept, in input order.

    With a role column, only the agent's lines are scored and each gets the customer's preceding
    message as context. Rows that cannot be scored are kept, with the reason in 'error'.
    """
    from cs_classifier import artifact, prediction, tables
    from cs_classifier.reports import summary
    from cs_classifier.transcripts import ColumnMap

    console = Console(stderr=True)
    mapping = ColumnMap.parse(columns)
    pipeline = artifact.load(model, threads=threads)
    with Progress(
        SpinnerColumn(),
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    ) as progress:
        estimates = [tables.estimate_rows(path) for path in inputs]
        total = None if None in estimates else sum(filter(None, estimates))
        task = progress.add_task("scoring", total=total)
        result = prediction.predict_files(
            pipeline,
            inputs,
            output,
            columns=mapping,
            input_format=input_format,
            output_format=output_format,
            on_progress=lambda rows: progress.advance(task, rows),
            on_notice=lambda text: console.print(f"Note: {escape(text)}", highlight=False),
        )
    if not quiet:
        target = console if str(output) == "-" else Console()
        target.print(
            escape(summary.to_text(result, pipeline.label_set, language=language)),
            highlight=False,
            soft_wrap=True,
        )


def explain(
    text: Annotated[str, typer.Argument(help="The agent's line.")],
    context: Annotated[
        str, typer.Option("--context", "-c", help="The customer's preceding message.")
    ] = "",
    model: Model = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show why one line is decided as it is: probabilities, rules, evidence, normalisation."""
    from cs_classifier import artifact, prediction
    from cs_classifier.records import Message

    pipeline = artifact.load(model)
    found = pipeline.predict([Message(text, context)])[0]
    if json:
        sys.stdout.write(prediction.to_json(found, pipeline.label_set.ids) + "\n")
        return
    Console().print(escape(explanation(pipeline, text, found)), highlight=False, soft_wrap=True)


def explanation(pipeline: Pipeline, text: str, found: Prediction) -> str:
    """Readable reasons for one prediction."""
    normal = pipeline.normalize(text)
    lines = [f"model       {pipeline.model_id}"]
    if normal.text != text:
        steps = ", ".join(dict.fromkeys(step.name for step in normal.steps))
        lines.append(f"normalised  {normal.text}   ({steps})")
    rows = zip(
        pipeline.label_set.labels,
        found.probabilities,
        found.outcomes,
        pipeline.decision.labels,
        strict=True,
    )
    for label, p, outcome, at in rows:
        bounds = f"review≥{at.review:.4f}  violation≥{at.violation:.4f}"
        lines.append(f"{label.zh}    p={p:.4f}  {bounds}  → {outcome}")
    named = [(clause, pipeline.label_set.clauses[clause].zh) for clause in found.clauses]
    lines += [f"clause      {clause} ({name})" for clause, name in named]
    for hit in found.hits:
        clause = pipeline.label_set.clauses[hit.clause].zh
        lines.append(f"rule        {hit.rule} ({clause}) at {hit.start}-{hit.end}: {hit.text}")
    lines += [
        f"evidence    {e.label} by {e.source} at {e.start}-{e.end}: {e.text}"
        for e in found.evidence
    ]
    if found.tags:
        lines.append(f"tags        {', '.join(found.tags)}")
    return "\n".join(lines)
