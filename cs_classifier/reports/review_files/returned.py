"""The workbook that comes back, whatever was done to it in between."""

from __future__ import annotations

import re
import warnings
import zlib
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from cs_classifier.errors import DataError
from cs_classifier.reports.review_files.answers import Answer, Found, collect, folded, review
from cs_classifier.reports.review_files.codec import unpack
from cs_classifier.reports.review_files.words import COLUMNS
from cs_classifier.tables.formats import scalar
from cs_classifier.tables.writing import sheet_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from cs_classifier.labels import LabelSet
    from cs_classifier.reviews import Review

_NAMES = {folded(head): column.name for column in COLUMNS for head in (column.zh, column.en)}
_PART = re.compile(rf"(?:{'|'.join(folded(h) for h in (COLUMNS[-1].zh, COLUMNS[-1].en))})(\d+)")
_NEEDED = {"verdict", "data"}
_ANSWERS = tuple(column.name for column in COLUMNS if column.kind == "answer")
_ADVICE = "fill the workbook that 'cs-classifier sample' wrote, hidden columns included"
_REWRITTEN = re.compile(r"_x[0-9A-Fa-f]{4}_|[\W_]")  # what spreadsheets may rewrite

_Header = dict[str, int]  # column name → position


def read(path: Path, *, label_set: LabelSet) -> list[Found]:
    """The reviews of a returned workbook, from every sheet that has the columns.

    Raises:
        DataError: no workbook or no review sheet, or rows that cannot be read; names them.
    """
    from openpyxl.utils.exceptions import InvalidFileException

    damage = (BadZipFile, InvalidFileException, KeyError, ValueError, TypeError, SyntaxError)
    try:
        with path.open("rb") as stream, closing(_workbook(stream)) as book:
            sheets = [(sheet.title, list(_filled(sheet))) for sheet in book.worksheets]
    except (*damage, OSError, EOFError, zlib.error) as error:
        msg = f"{path} is not a readable xlsx workbook (damaged, protected by a password, or .xls)"
        raise DataError(msg) from error
    places = [place for title, rows in sheets for place in _places(path, title, rows, label_set)]
    if not any(_header(texts) for _, rows in sheets for _, texts in rows):
        head = " and ".join(column.zh for column in COLUMNS if column.name in _NEEDED)
        msg = f"{path} has no sheet with the columns {head}; {_ADVICE}"
        raise DataError(msg)
    return list(collect(str(path), places))


def _workbook(stream: Any) -> Any:  # noqa: ANN401
    from openpyxl import load_workbook

    with warnings.catch_warnings(action="ignore"):  # of styles that are not understood
        return load_workbook(stream, read_only=True, data_only=True)


def _filled(sheet: Any) -> Iterator[tuple[int, list[str]]]:  # noqa: ANN401
    """Number and texts of the rows that have any content."""
    sheet.reset_dimensions()  # some programs state a wrong size
    for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
        texts = [_text(cell) for cell in cells]
        if any(texts):
            yield number, texts


def _text(value: object) -> str:
    """A cell as text; spreadsheets make a number of a name such as 1001.

    >>> _text(1001.0), _text(None), _text(" 对 ")
    ('1001', '', '对')
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _places(
    path: Path, title: str, rows: Sequence[tuple[int, list[str]]], label_set: LabelSet
) -> Iterator[tuple[str, Callable[[], Review]]]:
    """The rows below a header; a header that was pasted in again is no row."""
    header: _Header = {}
    for number, texts in rows:
        place = f"sheet {title}, row {number}"
        if found := _header(texts):
            header, names = found, _names(texts)
            if twice := [
                text for text, n in zip(texts, names, strict=True) if names.count(n) > 1 and n
            ]:
                msg = f"{path}, {place}: two columns are named {twice[0]}; rename one"
                raise DataError(msg)
        elif any(texts[i] for i in header.values() if i < len(texts)):
            yield place, partial(_review, header, texts, label_set)


def _header(texts: Sequence[str]) -> _Header:
    """Where the columns stand, if this is a header row.

    >>> _header(["备注", "复核结果", "行数据", "行数据2"])
    {'verdict': 1, 'data': 2, 'data2': 3}
    """
    header = {name: i for i, name in enumerate(_names(texts)) if name}
    return header if header.keys() >= _NEEDED else {}


def _names(texts: Sequence[str]) -> list[str]:
    """Column names of header cells; empty for those that are not ours."""
    heads = map(folded, texts)
    return [
        _PART.sub(r"data\1", head) if _PART.fullmatch(head) else _NAMES.get(head, "")
        for head in heads
    ]


def _review(header: _Header, texts: Sequence[str], label_set: LabelSet) -> Review:
    cells = {name: texts[i] for name, i in header.items() if i < len(texts)}
    parts = sorted(
        (int(name.removeprefix("data") or 1), text)
        for name, text in cells.items()
        if name.startswith("data")
    )
    try:
        sampled = unpack("".join(text for _, text in parts))
    except DataError as error:
        msg = f"{error}; copy the row from the file as it was sent out, or delete the row"
        raise DataError(msg) from error
    sent = sheet_text(scalar(sampled.line.text))
    if _comparable(cells.get("text", sent)) != _comparable(sent):
        msg = "the visible line is not the one of the hidden data; were some columns sorted alone?"
        raise DataError(msg)
    answer = Answer(**{name: cells.get(name, "") for name in _ANSWERS})
    return review(sampled, answer, label_set=label_set)


def _comparable(text: str) -> str:
    return _REWRITTEN.sub("", text)
