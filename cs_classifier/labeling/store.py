"""The label store: every judgement of a line is an event, and events are only ever added.

One JSONL file, one event per line, keys sorted. The current labels are a pure function of the
events, so two branches of a repository merge by keeping the lines of both (``merge=union``).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from cs_classifier import datasets, tables
from cs_classifier.errors import DataError, writing
from cs_classifier.records import LabelledMessage, Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cs_classifier.labels import LabelSet

Source = Literal["review", "import", "appeal", "adjudication"]
SOURCES: tuple[Source, ...] = get_args(Source)
RULINGS: tuple[Source, ...] = ("adjudication", "appeal")  # these decide alone, the first before all

_WAIT = 10.0  # seconds for another process to finish its append
_PAUSE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What ``who`` said of a line at ``when`` (UTC, ISO).

    ``new`` are the true labels, ``None`` if the person could not tell. ``old`` are the labels that
    held in the store before, ``None`` if there were none; it is there to be read, nothing follows
    from it. ``file`` names the file that the event came from, with the start of its checksum.
    """

    message: Message
    new: tuple[str, ...] | None
    who: str
    when: str
    source: Source
    old: tuple[str, ...] | None = None
    clauses: tuple[str, ...] = ()
    status: Literal["gold", "borderline"] = "gold"
    reason: str = ""
    group: str = ""
    origin: str = ""
    shop: str = ""
    file: str = ""

    @property
    def key(self) -> str:
        """Names the line by what it says."""
        return key_of(self.message)

    @property
    def answer(self) -> tuple[object, ...]:
        """What was said, without who said it and when."""
        return self.new, self.clauses, self.status, self.reason


def key_of(message: Message) -> str:
    """Hash of a line, equal for lines that differ only in spaces, punctuation and case.

    A line of nothing else (emoji) counts as it is.

    >>> key_of(Message("没有票的！")) == key_of(Message("没有票的"))
    True
    >>> key_of(Message("👍")) == key_of(Message("🖕"))
    False
    """
    text = datasets.duplicate_key(message)
    if text.endswith("\x1f"):
        text += message.text.strip()
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def utc(moment: str) -> str:
    """A time with its zone as UTC, to the second.

    >>> utc("2026-11-22T17:45:43+08:00")
    '2026-11-22T09:45:43+00:00'

    Raises:
        ValueError: not such a time, or without a zone.
    """
    parsed = datetime.fromisoformat(moment)
    if parsed.tzinfo is None:
        msg = f"'{moment}' has no time zone; write it as 2026-11-22T17:45:43+08:00"
        raise ValueError(msg)
    return parsed.astimezone(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class History:
    """All events of one line, in order."""

    key: str
    events: tuple[Event, ...]

    @cached_property
    def votes(self) -> dict[str, Event]:
        """The latest review or import of each annotator."""
        return {event.who: event for event in self.events if event.source not in RULINGS}

    @cached_property
    def ruling(self) -> Event | None:
        """What decides whatever the votes are: the latest adjudication, else the latest appeal."""
        for source in RULINGS:
            if found := [event for event in self.events if event.source == source]:
                return found[-1]
        return None

    @property
    def shop(self) -> str:
        """Whose agent wrote it; empty where no event says so."""
        return next((event.shop for event in self.events if event.shop), "")

    @property
    def disputed(self) -> bool:
        """Whether somebody should decide: no ruling, and the votes differ or one is doubtful."""
        answers = {None if v.new is None else frozenset(v.new) for v in self.votes.values()}
        return self.ruling is None and (len(answers) > 1 or None in answers)

    @cached_property
    def line(self) -> LabelledMessage:
        """What holds now.

        Without a ruling, the answer that more than half of the annotators gave. If there is none,
        the line is borderline and carries the labels that at least half of them gave. Doubtful and
        borderline votes count only where there are no others.
        """
        given = [self.ruling] if self.ruling else list(self.votes.values())
        decided = [vote for vote in given if vote.new is not None]
        voting = [vote for vote in decided if vote.status == "gold"] or decided
        labels, agreed = _majority([vote.new or () for vote in voting])
        gold = agreed and voting[0].status == "gold"
        clauses = [v.clauses for v in voting if v.clauses and set(v.new or ()) == set(labels)]
        natural = [e.origin for e in self.events if e.origin.startswith("natural")]
        return LabelledMessage(
            id=f"store-{self.key}",
            message=self.events[-1].message,
            labels=labels,
            clauses=clauses[-1] if clauses else (),
            status="gold" if gold else "borderline",
            group=next((e.group for e in self.events if e.group), self.key),
            origin=natural[0] if natural else self.events[0].origin,
            note=self.ruling.reason if self.ruling else self._note(),
        )

    def _note(self) -> str:
        if self.disputed:
            return "; ".join(f"{who}: {spelled(v.new)}" for who, v in self.votes.items())
        return next((v.reason for v in reversed(self.votes.values()) if v.reason), "")


def _majority(answers: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], bool]:
    """The answer of more than half, and true; else the labels of at least half, and false."""
    for answer, n in Counter(answers).most_common(1):
        if 2 * n > len(answers):
            return answer, True
    labels = Counter(label for answer in answers for label in answer)
    return tuple(label for label, n in labels.items() if 2 * n >= len(answers)), False


