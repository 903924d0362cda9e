"""What a reviewer sees of a sampled line, in words; the same in every kind of file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from cs_classifier.reports.review_files.words import WORDS
from cs_classifier.reports.wording import Language, clause_name, label_name

if TYPE_CHECKING:
    from cs_classifier.labels import LabelSet
    from cs_classifier.records import Evidence
    from cs_classifier.reviews import Sampled
    from cs_classifier.scored import ScoredLine

Transcripts = Mapping[str, Sequence[tuple[str, str, str]]]  # conversation → (time, speaker, text)

BEFORE, AFTER = 8, 4  # turns of the conversation that are shown around the line


class Turn(NamedTuple):
    """One turn of a conversation; ``here`` marks the line under review."""

    time: str
    speaker: str
    text: str
    here: bool

    @property
    def head(self) -> str:
        """What stands before the text: a mark, the time of day, the speaker."""
        return " ".join([*("▶" * self.here), *self.time.split()[-1:], self.speaker])


@dataclass(frozen=True, slots=True)
class Display:
    """How lines are shown: with which names, in which language, within which conversations."""

    label_set: LabelSet
    language: Language = "zh"
    transcripts: Transcripts = field(default_factory=dict)

    @property
    def words(self) -> dict[str, str]:
        """The words of the language."""
        return WORDS[self.language]

    def names(self, labels: Iterable[str]) -> list[str]:
        """Names of labels for people."""
        return [label_name(self.label_set, label, self.language) for label in labels]


@dataclass(frozen=True, slots=True)
class View:
    """The system's opinion of a line; empty where the review is blind."""

    suspected: str
    clauses: str
    score: float | None  # probability of the most probable shown label
    rules: str
    evidence: tuple[Evidence, ...]  # of the shown labels


def view(sampled: Sampled, display: Display) -> View:
    """What may be shown of the system's opinion."""
    words, line, label_set = display.words, sampled.line, display.label_set
    if sampled.blind:
        return View(words["blind"], "", None, "", ())
    evidence = tuple(item for item in line.evidence if item.label in sampled.shown)
    likeliest = [clause for clause in line.clauses if clause.partition(".")[0] in sampled.shown]
    clauses = dict.fromkeys([*likeliest, *(item.clause for item in evidence if item.clause)])
    scored = len(line.probabilities) == len(label_set)
    scores = [line.probabilities[label_set.index(label)] for label in sampled.shown if scored]
    return View(
        suspected=words["joint"].join(display.names(sampled.shown)) or words["unsuspected"],
        clauses=words["joint"].join(clause_name(label_set, i, display.language) for i in clauses),
        score=max(scores, default=None),
        rules=words["joint"].join(line.rules),
        evidence=evidence,
    )


def in_reading_order(sampled: Sequence[Sampled]) -> list[Sampled]:
    """Conversations as the scored files hold them, each in one piece.

    The order must not be that of the strata, which would tell what a blind row hides.
    """
    first: dict[tuple[str, str], tuple[str, int]] = {}
    lines = sorted(sampled, key=lambda item: (item.line.file, item.line.row))
    for item in lines:
        first.setdefault(conversation_key(item.line), (item.line.file, item.line.row))
    return sorted(lines, key=lambda item: first[conversation_key(item.line)])


def conversation_key(line: ScoredLine) -> tuple[str, str]:
    """What ties the lines of a conversation; a line without one stands alone."""
    return (line.conversation_id, "") if line.conversation_id else ("", line.key)


def conversation(line: ScoredLine, display: Display) -> list[Turn]:
    """The turns around a line; only the customer's message and the line if they are not at hand."""
    words = display.words
    turns = display.transcripts.get(line.conversation_id, ())
    same = [i for i, (_, _, text) in enumerate(turns) if text.strip() == line.text.strip()]
    if same:
        at = next((i for i in same if turns[i][0] == line.timestamp), same[0])
        start = max(0, at - BEFORE)
        near = turns[start : at + AFTER + 1]
        return [Turn(*turn, here=start + i == at) for i, turn in enumerate(near)]
    before = [Turn("", words["customer"], line.context, here=False)] if line.context else []
    return [*before, Turn(line.timestamp, words["agent"], line.text, here=True)]
