"""Transcript files to scored files: what ``cs-classifier predict`` does."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from cs_classifier import tables
from cs_classifier.errors import DataError
from cs_classifier.records import Evidence, Message, Prediction
from cs_classifier.reports.summary import ScoringSummary, SummaryBuilder
from cs_classifier.transcripts import (
    NEEDS_MEDIA_REVIEW,
    SYSTEM,
    ColumnMap,
    Conversations,
    Turn,
    check_columns,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from cs_classifier.pipeline import Pipeline

CHUNK = 2048  # rows read, scored and written together
DECIMALS = 4  # of probabilities in files
ENGINE = "onnxruntime"
CONTEXT = "context"  # the customer's words as the model read them; an input's own column stays
CONTEXT_ONLY = "context only"  # a customer's or the platform's row


@dataclass(frozen=True)
class Output:
    """Names and types of the columns that ``predict`` adds."""

    labels: tuple[str, ...]

    @property
    def types(self) -> dict[str, tables.Kind]:
        """Column name to type, in order."""
        kinds: dict[str, tables.Kind] = {"labels": "strings", "review": "strings"}
        kinds |= {f"p_{label}": "float" for label in self.labels}
        kinds |= {
            "clauses": "strings",
            "rules": "strings",
            "tags": "strings",
            "evidence": "evidence",
        }
        return kinds | {"joined": "bool", "model": "string", "error": "string"}


def predict_files(  # noqa: PLR0913
    pipeline: Pipeline,
    inputs: Sequence[Path],
    output: Path,
    *,
    columns: ColumnMap,
    input_format: str | None = None,
    output_format: str | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
    on_notice: Callable[[str], None] = lambda _: None,
) -> ScoringSummary:
    """Score ``inputs`` into one ``output``, in input order, with all input columns kept.

    Rows that are not an agent's serve as context and are not written. A row that cannot be scored
    is written with ``error`` set. The output appears only when it is complete.

    Args:
        pipeline: the model.
        inputs: files; ``-`` is stdin.
        output: file; ``-`` is stdout.
        columns: how the input names its columns.
        input_format: overrides the suffix.
        output_format: overrides the suffix.
        on_progress: called with the number of rows just finished.
        on_notice: called with remarks for the user.

    Raises:
        DataError: an input cannot be read, or the output not be written.
    """
    if any(path.resolve() == output.resolve() for path in inputs if str(path) != "-"):
        msg = f"{output} is also an input; choose another output"
        raise DataError(msg)
    start = time.monotonic()
    added = Output(pipeline.label_set.ids)
    summary = SummaryBuilder(
        pipeline.label_set, file=", ".join(map(str, inputs)), model=pipeline.model_id, engine=ENGINE
    )
    rows = _all_rows(inputs, input_format)
    first = list(islice(rows, CHUNK))
    names = list(dict.fromkeys(name for row in first for name in row.values))
    check_columns(names, columns)
    renamed = {name: f"input_{name}" if name in added.types else name for name in names}
    for name, new in renamed.items():
        if name != new:
            on_notice(f"input column '{name}' is written as '{new}'")
    out_columns = list(dict.fromkeys([*renamed.values(), CONTEXT, *added.types]))
    conversations = Conversations(columns)
    with tables.Writer(
        output, columns=out_columns, types=added.types, format=output_format
    ) as writer:
        for chunk in _chunks(first, rows):
            turns = [conversations.turn(row) for row in chunk]
            predictions = predict_turns(pipeline, turns)
            written = []
            for turn, prediction in zip(turns, predictions, strict=True):
                _count(summary, turn, prediction, columns)
                if prediction or turn.reason:
                    values = {renamed.get(k, k): v for k, v in turn.row.values.items()}
                    written.append(_cells(pipeline, turn, prediction) | values)
            writer.write(written)
            on_progress(len(chunk))
    if conversations.disordered:
        on_notice(
            f"{conversations.disordered} rows are earlier than the row before them; sort by time"
        )
    return summary.build(seconds=time.monotonic() - start)


def _count(
    summary: SummaryBuilder, turn: Turn, scored: TurnPrediction | None, columns: ColumnMap
) -> None:
    """Tell the summary about one row."""
    values = {name: columns.value(turn.row.values, name) for name in ("text", "agent_id")}
    reason = turn.reason or ("" if scored else CONTEXT_ONLY)
    summary.add(
        values,
        scored.prediction if scored else None,
        reason,
        row=turn.row.number,
        error=bool(turn.reason) and turn.reason not in {NEEDS_MEDIA_REVIEW, SYSTEM},
    )


def _all_rows(inputs: Sequence[Path], input_format: str | None) -> Iterator[tables.Row]:
    for path in inputs:
        yield from tables.read(path, format=input_format)


def _chunks(first: list[tables.Row], rest: Iterator[tables.Row]) -> Iterator[list[tables.Row]]:
    chunk = first
    while chunk:
        yield chunk
        chunk = list(islice(rest, CHUNK))


@dataclass(frozen=True)
class TurnPrediction:
    """A prediction of one bubble; ``joined`` when only the bubbles together show a violation."""

    prediction: Prediction
    joined: bool


def predict_turns(pipeline: Pipeline, turns: Sequence[Turn]) -> list[TurnPrediction | None]:
    """Score turns; where an agent writes in several bubbles, also what they say together.

    A label goes to the bubble that completes the act: the joined text is decided higher than both
    the bubble alone and the bubbles before it.
    """
    wanted: list[Message] = []
    for turn in turns:
        if turn.message:
            wanted += [turn.message, *_joined_messages(turn)]
    found = dict(zip(wanted, pipeline.predict(wanted), strict=True))
    out: list[TurnPrediction | None] = []
    for turn in turns:
        if turn.message is None:
            out.append(None)
            continue
        alone = found[turn.message]
        parts = _joined_messages(turn)
        if not parts:
            out.append(TurnPrediction(alone, joined=False))
            continue
        both, before = (found[part] for part in parts)
        out.append(combine(pipeline, alone, both, before, shift=len(parts[1].text) + 1))
    return out


def _joined_messages(turn: Turn) -> tuple[Message, ...]:
    """The bubbles together, and those before the last; empty for a single bubble."""
    if turn.joined is None or turn.message is None:
        return ()
    before = turn.joined.text[: -len(turn.message.text) - 1]
    return turn.joined, Message(before, turn.joined.context)


def combine(
    pipeline: Pipeline, alone: Prediction, both: Prediction, before: Prediction, *, shift: int
) -> TurnPrediction:
    """Take from ``both`` the labels that only the joined text shows; offsets are the bubble's."""
    levels = pipeline.decision.levels([p.probabilities for p in (alone, both, before)])
    completes = levels[1] > np.maximum(levels[0], levels[2])
    if not completes.any():
        return TurnPrediction(alone, joined=False)
    pick = [both if c else alone for c in completes]
    labels = {pipeline.label_set.ids[j] for j in np.flatnonzero(completes)}
    moved = [_moved(e, shift) for e in both.evidence if e.label in labels]
    label_of = {clause.id: clause.label for clause in pipeline.label_set.clauses.values()}
    return TurnPrediction(
        replace(
            alone,
            probabilities=tuple(p.probabilities[j] for j, p in enumerate(pick)),
            outcomes=tuple(p.outcomes[j] for j, p in enumerate(pick)),
            hits=tuple(dict.fromkeys((*alone.hits, *(h for h in both.hits if h.target in labels)))),
            evidence=(*(e for e in alone.evidence if e.label not in labels), *moved),
            clauses=(
                *(c for c in alone.clauses if label_of[c] not in labels),
                *(c for c in both.clauses if label_of[c] in labels),
            ),
        ),
        joined=True,
    )


