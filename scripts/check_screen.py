"""What the model's screen clears, and what it costs: decisions and F1 with and without it.

The gate: decisions agree on at least 99.8 % of real turns, and no label's F1 on labelled lines
falls by more than 0.3 points.

    python scripts/check_screen.py --lines turns.jsonl --limit 8000
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cs_classifier import artifact, datasets, metrics
from cs_classifier.estimation import VIOLATION
from cs_classifier.pipeline import Pipeline
from cs_classifier.records import Message


def levels(
    pipeline: Pipeline, messages: Sequence[Message], *, screened: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Decisions ``(n, n_labels)``, and whether the encoder itself scored the line ``(n,)``."""
    scored = pipeline.score(messages, screened=screened)
    probabilities = pipeline.calibrator.transform(scored.logits, scored.strengths)
    return pipeline.decision.levels(probabilities, scored.strengths), scored.clauses.any(axis=1)


def compare(pipeline: Pipeline, messages: Sequence[Message]) -> tuple[np.ndarray, np.ndarray]:
    """Print what the screen does to these lines; returns decisions without and with it."""
    full, _ = levels(pipeline, messages, screened=False)
    quick, passed = levels(pipeline, messages, screened=True)
    same = (full == quick).all(axis=1).mean()
    reported, called = (full > 0).any(axis=1), (full == VIOLATION).any(axis=1)
    missed = (full != quick).any(axis=1)
    print(
        f"{len(messages)} lines, {passed.mean():.1%} passed on; decisions agree on {same:.3%}; "
        f"{(missed & reported).sum()} of {reported.sum()} reports are missed, "
        f"among them {(missed & called).sum()} of {called.sum()} violations"
    )
    return full, quick


def main() -> None:
    """Print both parts of the gate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=artifact.default_path())
    parser.add_argument("--lines", type=Path, help='real turns: JSONL with "text" and "context"')
    parser.add_argument("--limit", type=int, default=8000)
    parser.add_argument("--data", type=Path, nargs="+", default=[Path("data/test")])
    args = parser.parse_args()
    pipeline = artifact.load(args.model)
    if pipeline.screen is None:
        parser.error(f"{args.model} has no screen that this engine runs")
    labelled = datasets.gold(datasets.load(args.data, pipeline.label_set))
    gold = np.array([pipeline.label_set.row(line.labels) for line in labelled], dtype=float)
    full, quick = compare(pipeline, [line.message for line in labelled])
    calls = (full == VIOLATION, quick == VIOLATION)
    before, after = (
        metrics.f1((called * gold).sum(axis=0), called.sum(axis=0), gold.sum(axis=0))
        for called in calls
    )
    for label, x, y in zip(pipeline.label_set.ids, before, after, strict=True):
        print(f"  {label:24} F1 {x:.4f} -> {y:.4f}")
    if args.lines:
        rows = map(json.loads, args.lines.read_text(encoding="utf-8").splitlines())
        turns = [Message(row["text"], row.get("context") or "") for row in rows]
        compare(pipeline, list(dict.fromkeys(turns))[: args.limit])


if __name__ == "__main__":
    main()
