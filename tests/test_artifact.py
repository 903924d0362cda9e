import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cs_classifier import artifact
from cs_classifier.errors import ArtifactError
from cs_classifier.records import Message


@pytest.fixture
def copy(artifact_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifact_folder, tmp_path / "model"))


def test_folder_holds_everything_and_no_pickle(artifact_folder: Path) -> None:
    names = {path.name for path in artifact_folder.iterdir()}
    assert names == {
        "manifest.json", "model.onnx", "model.safetensors", "config.json", "tokenizer.json",
        "calibration.json", "decision.json", "metrics.json", "training.json", "README.md",
        "labels.yaml", "rules.yaml", "lexicon.yaml",
    }  # fmt: skip
    manifest = artifact.read_manifest(artifact_folder)
    assert set(manifest.files) == names - {"manifest.json"}
    assert manifest.onnx_difference < 1e-3


def test_transformers_gives_the_same_logits(artifact_folder: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    pipeline = artifact.load(artifact_folder, engine="onnx")
    pairs = [("能开票吗", "没有票的"), ("", "好的呢哦"), ("在吗", "在的亲")]
    ours = pipeline.encoder.logits(pairs)
    model = AutoModelForSequenceClassification.from_pretrained(artifact_folder).eval()
    assert model.dtype == torch.float32
    assert list(model.config.id2label.values()) == list(pipeline.label_set.ids)
    for pair, row in zip(pairs, ours, strict=True):
        found = pipeline.encoder._tokenizer.encode(*pair)
        with torch.no_grad():
            theirs = model(
                torch.tensor([found.ids]), token_type_ids=torch.tensor([found.type_ids])
            ).logits
        np.testing.assert_allclose(row, theirs[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("name", ["model.safetensors", "rules.yaml", "decision.json"])
def test_a_changed_file_is_named(copy: Path, name: str) -> None:
    with (copy / name).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(ArtifactError, match=name):
        artifact.load(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is missing"):
        artifact.load(copy)


@pytest.mark.parametrize(("version", "advice"), [(99, "upgrade"), (0, "train the model again")])
def test_other_formats(copy: Path, version: int, advice: str) -> None:
    path = copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": version}))
    with pytest.raises(ArtifactError, match=advice):
        artifact.load(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 1}'])
def test_a_damaged_manifest(copy: Path, content: str) -> None:
    (copy / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match="damaged"):
        artifact.load(copy)


def test_not_a_model_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a model folder"):
        artifact.load(tmp_path)


def test_create_leaves_other_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    with pytest.raises(ArtifactError, match="choose another output"):
        artifact.create(tmp_path / "precious", lambda folder: pytest.fail(str(folder)))
    assert (tmp_path / "precious" / "file").exists()


def test_a_failed_create_keeps_the_old_artifact(copy: Path) -> None:
    def fill(_folder: Path) -> artifact.Manifest:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        artifact.create(copy, fill)
    artifact.verify(copy, artifact.read_manifest(copy))
    assert [path.name for path in copy.parent.iterdir()] == ["model"]


MODELS = Path(__file__).parent.parent / "models"
SHIPPED = [("default", 100e6), ("fast", 40e6)]


@pytest.mark.parametrize(("model", "limit"), SHIPPED)
def test_a_shipped_model(model: str, limit: float) -> None:
    folder = MODELS / model
    assert sum(path.stat().st_size for path in folder.iterdir()) <= limit
    pipeline = artifact.load(folder)
    found = pipeline.predict([Message("亲 这边只能给您开收据的呢", "麻烦给我开张发票")])[0]
    assert found.outcomes[pipeline.label_set.index("invoice_refusal")] != "clear"


def test_the_default_model_is_the_one_in_use() -> None:
    assert artifact.load().model_id == artifact.read_manifest(MODELS / "default").id


@pytest.mark.parametrize("model", [model for model, _ in SHIPPED])
@pytest.mark.parametrize("name", artifact.CONFIGS)
def test_a_shipped_model_was_fitted_with_the_shipped_rules(model: str, name: str) -> None:
    """Edit a rule, then run `cs-classifier calibrate` to bring it into force."""
    shipped = (MODELS.parent / "configs" / name).read_bytes()
    assert (MODELS / model / name).read_bytes() == shipped
