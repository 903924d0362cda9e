"""Message to prediction: normalise, match rules, encode, calibrate, decide, show why."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from cs_classifier.classifiers.batching import ROUNDING
from cs_classifier.classifiers.regex import strengths
from cs_classifier.evidence import Suspicion, explain
from cs_classifier.records import Evidence, Message, Outcome, Prediction, RuleHit

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cs_classifier.calibration import Calibrator
    from cs_classifier.classifiers.ngrams import NgramModel
    from cs_classifier.decision import Decision
    from cs_classifier.labels import LabelSet
    from cs_classifier.normalize import NormalizedText, Normalizer
    from cs_classifier.rules import RuleSet

    Array = npt.NDArray[np.float64]

WINDOW, STRIDE = 160, 120  # characters of a long line scored together, and their step
MAX_WINDOWS = 20  # further text is not scored, and the prediction says so
MAX_CONTEXT = 100  # characters of the customer's message, from its end
CACHE = 50_000  # distinct texts whose normalised form is kept


class Encoder(Protocol):
    """Anything that turns (context, text) pairs of normalised text into logits."""

    @property
    def name(self) -> str:
        """Engine, device and precision, for the summary of a run."""
        ...

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
        ngrams: NgramModel | None = None,
        clauses: tuple[str, ...] = (),
        exact: Encoder | None = None,
    ) -> None:
        """Put the parts together; use ``artifact.load`` to read them from a folder.

        Where the encoder rounds, ``exact`` is the same one in 32-bit floats: it scores again what
        rounding could have kept from being reported, so that no decision depends on the hardware.
        """
        self.label_set, self.rules = label_set, rules
        self.encoder, self.exact, self.ngrams = encoder, exact, ngrams
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
        ruled = strengths(hits, self.label_set)
        pairs = [(context, text.text) for context, text in zip(contexts, texts, strict=True)]
        logits, truncated = self._encode(self.encoder, pairs)
        n = len(self.label_set)
        if self.exact is not None:
            highest = self.calibrator.transform(logits[:, :n] + ROUNDING, ruled)
            close = np.flatnonzero(self.decision.levels(highest, ruled).any(axis=1))
            if len(close):
                logits[close], _ = self._encode(self.exact, [pairs[i] for i in close])
        at = {message: i for i, message in enumerate(distinct)}
        rows = [at[message] for message in messages]
        return Scored(
            logits=logits[rows, :n],
            clauses=logits[rows, n:],
            strengths=ruled[rows],
            hits=[hits[i] for i in rows],
            texts=[texts[i] for i in rows],
            truncated=[truncated[i] for i in rows],
        )

    def probabilities(self, messages: Sequence[Message]) -> Array:
        """Calibrated probabilities of shape ``(n, n_labels)``."""
        scored = self.score(messages)
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

    def _encode(
        self, encoder: Encoder, whole: Sequence[tuple[str, str]]
    ) -> tuple[Array, list[bool]]:
        """Logits per (context, text); a long text takes the largest logit of its windows."""
        pieces = [windows(text) for _, text in whole]
        pairs = [
            (context, part)
            for (context, _), parts in zip(whole, pieces, strict=True)
            for part in parts[:MAX_WINDOWS]
        ]
        logits = encoder.logits(pairs)
        if self.ngrams is not None:
            logits[:, : len(self.label_set)] += self.ngrams.logits(pairs)
        counts = [min(len(parts), MAX_WINDOWS) for parts in pieces]
        starts = np.cumsum([0, *counts[:-1]])
        best = np.maximum.reduceat(logits, starts, axis=0)
        return best, [len(parts) > MAX_WINDOWS for parts in pieces]

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
