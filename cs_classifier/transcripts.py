"""Rows to messages: which column means what, who speaks, and what the customer said before.

A conversation is followed row by row, so rows of different conversations may be mixed, but those of
one conversation must be in order.
"""

from __future__ import annotations

import re
import unicodedata
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from cs_classifier import resources
from cs_classifier.config import Config, load_config
from cs_classifier.errors import ConfigError, DataError
from cs_classifier.moments import number, seconds
from cs_classifier.records import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Self

    from cs_classifier.tables import Row

Role = Literal["agent", "customer", "bot", "system"]

NEEDS_MEDIA_REVIEW = "needs_media_review"  # reason: an image or a voice message, nothing to read
SYSTEM = "system"  # reason: written by the platform, not by a person
_NOT_TEXT = "text is not a string"

BUBBLE_GAP = 60.0  # seconds; agent bubbles further apart are not joined
UNTIMED_BUBBLES = 2  # preceding bubbles that are joined when times are unknown
JOINED_CHARACTERS = 200  # of the preceding bubbles together; older ones are left out
CONTEXT_CHARACTERS = 500  # of the customer's bubbles together; the end is kept
MAX_CONVERSATIONS = 100_000  # followed at a time; the one silent for longest is forgotten

DEFAULT_ROLES: dict[Role, tuple[str, ...]] = {
    "agent": ("agent", "seller", "客服", "人工客服", "坐席", "商家", "卖家"),
    "customer": ("customer", "buyer", "user", "客户", "买家", "顾客", "用户"),
    "bot": ("bot", "robot", "机器人", "自动回复"),
    "system": ("system", "系统"),
}

_MEDIA_NAMES = (
    "图片|语音|语音消息|表情|动画表情|自定义表情|视频|小视频|文件|image|voice|video|file|sticker"
)
_CARD_NAMES = "(?:订单|商品|宝贝|优惠券|物流)(?:卡片|链接|消息)?|卡片|卡片消息"
_ONE_MEDIUM = rf"[\[【<](?:{_MEDIA_NAMES})[\]】>]"
_MEDIA = re.compile(rf"{_ONE_MEDIUM}(?:\s*{_ONE_MEDIUM})*", re.IGNORECASE)
# A whole row only: "[订单] 加我" is an agent's line.
_SYSTEM_ROW = re.compile(
    rf"""
    (?:你|您|对方|客服|商家|买家|客户|["“][^"”\s]{{1,12}}["”])?\s*撤回了?一条消息[。.]?
    | 对方正在(?:输入|讲话)[.。…]*
    | 对方正在语音/隐私号沟通中 | 小额打款 | 邀请关注
    # An order card, with an order number but not with one as short as that of a telephone.
    | [\[【](?:{_CARD_NAMES})[\]】]\s*(?:订单号[:：]?\s*)?(?:(?:\d{{6}}-)?\d{{15,19}})?
    """,
    re.VERBOSE,
)
_SHOWN = 30  # columns, and characters of each, in an error


