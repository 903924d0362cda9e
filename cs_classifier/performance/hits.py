"""Hits: one label of one line, with what people said of it and what the reader should know."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cs_classifier.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cs_classifier.labels import LabelSet
    from cs_classifier.performance.peers import Member
    from cs_classifier.performance.penalties import AppealState, ScoreRules
    from cs_classifier.reviews import Review
    from cs_classifier.scored import Identity, ScoredLine

State = Literal["suspected", "confirmed", "rejected", "doubtful", "overturned"]
_ORDER: tuple[AppealState, ...] = ("upheld", "pending", "dismissed")


@dataclass(frozen=True, slots=True)
class Hit:
    """One label of one line: suspected by the model, or found by a reviewer.

    ``overturned`` is a confirmed hit whose appeal was upheld. ``provoked`` (the customer insulted
    before) and ``taken_back`` (the agent did so later) are remarks, neither excuse nor deduction.
    """

    member: Member
    line: ScoredLine
    label: str
    clause: str  # empty if no evidence names one
    suggestion: str  # the clause that the model finds likeliest; nothing is deducted for it
    severity: int
    state: State
    appeal: AppealState | None
    provoked: bool
    taken_back: bool
    reviews: tuple[Review, ...]


def confirmed(reviews: Sequence[Review]) -> frozenset[str] | None:
    """Labels that every decided review of a line confirms.

    ``None`` while nothing is decided, and where reviewers found labels but agree on none.
    """
    truths = [frozenset(r.truth) for r in reviews if r.truth is not None]
    if not truths:
        return None
    agreed = frozenset.intersection(*truths)
    return agreed if agreed or not any(truths) else None


def appeal_of(reviews: Sequence[Review], rules: ScoreRules) -> AppealState | None:
    """State of the appeal against a line; of several, the one furthest in the agent's favour.

    Raises:
        DataError: a word that the rules do not know.
    """
    states = set()
    for review in reviews:
        if word := review.appeal.strip():
            state = rules.appeal_states.get(word)
            if state is None:
                line = review.sampled.line
                msg = (
                    f"{line.file}, row {line.row}: unknown appeal '{word[:20]}'; "
                    "list it under 'appeals' in scorecard.yaml"
                )
                raise DataError(msg)
            states.add(state)
    return next((state for state in _ORDER if state in states), None)


def find(
    members: Mapping[Member, Sequence[ScoredLine]],
    reviews: Mapping[Identity, Sequence[Review]],
    *,
    label_set: LabelSet,
    rules: ScoreRules,
    insult: Callable[[str], bool] | None,
) -> Iterator[Hit]:
    """Hits of all members, in the order of the files.

    Args:
        members: scored lines of each member.
        reviews: reviews by the identity of the line.
        label_set: for the severity of clauses.
        rules: for appeals and for the phrases that take a line back.
        insult: whether a customer's words insult.

    Raises:
        DataError: an appeal that the rules do not know.
    """
    conversations: dict[str, list[ScoredLine]] = defaultdict(list)
    for lines in members.values():
        for line in lines:
            conversations[line.conversation_id].append(line)
    for member, lines in members.items():
        for line in lines:
            own = tuple(reviews.get(line.identity, ()))
            true = confirmed(own) or frozenset()
            labels = dict.fromkeys((*line.labels, *sorted(true)))
            if not labels:
                continue
            around = conversations[line.conversation_id] if line.conversation_id else [line]
            appeal = appeal_of(own, rules)
            provoked = insult is not None and any(map(insult, _heard(line, around)))
            taken_back = _taken_back(line, around, rules.self_corrections)
            for label in labels:
                clause = clause_of(line, label)
                yield Hit(
                    member=member,
                    line=line,
                    label=label,
                    clause=clause,
                    suggestion=_suggestion(line, label),
                    severity=severity(label_set, label, clause),
                    state=_state(label, own, appeal),
                    appeal=appeal,
                    provoked=provoked,
                    taken_back=taken_back,
                    reviews=own,
                )


def _state(label: str, reviews: Sequence[Review], appeal: AppealState | None) -> State:
    truths = [review.truth for review in reviews if review.truth is not None]
    if not truths:
        return "doubtful" if any(r.verdict == "doubtful" for r in reviews) else "suspected"
    votes = [label in truth for truth in truths]
    if all(votes):
        return "overturned" if appeal == "upheld" else "confirmed"
    return "doubtful" if any(votes) else "rejected"


def clause_of(line: ScoredLine, label: str) -> str:
    """The clause that the first evidence for a label names; empty if none does."""
    return next((e.clause for e in line.evidence if e.label == label and e.clause), "")


def _suggestion(line: ScoredLine, label: str) -> str:
    return next((clause for clause in line.clauses if clause.partition(".")[0] == label), "")


def severity(label_set: LabelSet, label: str, clause: str) -> int:
    """Severity of the clause; without one, the mildest that the label has."""
    if clause in label_set.clauses:
        return label_set.clauses[clause].severity
    return min((c.severity for c in label_set.clauses.values() if c.label == label), default=1)


def _heard(line: ScoredLine, around: Sequence[ScoredLine]) -> set[str]:
    """What the customer is known to have written up to the line."""
    before = (other for other in around if other.file == line.file and other.row <= line.row)
    return {other.context for other in before if other.context}


def _taken_back(line: ScoredLine, around: Sequence[ScoredLine], phrases: Sequence[str]) -> bool:
    return any(
        phrase in other.text
        for other in around
        if other.file == line.file and other.row > line.row and other.agent_id == line.agent_id
        for phrase in phrases
    )
