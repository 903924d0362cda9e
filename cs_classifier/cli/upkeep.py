"""``gate``, ``promote``, ``rollback``, ``label-errors`` and ``rules ledger``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from cs_classifier.upkeep.gate import GateReport

NOT_PASSED = 3  # exit code of a gate that stays shut
Data = Annotated[
    list[Path], typer.Argument(help="Labelled JSONL files or folders.", metavar="DATA...")
]
Floor = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Precision floor. Default: the new model's own."),
]
Alpha = Annotated[float, typer.Option(min=0.0001, max=0.5, help="Significance level.")]
Seen = Annotated[
    list[Path] | None,
    typer.Option(help="Training lines of the models, beside those that their manifests name."),
]
Seed = Annotated[int, typer.Option(help="For the resampling.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="The report as JSON.")]
Language = Annotated[
    Literal["zh", "en"], typer.Option("--language", "-l", help="Language: zh or en.")
]


def gate(
    new: Annotated[Path, typer.Argument(help="Model folder of the candidate.")],
    old: Annotated[Path, typer.Argument(help="Model folder of the model in use.")],
    data: Annotated[
        list[Path],
        typer.Argument(help="The frozen set: labelled lines neither has seen.", metavar="DATA..."),
    ],
    output: Output = None,
    floor: Floor = None,
    alpha: Alpha = 0.05,
    seen: Seen = None,
    seed: Seed = 0,
    language: Language = "zh",
) -> None:
    """Tell whether a new model may replace the old one; exit with 3 if it may not.

    It may if no label is significantly worse on the frozen set, the precision of suspected
    violations is not significantly below the floor, and no more clean lines are called.
    """
    report = _judge(new, old, data, seen or [], floor=floor, alpha=alpha, seed=seed)
    _show(report, new, output, language)
    raise typer.Exit(code=0 if report.passed else NOT_PASSED)


def promote(
    new: Annotated[Path, typer.Argument(help="Model folder of the candidate; it is copied.")],
    target: Annotated[Path, typer.Argument(help="Model folder in use; kept as TARGET.previous.")],
    data: Annotated[list[Path], typer.Option(help="The frozen set. Repeatable.")],
    force: Annotated[
        str | None,
        typer.Option(
            help="Promote a model that does not pass; the reason is kept.", metavar="REASON"
        ),
    ] = None,
    output: Output = None,
    floor: Floor = None,
    alpha: Alpha = 0.05,
    seen: Seen = None,
    seed: Seed = 0,
    language: Language = "zh",
) -> None:
    """Run the gate and, if it opens, put the new model in place of TARGET; exit with 3 if not.

    What was done and why is added to promotions.jsonl beside TARGET.
    """
    from cs_classifier.upkeep import promotion

    report = _judge(new, target, data, seen or [], floor=floor, alpha=alpha, seed=seed)
    _show(report, new, output, language)
    if not report.passed and not force:
        raise typer.Exit(code=NOT_PASSED)
    promotion.promote(new, target, report, when=datetime.now(UTC), force=force or "")
    _say(f"{report.new} → {target}; {report.old} → {promotion.previous_path(target)}")


def rollback(
    target: Annotated[Path, typer.Argument(help="Model folder in use.")],
) -> None:
    """Bring the former model back; called again, it swaps the two once more."""
    from cs_classifier.upkeep import promotion

    model = promotion.rollback(target, when=datetime.now(UTC))
    _say(f"{model} → {target}")


def label_errors(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Ranking: .xlsx or .jsonl.")],
    limit: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines.")] = 100,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", "-m", help="Model that was not trained on these lines, to join in."
        ),
    ] = None,
    language: Language = "zh",
) -> None:
    """Rank labelled lines by how doubtful their labels are, with the reason and similar lines."""
    import numpy as np

    from cs_classifier import artifact, datasets
    from cs_classifier.labels import load_labels
    from cs_classifier.reports import upkeep
    from cs_classifier.rules import load_rules
    from cs_classifier.upkeep import label_errors, promotion

    label_set = load_labels()
    lines = datasets.gold(datasets.load(data, label_set))
    probabilities = None
    if model:
        promotion.check_unused([model], data)
        pipeline = artifact.load(model)
        columns = [pipeline.label_set.index(label) for label in label_set.ids]
        predictions = pipeline.predict([line.message for line in lines])
        probabilities = np.array([p.probabilities for p in predictions])[:, columns]
    suspects = label_errors.rank(
        lines, label_set, load_rules(), limit=limit, probabilities=probabilities
    )
    upkeep.write_suspects(suspects, output, label_set, language=language)
    doubted = sum(suspect.suggested != suspect.line.labels for suspect in suspects)
    _say(f"{len(suspects)} of {len(lines)} lines, {doubted} with a suggestion → {output}")


def ledger(
    data: Data,
    rules: Annotated[
        Path | None, typer.Option("--rules", help="Rule file. Default: the shipped one.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The whole ledger: .xlsx or .json.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one bar: keep=0.9, reviewed=20. Repeatable."),
    ] = None,
    language: Language = "zh",
) -> None:
    """Keep, tighten or retire: what each rule is worth on reviewed lines; new patterns."""
    from cs_classifier import datasets
    from cs_classifier.config import build_config
    from cs_classifier.labels import load_labels
    from cs_classifier.reports import upkeep
    from cs_classifier.rules import load_rules
    from cs_classifier.upkeep import ledger as ledgers

    label_set = load_labels()
    config = build_config(ledgers.LedgerConfig, {}, overrides or [], where="--set")
    lines = datasets.gold(datasets.load(data, label_set))
    found = ledgers.build(load_rules(rules), lines, label_set.ids, config)
    if output:
        upkeep.write_ledger(found, output, label_set, language=language)
    sys.stdout.write(upkeep.ledger_text(found, label_set, language=language))


def _judge(
    new: Path,
    old: Path,
    data: list[Path],
    seen: list[Path],
    *,
    floor: float | None,
    alpha: float,
    seed: int,
) -> GateReport:
    import numpy as np

    from cs_classifier import artifact, datasets
    from cs_classifier.upkeep import gate, promotion

    pipelines = artifact.load(old), artifact.load(new)
    label_set = pipelines[1].label_set
    promotion.check_unused([old, new], data)
    trained, unchecked = promotion.seen_lines([old, new], label_set)
    return gate.judge(
        *pipelines,
        datasets.load(data, label_set),
        rng=np.random.default_rng(seed),
        seen=[*trained, *(datasets.load(seen, label_set) if seen else [])],
        unchecked=unchecked,
        floor=floor,
        alpha=alpha,
    )


def _show(
    report: GateReport, new: Path, output: Path | None, language: Literal["zh", "en"]
) -> None:
    from cs_classifier.labels import load_labels
    from cs_classifier.reports import upkeep
    from cs_classifier.reports.output import write_text

    sys.stdout.write(upkeep.gate_text(report, load_labels(new / "labels.yaml"), language=language))
    if output:
        write_text(output, report.model_dump_json(indent=2) + "\n")


def _say(text: str) -> None:
    Console(stderr=True).print(escape(text), highlight=False, soft_wrap=True)
