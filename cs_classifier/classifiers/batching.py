"""What all engines share: pairs of texts to batches of token ids, and logits back in order."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from tokenizers import Encoding, Tokenizer

    Feed = dict[str, npt.NDArray[np.int64]]  # model input to ids of shape (n, tokens)


ROUNDING = 0.3  # of a logit in bf16 near a threshold, at most; 0.2 was the largest in 18,000 lines


class Session(Protocol):
    """A model that one engine has loaded."""

    name: str  # engine, device and precision, as the summary of a run names it
    batch_tokens: int  # padded tokens of the batches that it runs best with

    def run(self, feed: Feed) -> npt.NDArray[np.float32]:
        """Logits of shape ``(n, n_outputs)`` of one batch."""
        ...


class BatchedEncoder:
    """Logits of (context, text) pairs of normalised text, by any engine."""

    exact: BatchedEncoder | None = None  # the same model in 32-bit floats, where this one rounds
    screen: BatchedEncoder | None = None  # the small model that clears lines before this one

    def __init__(
        self,
        tokenizer: Tokenizer,
        session: Session,
        *,
        pad_id: int,
        batch_tokens: int = 0,
        reason: str = "",
    ) -> None:
        """Put the parts together.

        Args:
            tokenizer: as :func:`read_tokenizer` makes it.
            session: the loaded model.
            pad_id: token id for padding.
            batch_tokens: padded tokens of a batch; 0 leaves it to the engine.
            reason: why this engine runs, in words for the user.
        """
        self._tokenizer, self.session, self._pad = tokenizer, session, pad_id
        self.batch_tokens = batch_tokens or session.batch_tokens
        self.name, self.reason = session.name, reason

    def with_budget(self, batch_tokens: int) -> BatchedEncoder:
        """The same model in batches of another size."""
        new = copy(self)
        new.batch_tokens = batch_tokens
        return new

    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> list[Encoding]:
        """Token ids per pair; offsets are not computed, which halves the time."""
        return self._tokenizer.encode_batch_fast(list(pairs))

    def run(self, encodings: Sequence[Encoding]) -> npt.NDArray[np.float64]:
        """Logits of tokenised pairs, in their order."""
        lengths = [len(encoding) for encoding in encodings]
        rows: list[int] = []
        parts = []
        for batch in token_batches(lengths, self.batch_tokens):
            rows += batch
            parts.append(self.session.run(padded([encodings[i] for i in batch], self._pad)))
        out = np.empty((len(rows), parts[0].shape[1] if parts else 0))
        if parts:
            out[rows] = np.concatenate(parts)
        return out

    def logits(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float64]:
        """Logits of shape ``(n, n_outputs)``, in the order of ``pairs``."""
        return self.run(self.tokenize(pairs))


def read_tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    """``tokenizer.json`` of an artifact, without padding; longer pairs are cut."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens, strategy="longest_first")
    return tokenizer


def padded(encodings: Sequence[Encoding], pad: int) -> Feed:
    """The inputs of a BERT model for one batch, as wide as its longest row."""
    lengths = np.array([len(encoding) for encoding in encodings])
    inside = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(inside.shape, pad, dtype=np.int64)
    types = np.zeros(inside.shape, dtype=np.int64)
    ids[inside] = np.concatenate([encoding.ids for encoding in encodings])
    types[inside] = np.concatenate([encoding.type_ids for encoding in encodings])
    return {
        "input_ids": ids,
        "attention_mask": inside.astype(np.int64),
        "token_type_ids": types,
    }


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
