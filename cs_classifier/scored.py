"""Read back what ``cs-classifier predict`` wrote, whatever the format.

Sampling, scorecards and reports all start here; none of them needs the model.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from itertools import dropwhile, islice, takewhile
from typing import TYPE_CHECKING, Any

from cs_classifier import tables
from cs_classifier.errors import DataError
from cs_classifier.records import Evidence, Outcome
from cs_classifier.transcripts import ColumnMap

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_PREFIX = "p_"
_SHOWN = 30  # characters of a wrong cell in an error
_FIELDS = (
    "text",
    "context",
    "conversation_id",
    "turn",
    "timestamp",
    "agent_id",
    "shop",
    "platform",
    "team",
    "shift",
)

Identity = tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class ScoredLine:
    """One row of a scored file. Fields that the file lacks are empty.

    ``key`` names the line across files: its own id, else conversation and turn, else a hash of
    conversation, time and text; a number is added where that occurs again.
    ``probabilities`` follow the label order of the file and are empty if the row was not scored;
    then ``error`` says why. An error beside probabilities is a remark (a truncated text).
    """

    key: str
    file: str
    row: int
    text: str
    context: str
    conversation_id: str
    turn: str
    timestamp: str
    agent_id: str
    shop: str
    platform: str
    team: str
    shift: str
    labels: tuple[str, ...]  # decided "violation"
    review: tuple[str, ...]  # decided "review"
    probabilities: tuple[float, ...]
    rules: tuple[str, ...]
    tags: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    joined: bool
    model: str
    error: str
    clauses: tuple[str, ...] = ()  # the likeliest clause of each suspected label

    @property
    def identity(self) -> Identity:
        """The line itself; other exports may give its key to other lines."""
        return self.key, self.conversation_id, self.timestamp, self.agent_id, self.text

    @property
    def suspected(self) -> tuple[str, ...]:
        """Labels decided violation or review."""
        return (*self.labels, *self.review)

    def outcome(self, label: str) -> Outcome:
        """The decision on one label."""
        if label in self.labels:
            return "violation"
        return "review" if label in self.review else "clear"


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """All lines of one or more scored files, and the labels they were scored for, in order."""

    label_ids: tuple[str, ...]
    lines: tuple[ScoredLine, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Ids of the models that scored the lines."""
        return tuple(dict.fromkeys(line.model for line in self.lines if line.model))


def read(paths: Sequence[Path], *, columns: ColumnMap | None = None) -> ScoredFile:
    """Read scored files.

    Args:
        paths: files that ``predict`` wrote, in any format; all for the same labels.
        columns: the mapping that was given to ``predict``.

    Raises:
        DataError: a file was not written by ``predict``, is damaged or given twice, or the files
            have been scored for different labels; with file and row.
    """
    _check_once(paths)
    mapping = columns or ColumnMap()
    label_ids: tuple[str, ...] | None = None
    lines: list[ScoredLine] = []
    keys: dict[str, int] = {}
    for path in paths:
        for row in tables.read(path):
            own = _labels(row.values)
            if label_ids is None:
                label_ids = own
            if own != label_ids or not own:
                msg = (
                    f"{path}, row {row.number}: no columns 'p_<label>' as in the rows before; "
                    "give files that 'cs-classifier predict' wrote with one model"
                )
                raise DataError(msg)
            lines.append(_line(row, path, mapping, label_ids, keys))
    if label_ids is None:
        msg = f"{', '.join(map(str, paths))}: no rows"
        raise DataError(msg)
    return ScoredFile(label_ids, tuple(lines))


def fingerprint(lines: Iterable[ScoredLine]) -> str:
    """Hash of the lines as they came in, whatever the file format and whatever was found."""
    digest = hashlib.sha256()
    for line in lines:
        parts = (line.key, line.timestamp, line.agent_id, line.text)
        digest.update("\x1f".join(parts).encode("utf-8", "surrogatepass") + b"\x1e")
    return digest.hexdigest()[:16]