def _moved(evidence: Evidence, shift: int) -> Evidence:
    """Offsets in the last bubble; what lies before it shrinks to an empty span at its start."""
    start, end = max(0, evidence.start - shift), max(0, evidence.end - shift)
    return replace(evidence, start=start, end=end)


def _cells(pipeline: Pipeline, turn: Turn, scored: TurnPrediction | None) -> dict[str, Any]:
    """The added columns of one row."""
    labels = pipeline.label_set.ids
    context = turn.message.context if turn.message else ""
    cells: dict[str, Any] = {CONTEXT: context, "model": pipeline.model_id, "error": turn.reason}
    if scored is None:
        empty: dict[str, Any] = {"labels": [], "review": [], "clauses": [], "rules": [], "tags": []}
        empty |= {f"p_{label}": None for label in labels}
        return empty | {"evidence": [], "joined": False} | cells
    p = scored.prediction
    pairs = list(zip(labels, p.outcomes, strict=True))
    cells["labels"] = [label for label, outcome in pairs if outcome == "violation"]
    cells["review"] = [label for label, outcome in pairs if outcome == "review"]
    for label, probability in zip(labels, p.probabilities, strict=True):
        cells[f"p_{label}"] = round(probability, DECIMALS)
    cells["clauses"] = list(p.clauses)
    cells["rules"] = list(dict.fromkeys(hit.rule for hit in p.hits))
    cells["tags"] = list(p.tags)
    cells["evidence"] = [asdict(e) for e in p.evidence]
    cells["joined"] = scored.joined
    if p.truncated:
        cells["error"] = "text too long: only its beginning was scored"
    return cells


def to_json(prediction: Prediction, labels: Sequence[str]) -> str:
    """One prediction as JSON, for scripts."""
    document = asdict(prediction)
    document["probabilities"] = dict(zip(labels, prediction.probabilities, strict=True))
    document["outcomes"] = dict(zip(labels, prediction.outcomes, strict=True))
    return json.dumps(document, ensure_ascii=False)
