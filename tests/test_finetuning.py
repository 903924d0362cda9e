from pathlib import Path

import numpy as np
import pytest
import torch

from cs_classifier.config import FineTuneConfig, ModelConfig, TrainConfig
from cs_classifier.labels import load_labels
from cs_classifier.training import finetuning
from tests.conftest import LINES

LABELS = load_labels()
PAIRS = [(context, text) for context, text, _ in LINES] * 4
GOLD = np.array([LABELS.row([label] if label else []) for *_, label in LINES] * 4, dtype=float)


def run(config: FineTuneConfig, base: Path, work: Path, **options) -> finetuning.FineTuned:
    lines = {"train": lambda _epoch: (PAIRS, GOLD), "validation": (PAIRS, GOLD)}
    return finetuning.fine_tune(
        config, ModelConfig(base=str(base)), LABELS, work=work, **(lines | options)
    )


def test_every_row_is_in_one_batch_of_similar_length() -> None:
    lengths = [5, 40, 6, 41, 7, 39, 4]
    data = finetuning.Encoded(
        [[1] * n for n in lengths], [[0] * n for n in lengths], np.zeros((7, 5))
    )
    for rng in (None, np.random.default_rng(0)):
        cuts = list(finetuning.batches(data, 2, rng))
        assert sorted(i for cut in cuts for i in cut) == list(range(7))
    assert list(finetuning.batches(data, 4)) == [[6, 0, 2, 4], [5, 1, 3]]


def test_a_tiny_model_learns(tiny_base: Path, tmp_path: Path, tiny_config: TrainConfig) -> None:
    config = tiny_config.train.model_copy(update={"epochs": 30, "patience": 30})
    tuned = run(config, tiny_base, tmp_path)
    assert tuned.history[-1].loss < 0.5 * tuned.history[0].loss
    assert tuned.history[-1].validation > tuned.history[0].validation


class KilledError(Exception):
    pass


def test_a_killed_run_continues_and_ends_the_same(tiny_base: Path, tmp_path: Path) -> None:
    config = FineTuneConfig(epochs=3, batch_size=16, precision="fp32", patience=5)
    whole = run(config, tiny_base, tmp_path / "whole")

    def kill(step: int, _steps: int, _note: str) -> None:
        if step == 6:  # in the second epoch
            raise KilledError

    with pytest.raises(KilledError):
        run(config, tiny_base, tmp_path / "killed", on_step=kill)
    again = run(config, tiny_base, tmp_path / "killed")
    assert [e.validation for e in again.history] == [e.validation for e in whole.history]
    for ours, theirs in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_mean_with_the_start(tiny_base: Path, tmp_path: Path) -> None:
    config = FineTuneConfig(epochs=2, batch_size=16, precision="fp32", learning_rate=1e-3)
    torch.manual_seed(config.seed)  # the head is drawn
    before, _ = finetuning.load_base(ModelConfig(base=str(tiny_base)), LABELS, dropout=0.1)
    after = run(config, tiny_base, tmp_path / "after").model
    half = config.model_copy(update={"start_weight": 0.25})
    mean = run(half, tiny_base, tmp_path / "mean").model
    for x, y, z in zip(*(m.parameters() for m in (before, after, mean)), strict=True):
        torch.testing.assert_close(z, 0.25 * x + 0.75 * y)


def test_the_mean_of_several_runs(tiny_base: Path, tmp_path: Path) -> None:
    config = FineTuneConfig(epochs=2, runs=3, batch_size=16, precision="fp32", learning_rate=1e-3)
    steps: list[tuple[int, int]] = []
    tuned = run(config, tiny_base, tmp_path, on_step=lambda i, n, _note: steps.append((i, n)))
    assert steps == [(i + 1, len(steps)) for i in range(len(steps))]
    assert len(tuned.history) == 6
    folders = (tmp_path, tmp_path / "run-2", tmp_path / "run-3")
    kept = [torch.load(f / "best.pt", weights_only=True)["model"] for f in folders]
    for name, mean in tuned.model.named_parameters():
        assert not torch.equal(kept[0][name], kept[1][name])
        torch.testing.assert_close(mean, sum(weights[name] for weights in kept) / 3)


def test_another_recipe_does_not_continue(tiny_base: Path, tmp_path: Path) -> None:
    run(FineTuneConfig(epochs=1, precision="fp32"), tiny_base, tmp_path)
    tuned = run(FineTuneConfig(epochs=1, seed=1, precision="fp32"), tiny_base, tmp_path)
    assert len(tuned.history) == 1


def test_early_stopping(tiny_base: Path, tmp_path: Path) -> None:
    config = FineTuneConfig(epochs=30, patience=1, learning_rate=1e-9, head_learning_rate=1e-9)
    assert len(run(config, tiny_base, tmp_path).history) < 30


@pytest.mark.parametrize("keep", ["best", "last"])
def test_which_epoch_is_kept(tiny_base: Path, tmp_path: Path, keep: str) -> None:
    config = FineTuneConfig(epochs=6, precision="fp32", learning_rate=3e-3, keep=keep)
    opposite = (PAIRS, 1 - GOLD)  # the more is learnt, the worse the score
    tuned = run(config, tiny_base, tmp_path, validation=opposite)
    assert tuned.history[-1].validation < max(e.validation for e in tuned.history)
    last = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    state = tuned.model.state_dict()
    assert all(torch.equal(state[name], last[name]) for name in last) == (keep == "last")


def test_the_pooling_layer_starts_as_the_mean(tiny_base: Path) -> None:
    model, tokenizer = finetuning.load_base(
        ModelConfig(base=str(tiny_base), pooling_layer=True), LABELS, dropout=0.0
    )
    model.eval()
    ids = torch.tensor([tokenizer.backend_tokenizer.encode("能开票吗", "没有票的").ids])
    with torch.no_grad():
        states = model.base_model(ids, output_hidden_states=True).hidden_states
    before, after = states[-2][0], states[-1][0, 0]
    expected = finetuning.MEAN_WEIGHT * before.mean(0) + before[0]
    assert torch.corrcoef(torch.stack([expected, after]))[0, 1] > 0.99


def test_layer_rates_fall_towards_the_input() -> None:
    config = FineTuneConfig(learning_rate=1.0, head_learning_rate=7.0, layer_decay=0.5)
    names = [
        "bert.embeddings.x",
        "bert.encoder.layer.0.x",
        "bert.encoder.layer.1.x",
        "classifier.x",
    ]
    assert [finetuning._rate(n, 2, config) for n in names] == [0.125, 0.25, 0.5, 7.0]
