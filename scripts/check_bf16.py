"""Whether the model may be run in bf16: decisions and F1 against fp32, on any machine.

bf16 matrix units (AMX) take both factors of a product in bf16, add up in fp32, and the product is
rounded to bf16 again. That is imitated here in torch: inputs, weights and outputs of every linear
layer are rounded. It is slow, and no speed can be read off it. As in ``predict``, what comes near a
threshold is scored again in fp32. The gate: decisions agree on at least 99.8 % of real turns, and
no label's F1 on labelled lines falls by more than 0.3 points; logits differ by less than the
margin within which lines are scored again (``batching.ROUNDING``).

    python scripts/check_bf16.py --lines turns.jsonl --limit 10000
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cs_classifier import artifact, datasets, metrics
from cs_classifier.classifiers.torch import TorchSession
from cs_classifier.estimation import VIOLATION
from cs_classifier.pipeline import Pipeline
from cs_classifier.records import Message

PART = 500  # messages between two lines of progress


def as_bf16(session: TorchSession) -> None:
    """Let the linear layers of ``session`` compute as bf16 units do."""
    import torch

    def to_bf16(values: torch.Tensor) -> torch.Tensor:
        return values.to(torch.bfloat16).to(torch.float32)

    for layer in session._model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.data = to_bf16(layer.weight.data)
            layer.register_forward_pre_hook(lambda _, inputs: (to_bf16(inputs[0]),))
            layer.register_forward_hook(lambda _, __, output: to_bf16(output))


def levels(pipeline: Pipeline, messages: Sequence[Message]) -> tuple[np.ndarray, np.ndarray]:
    """Decisions and logits, each ``(n, n_labels)``."""
    scored = pipeline.score(messages)
    probabilities = pipeline.calibrator.transform(scored.logits, scored.strengths)
    return pipeline.decision.levels(probabilities, scored.strengths), scored.logits


def f1(called: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """F1 per label."""
    return metrics.f1((called * gold).sum(axis=0), called.sum(axis=0), gold.sum(axis=0))


def main() -> None:
    """Print both parts of the gate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=artifact.default_path())
    parser.add_argument("--lines", type=Path, help='real turns: JSONL with "text" and "context"')
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument("--data", type=Path, nargs="+", default=[Path("data/test")])
    parser.add_argument(
        "--no-check", action="store_true", help="score nothing again, to see all of bf16's effect"
    )
    args = parser.parse_args()
    exact, coarse = (artifact.load(args.model, engine="torch") for _ in range(2))
    for pipeline in (exact, coarse):  # torch itself takes bf16 where the hardware has it
        pipeline.encoder, pipeline.exact = pipeline.exact or pipeline.encoder, None
    as_bf16(coarse.encoder.session)
    if not args.no_check:
        coarse.exact = exact.encoder

    labelled = datasets.gold(datasets.load(args.data, exact.label_set))
    gold = np.array([exact.label_set.row(line.labels) for line in labelled], dtype=float)
    messages = [line.message for line in labelled]
    before, after = (f1(levels(p, messages)[0] == VIOLATION, gold) for p in (exact, coarse))
    for label, x, y in zip(exact.label_set.ids, before, after, strict=True):
        print(f"{label}: F1 of violation {x:.4f} in fp32, {y:.4f} in bf16", flush=True)

    if args.lines:
        rows = [json.loads(row) for row in args.lines.open(encoding="utf-8")][: args.limit]
        turns = [Message(row["text"], row.get("context") or "") for row in rows]
        differ, largest = 0, 0.0
        for start in range(0, len(turns), PART):
            part = turns[start : start + PART]
            (a, x), (b, y) = levels(exact, part), levels(coarse, part)
            differ += int((a != b).any(axis=1).sum())
            largest = max(largest, float(np.abs(x - y).max()))
            done = start + len(part)
            print(
                f"{done:,} turns: decisions differ on {differ} ({differ / done:.3%}), "
                f"logits by up to {largest:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