def spelled(labels: tuple[str, ...] | None) -> str:
    """Labels as one word for notes.

    >>> spelled(("abuse_harassment",)), spelled(()), spelled(None)
    ('abuse_harassment', 'none', '?')
    """
    return "?" if labels is None else "+".join(labels) or "none"


def histories(events: Iterable[Event]) -> dict[str, History]:
    """Events by the line they speak of; the order of the events given does not matter."""
    by_key: dict[str, list[Event]] = {}
    for event in ordered(events):
        by_key.setdefault(event.key, []).append(event)
    return {key: History(key, tuple(same)) for key, same in by_key.items()}


def find(events: Iterable[Event], text: str) -> list[History]:
    """The lines with this key or text, else those whose text holds it.

    Raises:
        DataError: there are none.
    """
    lines = list(histories(events).values())
    wanted = datasets.duplicate_key(Message(text))
    said = [datasets.duplicate_key(Message(history.line.message.text)) for history in lines]
    exact = [h for h, own in zip(lines, said, strict=True) if text == h.key or own == wanted]
    found = exact or [h for h in lines if text in h.line.message.text]
    if not found:
        msg = "the store holds no such line"
        raise DataError(msg)
    return found


def ordered(events: Iterable[Event]) -> list[Event]:
    """By time, annotator and content, each event once."""
    unique = {dumps(event): event for event in events}
    order = sorted(unique, key=lambda text: (unique[text].when, unique[text].who, text))
    return [unique[text] for text in order]


def truth(events: Iterable[Event]) -> list[LabelledMessage]:
    """What holds now of every line; unresolved lines are borderline, with the votes as note."""
    return [history.line for history in histories(events).values()]


def news(known: Sequence[Event], events: Iterable[Event]) -> list[Event]:
    """The ``events`` that say something new, with ``old`` filled in.

    One that repeats what its annotator last said of the line, or that has been taken from the same
    file before, says nothing new; so a file can be imported twice.
    """
    lines = histories(known)
    said: dict[tuple[str, str, str], list[Event]] = {}
    for event in ordered(known):
        said.setdefault(_voice(event), []).append(event)
    fresh = []
    for event in ordered(events):
        before = said.setdefault(_voice(event), [])
        if any(_repeats(event, earlier, last=earlier is before[-1]) for earlier in before):
            continue
        history = lines.get(event.key)
        fresh.append(replace(event, old=history.line.labels if history else None))
        before.append(event)
    return fresh


