import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from cs_classifier import artifact, datasets, training
from cs_classifier.classifiers.ngrams import FILE, NgramModel
from cs_classifier.config import DecisionConfig, TrainConfig
from cs_classifier.errors import DataError, LabelError
from cs_classifier.labels import load_labels
from cs_classifier.records import Message
from cs_classifier.upkeep import promotion
from tests.conftest import labelled, write_jsonl

LABELS = load_labels()


def checksums(*paths: Path) -> dict[str, str]:
    return {path.as_posix(): datasets.checksum(path) for path in paths}


def test_the_artifact_says_how_it_came_about(
    artifact_folder: Path, tiny_config: TrainConfig
) -> None:
    manifest = artifact.read_manifest(artifact_folder)
    assert manifest.labels == LABELS.ids
    assert manifest.seed == tiny_config.train.seed
    data = tiny_config.data
    assert manifest.data == checksums(*data.train, *data.calibration)
    details = json.loads((artifact_folder / "training.json").read_text())
    assert details["tests"] == checksums(*data.test)
    assert re.fullmatch(r"tiny-\d{14}-\w+", manifest.id)
    assert details["config"]["train"]["epochs"] == tiny_config.train.epochs
    card = (artifact_folder / "README.md").read_text()
    assert manifest.id in card
    assert set(re.findall("[0-9a-f]{64}", card)) == {
        *manifest.data.values(),
        *details["tests"].values(),
    }
    assert "拒开发票" in card


def test_a_line_in_two_splits_is_refused(tiny_config: TrainConfig, tmp_path: Path) -> None:
    rows = labelled("t", 1)
    write_jsonl(tmp_path / "test.jsonl", [row | {"id": f"new{i}"} for i, row in enumerate(rows)])
    data = tiny_config.data.model_copy(update={"test": (tmp_path / "test.jsonl",)})
    config = tiny_config.model_copy(update={"data": data})
    with pytest.raises(DataError, match="two splits"):
        training.train(config, tmp_path / "model", work=tmp_path / "work")
    assert not (tmp_path / "model").exists()


