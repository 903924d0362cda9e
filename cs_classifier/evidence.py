"""Why a label is suspected: the characters of a line without which it would not be.

What the rules found is evidence as it stands. Evidence should pass a deletion test: the line
without it, normalized, matched and encoded anew, stays below the threshold of its outcome. Where
the rules' spans do not pass, or there are none, pieces of the line are added one by one, each time
the one whose deletion lowers the probability most (occlusion, Zeiler & Fergus 2014; deletion test,
"comprehensiveness" in DeYoung et al. 2020, "ERASER").
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import chain, groupby
from math import inf
from typing import TYPE_CHECKING

from cs_classifier.records import Evidence, Message, RuleHit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    import numpy.typing as npt

    from cs_classifier.normalize import NormalizedText

    Probabilities = Callable[[Sequence[Message]], npt.NDArray[np.float64]]
    Span = tuple[int, int]
    Spans = tuple[Span, ...]

MODEL, PARTIAL = "model", "model-partial"  # sources: passes the deletion test; the best there is
PIECE = 8  # characters; a longer clause is cut into overlapping pieces
PIECES = 8  # a line of more than PIECE * PIECES characters is cut into longer pieces
LIMIT = 16  # characters that pieces may cover beside the rules' spans, or half of the line
ROUNDS = 4  # of scoring; each adds one piece at most
PART, STEP, PARTS = 160, 120, 20  # characters of a long line explained together, step, most parts
_CLAUSE = re.compile(r"\w+(?:[-.@:/+][A-Za-z0-9]+)*|[^\w\s,.。!?;:~…、()\"“”]+")
_INSIDE_WORD = re.compile(r"[A-Za-z0-9_]{2}")  # two characters that stay together


@dataclass(frozen=True)
class Suspicion:
    """One label of one line that is not clear."""

    message: Message
    text: NormalizedText  # of the message
    label: str
    column: int  # of the label
    threshold: float  # the probability from which the outcome holds
    hits: tuple[RuleHit, ...]  # of this label
    clause: str  # the likeliest by the model; empty where it names none


@dataclass(frozen=True)
class _Part:
    """Characters ``start:end`` of a suspicious line; all spans are the line's."""

    suspicion: Suspicion
    start: int
    end: int
    rules: Spans
    pieces: Spans
    spans: Spans = ()  # the evidence so far
    probability: float = inf  # of the part without it

    @property
    def decisive(self) -> bool:
        """Whether the evidence passes the deletion test."""
        return self.probability < self.suspicion.threshold

    def without(self, spans: Spans) -> Message:
        """The part without ``spans``."""
        message = self.suspicion.message
        edges = [self.start, *chain(*spans), self.end]
        kept = zip(edges[::2], edges[1::2], strict=True)
        return Message("".join(message.text[a:b] for a, b in kept), message.context)

    def trials(self) -> list[Spans]:
        """The rules' spans alone, then the evidence and one piece more, until it is decisive."""
        if self.decisive:
            return []
        if self.rules and not self.spans:
            return [self.rules]
        more = dict.fromkeys(merge((*self.spans, piece)) for piece in self.pieces)
        limit = max(LIMIT, self._size([(self.start, self.end)]) // 2) + self._size(self.rules)
        return [s for s in more if s != self.spans and (self._size(s) <= limit or not self.spans)]

    def _size(self, spans: Iterable[Span]) -> int:
        """Characters in disjoint spans, as normalized: separators inside a word do not count."""
        starts = self.suspicion.text.starts
        return sum(bisect_left(starts, end) - bisect_left(starts, start) for start, end in spans)


def explain(
    suspicions: Sequence[Suspicion], probabilities: Probabilities
) -> list[tuple[Evidence, ...]]:
    """Evidence of each suspicion: the rules' spans, then what the model relies on besides.

    Args:
        suspicions: labels that are not clear.
        probabilities: scores messages, shape ``(n, n_labels)``; called once a round.
    """
    parts = [part for s in dict.fromkeys(suspicions) for part in _parts(s, probabilities)]
    history = [parts]
    for _ in range(ROUNDS):
        history.append(_grown(history[-1], probabilities))
    best = [min(steps, key=lambda part: part.probability) for steps in zip(*history, strict=True)]
    found = {s: _evidence(s, list(own)) for s, own in groupby(best, lambda part: part.suspicion)}
    return [found[s] for s in suspicions]


def _parts(s: Suspicion, probabilities: Probabilities) -> list[_Part]:
    """The line; of a long one those parts that are suspicious by themselves, or the most so."""
    length = len(s.message.text)
    rules, cut = merge((hit.start, hit.end) for hit in s.hits), pieces(s.text)
    starts = range(0, max(1, length - PART + STEP), STEP)[:PARTS]
    bounds = [(start, min(start + PART, length)) for start in starts]
    parts = [_Part(s, *b, _within(rules, *b), _within(cut, *b) or (b,)) for b in bounds]
    if len(parts) == 1:
        return parts
    scores = _scores([(part, ()) for part in parts], probabilities)
    least = min(s.threshold, max(scores))
    return [part for part, p in zip(parts, scores, strict=True) if p >= least]


def _grown(parts: Sequence[_Part], probabilities: Probabilities) -> list[_Part]:
    """Each part after its best trial of one round, even where that is worse than before."""
    trials = [part.trials() for part in parts]
    pairs = [(part, spans) for part, own in zip(parts, trials, strict=True) for spans in own]
    scores = iter(_scores(pairs, probabilities))
    grown = []
    for part, own in zip(parts, trials, strict=True):
        found = [replace(part, spans=spans, probability=next(scores)) for spans in own]
        grown.append(min(found, key=lambda trial: trial.probability, default=part))
    return grown


def _scores(trials: Sequence[tuple[_Part, Spans]], probabilities: Probabilities) -> list[float]:
    """Probability of each part without the spans; 0 where no word is left to be suspected."""
    messages = [part.without(spans) for part, spans in trials]
    rest = [message for message in dict.fromkeys(messages) if not is_blank(message.text)]
    scored = dict(zip(rest, probabilities(rest), strict=True)) if rest else {}
    return [
        float(scored[message][part.suspicion.column]) if message in scored else 0.0
        for message, (part, _) in zip(messages, trials, strict=True)
    ]


def _evidence(s: Suspicion, parts: Sequence[_Part]) -> tuple[Evidence, ...]:
    """The rules' spans, and those of the parts that lie in none of them."""
    by_rules = [Evidence(s.label, h.rule, h.clause, h.start, h.end, h.text) for h in s.hits]
    ruled = merge((hit.start, hit.end) for hit in s.hits)
    source = MODEL if all(part.decisive for part in parts) else PARTIAL
    by_model = [
        Evidence(s.label, source, s.clause, *span, s.message.text[slice(*span)])
        for span in merge(chain(*(part.spans for part in parts)))
        if merge((*ruled, span)) != ruled
    ]
    return (*by_rules, *by_model)


def is_blank(text: str) -> bool:
    """Whether a line holds neither word nor symbol."""
    return not _CLAUSE.search(text)


def pieces(text: NormalizedText) -> Spans:
    """Spans of the original line that may be evidence: its clauses, long ones in pieces.

    Characters that the normalization dropped belong to the pieces beside them.
    """
    length = max(PIECE, min(len(text.text), PART) // PIECES)
    ends, starts = (0, *text.ends), (*text.starts, len(text.original))
    found: dict[Span, None] = {}
    for match in _CLAUSE.finditer(text.text):
        for a, b in _cut(text.text, *match.span(), length):
            start, end = text.original_span(a, b)
            found[min(start, ends[a]), max(end, starts[b])] = None
    return tuple(found)


def _cut(text: str, start: int, end: int, length: int) -> list[Span]:
    """Evenly spaced spans of ``length`` that overlap by half or more, and do not part words."""
    spare = end - start - length
    if spare <= length // 4:
        return [(start, end)]
    count = 1 - (-2 * spare // length)
    firsts = [start + round(i * spare / (count - 1)) for i in range(count)]
    return [_widened(text, first, first + length) for first in firsts]


def _widened(text: str, start: int, end: int) -> Span:
    while start and _INSIDE_WORD.fullmatch(text, start - 1, start + 1):
        start -= 1
    while _INSIDE_WORD.fullmatch(text, end - 1, end + 1):
        end += 1
    return start, end


def merge(spans: Iterable[Span]) -> Spans:
    """Disjoint spans in order that cover the same characters.

    >>> merge([(5, 9), (0, 3), (3, 6)])
    ((0, 9),)
    """
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return tuple(out)


def _within(spans: Iterable[Span], start: int, end: int) -> Spans:
    return tuple((a, b) for a, b in spans if start <= a and b <= end)
