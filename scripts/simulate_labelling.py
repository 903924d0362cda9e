"""Does the queue choose better lines than chance? Whole labelling loops on the project's corpus.

    python scripts/simulate_labelling.py
    python scripts/simulate_labelling.py --violating 0

A pool of training lines plays the scored night; their labels are hidden until they are asked for.
Both strategies begin with the same random lines. In every round a learner is fitted on the lines
known so far and scores the rest, and ``queue`` or chance asks for the next ones. The learner is
cheap and has seen none of the pool's labels: logistic regression on TF-IDF (character n-grams of
line and context and words of the line, as in the TF-IDF baseline). The shipped encoder would know
the answers. Thresholds of best F1 come from ``--tune``, figures from ``--test``.

The corpus holds far more violations than traffic. So the pool is thinned by default to the mixture
of the corpus's natural files: 7 % violating lines, 25 % hard negatives, and all ordinary lines.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from cs_classifier import datasets, metrics
from cs_classifier.classifiers.tfidf import MIN_LINES, REGULARISATION
from cs_classifier.config import build_config
from cs_classifier.evaluation.comparison import best_f1_threshold
from cs_classifier.labeling.queue import QueueConfig, hashed_ngrams, queue
from cs_classifier.labels import load_labels
from cs_classifier.normalize import normalize
from cs_classifier.rules import load_rules
from cs_classifier.scored import ScoredFile, ScoredLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from cs_classifier.labeling.queue import Vectors
    from cs_classifier.labels import LabelSet
    from cs_classifier.records import LabelledMessage, Message

    Array = npt.NDArray[np.float64]

_EMPTY = dict.fromkeys(
    ("conversation_id", "turn", "timestamp", "agent_id", "shop", "platform", "team", "shift",
     "error"), "")  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Lines with their features ``(n, d)`` and labels ``(n, n_labels)``."""

    lines: Sequence[LabelledMessage]
    features: Any
    gold: Array


@dataclass(frozen=True)
class Point:
    """One model: how many of its lines are violating, and its figures on the test lines."""

    violating: int
    f1: float
    precision: float  # mean average precision


class Learner:
    """One logistic regression per label, with the thresholds of best F1 on ``tune``."""

    def __init__(self, known: Part, tune: Part) -> None:
        """Fit on ``known``; a label without violations, or with nothing else, is never called."""
        self._models = [
            LogisticRegression(C=REGULARISATION, max_iter=1000).fit(known.features, y)
            if 0 < y.sum() < len(y)
            else None
            for y in known.gold.T
        ]
        scores = self.scores(tune.features)
        self.thresholds = np.array(
            [
                np.inf if model is None else best_f1_threshold(s, y)
                for model, s, y in zip(self._models, scores.T, tune.gold.T, strict=True)
            ]
        )

    def scores(self, features: Any) -> Array:  # noqa: ANN401
        """Probabilities ``(n, n_labels)``."""
        columns = [
            np.zeros(features.shape[0]) if m is None else m.predict_proba(features)[:, 1]
            for m in self._models
        ]
        return np.column_stack(columns)

    def point(self, known: Part, test: Part) -> Point:
        """The figures on ``test``."""
        scores = self.scores(test.features)
        calls = scores >= self.thresholds
        f1 = metrics.f1((calls * test.gold).sum(0), calls.sum(0), test.gold.sum(0))
        return Point(
            violating=int(known.gold.any(axis=1).sum()),
            f1=float(np.nanmean(f1)),
            precision=metrics.mean_average_precision(test.gold, scores),
        )


