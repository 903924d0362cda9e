"""Service checks from times and roles alone: reply rates, first responses, night contact, silence.

They stand beside the model and never look at its findings. Every check is a value of
``configs/service.yaml`` that names its platforms, window, formula, threshold and source. Each turns
a transcript into cases, and all cases are counted alike: per shop and day, and per agent.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from cs_classifier.config import Config
from cs_classifier.matching import compile_pattern
from cs_classifier.metrics import wilson
from cs_classifier.moments import DAY, day
from cs_classifier.performance.clock import Window, within
from cs_classifier.performance.dialogues import Dialogue, Event, replies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cs_classifier.performance.dialogues import Transcript

Variant = Literal["all", "human"]  # human: as if bots had written nothing
Scope = Literal["shop", "agent"]
Place = tuple[Scope, str, str, str, str]  # scope, platform, shop, agent, day
VARIANTS: tuple[Variant, ...] = ("all", "human")


class Words(Config):
    """One text in both languages."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Case:
    """One unit that a check judges; ``good`` is ``None`` where the transcript ends too early.

    Cases of one ``unit`` (a customer of a day, say) count once: bad if one of them is bad.
    """

    dialogue: Dialogue
    agent: str
    day: str
    unit: str
    good: bool | None
    seconds: float | None = None
    remark: str = ""


class _Check(Config):
    counts_good: ClassVar[bool] = True  # else the rate is that of bad units, and low is good
    name: str
    title: Words
    platforms: tuple[str, ...] = ()  # none: every platform
    window: Window = (0, 24 * 60)
    formula: Words
    threshold: float | None = Field(default=None, ge=0, le=1)
    minimum_units: int = 0  # the platform judges a shop only from so many units a day
    source: str

    def concerns(self, dialogue: Dialogue) -> bool:
        """Whether the check applies to the dialogue's platform."""
        wanted = {name.casefold() for name in self.platforms}
        return not wanted or dialogue.platform.strip().casefold() in wanted


class ReplyRate(_Check):
    """Customer turns that are answered within a time; the clock starts with their first message."""

    kind: Literal["reply_rate"]
    minutes: float = Field(gt=0)
    by_customer: bool = False  # count customers, not turns

    def cases(self, dialogues: Sequence[Dialogue], end: float, variant: Variant) -> Iterator[Case]:
        """One case per turn that begins in the window."""
        limit = self.minutes * 60
        for dialogue in dialogues:
            for number, turn in enumerate(replies(dialogue, human=variant == "human")):
                if turn.queued or not within(turn.start, self.window):
                    continue
                late = turn.wait is None or turn.wait > limit
                open_ended = turn.wait is None and turn.start + limit > end
                yield Case(
                    dialogue=dialogue,
                    agent=turn.agent,
                    day=day(turn.start),
                    unit=dialogue.customer if self.by_customer else f"{dialogue.id}#{number}",
                    good=None if open_ended else not late,
                    seconds=turn.wait,
                )


class FirstResponse(_Check):
    """Conversations whose first customer message is answered within a time, queue included."""

    kind: Literal["first_response"]
    seconds: float = Field(gt=0)

    def cases(self, dialogues: Sequence[Dialogue], end: float, variant: Variant) -> Iterator[Case]:
        """One case per conversation in which a customer speaks."""
        for dialogue in dialogues:
            spoken = tuple(event for event in dialogue.events if event.role != "system")
            plain = replace(dialogue, events=spoken)  # the queue belongs to the wait
            turn = next(replies(plain, human=variant == "human"), None)
            if turn is None or not within(turn.start, self.window):
                continue
            open_ended = turn.wait is None and turn.start + self.seconds > end
            good = turn.wait is not None and turn.wait <= self.seconds
            yield Case(
                dialogue=dialogue,
                agent=turn.agent,
                day=day(turn.start),
                unit=dialogue.id,
                good=None if open_ended else good,
                seconds=turn.wait,
            )


