"""Writing rows; each format is a sink that :class:`Writer` opens."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from cs_classifier.errors import DataError
from cs_classifier.tables.formats import DELIMITERS, check_unique, named_file, output_format, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

Kind = Literal["string", "float", "bool", "strings", "evidence"]

LIST_SEPARATOR = "|"  # between the items of a list in csv, tsv and xlsx
CUT_MARK = "…[截断]"  # ends a cell that was too long for xlsx
XLSX_CELL = 32_767  # UTF-16 units that a cell may hold
XLSX_ROWS = 1_048_576  # with the header

_ILLEGAL_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
FORMULA = re.compile(r"'*\s*[=+\-@＝＋－＠]")
_json = json.JSONEncoder(ensure_ascii=False).encode
_PLAIN_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?%?", re.ASCII)


class Writer:
    """Writes rows to a file that appears whole or not at all, or to stdout (``None`` and ``-``).

    Use it in a ``with`` block; an error inside leaves an earlier file as it was. Lists and dicts
    stay what they are in jsonl and parquet; elsewhere a list of strings is joined by ``|`` and
    anything else becomes JSON. Text that a spreadsheet would run as a formula stays text: with a
    leading apostrophe in csv and tsv, which :func:`read` takes away again.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        columns: Sequence[str],
        types: Mapping[str, Kind] | None = None,
        format: str | None = None,  # noqa: A002
    ) -> None:
        """Prepare to write ``columns`` in order.

        ``types`` says what a parquet column holds; a column that it leaves out holds strings.

        Raises:
            DataError: a repeated column, or as for :func:`output_format`.
        """
        self._path = named_file(path)
        self._format = output_format(path, format)
        self._columns = tuple(columns)
        self._types = {name: (types or {}).get(name, "string") for name in columns}
        self._known = frozenset(columns)
        check_unique(self._columns, str(path))
        self._where = str(self._path or "stdout")
        self._part = self._path and self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        self._sink: _Sink | None = None

    def __enter__(self) -> Self:
        """Create the folder and a temporary file in it.

        Raises:
            DataError: the folder cannot be written.
        """
        with self._errors():
            if self._part:
                self._part.parent.mkdir(parents=True, exist_ok=True)
            self._sink = self._open()
        return self

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows. A missing column is empty; jsonl keeps additional ones, after the others.

        Raises:
            DataError: a full disk, an unknown column, a value that is not of the column's type, or
                more rows than an xlsx sheet holds.
        """
        if self._sink is None:
            msg = "a Writer writes only inside its 'with' block"
            raise RuntimeError(msg)
        clean = [plain(dict(row)) for row in rows]
        if self._format != "jsonl":
            for row in clean:
                check_known(row, self._known, self._where)
        with self._errors():
            self._sink.write(clean)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the file in its place, or remove what was written if the block failed."""
        sink, self._sink = self._sink, None
        try:
            if sink is not None and kind is None:
                with self._errors():
                    sink.close(keep=True)
                    if self._path and self._part:
                        self._part.replace(self._path)
            elif sink is not None:
                with suppress(Exception):  # the error of the block is the one to report
                    sink.close(keep=False)
        finally:
            self._discard()

    def _open(self) -> _Sink:
        if self._part and self._format == "xlsx":
            self._part.touch()  # a folder that cannot be written shows now, not at the end
            return XlsxSink(self._part, self._columns)
        if self._part and self._format == "parquet":
            return _ParquetSink(self._part, self._types)
        # The byte order mark tells Excel that a file is UTF-8; a pipe does not want it.
        encoding = "utf-8-sig" if self._part and self._format != "jsonl" else "utf-8"
        binary = self._part.open("wb") if self._part else sys.stdout.buffer
        stream = io.TextIOWrapper(binary, encoding=encoding, newline="")
        if self._format == "jsonl":
            return JsonlSink(stream, self._columns, owned=self._part is not None)
        return CsvSink(stream, self._columns, self._format, owned=self._part is not None)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:  # the reader of stdout has gone; not for us to report
            raise
        except OSError as error:
            self._discard()
            msg = f"cannot write {self._where}: {error.strerror or error}"
            raise DataError(msg) from error

    def _discard(self) -> None:
        with suppress(OSError):
            if self._part:
                self._part.unlink(missing_ok=True)


def check_known(row: Mapping[str, Any], columns: frozenset[str], where: str) -> None:
    """Raise a DataError if a row has a column that is not written."""
    if not row.keys() <= columns:
        extra = ", ".join(sorted(row.keys() - columns))
        msg = f"{where}: columns {extra} are not among those to write"
        raise DataError(msg)


def check_sheet_rows(rows: int) -> None:
    """Raise a DataError if a sheet does not hold that many rows, with the header."""
    if rows > XLSX_ROWS:
        msg = f"an xlsx sheet holds at most {XLSX_ROWS:,} rows; write csv, jsonl or parquet"
        raise DataError(msg)


class _Sink(Protocol):
    def write(self, rows: Sequence[Mapping[str, Any]]) -> None: ...

    def close(self, *, keep: bool) -> None: ...


class _TextSink:
    """A text stream; one that is not owned (stdout) is never closed."""

    def __init__(self, stream: io.TextIOWrapper, columns: tuple[str, ...], *, owned: bool) -> None:
        self.stream = stream
        self.columns = columns
        self.owned = owned

    def flush(self) -> None:
        self.stream.flush()

    def close(self, *, keep: bool) -> None:
        if self.owned:
            self.stream.close()
        else:
            self.stream.detach()


class JsonlSink(_TextSink):
    """Rows as lines of JSON, with the columns first and in their order."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows."""
        empty = dict.fromkeys(self.columns)
        self.stream.writelines(_json({**empty, **row}) + "\n" for row in rows)
        self.flush()


