"""How fast the pipeline is on this machine: per engine, batch size and length of the lines.

Times are wall-clock. Repeats of the compared settings are interleaved, so that a busy machine slows
all of them alike, and their median is reported. Texts are normalized anew in every repeat.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from cs_classifier.classifiers.screen import Screen
from cs_classifier.pipeline import CACHE, MAX_CONTEXT
from cs_classifier.prediction import predict_files
from cs_classifier.transcripts import ColumnMap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cs_classifier.classifiers.batching import BatchedEncoder
    from cs_classifier.pipeline import Pipeline
    from cs_classifier.records import Message

SHORT, MEDIUM = 10, 30  # characters: the longest line of either class
STAGES = ("normalize", "rules", "screen", "tokenize", "encoder", "ngrams", "other")


@dataclass(frozen=True)
class Speed:
    """Throughput of one setting on one class of lines."""

    engine: str
    batch_tokens: int
    lines: str  # all, short, medium or long
    turns: int  # distinct (context, text) pairs
    turns_per_second: float  # median over the repeats


@dataclass(frozen=True)
class EngineFigures:
    """What concerns an engine as a whole."""

    engine: str
    reason: str
    p50_ms: float  # latency of a single line
    p95_ms: float
    rss_mib: float  # that loading and running it has added to the process
    stages: Mapping[str, float]  # share of the time from file to file
    gflops: float | None  # of the encoder; None where the architecture is not known


def pairs(pipeline: Pipeline, messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Normalized (context, text) pairs, as the encoder reads them."""
    normal = pipeline.normalize
    return [(normal(m.context).text[-MAX_CONTEXT:], normal(m.text).text) for m in messages]


def length_classes(messages: Sequence[Message]) -> dict[str, list[Message]]:
    """The messages by length of the agent's line; empty classes are left out.

    >>> from cs_classifier.records import Message
    >>> {name: len(found) for name, found in length_classes([Message("好的")]).items()}
    {'all': 1, 'short': 1}
    """
    classes = {
        "all": list(messages),
        "short": [m for m in messages if len(m.text) <= SHORT],
        "medium": [m for m in messages if SHORT < len(m.text) <= MEDIUM],
        "long": [m for m in messages if len(m.text) > MEDIUM],
    }
    return {name: found for name, found in classes.items() if found}


def speeds(
    pipelines: Mapping[tuple[str, int], Pipeline], messages: Sequence[Message], *, repeat: int
) -> list[Speed]:
    """Throughput of each pipeline, keyed by engine and batch size, on each length class."""
    classes = length_classes(messages)
    cells = [(setting, name) for setting in pipelines for name in classes]
    taken: dict[tuple[tuple[str, int], str], list[float]] = {cell: [] for cell in cells}
    for _ in range(repeat):
        for setting, name in cells:
            pipeline = fresh(pipelines[setting])
            start = time.perf_counter()
            pipeline.predict(classes[name])
            taken[setting, name].append(time.perf_counter() - start)
    return [
        Speed(*setting, name, len(classes[name]), len(classes[name]) / statistics.median(seconds))
        for (setting, name), seconds in taken.items()
    ]


def fresh(pipeline: Pipeline, encoder: BatchedEncoder | None = None) -> Pipeline:
    """The pipeline without what it remembers of texts, and perhaps with another encoder."""
    new = copy(pipeline)
    new.normalize = lru_cache(CACHE)(pipeline.normalize.__wrapped__)
    new.encoder = encoder or pipeline.encoder
    return new


def latencies(pipeline: Pipeline, messages: Sequence[Message]) -> tuple[float, float]:
    """Median and 95th percentile of the milliseconds that a single line takes."""
    pipeline = fresh(pipeline)
    taken = []
    for message in messages:
        start = time.perf_counter()
        pipeline.predict([message])
        taken.append(1000 * (time.perf_counter() - start))
    p50, p95 = np.percentile(taken, [50, 95])
    return float(p50), float(p95)


