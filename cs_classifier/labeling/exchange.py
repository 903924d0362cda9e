"""Labels in from whatever people filled, and out to the tools that they fill them in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from cs_classifier import datasets, tables
from cs_classifier.errors import CsClassifierError, DataError
from cs_classifier.labeling.store import Event, Source, histories, spelled
from cs_classifier.labeling.words import WORDS
from cs_classifier.records import Message
from cs_classifier.reports.output import whole
from cs_classifier.reports.review_files.answers import SEPARATOR, folded, labels_of
from cs_classifier.reports.review_files.words import COLUMNS
from cs_classifier.reports.wording import label_name
from cs_classifier.reports.workbook import read_reviews, write_sample
from cs_classifier.reviews import Sampled
from cs_classifier.sampling import Stratum, template
from cs_classifier.scored import ScoredLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from cs_classifier.labels import LabelSet
    from cs_classifier.records import LabelledMessage
    from cs_classifier.reports.wording import Language
    from cs_classifier.reviews import Review

Format = Literal["jsonl", "label-studio", "doccano", "workbook"]
FORMATS: tuple[Format, ...] = get_args(Format)
_SUFFIXES = {"jsonl": ".jsonl", "label-studio": ".json", "doccano": ".jsonl", "workbook": ".xlsx"}

_NAMES: dict[str, tuple[str, ...]] = {
    "text": ("text", "data", "客服原话", "文本", "内容", "消息"),
    "labels": ("labels", "label", "更正类别", "类别", "标签"),
    "context": ("context", "上一句(买家)", "上一句", "上文"),
    "who": ("annotator", "who", "user", "username", "复核人", "标注人", "标注员"),
    "note": ("note", "reason", "comments", "复核备注", "备注"),
    "clause": ("clause",),
    "status": ("status",),
    "group": ("group",),
    "origin": ("origin",),
    "shop": ("shop", "店铺"),
}  # folded column names of tables with labels
_HIDDEN = {folded(name) for name in (COLUMNS[-1].zh, COLUMNS[-1].en)}  # only review sheets have it
_MOST = 10  # problems that one error names


@dataclass(frozen=True, slots=True)
class _Common:
    """What the events of one file share; ``who`` is for rows that name no one."""

    who: str
    when: str
    file: str


@dataclass(frozen=True, slots=True)
class Filled:
    """The events of files that people filled, and how many rows they left open."""

    events: tuple[Event, ...]
    open: int


def read(
    paths: Sequence[Path],
    *,
    label_set: LabelSet,
    when: str,
    who: str = "",
    source: Source | None = None,
) -> Filled:
    """What people said in review files, Label Studio or doccano exports, and tables.

    What a file is shows in its content. Tables and doccano exports have a column ``text`` and one
    ``labels`` or ``label`` (Chinese names work too); a row without labels is open, a clean line
    says "none" (or ``[]`` in a JSONL column ``labels``).

    Args:
        paths: the files; of different annotators or of one.
        label_set: the labels that they may name.
        when: time of the events, UTC, ISO.
        who: annotator of rows that name none; by default the file's name.
        source: of all events; by default "review" for review files, else "import".

    Raises:
        DataError: a file or rows that cannot be read, unknown labels; the message names them.
    """
    events, still_open = [], 0
    for path in paths:
        common = _Common(who or path.stem, when, _file(path))
        if columns := _columns(path):
            found = _table(path, columns, common, label_set)
            kind: Source = "import"
        else:
            reviews = read_reviews([path], label_set=label_set)
            found = [_of_review(review, path, common) for review in reviews]
            kind = "review"
        events += [replace(event, source=source or kind) for event in found if event]
        still_open += found.count(None)
    return Filled(tuple(_reconciled(events)), still_open)


def _file(path: Path) -> str:
    try:
        return f"{path.name}#{datasets.checksum(path)[:12]}"
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise DataError(msg) from error


def _columns(path: Path) -> dict[str, str]:
    """Field to column of a table with labels; empty for a review file."""
    if path.suffix.lower() == ".json":
        return {}
    there = {folded(name): name for name in tables.columns(path)}
    if _HIDDEN & there.keys() or {"data", "verdict"} <= there.keys():
        return {}
    found = {
        field: next(there[name] for name in map(folded, names) if name in there)
        for field, names in _NAMES.items()
        if there.keys() & set(map(folded, names))
    }
    if found.keys() >= {"text", "labels"}:
        if any(name.startswith("p_") for name in there):
            msg = f"{path} holds what the system suspects, not what people say; review it first"
            raise DataError(msg)
        return found
    if path.suffix.lower() in {".xlsx", ".xlsm"}:
        return {}  # the first sheet of a review workbook is another one
    msg = f"{path} has no columns 'text' and 'labels', and is no review file; name its columns so"
    raise DataError(msg)


def _table(
    path: Path, columns: Mapping[str, str], common: _Common, label_set: LabelSet
) -> list[Event | None]:
    found: list[Event | None] = []
    problems: list[str] = []
    for row in tables.read(path):
        where = f"{path}, row {row.number}"
        try:
            if row.error:
                raise DataError(f"{where}: {row.error}")  # noqa: EM102
            cells = {field: row.values.get(column) for field, column in columns.items()}
            # doccano cannot tell "no label" from "not looked at".
            sure = columns["labels"].strip().lower() != "label"
            found.append(_of_row(cells, common, label_set, where, empty_is_clean=sure))
        except CsClassifierError as error:
            problems.append(str(error))
    if problems:
        more = f"\n… and {len(problems) - _MOST} more" * (len(problems) > _MOST)
        raise DataError("\n".join(problems[:_MOST]) + more)
    return found


def _of_row(
    cells: Mapping[str, Any],
    common: _Common,
    label_set: LabelSet,
    where: str,
    *,
    empty_is_clean: bool,
) -> Event | None:
    try:
        labels = _labels(cells["labels"], label_set, empty_is_clean=empty_is_clean)
    except DataError as error:
        msg = f"{where}: {error}"
        raise DataError(msg) from error
    if labels is None:
        return None
    text = {name: _text(cells.get(name)) for name in _NAMES if name != "labels"}
    fields = {**text, "labels": list(labels), "status": text["status"] or "gold"}
    line = datasets.parse(fields, label_set, where)
    return Event(
        message=line.message,
        new=line.labels,
        clauses=line.clauses,
        status=line.status,
        source="import",
        reason=line.note,
        group=text["group"] or template(line.message.text),
        # Nobody knows how these lines were drawn.
        origin=line.origin or "enriched:import",
        shop=text["shop"],
        who=text["who"] or common.who,
        when=common.when,
        file=common.file,
    )


def _labels(value: object, label_set: LabelSet, *, empty_is_clean: bool) -> tuple[str, ...] | None:
    """The labels of a cell by id or name; ``None`` if it was left open."""
    if isinstance(value, list):
        if not value and empty_is_clean:
            return ()
        # Regions of doccano are [start, end, label] or {"label": …}.
        names = [v["label"] if isinstance(v, dict) and "label" in v else v for v in value]
        names = [v[-1] if isinstance(v, list) and v else v for v in names]
        value = SEPARATOR.join(dict.fromkeys(map(str, names)))
    return labels_of(_text(value).replace("#", SEPARATOR), label_set=label_set)


def _text(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return "" if value is None else str(value)


def _of_review(review: Review, path: Path, common: _Common) -> Event | None:
    if review.verdict is None:
        return None
    line = review.sampled.line
    part = "natural" if Stratum.parse(review.sampled.stratum).uniform else "enriched"
    return Event(
        message=Message(line.text, line.context),
        new=review.truth,
        status="borderline" if review.truth is None else "gold",
        source="review",
        reason="; ".join(filter(None, (review.note, review.appeal))),
        group=line.conversation_id or template(line.text),
        origin=f"{part}:{path.stem}",
        shop=line.shop,
        who=review.annotator or common.who,
        when=common.when,
        file=common.file,
    )


def _reconciled(events: Iterable[Event]) -> list[Event]:
    """One event per line and annotator: who answered twice, and differently, could not tell."""
    by_voice: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        by_voice.setdefault((event.key, event.who), []).append(event)
    return [
        same[0]
        if len({event.new for event in same}) == 1
        else replace(
            same[0],
            new=None,
            clauses=(),
            status="borderline",
            reason=" / ".join(dict.fromkeys(spelled(event.new) for event in same)),
        )
        for same in by_voice.values()
    ]


def write(
    lines: Sequence[LabelledMessage],
    path: Path,
    *,
    format: Format,  # noqa: A002
    label_set: LabelSet,
    language: Language = "zh",
) -> None:
    """Write what holds: labelled lines, or tasks pre-filled with their labels.

    Label Studio tasks (with their labelling configuration beside them as ``.xml``) and workbooks
    come back through :func:`read` line by line. In doccano, create a category for each label and
    one for "none".

    Raises:
        DataError: the suffix does not fit the format, or the file cannot be written.
    """
    if path.suffix.lower() != _SUFFIXES[format]:
        msg = f"{path}: a file in the format {format} ends in {_SUFFIXES[format]}"
        raise DataError(msg)
    if format == "jsonl":
        with whole(path) as part:
            datasets.dump(lines, part)
    elif format == "doccano":
        rows = [_doccano(line, label_set, language) for line in lines]
        with tables.Writer(path, columns=["text", "label"]) as writer:
            writer.write(rows)
    else:
        sampled = [
            Sampled(_scored(line, number), "store", 1.0, line.labels)
            for number, line in enumerate(lines, 1)
        ]
        info = {WORDS[language]["lines"]: str(len(lines))}
        write_sample(sampled, path, label_set=label_set, info=info, language=language)


def _doccano(line: LabelledMessage, label_set: LabelSet, language: Language) -> dict[str, Any]:
    names = [label_name(label_set, label, language) for label in line.labels]
    clean = [WORDS[language]["none"]] if line.status == "gold" else []
    message = line.message
    return {"text": message.text, "label": names or clean, "context": message.context}


def _scored(line: LabelledMessage, number: int) -> ScoredLine:
    """A stored line in the form that review files carry; it has no probabilities."""
    empty = dict.fromkeys(
        ("turn", "timestamp", "agent_id", "shop", "platform", "team", "shift", "error"), ""
    )
    return ScoredLine(
        key=line.id,
        file="store",
        row=number,
        text=line.message.text,
        context=line.message.context,
        conversation_id=line.group,
        labels=line.labels,
        review=(),
        probabilities=(),
        rules=(),
        tags=(),
        evidence=(),
        joined=False,
        model="store",
        clauses=line.clauses,
        **empty,
    )


def write_conflicts(
    events: Iterable[Event], path: Path, *, label_set: LabelSet, language: Language = "zh"
) -> int:
    """Write the disputed lines for a third person; returns how many there are.

    The votes, without names, stand where the conversation is shown. Rows are blind, so that the
    answer has to name the labels; :func:`read` it with the source "adjudication".

    Raises:
        DataError: the file cannot be written.
    """
    disputed = [history for history in histories(events).values() if history.disputed]
    words, sampled, shown = WORDS[language], [], {}
    for number, history in enumerate(disputed, 1):
        line = replace(_scored(history.line, number), conversation_id=history.line.id)
        sampled.append(Sampled(line, "adjudication", 1.0, (), blind=True))
        votes = "\n".join(_vote(vote, label_set, language) for vote in history.votes.values())
        turns = (("customer", line.context), ("agent", line.text), ("votes", votes))
        shown[line.conversation_id] = [("", words[who], text) for who, text in turns if text]
    info = {words["disputed"]: str(len(sampled))}
    write_sample(
        sampled, path, label_set=label_set, info=info, transcripts=shown, language=language
    )
    return len(sampled)


def _vote(vote: Event, label_set: LabelSet, language: Language) -> str:
    names = [label_name(label_set, label, language) for label in vote.new or ()]
    none = WORDS[language]["doubtful" if vote.new is None else "none"]
    return f"{SEPARATOR.join(names) or none} {vote.reason}".rstrip()
