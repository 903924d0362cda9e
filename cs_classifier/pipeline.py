"""Message to prediction: normalise, match rules, encode, calibrate, decide, show why."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from cs_classifier.classifiers.batching import ROUNDING
from cs_classifier.classifiers.regex import strengths
from cs_classifier.evidence import Suspicion, explain
from cs_classifier.records import Evidence, Message, Outcome, Prediction, RuleHit

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cs_classifier.calibration import Calibrator
    from cs_classifier.classifiers.base import Encoder
    from cs_classifier.classifiers.ngrams import NgramModel
    from cs_classifier.classifiers.screen import Screen
    from cs_classifier.decision import Decision
    from cs_classifier.labels import LabelSet
    from cs_classifier.normalize import NormalizedText, Normalizer
    from cs_classifier.rules import RuleSet

    Array = npt.NDArray[np.float64]

WINDOW, STRIDE = 160, 120  # characters of a long line scored together, and their step
MAX_WINDOWS = 20  # further text is not scored, and the prediction says so
MAX_CONTEXT = 100  # characters of the customer's message, from its end
CACHE = 50_000  # distinct texts whose normalised form is kept


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
        ngrams: NgramModel | None = None,
        clauses: tuple[str, ...] = (),
        exact: Encoder | None = None,
        screen: Screen | None = None,
    ) -> None:
        """Put the parts together; use ``artifact.load`` to read them from a folder.

        Where the encoder rounds, ``exact`` is the same one in 32-bit floats: it scores again what
        rounding could have brought over a threshold, so that no decision depends on the hardware.
        With a ``screen``, the encoder scores only what that suspects and what a rule hits.
        """
        self.label_set, self.rules = label_set, rules
        self.encoder, self.exact, self.ngrams = encoder, exact, ngrams
        self.screen, self._outputs = screen, len(label_set) + len(clauses)
        self.calibrator, self.decision, self.model_id = calibrator, decision, model_id
        self.normalize = lru_cache(CACHE)(normalizer)
        # Per label, the clauses that the encoder names: (column, clause).
        self._clauses = {
            label: [(k, c) for k, c in enumerate(clauses) if label_set.clauses[c].label == label]
            for label in label_set.ids
        }

    def score(self, messages: Sequence[Message], *, screened: bool = True) -> Scored:
        """Logits and rule hits; equal messages are scored once.

        Where the model has a screen and ``screened`` is true, what it clears has the logits that
        it estimates, and 0 for every clause.
        """
        distinct = list(dict.fromkeys(messages))
        texts = [self.normalize(m.text) for m in distinct]
        contexts = [self.normalize(m.context).text[-MAX_CONTEXT:] for m in distinct]
        hits = [self.rules.match(t, c) for t, c in zip(texts, contexts, strict=True)]
        ruled = strengths(hits, self.label_set)
        pairs = [(context, text.text) for context, text in zip(contexts, texts, strict=True)]
        n = len(self.label_set)
        logits = np.zeros((len(pairs), self._outputs))
        suspected = np.arange(len(pairs))
        if screened and self.screen is not None:
            logits[:, :n], suspected = self._screened(self.screen, pairs, ruled)
        if len(suspected):
            open_ = [pairs[i] for i in suspected.tolist()]
            logits[suspected] = self._full(open_, ruled[suspected])
        at = {message: i for i, message in enumerate(distinct)}
        rows = [at[message] for message in messages]
        return Scored(
            logits=logits[rows, :n],
            clauses=logits[rows, n:],
            strengths=ruled[rows],
            hits=[hits[i] for i in rows],
            texts=[texts[i] for i in rows],
            truncated=[len(windows(texts[i].text)) > MAX_WINDOWS for i in rows],
        )

    def probabilities(self, messages: Sequence[Message]) -> Array:
        """Calibrated probabilities of shape ``(n, n_labels)``, all by the encoder itself."""
        scored = self.score(messages, screened=False)
        return self.calibrator.transform(scored.logits, scored.strengths)

    def predict(self, messages: Sequence[Message]) -> list[Prediction]:
        """Predictions in the order of ``messages``."""
        if not messages:
            return []
        scored = self.score(messages)
        probabilities = self.calibrator.transform(scored.logits, scored.strengths)
        outcomes = self.decision.outcomes(probabilities, scored.strengths)
        evidence = self._evidence(messages, scored, outcomes)
        return [
            Prediction(
                probabilities=tuple(probabilities[i].tolist()),
                outcomes=outcomes[i],
                hits=tuple(hit for hit in scored.hits[i] if hit.clause),
                tags=tuple(dict.fromkeys(h.target for h in scored.hits[i] if not h.clause)),
                evidence=evidence[i],
                clauses=self._suspected(scored.clauses[i], outcomes[i], evidence[i]),
                truncated=scored.truncated[i],
            )
            for i in range(len(messages))
        ]

    def _screened(
        self, screen: Screen, pairs: Sequence[tuple[str, str]], ruled: Array
    ) -> tuple[Array, npt.NDArray[np.intp]]:
        """Estimated logits of all pairs, and the rows that the encoder has to look at."""
        found = self.encode(screen.encoder, pairs)
        estimates = screen.limits.estimates(found)
        reported = self.decision.levels(self.calibrator.transform(estimates, ruled), ruled) > 0
        suspected = screen.limits.suspects(found) | reported | (ruled > 0)
        return estimates, np.flatnonzero(suspected.any(axis=1))

    def _full(self, pairs: Sequence[tuple[str, str]], ruled: Array) -> Array:
        """Logits by the encoder; by the exact one where rounding could change a decision."""
        logits = self.encode(self.encoder, pairs)
        if self.exact is not None:
            labels = logits[:, : len(self.label_set)]
            lowest, highest = (
                self.decision.levels(self.calibrator.transform(labels + off, ruled), ruled)
                for off in (-ROUNDING, ROUNDING)
            )
            close = np.flatnonzero((lowest != highest).any(axis=1))
            if len(close):
                logits[close] = self.encode(self.exact, [pairs[i] for i in close.tolist()])
        return logits

    def encode(self, encoder: Encoder, whole: Sequence[tuple[str, str]]) -> Array:
        """Logits of encoder and n-gram model together, ``(n, n_outputs)``.

        A long text takes the largest logit of its windows.

        Args:
            encoder: the model's own one, its screen, or either in another precision.
            whole: (context, text) pairs of normalised text.
        """
        pieces = [windows(text)[:MAX_WINDOWS] for _, text in whole]
        pairs = [
            (context, part)
            for (context, _), parts in zip(whole, pieces, strict=True)
            for part in parts
        ]
        logits = encoder.logits(pairs)
        if self.ngrams is not None:
            logits[:, : len(self.label_set)] += self.ngrams.logits(pairs)
        starts = np.cumsum([0, *(len(parts) for parts in pieces[:-1])])
        best: Array = np.maximum.reduceat(logits, starts, axis=0)
        return best

    def _evidence(
        self,
        messages: Sequence[Message],
        scored: Scored,
        outcomes: Sequence[tuple[Outcome, ...]],
    ) -> list[tuple[Evidence, ...]]:
        """Why each label that is not clear is suspected, per message."""
        found: list[tuple[Evidence, ...]] = [()] * len(messages)
        cells = [
            (i, j) for i, row in enumerate(outcomes) for j, o in enumerate(row) if o != "clear"
        ]
        suspicions = [
            Suspicion(
                message=messages[i],
                text=scored.texts[i],
                label=(label := self.label_set.ids[j]),
                column=j,
                threshold=getattr(self.decision.labels[j], outcomes[i][j]),  # named alike
                hits=tuple(h for h in scored.hits[i] if h.clause and h.target == label),
                clause=self._top_clause(scored.clauses[i], label),
            )
            for i, j in cells
        ]
        for (i, _), spans in zip(cells, explain(suspicions, self.probabilities), strict=True):
            found[i] += spans
        return found

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


def windows(text: str) -> list[str]:
    """Overlapping parts of a long text; a short one is a single part.

    >>> windows("好的") == ["好的"]
    True
    """
    if len(text) <= WINDOW:
        return [text]
    return [text[at : at + WINDOW] for at in range(0, len(text) - WINDOW + STRIDE, STRIDE)]
