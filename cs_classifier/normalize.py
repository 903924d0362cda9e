"""Undo the spellings that hide a word, with offsets back into the original line.

A :class:`NormalizedText` keeps every edit, so the result can be replayed and explained, and every
character knows the span of the original it came from. Normalising twice changes nothing.

Steps, in order: invisible characters are removed; enclosed letters and digits become plain; NFKC;
traditional script becomes simplified (OpenCC); characters written as their parts are put together
(亻言 is 信); brackets around single characters, and separators and emoji inside a known word, are
removed; homophone and nickname spellings are replaced from ``configs/lexicon.yaml``; spelt-out
numbers become digits. Look-alikes are never folded globally: that would break normal words
(威信力, 卫星电视, 企鹅造型), so the lexicon says where each spelling counts.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cs_classifier import resources
from cs_classifier.errors import ConfigError
from cs_classifier.matching import PatternSet, compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_PASSES = 4  # of the lexicon steps; one pass is nearly always enough


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace characters ``start:end`` by ``after``; positions are those before the step."""

    start: int
    end: int
    after: str


@dataclass(frozen=True, slots=True)
class Step:
    """The edits of one named step, left to right and without overlap."""

    name: str
    edits: tuple[Edit, ...]
    origin: str = ""  # for lexicon steps: where the spelling is known from


@dataclass(frozen=True, slots=True)
class NormalizedText:
    """A normalised line, how it came about, and where each character came from."""

    original: str
    text: str
    steps: tuple[Step, ...]
    starts: tuple[int, ...]  # per character of ``text``: span in ``original``
    ends: tuple[int, ...]

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Span of the original that became ``text[start:end]`` (not empty)."""
        return min(self.starts[start:end]), max(self.ends[start:end])


class _Lexeme(BaseModel):
    """Spellings of one word, and where they count."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    to: str
    surfaces: tuple[str, ...]
    origin: Literal["seen", "noted", "generated"]
    when: tuple[str, ...] = ("{s}",)  # RE2; {s} is the surface
    unless: tuple[str, ...] = ()  # literal words that contain a surface and are innocent
    regex: bool = False  # surfaces are RE2 rather than literal


