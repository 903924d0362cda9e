"""What to label next: lines that teach most, no two alike, and always some at random.

Every label gets its share of the lines nearest to a decision, the rarest label first. Among the
nearest, a line counts for less the more it is like one that is labelled or chosen already (maximal
marginal relevance, Carbonell & Goldstein 1998). A template is asked once. A queue is no sample:
nothing can be estimated from it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cs_classifier.config import Config
from cs_classifier.errors import DataError
from cs_classifier.labeling.store import key_of
from cs_classifier.records import Message
from cs_classifier.reviews import Sampled
from cs_classifier.sampling import template

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cs_classifier.scored import ScoredFile, ScoredLine

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
Embed = Callable[[Sequence[Message]], Vectors]  # messages to (n, d), rows of length 1

STRATUM = "queue"  # before the reason, in Sampled.stratum
_DIMENSIONS = 2048
_TEXT_SHARE = 0.7  # of the likeness of two messages; the rest is that of their contexts
_CHUNK = 1024  # lines compared at a time
_CERTAIN = 1e-6


class QueueConfig(Config):
    """How a budget is spent; what is left by the two shares goes to uncertain lines."""

    random: float = Field(default=0.2, gt=0, le=1)
    disagreement: float = Field(default=0.2, ge=0, le=1)
    candidates: int = Field(default=5, ge=1)  # looked at for each line chosen
    alike: float = Field(default=0.85, gt=0, le=1)  # cosine from which lines say the same


def queue(  # noqa: PLR0913
    scored: ScoredFile,
    budget: int,
    *,
    rng: np.random.Generator,
    labelled: Sequence[Message] = (),
    like: str = "",
    config: QueueConfig | None = None,
    embed: Embed | None = None,
) -> list[Sampled]:
    """Choose up to ``budget`` lines; ``stratum`` says why, as in "queue:random".

    Probabilities of drawing are not defined, and given as 1. Random lines are blind.

    Args:
        scored: the lines to choose from.
        budget: how many lines.
        rng: for the random share.
        labelled: lines that have labels; neither they nor lines like them are asked again.
        like: choose lines like this one, in place of uncertain ones and disagreements.
        config: shares.
        embed: vectors of messages; by default those of :func:`hashed_ngrams`.

    Raises:
        DataError: no line is left to choose from.
    """
    settings = config or QueueConfig()
    lines = _pool(scored, labelled)
    if not lines:
        msg = "no line is left to choose from: none was scored, or all have labels; score new ones"
        raise DataError(msg)
    chosen = _Chosen(lines, labelled, embed=embed or hashed_ngrams, settings=settings)
    lottery = rng.permutation(len(lines))
    chosen.take("random", lottery, max(1, round(settings.random * budget)))
    if like:
        chosen.take("like", chosen.most_like(like), budget - len(chosen.rows))
    else:
        _targeted(chosen, lines, scored.label_ids, budget, settings)
    chosen.take("random", lottery, budget - len(chosen.rows))
    return [
        Sampled(
            lines[row], f"{STRATUM}:{reason}", 1.0, lines[row].suspected * shown, blind=not shown
        )
        for row, reason in chosen.rows.items()
        for shown in (reason != "random",)
    ]


def _pool(scored: ScoredFile, labelled: Iterable[Message]) -> list[ScoredLine]:
    """The scored lines without labels, each message once."""
    seen = {key_of(message) for message in labelled}
    pool = []
    for line in scored.lines:
        key = key_of(Message(line.text, line.context))
        if line.probabilities and key not in seen:
            seen.add(key)
            pool.append(line)
    return pool


def _targeted(
    chosen: _Chosen,
    lines: Sequence[ScoredLine],
    label_ids: Sequence[str],
    budget: int,
    settings: QueueConfig,
) -> None:
    """Disagreements, then uncertain lines, the rarest label first and all labels alike."""
    quota = min(round(settings.disagreement * budget), budget - len(chosen.rows))
    chosen.take("disagreement", disagreements(lines), quota, spread=True)
    p = np.array([line.probabilities for line in lines])
    for done, j in enumerate(np.argsort(p.sum(axis=0)).tolist()):
        quota = (budget - len(chosen.rows)) // (len(label_ids) - done)
        order = np.argsort(margins(lines, p[:, j], label_ids[j]), kind="stable")
        chosen.take(f"uncertain:{label_ids[j]}", order, quota, spread=True)


def margins(lines: Sequence[ScoredLine], p: Array, label: str) -> Array:
    """Distance of each probability ``p`` to the nearest decision on ``label``, in logits.

    Decisions begin at the lowest probability decided violation or review; where no line was, at
    one half, so that the likeliest lines come first.
    """
    decided = [
        np.array([label in x.labels for x in lines]),
        np.array([label in x.review for x in lines]),
    ]
    bounds = [p[flags].min() for flags in decided if flags.any()] or [0.5]
    distances = np.array([np.abs(_logit(p) - _logit(np.array(bound))) for bound in bounds])
    return np.asarray(distances.min(axis=0))


def _logit(p: Array) -> Array:
    clipped = np.clip(p, _CERTAIN, 1 - _CERTAIN)
    return np.asarray(np.log(clipped / (1 - clipped)))


def disagreements(lines: Sequence[ScoredLine]) -> list[int]:
    """Rows where only the rules or only the model found something, the clearest first, in turn."""
    sure = [max(line.probabilities) for line in lines]
    rules = [i for i, line in enumerate(lines) if line.rules and not line.suspected]
    model = [i for i, line in enumerate(lines) if line.labels and not line.rules]
    rules.sort(key=lambda i: sure[i])
    model.sort(key=lambda i: -sure[i])
    return [i for i in chain.from_iterable(zip_longest(rules, model)) if i is not None]


class _Chosen:
    """Lines chosen so far (``rows``: row to reason), and what they keep from being chosen."""

    def __init__(
        self,
        lines: Sequence[ScoredLine],
        labelled: Sequence[Message],
        *,
        embed: Embed,
        settings: QueueConfig,
    ) -> None:
        self.rows: dict[int, str] = {}
        self._messages = [Message(line.text, line.context) for line in lines]
        self._templates = [template(line.text) for line in lines]
        self._asked: set[str] = set()
        self._embed = embed
        self._settings = settings
        self._taken = [embed(part) for part in _chunks(labelled)]

    def take(self, reason: str, order: Iterable[int], quota: int, *, spread: bool = False) -> None:
        """Choose up to ``quota`` rows of ``order``, no two alike.

        The first come first; with ``spread``, being far from all others counts as much.
        """
        free = [i for i in map(int, order) if self._templates[i] not in self._asked]
        step = max(1, quota * self._settings.candidates)
        for start in range(0, len(free), step):
            if quota <= 0:
                return
            quota -= self._choose(reason, free[start : start + step], quota, spread=spread)

    def _choose(self, reason: str, rows: Sequence[int], quota: int, *, spread: bool) -> int:
        vectors = self._embed([self._messages[row] for row in rows])
        near = np.max(
            [np.zeros(len(rows)), *((vectors @ t.T).max(axis=1) for t in self._taken)], axis=0
        )
        near[[self._templates[row] in self._asked for row in rows]] = 1.0
        rank = np.arange(len(rows)) / len(rows)
        picks: list[int] = []
        while len(picks) < quota and near.min() < self._settings.alike:
            cost = rank + near * spread
            pick = int(np.argmin(np.where(near < self._settings.alike, cost, np.inf)))
            picks.append(pick)
            name = self._templates[rows[pick]]
            near = np.maximum(near, vectors @ vectors[pick])
            near[[self._templates[row] == name for row in rows]] = 1.0
            self.rows[rows[pick]] = reason
            self._asked.add(name)
        if picks:
            self._taken.append(vectors[picks])
        return len(picks)

    def most_like(self, text: str) -> Ints:
        """Rows whose text is most like ``text``, the most alike first."""
        target = self._embed([Message(text)])[0]
        texts = [Message(message.text) for message in self._messages]
        near = np.concatenate([self._embed(part) @ target for part in _chunks(texts)])
        return np.argsort(-near, kind="stable")


def _chunks(messages: Sequence[Message]) -> list[Sequence[Message]]:
    return [messages[i : i + _CHUNK] for i in range(0, len(messages), _CHUNK)]


def hashed_ngrams(messages: Sequence[Message]) -> Vectors:
    """Pairs and triples of characters, hashed; shape ``(n, 2048)``, rows of length 1.

    Digits, punctuation and case do not count.
    """
    vectors = np.zeros((len(messages), _DIMENSIONS), dtype=np.float32)
    for row, message in zip(vectors, messages, strict=True):
        for part, share in ((message.text, _TEXT_SHARE), (message.context, 1 - _TEXT_SHARE)):
            if grams := _ngrams(part):
                cells, counts = np.unique(grams, return_counts=True)
                row[cells] += np.sqrt(share) * counts / np.linalg.norm(counts)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors


def _ngrams(text: str) -> list[int]:
    marked = f"^{template(text)}$" if text.strip() else ""
    grams = (marked[i : i + n] for n in (2, 3) for i in range(len(marked) - n + 1))
    return [zlib.crc32(gram.encode("utf-8", "replace")) % _DIMENSIONS for gram in grams]
