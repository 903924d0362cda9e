"""What all table formats share: their names, the row, and values as plain data."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cs_classifier.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FORMATS = ("csv", "tsv", "xlsx", "jsonl", "parquet")
DELIMITERS = {"csv": ",", "tsv": "\t"}

# Lone surrogates; also what an undecodable byte of a text file becomes, by "surrogateescape".
SURROGATE = re.compile(r"[\ud800-\udfff]")

_STREAMED = ("csv", "tsv", "jsonl")
_SUFFIXES = {
    **{f".{name}": name for name in FORMATS},
    ".tab": "tsv",
    ".xlsm": "xlsx",
    ".ndjson": "jsonl",
    ".pq": "parquet",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One data row; ``number`` as a spreadsheet shows it, see the module.

    ``error`` says why the row cannot be used; ``values`` then hold what could be read.
    """

    number: int
    values: dict[str, Any]
    error: str = ""


def output_format(path: Path | None, format: str | None) -> str:  # noqa: A002
    """Format to write: the given one, else by suffix; jsonl for stdout (``None`` or ``-``).

    Raises:
        DataError: no format follows, it cannot be streamed to stdout, or ``path`` is a folder or
            a device.
    """
    target = named_file(path)
    kind = resolve_format(target, format)
    if target is not None and target.exists() and not target.is_file():
        msg = f"{target} is not a regular file; give a file name to write"
        raise DataError(msg)
    return kind


def named_file(path: Path | None) -> Path | None:
    """The path, or ``None`` for stdin and stdout, which ``-`` stands for."""
    return None if path is None or str(path) == "-" else path


def resolve_format(path: Path | None, wanted: str | None) -> str:
    """The wanted format, else by suffix; jsonl for stdin and stdout (``None``).

    Raises:
        DataError: no format follows, or it cannot be streamed.
    """
    if wanted is not None and wanted not in FORMATS:
        msg = f"unknown format '{wanted}'; use one of {', '.join(FORMATS)}"
        raise DataError(msg)
    if path is None:
        if wanted not in (None, *_STREAMED):
            msg = f"{wanted} cannot be streamed through '-'; give a file name"
            raise DataError(msg)
        return wanted or "jsonl"
    kind = wanted or _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        legacy = "; save old .xls workbooks as .xlsx" if path.suffix.lower() == ".xls" else ""
        msg = (
            f"{path}: cannot tell the format from the suffix '{path.suffix}'; "
            f"use one of {', '.join(FORMATS)} as suffix or with --format{legacy}"
        )
        raise DataError(msg)
    return kind


def check_unique(names: Sequence[str], where: str) -> None:
    """Raise a DataError that lists the column names which occur twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"{where}: the header names {', '.join(twice)} more than once; rename the columns"
        raise DataError(msg)


def plain(value: Any) -> Any:  # noqa: ANN401
    """The value as JSON knows it: no NaN, no tuples, times as ISO strings, valid Unicode."""
    if isinstance(value, dict):
        return {_valid(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return scalar(value)


def _valid(text: str) -> str:
    return text if text.isascii() else SURROGATE.sub("\ufffd", text)


def scalar(value: Any) -> Any:  # noqa: ANN401
    """:func:`plain` for what is neither a dict nor a list."""
    if isinstance(value, str):
        return _valid(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
