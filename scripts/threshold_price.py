"""What the shipped thresholds cost, and what is wrong at any threshold.

    python scripts/threshold_price.py [--model models/default] [--data data/test data/context_swap]

Each set is scored once and decided thrice: by the threshold of *violation*, by that of *review*,
and by the ones that would give the best F1 on this very set, which nobody can know beforehand. A
group of one reply under several messages is right if each of its lines is; a wrong one either
misses a violation, calls a clean line, or both.
"""

import argparse
from pathlib import Path

import numpy as np

from cs_classifier import artifact, datasets, metrics
from cs_classifier.evaluation.comparison import best_f1_threshold, contrast_groups


def main() -> None:
    """Print one table for each set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=artifact.default_path())
    parser.add_argument(
        "--data", type=Path, nargs="+", default=[Path("data/test"), Path("data/context_swap")]
    )
    args = parser.parse_args()
    pipeline = artifact.load(args.model)
    thresholds = pipeline.decision.labels
    for path in args.data:
        lines = datasets.gold(datasets.load([path], pipeline.label_set))
        gold = np.array([pipeline.label_set.row(line.labels) for line in lines]) > 0
        scored = pipeline.score([line.message for line in lines], screened=False)
        p = pipeline.calibrator.transform(scored.logits, scored.strengths)
        groups = contrast_groups(lines)
        print(f"{path}: {len(lines)} lines, {len(groups)} contrasting groups")
        print(
            "| thresholds | macro-F1 | clean lines called | groups right | missing | false | both |"
        )
        print("|---|---|---|---|---|---|---|")
        for name, at in {
            "*violation*": [t.violation for t in thresholds],
            "*review*": [t.review for t in thresholds],
            "best F1 here": [best_f1_threshold(*x) for x in zip(p.T, gold.T, strict=True)],
        }.items():
            called = p >= np.array(at)
            f1 = metrics.f1((called & gold).sum(0), called.sum(0), gold.sum(0))
            clean = called[~gold.any(axis=1)].any(axis=1)
            missed = np.array([(gold[rows] & ~called[rows]).any() for rows in groups])
            false = np.array([(called[rows] & ~gold[rows]).any() for rows in groups])
            cells = [
                f"{np.nanmean(f1):.3f}",
                f"{clean.sum()} of {len(clean)}",
                f"{(~missed & ~false).mean():.3f}",
                *map(
                    str, [(missed & ~false).sum(), (false & ~missed).sum(), (missed & false).sum()]
                ),
            ]
            print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
