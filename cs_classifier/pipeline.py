"""Message to prediction: normalise, match rules, encode, calibrate, decide, show why."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cs_classifier.classifiers.regex import strengths
from cs_classifier.records import Evidence, Message, Outcome, Prediction, RuleHit

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cs_classifier.calibration import Calibrator
    from cs_classifier.decision import Decision
    from cs_classifier.labels import LabelSet
    from cs_classifier.normalize import NormalizedText, Normalizer
    from cs_classifier.rules import RuleSet

    Array = npt.NDArray[np.float64]

WINDOW, STRIDE = 160, 120  # characters of a long line scored together, and their step
MAX_WINDOWS = 20  # further text is not scored, and the prediction says so
MAX_CONTEXT = 100  # characters of the customer's message, from its end
SPAN, SPAN_STEP = 8, 4  # characters of a candidate for model evidence
CACHE = 50_000  # distinct texts whose normalised form is kept


class Encoder(Protocol):
    """Anything that turns (context, text) pairs of normalised text into logits."""

    def logits(self, pairs: Sequence[tuple[str, str]]) -> Array:
        """Logits of shape ``(n, n_outputs)``: labels, then clauses if the model names them."""
        ...


@dataclass(frozen=True)
class Scored:
    """Raw results of one batch, before calibration; rows as in the messages."""

    logits: Array  # (n, n_labels)
    clauses: Array  # logits (n, n_clauses); no columns where the model names none
    strengths: Array  # (n, n_labels)
    hits: list[list[RuleHit]]
    texts: list[NormalizedText]
    truncated: list[bool]


class Pipeline:
    """A trained model with everything around it; thread-safe, holds no per-message state."""

    def __init__(  # noqa: PLR0913
        self,
        *,
        label_set: LabelSet,
        rules: RuleSet,
        normalizer: Normalizer,
        encoder: Encoder,
        calibrator: Calibrator,
        decision: Decision,
        model_id: str,
        clauses: tuple[str, ...] = (),
    ) -> None:
        """Put the parts together; use ``artifact.load`` to read them from a folder."""
        self.label_set, self.rules, self.encoder = label_set, rules, encoder
        self.calibrator, self.decision, self.model_id = calibrator, decision, model_id
        self.normalize = lru_cache(CACHE)(normalizer)
        # Per label, the clauses that the encoder names: (column, clause).
        self._clauses = {
            label: [(k, c) for k, c in enumerate(clauses) if label_set.clauses[c].label == label]
            for label in label_set.ids
        }

    def score(self, messages: Sequence[Message]) -> Scored:
        """Logits and rule hits; equal messages are scored once."""
        distinct = list(dict.fromkeys(messages))
        texts = [self.normalize(m.text) for m in distinct]
        contexts = [self.normalize(m.context).text[-MAX_CONTEXT:] for m in distinct]
        hits = [self.rules.match(t, c) for t, c in zip(texts, contexts, strict=True)]
        logits, truncated = self._encode(contexts, [t.text for t in texts])
        at = {message: i for i, message in enumerate(distinct)}
        rows = [at[message] for message in messages]
        n = len(self.label_set)
        return Scored(
            logits=logits[rows, :n],
            clauses=logits[rows, n:],
            strengths=strengths([hits[i] for i in rows], self.label_set),
            hits=[hits[i] for i in rows],
            texts=[texts[i] for i in rows],
            truncated=[truncated[i] for i in rows],
        )

    def predict(self, messages: Sequence[Message]) -> list[Prediction]:
        """Predictions in the order of ``messages``."""
        if not messages:
            return []
        scored = self.score(messages)
        probabilities = self.calibrator.transform(scored.logits, scored.strengths)
        outcomes = self.decision.outcomes(probabilities)
        evidence = self._evidence(messages, scored, outcomes)
        return [
            Prediction(
                probabilities=tuple(map(float, probabilities[i])),
                outcomes=outcomes[i],
                hits=tuple(hit for hit in scored.hits[i] if hit.clause),
                tags=tuple(dict.fromkeys(h.target for h in scored.hits[i] if not h.clause)),
                evidence=evidence[i],
                clauses=self._suspected(scored.clauses[i], outcomes[i], evidence[i]),
                truncated=scored.truncated[i],
            )
            for i in range(len(messages))
        ]

    def _encode(self, contexts: list[str], texts: list[str]) -> tuple[Array, list[bool]]:
        """Logits per text; a long text takes the largest logit of its windows."""
        pieces = [windows(text) for text in texts]
        pairs = [
            (context, part)
            for context, parts in zip(contexts, pieces, strict=True)
            for part in parts[:MAX_WINDOWS]
        ]
        logits = self.encoder.logits(pairs)
        counts = [min(len(parts), MAX_WINDOWS) for parts in pieces]
        ends = np.cumsum(counts)
        best = [logits[end - n : end].max(axis=0) for end, n in zip(ends, counts, strict=True)]
        return np.stack(best), [len(parts) > MAX_WINDOWS for parts in pieces]

    def _evidence(
        self,
        messages: Sequence[Message],
        scored: Scored,
        outcomes: Sequence[tuple[Outcome, ...]],
    ) -> list[tuple[Evidence, ...]]:
        """Rule spans of each flagged label; without any, what the model relies on for a violation.

        That costs several more passes per line, so lines for review do without it: a person reads
        them whole anyway.
        """
        found: list[list[Evidence]] = [[] for _ in messages]
        unexplained = []
        for i, row in enumerate(outcomes):
            for j, outcome in enumerate(row):
                if outcome == "clear":
                    continue
                label = self.label_set.ids[j]
                hits = [hit for hit in scored.hits[i] if hit.clause and hit.target == label]
                found[i] += [
                    Evidence(label, h.rule, h.clause, h.start, h.end, h.text) for h in hits
                ]
                if not hits and outcome == "violation":
                    unexplained.append((i, j))
        for (i, j), (start, end) in self._model_spans(messages, scored, unexplained).items():
            text = messages[i].text[start:end]
            label = self.label_set.ids[j]
            clause = self._top_clause(scored.clauses[i], label)
            found[i].append(Evidence(label, "model", clause, start, end, text))
        return [tuple(row) for row in found]

    def _top_clause(self, logits: Array, label: str) -> str:
        """The likeliest clause of a label; empty where the model names none."""
        return max(self._clauses[label], key=lambda c: logits[c[0]], default=(0, ""))[1]

    def _suspected(
        self, logits: Array, outcomes: tuple[Outcome, ...], evidence: tuple[Evidence, ...]
    ) -> tuple[str, ...]:
        """One clause per flagged label: the encoder's choice, else that of the first rule."""
        flagged = [
            label
            for label, outcome in zip(self.label_set.ids, outcomes, strict=True)
            if outcome != "clear"
        ]
        by_rule = {e.label: e.clause for e in reversed(evidence)}
        named = [self._top_clause(logits, label) or by_rule.get(label, "") for label in flagged]
        return tuple(filter(None, named))

    def _model_spans(
        self, messages: Sequence[Message], scored: Scored, cells: list[tuple[int, int]]
    ) -> dict[tuple[int, int], tuple[int, int]]:
        """Original span whose deletion lowers the label's logit most (occlusion)."""
        rows = sorted({i for i, _ in cells})
        variants: list[tuple[str, str]] = []
        spans: dict[int, list[tuple[int, int]]] = {}
        first: dict[int, int] = {}
        for i in rows:
            text = scored.texts[i].text
            context = self.normalize(messages[i].context).text[-MAX_CONTEXT:]
            spans[i], first[i] = candidate_spans(text), len(variants)
            variants += [(context, text[:s] + text[e:]) for s, e in spans[i]]
        logits = self.encoder.logits(variants) if variants else np.zeros((0, len(self.label_set)))
        result = {}
        for i, j in cells:
            column = logits[first[i] : first[i] + len(spans[i]), j]
            result[i, j] = scored.texts[i].original_span(*spans[i][int(column.argmin())])
        return result


def windows(text: str) -> list[str]:
    """Overlapping parts of a long text; a short one is a single part.

    >>> windows("好的") == ["好的"]
    True
    """
    if len(text) <= WINDOW:
        return [text]
    return [text[at : at + WINDOW] for at in range(0, len(text) - WINDOW + STRIDE, STRIDE)]


def candidate_spans(text: str) -> list[tuple[int, int]]:
    """Spans that may serve as evidence: a sliding window, or the whole of a short text.

    >>> candidate_spans("开不了")
    [(0, 3)]
    >>> candidate_spans("亲亲这边只能给您开收据的呢")
    [(0, 8), (4, 12), (8, 13)]
    """
    if len(text) <= SPAN:
        return [(0, len(text))]
    text = text[: WINDOW * MAX_WINDOWS]
    starts = range(0, len(text) - SPAN + SPAN_STEP, SPAN_STEP)
    return [(start, min(start + SPAN, len(text))) for start in starts]
