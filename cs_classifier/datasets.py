"""Labelled lines: JSONL in and out, checked strictly.

One line is ``{"id","context","text","labels","clause","status","group","origin","note"}``.
``clause`` joins several clauses with ``+``; a hard negative names the clause it stands near.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Literal

from cs_classifier.errors import DataError, LabelError
from cs_classifier.records import LabelledMessage, Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from cs_classifier.labels import LabelSet

FIELDS = ("id", "context", "text", "labels", "clause", "status", "group", "origin", "note")
_TEXTS = ("context", "clause", "status", "origin", "note")
_STATUSES: dict[str, Literal["gold", "borderline"]] = {
    "gold": "gold",
    "clear": "gold",  # the guideline's own word
    "borderline": "borderline",
}


def files(paths: Iterable[Path]) -> list[Path]:
    """Every ``*.jsonl`` file of ``paths`` (files, or folders searched one level deep), sorted.

    Raises:
        DataError: a path does not exist or a folder holds no JSONL file.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not inside or not all(file.is_file() for file in inside):
            msg = f"{path}: no such file, or a folder without .jsonl files"
            raise DataError(msg)
        found += inside
    return found


def checksum(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def duplicate_key(message: Message) -> str:
    """Equal for lines that differ only in spaces, punctuation and case."""
    return "\x1f".join(
        re.sub(r"[\W_]", "", part).lower() for part in (message.context, message.text)
    )


def load(paths: Iterable[Path], label_set: LabelSet) -> list[LabelledMessage]:
    """Read labelled lines from files or folders.

    Raises:
        DataError: bad JSON, missing or mistyped field, empty text, repeated id; with file and
            row. Further fields are ignored.
        LabelError: unknown label or clause; with file and row.
    """
    rows: list[LabelledMessage] = []
    seen: set[str] = set()
    for path in files(paths):
        for number, row in _rows(path):
            where = f"{path}, line {number}"
            line = parse(row, label_set, where)
            if line.id in seen:
                msg = f"{where}: id '{line.id}' occurs twice"
                raise DataError(msg)
            seen.add(line.id)
            rows.append(line)
    return rows


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, json.loads(line)
    except json.JSONDecodeError as error:
        msg = f"{path}, line {number}: not valid JSON ({error.msg})"
        raise DataError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path}: not UTF-8 text; training data must be UTF-8 JSONL"
        raise DataError(msg) from error


def parse(row: Any, label_set: LabelSet, where: str) -> LabelledMessage:  # noqa: ANN401
    """Check one decoded JSON row; ``where`` names it in errors."""
    _check_fields(row, where)
    labels = row["labels"]
    status = _STATUSES.get(row.get("status", "gold"))
    if status is None:
        msg = f"{where}: 'status' must be one of {', '.join(_STATUSES)}"
        raise DataError(msg)
    try:
        label_set.row(labels)
        clauses = tuple(
            label_set.check_clause(part) for part in (row.get("clause") or "").split("+") if part
        )
    except LabelError as error:
        msg = f"{where}: {error}"
        raise LabelError(msg) from error
    identity = str(row.get("id") or where)
    return LabelledMessage(
        id=identity,
        message=Message(row["text"], row.get("context") or ""),
        labels=tuple(label for label in label_set.ids if label in labels),
        clauses=clauses,
        status=status,
        group=str(row.get("group", row.get("cluster", "")) or identity),
        origin=row.get("origin") or "",
        note=row.get("note") or "",
    )


def _check_fields(row: Any, where: str) -> None:  # noqa: ANN401
    if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"].strip():
        msg = f"{where}: needs a non-empty string 'text'"
        raise DataError(msg)
    labels = row.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        msg = f"{where}: 'labels' must be a list of label ids (empty for a clean line)"
        raise DataError(msg)
    for name in _TEXTS:
        if not isinstance(row.get(name) or "", str):
            msg = f"{where}: '{name}' must be text"
            raise DataError(msg)


def dump(lines: Sequence[LabelledMessage], path: Path) -> None:
    """Write lines as JSONL with all fields, in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        for line in lines:
            row = {
                "id": line.id,
                "context": line.message.context,
                "text": line.message.text,
                "labels": list(line.labels),
                "clause": "+".join(line.clauses),
                "status": line.status,
                "group": line.group,
                "origin": line.origin,
                "note": line.note,
            }
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def gold(lines: Iterable[LabelledMessage]) -> list[LabelledMessage]:
    """The lines that headline numbers use: borderline ones are left out."""
    return [line for line in lines if line.status == "gold"]


def problems(lines: Sequence[LabelledMessage]) -> list[str]:
    """What is wrong with a collection: label/clause contradictions and repeated lines."""
    found = []
    seen: dict[str, str] = {}
    for line in lines:
        implied = {clause.partition(".")[0] for clause in line.clauses}
        if line.labels and line.clauses and set(line.labels) != implied:
            found.append(f"{line.id}: labels {sorted(line.labels)} but clauses {line.clauses}")
        key = duplicate_key(line.message)
        if key in seen:
            found.append(f"{line.id}: repeats {seen[key]}")
        seen.setdefault(key, line.id)
    return found


def is_natural(line: LabelledMessage) -> bool:
    """Whether a line was drawn as traffic comes; batches enriched with violations say so."""
    return not line.origin.startswith("enriched")
