"""How often evidence passes the deletion test, how long it is, and what the search for it costs.

    python scripts/check_evidence.py [--model models/default] [--lines 500] [FILE.jsonl …]

Every label decided "violation" or "review" counts once. Its evidence passes if the line without it,
scored anew from the beginning, stays below the threshold of that outcome. A line of which nothing
but punctuation is left passes too, and is counted apart ("nothing left"). "Short": at most 12
characters or a third of the line. Files hold rows with "context" and "text"; without any, those of
data/test and data/evasion are taken, each folder as one set.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from cs_classifier import artifact
from cs_classifier.evidence import MODEL, PARTIAL, is_blank, merge
from cs_classifier.metrics import wilson
from cs_classifier.pipeline import Pipeline
from cs_classifier.records import Evidence, Message

ROOT = Path(__file__).resolve().parent.parent
SHORT = 12
T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """One flagged label with its evidence."""

    message: Message
    column: int
    outcome: str
    evidence: tuple[Evidence, ...]

    @property
    def kind(self) -> str:
        """What the evidence consists of."""
        return "with rule hits" if self.evidence[0].source not in {MODEL, PARTIAL} else "no rule"

    @property
    def rest(self) -> Message:
        """The line without the evidence."""
        text, at, kept = self.message.text, 0, []
        for start, end in merge((item.start, item.end) for item in self.evidence):
            kept.append(text[at:start])
            at = end
        return Message("".join(kept) + text[at:], self.message.context)

    @property
    def length(self) -> int:
        """Characters of the evidence."""
        return len(self.message.text) - len(self.rest.text)


class Watch:
    """Adds up the messages that a function got and the seconds it took."""

    messages, seconds = 0, 0.0

    def over(self, function: Callable[[Sequence[Message]], T]) -> Callable[[Sequence[Message]], T]:
        """The function under watch."""

        def watched(messages: Sequence[Message]) -> T:
            start = time.perf_counter()
            result = function(messages)
            self.messages += len(messages)
            self.seconds += time.perf_counter() - start
            return result

        return watched


def read(paths: Sequence[Path], count: int, generator: np.random.Generator) -> list[Message]:
    """Distinct messages of the files, at most ``count``, drawn at random."""
    rows = [json.loads(line) for path in paths for line in path.open(encoding="utf-8")]
    found = list(dict.fromkeys(Message(row["text"], row.get("context") or "") for row in rows))
    kept = sorted(generator.permutation(len(found))[:count])
    return [found[i] for i in kept]


def report(pipeline: Pipeline, cases: list[Case]) -> None:
    """Print one line per group of cases."""
    rests = [case.rest for case in cases]
    blank = np.array([is_blank(rest.text) for rest in rests])
    scored = pipeline.probabilities(rests)
    limits = np.array([getattr(pipeline.decision.labels[c.column], c.outcome) for c in cases])
    below = scored[np.arange(len(cases)), [c.column for c in cases]] < limits
    passed = blank | below
    lengths = np.array([case.length for case in cases])
    shares = lengths / [len(case.message.text) for case in cases]
    groups = {"all": np.ones(len(cases), bool)}
    for name in ("violation", "review"):
        groups[name] = np.array([case.outcome == name for case in cases])
    for name in ("with rule hits", "no rule"):
        groups[name] = np.array([case.kind == name for case in cases])
    for name, rows in groups.items():
        if rows.any():
            k, n = int(passed[rows].sum()), int(rows.sum())
            low, high = wilson(k, n)
            short = ((lengths <= SHORT) | (shares <= 1 / 3))[rows].mean()
            print(
                f"  {name:15} pass {k}/{n} = {k / n:.3f} [{low:.3f}, {high:.3f}]"
                f"  nothing left {blank[rows].mean():.2f}"
                f"  length {np.median(lengths[rows]):g}  of the line {np.median(shares[rows]):.2f}"
                f"  short {short:.2f}"
            )


def check(pipeline: Pipeline, name: str, messages: list[Message]) -> None:
    """Predict, then delete the evidence and score again."""
    whole, search = Watch(), Watch()
    pipeline.probabilities = search.over(pipeline.probabilities)  # predict needs it for evidence
    found = whole.over(pipeline.predict)(messages)
    del pipeline.probabilities  # the method again
    cases = [
        Case(message, column, outcome, own)
        for message, prediction in zip(messages, found, strict=True)
        for column, outcome in enumerate(prediction.outcomes)
        if outcome != "clear"
        for label in [pipeline.label_set.ids[column]]
        for own in [tuple(item for item in prediction.evidence if item.label == label)]
    ]
    others = whole.seconds - search.seconds
    print(
        f"{name}: {len(messages)} lines, {len(cases)} flagged labels, {search.messages} further "
        f"lines scored for evidence, {100 * search.seconds / others:.1f} % more time"
    )
    if cases:
        report(pipeline, cases)


def main() -> None:
    """Check every set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--lines", type=int, default=500, help="drawn from each set")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sets = {path.name: [path] for path in options.files} or {
        name: sorted((ROOT / "data" / name).glob("*.jsonl")) for name in ("test", "evasion")
    }
    pipeline = artifact.load(options.model)
    pipeline.predict([Message("好的")])
    for name, paths in sets.items():
        check(pipeline, name, read(paths, options.lines, np.random.default_rng(options.seed)))


if __name__ == "__main__":
    main()
