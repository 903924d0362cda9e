"""Configuration: strict, frozen, with overrides, and errors that name field and file."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from cs_classifier import resources
from cs_classifier.config import DecisionConfig, FineTuneConfig, TrainConfig, load_config
from cs_classifier.errors import ConfigError

SMALL = """
name: small
data:
  train: [lines/train]
  calibration: [lines/calibration.jsonl]
train:
  epochs: 3
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "train.yaml"
    file.write_text(SMALL, encoding="utf-8")
    return file


def test_defaults_fill_what_the_file_leaves_out(path):
    config = load_config(TrainConfig, path)
    assert config.name == "small"
    assert config.data.train == (Path("lines/train"),)
    assert config.data.test == ()
    assert config.train == FineTuneConfig(epochs=3)
    assert config.decision == DecisionConfig()


@pytest.mark.parametrize("recipe", ["train", "warm_start", "fast"])
def test_a_shipped_recipe_loads(recipe):
    config = load_config(TrainConfig, resources.find(f"configs/{recipe}.yaml"))
    assert config.data.train
    assert config.data.calibration
    assert config.data.test


def test_round_trip(path, tmp_path):
    config = load_config(TrainConfig, path)
    again = tmp_path / "again.yaml"
    again.write_text(config.model_dump_json(), encoding="utf-8")  # JSON is YAML
    assert load_config(TrainConfig, again) == config


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.epochs=5", 5),
        ("train.learning_rate=5e-5", 5e-5),
        ("train.precision=bf16", "bf16"),
        ("decision.prevalence=0.05", 0.05),
        ("model.layers=6", 6),
        ("model.layers=null", None),
        ("model.pooling_layer=true", True),
        ("name=a=b", "a=b"),
        ("data.train=[one, two]", (Path("one"), Path("two"))),
    ],
)
def test_override(path, override, value):
    config = load_config(TrainConfig, path, [override])
    for part in override.partition("=")[0].split("."):
        config = getattr(config, part)
    assert config == value


def test_overrides_leave_the_rest_alone_and_the_last_one_wins(path):
    config = load_config(TrainConfig, path, ["train.seed=1", "train.seed=2"])
    assert config.train == FineTuneConfig(epochs=3, seed=2)


def test_choice_equal_to_the_default_overrides_the_file(path):
    default = FineTuneConfig().epochs
    assert load_config(TrainConfig, path, [f"train.epochs={default}"]).train.epochs == default


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", r"'train\.epochs' must look like section\.key=value"),
        ("=3", "must look like"),
        ("name.first=x", "'name' is a value, not a section"),
        ("train.epochs.first=1", "'epochs' is a value, not a section"),
        ("train.epochs=[", r"train\.epochs=\[.*not valid YAML"),
        ("train.epoch=3", r"(?s)train\.yaml.*train\.epoch\b"),
        ("trian.epochs=3", r"(?s)train\.yaml.*trian"),
        ("train.epochs=0", r"(?s)train\.yaml.*train\.epochs"),
        ("train.epochs=many", r"(?s)train\.yaml.*train\.epochs"),
        ("train.precision=fp8", r"(?s)train\.yaml.*train\.precision"),
        ("train=3", r"(?s)train\.yaml.*train"),
        ("decision.precision_floor=1", r"(?s)train\.yaml.*decision\.precision_floor"),
        ("data.train=null", r"(?s)train\.yaml.*data\.train"),
    ],
)
def test_bad_override_is_named(path, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(TrainConfig, path, [override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "data"),
        ("data: {train: [a]}", r"data\.calibration"),
        ("data: {train: [a], calibration: [b], validate: [c]}", r"data\.validate"),
        ("data: {train: [a], calibration: [b], validation_share: 0.9}", r"validation_share"),
        ("data: [", "not valid YAML"),
        ("- data\n- train", "sections"),
        ("data", "sections"),
    ],
)
@pytest.mark.parametrize("overrides", [[], ["train.epochs=2"]])
def test_bad_file_is_named_with_the_field(tmp_path, content, message, overrides):
    path = tmp_path / "broken.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"(?s)broken\.yaml.*{message}"):
        load_config(TrainConfig, path, overrides)


def test_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "gbk.yaml"
    path.write_bytes("name: 发票".encode("gbk"))
    with pytest.raises(ConfigError, match=r"gbk\.yaml"):
        load_config(TrainConfig, path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml.*No such file"):
        load_config(TrainConfig, tmp_path / "none.yaml")


def test_values_are_frozen(path):
    config = load_config(TrainConfig, path)
    with pytest.raises(ValidationError, match="frozen"):
        config.train.epochs = 4
