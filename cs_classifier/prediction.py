"""Transcript files to scored files: what ``cs-classifier predict`` does."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from cs_classifier import __version__, chunks, tables
from cs_classifier.decision import to_levels
from cs_classifier.errors import DataError
from cs_classifier.recent import Recent
from cs_classifier.records import Evidence, Message, Prediction
from cs_classifier.reports.summary import ScoringSummary, SummaryBuilder
from cs_classifier.tables.formats import resolve_format
from cs_classifier.transcripts import (
    NEEDS_MEDIA_REVIEW,
    SYSTEM,
    ColumnMap,
    Conversations,
    Turn,
    check_columns,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cs_classifier.pipeline import Pipeline

CHUNK = 8192  # rows read, scored and written together
DECIMALS = 4  # of probabilities in files
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
    resume: bool = False,
    chunk: int = CHUNK,
    summary: SummaryBuilder | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
    on_notice: Callable[[str], None] = lambda _: None,
) -> ScoringSummary:
    """Score ``inputs`` into one ``output``, in input order, with all input columns kept.

    Rows that are not an agent's serve as context and are not written. A row that cannot be scored
    is written with ``error`` set. The output appears only when it is complete; until then, finished
    chunks are kept beside it (:mod:`cs_classifier.chunks`).

    Args:
        pipeline: the model.
        inputs: files; ``-`` is stdin.
        output: file; ``-`` is stdout.
        columns: how the input names its columns.
        input_format: overrides the suffix.
        output_format: overrides the suffix.
        resume: continue a run of the same job that was cut off; if there is none, begin.
        chunk: rows that are read, scored and written together.
        summary: counts the rows; by default, one that has counted none.
        on_progress: called with the number of rows just finished.
        on_notice: called with remarks for the user.

    Raises:
        DataError: an input cannot be read, the output not be written, or the run not be continued.
    """
    kind = _check(inputs, output, output_format, resume=resume)
    start = time.monotonic()
    rows = _all_rows(inputs, input_format)
    first = list(islice(rows, chunk))
    rows = chain(first, rows)
    names = _names(inputs, first, input_format, every=kind != "jsonl")
    check_columns(names, columns)
    added = Output(pipeline.label_set.ids)
    renamed = {name: f"input_{name}" if name in added.types else name for name in names}
    for name, new in renamed.items():
        if name != new:
            on_notice(f"input column '{name}' is written as '{new}'")
    summary = summary or new_summary(pipeline, inputs)
    scorer = Scorer(pipeline, columns=columns, renamed=renamed, summary=summary)
    formats = {"input format": input_format or "by suffix", "output format": kind}
    out_columns = list(dict.fromkeys([*renamed.values(), CONTEXT, *added.types]))
    target: chunks.Target
    if _resumable(inputs, output):
        job = job_of(pipeline, inputs, columns=columns, chunk=chunk) | formats
        target = chunks.Partial(output, out_columns, added.types, kind, job=job, resume=resume)
    else:
        target = chunks.Direct(output, out_columns, added.types, kind)
    with target:
        done = scorer.restore(target)
        if done:
            on_notice(f"{done:,} rows were finished before")
            on_progress(sum(1 for _ in islice(rows, done)))
        start -= target.state.get("seconds", 0)
        while part := list(islice(rows, chunk)):
            scored = scorer.score(part)
            seconds = time.monotonic() - start
            target.write(scored, scorer.state() | {"seconds": seconds}, scorer.changes())
            on_progress(len(part))
    if scorer.conversations.disordered:
        on_notice(
            f"{scorer.conversations.disordered} rows are earlier than the row before them; "
            "sort by time"
        )
    return summary.build(seconds=time.monotonic() - start)


def _check(inputs: Sequence[Path], output: Path, output_format: str | None, *, resume: bool) -> str:
    """The output's format, if it can be written."""
    if any(path.resolve() == output.resolve() for path in inputs if str(path) != "-"):
        msg = f"{output} is also an input; choose another output"
        raise DataError(msg)
    if resume and not _resumable(inputs, output):
        msg = "a run from stdin or to stdout cannot be resumed; give file names"
        raise DataError(msg)
    return tables.output_format(output, output_format)


def _resumable(inputs: Sequence[Path], output: Path) -> bool:
    """Whether all are files; stdin cannot be read again, nor stdout be cut back."""
    return "-" not in {str(path) for path in (*inputs, output)}


def _all_rows(inputs: Sequence[Path], input_format: str | None) -> Iterator[tables.Row]:
    for path in inputs:
        yield from tables.read(path, format=input_format)


