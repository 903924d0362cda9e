"""Spell a line the way agents spell around filters; for augmentation and for the evasion test set.

Eight attacks, after guideline lists of spellings seen in the wild: homophone, pinyin or initials,
characters split into components, separators inserted, emoji, traditional script, look-alikes, and
full-width or enclosed forms. Every replacement belongs to one of two halves, by a hash of what is
replaced and by what: a model that is trained with the ``train`` half has seen no replacement of the
``test`` half, so the test measures spellings that are new to it. Traditional script, which is one
fixed mapping, is the exception.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from cs_classifier import resources
from cs_classifier.errors import ConfigError, DataError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import numpy as np

    from cs_classifier.records import LabelledMessage

Attack = Literal[
    "homophone",
    "pinyin",
    "component",
    "separator",
    "emoji",
    "traditional",
    "lookalike",
    "enclosed",
]
Half = Literal["train", "test"]
ATTACKS: tuple[Attack, ...] = get_args(Attack)
MAX_WORDS = 2  # attacked in one line; more makes it unreadable

_HAN = "\u4e00-\u9fff"
_PAIR = re.compile(f"(?=([{_HAN}]{{2}}))")  # every neighbouring pair
_ASCII = re.compile(r"[A-Za-z0-9]{2,}")
_BRACKETS = ("【】", "（）", "「」", "[]", "<>", "『』", "〔〕", "{}")
_STYLES = {  # code points of A, a and 0; None where the style has no such letters
    "fullwidth": (0xFF21, 0xFF41, 0xFF10),
    "circled": (0x24B6, 0x24D0, None),
    "parenthesised": (0x1F110, 0x249C, None),
    "squared": (0x1F130, None, None),
    "bold": (0x1D400, 0x1D41A, 0x1D7CE),
    "sans": (0x1D5A0, 0x1D5BA, 0x1D7E2),
    "monospace": (0x1D670, 0x1D68A, 0x1D7F6),
    "double": (0x1D538, 0x1D552, 0x1D7D8),
}


class EvasionTables(BaseModel):
    """The replacements of ``configs/evasion.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    targets: tuple[str, ...]
    separators: tuple[str, ...]
    components: dict[str, str]
    emoji: dict[str, tuple[str, ...]]
    lookalike: dict[str, tuple[str, ...]]

    @field_validator("targets")
    @classmethod
    def _words(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        """Longest words first, so that 微信号 is found before 微信."""
        return tuple(
            sorted({w for line in lines for w in line.split()}, key=lambda w: (-len(w), w))
        )


class Evader:
    """Attacks lines with the replacements of one half."""

    def __init__(self, half: Half, tables: Path | None = None) -> None:
        """Read ``tables`` (default: the shipped ones).

        Raises:
            ConfigError: the file is not valid.
        """
        path = tables or resources.find("configs/evasion.yaml")
        try:
            self._tables = EvasionTables.model_validate(resources.read_yaml(path))
        except (OSError, ValidationError) as error:
            msg = f"{path}: {error}"
            raise ConfigError(msg) from error
        self._half = half
        self._target = re.compile("|".join(map(re.escape, self._tables.targets)))
        self._rewrites: dict[Attack, Callable[[str, np.random.Generator], str]] = {
            "homophone": self._homophone,
            "pinyin": self._pinyin,
            "component": self._component,
            "separator": self._separator,
            "emoji": self._emoji,
            "lookalike": self._lookalike,
            "enclosed": self._enclosed,
        }

    def __call__(self, text: str, attack: Attack, rng: np.random.Generator) -> str | None:
        """``text`` with up to ``MAX_WORDS`` words spelt around a filter; None if none can be.

        Words that filters look for come first, other places of the line only if those yield
        nothing.
        """
        if attack == "traditional":
            changed = _to_traditional(text)
            return changed if changed != text else None
        rewrite = self._rewrites[attack]
        for spans in self._places(text, rng):
            taken: list[tuple[int, int, str]] = []
            for start, end in spans:
                if any(start < t_end and t_start < end for t_start, t_end, _ in taken):
                    continue
                after = rewrite(text[start:end], rng)
                if after != text[start:end]:
                    taken.append((start, end, after))
                if len(taken) == MAX_WORDS:
                    break
            if taken:
                return _replace(text, taken)
        return None

    def _places(self, text: str, rng: np.random.Generator) -> list[list[tuple[int, int]]]:
        """Spans to try, each list in random order: target words, then anything."""
        targets = [match.span() for match in self._target.finditer(text)]
        ids = [match.span() for match in _ASCII.finditer(text)]
        pairs = [match.span(1) for match in _PAIR.finditer(text)]
        lists = [targets, ids, pairs]
        for spans in lists:
            rng.shuffle(spans)
        return lists

    def _ours(self, before: str, after: str) -> bool:
        return half_of(before, after) == self._half

    def _pick(self, before: str, after: Iterable[str], rng: np.random.Generator) -> str:
        """One of the replacements that are in our half, or ``before``."""
        options = [option for option in after if self._ours(before, option)]
        return options[int(rng.integers(len(options)))] if options else before

    def _some(
        self, word: str, table: Callable[[str], Sequence[str]], rng: np.random.Generator
    ) -> str:
        """Replace one or all of the characters that have a replacement in our half."""
        after = [self._pick(char, table(char), rng) for char in word]
        changed = [i for i, char in enumerate(word) if after[i] != char]
        if len(changed) > 1 and rng.random() < 0.5:  # noqa: PLR2004
            keep = int(rng.integers(len(changed)))
            after = [after[i] if i == changed[keep] else char for i, char in enumerate(word)]
        return "".join(after)

    def _homophone(self, word: str, rng: np.random.Generator) -> str:
        return self._some(word, lambda char: _homophones().get(_pinyin(char), ()), rng)

    def _pinyin(self, word: str, rng: np.random.Generator) -> str:
        if not re.fullmatch(f"[{_HAN}]+", word):
            return word
        sounds = [_pinyin(char) for char in word]
        options = ["".join(sounds), "".join(sound[0] for sound in sounds)]
        for i, sound in enumerate(sounds):
            options += [word[:i] + part + word[i + 1 :] for part in (sound, sound[0])]
        return self._pick(word, options, rng)

    def _component(self, word: str, rng: np.random.Generator) -> str:
        return self._some(word, lambda char: [self._tables.components.get(char, char)], rng)

    def _separator(self, word: str, rng: np.random.Generator) -> str:
        mark = self._pick("", self._tables.separators, rng)
        if len(word) == 1:
            return word
        if rng.random() < 0.5:  # noqa: PLR2004
            return mark.join(word)
        at = int(rng.integers(1, len(word)))
        return word[:at] + mark + word[at:]

    def _emoji(self, word: str, rng: np.random.Generator) -> str:
        if word in self._tables.emoji:
            return self._pick(word, self._tables.emoji[word], rng)
        after = self._some(word, lambda char: self._tables.emoji.get(char, ()), rng)
        if after != word or len(word) == 1:
            return after
        every = sorted({mark for marks in self._tables.emoji.values() for mark in marks})
        return word[0] + self._pick("", every, rng) + word[1:]

    def _lookalike(self, word: str, rng: np.random.Generator) -> str:
        return self._some(word, lambda char: self._tables.lookalike.get(char.lower(), ()), rng)

    def _enclosed(self, word: str, rng: np.random.Generator) -> str:
        if _ASCII.fullmatch(word):
            style = self._pick("style", _STYLES, rng)
            return "".join(_styled(char, style) for char in word) if style in _STYLES else word
        marks = self._pick("brackets", _BRACKETS, rng)
        return "".join(f"{marks[0]}{char}{marks[1]}" for char in word)


def attacked_sets(
    lines: Sequence[LabelledMessage], size: int, half: Half, rng: np.random.Generator
) -> dict[str, list[LabelledMessage]]:
    """The same lines as they are (``plain``) and under each attack; half of them violating.

    Only lines that every attack changes are drawn, so that the attacks can be compared.

    Args:
        lines: gold lines.
        size: lines to draw.
        half: which half of the replacements.
        rng: for the draw and the spellings.

    Raises:
        DataError: too few violating or too few clean lines can be attacked in every way.
    """
    evader = Evader(half)
    shuffled = [lines[int(i)] for i in rng.permutation(len(lines))]
    room = {True: size // 2, False: size - size // 2}
    sets: dict[str, list[LabelledMessage]] = {name: [] for name in ("plain", *ATTACKS)}
    for line in shuffled:
        if not room[bool(line.labels)]:
            continue
        texts = {attack: evader(line.message.text, attack, rng) for attack in ATTACKS}
        if any(text is None for text in texts.values()):
            continue
        room[bool(line.labels)] -= 1
        for name, text in ("plain", line.message.text), *texts.items():
            sets[name].append(_respelt(line, name, str(text)))
    if any(room.values()):
        msg = (
            f"only {size - sum(room.values())} of {size} lines could be drawn: too few "
            f"{'violating' if room[True] else 'clean'} lines can be attacked in every way"
        )
        raise DataError(msg)
    return sets


def _respelt(line: LabelledMessage, attack: str, text: str) -> LabelledMessage:
    return replace(
        line,
        id=f"{attack}-{line.id}",
        message=replace(line.message, text=text),
        group=f"evasion:{line.group}",
        origin=f"evasion:{attack}",
    )


def half_of(before: str, after: str) -> Half:
    """The half that the replacement of ``before`` by ``after`` belongs to."""
    digest = hashlib.sha256(f"{before}\x1f{after}".encode()).digest()
    return "train" if digest[0] % 2 else "test"


def _replace(text: str, edits: list[tuple[int, int, str]]) -> str:
    for start, end, after in sorted(edits, reverse=True):
        text = text[:start] + after + text[end:]
    return text


def _styled(char: str, style: str) -> str:
    upper, lower, digit = _STYLES[style]
    for first, start in (("A", upper), ("a", lower), ("0", digit)):
        last = {"A": "Z", "a": "z", "0": "9"}[first]
        if start is not None and first <= char <= last:
            styled = chr(start + ord(char) - ord(first))
            return styled if unicodedata.name(styled, "") else char  # some code points are holes
    return char


@cache
def _pinyin(char: str) -> str:
    """Pinyin without tone; the character itself where there is none."""
    try:
        from pypinyin import lazy_pinyin
    except ImportError as error:
        msg = "train"
        raise MissingExtraError(msg, "pypinyin") from error
    return str(lazy_pinyin(char)[0])


@cache
def _homophones() -> dict[str, tuple[str, ...]]:
    """The 3,755 common characters of GB 2312, level 1, by pinyin without tone."""
    table: dict[str, list[str]] = {}
    for high in range(0xB0, 0xD8):
        for low in range(0xA1, 0xFF):
            char = bytes([high, low]).decode("gb2312", "ignore")
            if char:
                table.setdefault(_pinyin(char), []).append(char)
    return {sound: tuple(chars) for sound, chars in table.items()}


@cache
def _converter() -> Any:  # noqa: ANN401
    from opencc import OpenCC

    return OpenCC("s2t")


def _to_traditional(text: str) -> str:
    return str(_converter().convert(text))
