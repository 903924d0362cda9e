"""``train``, ``evaluate`` and ``calibrate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    config: Annotated[
        Path,
        typer.Option(
            "--config",
            "-c",
            help="Recipe (YAML): data files, base encoder, training, decision. "
            "configs/warm_start.yaml trains the model in use on with new lines, in minutes.",
        ),
    ] = Path("configs/train.yaml"),
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one value: train.epochs=3. Repeatable."),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Checkpoints; a stopped run continues from there. Default: runs/NAME."),
    ] = None,
) -> None:
    """Fine-tune an encoder, calibrate it, evaluate it, and write a complete model folder."""
    from cs_classifier import training
    from cs_classifier.config import TrainConfig, load_config
    from cs_classifier.labels import load_labels
    from cs_classifier.reports.evaluation import to_text

    recipe = load_config(TrainConfig, config, overrides or [])
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        task = progress.add_task("training", total=None)

        def show(step: int, steps: int, note: str) -> None:
            progress.update(task, completed=step, total=steps, description=note)

        report = training.train(
            recipe, output, work=work or Path("runs") / recipe.name, on_step=show
        )
    if report:
        sys.stdout.write(to_text(report, load_labels()) + "\n")
    console.print(escape(f"Model written to {output}"), highlight=False)


def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    data: Annotated[
        list[Path], typer.Argument(help="Labelled JSONL files or folders.", metavar="DATA...")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for report.html and report.json.")
    ] = None,
    train: Annotated[
        list[Path] | None,
        typer.Option(
            help="The model's training lines, for the TF-IDF baseline. "
            "Default: data/train if it is there."
        ),
    ] = None,
    language: Annotated[
        Literal["zh", "en"],
        typer.Option("--language", "-l", help="Language of the HTML page: zh or en."),
    ] = "zh",
) -> None:
    """Compare regex, TF-IDF and the model on labelled lines, with intervals."""
    from cs_classifier import artifact, datasets, evaluation
    from cs_classifier.reports import evaluation as rendering

    pipeline = artifact.load(model)
    default = Path("data/train")
    sources = train or ([default] if default.is_dir() else [])
    report = evaluation.evaluate(
        pipeline,
        datasets.load(data, pipeline.label_set),
        train=datasets.load(sources, pipeline.label_set) if sources else (),
        files=[path.name for path in datasets.files(data)],
    )
    sys.stdout.write(rendering.to_text(report, pipeline.label_set) + "\n")
    if output:
        for path in rendering.write(report, pipeline.label_set, output, language):
            Console(stderr=True).print(escape(f"wrote {path}"), highlight=False)


def calibrate(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    data: Annotated[
        list[Path],
        typer.Argument(help="Reviewed lines: JSONL files or folders.", metavar="DATA..."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="YAML with decision targets. Default: the model's own."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change one decision target: precision_floor=0.9, prevalence=0.002, "
            "max_violation_rate=0.002, min_probability=0.3, or max_review_rate=0.01. Repeatable.",
        ),
    ] = None,
    test: Annotated[
        list[Path] | None, typer.Option(help="Evaluate on these lines and put it into the card.")
    ] = None,
    train: Annotated[
        list[Path] | None, typer.Option(help="The model's training lines, for the TF-IDF baseline.")
    ] = None,
) -> None:
    """Refit calibration and thresholds on reviewed lines; the encoder stays as it is."""
    from cs_classifier import artifact, training
    from cs_classifier.config import DecisionConfig, build_config, load_config
    from cs_classifier.labels import load_labels
    from cs_classifier.reports.evaluation import to_text

    if config:
        settings = load_config(DecisionConfig, config, overrides or [])
    else:
        own = artifact.load(model).decision.config.model_dump()
        settings = build_config(DecisionConfig, own, overrides or [], where=str(model))
    report = training.recalibrate(
        model,
        data,
        output,
        settings,
        test=test or (),
        train=train or (),
    )
    if report:
        sys.stdout.write(to_text(report, load_labels()) + "\n")
    pipeline = artifact.load(output)
    console = Console()
    for label, at in zip(pipeline.label_set.labels, pipeline.decision.labels, strict=True):
        proven = "proven" if at.floor_met else "NOT proven (too few positives, or false calls)"
        bounds = f"review≥{at.review:.4f}  violation≥{at.violation:.4f}"
        text = f"{label.zh}  {bounds}  precision floor {proven}"
        console.print(escape(text), highlight=False)
    console.print(escape(f"{pipeline.model_id} written to {output}"), highlight=False)
