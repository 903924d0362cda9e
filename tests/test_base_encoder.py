"""The base encoder is built from a weight file in the E5S1 format; a small one is made here."""

import struct
from pathlib import Path

import numpy as np
import pytest

from cs_classifier.errors import ArtifactError
from cs_classifier.training import base_encoder

HIDDEN, LAYERS, HEADS, FFN, POSITIONS, TYPES = 32, 1, 2, 64, 16, 2
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "发票", "亲", "發票", "vx", "Gesellschaft", "😊"]


def pack_q4(nibbles: np.ndarray, scale: float) -> bytes:
    """Blocks of 32 nibbles (0..15) that all have one scale."""
    blocks = nibbles.reshape(-1, 32)
    out = b""
    for block in blocks:
        out += np.float16(scale).tobytes() + (block[:16] | (block[16:] << 4)).astype("u1").tobytes()
    return out


def weight_file() -> tuple[bytes, np.ndarray]:
    rng = np.random.default_rng(0)
    words = rng.integers(0, 16, (len(PIECES), HIDDEN))
    shapes = {"fi": (FFN, HIDDEN), "fo": (HIDDEN, FFN)}
    tensors: dict[str, tuple[int, bytes]] = {"emb.word": (1, pack_q4(words, 0.5))}
    for name, size in (("emb.pos", POSITIONS * HIDDEN), ("emb.type", TYPES * HIDDEN)):
        tensors[name] = (0, rng.normal(size=size).astype("<f4").tobytes())
    ones, zeros = np.ones(HIDDEN, "<f4").tobytes(), np.zeros(HIDDEN, "<f4").tobytes()
    tensors |= {"emb.ln.w": (0, ones), "emb.ln.b": (0, zeros)}
    for short in ("q", "k", "v", "ao", "fi", "fo"):
        rows, columns = shapes.get(short, (HIDDEN, HIDDEN))
        nibbles = rng.integers(0, 16, rows * columns)
        tensors[f"l0.{short}.w"] = (1, pack_q4(nibbles, 0.1))
        tensors[f"l0.{short}.b"] = (0, np.zeros(rows, "<f4").tobytes())
    for short in ("aln", "oln"):
        tensors |= {f"l0.{short}.w": (0, ones), f"l0.{short}.b": (0, zeros)}
    blob = "".join(PIECES).encode()
    ends = np.cumsum([0] + [len(piece.encode()) for piece in PIECES]).astype("<u4")
    head = b"E5S1" + struct.pack(
        "<I7i", 1, HIDDEN, LAYERS, HEADS, FFN, len(PIECES), POSITIONS, TYPES
    )
    head += struct.pack("<fi", 1e-12, 32) + struct.pack("<5i", len(PIECES), 0, 2, 1, 3)
    head += struct.pack("<Q", len(blob)) + ends.tobytes()
    head += (-np.arange(len(PIECES), dtype="<f4")).tobytes() + blob + struct.pack("<iI", 0, 0)
    directory_size = 4 + sum(2 + len(n) + 1 + 4 + 16 for n in tensors)
    offset = len(head) + directory_size
    directory, data = struct.pack("<i", len(tensors)), b""
    for name, (kind, raw) in tensors.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, 0, offset + len(data), len(raw))
        data += raw
    return head + directory + data, (words - 8) * 0.5


def test_dequantised_and_pruned(tmp_path: Path) -> None:
    raw, words = weight_file()
    (tmp_path / "source.bin").write_bytes(raw)
    folder = base_encoder.build(tmp_path / "encoder", source=tmp_path / "source.bin")
    from tokenizers import Tokenizer
    from transformers import BertModel

    model, info = BertModel.from_pretrained(
        folder, add_pooling_layer=False, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    kept = [i for i, piece in enumerate(PIECES) if piece not in {"發票", "Gesellschaft"}]
    np.testing.assert_allclose(
        model.embeddings.word_embeddings.weight.detach().numpy(), words[kept], rtol=1e-3
    )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("亲发票").tokens == ["<s>", "▁", "亲", "发票", "</s>"]
    assert tokenizer.encode("亲", "vx").tokens.count("</s>") == 3


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "source.bin").write_bytes(weight_file()[0])
    folders = [base_encoder.build(tmp_path / n, source=tmp_path / "source.bin") for n in "ab"]
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.bin").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(ArtifactError, match="E5S1"):
        base_encoder.build(tmp_path / "encoder", source=tmp_path / "other.bin")


def test_other_names_pass_through() -> None:
    assert base_encoder.resolve("hfl/chinese-macbert-base") == "hfl/chinese-macbert-base"
