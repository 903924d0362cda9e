"""How many reviewed lines a refit of calibration and thresholds takes.

Draws samples of the calibration lines, refits calibration and thresholds on each as ``calibrate``
does, and decides the test lines with them. Printed per sample size, as mean over the repetitions
and, for precision and recall, the worst tenth: precision of violation (all labels together), its
recall and the recall with review (mean over labels), the largest calibration error of a label, and
for how many labels the precision floor was proven. ``shipped`` are the model's own thresholds.

    python scripts/simulate_refit.py models/default --repeat 20
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cs_classifier import artifact, datasets, metrics
from cs_classifier.calibration import Calibrator
from cs_classifier.decision import Decision
from cs_classifier.estimation import REVIEW, VIOLATION
from cs_classifier.labels import LabelSet
from cs_classifier.pipeline import Pipeline
from cs_classifier.records import LabelledMessage
from cs_classifier.training import fit_decision

COLUMNS = (
    "precision",
    "(worst tenth)",
    "recall",
    "(worst tenth)",
    "with review",
    "largest ECE",
    "floor proven",
)


class Scores:
    """Lines with their logits and rule strengths, computed once."""

    def __init__(self, pipeline: Pipeline, lines: Sequence[LabelledMessage]) -> None:
        """Score ``lines``."""
        self.lines = lines
        scored = pipeline.score([line.message for line in lines])
        self.logits, self.strengths = scored.logits, scored.strengths
        rows = [pipeline.label_set.row(line.labels) for line in lines]
        self.gold = np.array(rows, dtype=np.float64)


def measured(calibrator: Calibrator, decision: Decision, test: Scores) -> list[float]:
    """Precision, recall, recall with review, largest ECE, labels with a proven floor."""
    probabilities = calibrator.transform(test.logits, test.strengths)
    levels = decision.levels(probabilities)
    support = test.gold.sum(axis=0)
    called = levels == VIOLATION
    hits = (called * test.gold).sum(axis=0)
    precision = hits.sum() / max(1, called.sum())
    with_review = ((levels >= REVIEW) * test.gold).sum(axis=0) / support
    errors = [
        metrics.expected_calibration_error(gold, p)
        for gold, p in zip(test.gold.T, probabilities.T, strict=True)
    ]
    proven = sum(at.floor_met for at in decision.labels)
    return [precision, (hits / support).mean(), with_review.mean(), max(errors), proven]


def row(name: str, runs: list[list[float]]) -> str:
    """One line of the table."""
    values = np.array(runs)
    precision, recall, review, error, proven = values.mean(axis=0)
    low_precision, low_recall = np.quantile(values[:, :2], 0.1, axis=0)
    numbers = (precision, low_precision, recall, low_recall, review, error)
    cells = [f"{number:.3f}" for number in numbers] + [f"{proven:.1f}"]
    return f"| {name} | " + " | ".join(cells) + " |"


def refit(pool: Scores, rows: np.ndarray, labels: LabelSet, decision: Decision) -> tuple:
    """Calibrator and thresholds from some rows of ``pool``."""
    lines = [pool.lines[i] for i in rows]
    return fit_decision(pool.logits[rows], pool.strengths[rows], lines, labels, decision.config)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data/calibration"))
    parser.add_argument("--test", type=Path, default=Path("data/test"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 250, 500, 1000, 2000])
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pipeline = artifact.load(args.model)
    pool, test = (
        Scores(pipeline, datasets.gold(datasets.load([path], pipeline.label_set)))
        for path in (args.data, args.test)
    )
    rng = np.random.default_rng(args.seed)
    print("| reviewed lines | violations | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for size in (n for n in args.sizes if n < len(pool.lines)):
        runs, positives = [], []
        for _ in range(args.repeat):
            rows = rng.choice(len(pool.lines), size, replace=False)
            positives.append(pool.gold[rows].any(axis=1).sum())
            fitted = refit(pool, rows, pipeline.label_set, pipeline.decision)
            runs.append(measured(*fitted, test))
        print(row(f"{size:,} | {np.mean(positives):.0f}", runs), flush=True)
    everything = np.arange(len(pool.lines))
    fitted = refit(pool, everything, pipeline.label_set, pipeline.decision)
    violations = int(pool.gold.any(axis=1).sum())
    print(row(f"{len(everything):,} | {violations}", [measured(*fitted, test)]))
    print(row("shipped | ", [measured(pipeline.calibrator, pipeline.decision, test)]))


if __name__ == "__main__":
    main()
