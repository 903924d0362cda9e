from pathlib import Path

import numpy as np
import pytest

from cs_classifier import artifact
from cs_classifier.classifiers import engines
from cs_classifier.classifiers.batching import BatchedEncoder, token_batches
from cs_classifier.errors import ConfigError, MissingExtraError
from cs_classifier.matching import PatternSet, compile_pattern
from tests.conftest import LINES

PAIRS = [(context, text * copies) for context, text, _ in LINES for copies in (1, 3)]
ALL = frozenset({"onnx", "openvino", "torch"})
AMX = frozenset({"avx2", "avx512f", "avx512_bf16", "amx_bf16"})
AVX512 = frozenset({"avx2", "avx512f", "avx512_bf16"})
AVX2 = frozenset({"avx2", "fma"})


def encoder(folder: Path, engine: engines.Engine) -> BatchedEncoder:
    manifest = artifact.read_manifest(folder)
    return engines.load(
        folder,
        max_tokens=manifest.max_tokens,
        pad_id=manifest.pad_id,
        labels=5,
        engine=engine,
        threads=1,
    )


@pytest.fixture(scope="module")
def onnx(artifact_folder: Path) -> BatchedEncoder:
    return encoder(artifact_folder, "onnx")


@pytest.mark.parametrize(("engine", "library"), [("torch", "torch"), ("openvino", "openvino")])
def test_engines_agree(artifact_folder: Path, onnx: BatchedEncoder, engine, library) -> None:
    pytest.importorskip(library)
    other = encoder(artifact_folder, engine)
    assert other.name.startswith(engine)
    tolerance = 0.05 if other.name.endswith("bf16") else 1e-4
    np.testing.assert_allclose(onnx.logits(PAIRS), other.logits(PAIRS), atol=tolerance)


@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_batch_equals_single_and_order_is_kept(onnx: BatchedEncoder, budget: int) -> None:
    alone = np.concatenate([onnx.logits([pair]) for pair in PAIRS])
    assert np.ptp(alone, axis=0).max() > 0.01  # else any order would do
    found = onnx.with_budget(budget).logits(PAIRS)
    np.testing.assert_allclose(found, alone, atol=1e-4)


def test_only_an_engine_that_rounds_has_an_exact_one(artifact_folder: Path, monkeypatch) -> None:
    pytest.importorskip("torch")
    assert (
        encoder(artifact_folder, "torch").exact is None or engines.BF16_FLAGS & engines.cpu_flags()
    )
    monkeypatch.setattr(engines, "cpu_flags", lambda: AVX512)
    rounding = encoder(artifact_folder, "torch")
    assert (rounding.name, rounding.exact.name) == ("torch-cpu-bf16", "torch-cpu")
    assert rounding.with_budget(64).exact is rounding.exact
    assert artifact.load(artifact_folder, engine="torch").exact is not None


@pytest.mark.parametrize(
    ("error", "labels", "near"),
    [(0.1, 5, True), (0.5, 5, False), (float("nan"), 5, False), (0.5, 4, True)],
)
def test_an_engine_that_is_far_off_on_a_label_is_noticed(
    onnx: BatchedEncoder, error, labels, near
) -> None:
    class Off:
        name, batch_tokens = "off", 512

        def run(self, feed):
            logits = onnx.session.run(feed)
            logits[:, 4] += np.float32(error)
            return logits

    off = BatchedEncoder(onnx._tokenizer, Off(), pad_id=onnx._pad)
    assert engines.rounds_little(off, onnx, labels) is near


def test_openvino_pins_no_thread(artifact_folder: Path) -> None:
    """Pinned, the workers of a Ray job were all bound to the same core."""
    pytest.importorskip("openvino")
    compiled = encoder(artifact_folder, "openvino").session._request.get_compiled_model()
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


def test_no_pairs_no_rows(onnx: BatchedEncoder) -> None:
    assert len(onnx.logits([])) == 0


def test_a_batch_is_never_wider_than_its_budget_allows(onnx: BatchedEncoder) -> None:
    widths = []

    class Recorder:
        name, batch_tokens = "recorder", 64

        def run(self, feed):
            widths.append(feed["input_ids"].shape)
            assert {k: v.shape for k, v in feed.items()} == dict.fromkeys(feed, widths[-1])
            return np.zeros((widths[-1][0], 5), dtype=np.float32)

    recording = BatchedEncoder(onnx._tokenizer, Recorder(), pad_id=0)
    assert recording.logits(PAIRS).shape == (len(PAIRS), 5)
    lengths = [len(e) for e in recording.tokenize(PAIRS)]
    assert [rows for rows, _ in widths] == [len(b) for b in token_batches(lengths, 64)]
    assert all(rows * width <= 64 or rows == 1 for rows, width in widths)


