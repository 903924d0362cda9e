"""The screen: what it clears is clear, what it suspects is scored as without it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cs_classifier import artifact, datasets, training
from cs_classifier.classifiers import screen
from cs_classifier.classifiers.screen import NEVER, ScreenLimits
from cs_classifier.config import ScreenConfig, TrainConfig
from cs_classifier.errors import ConfigError
from cs_classifier.labels import load_labels
from cs_classifier.records import Message
from cs_classifier.training.export import safetensors_index

LABELS = load_labels()


@pytest.fixture(scope="module")
def folder(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny artifact with a screen of two of its three layers."""
    root = tmp_path_factory.mktemp("screened")
    config = ScreenConfig(layers=2, epochs=6, learning_rate=3e-3, missed=0.0)
    training.train(
        tiny_config.model_copy(update={"screen": config}), root / "tiny", work=root / "work"
    )
    return root / "tiny"


@pytest.fixture(scope="module")
def messages(corpus: Path) -> list[Message]:
    lines = datasets.load([corpus / "test.jsonl", corpus / "train.jsonl"], LABELS)
    return [line.message for line in lines]


def test_the_screen_clears_and_reports_nothing(folder: Path, messages: list[Message]) -> None:
    pipeline = artifact.load(folder, engine="onnx")
    quick, slow = (pipeline.score(messages, screened=screened) for screened in (True, False))
    differs = np.abs(quick.logits - slow.logits).max(axis=1) > 1e-4
    assert 0 < differs.sum() < len(messages), "it must clear some lines, and not all"
    levels = pipeline.decision.levels(
        pipeline.calibrator.transform(quick.logits, quick.strengths), quick.strengths
    )
    assert not levels[differs].any()
    assert not quick.strengths[differs].any(), "what a rule hits is scored in full"
    assert levels[~differs].any()


def test_the_screen_stays_out_where_it_is_not_wanted(folder: Path, messages: list[Message]) -> None:
    full = artifact.load(folder, engine="onnx", screened=False)
    assert full.screen is None
    assert artifact.load(folder, engine="torch").screen is None
    asked = artifact.load(folder, engine="onnx").probabilities(messages)
    np.testing.assert_allclose(asked, full.probabilities(messages), atol=1e-5)


def test_a_long_text_is_screened_window_by_window(folder: Path) -> None:
    pipeline = artifact.load(folder, engine="onnx")
    tail = pipeline.predict([Message("好的呢" * 60 + "加微信abc12345", "怎么联系")])[0]
    assert tail.outcomes[LABELS.index("off_platform_contact")] != "clear"


def test_weights_that_the_model_has_are_not_stored_twice(folder: Path) -> None:
    own, model = (
        safetensors_index(folder / name) for name in (screen.WEIGHTS, "model.safetensors")
    )
    assert own
    assert not [name for name in own if "embeddings" in name]
    assert [name for name in model if "word_embeddings" in name]


def test_recalibrating_makes_the_limits_only_stricter(
    folder: Path, corpus: Path, tmp_path: Path
) -> None:
    training.recalibrate(folder, [corpus / "test.jsonl"], tmp_path / "mine")
    before, after = (
        ScreenLimits.model_validate_json((path / screen.LIMITS).read_bytes())
        for path in (folder, tmp_path / "mine")
    )
    assert after.missed == before.missed
    for old, new in zip(before.labels, after.labels, strict=True):
        assert new.limit <= old.limit


def test_a_screen_must_be_smaller_than_its_model(tiny_config: TrainConfig, tmp_path: Path) -> None:
    config = tiny_config.model_copy(update={"screen": ScreenConfig(layers=3)})
    with pytest.raises(ConfigError, match=r"screen\.layers is 3, but the model itself has 3"):
        training.train(config, tmp_path / "model", work=tmp_path / "work")


LOGITS = arrays(np.float64, (60, 2), elements=st.floats(-9, 9, width=32))


@given(LOGITS, LOGITS, arrays(np.int64, (60, 2), elements=st.integers(0, 2)), st.floats(0, 0.3))
def test_limits_miss_no_more_than_was_asked_for(logits, full, levels, missed) -> None:
    limits = ScreenLimits.choose(logits, full, levels, missed=missed)
    suspected = limits.suspects(logits)
    for j, label in enumerate(limits.labels):
        reported = levels[:, j] > 0
        assert (reported & ~suspected[:, j]).sum() <= missed * reported.sum()
        assert label.slope > 0
        assert reported.any() or suspected[:, j].all()


@given(LOGITS, LOGITS)
def test_the_stricter_limits_clear_what_both_clear(logits, other) -> None:
    levels = (logits > 0).astype(np.int64)
    first = ScreenLimits.choose(logits, logits, levels, missed=0.1)
    second = ScreenLimits.choose(other, other, (other > 0).astype(np.int64), missed=0.1)
    both = first.stricter(second)
    for j, (one, two, of_both) in enumerate(
        zip(first.labels, second.labels, both.labels, strict=True)
    ):
        wanted = one.limit if two.limit == NEVER else min(one.limit, two.limit)
        assert of_both.limit == wanted, j


def test_a_label_without_lines_is_filled_by_others() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 2))
    levels = (logits > 0).astype(np.int64)
    some = ScreenLimits.choose(logits, logits, levels * [1, 0], missed=0)
    both = ScreenLimits.choose(logits, logits, levels, missed=0)
    assert some.labels[1].limit == NEVER
    assert some.filled_by(both) == both
