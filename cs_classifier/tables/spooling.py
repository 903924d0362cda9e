"""Rows of a long run on their way to a file, kept so that the run can be cut off at any time."""

from __future__ import annotations

import io
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from cs_classifier.errors import DataError, writing
from cs_classifier.tables.writing import (
    CsvSink,
    JsonlSink,
    Kind,
    XlsxSink,
    check_known,
    check_sheet_rows,
    parquet_batch,
    parquet_schema,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

_ROW_GROUP = 1 << 16  # rows of a parquet row group
_XLSX_ROWS = 4096  # rows of JSON turned into cells at a time


class Spool:
    """One file that only grows, chunk by chunk, and can be cut back to any length it had.

    csv, tsv and jsonl are spooled as what they will be. Rows for parquet are spooled as an Arrow
    stream and those for xlsx as JSON lines; :meth:`finish` makes the real file of them. Values must
    be plain, as :func:`read` gives them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        columns: Sequence[str],
        types: Mapping[str, Kind],
        format: str,  # noqa: A002
        length: int = 0,
    ) -> None:
        """Prepare a spool in ``folder``, going on behind the first ``length`` bytes of it."""
        self._columns, self._kind, self._start = tuple(columns), format, length
        self._types: dict[str, Kind] = {name: types.get(name, "string") for name in columns}
        spooled = {"parquet": "arrow", "xlsx": "jsonl"}.get(format, format)
        self.path = folder / f"rows.{spooled}"
        self._whole = folder / f"whole.{format}"
        self._known = frozenset(columns)
        self._rows = 1  # with the header; counted for xlsx only

    def __enter__(self) -> Self:
        """Open the file and cut off what lies behind its length.

        Raises:
            DataError: the folder cannot be written, or the file is shorter than it was.
        """
        with writing(self.path):
            if self._start and self.path.stat().st_size < self._start:
                msg = f"{self.path} is damaged; delete the folder to begin anew"
                raise DataError(msg)
            self._file = self.path.open("r+b" if self._start else "w+b")
            self._file.truncate(self._start)
            if self._kind == "xlsx":
                self._rows += sum(1 for _ in self._file)
            self._file.seek(0, io.SEEK_END)
            self._sink = self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file; what was written stays."""
        with suppress(OSError, ValueError):  # a full disk was reported before
            self._sink.close(keep=True)
        self._file.close()

    def write(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add rows and bring them to the disk; returns the length then.

        Raises:
            DataError: a full disk, an unknown column, a value that is not of the column's type, or
                more rows than an xlsx sheet holds.
        """
        if self._kind != "jsonl":
            for row in rows:
                check_known(row, self._known, str(self.path))
        if self._kind == "xlsx":
            self._rows += len(rows)
            check_sheet_rows(self._rows)
        with writing(self.path):
            self._sink.write(rows)
            self._sink.flush()
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()

    def finish(self, target: Path) -> None:
        """Make the file of the spooled rows and put it in its place; the spool must be closed.

        Raises:
            DataError: the file cannot be written.
        """
        with writing(target):
            source = self.path
            if self._kind in {"parquet", "xlsx"}:
                source = self._whole
                self._to_parquet() if self._kind == "parquet" else self._to_xlsx()
            sync(source)
            source.replace(target)
            sync(target.parent)

    def _open(self) -> Any:  # noqa: ANN401
        if self._kind == "parquet":
            return _ArrowSink(self._file, self._types, fresh=not self._start)
        # At the beginning only, the encoder writes the byte order mark by which Excel knows UTF-8.
        encoding = "utf-8-sig" if self._kind in {"csv", "tsv"} else "utf-8"
        stream = io.TextIOWrapper(self._file, encoding=encoding, newline="")
        if self._kind in {"jsonl", "xlsx"}:
            return JsonlSink(stream, self._columns, owned=True)
        return CsvSink(stream, self._columns, self._kind, owned=True, header=not self._start)

    def _to_parquet(self) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        schema = parquet_schema(self._types)
        with (
            pa.ipc.open_stream(str(self.path)) as batches,
            parquet.ParquetWriter(self._whole, schema, compression="zstd") as writer,
        ):
            for group in _groups(batches):
                writer.write_table(pa.Table.from_batches(group), row_group_size=_ROW_GROUP)

    def _to_xlsx(self) -> None:
        sink = XlsxSink(self._whole, self._columns)
        rows: list[dict[str, Any]] = []
        with self.path.open("rb") as stream:
            for line in stream:
                rows.append(json.loads(line))
                if len(rows) == _XLSX_ROWS:
                    sink.write(rows)
                    rows = []
        sink.write(rows)
        sink.close(keep=True)


class _ArrowSink:
    """Record batches one after another, as in an Arrow stream that has no end mark yet."""

    def __init__(self, file: Any, types: dict[str, Kind], *, fresh: bool) -> None:  # noqa: ANN401
        self._file, self._types = file, types
        if fresh:
            file.write(parquet_schema(types).serialize())

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            self._file.write(parquet_batch(rows, self._types).serialize())

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self, *, keep: bool) -> None:
        """The file is the spool's."""


def _groups(batches: Iterable[Any]) -> Iterator[list[Any]]:
    """Batches that fill a row group together."""
    group: list[Any] = []
    for batch in batches:
        group.append(batch)
        if sum(part.num_rows for part in group) >= _ROW_GROUP:
            yield group
            group = []
    if group:
        yield group


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk, so that they survive a power cut."""
    if path.is_dir() and os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
