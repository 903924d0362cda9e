"""Are wrong labels found first? Flip some of the corpus, and rank it with ``label_errors``.

    python scripts/simulate_label_noise.py
    python scripts/simulate_label_noise.py --lines 5000 --seeds 3

One label of each chosen line is flipped: a violating line loses one of its labels, a clean line
gains one at random. The ranking knows nothing of it; its features are those of ``label-errors``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cs_classifier import datasets, metrics, splits
from cs_classifier.labels import LabelSet, load_labels
from cs_classifier.rules import RuleSet, load_rules
from cs_classifier.upkeep import label_errors

if TYPE_CHECKING:
    from cs_classifier.records import LabelledMessage

LOOKED_AT = (0.1, 0.2, 0.3, 0.5)  # shares of the ranking


def flipped(
    lines: list[LabelledMessage], share: float, label_set: LabelSet, rng: np.random.Generator
) -> tuple[list[LabelledMessage], set[str]]:
    """The lines with one label flipped in a share of them, and the ids of these."""
    noisy = list(lines)
    chosen = rng.choice(len(lines), round(share * len(lines)), replace=False)
    for i in chosen.tolist():
        labels = set(lines[i].labels)
        labels ^= {str(rng.choice(sorted(labels) or label_set.ids))}
        noisy[i] = replace(lines[i], labels=tuple(x for x in label_set.ids if x in labels))
    return noisy, {lines[i].id for i in chosen}


def ranking(lines: list[LabelledMessage], label_set: LabelSet, rules: RuleSet) -> list[int]:
    """Rows as ``label_errors.rank`` orders them, without the neighbours that it looks up."""
    gold = np.array([label_set.row(line.labels) for line in lines], dtype=np.bool_)
    p = label_errors.cross_validated(
        label_errors.features(lines), gold, lines, rules=rules, label_set=label_set,
        folds=label_errors.FOLDS,
    )  # fmt: skip
    quality, _ = label_errors.confidence(p, gold)
    return np.argsort(quality.min(axis=1), kind="stable").tolist()


def main() -> None:
    """Print how many flipped labels each part of the ranking holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", default=[Path("data/train")])
    parser.add_argument("--lines", type=int, help="at most so many, whole groups; all by default")
    parser.add_argument("--flip", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    label_set, rules = load_labels(), load_rules()
    every = datasets.gold(datasets.load(options.data, label_set))
    shares = " | ".join(f"in the first {share:.0%}" for share in LOOKED_AT)
    print(f"| seed | lines | flipped | {shares} |")
    print("|---" * (3 + len(LOOKED_AT)) + "|")
    for seed in range(options.seeds):
        rng = np.random.default_rng(seed)
        lines = every
        if options.lines and options.lines < len(every):
            lines = splits.by_group(every, options.lines / len(every), rng)[1]
        noisy, wrong = flipped(lines, options.flip, label_set, rng)
        hit = np.cumsum([noisy[i].id in wrong for i in ranking(noisy, label_set, rules)])
        cells = [_share(int(hit[round(x * len(lines)) - 1]), len(wrong)) for x in LOOKED_AT]
        print(f"| {seed} | {len(lines):,} | {len(wrong):,} | {' | '.join(cells)} |", flush=True)


def _share(found: int, total: int) -> str:
    low, high = metrics.wilson(found, total)
    return f"{found / total:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
