"""Files that reports are written to and read from, and lines of transcripts as shown in them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import contextmanager, suppress
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from cs_classifier.errors import DataError, MissingExtraError, writing
from cs_classifier.reports.masking import hide
from cs_classifier.tables.writing import FORMULA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Piece = tuple[str, bool]  # text, and whether it is marked
Sheet = tuple[str, Sequence[str], Iterable[Sequence[object]]]  # title, header, rows

_HIDDEN = re.compile(r"[\w-]{2}\*\*\*\(\d{1,3}\)|<[^<>]{1,20}>")
_CELL = 32_767  # characters that a cell of a workbook may hold


def pieces(text: str, spans: Iterable[tuple[int, int]], *, masked: bool) -> list[Piece]:
    """The line in pieces, those in ``spans`` marked; identifiers hidden if asked for.

    An identifier that a span reaches into is marked whole.

    >>> pieces("加我微信abc12345哈", [(2, 6)], masked=True)
    [('加我', False), ('微信ab***(8)', True), ('哈', False)]
    """
    shown = hide(text) if masked else text
    found: list[Piece] = []
    at = 0
    for start, end in sorted(_moved(text, shown, span) for span in spans):
        if at <= start < end <= len(shown):
            found += [(shown[at:start], False), (shown[start:end], True)]
            at = end
    return [piece for piece in (*found, (shown[at:], False)) if piece[0]]


def _moved(text: str, shown: str, span: tuple[int, int]) -> tuple[int, int]:
    """Where the characters of a span stand in the text as it is shown."""
    if shown == text:
        return span
    start = end = -1
    for tag, i, j, first, last in SequenceMatcher(None, text, shown, False).get_opcodes():
        low, high = max(i, span[0]), min(j, span[1])
        if low < high:
            begin, stop = (first + low - i, first + high - i) if tag == "equal" else (first, last)
            start, end = begin if start < 0 else start, stop
    for found in _HIDDEN.finditer(shown):
        if found.start() < end and found.end() > start:
            start, end = min(start, found.start()), max(end, found.end())
    return start, end


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place at the end of the block.

    Raises:
        DataError: the folder cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text; the file appears whole or not at all. Half a character becomes ``?``.

    Raises:
        DataError: it cannot be written.
    """
    with whole(path) as part:
        part.write_text(text, encoding="utf-8", errors="replace")


def read_text(path: Path) -> str:
    """UTF-8 text, with or without a byte order mark.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}"
        raise DataError(msg) from error


def read_json(path: Path, command: str) -> Any:  # noqa: ANN401
    """JSON that ``command`` wrote.

    Raises:
        DataError: it cannot be read, or is none.
    """
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        msg = f"{path} is not valid JSON; give what 'cs-classifier {command} -o' wrote"
        raise DataError(msg) from error


def write_book(path: Path, sheets: Iterable[Sheet]) -> None:
    """Write a workbook with bold, frozen, filtered headers; text is never run as a formula.

    Raises:
        DataError: it cannot be written.
    """
    from openpyxl import Workbook
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    book = Workbook(write_only=True)
    for title, header, rows in sheets:
        sheet = book.create_sheet(title)
        sheet.freeze_panes = "B2"
        for number, name in enumerate(header, 1):
            sheet.column_dimensions[get_column_letter(number)].width = max(12, 2 * len(name) + 4)
        cells = [_cell(sheet, name) for name in header]
        for cell in cells:
            cell.font = Font(bold=True)
        sheet.append(cells)
        count = 1
        for count, row in enumerate(rows, 2):  # noqa: B007
            sheet.append([_cell(sheet, value) for value in row])
        sheet.auto_filter.ref = f"A1:{get_column_letter(len(header))}{count}"
    with whole(path) as part:
        book.save(part)


def _cell(sheet: Any, value: object) -> Any:  # noqa: ANN401
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    if value is None or isinstance(value, int | float):
        return WriteOnlyCell(sheet, value)
    text = ILLEGAL_CHARACTERS_RE.sub("", str(value))[: _CELL // 2]
    cell = WriteOnlyCell(sheet, text)
    cell.data_type = "s"
    cell.quotePrefix = bool(FORMULA.match(text))
    return cell


def render(template: str, **values: object) -> str:
    """Fill one of the page templates; everything is escaped.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        extra = "evaluate"
        raise MissingExtraError(extra, "jinja2") from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cs_classifier.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
