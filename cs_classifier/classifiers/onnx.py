"""The fine-tuned encoder in ONNX Runtime: what ``predict`` runs, without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

BATCH_TOKENS = 2048  # padded tokens in a batch: enough to fill two cores, small enough for cache


class OnnxEncoder:
    """Logits of (context, text) pairs of normalised text."""

    def __init__(self, folder: Path, *, max_tokens: int, pad_id: int, threads: int = 0) -> None:
        """Load ``model.onnx`` and ``tokenizer.json`` of an artifact ``folder``.

        Args:
            folder: the artifact.
            max_tokens: longer pairs are cut.
            pad_id: token id for padding.
            threads: 0 means all cores.
        """
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens, strategy="longest_first")
        self._pad = pad_id
        self.n_outputs: int = self._session.get_outputs()[0].shape[1]

    def logits(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float64]:
        """Logits of shape ``(n, n_outputs)``, in the order of ``pairs``."""
        encoded = self._tokenizer.encode_batch(list(pairs))
        ids = [e.ids for e in encoded]
        types = [e.type_ids for e in encoded]
        out = np.zeros((len(ids), self.n_outputs))
        for batch in token_batches([len(row) for row in ids], BATCH_TOKENS):
            out[batch] = self._run([ids[i] for i in batch], [types[i] for i in batch])
        return out

    def _run(self, ids: list[list[int]], types: list[list[int]]) -> npt.NDArray[np.float32]:
        width = max(map(len, ids))
        feed = {
            name: np.full((len(ids), width), fill, dtype=np.int64)
            for name, fill in (
                ("input_ids", self._pad),
                ("attention_mask", 0),
                ("token_type_ids", 0),
            )
        }
        for i, (row, kind) in enumerate(zip(ids, types, strict=True)):
            feed["input_ids"][i, : len(row)] = row
            feed["attention_mask"][i, : len(row)] = 1
            feed["token_type_ids"][i, : len(row)] = kind
        logits: npt.NDArray[np.float32] = self._session.run(["logits"], feed)[0]
        return logits


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Row numbers of batches of similar length whose padded size stays within ``budget``.

    >>> list(token_batches([5, 1, 4], 7))
    [[1], [2], [0]]
    >>> list(token_batches([5, 1, 4], 10))
    [[1, 2], [0]]
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and lengths[i] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