def _check_once(paths: Sequence[Path]) -> None:
    seen = set()
    for path in paths:
        if (real := path.resolve()) in seen:
            msg = f"{path} is given twice; its lines would be counted double"
            raise DataError(msg)
        seen.add(real)


def _labels(names: Collection[str]) -> tuple[str, ...]:
    """The labels of the columns that ``predict`` wrote, which stand behind ``review``.

    An input may have columns of its own that begin alike. All are taken if the order was changed.
    """
    behind = dropwhile(lambda name: name != "review", names)
    found = list(takewhile(_is_probability, islice(behind, 1, None)))
    return tuple(n.removeprefix(_PREFIX) for n in found or filter(_is_probability, names))


def _is_probability(name: str) -> bool:
    return name.startswith(_PREFIX)


def _line(
    row: tables.Row,
    path: Path,
    mapping: ColumnMap,
    label_ids: tuple[str, ...],
    keys: dict[str, int],
) -> ScoredLine:
    where = f"{path}, row {row.number}"
    values = row.values
    own = {name: _text(mapping.value(values, name)) for name in _FIELDS}
    identity = _text(mapping.value(values, "id"))
    found = [_probability(_PREFIX + label, values, where) for label in label_ids]
    scored = all(p is not None for p in found)
    return ScoredLine(
        key=_unique(_key(identity, own), keys),
        file=path.name,
        row=row.number,
        **own,
        labels=_strings(values.get("labels"), label_ids, where),
        review=_strings(values.get("review"), label_ids, where),
        probabilities=tuple(p for p in found if p is not None) if scored else (),
        rules=_strings(values.get("rules"), None, where),
        tags=_strings(values.get("tags"), None, where),
        evidence=tuple(_evidence(values.get("evidence"), where)),
        joined=str(values.get("joined")).casefold() == "true",
        model=_text(values.get("model")),
        error=_text(values.get("error")) or row.error,
        clauses=_strings(values.get("clauses"), None, where),
    )


def _key(identity: str, own: Mapping[str, str]) -> str:
    if identity:
        return identity
    if own["conversation_id"] and own["turn"]:
        return f"{own['conversation_id']}#{own['turn']}"
    parts = (own["conversation_id"], own["timestamp"], own["agent_id"], own["context"], own["text"])
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _unique(key: str, keys: dict[str, int]) -> str:
    seen = keys.get(key, 0)
    keys[key] = seen + 1
    return f"{key}~{seen + 1}" if seen else key


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _probability(name: str, values: Mapping[str, object], where: str) -> float | None:
    text = _text(values[name])
    if not text:
        return None
    with suppress(ValueError):
        if 0 <= (found := float(text)) <= 1:
            return found
    msg = (
        f"{where}: '{text[:_SHOWN]}' in column '{name}' is no probability; "
        f"rename a column of your own that begins with '{_PREFIX}'"
    )
    raise DataError(msg)


def _strings(value: object, known: tuple[str, ...] | None, where: str) -> tuple[str, ...]:
    """A list cell: a list, or its items joined by ``|``."""
    if isinstance(value, list):
        items = tuple(map(str, value))
    else:
        items = tuple(filter(None, _text(value).split(tables.LIST_SEPARATOR)))
    strange = [item for item in items if known is not None and item not in known]
    if strange:
        msg = f"{where}: label '{strange[0]}' has no column 'p_{strange[0]}'"
        raise DataError(msg)
    return items


def _evidence(value: Any, where: str) -> Iterator[Evidence]:  # noqa: ANN401
    try:
        items = json.loads(value) if isinstance(value, str) and value else value or []
        for item in items:
            yield Evidence(
                label=str(item["label"]),
                source=str(item["source"]),
                clause=str(item["clause"] or ""),
                start=int(item["start"]),
                end=int(item["end"]),
                text=str(item["text"]),
            )
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        msg = f"{where}: column 'evidence' is damaged"
        raise DataError(msg) from error
