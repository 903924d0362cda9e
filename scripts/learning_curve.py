"""What more training lines bring: BERT, TF-IDF and regex on the test files, by training size.

Each size takes whole groups at random, and a larger size holds the smaller ones. Small sizes get
more epochs, so that every run makes at least ``--updates`` steps. All runs share calibration and
test files. Finished sizes are kept in the output folder and not run again.

    python scripts/learning_curve.py --sizes 1000 2000 4000 8000 --output runs/curve
"""

import argparse
import json
from pathlib import Path

import numpy as np

from cs_classifier import datasets, training
from cs_classifier.config import TrainConfig, load_config
from cs_classifier.labels import load_labels
from cs_classifier.records import LabelledMessage

SYSTEMS = ("regex", "tfidf", "model", "model+review")
SCORES = "macro_f1.json"


def nested(
    lines: list[LabelledMessage], sizes: list[int], rng: np.random.Generator
) -> list[list[LabelledMessage]]:
    """One sample of whole groups per size, each within the next."""
    groups: dict[str, list[LabelledMessage]] = {}
    for line in lines:
        groups.setdefault(line.group, []).append(line)
    names = sorted(groups)
    rng.shuffle(names)
    shuffled = [line for name in names for line in groups[name]]
    return [shuffled[:size] for size in sorted(sizes)]


def run(lines: list[LabelledMessage], config: TrainConfig, folder: Path, updates: int) -> None:
    """Train and evaluate on ``lines``; leaves ``macro_f1.json`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    subset = folder / "train.jsonl"
    datasets.dump(lines, subset)
    epochs = max(config.train.epochs, -(-updates * config.train.batch_size // len(lines)))
    changed = config.model_copy(
        update={
            "data": config.data.model_copy(update={"train": (subset,)}),
            "train": config.train.model_copy(update={"epochs": epochs, "clauses": False}),
        }
    )
    report = training.train(changed, folder / "model", work=folder / "work")
    if report is None:
        msg = "the recipe names no test files"
        raise SystemExit(msg)
    scores = {s.system: s.macro_f1.model_dump() for s in report.systems}
    (folder / SCORES).write_text(json.dumps(scores, indent=1), encoding="utf-8")


def row(size: int, scores: dict[str, dict[str, float]]) -> str:
    """One line of the table: macro-F1 with its interval per system."""
    form = "{value:.2f} [{low:.2f}, {high:.2f}]"
    cells = [form.format(**scores[system]) for system in SYSTEMS]
    return f"| {size:,} | " + " | ".join(cells) + " |"


def main() -> None:
    """Run the sizes that are not finished, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 4000, 8000])
    parser.add_argument("--config", type=Path, default=Path("configs/train.yaml"))
    parser.add_argument("--updates", type=int, default=350)
    parser.add_argument("--output", type=Path, default=Path("runs/curve"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    args = parser.parse_args()
    config = load_config(TrainConfig, args.config, args.overrides)
    lines = datasets.gold(datasets.load(config.data.train, load_labels()))
    rng = np.random.default_rng(args.seed)
    sizes = sorted(args.sizes)
    print("| training lines | regex | TF-IDF | BERT violation | BERT with review |")
    print("|---|---|---|---|---|")
    for size, subset in zip(sizes, nested(lines, sizes, rng), strict=True):
        folder = args.output / str(size)
        if not (folder / SCORES).exists():
            run(subset, config, folder, args.updates)
        scores = json.loads((folder / SCORES).read_text(encoding="utf-8"))
        print(row(size, scores), flush=True)


if __name__ == "__main__":
    main()
