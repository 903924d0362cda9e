"""Review files out and in: an Excel workbook, JSONL, or Label Studio tasks, by suffix.

Every file carries each line whole, in a hidden form that people and programs leave alone, so what
comes back is exactly the line that was drawn. Review files are not masked, since reviewers judge
the wording itself; the workbook says who may see it.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from cs_classifier import tables
from cs_classifier.errors import DataError
from cs_classifier.reports.output import whole
from cs_classifier.reports.review_files import label_studio, returned, sheet
from cs_classifier.reports.review_files.answers import (
    SEPARATOR,
    Answer,
    Found,
    collect,
    merge,
    review,
)
from cs_classifier.reports.review_files.codec import pack, unpack
from cs_classifier.reports.review_files.lines import Display, in_reading_order, view

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cs_classifier.labels import LabelSet
    from cs_classifier.reports.review_files.lines import Transcripts
    from cs_classifier.reports.wording import Language
    from cs_classifier.reviews import Review, Sampled

SUFFIXES = (".xlsx", ".jsonl", ".json")

_ANSWERS = ("verdict", "correction", "annotator", "note", "appeal")


def write_sample(  # noqa: PLR0913
    sampled: Sequence[Sampled],
    path: Path,
    *,
    label_set: LabelSet,
    info: Mapping[str, str],
    transcripts: Transcripts | None = None,
    language: Language = "zh",
) -> None:
    """Write lines for review; the file appears whole or not at all.

    Lines come in the order of the scored files with conversations in one piece, since the order of
    the strata would tell what a blind row hides. ``.json`` are Label Studio tasks, with their
    labelling configuration beside them as ``.xml``.

    Args:
        sampled: the lines; their keys must differ.
        path: ``.xlsx``, ``.jsonl`` or ``.json``.
        label_set: names of the labels, and what the instructions say about them.
        info: what the workbook says about the run: model, files, seed, counts, date.
        transcripts: conversation id to its turns (time, speaker, text), to show the conversation
            around each line; without it, only the customer's message and the line.
        language: of everything that reviewers read.

    Raises:
        DataError: another suffix, a key that occurs twice, or a folder that cannot be written.
    """
    suffix = _suffix(path)
    keys = [item.line.key for item in sampled]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        msg = f"line {twice} was drawn twice; draw each line once"
        raise DataError(msg)
    lines = in_reading_order(sampled)
    display = Display(label_set, language, transcripts or {})
    if suffix == ".xlsx":
        with whole(path) as part:
            sheet.write(lines, part, display=display, info=info)
    elif suffix == ".jsonl":
        rows = [_json_row(item, display) for item in lines]
        with tables.Writer(path, columns=list(rows[0]) if rows else ["data"]) as writer:
            writer.write(rows)
    else:
        with whole(path.with_suffix(".xml")) as part:
            part.write_text(label_studio.label_config(label_set, language), encoding="utf-8")
        with whole(path) as part:
            tasks = label_studio.tasks(lines, display)
            part.write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")


def read_reviews(paths: Sequence[Path], *, label_set: LabelSet) -> list[Review]:
    """Read returned files of any kind, one review per line and annotator.

    Rows may be deleted or moved. Of several files, an answer wins over an open row, and the answers
    of different annotators to one line are all kept; a nameless annotator is the one of that file.

    Raises:
        DataError: a file or rows that cannot be read, unknown answers, or two answers of one
            annotator to one line; the message names file and rows.
    """
    return merge([found for path in paths for found in _found(path, label_set)])


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        msg = f"{path}: review files end in {', '.join(SUFFIXES)}; save a workbook as .xlsx"
        raise DataError(msg)
    return suffix


def _found(path: Path, label_set: LabelSet) -> list[Found]:
    suffix = _suffix(path)
    if suffix == ".xlsx":
        return returned.read(path, label_set=label_set)
    if suffix == ".json":
        return label_studio.read(_json(path), str(path), label_set=label_set)
    rows = ((f"row {row.number}", partial(_review, row, label_set)) for row in tables.read(path))
    return list(collect(str(path), rows))


def _json_row(item: Sampled, display: Display) -> dict[str, Any]:
    """The fields to read, those to fill, and the line itself."""
    line, opinion = item.line, view(item, display)
    own = ("key", "conversation_id", "timestamp", "platform", "shop", "agent_id", "context", "text")
    return {
        **{name: getattr(line, name) for name in own},
        "blind": item.blind,
        "suspected": [] if item.blind else list(item.shown),
        "evidence": [e.text for e in opinion.evidence],
        "rules": [] if item.blind else list(line.rules),
        "score": opinion.score,
        "verdict": None,
        "correction": None,
        "annotator": "",
        "note": "",
        "appeal": "",
        "data": pack(item),
    }


def _review(row: tables.Row, label_set: LabelSet) -> Review:
    if row.error:
        raise DataError(row.error)
    values = row.values
    sampled = unpack(str(values.get("data") or ""))
    cells = {name: _cell(values.get(name)) for name in _ANSWERS}
    return review(sampled, Answer(**cells), label_set=label_set)


def _cell(value: object) -> str:
    """A field as a reviewer would type it; an empty list is "no label"."""
    if isinstance(value, list):
        return SEPARATOR.join(map(str, value)) or "none"
    return "" if value is None else str(value)


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise DataError(msg) from error
    except ValueError as error:
        msg = f"{path} is not valid JSON; export it again"
        raise DataError(msg) from error
