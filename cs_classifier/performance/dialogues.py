"""Transcript rows as timed dialogues, and the customer's turns with the answers to them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from cs_classifier.matching import compile_pattern
from cs_classifier.moments import DAY, seconds
from cs_classifier.transcripts import NEEDS_MEDIA_REVIEW, Conversations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cs_classifier.tables import Row
    from cs_classifier.transcripts import ColumnMap, Role


@dataclass(frozen=True, slots=True)
class Event:
    """One message, or a system row that tells of the queue (then ``text`` says what)."""

    time: float  # local seconds
    role: Role
    agent: str  # empty for customers, bots and the platform
    text: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation in the order of time.

    ``customer`` is the customer's name where the file has it, else the conversation's id.
    """

    id: str
    shop: str
    platform: str
    customer: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Transcript:
    """All dialogues with times; ``end`` is the time of the last message of any of them."""

    dialogues: tuple[Dialogue, ...]
    end: float
    rows: int
    untimed: int  # dialogues left out: a message has no time, or one without a date
    unplaced: int  # rows left out: no conversation id, an unknown role, or damaged


@dataclass(frozen=True, slots=True)
class Reply:
    """A customer's turn: messages without an answer between them.

    ``wait`` is ``None`` if it was never answered; ``agent`` is who answered, else who had answered
    in this dialogue before. ``queued`` means that the customer never got out of the queue.
    """

    start: float
    wait: float | None
    agent: str
    queued: bool


QUEUED, ACCEPTED = "queued", "accepted"  # texts of system events


def collect(
    rows: Iterable[Row],
    *,
    columns: ColumnMap,
    queued: Sequence[str] = (),
    accepted: Sequence[str] = (),
) -> Transcript:
    """Group rows into dialogues, in the order of time.

    Args:
        rows: of one or more files, in any order.
        columns: what the columns mean; without a conversation column, all rows are one dialogue.
        queued: patterns of system rows that put the customer into a queue.
        accepted: patterns of system rows after which an agent is there.
    """
    reader = _Reader(columns, queued, accepted)
    events: dict[str, list[Event]] = defaultdict(list)
    facts: dict[str, dict[str, str]] = defaultdict(dict)
    untimed: set[str] = set()
    count = unplaced = 0
    for count, row in enumerate(rows, 1):  # noqa: B007
        role, conversation = reader.role(row), reader.conversation(row)
        if not role or conversation is None:
            unplaced += 1
            continue
        reader.note(row, facts[conversation])
        text = reader.text(row, role)
        time = seconds(columns.value(row.values, "timestamp"))
        if text is not None and time is not None and time >= DAY:
            agent = reader.cell(row, "agent_id") if role == "agent" else ""
            events[conversation].append(Event(time, role, agent, text))
        elif text is not None and role != "system":
            untimed.add(conversation)
    dialogues = tuple(
        _dialogue(key, own, facts[key]) for key, own in events.items() if key not in untimed
    )
    end = max((dialogue.events[-1].time for dialogue in dialogues), default=0.0)
    return Transcript(dialogues, end, count, len(untimed), unplaced)


def _dialogue(key: str, events: Sequence[Event], facts: Mapping[str, str]) -> Dialogue:
    return Dialogue(
        id=key,
        shop=facts.get("shop", ""),
        platform=facts.get("platform", ""),
        customer=facts.get("customer") or key,
        events=tuple(sorted(events, key=lambda event: event.time)),
    )


class _Reader:
    """What the cells of a row say."""

    def __init__(self, columns: ColumnMap, queued: Sequence[str], accepted: Sequence[str]) -> None:
        self.columns = columns
        self.rows = Conversations(columns)
        self.states = [
            (name, compile_pattern("|".join(patterns), f"service checks, {name}"))
            for name, patterns in ((QUEUED, queued), (ACCEPTED, accepted))
            if patterns
        ]

    def cell(self, row: Row, name: str) -> str:
        value = self.columns.value(row.values, name)
        return "" if value is None else str(value).strip()

    def role(self, row: Row) -> Role | None:
        found, problem = self.rows.role(row)
        return None if problem or row.error else cast("Role", found)

    def conversation(self, row: Row) -> str | None:
        """The id; ``None`` if its cell is blank, and one for all without such a column."""
        if row.values.keys().isdisjoint(self.columns.names("conversation_id")):
            return ""
        return self.cell(row, "conversation_id") or None

    def note(self, row: Row, facts: dict[str, str]) -> None:
        """Keep the first shop, platform and customer that a row of the dialogue names."""
        for name in ("shop", "platform", "customer"):
            if (value := self.cell(row, name)) and name not in facts:
                facts[name] = value

    def text(self, row: Row, role: Role) -> str | None:
        """The words; ``None`` for what is no message of a person or bot and tells of no queue."""
        text, reason = self.rows.text(row)
        if role == "system":
            return next((name for name, pattern in self.states if pattern.search(text)), None)
        return text if reason in {"", NEEDS_MEDIA_REVIEW} else None


def said(
    rows: Iterable[Row], conversation: str, *, columns: ColumnMap
) -> list[tuple[str, Role, str]]:
    """Time as written, role and text of every row of one conversation, in the order of the file."""
    reader = _Reader(columns, (), ())
    return [
        (reader.cell(row, "timestamp"), role, reader.cell(row, "text"))
        for row in rows
        if reader.conversation(row) == conversation.strip() and (role := reader.role(row))
    ]


def replies(dialogue: Dialogue, *, human: bool) -> Iterator[Reply]:
    """The customer's turns, in order; the clock starts anew when an agent ends the queue.

    With ``human``, only people answer: a bot's message leaves the turn open.
    """
    start: float | None = None
    agent = place = ""
    for event in dialogue.events:
        if event.role == "system":
            start, place = _moved(event, start, place)
        elif event.role == "customer":
            start = event.time if start is None else start
        elif event.role == "agent" or not human:
            if start is not None:
                yield Reply(start, event.time - start, event.agent, queued=False)
            start = None
            if event.role == "agent":
                agent, place = event.agent, ACCEPTED
    if start is not None:
        yield Reply(start, None, agent, queued=place == QUEUED)


def _moved(event: Event, start: float | None, place: str) -> tuple[float | None, str]:
    """The start of the open turn and the customer's place after a system row about the queue."""
    waited = event.text == ACCEPTED and start is not None and place != ACCEPTED
    return event.time if waited else start, event.text
