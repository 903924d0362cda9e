"""Reading rows."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import sys
import unicodedata
import warnings
import zlib
from contextlib import closing, contextmanager
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Any, BinaryIO
from zipfile import BadZipFile

from cs_classifier.errors import DataError
from cs_classifier.tables.formats import (
    DELIMITERS,
    SURROGATE,
    Row,
    check_unique,
    named_file,
    plain,
    resolve_format,
    scalar,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

_CHUNK = 1 << 20  # bytes
_BATCH = 4096  # parquet records
_CSV_FIELD = 10_000_000  # characters; more means that a quotation mark is missing
_DAMAGED_UTF8 = 20  # characters; GB18030 text is not valid UTF-8 for that long
_UNDECODABLE = "has bytes that are not valid UTF-8"
_ESCAPED_FORMULA = re.compile(r"''*\s*[=+\-@＝＋－＠]")


def read(path: Path | None, *, format: str | None = None) -> Iterator[Row]:  # noqa: A002
    """Stream the rows of a file, or of stdin (UTF-8 only) for ``None`` and ``-``.

    Header names of csv, tsv and xlsx are stripped and NFKC-normalised. Missing values and NaN are
    ``None``, dates are ISO strings. A row that is damaged comes with ``error`` set.

    Raises:
        DataError: the file or its header cannot be used (at the call), or turns out to be damaged
            further down (while reading).
    """
    source = named_file(path)
    kind = _readable_format(source, format)
    rows = _rows(source, kind)
    if kind != "jsonl":
        next(rows)  # the header
    return rows


def estimate_rows(path: Path) -> int | None:
    """About how many rows a file has, for a progress bar; None where that is not cheap to tell.

    Lines are counted, so a newline inside a csv cell makes the estimate too high. A file that
    cannot be read gives None: :func:`read` says what is wrong with it.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_count(path)
    if suffix not in {".csv", ".tsv", ".jsonl"}:
        return None
    try:
        with path.open("rb") as stream:
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
    except OSError:
        return None


