"""Finished chunks of a long run, kept beside its output until the output is whole.

``OUTPUT.partial/`` holds the rows so far (a :class:`tables.Spool`) and ``ledger.sqlite``, which
says how much of them counts and what the run has in mind. A chunk is finished when its rows are on
the disk and then, in one transaction, the ledger says so; whatever is cut off in between is written
again. SQLite also keeps a second run out.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, Self

from cs_classifier import tables
from cs_classifier.errors import DataError, writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

LEDGER = "ledger.sqlite"
_ENDS = 1 << 20  # bytes at either end of a file that its fingerprint reads
# Locked until closed; every commit reaches the disk.
_SETUP = """
    pragma locking_mode = exclusive;
    pragma journal_mode = wal;
    pragma synchronous = full;
    create table if not exists job (name text primary key, value text);
    create table if not exists state (id integer primary key check (id = 0), value text);
    create table if not exists memory (kind text, key text, value text, primary key (kind, key));
"""


def fingerprint(path: Path) -> str:
    """What tells a file from another version of it: size, time, and a hash of both its ends.

    Raises:
        DataError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            info = path.stat()
            digest.update(stream.read(_ENDS))
            stream.seek(max(0, info.st_size - _ENDS))
            digest.update(stream.read(_ENDS))
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise DataError(msg) from error
    when = datetime.fromtimestamp(info.st_mtime, UTC).isoformat(timespec="microseconds")
    return f"{info.st_size:,} bytes of {when}, {digest.hexdigest()[:8]}"


def folder_of(output: Path) -> Path:
    """Where the finished chunks of an output are kept."""
    return output.with_name(f"{output.name}.partial")


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What two jobs do not have in common, in words.

    >>> differences({"model": "a", "chunk": "2"}, {"model": "b", "chunk": "2"})
    ['model: was a, is b']
    """
    names = dict.fromkeys((*before, *now))
    return [
        f"{name}: was {before.get(name, 'not there')}, is {now.get(name, 'not there')}"
        for name in names
        if before.get(name) != now.get(name)
    ]


class Target(Protocol):
    """Where a run writes its chunks; use it in a ``with`` block."""

    state: dict[str, Any]  # as given with the last finished chunk; empty before

    def __enter__(self) -> Self:
        """Prepare to write."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the output in its place, if the block ended well."""
        ...

    def memory(self, kind: str) -> Iterable[tuple[str, str]]:
        """What was remembered of a kind, key and value, the oldest first."""
        ...

    def write(
        self,
        rows: Sequence[Mapping[str, Any]],
        state: Mapping[str, Any],
        memory: Mapping[str, Mapping[str, str | None]],
    ) -> None:
        """Add a finished chunk.

        Args:
            rows: of the output.
            state: where the run stands after them; replaces the last state.
            memory: per kind, what has changed since the last chunk: keys with their values, or
                ``None`` for what is forgotten.

        Raises:
            DataError: the rows cannot be written.
        """
        ...


class Direct(tables.Writer):
    """A target that keeps nothing."""

    def __init__(
        self, output: Path, columns: Sequence[str], types: Mapping[str, tables.Kind], kind: str
    ) -> None:
        """Prepare to write ``columns`` in the format ``kind``."""
        super().__init__(output, columns=columns, types=types, format=kind)
        self.state: dict[str, Any] = {}

    def memory(self, kind: str) -> Iterable[tuple[str, str]]:
        """Nothing."""
        return ()

    def write(
        self,
        rows: Sequence[Mapping[str, Any]],
        state: Mapping[str, Any] | None = None,
        memory: Mapping[str, Mapping[str, str | None]] | None = None,
    ) -> None:
        """Write the rows."""
        super().write(rows)