class ColumnMap(Config):
    """Which column holds what.

    A name must be a column of the file. A list of names means whichever of them is there, if any.
    What is not mapped goes by its own name, if there is such a column; nothing else is ever read.
    """

    text: str | tuple[str, ...] = "text"
    id: str | tuple[str, ...] = "id"
    context: str | tuple[str, ...] = "context"
    conversation_id: str | tuple[str, ...] = "conversation_id"
    turn: str | tuple[str, ...] = "turn"
    timestamp: str | tuple[str, ...] = "timestamp"
    role: str | tuple[str, ...] = "role"
    agent_id: str | tuple[str, ...] = "agent_id"
    shop: str | tuple[str, ...] = "shop"
    platform: str | tuple[str, ...] = "platform"
    team: str | tuple[str, ...] = "team"
    shift: str | tuple[str, ...] = "shift"
    # Without a role column: whoever speaks is the customer if named as `customer`, else the agent.
    speaker: str | tuple[str, ...] = ()
    customer: str | tuple[str, ...] = ()
    # Cell value → role, beside the defaults; case does not matter.
    roles: dict[str, str] = Field(default_factory=dict)
    system_texts: tuple[str, ...] = ()  # whole rows that the platform writes, beside the known ones

    @field_validator("roles", mode="before")
    @classmethod
    def _check_roles(cls, roles: object) -> object:
        if not isinstance(roles, dict):
            return roles
        known = get_args(Role)
        if wrong := sorted({str(role) for role in roles.values()} - set(known)):
            msg = f"unknown role {', '.join(wrong)}; use {', '.join(known)}"
            raise ValueError(msg)
        return {str(value): role for value, role in roles.items()}

    @classmethod
    def parse(cls, spec: str | None) -> Self:
        """Build a mapping from what a user gave.

        ``spec`` is ``text=内容,agent_id=客服昵称``, a YAML file, or the name of a shipped mapping
        such as ``qianniu``; ``None`` means that the columns have their own names.

        Raises:
            ConfigError: no such file or name, unknown key, or a bad value.
        """
        if spec is None or not spec.strip():
            return cls()
        if spec.endswith((".yaml", ".yml")):
            return load_config(cls, Path(spec))
        if "=" in spec:
            return cls._from_pairs(spec)
        return load_config(cls, _shipped(spec.strip()))

    @classmethod
    def _from_pairs(cls, spec: str) -> Self:
        names: dict[str, str] = {}
        for pair in filter(None, map(str.strip, re.split("[,，]", spec))):
            key, _, name = (part.strip() for part in pair.partition("="))
            if key not in FIELDS or not name or key in names:
                msg = (
                    f"--columns: '{pair}' must look like text=内容, once for each of "
                    f"{', '.join(FIELDS)}"
                )
                raise ConfigError(msg)
            names[key] = name
        try:
            return cls.model_validate(names)
        except ValidationError as error:
            msg = f"--columns: {error}"
            raise ConfigError(msg) from error

    def names(self, field_name: str) -> tuple[str, ...]:
        """Columns that may hold a field, best first, as written and as table headers spell them."""
        return _forms(getattr(self, field_name))

    def has(self, values: Mapping[str, Any], field_name: str) -> bool:
        """Whether a row has a column for a field."""
        return any(name in values for name in self.names(field_name))

    def value(self, values: Mapping[str, Any], field_name: str) -> Any:  # noqa: ANN401
        """What a row holds for a field; ``None`` if its column is missing."""
        return next((values[name] for name in self.names(field_name) if name in values), None)


FIELDS = tuple(name for name in ColumnMap.model_fields if name not in ("roles", "system_texts"))


def _shipped(name: str) -> Path:
    try:
        return resources.find(f"configs/columns/{name}.yaml")
    except ConfigError as error:
        ready = sorted(path.stem for path in resources.find("configs/columns").glob("*.yaml"))
        msg = (
            f"--columns: no mapping '{name}'; give one of {', '.join(ready)}, a .yaml file, "
            "or pairs such as text=内容"
        )
        raise ConfigError(msg) from error


def check_columns(columns: Sequence[str], mapping: ColumnMap) -> None:
    """Check that the text column and every column mapped by a single name are there.

    Raises:
        DataError: one is missing; the message lists the columns found and shows how to map.
    """
    wanted = ["text", *(name for name in FIELDS if name in mapping.model_fields_set)]
    for name in wanted:
        optional = name != "text" and not isinstance(getattr(mapping, name), str)
        if optional or any(column in columns for column in mapping.names(name)):
            continue
        missing = " or ".join(f"'{column}'" for column in mapping.names(name))
        shown = ", ".join(column[:_SHOWN] for column in columns[:_SHOWN]) or "none"
        msg = (
            f"no column {missing} for '{name}'; columns found: {shown}. "
            f"Map yours with --columns {name}=NAME, or give a YAML file or a shipped mapping"
        )
        raise DataError(msg)


