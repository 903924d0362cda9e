"""``sample`` and ``estimate``."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cs_classifier.reviews import Review
    from cs_classifier.transcripts import ColumnMap

Language = Annotated[
    Literal["zh", "en"], typer.Option("--language", "-l", help="Language: zh or en.")
]


def sample(
    scored: Annotated[
        list[Path],
        typer.Argument(help="Files that 'predict' wrote, of one night.", metavar="SCORED..."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Review file: .xlsx, .jsonl, or .json for Label Studio."
        ),
    ],
    budget: Annotated[
        int, typer.Option("--lines", "-n", min=1, help="How many lines are to be reviewed.")
    ] = 300,
    seed: Annotated[int, typer.Option(help="The same seed draws the same lines.")] = 0,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Plan. Default: the shipped configs/sampling.yaml."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one value: shares.random=0.5. Repeatable."),
    ] = None,
    watch: Annotated[
        str | None,
        typer.Option(
            help="Agents to watch, such as new ones: ids joined by commas, or a file, one per line."
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="The mapping that was given to 'predict'.")
    ] = None,
    transcript: Annotated[
        list[Path] | None,
        typer.Option(help="The export that was scored: shows each line in its conversation."),
    ] = None,
    language: Language = "zh",
) -> None:
    """Draw lines for review: at random, and where the system or its rules suspect something.

    Each row carries its stratum and the probability with which it was drawn, so that 'estimate'
    can tell what is true of all lines.
    """
    import numpy as np

    from cs_classifier import resources, sampling
    from cs_classifier import scored as scored_files
    from cs_classifier.config import load_config
    from cs_classifier.labels import load_labels
    from cs_classifier.reports import estimates
    from cs_classifier.reports.workbook import write_sample
    from cs_classifier.transcripts import ColumnMap

    plan_file = config or resources.find("configs/sampling.yaml")
    plan = load_config(sampling.SamplingConfig, plan_file, overrides or [])
    mapping, label_set = ColumnMap.parse(columns), load_labels()
    found = scored_files.read(scored, columns=mapping)
    drawn = sampling.draw(
        found, budget, config=plan, rng=np.random.default_rng(seed), watch=_names(watch)
    )
    conversations = {row.line.conversation_id for row in drawn.sampled} - {""}
    write_sample(
        drawn.sampled,
        output,
        label_set=label_set,
        info=estimates.sample_info(
            drawn,
            files=[path.name for path in scored],
            models=found.models,
            seed=seed,
            plan=plan.model_dump_json(),
            language=language,
        ),
        transcripts=_turns(transcript or [], mapping, conversations),
        language=language,
    )
    text = estimates.sample_text(
        drawn, label_set, budget=budget, cap=plan.template_cap, language=language
    )
    sys.stdout.write(text + "\n")
    Console(stderr=True).print(escape(f"{len(drawn.sampled)} → {output}"), highlight=False)


def estimate(
    reviewed: Annotated[
        list[Path],
        typer.Argument(
            help="Returned review files; several are one sample.", metavar="REVIEWED..."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The estimates as JSON.")
    ] = None,
    history: Annotated[
        Path | None,
        typer.Option(
            help="JSONL of earlier estimates (not the file of 'report'): compared with; this "
            "night is added."
        ),
    ] = None,
    labelled: Annotated[
        Path | None, typer.Option(help="Write the reviewed lines as JSONL for 'calibrate'.")
    ] = None,
    night: Annotated[
        str | None, typer.Option(help="Name of the night. Default: the latest date of the lines.")
    ] = None,
    floor: Annotated[
        float, typer.Option(min=0, max=1, help="Precision that suspected violations should have.")
    ] = 0.95,
    language: Language = "zh",
) -> None:
    """Estimate prevalence, precision and recall from reviewed lines, with 95 % intervals."""
    from cs_classifier import datasets, estimation
    from cs_classifier.labels import load_labels
    from cs_classifier.reports import estimates
    from cs_classifier.reports.workbook import read_reviews

    label_set = load_labels()
    reviews = read_reviews(reviewed, label_set=label_set)
    name = night or _night(reviews)
    report = estimation.estimate(
        reviews,
        label_ids=label_set.ids,
        night=name,
        previous=estimates.read_history(history) if history else (),
        floor=floor,
    )
    if output:
        estimates.write_json(report, output)
    if labelled:
        datasets.dump(estimation.labelled(reviews, night=name), labelled)
    if history:
        estimates.append_history(history, report)
    sys.stdout.write(estimates.to_text(report, label_set, language=language) + "\n")


def _names(watch: str | None) -> frozenset[str]:
    """Agents of the watch list: of a file if there is one, else as given."""
    from cs_classifier.errors import DataError

    if not watch:
        return frozenset()
    path, is_file = Path(watch), False
    with suppress(OSError):  # a long list of names is no path
        is_file = path.is_file()
    try:
        text = path.read_text(encoding="utf-8-sig") if is_file else watch
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the watch list {path}: save it as UTF-8 text, one agent per line"
        raise DataError(msg) from error
    return frozenset(filter(None, map(str.strip, re.split(r"[\n,，、]", text))))


def _night(reviews: Sequence[Review]) -> str:
    """The latest date among the lines' times, else today's."""
    from cs_classifier.moments import date_of

    dates = filter(None, (date_of(review.sampled.line.timestamp) for review in reviews))
    return max(dates, default=f"{datetime.now(UTC).astimezone():%Y-%m-%d}")


def _turns(
    paths: Sequence[Path], mapping: ColumnMap, conversations: Collection[str]
) -> dict[str, list[tuple[str, str, str]]]:
    """Time, speaker and text of every row of the wanted conversations."""
    from cs_classifier import tables

    turns: dict[str, list[tuple[str, str, str]]] = {key.strip(): [] for key in conversations}
    for path in paths:
        for row in tables.read(path):
            values = (
                mapping.value(row.values, name)
                for name in ("conversation_id", "timestamp", "role", "speaker", "text")
            )
            key, time, role, speaker, text = ("" if v is None else str(v) for v in values)
            if (key := key.strip()) and key in turns:
                turns[key].append((time, role or speaker, text))
    return {key: turns[key.strip()] for key in conversations}
