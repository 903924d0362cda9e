"""``predict --ray``: folders of transcripts scored by a Ray Data job.

A file is the unit of work. What was said before is read in order, so a conversation must lie whole
in one file; that is checked before anything is scored. Each file is scored by the same function as
on one machine, with finished chunks beside its output, so a worker that is lost, or the whole job,
goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cs_classifier import artifact, chunks, prediction, tables
from cs_classifier.errors import ConfigError, CsClassifierError, DataError, MissingExtraError
from cs_classifier.reports.summary import SummaryBuilder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from cs_classifier.classifiers.engines import Device, Engine
    from cs_classifier.pipeline import Pipeline
    from cs_classifier.reports.summary import ScoringSummary
    from cs_classifier.transcripts import ColumnMap

NOTES = "_predict"  # folder in the output: the job, and the counts of each finished file
SUFFIXES = frozenset({".parquet", ".pq", ".jsonl", ".ndjson", ".csv", ".tsv"})
_SHOWN = 3  # problems in an error


@dataclass(frozen=True)
class Options:
    """How a worker scores; it loads the model once."""

    model: Path
    columns: ColumnMap
    threads: int = 1  # of a worker
    engine: Engine = "auto"
    device: Device = "cpu"
    screened: bool = True
    chunk: int = prediction.CHUNK

    def load(self) -> Pipeline:
        """The model."""
        return artifact.load(
            self.model,
            threads=self.threads,
            engine=self.engine,
            device=self.device,
            screened=self.screened,
        )


def predict_folder(  # noqa: PLR0913
    inputs: Sequence[Path],
    output: Path,
    *,
    options: Options,
    workers: int = 0,
    resume: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
    on_notice: Callable[[str], None] = lambda _: None,
) -> ScoringSummary:
    """Score every transcript in ``inputs`` into a parquet file of the same name under ``output``.

    Args:
        inputs: folders or files, which all machines of the cluster see under the same path.
        output: folder, which they see as well.
        options: how to score.
        workers: how many; 0 means as many as the cluster has room for.
        resume: continue a job that was cut off; if there is none, begin.
        on_progress: called with the rows of a file just finished.
        on_notice: called with remarks for the user.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: the engine or the device cannot be used.
        DataError: there is nothing to score, a conversation is spread over files, the output is not
            empty or not of this job, or files could not be scored (the others are finished then).
    """
    start = time.monotonic()
    output = output.resolve()
    files = _files(inputs, output)
    # To check it, and for its names.
    pipeline = artifact.load(options.model, threads=1, engine="onnx", screened=options.screened)
    ray = _start()
    job = prediction.job_of(pipeline, list(files), columns=options.columns, chunk=options.chunk)
    job["engine"] = f"{options.engine} on {options.device}"
    _begin(ray, files, output / NOTES, job, options.columns, resume=resume)
    summary = SummaryBuilder(
        pipeline.label_set,
        file=", ".join(map(str, inputs)),
        model=pipeline.model_id,
        engine=job["engine"],
    )
    todo = []
    for source, name in files.items():
        note = output / NOTES / f"{name}.json"
        if note.exists():
            counts = json.loads(note.read_bytes())
            summary.absorb(counts)
            on_progress(counts["totals"]["rows"])
        else:
            todo.append({"source": str(source), "name": name})
    if len(todo) < len(files):
        on_notice(f"{len(files) - len(todo):,} of {len(files):,} files were finished before")
    problems = []
    for done in _scored(ray, todo, output, options, workers) if todo else ():
        if done["problem"]:
            problems.append(done["problem"])
        else:
            counts = json.loads((output / NOTES / f"{done['name']}.json").read_bytes())
            summary.absorb(counts)
            on_progress(counts["totals"]["rows"])
    if problems:
        msg = f"{_shown(problems)}. Mend them and run again with --resume; the others are finished"
        raise DataError(msg)
    return summary.build(seconds=time.monotonic() - start)


def _start() -> ModuleType:
    """Ray, connected to the cluster that ``RAY_ADDRESS`` names, or else started here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    try:
        ray = import_module("ray")
        import_module("ray.data")
    except ImportError:
        extra = "ray"
        raise MissingExtraError(extra, "ray[data]") from None
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        dashboard = None if address else False
        ray.init(address=address or "local", include_dashboard=dashboard, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray


def _files(inputs: Sequence[Path], output: Path) -> dict[Path, str]:
    """Every file to score, with the name of its output."""
    files: dict[Path, str] = {}
    for given in inputs:
        folder = given.resolve()
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        for path in found if folder.is_dir() else [folder]:
            name = path.relative_to(folder if folder.is_dir() else folder.parent)
            if path.is_file() and not any(map(_aside, name.parts)):
                files[path] = str(name.with_suffix(".parquet"))
    if not files:
        msg = f"{_shown(list(map(str, inputs)))}: no parquet, jsonl, csv or tsv file in there"
        raise DataError(msg)
    names = list(files.values())
    if twice := sorted({name for name in names if names.count(name) > 1}):
        msg = f"several inputs would be written as {_shown(twice)}; rename them"
        raise DataError(msg)
    if any(path.is_relative_to(output) for path in files):
        msg = f"{output} also holds inputs; choose another output folder"
        raise DataError(msg)
    return files


def _aside(part: str) -> bool:
    """Whether a file or folder is not meant as data: hidden, or somebody's work in progress."""
    return part[0] in "._" or part.endswith(".partial")


def _begin(  # noqa: PLR0913
    ray: ModuleType,
    files: dict[Path, str],
    notes: Path,
    job: dict[str, str],
    columns: ColumnMap,
    *,
    resume: bool,
) -> None:
    """Check that the job may begin, or go on in the output's folder."""
    note = notes / "job.json"
    if note.exists():
        if not resume:
            msg = (
                f"{notes.parent} holds the output of an earlier job; "
                "continue it with --resume, or choose another folder"
            )
            raise DataError(msg)
        if changed := chunks.differences(json.loads(note.read_bytes()), job):
            msg = (
                f"{notes.parent} cannot be continued, because something has changed: "
                f"{_shown(changed)}. Undo the change, or choose another folder"
            )
            raise DataError(msg)
        return
    if notes.parent.exists() and any(notes.parent.iterdir()):
        msg = f"{notes.parent} is not empty; choose another folder"
        raise DataError(msg)
    check_sessions(ray, list(files), columns)
    chunks.write_json(note, job)


def check_sessions(ray: ModuleType, files: Sequence[Path], columns: ColumnMap) -> None:
    """Check that each file can be scored by itself.

    Raises:
        DataError: a conversation has rows in two files, or there are roles but no conversations.
    """
    dataset = ray.data.from_items(
        [{"source": str(path)} for path in files], override_num_blocks=len(files)
    )
    found = dataset.map(lambda row: _sessions(Path(row["source"]), columns)).take_all()
    if problems := [row["problem"] for row in found if row["problem"]]:
        raise DataError(_shown(problems))
    together = np.sort(np.concatenate([np.asarray(row["sessions"], np.uint64) for row in found]))
    repeated = together[1:][together[1:] == together[:-1]]
    if repeated.size:
        holders = [row["source"] for row in found if np.isin(repeated[0], row["sessions"])]
        msg = (
            f"a conversation has rows in {_shown(holders)}, and {len(set(repeated)):,} "
            "conversations in all are spread over files; put each whole into one file "
            "(partition by a hash of its id), or give a context column instead of roles"
        )
        raise DataError(msg)


def _sessions(path: Path, columns: ColumnMap) -> dict[str, Any]:
    """Hashes of the conversations in a file whose rows have roles; 64 bits each."""
    hashes: set[int] = set()
    problem = ""
    try:
        for row in tables.read(path):
            if not (columns.has(row.values, "role") or columns.has(row.values, "speaker")):
                continue
            if not columns.has(row.values, "conversation_id"):
                msg = (
                    f"{path}, row {row.number}: a role, but no column for 'conversation_id'; "
                    "name it with --columns, or give a context column instead of roles"
                )
                raise DataError(msg)
            value = columns.value(row.values, "conversation_id")
            if value is not None and (name := str(value).strip()):
                digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest()
                hashes.add(int.from_bytes(digest))
    except CsClassifierError as error:
        problem = str(error)
    sessions = np.fromiter(hashes, np.uint64, len(hashes))
    return {"source": str(path), "sessions": sessions, "problem": problem}


def _scored(
    ray: ModuleType, todo: list[dict[str, str]], output: Path, options: Options, workers: int
) -> Any:  # noqa: ANN401
    """Names of files as they are finished, or what was wrong with them."""
    gpus = int(options.device == "cuda")
    resources = ray.cluster_resources()
    room = resources.get("GPU", 0) if gpus else resources.get("CPU", 1) // options.threads
    if gpus and not room:
        msg = "the Ray cluster has no GPU; leave out --device cuda"
        raise ConfigError(msg)
    dataset = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
        FileScorer,
        fn_constructor_args=(options, output),
        batch_size=1,
        concurrency=max(1, min(workers or int(room), len(todo))),
        num_cpus=options.threads,
        num_gpus=gpus,
    )
    return dataset.iter_rows()


class FileScorer:
    """A worker: loads the model once, then scores files."""

    def __init__(self, options: Options, output: Path) -> None:
        """Load the model."""
        self._options, self._output = options, output
        self._pipeline = options.load()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Score the files of a batch; a bad file does not stop the others."""
        pairs = list(zip(batch["source"], batch["name"], strict=True))
        problems = [self._score(Path(source), name) for source, name in pairs]
        return {"name": [name for _, name in pairs], "problem": problems}

    def _score(self, source: Path, name: str) -> str:
        summary = prediction.new_summary(self._pipeline, [source])
        try:
            prediction.predict_files(
                self._pipeline,
                [source],
                self._output / name,
                columns=self._options.columns,
                resume=True,
                chunk=self._options.chunk,
                summary=summary,
            )
        except CsClassifierError as error:
            return str(error) if str(source) in str(error) else f"{source}: {error}"
        chunks.write_json(self._output / NOTES / f"{name}.json", summary.state())
        return ""


def _shown(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN:,} more" if len(items) > _SHOWN else ""
    return "; ".join(items[:_SHOWN]) + more