def _repeats(event: Event, earlier: Event, *, last: bool) -> bool:
    same = last or event.when == earlier.when or (event.file != "" and event.file == earlier.file)
    return same and event.answer == earlier.answer


def _voice(event: Event) -> tuple[str, str, str]:
    return event.key, event.who, event.source


def dumps(event: Event) -> str:
    """The event as one line of JSON."""
    values = {
        "key": event.key,
        "context": event.message.context,
        "text": event.message.text,
        "old": event.old,
        "new": event.new,
        "clause": "+".join(event.clauses),
        "status": event.status,
        "who": event.who,
        "when": event.when,
        "reason": event.reason,
        "source": event.source,
        "group": event.group,
        "origin": event.origin,
        "shop": event.shop,
        "from": event.file,
    }
    return json.dumps(values, ensure_ascii=False, sort_keys=True)


def parse(row: Mapping[str, Any], label_set: LabelSet, where: str) -> Event:
    """The event of a decoded line of JSON; ``where`` names it in errors.

    Raises:
        DataError: a field is missing or wrong.
        LabelError: unknown label or clause.
    """
    try:
        new, old = row["new"], row["old"]
        labels, note = [] if new is None else new, row["reason"]
        line = datasets.parse({**row, "labels": labels, "note": note}, label_set, where)
        if row["source"] not in SOURCES:
            msg = f"'source' must be one of {', '.join(SOURCES)}"
            raise ValueError(msg)
        return Event(
            message=line.message,
            new=None if new is None else line.labels,
            who=str(row["who"]),
            when=utc(str(row["when"])),
            source=row["source"],
            old=None if old is None else tuple(map(str, old)),
            clauses=line.clauses,
            status=line.status,
            reason=line.note,
            group=str(row["group"]),
            origin=line.origin,
            shop=str(row.get("shop", "")),
            file=str(row["from"]),
        )
    except KeyError as error:
        msg = f"{where}: an event needs the field {error}"
        raise DataError(msg) from error
    except (TypeError, ValueError) as error:
        msg = f"{where}: {error}"
        raise DataError(msg) from error


def load(path: Path, label_set: LabelSet) -> list[Event]:
    """All events of a store, in order.

    Raises:
        DataError: no such file, or a damaged line; with file and row.
        LabelError: a label or clause that the label set does not hold; with file and row.
    """
    if not path.is_file():
        msg = f"{path}: no such label store; 'cs-classifier label import' makes one"
        raise DataError(msg)
    events = []
    if path.stat().st_size:
        for row in tables.read(path, format="jsonl"):
            where = f"{path}, row {row.number}"
            if row.error:
                msg = f"{where}: {row.error}; after a merge, keep the lines of both sides"
                raise DataError(msg)
            events.append(parse(row.values, label_set, where))
    return ordered(events)


def append(path: Path, events: Iterable[Event], *, label_set: LabelSet) -> list[Event]:
    """Add what is new of ``events`` to a store, made if need be; returns what was added.

    All of it or nothing is added, and what was there stays byte for byte. Several processes may
    append at the same time.

    Raises:
        DataError: the store is damaged, cannot be written, or stays locked.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            fresh = news(load(path, label_set) if path.exists() else [], events)
            if fresh:
                _extend(path, "".join(dumps(event) + "\n" for event in fresh))
    return fresh


def _extend(path: Path, text: str) -> None:
    before = path.read_bytes() if path.exists() else b""
    if before and not before.endswith(b"\n"):
        before += b"\n"
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            stream.write(before + text.encode("utf-8", "replace"))
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the store's lock: a file that only one process can create, on every system."""
    lock = path.with_name(f".{path.name}.lock")
    deadline = time.monotonic() + _WAIT
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            if time.monotonic() > deadline:
                msg = f"{path} is being written; if by no one, delete {lock} and try again"
                raise DataError(msg) from None
            time.sleep(_PAUSE)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
