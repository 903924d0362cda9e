"""A sixth label by configuration and 200 lines alone: what docs/new_label.md walks through."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import yaml
from safetensors.torch import load_file

from cs_classifier import artifact, datasets, metrics, resources, tables, training
from cs_classifier.cli import models, scoring, upkeep
from cs_classifier.config import ModelConfig
from cs_classifier.errors import ConfigError
from cs_classifier.labels import LabelSet, load_labels
from cs_classifier.records import LabelledMessage, Message
from cs_classifier.training import finetuning
from tests.conftest import LINES

LEAK = "leak_personal_info"
LABEL = {
    "id": LEAK,
    "zh": "泄露个人信息",
    "en": "Personal information leaked",
    "definition": "The agent gives one customer's personal information to somebody else.",
    "clauses": [
        {
            "id": f"{LEAK}.other_customer",
            "zh": "透露其他买家信息",
            "en": "Another customer's data",
            "definition": "Tells a customer the name, number, address or order of another one.",
            "severity": 3,
            "rule": "不得泄露他人信息",
            "source": "example",
        }
    ],
}
WHOSE = ["上一位买家", "另一个客户", "昨天的买家", "刚才那个人", "今天发的那个"]
WHAT = ["手机号", "地址", "姓名", "订单", "证件"]
TOLD = ["发你看看", "给您", "是这个您看", "我发您"]
KEPT = ["不能给的", "不允许外发", "不可以看", "没有发出去"]


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with nothing but the longer label list, named by the environment."""
    folder = tmp_path_factory.mktemp("configs")
    data = yaml.safe_load(resources.find("configs/labels.yaml").read_text(encoding="utf-8"))
    data["labels"].append(LABEL)
    (folder / "labels.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(resources.CONFIGS, str(folder))
        yield folder


def leak_lines() -> list[LabelledMessage]:
    """200 lines, half of them violations; their look-alikes refuse to tell."""
    lines = []
    for answers, labels in ((TOLD, (LEAK,)), (KEPT, ())):
        for number, parts in enumerate(itertools.product(WHOSE, WHAT, answers)):
            name = f"leak{len(labels)}-{number}"
            message = Message("{}的{}{}".format(*parts))
            clauses = (f"{LEAK}.other_customer",)
            lines.append(LabelledMessage(name, message, labels, clauses, group=name))
    return lines


@pytest.fixture(scope="module")
def data(corpus: Path, configs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small corpus with the new lines, split at random."""
    folder, label_set = tmp_path_factory.mktemp("six"), load_labels()
    new = np.random.default_rng(0).permutation(np.array(leak_lines(), dtype=object)).tolist()
    parts = {"train": new[:120], "calibration": new[120:160], "test": new[160:]}
    for name, lines in parts.items():
        old = datasets.load([corpus / f"{name}.jsonl"], label_set)
        datasets.dump([*old, *lines], folder / f"{name}.jsonl")
    frozen = [  # in other words than the lines that both models have seen
        LabelledMessage(
            f"f{i}",
            Message(f"您好{text}可以吗亲", "在吗亲"),
            (label,) if label else (),
            group=f"f{i}",
        )
        for i, (_, text, label) in enumerate(LINES)
    ]
    datasets.dump([*frozen, *parts["test"]], folder / "frozen.jsonl")
    return folder


@pytest.fixture(scope="module")
def model(data: Path, artifact_folder: Path) -> Path:
    """Six labels, fine-tuned from the model with five."""
    recipe = data / "train.yaml"
    recipe.write_text(
        f"name: six\ndata: {{train: [{data}/train.jsonl], calibration: [{data}/calibration.jsonl]}}"
        f"\nmodel: {{base: {artifact_folder}, pooling_layer: true}}\n"
        "train: {epochs: 12, patience: 12, learning_rate: 3.0e-3, head_learning_rate: 1.0e-2,"
        " batch_size: 16, precision: fp32}\ndecision: {prevalence: 0.1}\n"
    )
    models.train(data / "model", recipe, work=data / "work")
    return data / "model"


def rows(stored: dict[str, torch.Tensor], names: dict[int, str]) -> dict[str, torch.Tensor]:
    weight, bias = stored["classifier.weight"].float(), stored["classifier.bias"].float()
    return {name: torch.cat([weight[i], bias[i : i + 1]]) for i, name in names.items()}


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["added", "reordered"])
def test_a_model_folder_as_base_keeps_its_layers_and_known_labels(
    artifact_folder: Path, configs: Path, order: slice
) -> None:
    label_set = load_labels()
    label_set = LabelSet(version="1", labels=label_set.labels[order])
    base = ModelConfig(base=str(artifact_folder), pooling_layer=True)
    warm, _ = finetuning.load_base(base, label_set, dropout=0.0)
    stored = load_file(artifact_folder / "model.safetensors")
    former = json.loads((artifact_folder / "config.json").read_text())["id2label"]
    old = rows(stored, {int(i): name for i, name in former.items()})
    new = rows(warm.state_dict(), dict(enumerate(label_set.ids)))
    assert set(new) - set(old) == {LEAK}
    for label in set(new) - {LEAK}:
        assert torch.equal(new[label], old[label])
    assert new[LEAK].abs().max() < 0.2  # a fresh row
    for name, tensor in warm.state_dict().items():
        if not name.startswith("classifier."):
            assert torch.equal(tensor.float(), stored[name].float()), name
    assert {n for n in stored if not n.startswith("classifier.")} == {
        n for n in warm.state_dict() if not n.startswith("classifier.")
    }


def test_the_sixth_label_is_learnt(model: Path, data: Path) -> None:
    pipeline = artifact.load(model)
    assert pipeline.label_set.ids[5:] == (LEAK,)
    assert artifact.read_manifest(model).labels == pipeline.label_set.ids
    lines = datasets.load([data / "test.jsonl"], pipeline.label_set)
    found = pipeline.predict([line.message for line in lines])
    gold = [LEAK in line.labels for line in lines]
    assert metrics.average_precision(gold, [p.probabilities[5] for p in found]) > 0.9


def test_predict_has_a_sixth_column(model: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "上一位买家的手机号发你看看"}\n', encoding="utf-8")
    scoring.predict([source], out, model=model, quiet=True)
    assert f"p_{LEAK}" in next(tables.read(out)).values


def test_the_gate_compares_the_five_and_checks_the_sixth(
    model: Path, artifact_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(typer.Exit) as exit_:
        upkeep.gate(
            model, artifact_folder, [data / "frozen.jsonl"], tmp_path / "gate.json", floor=0.01
        )
    report = json.loads((tmp_path / "gate.json").read_text())
    assert exit_.value.exit_code == (upkeep.NOT_PASSED if report["failures"] else 0)
    assert report["labels"][0]["f1"] is not None
    assert report["labels"][5]["f1"] is None
    assert {"kind": "added", "label": LEAK, "measure": ""} in report["warnings"]
    assert "泄露个人信息" in capsys.readouterr().out


def test_calibrate_keeps_the_labels_or_says_what_is_missing(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.recalibrate(model, [data / "calibration.jsonl"], tmp_path / "again")
    assert artifact.load(tmp_path / "again").label_set.ids[5:] == (LEAK,)
    monkeypatch.delenv(resources.CONFIGS)
    with pytest.raises(ConfigError, match=resources.CONFIGS):
        training.recalibrate(model, [data / "calibration.jsonl"], tmp_path / "no")


def test_a_configuration_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(resources.CONFIGS, "/nowhere")
    with pytest.raises(ConfigError, match="/nowhere"):
        load_labels()