class Partial:
    """A target that keeps finished chunks and can go on behind them.

    When the block ends well, the output takes its place and the folder goes away. When it does not,
    finished chunks stay; a folder without any goes away as well.
    """

    def __init__(  # noqa: PLR0913
        self,
        output: Path,
        columns: Sequence[str],
        types: Mapping[str, tables.Kind],
        kind: str,
        *,
        job: Mapping[str, str],
        resume: bool = False,
    ) -> None:
        """Prepare to write ``columns``.

        Args:
            output: the file that is to be written.
            columns: of the output, in order.
            types: of the columns that do not hold strings.
            kind: format of the output.
            job: everything that the rows depend on, name to value; a run can be continued only by
                one with the same job.
            resume: continue what is there; if nothing is there, begin.
        """
        self.state: dict[str, Any] = {}
        self._output, self._folder, self._resume = output, folder_of(output), resume
        self._columns, self._types, self._kind, self._job = columns, types, kind, dict(job)
        self._complete = False

    def __enter__(self) -> Self:
        """Open the folder, and read the state of the run that is continued.

        Raises:
            DataError: there are finished chunks that were not asked for or are of another job, a
                run is writing them, or the folder cannot be used.
        """
        with _errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._ledger = _connect(self._folder / LEDGER)
            try:
                length = self._begin()
                self._spool = tables.Spool(
                    self._folder,
                    columns=self._columns,
                    types=self._types,
                    format=self._kind,
                    length=length,
                )
                if not self._complete:
                    self._spool.__enter__()
            except BaseException:
                self._ledger.close()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the output in its place, or keep what is finished."""
        try:
            if not self._complete:
                self._spool.__exit__(None, None, None)
            if kind is None:
                self._finish()
        finally:
            self._ledger.close()
        if kind is None or not self.state:
            self._remove()

    def memory(self, kind: str) -> Iterable[tuple[str, str]]:
        """See :class:`Target`."""
        query = "select key, value from memory where kind = ? order by rowid"
        yield from self._ledger.execute(query, (kind,))

    def write(
        self,
        rows: Sequence[Mapping[str, Any]],
        state: Mapping[str, Any],
        memory: Mapping[str, Mapping[str, str | None]],
    ) -> None:
        """See :class:`Target`; the chunk is on the disk when this returns."""
        length = self._spool.write(rows)
        with _errors(self._folder), _transaction(self._ledger):
            for kind, changes in memory.items():
                self._remember(kind, changes)
            self._save({"length": length, **state})
        self.state = dict(state)

    def _begin(self) -> int:
        """Read the ledger; returns the bytes of the spool that count."""
        found = self._ledger.execute("select value from state").fetchone()
        if found is None:
            with _transaction(self._ledger):
                self._ledger.execute("delete from job")
                rows = self._job.items()
                self._ledger.executemany("insert into job values (?, ?)", rows)
            return 0
        if not self._resume:
            msg = (
                f"{self._folder} holds finished chunks of a run that was cut off; "
                "continue it with --resume, or delete the folder to begin anew"
            )
            raise DataError(msg)
        before = dict(self._ledger.execute("select name, value from job"))
        if changed := differences(before, self._job):
            msg = (
                f"{self._folder} cannot be continued, because something has changed: "
                f"{'; '.join(changed)}. Undo the change, or delete the folder to begin anew"
            )
            raise DataError(msg)
        self.state = json.loads(found[0])
        self._complete = self.state.pop("complete", False)
        return int(self.state.pop("length"))

    def _remember(self, kind: str, changes: Mapping[str, str | None]) -> None:
        gone = [(kind, key) for key, value in changes.items() if value is None]
        self._ledger.executemany("delete from memory where kind = ? and key = ?", gone)
        # Replacing a row gives it a new, higher rowid.
        kept = [(kind, key, value) for key, value in changes.items() if value is not None]
        self._ledger.executemany("insert or replace into memory values (?, ?, ?)", kept)

    def _save(self, state: Mapping[str, Any]) -> None:
        value = json.dumps(state, ensure_ascii=False)
        self._ledger.execute("insert or replace into state values (0, ?)", (value,))

    def _finish(self) -> None:
        """Make the output; a run that is cut off in here is continued in here.

        Once the ledger says complete, a missing spool means that it has become the output.
        """
        if not self._complete:
            with _errors(self._folder), _transaction(self._ledger):
                self._save({"length": 0, **self.state, "complete": True})
        if self._spool.path.exists():
            self._spool.finish(self._output)

    def _remove(self) -> None:
        """Delete the folder; the ledger comes last, since it says what the rest is."""
        with suppress(OSError):
            for pattern in ("rows.*", "whole.*", f"{LEDGER}*"):
                for path in self._folder.glob(pattern):
                    path.unlink()
            self._folder.rmdir()


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401
    """Write a small file that appears whole or not at all, and survives a power cut.

    Raises:
        DataError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with _errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        tables.sync(part)
        part.replace(path)
        tables.sync(path.parent)


def _connect(path: Path) -> sqlite3.Connection:
    ledger = sqlite3.connect(path, isolation_level=None, timeout=1)
    try:
        ledger.executescript(_SETUP)
    except BaseException:
        ledger.close()
        raise
    return ledger


@contextmanager
def _transaction(ledger: sqlite3.Connection) -> Iterator[None]:
    ledger.execute("begin immediate")
    try:
        yield
    except BaseException:
        ledger.execute("rollback")
        raise
    ledger.execute("commit")


@contextmanager
def _errors(folder: Path) -> Iterator[None]:
    try:
        with writing(folder):
            yield
    except sqlite3.Error as error:
        if "locked" in str(error):
            msg = f"{folder} is being written by another run; wait for it or stop it"
        else:
            msg = f"cannot use {folder / LEDGER} ({error}); delete the folder to begin anew"
        raise DataError(msg) from error
