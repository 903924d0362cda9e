"""``bench``."""

from __future__ import annotations

import json as json_format
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cs_classifier.cli.scoring import Model  # noqa: TC001  (typer reads it)

if TYPE_CHECKING:
    from cs_classifier.benchmark import EngineFigures
    from cs_classifier.pipeline import Pipeline
    from cs_classifier.records import Message

SINGLE = 100  # lines that are timed one by one


def bench(
    model: Model = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Transcripts to score. Default: the sample of this project."),
    ] = None,
    engines: Annotated[
        str, typer.Option(help="Comma-separated: auto, onnx, openvino, torch.")
    ] = "auto",
    batch_tokens: Annotated[
        str, typer.Option(help="Comma-separated padded batch sizes; 0 is the engine's own.")
    ] = "0",
    lines: Annotated[int, typer.Option(min=1, help="Distinct lines at most.")] = 2000,
    repeat: Annotated[int, typer.Option(min=1, help="Repeats; medians are shown.")] = 5,
    threads: Annotated[int, typer.Option(min=0, help="Threads; 0 uses every core.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time the model on this machine: turns per second, latency, memory, share of each stage."""
    from cs_classifier import artifact, benchmark
    from cs_classifier.classifiers.engines import BF16_FLAGS, cpu_flags, installed_engines

    folder = model or artifact.default_path()
    messages = _messages(data, lines)
    settings: dict[tuple[str, int], Pipeline] = {}
    figures = []
    for name in engines.split(","):
        before = benchmark.rss_mib()
        pipeline = artifact.load(folder, threads=threads, engine=_engine(name))
        encoder: Any = pipeline.encoder
        for budget in map(int, batch_tokens.split(",")):
            sized = encoder.with_budget(budget or encoder.batch_tokens)
            settings[sized.name, sized.batch_tokens] = benchmark.fresh(pipeline, sized)
        figures.append(_figures(pipeline, folder, messages, before))
    peaks = {"fp32": benchmark.matrix_peak("fp32", threads=threads)}
    if BF16_FLAGS & cpu_flags() and "torch" in installed_engines():
        peaks["bf16"] = benchmark.matrix_peak("bf16", threads=threads)
    speeds = benchmark.speeds(settings, messages, repeat=repeat)
    report = {
        "model": pipeline.model_id,
        "threads": threads,
        "peak_gflops": peaks,
        "engines": [asdict(figure) for figure in figures],
        "speeds": [asdict(speed) for speed in speeds],
    }
    if json:
        sys.stdout.write(json_format.dumps(report, ensure_ascii=False) + "\n")
        return
    _show(report)


def _engine(name: str) -> Any:  # noqa: ANN401
    from typing import get_args

    from cs_classifier.classifiers.engines import Engine

    if name not in get_args(Engine):
        msg = f"'{name}' is no engine; choose from {', '.join(get_args(Engine))}"
        raise typer.BadParameter(msg)
    return name


def _messages(data: Path | None, limit: int) -> list[Message]:
    """Distinct messages to score."""
    from cs_classifier import resources, tables
    from cs_classifier.errors import DataError
    from cs_classifier.transcripts import ColumnMap, Conversations

    path = data or resources.find("data/samples/transcripts.csv")
    conversations = Conversations(ColumnMap())
    turns = (conversations.turn(row) for row in tables.read(path))
    found = list(dict.fromkeys(turn.message for turn in turns if turn.message))[:limit]
    if not found:
        msg = f"{path} has no line that can be scored"
        raise DataError(msg)
    return found


def _figures(
    pipeline: Pipeline, folder: Path, messages: list[Message], before: float
) -> EngineFigures:
    from cs_classifier import benchmark, tables

    p50, p95 = benchmark.latencies(pipeline, messages[:SINGLE])
    with TemporaryDirectory() as work:
        source, target = Path(work) / "lines.jsonl", Path(work) / "scored.jsonl"
        with tables.Writer(source, columns=["context", "text"], types={}) as writer:
            writer.write([asdict(message) for message in messages])
        seconds = benchmark.stage_seconds(pipeline, source, target)
    encoder: Any = pipeline.encoder
    return benchmark.EngineFigures(
        engine=encoder.name,
        reason=encoder.reason,
        p50_ms=p50,
        p95_ms=p95,
        rss_mib=benchmark.rss_mib() - before,
        stages={stage: spent / sum(seconds.values()) for stage, spent in seconds.items()},
        gflops=benchmark.encoder_gflops(pipeline, folder, messages),
    )


def _show(report: dict[str, Any]) -> None:
    console = Console()
    peaks = ", ".join(f"{name} {value:.0f}" for name, value in report["peak_gflops"].items())
    console.print(f"{report['model']}; matrix peak in GFLOP/s: {peaks}", highlight=False)
    table = Table("engine", "batch", "lines", "turns", "turns/s")
    for row in report["speeds"]:
        table.add_row(
            row["engine"],
            str(row["batch_tokens"]),
            row["lines"],
            str(row["turns"]),
            f"{row['turns_per_second']:,.1f}",
        )
    console.print(table)
    table = Table(
        "engine", "p50 ms", "p95 ms", "MiB", "encoder GFLOP/s", "of peak", "stages", "why"
    )
    for row in report["engines"]:
        peak = report["peak_gflops"].get("bf16" if row["engine"].endswith("bf16") else "fp32")
        speed = row["gflops"]
        table.add_row(
            row["engine"],
            f"{row['p50_ms']:.1f}",
            f"{row['p95_ms']:.1f}",
            f"{row['rss_mib']:.0f}",
            f"{speed:.0f}" if speed else "–",
            f"{speed / peak:.0%}" if speed and peak else "–",
            " ".join(f"{stage} {share:.1%}" for stage, share in row["stages"].items()),
            row["reason"],
        )
    console.print(table)