@dataclass(frozen=True)
class Simulation:
    """A pool with the rule hits of its lines, and what models are measured with."""

    pool: Part
    rules: Sequence[tuple[str, ...]]
    tune: Part
    test: Part
    label_set: LabelSet
    embed: Callable[[Sequence[Message]], Vectors]

    def part(self, rows: Sequence[int]) -> Part:
        """Some lines of the pool."""
        picked = list(rows)
        lines = [self.pool.lines[row] for row in picked]
        return Part(lines, self.pool.features[picked], self.pool.gold[picked])

    def chosen(
        self, start: Sequence[int], budgets: Sequence[int], config: QueueConfig, seed: int
    ) -> list[Point]:
        """Let the queue choose ``budgets`` lines, one round after the other."""
        rng = np.random.default_rng(seed)
        known, points = list(start), []
        for budget in (*budgets, 0):
            learned = Learner(self.part(known), self.tune)
            points.append(learned.point(self.part(known), self.test))
            if budget:
                night = self._night(learned)
                labelled = [self.pool.lines[row].message for row in known]
                asked = queue(
                    night, budget, rng=rng, labelled=labelled, config=config, embed=self.embed
                )
                known += [item.line.row for item in asked]
        return points

    def random(self, order: Sequence[int], sizes: Sequence[int]) -> list[Point]:
        """The first lines of a random ``order``."""
        parts = [self.part(order[:size]) for size in sizes]
        return [Learner(part, self.tune).point(part, self.test) for part in parts]

    def _night(self, learned: Learner) -> ScoredFile:
        scores = learned.scores(self.pool.features)
        ids = self.label_set.ids
        lines = [
            ScoredLine(
                key=line.id, file="pool", row=row, text=line.message.text,
                context=line.message.context, probabilities=tuple(p.tolist()),
                labels=tuple(x for x, called in zip(ids, p >= learned.thresholds, strict=True)
                             if called),
                review=(), rules=self.rules[row], tags=(), evidence=(), joined=False, model="",
                **_EMPTY,
            )
            for row, (line, p) in enumerate(zip(self.pool.lines, scores, strict=True))
        ]  # fmt: skip
        return ScoredFile(ids, tuple(lines))


def remembered() -> Callable[[Sequence[Message]], Vectors]:
    """The queue's own vectors, each computed once."""
    known: dict[Message, Vectors] = {}

    def embed(messages: Sequence[Message]) -> Vectors:
        new = [message for message in dict.fromkeys(messages) if message not in known]
        known.update(zip(new, hashed_ngrams(new), strict=True))
        return np.array([known[message] for message in messages])

    return embed


def thinned(
    lines: Sequence[LabelledMessage], violating: float, hard: float, rng: np.random.Generator
) -> list[LabelledMessage]:
    """All ordinary lines, and so many others that they make up the shares given."""
    kinds: dict[str, list[int]] = {"violating": [], "hard": [], "ordinary": []}
    for i, line in enumerate(lines):
        kinds["violating" if line.labels else "hard" if line.clauses else "ordinary"].append(i)
    size = len(kinds["ordinary"]) / (1 - violating - hard)
    keep = list(kinds["ordinary"])
    for kind, share in (("violating", violating), ("hard", hard)):
        keep += rng.choice(kinds[kind], round(share * size), replace=False).tolist()
    return [lines[i] for i in sorted(keep)]


def tfidf(parts: Sequence[Sequence[LabelledMessage]]) -> list[Any]:
    """TF-IDF of each part, with the document frequencies of the first."""
    import jieba

    jieba.setLogLevel(logging.WARNING)
    common = {"sublinear_tf": True, "min_df": MIN_LINES}
    characters = {"analyzer": "char", "ngram_range": (1, 3), **common}
    words = {"tokenizer": jieba.lcut, "token_pattern": None, "ngram_range": (1, 2), **common}
    line = [[normalize(x.message.text).text for x in part] for part in parts]
    context = [[normalize(x.message.context).text for x in part] for part in parts]
    columns = []
    for texts, options in ((line, characters), (line, words), (context, characters)):
        vectorizer = TfidfVectorizer(**options).fit(texts[0])
        columns.append([vectorizer.transform(part) for part in texts])
    return [hstack(blocks).tocsr() for blocks in zip(*columns, strict=True)]


