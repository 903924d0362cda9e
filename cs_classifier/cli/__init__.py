"""The command line: each command converts its arguments, calls the library once, and prints."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from cs_classifier import __version__
from cs_classifier.cli import (
    bench,
    data,
    labeling,
    models,
    nightly,
    review,
    rules,
    scorecards,
    scoring,
    upkeep,
)
from cs_classifier.errors import CsClassifierError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback could show a customer's words
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find rule violations in what Chinese e-commerce customer-service agents write. "
    "A finding is a suspicion (疑似) until a person confirms it.",
)
app.command("predict")(scoring.predict)
app.command("explain")(scoring.explain)
app.command("train")(models.train)
app.command("evaluate")(models.evaluate)
app.command("calibrate")(models.calibrate)
app.command("sample")(review.sample)
app.command("estimate")(review.estimate)
app.command("bench")(bench.bench)
app.command("gate")(upkeep.gate)
app.command("promote")(upkeep.promote)
app.command("rollback")(upkeep.rollback)
app.command("label-errors")(upkeep.label_errors)
app.command("report")(nightly.report)
app.command("scorecard")(scorecards.scorecard)
app.command("service")(scorecards.service)
app.add_typer(data.app, name="data")
app.add_typer(labeling.app, name="label")
rules.app.command("ledger")(upkeep.ledger)
app.add_typer(rules.app, name="rules")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
    debug: Annotated[bool, typer.Option(help="Show a traceback on errors.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    handler = RichHandler(console=Console(stderr=True), show_path=False)
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, handlers=[handler], format="%(message)s"
    )


def main() -> None:
    """Run; exit with 1 on failure and 2 on wrong usage, without a traceback unless ``--debug``."""
    try:
        app()
    except CsClassifierError as error:
        if "--debug" in sys.argv:
            raise
        text = f"[bold red]Error:[/] {escape(str(error))}"
        Console(stderr=True).print(text, highlight=False, soft_wrap=True)
        sys.exit(1)