@dataclass(frozen=True, slots=True)
class Turn:
    """What is to be scored of a row.

    ``message`` is ``None`` if nothing is: then ``reason`` says why, or is empty for a row that is
    context only. ``joined`` is the message with the agent's preceding bubbles before its text, or
    ``None`` if there are none.
    """

    row: Row
    message: Message | None
    joined: Message | None = None
    reason: str = ""


@dataclass(slots=True)
class _State:
    """Where a conversation stands."""

    context: str = ""
    asking: bool = False  # the customer spoke last
    speaker: tuple[str, str] = ("", "")  # role and agent of the bubbles
    bubbles: list[str] = field(default_factory=list)
    spoken: float | None = None  # time of the last bubble, seconds
    order: float | None = None  # turn, else time, of the last row


_STATE = TypeAdapter(_State)


class Conversations:
    """Turns the rows of a transcript into messages, one after another.

    A row without a role column is scored with its own context column. Otherwise agent and bot rows
    are scored, with the last words of the customer in the same conversation as context; a file
    with roles but without conversation ids is one conversation, and a blank id stands alone.

    ``disordered`` counts the rows with a smaller turn number or an earlier time than the row before
    them in their conversation; where it is not small, the file should be sorted first.
    """

    def __init__(self, mapping: ColumnMap | None = None, *, tracked: bool = False) -> None:
        """Start before the first row; only if ``tracked`` are there :meth:`changes`."""
        mapping = mapping or ColumnMap()
        self.disordered = 0
        self._names = {name: mapping.names(name) for name in FIELDS}
        self._roles: dict[str, str] = {
            _folded(value): role for role, values in DEFAULT_ROLES.items() for value in values
        }
        self._roles |= {_folded(value): role for value, role in mapping.roles.items()}
        self._system_texts = frozenset(map(_folded, mapping.system_texts))
        self._states: OrderedDict[str, _State] = OrderedDict()
        self._tracked = tracked
        self._touched: dict[str, None] = {}  # since the last call of `changes`, the latest last

    def changes(self) -> dict[str, str | None]:
        """Conversations that moved on since the last call, and those forgotten (``None``)."""
        names, self._touched = self._touched, {}
        return {
            name: _STATE.dump_json(self._states[name]).decode() if name in self._states else None
            for name in names
        }

    def restore(self, states: Iterable[tuple[str, str]]) -> None:
        """Take up conversations as :meth:`changes` gave them, the latest last."""
        self._states.update((name, _STATE.validate_json(state)) for name, state in states)

    def turn(self, row: Row) -> Turn:
        """Say what of the next row is to be scored."""
        if row.error:
            return Turn(row, None, reason=row.error)
        text, reason = self.text(row)
        if not (self._has(row, "role") or self._has(row, "speaker")):
            own = _string(self._value(row, "context"))
            return Turn(row, None if reason else Message(text, own), reason=reason)
        role, problem = self.role(row)
        if problem or role == "system":
            return Turn(row, None, reason=problem)
        state = self._state(row)
        if role == "customer":
            _hear(state, text, reason)
            return Turn(row, None)
        if reason:
            # A picture is an answer too: what the customer says next is a new question.
            state.asking = state.asking and reason != NEEDS_MEDIA_REVIEW
            return Turn(row, None, reason=reason)
        context = state.context or _string(self._value(row, "context"))
        before = self._preceding(row, state, role)
        _speak(state, text)
        joined = Message(" ".join([*before, text]), context) if before else None
        return Turn(row, Message(text, context), joined)

    def text(self, row: Row) -> tuple[str, str]:
        """The text, and why it cannot be scored."""
        if not self._has(row, "text"):
            return "", "text is missing"
        value = self._value(row, "text")
        text = _string(value)
        bare = text.strip()
        if not bare:
            return text, "text is empty" if value is None or value == text else _NOT_TEXT
        if _MEDIA.fullmatch(bare):
            return text, NEEDS_MEDIA_REVIEW
        if _SYSTEM_ROW.fullmatch(bare) or self._is_system_text(bare):
            return text, SYSTEM
        return text, ""

    def _is_system_text(self, text: str) -> bool:
        return bool(self._system_texts) and _folded(text) in self._system_texts

    def role(self, row: Row) -> tuple[str, str]:
        """The role, and what is wrong with it."""
        if not self._has(row, "role"):
            speaker = _string(self._value(row, "speaker")).strip()
            customer = _string(self._value(row, "customer")).strip()
            role = "customer" if speaker == customer else "agent"
            return role, "" if speaker else "speaker is empty"
        value = _string(self._value(row, "role")).strip()
        if not value:
            return "", "role is empty"
        role = self._roles.get(_folded(value), "")
        return role, "" if role else f"unknown role '{value[:_SHOWN]}'; map it under 'roles'"

    def _state(self, row: Row) -> _State:
        """The state of the row's conversation, which becomes the latest one."""
        if self._has(row, "conversation_id"):
            name = _string(self._value(row, "conversation_id")).strip()
            if not name:
                return _State()
        else:
            name = ""
        state = self._states.setdefault(name, _State())
        self._states.move_to_end(name)
        if len(self._states) > MAX_CONVERSATIONS:
            self._touch(self._states.popitem(last=False)[0])
        self._touch(name)
        self._check_order(row, state)
        return state

    def _touch(self, name: str) -> None:
        if self._tracked:
            self._touched.pop(name, None)
            self._touched[name] = None

    def _check_order(self, row: Row, state: _State) -> None:
        order = number(self._value(row, "turn"))
        if order is None:
            order = seconds(self._value(row, "timestamp"))
        if order is not None and state.order is not None and order < state.order:
            self.disordered += 1
        state.order = order

    def _preceding(self, row: Row, state: _State, role: str) -> list[str]:
        """The bubbles to join to this one; starts afresh where a new run of bubbles begins."""
        time = seconds(self._value(row, "timestamp"))
        speaker = (role, _string(self._value(row, "agent_id")))
        timed = time is not None and state.spoken is not None
        late = timed and abs((time or 0) - (state.spoken or 0)) > BUBBLE_GAP
        if late or speaker != state.speaker:
            state.bubbles.clear()
        state.asking, state.speaker, state.spoken = False, speaker, time
        return state.bubbles[:] if timed else state.bubbles[-UNTIMED_BUBBLES:]

    def _has(self, row: Row, name: str) -> bool:
        return not row.values.keys().isdisjoint(self._names[name])

    def _value(self, row: Row, name: str) -> Any:  # noqa: ANN401
        for column in self._names[name]:
            if column in row.values:
                return row.values[column]
        return None


def _hear(state: _State, text: str, reason: str) -> None:
    """Take in a customer's row; a platform's string in the customer's name is not their word."""
    if reason == SYSTEM:
        return
    if reason in {"", NEEDS_MEDIA_REVIEW}:
        heard = f"{state.context} {text}" if state.asking else text
        state.context = heard[-CONTEXT_CHARACTERS:]
    state.asking = True
    state.bubbles.clear()


def _speak(state: _State, text: str) -> None:
    """Keep a bubble for those that follow, and of the earlier ones what fits."""
    state.bubbles.append(text)
    while sum(map(len, state.bubbles)) > JOINED_CHARACTERS:
        state.bubbles.pop(0)


def _string(value: object) -> str:
    """The cell as text: spreadsheets make a number of a line such as 666; the rest is no text."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


@cache
def _forms(given: str | tuple[str, ...]) -> tuple[str, ...]:
    written = (given,) if isinstance(given, str) else given
    return tuple(dict.fromkeys(form for name in written for form in (name, _header_form(name))))


def _header_form(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip()


def _folded(text: str) -> str:
    return _header_form(text).casefold()