def test_a_warm_start_learns_new_lines_and_replays_old_ones(
    artifact_folder: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    rows = [
        {"text": f"{word}这个我们不做的{word}", "labels": [], "group": f"g{word}"}
        for word in "甲乙丙丁戊己庚辛壬癸"
    ]
    write_jsonl(tmp_path / "new.jsonl", rows)
    old = tiny_config.data
    data = {"train": (tmp_path / "new.jsonl",), "replay": old.train, "replay_ratio": 2.0}
    config = tiny_config.model_copy(
        update={
            "data": old.model_copy(update=data),
            "model": tiny_config.model.model_copy(update={"base": str(artifact_folder)}),
            "train": tiny_config.train.model_copy(update={"epochs": 1, "ngrams": 0.5}),
        }
    )
    steps: list[int] = []
    training.train(
        config,
        tmp_path / "model",
        work=tmp_path / "work",
        on_step=lambda _step, all_steps, _note: steps.append(all_steps),
    )
    manifest = artifact.read_manifest(tmp_path / "model")
    assert manifest.data == checksums(*data["train"], *old.train, *old.calibration)
    assert manifest.parent == artifact.read_manifest(artifact_folder).id
    assert manifest.base == artifact.read_manifest(artifact_folder).base
    assert manifest.parent in (tmp_path / "model" / "README.md").read_text("utf-8")
    lines = json.loads((tmp_path / "model" / "training.json").read_text())["lines"]
    n_old = len(datasets.gold(datasets.load(old.train, LABELS)))
    assert lines["train"] < len(rows) < lines["replay"] <= n_old
    seen = lines["train"] + 2 * lines["train"]  # in the one epoch
    assert set(steps) == {-(-seen // config.train.batch_size)}
    vocabulary = NgramModel.load(tmp_path / "model" / FILE).vocabulary
    assert {"做的", "三天"} <= set(vocabulary)  # of new and of old lines


def test_a_teacher_has_half_a_say(
    artifact_folder: Path, tiny_config: TrainConfig, tmp_path: Path
) -> None:
    """All lines are labelled clean, and the teacher calls every one of them everything."""
    teacher = Path(shutil.copytree(artifact_folder, tmp_path / "teacher"))
    weights = load_file(teacher / "model.safetensors")
    weights["classifier.bias"] += 20
    save_file(weights, teacher / "model.safetensors", metadata={"format": "pt"})
    clean = [row | {"labels": [], "clause": ""} for row in labelled("u", 5)]
    path = write_jsonl(tmp_path / "clean.jsonl", clean)
    data = tiny_config.data.model_copy(update={"train": (path,), "test": ()})
    means = {}
    for name in (None, str(teacher)):
        recipe = tiny_config.train.model_copy(update={"teacher": name})
        config = tiny_config.model_copy(update={"data": data, "train": recipe})
        training.train(config, tmp_path / "model", work=tmp_path / "work")
        scored = artifact.load(tmp_path / "model").score([Message(str(r["text"])) for r in clean])
        means[name] = scored.logits.mean()
    assert abs(means[str(teacher)]) < 0.3  # one half
    assert means[None] < -2
    learnt = artifact.read_manifest(tmp_path / "model").data
    assert checksums(*tiny_config.data.train).items() <= learnt.items()


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


@pytest.mark.parametrize(("split", "purpose"), [("train", "train"), ("calibration", "calibrate")])
def test_training_without_gold_lines_is_refused_at_once(
    tiny_config: TrainConfig, tmp_path: Path, split: str, purpose: str
) -> None:
    rows = [row | {"status": "borderline"} for row in labelled("b", 1)]
    path = write_jsonl(tmp_path / "doubtful.jsonl", rows)
    data = tiny_config.data.model_copy(update={split: (path,)})
    config = tiny_config.model_copy(update={"data": data})
    with pytest.raises(DataError, match=f"no gold lines to {purpose} on"):
        training.train(config, tmp_path / "model", work=tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_what_was_only_tested_on_may_judge_the_model(
    artifact_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    frozen = write_jsonl(tmp_path / "frozen.jsonl", labelled("f", 1))
    mine, calibration, test = (
        tmp_path / "mine",
        corpus / "calibration.jsonl",
        corpus / "test.jsonl",
    )
    training.recalibrate(artifact_folder, [calibration], mine, test=[frozen])
    promotion.check_unused([mine], [frozen, test])
    details = json.loads((mine / "training.json").read_text())
    assert details["tests"] == checksums(frozen, test)
    assert datasets.checksum(frozen) in (mine / "README.md").read_text()
    training.recalibrate(mine, [frozen], mine)
    with pytest.raises(DataError, match="cannot judge"):
        promotion.check_unused([mine], [frozen])


def test_models_that_list_test_files_in_the_manifest(
    artifact_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(artifact_folder, tmp_path / "model"))
    details = json.loads((folder / "training.json").read_text())
    tests = details.pop("tests")
    artifact.write_json(folder / "training.json", details)
    manifest = artifact.read_manifest(folder)
    artifact.seal(folder, manifest.model_copy(update={"data": manifest.data | tests}))
    promotion.check_unused([folder], [corpus / "test.jsonl"])
    training.recalibrate(folder, [corpus / "calibration.jsonl"], folder)
    promotion.check_unused([folder], [corpus / "test.jsonl"])
    assert artifact.read_manifest(folder).data == manifest.data


def test_every_refit_gets_an_id_with_its_time(
    artifact_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    training.recalibrate(artifact_folder, [corpus / "calibration.jsonl"], tmp_path / "mine")
    old, new = (artifact.read_manifest(f).id for f in (artifact_folder, tmp_path / "mine"))
    assert re.fullmatch(re.escape(old) + r"\+\d{14}", new)
