"""Markdown tables that also line up in a terminal, and how numbers are written everywhere."""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cs_classifier.evaluation import Estimate

MISSING = "–"  # a number that does not exist, such as precision without calls


def number(value: float | None, digits: int = 2) -> str:
    """A number for people.

    >>> number(0.456), number(float("nan")), number(-0.001)
    ('0.46', '–', '0.00')
    """
    if value is None or math.isnan(value):
        return MISSING
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def interval(estimate: Estimate, digits: int = 2) -> str:
    """A number with its interval.

    >>> from cs_classifier.evaluation import Estimate
    >>> interval(Estimate(value=0.5, low=0.4, high=0.61))
    '0.50 [0.40, 0.61]'
    """
    if math.isnan(estimate.value):
        return MISSING
    low, high = number(estimate.low, digits), number(estimate.high, digits)
    return f"{number(estimate.value, digits)} [{low}, {high}]"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table whose columns are padded by what the characters take up on screen.

    >>> print(table(["标签", "n"], [["a", 1]]))
    | 标签 | n |
    | ---- | - |
    | a    | 1 |
    """
    cells = [[_cell(value) for value in row] for row in (header, *rows)]
    widths = [max(width(row[j]) for row in cells) for j in range(len(header))]
    lines = [
        "| " + " | ".join(c + " " * (w - width(c)) for c, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "| " + " | ".join("-" * w for w in widths) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def width(text: str) -> int:
    """Columns that ``text`` takes up in a terminal.

    >>> width("a发票")
    5
    """
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