class _Lexicon(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    separators: str  # RE2 class body of what may stand inside a split word
    split: tuple[str, ...]  # words that are recognised when split
    lexemes: tuple[_Lexeme, ...]
    components: tuple[Annotated[str, Field(min_length=3, max_length=3)], ...] = ()  # 信亻言


def apply_steps(original: str, steps: tuple[Step, ...]) -> NormalizedText:
    """Replay ``steps`` on ``original``."""
    text = original
    starts, ends = list(range(len(text))), list(range(1, len(text) + 1))
    for step in steps:
        pieces, new_starts, new_ends, at = [], [], [], 0
        for edit in step.edits:
            pieces += [text[at : edit.start], edit.after]
            new_starts += starts[at : edit.start]
            new_ends += ends[at : edit.start]
            if len(edit.after) == edit.end - edit.start:
                new_starts += starts[edit.start : edit.end]
                new_ends += ends[edit.start : edit.end]
            else:
                new_starts += [starts[edit.start]] * len(edit.after)
                new_ends += [ends[edit.end - 1]] * len(edit.after)
            at = edit.end
        pieces.append(text[at:])
        new_starts += starts[at:]
        new_ends += ends[at:]
        text, starts, ends = "".join(pieces), new_starts, new_ends
    return NormalizedText(original, text, steps, tuple(starts), tuple(ends))


def normalize(text: str) -> NormalizedText:
    """Normalise one line.

    >>> normalize("加薇❤️ ab12345").text
    '加微信 ab12345'
    >>> normalize("卫星电视能收到吗").text
    '卫星电视能收到吗'
    """
    return default_normalizer()(text)


@cache
def default_normalizer() -> Normalizer:
    """The normaliser with the shipped lexicon."""
    return Normalizer(resources.find("configs/lexicon.yaml"))


class Normalizer:
    """Normalises with one lexicon file."""

    def __init__(self, lexicon: Path) -> None:
        """Read and compile ``lexicon``.

        Raises:
            ConfigError: the file is not valid.
        """
        try:
            data = _Lexicon.model_validate(resources.read_yaml(lexicon))
        except (OSError, yaml.YAMLError, ValidationError) as error:
            msg = f"{lexicon}: {error}"
            raise ConfigError(msg) from error
        self._separator = compile_pattern(f"[{data.separators}]", str(lexicon))
        self._whole = {entry[1:]: entry[0] for entry in data.components}
        self._lexemes = [
            (lexeme, pattern) for lexeme in data.lexemes for pattern in _patterns(lexeme)
        ]
        # The pattern of split words stands last: one pass tells whether any word step has work.
        patterns = [*(pattern for _, pattern in self._lexemes), _split_pattern(data)]
        self._set = PatternSet(patterns, str(lexicon))

    def __call__(self, text: str) -> NormalizedText:
        """Normalise one line."""
        steps: list[Step] = []
        current = text
        for name, find in _LAST_STEPS if _ORDINARY.fullmatch(text) else _CHARACTER_STEPS:
            current = _record(steps, name, current, find(current))
        for _ in range(MAX_PASSES):
            before = current
            current = _record(steps, "components", current, self._put_together(current))
            if self._settled(current):
                break
            current = _record(steps, "brackets", current, _brackets(current))
            current = _record(steps, "joined", current, self._joined(current))
            for lexeme, edits in self._respelt(current):
                current = _record(steps, "lexicon", current, edits, lexeme.origin)
            current = _record(steps, "digits", current, _digits(current))
            if current == before:
                break
        return apply_steps(text, tuple(steps))

    def _settled(self, text: str) -> bool:
        """Whether no word step can find anything; most lines leave here."""
        return not (_MARKS.search(text) or self._set.matching(text))

    def _put_together(self, text: str) -> list[Edit]:
        edits: list[Edit] = []
        for i, pair in enumerate(map("".join, pairwise(text))):
            if pair in self._whole and not (edits and edits[-1].end > i):
                edits.append(Edit(i, i + 2, self._whole[pair]))
        return edits

    def _joined(self, text: str) -> list[Edit]:
        return [
            Edit(match.start(), match.end(), self._separator.sub("", match.group()))
            for match in self._set[len(self._lexemes)].finditer(text)
        ]

    def _respelt(self, text: str) -> Iterator[tuple[_Lexeme, list[Edit]]]:
        """Edits of each lexeme that occurs; positions hold for the text after the ones before."""
        for number in self._set.matching(text):
            if number == len(self._lexemes):
                return
            lexeme = self._lexemes[number][0]
            edits = [
                Edit(*span, lexeme.to)
                for span in _surface_spans(self._set[number], text)
                if text[slice(*span)] != lexeme.to and not _innocent(text, span, lexeme.unless)
            ]
            if edits:
                yield lexeme, edits
                text = apply_steps(text, (Step("", tuple(edits)),)).text


def _record(steps: list[Step], name: str, text: str, edits: list[Edit], origin: str = "") -> str:
    if not edits:
        return text
    step = Step(name, tuple(edits), origin)
    steps.append(step)
    return apply_steps(text, (step,)).text


def _split_pattern(lexicon: _Lexicon) -> str:
    """Words of the split list with one to three separators between at least two characters."""
    gap = f"[{lexicon.separators}]"
    alternatives = []
    for word in lexicon.split:
        edge = r"\b" if word.isascii() else ""
        chars = [_escape(char) for char in word]
        for first in range(1, len(chars)):  # the first gap that is not empty
            head, tail = "".join(chars[:first]), f"{gap}{{0,3}}".join(chars[first:])
            alternatives.append(f"{edge}{head}{gap}{{1,3}}{tail}{edge}")
    return "|".join(alternatives)


def _escape(text: str) -> str:
    return "".join(f"\\{char}" if char in r"\.+*?()|[]{}^$" else char for char in text)


def _patterns(lexeme: _Lexeme) -> list[str]:
    surfaces = lexeme.surfaces if lexeme.regex else tuple(map(_escape, lexeme.surfaces))
    return [when.replace("{s}", f"({'|'.join(surfaces)})") for when in lexeme.when]


def _surface_spans(pattern: Any, text: str) -> Iterator[tuple[int, int]]:  # noqa: ANN401
    for match in pattern.finditer(text):
        yield next(match.span(i) for i in range(1, match.re.groups + 1) if match.span(i)[0] >= 0)


def _innocent(text: str, span: tuple[int, int], words: tuple[str, ...]) -> bool:
    """Whether an innocent word overlaps the span (case ignored)."""
    start, end = span
    return any(
        word.lower() in text[max(0, start - len(word) + 1) : end + len(word) - 1].lower()
        for word in words
    )


_OVERLAYS = {"\u0335", "\u0336", "\u0337", "\u0338", "\u20e3"}  # struck through; keycap


def _invisible(text: str) -> list[Edit]:
    return [Edit(i, i + 1, "") for i, char in enumerate(text) if _is_invisible(char)]


def _is_invisible(char: str) -> bool:
    if char in _OVERLAYS:
        return True
    code = ord(char)
    if 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF:  # noqa: PLR2004
        return True  # variation selectors
    return unicodedata.category(char) in {"Cf", "Cc", "Co", "Cs"} and char not in "\n\t\r"


def _enclosed_table() -> dict[str, str]:
    """Letters and digits whose NFKC form is missing or carries brackets or a full stop."""
    table = {}
    for code in (*range(0x2474, 0x249C), *range(0x1F100, 0x1F1AD)):
        char = chr(code)
        inner = [c for c in unicodedata.normalize("NFKC", char) if c.isalnum()]
        if inner and inner != [char]:
            table[char] = "".join(inner)
    for first in (0x1F150, 0x1F170):  # negative circled and squared capitals have no NFKC form
        table |= {chr(first + i): chr(ord("A") + i) for i in range(26)}
    table |= {chr(0x2776 + i): str(i + 1) for i in range(10)}
    table |= {"⓿": "0", "➕": "+"}
    return table


_ENCLOSED = _enclosed_table()


def _enclosed(text: str) -> list[Edit]:
    return [Edit(i, i + 1, _ENCLOSED[char]) for i, char in enumerate(text) if char in _ENCLOSED]


_BRACKETED = compile_pattern(r"(?:[【(「『〔\[<{]\p{Han}[】)」』〕\]>}]){2,}", "brackets")


def _brackets(text: str) -> list[Edit]:
    """Brackets around each character of a word: 【微】【信】. One alone is punctuation."""
    return [
        Edit(at, at + 1, "")
        for match in _BRACKETED.finditer(text)
        for first in range(match.start(), match.end(), 3)
        for at in (first, first + 2)
    ]


def _nfkc(text: str) -> list[Edit]:
    if unicodedata.is_normalized("NFKC", text):
        return []
    edits, start = [], 0
    for i in range(1, len(text) + 1):
        # A cluster ends before a character that cannot combine with what precedes it.
        if i < len(text) and _combines(text[i]):
            continue
        cluster = text[start:i]
        after = unicodedata.normalize("NFKC", cluster)
        if after != cluster:
            edits.append(Edit(start, i, after))
        start = i
    return edits


def _combines(char: str) -> bool:
    return unicodedata.combining(char) != 0 or "\u1160" <= char <= "\u11ff"  # marks, Hangul jamo


@cache
def _converter() -> Any:  # noqa: ANN401
    from opencc import OpenCC

    return OpenCC("t2s")


def _traditional(text: str) -> list[Edit]:
    if text.isascii():
        return []
    simplified = _converter().convert(text)
    if simplified == text:
        return []
    if len(simplified) != len(text):  # a phrase of another length: fall back to single characters
        simplified = "".join((_converter().convert(char) + char)[0] for char in text)
    return [
        Edit(i, i + 1, after)
        for i, (before, after) in enumerate(zip(text, simplified, strict=True))
        if before != after
    ]


_CHARACTER_STEPS: tuple[tuple[str, Callable[[str], list[Edit]]], ...] = (
    ("invisible", _invisible),
    ("enclosed", _enclosed),
    ("nfkc", _nfkc),
    ("traditional", _traditional),
)
# Nothing that the first two steps would look for: ASCII, punctuation, full-width forms, Han.
_ORDINARY = re.compile("[\\t\\n\\r -~—‘’“”…、。《》【】！-～一-龥]*")
_LAST_STEPS = _CHARACTER_STEPS[2:]

_NUMERALS = dict(
    zip("零〇一二三四五六七八九幺壹贰叁肆伍陆柒捌玖", "001234567891123456789", strict=True)
)
_SPELT = compile_pattern(
    r"(?:[零〇一二三四五六七八九幺壹贰叁肆伍陆柒捌玖\d][ \-.·_]?){6,}", "digits"
)
_PHONE = compile_pattern(r"\b1[3-9]\d[ \-.·_]{1,3}\d{4}[ \-.·_]{0,3}\d{4}\b", "digits")
_COUNTING = "零一二三四五六七八九"
# Where nothing of this occurs, neither brackets nor digits have work.
_MARKS = re.compile(rf"[【(「『〔\[<{{]|(?:[{''.join(_NUMERALS)}\d][ \-.·_]{{0,3}}){{6}}")
MIN_SPELT = 5  # numerals; fewer are a price, a date or a counting rhyme


def _digits(text: str) -> list[Edit]:
    """Spelt-out numbers of id length, and split mobile numbers, as plain digits."""
    edits = []
    for match in _SPELT.finditer(text):
        run = match.group().rstrip(" -.·_")
        spelt = "".join(char for char in run if char in _NUMERALS)
        if len(spelt) >= MIN_SPELT and spelt not in _COUNTING:
            after = "".join(_NUMERALS.get(char, char) for char in run if char not in " -.·_")
            edits.append(Edit(match.start(), match.start() + len(run), after))
    taken = [(edit.start, edit.end) for edit in edits]
    for match in _PHONE.finditer(text):
        if all(match.end() <= start or end <= match.start() for start, end in taken):
            after = "".join(char for char in match.group() if char.isdigit())
            edits.append(Edit(match.start(), match.end(), after))
    return sorted(edits, key=lambda edit: edit.start)
