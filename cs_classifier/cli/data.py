"""``data check``, ``data describe`` and ``data evade``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from cs_classifier.corpus import SplitCount
    from cs_classifier.labels import LabelSet

app = typer.Typer(no_args_is_help=True, help="Check, describe and respell labelled lines.")
Lines = Annotated[
    list[Path], typer.Argument(help="Labelled JSONL files or folders.", metavar="DATA...")
]


@app.command("check")
def check(
    folder: Annotated[
        Path, typer.Argument(help="Folder with one folder of JSONL files per split.")
    ] = Path("data"),
) -> None:
    """Count what a corpus holds and list what is wrong with it; exit with 1 if anything is.

    Checked: fields, labels and clauses of every line; repeated lines; groups, ids and
    near-duplicates that stand in two splits; context-swap groups that do not contrast.
    """
    from cs_classifier import corpus
    from cs_classifier.labels import load_labels

    label_set = load_labels()
    splits = corpus.load(folder, label_set)
    counts = [corpus.count(name, lines, label_set) for name, lines in splits.items()]
    console = Console(width=max(120, Console().width))
    console.print(_split_table(counts, label_set), _clause_table(counts))
    found = corpus.problems(splits)
    for problem in found:
        console.print(escape(problem), highlight=False, soft_wrap=True)
    total = sum(len(lines) for lines in splits.values())
    console.print(f"{total} lines, {len(found)} problems", highlight=False)
    raise typer.Exit(code=1 if found else 0)


def _split_table(counts: list[SplitCount], label_set: LabelSet) -> Table:
    table = Table(title="gold lines (except: lines, borderline)")
    table.add_column("")
    for count in counts:
        table.add_column(count.split, justify="right")
    for name in (
        "lines",
        "borderline",
        "violating",
        "hard_negatives",
        "worlds",
        "groups",
        "grouped_lines",
        "contrasting_groups",
        "respelt",
        "short",
    ):
        table.add_row(name.replace("_", " "), *(f"{getattr(c, name):,}" for c in counts))
    table.add_section()
    for label in label_set.ids:
        table.add_row(label, *(f"{c.labels[label]:,}" for c in counts))
    return table


def _clause_table(counts: list[SplitCount]) -> Table:
    table = Table(title="violating lines / hard negatives per clause")
    table.add_column("clause")
    for count in counts:
        table.add_column(count.split, justify="right")
    for rows in zip(*(count.clauses for count in counts), strict=True):
        table.add_row(rows[0].clause, *(f"{row.violating} / {row.near}" for row in rows))
    return table


@app.command("describe")
def describe(data: Lines) -> None:
    """Length, punctuation, particles and spelling of lines, to compare a corpus with traffic."""
    from cs_classifier import corpus, datasets
    from cs_classifier.labels import load_labels

    lines = datasets.load(data, load_labels())
    for name, value in corpus.describe([line.message for line in lines]).items():
        sys.stdout.write(f"{name}\t{value:.3f}\n" if "share" in name else f"{name}\t{value:.0f}\n")


@app.command("evade")
def evade(
    data: Lines,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder: one file per attack, and plain.jsonl.")
    ],
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=2, help="Lines to respell, half of them violating.")
    ] = 600,
    half: Annotated[
        Literal["train", "test"],
        typer.Option(help="Which half of the replacements: training has never seen the test half."),
    ] = "test",
    seed: Annotated[int, typer.Option(help="For the draw and the spellings.")] = 0,
) -> None:
    """Respell lines as agents do to get around filters: the same lines under eight attacks."""
    import numpy as np

    from cs_classifier import datasets, evasion
    from cs_classifier.labels import load_labels

    gold = datasets.gold(datasets.load(data, load_labels()))
    attacked = evasion.attacked_sets(gold, lines, half, np.random.default_rng(seed))
    for name, rows in attacked.items():
        datasets.dump(rows, output / f"{name}.jsonl")
    Console(stderr=True).print(
        f"{len(attacked['plain'])} lines, plain and under {len(attacked) - 1} attacks, "
        f"written to {escape(str(output))}",
        highlight=False,
    )
