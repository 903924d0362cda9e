import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cs_classifier import artifact, datasets, training
from cs_classifier.config import DecisionConfig, TrainConfig
from cs_classifier.errors import DataError, LabelError
from cs_classifier.labels import load_labels
from tests.conftest import labelled, write_jsonl

LABELS = load_labels()


def test_the_artifact_says_how_it_came_about(
    artifact_folder: Path, tiny_config: TrainConfig
) -> None:
    manifest = artifact.read_manifest(artifact_folder)
    assert manifest.labels == LABELS.ids
    assert manifest.seed == tiny_config.train.seed
    data = tiny_config.data
    files = (*data.train, *data.calibration, *data.test)
    expected = {path.as_posix(): datasets.checksum(path) for path in files}
    assert manifest.data == expected
    details = json.loads((artifact_folder / "training.json").read_text())
    assert details["config"]["train"]["epochs"] == tiny_config.train.epochs
    card = (artifact_folder / "README.md").read_text()
    assert manifest.id in card
    assert "拒开发票" in card


def test_a_line_in_two_splits_is_refused(tiny_config: TrainConfig, tmp_path: Path) -> None:
    rows = labelled("t", 1)
    write_jsonl(tmp_path / "test.jsonl", [row | {"id": f"new{i}"} for i, row in enumerate(rows)])
    data = tiny_config.data.model_copy(update={"test": (tmp_path / "test.jsonl",)})
    config = tiny_config.model_copy(update={"data": data})
    with pytest.raises(DataError, match="two splits"):
        training.train(config, tmp_path / "model", work=tmp_path / "work")
    assert not (tmp_path / "model").exists()


def test_an_unknown_label_in_the_data(tiny_config: TrainConfig, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"text": "好", "labels": ["rudeness"]}])
    data = tiny_config.data.model_copy(update={"train": (tmp_path / "train.jsonl",)})
    config = tiny_config.model_copy(update={"data": data})
    with pytest.raises(LabelError, match=r"line 1: unknown label 'rudeness'"):
        training.train(config, tmp_path / "model", work=tmp_path / "work")


def test_recalibrate_changes_the_decision_and_nothing_of_the_encoder(
    artifact_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    lines = [corpus / "calibration.jsonl"]
    config = DecisionConfig(prevalence=0.2, precision_floor=0.5)
    before = (artifact_folder / "manifest.json").read_bytes()
    training.recalibrate(artifact_folder, lines, tmp_path / "mine", config)
    again = artifact.load(tmp_path / "mine")
    assert (artifact_folder / "manifest.json").read_bytes() == before
    assert again.decision.config == config
    for name in ("model.safetensors", "model.onnx", "tokenizer.json"):
        old, new = (
            datasets.checksum(folder / name) for folder in (artifact_folder, tmp_path / "mine")
        )
        assert old == new
    assert (
        artifact.read_manifest(tmp_path / "mine").id != artifact.read_manifest(artifact_folder).id
    )


def test_recalibrate_needs_gold_lines(artifact_folder: Path, corpus: Path, tmp_path: Path) -> None:
    lines = datasets.load([corpus / "calibration.jsonl"], LABELS)
    doubtful = [replace(line, status="borderline") for line in lines]
    datasets.dump(doubtful, tmp_path / "doubtful.jsonl")
    with pytest.raises(DataError, match="no gold lines"):
        training.recalibrate(artifact_folder, [tmp_path / "doubtful.jsonl"], tmp_path / "mine")


def test_recalibrate_in_place(artifact_folder: Path, corpus: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifact_folder, tmp_path / "model"))
    report = training.recalibrate(
        folder, [corpus / "calibration.jsonl"], folder, test=[corpus / "test.jsonl"]
    )
    assert report.lines == len(datasets.load([corpus / "test.jsonl"], LABELS))
    assert artifact.load(folder).model_id == report.model