@pytest.mark.parametrize(
    ("engine", "device", "flags", "installed", "expected"),
    [
        ("auto", "cpu", AVX2, ALL, ("onnx", False)),
        ("auto", "cpu", AVX512, ALL, ("openvino", True)),
        ("auto", "cpu", AMX, ALL, ("openvino", True)),
        ("auto", "cpu", AMX, ALL - {"openvino"}, ("onnx", False)),
        ("auto", "cpu", frozenset(), ALL, ("onnx", False)),
        ("onnx", "cpu", AMX, ALL, ("onnx", False)),
        ("openvino", "cpu", AVX2, ALL, ("openvino", False)),
        ("openvino", "cpu", AMX, ALL, ("openvino", True)),
        ("torch", "cpu", AVX2, ALL, ("torch", False)),
        ("torch", "cpu", AVX512, ALL, ("torch", True)),
        ("auto", "cuda", AVX2, ALL, ("torch", True)),
        ("auto", "cuda", AVX2, ALL - {"torch"}, ("onnx", False)),
        ("onnx", "cuda", AVX2, ALL, ("onnx", False)),
    ],
)
def test_the_choice_follows_the_flags(engine, device, flags, installed, expected) -> None:
    choice = engines.choose(engine, device, flags=flags, installed=installed)
    assert (choice.engine, choice.bf16) == expected
    assert choice.device == device
    assert choice.engine in choice.reason
    assert "\n" not in choice.reason


def test_openvino_on_cuda_is_refused() -> None:
    with pytest.raises(ConfigError, match="CUDA"):
        engines.choose("openvino", "cuda", flags=AVX2, installed=ALL)


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_a_missing_gpu_is_said(artifact_folder: Path, engine) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(ConfigError, match=r"CUDA|GPU"):
        artifact.load(artifact_folder, engine=engine, device="cuda")


def test_a_missing_engine_names_its_extra(artifact_folder: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"\.\[openvino\]"):
        artifact.load(artifact_folder, engine="openvino")


def test_a_loaded_pipeline_says_what_runs_it(artifact_folder: Path) -> None:
    pipeline = artifact.load(artifact_folder, engine="onnx")
    assert pipeline.encoder.name == "onnx"
    assert pipeline.encoder.reason == "onnx as asked for"


@pytest.mark.gpu
def test_a_gpu_gives_the_same_logits(artifact_folder: Path, onnx: BatchedEncoder) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    gpu = artifact.load(artifact_folder, engine="torch", device="cuda").encoder
    np.testing.assert_allclose(onnx.logits(PAIRS), gpu.logits(PAIRS), atol=0.05)


PATTERNS = ["没有?票", r"\d{3,}", "加[^,]{0,3}(?:微信|QQ)", "^好的$", "[vw]x", "微信|QQ|a"]
TEXTS = ["", "没票", "没有票 123", "加我的微信", "加我QQ", "好的", "好的呢", "VX", "x", "\ud800票"]


def test_a_pattern_set_finds_what_each_pattern_finds() -> None:
    found = PatternSet(PATTERNS, "test")
    alone = [compile_pattern(pattern, "test") for pattern in PATTERNS]
    for text in TEXTS[:-1]:
        assert found.matching(text) == [i for i, p in enumerate(alone) if p.search(text)]
    assert found.matching(TEXTS[-1]) == []


def test_a_set_too_large_for_one_automaton_is_split() -> None:
    rng = np.random.default_rng(0)
    words = ["".join(map(chr, row)) for row in rng.integers(0x4E00, 0x59B8, (18_000, 4))]
    patterns = ["|".join(words[i : i + 600]) for i in range(0, len(words), 600)]
    found = PatternSet([*patterns, "好吗"], "test")
    assert len(found._filters) > 1
    for number in (0, 13, len(patterns) - 1):
        assert number in found.matching(f"好{words[600 * number + 5]}啊")
    assert found.matching("好吗") == [len(patterns)]
    assert found[len(patterns)].search("好吗")