def stage_seconds(pipeline: Pipeline, source: Path, target: Path) -> dict[str, float]:
    """Seconds that each of ``STAGES`` takes when ``source`` is scored into ``target``.

    ``other`` is reading, calibrating, deciding, explaining and writing. The search for evidence
    runs the other stages again, and its share of them is counted there.
    """
    spent = dict.fromkeys(STAGES, 0.0)

    def timed(stage: str, function: Callable[[Any], Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:  # noqa: ANN401
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                spent[stage] += time.perf_counter() - start

        return run

    watched: Any = fresh(pipeline)
    encoder = watched.encoder
    tokenize, run = timed("tokenize", encoder.tokenize), timed("encoder", encoder.run)
    watched.encoder = SimpleNamespace(name=encoder.name, logits=lambda found: run(tokenize(found)))
    if pipeline.screen is not None:
        small = SimpleNamespace(logits=timed("screen", pipeline.screen.encoder.logits))
        watched.screen = Screen(small, pipeline.screen.limits)
    if pipeline.exact is not None:
        watched.exact = SimpleNamespace(logits=timed("encoder", pipeline.exact.logits))
    watched.rules = SimpleNamespace(match=timed("rules", pipeline.rules.match))
    watched.normalize = timed("normalize", watched.normalize)
    if pipeline.ngrams is not None:
        watched.ngrams = SimpleNamespace(logits=timed("ngrams", pipeline.ngrams.logits))
    start = time.perf_counter()
    predict_files(watched, [source], target, columns=ColumnMap())
    spent["other"] = time.perf_counter() - start - sum(spent.values())
    return spent


def operations(config: Mapping[str, Any], lengths: Sequence[int]) -> float | None:
    """Floating-point operations of a BERT encoder on rows of so many tokens, without padding.

    Products with the four attention and two feed-forward matrices, and of the attention itself.

    >>> operations({"hidden_size": 2, "intermediate_size": 8, "num_hidden_layers": 3}, [5])
    2040.0
    """
    try:
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        layers = config["num_hidden_layers"]
    except KeyError:
        return None
    n = np.asarray(lengths, dtype=np.float64)
    linear = n.sum() * (8 * hidden**2 + 4 * hidden * inner)
    return float(layers * (linear + 4 * hidden * (n**2).sum()))


def encoder_gflops(pipeline: Pipeline, folder: Path, messages: Sequence[Message]) -> float | None:
    """Billions of operations per second of the encoder alone, on these messages."""
    encoder: Any = pipeline.encoder
    encodings = encoder.tokenize(pairs(pipeline, messages))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    total = operations(config, [len(encoding) for encoding in encodings])
    start = time.perf_counter()
    encoder.run(encodings)
    return total and total / (time.perf_counter() - start) / 1e9


_PEAK = """
import sys, time
n = 1024
if sys.argv[1] == "bf16":
    import torch
    a = torch.ones((n, n), dtype=torch.bfloat16)
else:
    import numpy
    a = numpy.ones((n, n), dtype="float32")
def seconds():
    start = time.perf_counter()
    a @ a
    return time.perf_counter() - start
print(2 * n**3 / min(seconds() for _ in range(20)) / 1e9)
"""


def matrix_peak(precision: str, *, threads: int = 0) -> float:
    """GFLOP/s of a large matrix product: fp32 by numpy, bf16 by torch.

    It runs in a process of its own, where the number of threads can still be set.
    """
    limits = {} if not threads else {"OMP_NUM_THREADS": str(threads)}
    limits |= {
        f"{library}_NUM_THREADS": n for library in ("OPENBLAS", "MKL") for n in limits.values()
    }
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, precision],
        env=os.environ | limits,
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def rss_mib() -> float:
    """Resident memory of this process; its peak where the system tells no more."""
    path = Path("/proc/self/statm")
    if path.is_file():
        return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