class CsvSink(_TextSink):
    """Rows as lines of csv or tsv."""

    def __init__(
        self,
        stream: io.TextIOWrapper,
        columns: tuple[str, ...],
        kind: str,
        *,
        owned: bool,
        header: bool = True,
    ) -> None:
        """Write the header, unless the stream has it."""
        super().__init__(stream, columns, owned=owned)
        self.writer = csv.writer(stream, delimiter=DELIMITERS[kind], lineterminator="\r\n")
        if header:
            self.writer.writerow([_harmless(name) for name in columns])

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows."""
        self.writer.writerows(
            [_harmless(_flat(row.get(name))) for name in self.columns] for row in rows
        )
        self.flush()


class XlsxSink:
    """Rows of a workbook, which appears when the sink is closed."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        """Begin with the header."""
        from openpyxl import Workbook
        from openpyxl.styles import Font

        self.path = path
        self.columns = columns
        self.rows = 1
        self.book = Workbook(write_only=True)
        self.sheet = self.book.create_sheet("结果")
        self.sheet.freeze_panes = "A2"
        header = [self._text(sheet_text(name), styled=True) for name in columns]
        for cell in header:
            cell.font = Font(bold=True)
        self.sheet.append(header)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows."""
        self.rows += len(rows)
        check_sheet_rows(self.rows)
        for row in rows:
            self.sheet.append([self._value(_flat(row.get(name))) for name in self.columns])

    def close(self, *, keep: bool) -> None:
        """Save the workbook, if it is to be kept."""
        from openpyxl.utils import get_column_letter

        if not keep:
            self.sheet.close()
            return
        corner = get_column_letter(max(1, len(self.columns)))
        self.sheet.auto_filter.ref = f"A1:{corner}{self.rows}"
        self.book.save(self.path)

    def _value(self, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, str):
            return self._text(sheet_text(value))
        # Excel keeps 15 digits: a longer number is an order or courier number.
        exact = not isinstance(value, int) or abs(value) < 10**15
        return value if exact else str(value)

    def _text(self, text: str, *, styled: bool = False) -> Any:  # noqa: ANN401
        """A cell of the type "string"; built only where it matters, since that is slow."""
        from openpyxl.cell import WriteOnlyCell

        risky = bool(FORMULA.match(text))
        if not (styled or risky or text.startswith("#")):
            return text
        cell = WriteOnlyCell(self.sheet, text)
        cell.data_type = "s"  # not a formula, nor an error value such as #N/A
        cell.quotePrefix = risky  # stays text when somebody edits the cell
        return cell


class _ParquetSink:
    def __init__(self, path: Path, types: dict[str, Kind]) -> None:
        from pyarrow import parquet

        self.types = types
        self.writer = parquet.ParquetWriter(path, parquet_schema(types), compression="zstd")

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.writer.write_batch(parquet_batch(rows, self.types))

    def close(self, *, keep: bool) -> None:
        self.writer.close()


def parquet_batch(rows: Sequence[Mapping[str, Any]], types: Mapping[str, Kind]) -> Any:  # noqa: ANN401
    """Rows as an Arrow record batch with :func:`parquet_schema`.

    Raises:
        DataError: a value that is not of its column's type.
    """
    import pyarrow as pa

    schema = parquet_schema(types)
    arrays = []
    for field, (name, kind) in zip(schema, types.items(), strict=True):
        values = [row.get(name) for row in rows]
        if kind == "string":
            values = [_string(value) for value in values]
        try:
            arrays.append(pa.array(values, type=field.type))
        except (pa.ArrowException, TypeError, ValueError) as error:
            msg = f"column '{name}' has a value that is not of the type '{kind}'"
            raise DataError(msg) from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def parquet_schema(types: Mapping[str, Kind]) -> Any:  # noqa: ANN401
    """Arrow schema of columns with these types."""
    import pyarrow as pa

    text, position = pa.string(), pa.int64()
    parts = ("label", text), ("source", text), ("clause", text)
    evidence = pa.struct([*parts, ("start", position), ("end", position), ("text", text)])
    kinds = {
        "string": text,
        "float": pa.float64(),
        "bool": pa.bool_(),
        "strings": pa.list_(text),
        "evidence": pa.list_(evidence),
    }
    return pa.schema([(name, kinds[kind]) for name, kind in types.items()])


def _flat(value: Any) -> Any:  # noqa: ANN401
    """The value for one cell.

    >>> _flat(["拒开发票", "违背承诺"]), _flat([{"start": 0}]), _flat(None)
    ('拒开发票|违背承诺', '[{"start": 0}]', None)
    """
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return LIST_SEPARATOR.join(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _string(value: Any) -> str | None:  # noqa: ANN401
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _harmless(value: Any) -> Any:  # noqa: ANN401
    """A csv cell that no spreadsheet runs; a NUL, which no reader expects, is replaced.

    >>> _harmless("=1+1"), _harmless("-5"), _harmless("亲=好")
    ("'=1+1", '-5', '亲=好')
    """
    if not isinstance(value, str):
        return value
    if FORMULA.match(value) and not _PLAIN_NUMBER.fullmatch(value):
        value = "'" + value
    return value.replace("\0", "\ufffd")


def sheet_text(text: str) -> str:
    """The text without what xlsx cannot hold, cut to what a cell can hold."""
    text = _ILLEGAL_XML.sub("", text)
    units = text.encode("utf-16-le")  # Excel counts these
    if len(units) <= 2 * XLSX_CELL:
        return text
    return units[: 2 * (XLSX_CELL - len(CUT_MARK))].decode("utf-16-le", "ignore") + CUT_MARK
