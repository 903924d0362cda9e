"""``rules test`` and ``rules coverage``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

app = typer.Typer(no_args_is_help=True, help="Check the regex baseline.")
RuleFile = Annotated[
    Path | None, typer.Option("--rules", help="Rule file. Default: the shipped one.")
]


@app.command("test")
def run_examples(rules: RuleFile = None) -> None:
    """Run the examples that stand in the rule file; exit with 1 if one fails."""
    from cs_classifier.rules import load_rules

    loaded = load_rules(rules)
    failures = loaded.failures()
    console = Console()
    for failure in failures:
        should = "should hit" if failure.expected else "should not hit"
        context = f" (context: {failure.example.context})" if failure.example.context else ""
        console.print(
            escape(f"{failure.rule} {should}: {failure.example.text}{context}"),
            highlight=False,
            soft_wrap=True,
        )
    examples = sum(len(r.examples.positive) + len(r.examples.negative) for r in loaded.rules)
    clauses = {rule.clause for rule in loaded.rules if rule.clause}
    console.print(
        f"{len(loaded.rules)} rules, {len(clauses)} clauses, {examples} examples, "
        f"{len(failures)} failed",
        highlight=False,
    )
    raise typer.Exit(code=1 if failures else 0)


@app.command("coverage")
def coverage(
    data: Annotated[
        list[Path], typer.Argument(help="Labelled JSONL files or folders.", metavar="DATA...")
    ],
    rules: RuleFile = None,
) -> None:
    """Hits, coverage, overlap, conflict and precision (with 95 % interval) of each rule."""
    from cs_classifier import datasets
    from cs_classifier.labels import load_labels
    from cs_classifier.rules import load_rules, statistics

    lines = datasets.gold(datasets.load(data, load_labels()))
    table = Table(title=f"{len(lines)} lines")
    for name in (
        "rule",
        "target",
        "hits",
        "coverage",
        "overlap",
        "conflict",
        "precision",
        "95 % interval",
    ):
        table.add_column(name, justify="left" if name in {"rule", "target"} else "right")
    for row in statistics(load_rules(rules), lines):
        is_tag = "." not in row.target and row.target not in load_labels().ids
        precision = "–" if is_tag or not row.hits else f"{row.precision:.3f}"
        bounds = "–" if is_tag or not row.hits else f"{row.interval[0]:.3f}–{row.interval[1]:.3f}"
        table.add_row(
            row.rule,
            row.target,
            str(row.hits),
            f"{row.coverage:.4f}",
            f"{row.overlap:.4f}",
            f"{row.conflict:.4f}",
            precision,
            bounds,
        )
    Console(width=160).print(table)
