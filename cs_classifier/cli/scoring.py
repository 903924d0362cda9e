"""``predict`` and ``explain``."""

from __future__ import annotations

import shlex
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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

from cs_classifier.errors import CsClassifierError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
            help="Names of your columns: 'text=内容,agent_id=客服昵称', a YAML file, "
            "or a shipped mapping: qianniu, qiyu, pdd, generic_zh."
        ),
    ] = None,
    input_format: Annotated[
        str | None, typer.Option("--format", help="Input format, when the suffix does not tell.")
    ] = None,
    output_format: Annotated[
        str | None, typer.Option(help="Output format, when the suffix does not tell.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 uses every core.")] = 0,
    engine: Annotated[
        Literal["auto", "onnx", "openvino", "torch"],
        typer.Option(help="What runs the encoder; auto chooses by the CPU and says why."),
    ] = "auto",
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the encoder runs.")] = "cpu",
    screen: Annotated[
        bool,
        typer.Option(
            help="Let the model's small encoder clear what is clean beyond doubt, which saves a "
            "third of the time. --no-screen scores every line in full."
        ),
    ] = True,
    language: Annotated[
        Literal["zh", "en"],
        typer.Option("--language", "-l", help="Language of the summary: zh or en."),
    ] = "zh",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress bar, no summary.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue a run that was cut off; start anew if there is none."
        ),
    ] = False,
    chunk: Annotated[
        int, typer.Option(min=1, help="Rows that are read, scored and written together.")
    ] = 8192,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray", help="As a Ray job: INPUT and --output are folders, with a file per worker."
        ),
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, help="With --ray: workers, each with --threads; 0 uses all.")
    ] = 0,
) -> None:
    """Score transcripts: one output row per agent line, input columns kept, in input order.

    With a role column, only the agent's lines are scored and each gets the customer's preceding
    message as context. Rows that cannot be scored are kept, with the reason in 'error'.

    A run can be cut off at any time; finished chunks are kept beside the output, and --resume goes
    on behind them.
    """
    from cs_classifier import artifact, chunks, prediction
    from cs_classifier.labels import load_labels
    from cs_classifier.reports import summary
    from cs_classifier.transcripts import ColumnMap

    console = Console(stderr=True)
    mapping = ColumnMap.parse(columns)
    model = model or artifact.default_path()
    with (
        _progress(console, quiet=quiet) as progress,
        _stoppable(console, progress, output if ray else chunks.folder_of(output)),
    ):
        task = progress.add_task("scoring", total=None)
        report: dict[str, Any] = {
            "on_progress": lambda rows: progress.advance(task, rows),
            "on_notice": lambda text: console.print(f"Note: {escape(text)}", highlight=False),
        }
        if ray:
            from cs_classifier import cluster

            options = cluster.Options(
                model,
                mapping,
                threads=threads or 1,
                engine=engine,
                device=device,
                screened=screen,
                chunk=chunk,
            )
            result = cluster.predict_folder(
                inputs, output, options=options, workers=workers, resume=resume, **report
            )
        else:
            pipeline = artifact.load(
                model, threads=threads, engine=engine, device=device, screened=screen
            )
            if not quiet:
                report["on_notice"](f"engine {getattr(pipeline.encoder, 'reason', engine)}")
            progress.update(task, total=_rows(inputs))
            result = prediction.predict_files(
                pipeline,
                inputs,
                output,
                columns=mapping,
                input_format=input_format,
                output_format=output_format,
                resume=resume,
                chunk=chunk,
                **report,
            )
    if not quiet:
        target = console if str(output) == "-" else Console()
        target.print(
            escape(summary.to_text(result, load_labels(model / "labels.yaml"), language=language)),
            highlight=False,
            soft_wrap=True,
        )


def _progress(console: Console, *, quiet: bool) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    )


def _rows(inputs: list[Path]) -> int | None:
    from cs_classifier import tables

    estimates = [tables.estimate_rows(path) for path in inputs]
    return None if None in estimates else sum(filter(None, estimates))


@contextmanager
def _stoppable(console: Console, progress: Progress, kept: Path) -> Iterator[None]:
    """When the block fails or is stopped, by Ctrl-C or SIGTERM, say what is ``kept`` of it."""
    stopped_by = [signal.SIGINT]

    def stop(number: int, _: object) -> None:
        stopped_by.append(signal.Signals(number))
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except (KeyboardInterrupt, CsClassifierError) as error:
        progress.stop()
        rows = sum(int(task.completed) for task in progress.tasks)
        if rows and kept.exists():
            words = [word for word in sys.argv[1:] if word != "--resume"]
            again = shlex.join(["cs-classifier", *words, "--resume"])
            text = f"Stopped. {rows:,} rows are finished and kept in {kept}; to continue:\n{again}"
            console.print(escape(text), highlight=False, soft_wrap=True)
        elif isinstance(error, KeyboardInterrupt):
            console.print("Stopped; nothing was finished, so nothing is kept.")
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(128 + stopped_by[-1]) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


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
        why = " by rule" if outcome == "review" and p < at.review else ""
        lines.append(f"{label.zh}    p={p:.4f}  {bounds}  → {outcome}{why}")
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
