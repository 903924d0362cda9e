"""A linear model over character n-grams, added to the encoder's logits.

The encoder understands a sentence; the n-grams remember the words of every training line. Their
errors differ, so the sum of both logits is better than either ("wide and deep", Cheng et al. 2016).
Lines and contexts are weighted as in the TF-IDF baseline: sublinear term frequency times inverse
document frequency, each scaled to unit length.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Rows = npt.NDArray[np.intp]

FILE = "ngrams.safetensors"
LINE, CONTEXT = 4, 3  # longest n-gram of the agent's line and of the customer's message
CONTEXT_MARK, START, END = "\x1e", "\x02", "\x03"


def ngrams(pair: tuple[str, str]) -> tuple[Counter[str], Counter[str]]:
    r"""N-grams of the line and of its context, with their counts.

    >>> sorted(ngrams(("", "好"))[0])
    ['\x02', '\x02好', '\x02好\x03', '\x03', '好', '好\x03']
    """
    context, text = pair
    return (
        Counter(_parts(f"{START}{text}{END}", LINE)),
        Counter(CONTEXT_MARK + part for part in _parts(context, CONTEXT)),
    )


def _parts(text: str, longest: int) -> list[str]:
    return [
        text[at : at + n] for n in range(1, longest + 1) for at in range(max(0, len(text) - n + 1))
    ]


class NgramModel:
    """Weights per n-gram and label, ready to be added to an encoder's logits."""

    def __init__(self, vocabulary: Sequence[str], idf: Array, weights: Array, bias: Array) -> None:
        """Store a fitted model.

        Args:
            vocabulary: n-grams, those of contexts with ``CONTEXT_MARK`` before them.
            idf: inverse document frequencies ``(n_ngrams,)``.
            weights: ``(n_ngrams, n_labels)``.
            bias: ``(n_labels,)``.
        """
        self.vocabulary = {ngram: row for row, ngram in enumerate(vocabulary)}
        self.idf, self.weights, self.bias = idf, weights, bias

    @classmethod
    def load(cls, path: Path) -> NgramModel:
        """Read what :meth:`save` wrote."""
        stored = load_file(path)
        vocabulary = stored["vocabulary"].tobytes().decode().split("\n")
        idf, weights, bias = (
            stored[name].astype(np.float64) for name in ("idf", "weights", "bias")
        )
        return cls(vocabulary, idf, weights, bias)

    def save(self, path: Path) -> None:
        """Write one safetensors file; weights as 16-bit floats."""
        text = "\n".join(self.vocabulary).encode()
        tensors = {
            "vocabulary": np.frombuffer(text, dtype=np.uint8),
            "idf": self.idf.astype(np.float16),
            "weights": self.weights.astype(np.float16),
            "bias": self.bias.astype(np.float32),
        }
        save_file(tensors, path)

    def features(self, blocks: Iterable[Counter[str]]) -> tuple[Rows, Array, Rows]:
        """Known n-grams of all ``blocks``, each block scaled to unit length.

        Returns:
            Rows of the weights and values, one per known n-gram, and where each block begins.
        """
        rows: list[int] = []
        counts: list[int] = []
        starts: list[int] = []
        known = self.vocabulary.get
        for block in blocks:
            starts.append(len(rows))
            for ngram, count in block.items():
                if (row := known(ngram)) is not None:
                    rows.append(row)
                    counts.append(count)
        at = np.array(rows, dtype=np.intp)
        values = (1 + np.log(counts)) * self.idf[at]
        lengths = np.diff([*starts, len(rows)])
        squares = np.array(
            [values[s : s + n] @ values[s : s + n] for s, n in zip(starts, lengths, strict=True)]
        )
        return at, values / np.repeat(np.sqrt(squares), lengths), np.array(starts, dtype=np.intp)

    def logits(self, pairs: Sequence[tuple[str, str]]) -> Array:
        """Logits ``(n, n_labels)`` of (context, text) pairs of normalised text."""
        rows, values, starts = self.features(block for pair in pairs for block in ngrams(pair))
        weighted = values[:, None] * self.weights[rows]
        sums = np.vstack([np.zeros((1, weighted.shape[1])), weighted.cumsum(axis=0)])
        ends = [*starts[2::2], len(rows)]  # a pair has two blocks
        logits: Array = self.bias + sums[ends] - sums[starts[::2]]
        return logits
