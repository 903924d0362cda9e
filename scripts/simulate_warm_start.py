"""What newly labelled lines of a world that the model never saw bring, there and elsewhere.

Draws some of the new lines, whole groups at a time, trains the model on with them as
``configs/warm_start.yaml`` says, and compares it with the model before: on the new lines that were
not drawn, and on ``--elsewhere``. Printed is the macro-F1 of violation at each model's thresholds,
over the labels that occur, and the difference with its paired 95 % interval (cluster bootstrap over
groups). The new lines must be unknown to the model.

    python scripts/simulate_warm_start.py models/default new.jsonl --lines 300
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cs_classifier import artifact, datasets, metrics, training
from cs_classifier.config import TrainConfig, load_config
from cs_classifier.estimation import VIOLATION
from cs_classifier.labels import load_labels
from cs_classifier.pipeline import Pipeline
from cs_classifier.records import LabelledMessage

RESAMPLES = 2000


def part(
    lines: Sequence[LabelledMessage], size: int, rng: np.random.Generator
) -> tuple[list[LabelledMessage], list[LabelledMessage]]:
    """About ``size`` lines, whole groups at a time, and the rest."""
    groups = sorted({line.group for line in lines})
    rng.shuffle(groups)
    drawn: list[LabelledMessage] = []
    while groups and len(drawn) < size:
        group = groups.pop()
        drawn += [line for line in lines if line.group == group]
    return drawn, [line for line in lines if line.group in set(groups)]


def train_on(drawn: Sequence[LabelledMessage], config: TrainConfig, folder: Path) -> Pipeline:
    """The model of ``config``, trained on with ``drawn``."""
    folder.mkdir(parents=True, exist_ok=True)
    datasets.dump(drawn, folder / "new.jsonl")
    data = config.data.model_copy(update={"train": (folder / "new.jsonl",), "test": ()})
    changed = config.model_copy(update={"data": data})
    training.train(changed, folder / "model", work=folder / "work")
    return artifact.load(folder / "model")


def macro_f1(called: np.ndarray, gold: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Macro-F1 over the labels that occur, and its resamples ``(n_resamples,)``."""
    occurs = gold.any(axis=0)
    called, gold = called[:, occurs].astype(float), gold[:, occurs]
    ones = np.ones((1, len(gold)))
    value, samples = (
        metrics.f1(w @ (called * gold), w @ called, w @ gold).mean(axis=1) for w in (ones, weights)
    )
    return float(value[0]), samples


def called(model: Pipeline, lines: Sequence[LabelledMessage]) -> np.ndarray:
    """Which labels ``model`` calls a violation, ``(n, n_labels)``."""
    probabilities = model.probabilities([line.message for line in lines])
    return model.decision.levels(probabilities) == VIOLATION


def compare(
    models: Sequence[Pipeline], lines: Sequence[LabelledMessage], rng: np.random.Generator
) -> str:
    """Macro-F1 of both models and the difference, as table cells."""
    gold = np.array([models[0].label_set.row(line.labels) for line in lines], dtype=float)
    weights = metrics.bootstrap_weights([line.group for line in lines], RESAMPLES, rng)
    (old, olds), (new, news) = (macro_f1(called(model, lines), gold, weights) for model in models)
    low, high = metrics.interval(news - olds)
    violating = int(gold.any(axis=1).sum())
    difference = f"{new - old:+.3f} [{low:+.3f}, {high:+.3f}]"
    return f"{len(lines):,} | {violating} | {old:.3f} | {new:.3f} | {difference}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("new", type=Path, nargs="+", help="labelled lines of the unseen world")
    parser.add_argument("--lines", type=int, default=300)
    parser.add_argument("--elsewhere", type=Path, default=Path("data/test"))
    parser.add_argument("--config", type=Path, default=Path("configs/warm_start.yaml"))
    parser.add_argument("--output", type=Path, default=Path("runs/warm_start"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    args = parser.parse_args()
    overrides = ["data.calibration=[data/calibration]", f"model.base={args.model}"]
    config = load_config(TrainConfig, args.config, [*overrides, *args.overrides])
    label_set = load_labels()
    world = datasets.gold(datasets.load(args.new, label_set))
    elsewhere = datasets.gold(datasets.load([args.elsewhere], label_set))
    before = artifact.load(args.model)
    print("| seed | new lines | scored on | lines | violating | before | after | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for seed in range(args.seeds):
        rng = np.random.default_rng(seed)
        drawn, rest = part(world, args.lines, rng)
        after = train_on(drawn, config, args.output / str(seed))
        for name, lines in (("the new world", rest), ("elsewhere", elsewhere)):
            cells = compare((before, after), lines, rng)
            print(f"| {seed} | {len(drawn)} | {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