def simulations(options: argparse.Namespace) -> Iterator[Simulation]:
    """A pool for each seed, and what it is measured with; as it is, the pool is always the same."""
    label_set, rules = load_labels(), load_rules()
    pool, tune, test = (
        datasets.gold(datasets.load(paths, label_set))
        for paths in (options.pool, options.tune, options.test)
    )
    world = None
    for seed in range(options.seeds):
        if options.violating or world is None:
            rng = np.random.default_rng([seed, 1])
            part = (
                thinned(pool, options.violating, options.hard, rng) if options.violating else pool
            )
            lines = [part, tune, test]
            features = tfidf(lines)
            gold = [np.array([label_set.row(x.labels) for x in y], dtype=float) for y in lines]
            hits = [tuple(h.rule for h in rules.match_message(x.message) if h.clause) for x in part]
            parts = [Part(*values) for values in zip(lines, features, gold, strict=True)]
            world = Simulation(parts[0], hits, parts[1], parts[2], label_set, remembered())
        yield world


def main() -> None:
    """Run the loops and print the curves as a table."""
    options = _options()
    config = build_config(QueueConfig, {}, options.set, where="--set")
    budgets = [options.size] * options.rounds
    last = options.start + sum(budgets)
    sizes = [options.start + options.size * i for i in range(options.rounds + 1)]
    sizes += [round(options.start + 1.4 * sum(budgets)), round(1.4 * last)]
    curves = []
    for seed, world in enumerate(simulations(options)):
        lines = len(world.pool.lines)
        violating = int(world.pool.gold.any(axis=1).sum())
        print(f"seed {seed}: pool of {lines:,} lines, {violating:,} violating", flush=True)
        order = np.random.default_rng([seed, 2]).permutation(lines).tolist()
        chosen = world.chosen(order[: options.start], budgets, config, seed)
        curves.append((chosen, world.random(order, sizes)))
        for name, points in zip(("queue", "random"), curves[-1], strict=True):
            print(f"  macro-F1, {name}:", *(f"{point.f1:.3f}" for point in points), flush=True)
    print("\n| lines | queue: violating | macro-F1 | mAP | random: violating | macro-F1 | mAP |")
    print("|---|---|---|---|---|---|---|")
    for i, size in enumerate(sizes):
        queued = [chosen[i] for chosen, _ in curves if i < len(chosen)]
        print(f"| {size:,} | {_cells(queued)} | {_cells([c[i] for _, c in curves])} |")
    for i, bar in ((-2, "40 % more chosen lines"), (-1, "40 % more lines in all")):
        gains = [chosen[-1].f1 - randoms[i].f1 for chosen, randoms in curves]
        shown = ", ".join(f"{gain:+.3f}" for gain in gains)
        print(f"macro-F1, queue at {last:,} less random at {sizes[i]:,} ({bar}): {shown}")


def _cells(points: Sequence[Point]) -> str:
    if not points:
        return "– | – | –"
    rows = np.array([(p.violating, p.f1, p.precision) for p in points])
    (found, f1, ap), (_, f1_sd, ap_sd) = rows.mean(axis=0), rows.std(axis=0)
    return f"{found:.0f} | {f1:.3f} ± {f1_sd:.3f} | {ap:.3f} ± {ap_sd:.3f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=Path, nargs="+", default=[Path("data/train")])
    parser.add_argument("--tune", type=Path, nargs="+", default=[Path("data/calibration")])
    parser.add_argument("--test", type=Path, nargs="+", default=[Path("data/test")])
    parser.add_argument("--violating", type=float, default=0.07, help="0: the pool as it is")
    parser.add_argument("--hard", type=float, default=0.25, help="share of hard negatives")
    parser.add_argument("--start", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], help="of the queue: random=0.5")
    return parser.parse_args()


if __name__ == "__main__":
    main()
