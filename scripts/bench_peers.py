"""Time predict beside what one would otherwise run, on the same weights and the same pairs.

    python scripts/bench_peers.py [--lines FILE.jsonl] [--limit 500] [--repeat 5]
        [--threads 0] [--engine auto] [--no-baselines] [--processor-time]

Peers: ``transformers.pipeline("text-classification")`` in fp32 with batches of 32, a plain ONNX
Runtime loop (batches of 32 in order of arrival, padded), TF-IDF with logistic regression, and the
regex rules. Ours reads a file, scores it and writes a file, evidence included; the encoders among
the peers only score pairs that are in memory and normalized already, which favors them. Runs are
interleaved; medians are printed. Loading and fitting are not timed. FILE has one object per line
with "text" and perhaps "context"; by default the project's natural lines are taken.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Pairs = Sequence[tuple[str, str]]

ROOT = Path(__file__).resolve().parent.parent
BATCH = 32


class Transformers:
    """The pipeline of ``transformers``, as its documentation uses it."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        """Load the artifact as a ``transformers`` model."""
        import torch
        from transformers import (
            AutoModelForSequenceClassification,
            PreTrainedTokenizerFast,
            pipeline,
        )

        if threads:
            torch.set_num_threads(threads)
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / "tokenizer.json"),
            model_max_length=manifest["max_tokens"],
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        )
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(manifest["pad_id"])
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
        self._names = [model.config.id2label[i] for i in range(model.config.num_labels)]
        self._pipeline = pipeline(
            "text-classification",
            model=model,
            tokenizer=tokenizer,
            device="cpu",
            top_k=None,
            batch_size=BATCH,
            function_to_apply="sigmoid",
        )

    def __call__(self, pairs: Pairs) -> npt.NDArray[np.float64]:
        """Probabilities before calibration, shape ``(n, n_outputs)``."""
        rows = self._pipeline([{"text": c, "text_pair": t} for c, t in pairs], truncation=True)
        scores = [{entry["label"]: entry["score"] for entry in row} for row in rows]
        return np.array([[score[name] for name in self._names] for score in scores])


class PlainOnnx:
    """ONNX Runtime as most people would call it."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        """Load graph and tokenizer."""
        import onnxruntime
        from tokenizers import Tokenizer

        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(manifest["max_tokens"])
        self._tokenizer.enable_padding(pad_id=manifest["pad_id"])

    def __call__(self, pairs: Pairs) -> npt.NDArray[np.float64]:
        """Logits of shape ``(n, n_outputs)``."""
        out = []
        for first in range(0, len(pairs), BATCH):
            batch = self._tokenizer.encode_batch(list(pairs[first : first + BATCH]))
            feed = {
                "input_ids": np.array([e.ids for e in batch]),
                "attention_mask": np.array([e.attention_mask for e in batch]),
                "token_type_ids": np.array([e.type_ids for e in batch]),
            }
            out.append(self._session.run(["logits"], feed)[0])
        return np.concatenate(out)


def read_rows(path: Path | None, limit: int) -> list[dict[str, str]]:
    """Distinct (context, text) rows of a file, or of the project's natural batches."""
    paths = [path] if path else sorted((ROOT / "data").glob("*/natural_*.jsonl"))
    rows = {}
    for source in paths:
        for line in source.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            pair = {"context": row.get("context") or "", "text": row["text"]}
            rows.setdefault(tuple(pair.values()), pair)
    return list(rows.values())[:limit]


def contestants(
    folder: Path, rows: list[dict[str, str]], work: Path, *, threads: int, engine: str
) -> dict[str, Callable[[], object]]:
    """Name to a function that scores all rows once: the engines, ours among them."""
    from cs_classifier import artifact, benchmark
    from cs_classifier.prediction import predict_files
    from cs_classifier.records import Message
    from cs_classifier.transcripts import ColumnMap

    messages = [Message(row["text"], row["context"]) for row in rows]
    source, target = work / "rows.jsonl", work / "scored.jsonl"
    source.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    ours = artifact.load(folder, threads=threads, engine=engine)
    pairs = benchmark.pairs(ours, messages)
    peer, plain = Transformers(folder, threads=threads), PlainOnnx(folder, threads=threads)
    return {
        "transformers.pipeline": lambda: peer(pairs),
        "plain ONNX Runtime": lambda: plain(pairs),
        f"predict ({ours.encoder.name})": lambda: predict_files(
            benchmark.fresh(ours), [source], target, columns=ColumnMap()
        ),
    }


def baselines(folder: Path, rows: list[dict[str, str]]) -> dict[str, Callable[[], object]]:
    """Name to a function that scores all rows once, for the two classifiers without a network."""
    from cs_classifier import artifact, datasets
    from cs_classifier.classifiers.regex import RegexClassifier
    from cs_classifier.classifiers.tfidf import TfidfClassifier
    from cs_classifier.records import Message

    ours = artifact.load(folder)
    messages = [Message(row["text"], row["context"]) for row in rows]
    train = datasets.gold(datasets.load(datasets.files([ROOT / "data/train"]), ours.label_set))
    gold = np.array([ours.label_set.row(line.labels) for line in train], dtype=np.float64)
    tfidf = TfidfClassifier.fit([line.message for line in train], gold)
    regex = RegexClassifier(ours.rules, ours.label_set)
    return {
        "TF-IDF": lambda: tfidf.scores(messages),
        "regex": lambda: regex.scores(messages),
    }


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "models/default")
    parser.add_argument("--lines", type=Path)
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="instead of wall-clock, for a busy machine; fair with --threads 1",
    )
    options = parser.parse_args()
    clock = time.process_time if options.processor_time else time.perf_counter
    rows = read_rows(options.lines, options.limit)
    with tempfile.TemporaryDirectory() as work:
        runs = contestants(
            options.model, rows, Path(work), threads=options.threads, engine=options.engine
        )
        if not options.no_baselines:
            runs |= baselines(options.model, rows)
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.repeat):
            for name, run in runs.items():
                start = clock()
                run()
                taken[name].append(clock() - start)
    base = statistics.median(taken["transformers.pipeline"])
    print(f"{len(rows)} distinct turns, median of {options.repeat}")
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        print(f"{name:28}{len(rows) / median:12,.1f} turns/s{base / median:10.2f} x")


if __name__ == "__main__":
    main()