class NightContact(_Check):
    """Customers whom the shop wrote to unasked on several nights of a week."""

    counts_good = False
    kind: Literal["night_contact"]
    grace_minutes: float = Field(ge=0)  # after a customer's message, an answer is no contact
    nights: int = Field(ge=1)
    days: int = Field(ge=1)

    def cases(self, dialogues: Sequence[Dialogue], end: float, variant: Variant) -> Iterator[Case]:
        """One case per customer, agent and day, which ends where the window ends."""
        del end
        nights: dict[tuple[str, str], set[int]] = defaultdict(set)
        written: dict[tuple[str, str, str, int], Dialogue] = {}
        contacts = set()
        for dialogue in dialogues:
            who = dialogue.shop, dialogue.customer
            for event, asked in _agent_events(dialogue, variant):
                at = int((event.time - self.window[1] * 60) // DAY)
                key = (*who, event.agent, at)
                written.setdefault(key, dialogue)
                unasked = asked is None or event.time - asked > self.grace_minutes * 60
                if unasked and within(event.time, self.window):
                    nights[who].add(at)
                    contacts.add(key)
                    written[key] = dialogue
        for key, dialogue in written.items():
            shop, customer, agent, at = key
            count = sum(0 <= at - other < self.days for other in nights[shop, customer])
            bad = key in contacts and count >= self.nights
            yield Case(dialogue, agent, day(at * DAY), customer, good=not bad)


class RepeatedMessages(_Check):
    """Conversations in which the agent keeps writing to a customer who is silent or has refused."""

    counts_good = False
    kind: Literal["repeated_messages"]
    messages: int = Field(ge=2)
    hours: float = Field(gt=0)
    silence_minutes: float = Field(ge=0)
    same_share: float = Field(gt=0, le=1)  # of messages with the same text: spam
    refusals: tuple[str, ...] = ()

    def cases(self, dialogues: Sequence[Dialogue], end: float, variant: Variant) -> Iterator[Case]:
        """One case per conversation, agent and day; a run is bad on the day that completes it."""
        del end
        refusal = compile_pattern("|".join(self.refusals) or r"\b\B", self.name)
        for dialogue in dialogues:
            found: dict[tuple[str, str], tuple[bool, str]] = {}
            for event, run in self._runs(dialogue, variant, refusal):
                key = day(event.time), event.agent
                recent = [e for e in run if event.time - e.time <= self.hours * 3600]
                if len(recent) >= self.messages:
                    same = Counter(e.text.strip() for e in recent).most_common(1)[0][1]
                    spam = same >= self.same_share * len(recent)
                    found[key] = False, "spam" if spam else ""
                else:
                    found.setdefault(key, (True, ""))
            for (at, agent), (good, remark) in found.items():
                yield Case(dialogue, agent, at, dialogue.id, good, remark=remark)

    def _runs(
        self,
        dialogue: Dialogue,
        variant: Variant,
        refusal: Any,  # noqa: ANN401
    ) -> Iterator[tuple[Event, list[Event]]]:
        """Each agent message with those sent since silence or refusal, itself included."""
        run: list[Event] = []
        last: float | None = None  # time of the agent's last message since the customer's
        counting = False
        for event in dialogue.events:
            if event.role == "customer":
                run, last, counting = [], None, bool(refusal.search(event.text))
            elif event.role == "agent" or (event.role == "bot" and variant == "all"):
                counting |= last is not None and event.time - last >= self.silence_minutes * 60
                last = event.time
                if counting:
                    run.append(event)
                yield event, run


class WaitSilence(_Check):
    """Requests to wait after which the agent writes nothing more."""

    counts_good = False
    kind: Literal["wait_silence"]
    minutes: float = Field(gt=0)
    phrases: tuple[str, ...] = Field(min_length=1)
    unless: tuple[str, ...] = ()

    def cases(self, dialogues: Sequence[Dialogue], end: float, variant: Variant) -> Iterator[Case]:
        """One case per request; another request is no answer."""
        asks = compile_pattern("|".join(self.phrases), self.name)
        unless = compile_pattern("|".join(self.unless) or r"\b\B", self.name)
        limit = self.minutes * 60
        for dialogue in dialogues:
            events = [event for event, _ in _agent_events(dialogue, variant)]
            waits = [bool(asks.search(e.text)) and not unless.search(e.text) for e in events]
            for i, event in enumerate(events):
                if not waits[i] or not within(event.time, self.window):
                    continue
                later = zip(events[i + 1 :], waits[i + 1 :], strict=True)
                good = any(not w and e.time - event.time <= limit for e, w in later)
                open_ended = not good and event.time + limit > end
                yield Case(
                    dialogue=dialogue,
                    agent=event.agent,
                    day=day(event.time),
                    unit=f"{dialogue.id}#{i}",
                    good=None if open_ended else good,
                )


Check = Annotated[
    ReplyRate | FirstResponse | NightContact | RepeatedMessages | WaitSilence,
    Field(discriminator="kind"),
]


def _agent_events(dialogue: Dialogue, variant: Variant) -> Iterator[tuple[Event, float | None]]:
    """Agent messages, each with the time of the customer's last one."""
    asked: float | None = None
    for event in dialogue.events:
        if event.role == "customer":
            asked = event.time
        elif event.role == "agent" or (event.role == "bot" and variant == "all"):
            yield event, asked


class ServiceRules(Config):
    """All checks."""

    version: str
    # System rows that say that the customer waits in a queue, and that an agent has taken over.
    queued: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    checks: tuple[Check, ...]

    @cached_property
    def identity(self) -> str:
        """Version and checksum, to be kept with every result."""
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()
        return f"{self.version}+{digest[:12]}"


@dataclass(frozen=True, slots=True)
class Result:
    """One check for one shop on one day, or for one agent over all days (``day`` is empty)."""

    check: str
    variant: Variant
    scope: Scope
    platform: str
    shop: str
    agent: str
    day: str
    numerator: int
    denominator: int
    rate: float | None  # None without a denominator
    interval: tuple[float, float] | None  # 95 %, Wilson
    met: bool | None  # None without a threshold, or if the platform would not judge
    undecided: int  # units not counted, since the transcript ends too early
    median: float | None  # seconds, of what was answered
    ninetieth: float | None
    remarks: dict[str, int] = field(default_factory=dict)
    offending: tuple[str, ...] = ()  # conversation ids


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """All results, and what they rest on."""

    rules: ServiceRules
    results: tuple[Result, ...]
    dialogues: int
    rows: int
    untimed: int  # dialogues left out: a message has no time, or one without a date
    unplaced: int  # rows left out: no conversation id, an unknown role, or damaged
    files: tuple[str, ...]


def check(
    transcript: Transcript, rules: ServiceRules, *, files: Sequence[str] = ()
) -> ServiceReport:
    """Run all checks, each for all messages and as if there were no bots."""
    results: list[Result] = []
    for rule in rules.checks:
        dialogues = [d for d in transcript.dialogues if rule.concerns(d)]
        for variant in VARIANTS:
            cases = list(rule.cases(dialogues, transcript.end, variant))
            results += _count(rule, variant, cases)
    return ServiceReport(
        rules=rules,
        results=tuple(results),
        dialogues=len(transcript.dialogues),
        rows=transcript.rows,
        untimed=transcript.untimed,
        unplaced=transcript.unplaced,
        files=tuple(files),
    )


def _count(rule: Check, variant: Variant, cases: Iterable[Case]) -> list[Result]:
    groups: dict[Place, list[Case]] = defaultdict(list)
    for case in cases:
        where = case.dialogue.platform, case.dialogue.shop
        groups["shop", *where, "", case.day].append(case)
        if case.agent:
            groups["agent", *where, case.agent, ""].append(case)
    places = sorted(groups, key=lambda place: (place[0] == "agent", place))
    return [_result(rule, variant, place, groups[place]) for place in places]


def _result(rule: Check, variant: Variant, place: Place, cases: Sequence[Case]) -> Result:
    units: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        units[case.day, case.unit].append(case)
    bad = [own for own in units.values() if any(case.good is False for case in own)]
    good = sum(all(case.good for case in own) for own in units.values())
    decided = good + len(bad)
    numerator = good if rule.counts_good else len(bad)
    waits = [case.seconds for case in cases if case.seconds is not None]
    found = [case for own in bad for case in own if case.good is False]
    return Result(
        rule.name,
        variant,
        *place,
        numerator=numerator,
        denominator=decided,
        rate=numerator / decided if decided else None,
        interval=wilson(numerator, decided) if decided else None,
        met=_met(rule, place, numerator, decided, len(units)),
        undecided=len(units) - decided,
        median=float(np.quantile(waits, 0.5)) if waits else None,
        ninetieth=float(np.quantile(waits, 0.9)) if waits else None,
        remarks=dict(Counter(case.remark for case in found if case.remark)),
        offending=tuple(dict.fromkeys(case.dialogue.id for case in found)),
    )


def _met(rule: Check, place: Place, numerator: int, decided: int, units: int) -> bool | None:
    """Whether the threshold is kept; thresholds are for shops, and from a number of units on."""
    if rule.threshold is None or place[0] != "shop" or not decided or units < rule.minimum_units:
        return None
    rate = numerator / decided
    return rate >= rule.threshold if rule.counts_good else rate <= rule.threshold