def _parquet_count(path: Path) -> int | None:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return int(parquet.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return None


def columns(path: Path, *, format: str | None = None) -> tuple[str, ...]:  # noqa: A002
    """Column names of a file, in order; of jsonl, all keys in the order of their appearance.

    Reads the whole file if it is jsonl.

    Raises:
        DataError: as for :func:`read`.
    """
    kind = _readable_format(path, format)
    with closing(_rows(path, kind)) as rows:
        relevant = rows if kind == "jsonl" else islice(rows, 1)
        return tuple(dict.fromkeys(chain.from_iterable(row.values for row in relevant)))


def detect_encoding(path: Path) -> str:
    """Codec of a text file: ``utf-8-sig`` (with or without BOM), else ``gb18030``.

    A file that is UTF-8 for a good while and then has a damaged byte is UTF-8: reading it as
    GB18030 would turn all of it into nonsense.

    Raises:
        DataError: neither fits, or there are NUL bytes.
    """
    clean, characters = _decodes(path, "utf-8-sig")
    if clean or characters >= _DAMAGED_UTF8:
        return "utf-8-sig"
    if _decodes(path, "gb18030")[0]:
        return "gb18030"
    raise DataError(_binary(path))


def _decodes(path: Path, encoding: str) -> tuple[bool, int]:
    """Whether the whole file decodes, and the non-ASCII characters before the first bad byte.

    Beyond ``_DAMAGED_UTF8`` they are not counted.
    """
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    characters = 0
    with path.open("rb") as stream:
        while True:
            chunk = stream.read(_CHUNK)
            if b"\0" in chunk:
                raise DataError(_binary(path))
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                good = error.object[: error.start].decode(encoding, "ignore")
                return False, characters + sum(not char.isascii() for char in good)
            if characters < _DAMAGED_UTF8 and not text.isascii():
                characters += sum(not char.isascii() for char in text)
            if not chunk:
                return True, characters


def _binary(path: Path) -> str:
    return (
        f"{path} looks like a binary file or UTF-16 text; "
        "save it as CSV UTF-8, or give the right --format"
    )


# Each source but jsonl first yields its header: a row whose keys are the column names.


def _rows(path: Path | None, kind: str) -> Generator[Row]:
    if path is not None and kind == "xlsx":
        return _xlsx_rows(path)
    if path is not None and kind == "parquet":
        return _parquet_rows(path)
    encoding = "utf-8-sig" if path is None else detect_encoding(path)
    if kind == "jsonl":
        return _jsonl_rows(path, encoding)
    return _csv_rows(path, encoding, DELIMITERS[kind])


def _readable_format(path: Path | None, wanted: str | None) -> str:
    if path is not None:
        _check_readable(path)
    return resolve_format(path, wanted)


def _check_readable(path: Path) -> None:
    if path.is_dir():
        msg = f"{path} is a folder; give the files in it"
        raise DataError(msg)
    try:
        with path.open("rb") as stream:
            empty = not stream.read(1)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise DataError(msg) from error
    if empty:
        msg = f"{path} is empty; export it again"
        raise DataError(msg)


@contextmanager
def _text(path: Path | None, encoding: str) -> Iterator[io.TextIOBase]:
    """Lines as they are, with undecodable bytes as lone surrogates."""
    if path is not None:
        with path.open(encoding=encoding, errors="surrogateescape", newline="") as stream:
            yield stream
        return
    stream = io.TextIOWrapper(
        sys.stdin.buffer, encoding=encoding, errors="surrogateescape", newline=""
    )
    try:
        yield stream
    finally:
        stream.detach()  # stdin stays open


def _jsonl_rows(path: Path | None, encoding: str) -> Generator[Row]:
    with _text(path, encoding) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield _json_row(number, line)


def _json_row(number: int, line: str) -> Row:
    try:
        values = plain(json.loads(line))
    except json.JSONDecodeError as error:
        return Row(number, {}, f"not valid JSON ({error.msg} at character {error.pos + 1})")
    except (ValueError, RecursionError):
        return Row(number, {}, "not usable JSON (a number too long, or nested too deeply)")
    if not isinstance(values, dict):
        return Row(number, {}, "not a JSON object; each line must look like {…}")
    return Row(number, values, _UNDECODABLE if SURROGATE.search(line) else "")


def _csv_rows(path: Path | None, encoding: str, delimiter: str) -> Generator[Row]:
    csv.field_size_limit(_CSV_FIELD)  # for the whole process; the default is 131,072
    where = str(path or "stdin")
    ended: list[bool] = []
    with _text(path, encoding) as stream:
        reader = csv.reader(_marked(stream, ended), delimiter=delimiter)
        names = _header(next(reader, []), where)
        yield Row(1, dict.fromkeys(names))
        try:
            for number, cells in enumerate(reader, 2):
                if cells:
                    # The end of the file inside a record means the record has not ended.
                    yield _csv_row(number, names, cells, unclosed=bool(ended))
        except csv.Error as error:
            msg = f"{where}, line {reader.line_num}: a quotation mark is not closed"
            raise DataError(msg) from error


def _marked(stream: io.TextIOBase, ended: list[bool]) -> Iterator[str]:
    yield from stream
    ended.append(True)


def _csv_row(number: int, names: list[str], cells: list[str], *, unclosed: bool) -> Row:
    damaged = any(map(SURROGATE.search, cells))
    # The apostrophe that the writer put before a formula goes away again.
    clean = [scalar(cell[1:] if _ESCAPED_FORMULA.match(cell) else cell) for cell in cells]
    row = _named(number, names, clean)
    error = row.error or (_UNDECODABLE if damaged else "")
    if unclosed:
        error = "a quotation mark is not closed, so the rows after it run into this one"
    return Row(number, row.values, error)


def _header(cells: Sequence[Any], where: str) -> list[str]:
    """Column names, stripped and NFKC-normalised; blank ones at the end are left out.

    >>> _header([" 会话ＩＤ", "", "text", None], "a.csv")
    ['会话ID', 'column_2', 'text']
    """
    texts = ["" if cell is None else str(cell) for cell in cells]
    names = [unicodedata.normalize("NFKC", text).strip().lstrip("\ufeff") for text in texts]
    while names and not names[-1]:
        names.pop()
    if not names:
        msg = f"{where} has no header row; the first row must name the columns"
        raise DataError(msg)
    names = [name or f"column_{number}" for number, name in enumerate(names, 1)]
    check_unique(names, where)
    return names


def _named(number: int, names: list[str], cells: list[Any]) -> Row:
    while len(cells) > len(names) and cells[-1] in ("", None):
        cells.pop()
    values = dict(zip_longest(names, cells[: len(names)]))
    if len(cells) > len(names):
        return Row(number, values, f"has {len(cells)} fields, but the header has {len(names)}")
    return Row(number, values)


def _xlsx_rows(path: Path) -> Generator[Row]:
    from openpyxl.utils.exceptions import InvalidFileException

    damage = (BadZipFile, InvalidFileException, KeyError, ValueError, TypeError, SyntaxError)
    try:
        with path.open("rb") as stream, closing(_workbook(stream)) as book:
            # Hidden sheets come last: they hold lists and left-overs.
            for sheet in sorted(book.worksheets, key=lambda sheet: sheet.sheet_state != "visible"):
                filled = _filled(sheet)
                top = list(islice(filled, 2))
                if top:
                    yield from _sheet_rows(top, filled, str(path))
                    return
    except (*damage, OSError, EOFError, zlib.error) as error:
        msg = f"{path} is not a readable xlsx workbook (damaged, protected by a password, or .xls)"
        raise DataError(msg) from error
    msg = f"{path} is empty; no sheet has any content"
    raise DataError(msg)


def _workbook(stream: BinaryIO) -> Any:  # noqa: ANN401
    from openpyxl import load_workbook

    with warnings.catch_warnings(action="ignore"):  # of styles that are not understood
        return load_workbook(stream, read_only=True, data_only=True)


def _filled(sheet: Any) -> Iterator[tuple[int, list[Any]]]:  # noqa: ANN401
    """Row number and cells of the rows that have any content."""
    sheet.reset_dimensions()  # some exports state a wrong size
    for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
        if any(cell not in (None, "") for cell in cells):
            yield number, [_cell(cell) for cell in cells]


def _cell(value: Any) -> Any:  # noqa: ANN401
    return int(value) if isinstance(value, float) and value.is_integer() else plain(value)


def _sheet_rows(
    top: list[tuple[int, list[Any]]], rest: Iterator[tuple[int, list[Any]]], where: str
) -> Iterator[Row]:
    """Header and rows of a sheet; empty rows between are rows, those at the end are not."""
    first, *others = top
    widths = [sum(cell not in (None, "") for cell in cells) for _, cells in top]
    if widths[0] == 1 < widths[-1]:  # a title
        first, others = others[0], []
    last, names = first[0], _header(first[1], where)
    yield Row(last, dict.fromkeys(names))
    for number, cells in chain(others, rest):
        for empty in range(last + 1, number):
            yield _named(empty, names, [])
        yield _named(number, names, cells)
        last = number


def _parquet_rows(path: Path) -> Generator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        # Read in parts, or the columns of a whole row group would be in memory.
        with parquet.ParquetFile(path, buffer_size=_CHUNK, pre_buffer=False) as file:
            names = file.schema_arrow.names
            check_unique(names, str(path))
            yield Row(0, dict.fromkeys(names))
            for batch in file.iter_batches(batch_size=_BATCH):
                for values in _microseconds(batch).to_pylist():
                    number += 1
                    yield Row(number, plain(values))
    except (pa.ArrowException, OSError, ValueError) as error:
        msg = f"{path} is not a readable parquet file (damaged after row {number})"
        raise DataError(msg) from error


def _microseconds(batch: Any) -> Any:  # noqa: ANN401
    """The batch with nanosecond times cut, since Python's times hold no more than microseconds."""
    import pyarrow as pa

    for index, column in enumerate(batch.schema):
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            times = batch.column(index).cast(pa.timestamp("us", column.type.tz), safe=False)
            batch = batch.set_column(index, column.name, times)
    return batch