def _names(
    inputs: Sequence[Path], first: list[tables.Row], input_format: str | None, *, every: bool
) -> list[str]:
    """Column names of all inputs, in order.

    Lines of jsonl may have keys that the first ones lack. Only if ``every`` name must be known
    before, as for a table with a header, is the whole file read for them.
    """
    found = [name for row in first for name in row.values]
    for path in inputs:
        if str(path) != "-" and (every or resolve_format(path, input_format) != "jsonl"):
            found += tables.columns(path, format=input_format)
    return list(dict.fromkeys(found))


def job_of(
    pipeline: Pipeline, inputs: Sequence[Path], *, columns: ColumnMap, chunk: int
) -> dict[str, str]:
    """What the rows of the output depend on, name to value."""
    fitted = pipeline.calibrator.model_dump_json() + pipeline.decision.model_dump_json()
    return {
        "program": __version__,
        "model": f"{pipeline.model_id} {hashlib.sha256(fitted.encode()).hexdigest()[:8]}",
        "engine": pipeline.encoder.name,
        "screen": pipeline.screen.limits.model_dump_json() if pipeline.screen else "",
        "columns": columns.model_dump_json(exclude_defaults=True),
        "chunk": str(chunk),
        **{f"input {path.resolve()}": chunks.fingerprint(path) for path in inputs},
    }


def new_summary(pipeline: Pipeline, inputs: Sequence[Path]) -> SummaryBuilder:
    """A summary that has counted nothing."""
    return SummaryBuilder(
        pipeline.label_set,
        file=", ".join(map(str, inputs)),
        model=pipeline.model_id,
        engine=pipeline.encoder.name,
    )


class Scorer:
    """Scores the rows of a transcript in their order; what it has in mind can be saved."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        columns: ColumnMap,
        renamed: Mapping[str, str],
        summary: SummaryBuilder,
    ) -> None:
        """Start before the first row.

        Args:
            pipeline: the model.
            columns: how the input names its columns.
            renamed: names of input columns to those in the output.
            summary: counts the rows.
        """
        self.conversations = Conversations(columns, tracked=True)
        self.summary = summary
        self._pipeline, self._columns, self._renamed = pipeline, columns, renamed
        self._recent = Recent(pipeline.predict)
        self._rows = 0

    def score(self, rows: Sequence[tables.Row]) -> list[dict[str, Any]]:
        """Rows of the output for the next rows of the input."""
        turns = [self.conversations.turn(row) for row in rows]
        predictions = predict_turns(self._pipeline, turns, predict=self._recent.predict)
        written = []
        for turn, prediction in zip(turns, predictions, strict=True):
            _count(self.summary, turn, prediction, self._columns)
            if prediction or turn.reason:
                values = {self._renamed.get(k, k): v for k, v in turn.row.values.items()}
                written.append(_cells(self._pipeline, turn, prediction) | values)
        self._rows += len(rows)
        return written

    def state(self) -> dict[str, Any]:
        """Counts so far, as plain data."""
        disordered = self.conversations.disordered
        return {"rows": self._rows, "disordered": disordered, "summary": self.summary.state()}

    def changes(self) -> dict[str, dict[str, str | None]]:
        """What has changed in mind since the last call; ``None`` for what is forgotten."""
        return {
            "conversations": self.conversations.changes(),
            "predictions": self._recent.changes(),
        }

    def restore(self, target: chunks.Target) -> int:
        """Go on where the target stands; returns the rows that are finished."""
        if target.state:
            self._rows = target.state["rows"]
            self.conversations.disordered = target.state["disordered"]
            self.summary.absorb(target.state["summary"])
            self.conversations.restore(target.memory("conversations"))
            self._recent.restore(target.memory("predictions"))
        return self._rows


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


@dataclass(frozen=True)
class TurnPrediction:
    """A prediction of one bubble; ``joined`` when only the bubbles together show a violation."""

    prediction: Prediction
    joined: bool


def predict_turns(
    pipeline: Pipeline,
    turns: Sequence[Turn],
    *,
    predict: Callable[[Iterable[Message]], Mapping[Message, Prediction]] | None = None,
) -> list[TurnPrediction | None]:
    """Score turns; where an agent writes in several bubbles, also what they say together.

    A label goes to the bubble that completes the act: the joined text is decided higher than both
    the bubble alone and the bubbles before it. ``predict`` stands in for the pipeline's own.
    """
    wanted: list[Message] = []
    for turn in turns:
        if turn.message:
            wanted += [turn.message, *_joined_messages(turn)]
    found = (predict or Recent(pipeline.predict, limit=0).predict)(wanted)
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
    levels = to_levels([p.outcomes for p in (alone, both, before)])
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
