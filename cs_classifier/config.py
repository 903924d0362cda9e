"""Configuration: frozen, strict values, built once from YAML and ``--set`` overrides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cs_classifier.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Config(BaseModel):
    """Base of all configuration values: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(Config):
    """Where the lines lie: files or folders of JSONL."""

    train: tuple[Path, ...]
    calibration: tuple[Path, ...]
    test: tuple[Path, ...] = ()
    replay: tuple[Path, ...] = ()  # what the base has learnt already: a draw is learnt again
    replay_ratio: float = Field(default=4.0, ge=0)  # its lines per line of train, in each epoch
    validation_share: float = Field(default=0.1, gt=0, lt=0.5)


class ModelConfig(Config):
    """The encoder to fine-tune."""

    base: str = "embedded"  # "embedded", a hub name, or a folder
    layers: int | None = Field(default=None, ge=1)  # keep only so many: the first ones of a base,
    # or evenly spaced ones of a model folder; all by default
    prune_vocabulary: bool = False  # keep only pieces that occur in the training lines
    pooling_layer: bool = False  # add a layer that starts as the mean over tokens; see finetuning
    max_tokens: int = Field(default=128, ge=16, le=512)


class FineTuneConfig(Config):
    """How the encoder is fine-tuned."""

    epochs: int = Field(default=12, ge=1)
    patience: int = Field(default=4, ge=1)  # epochs without a better validation score
    keep: Literal["best", "last"] = "best"  # the epoch: a few validation lines cannot tell the best
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    head_learning_rate: float = Field(default=1e-3, gt=0)
    layer_decay: float = Field(default=0.9, gt=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)  # share of all steps
    dropout: float = Field(default=0.1, ge=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    evasion: float = Field(default=0.0, ge=0, le=1)  # share of lines respelt anew in each epoch
    ngrams: float = Field(default=0.0, ge=0)  # weight of the n-gram model's logits; 0 is without
    ngram_lines: int = Field(default=2, ge=1)  # that an n-gram must occur in
    runs: int = Field(default=1, ge=1)  # with one seed each; the mean of their weights is kept
    start_weight: float = Field(default=0.0, ge=0, lt=1)  # of the base in the mean of all weights
    teacher: str | None = None  # a model folder; targets are the mean of its estimates and gold
    clauses: bool = True  # fit a head that names the clause of a flagged line
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0


class ScreenConfig(Config):
    """The small encoder that clears most lines before the large one; see ``training/screening``."""

    layers: int = Field(default=3, ge=2)
    epochs: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    missed: float = Field(default=0.01, ge=0, lt=1)  # of each label's reported calibration lines


class DecisionConfig(Config):
    """What the thresholds must hold; see ``decision.py`` and ``docs/calibration.md``."""

    precision_floor: float = Field(default=0.95, gt=0, lt=1)
    confidence: float = Field(default=0.8, gt=0, lt=1)
    max_violation_rate: float = Field(default=0.002, gt=0, lt=1)  # of natural clean lines
    min_probability: float = Field(default=0.5, ge=0, lt=1)  # of a violation, at `prevalence`
    recall_target: float = Field(default=0.95, gt=0, lt=1)
    max_review_rate: float = Field(default=0.01, gt=0, lt=1)  # of natural clean lines
    review_strength: float = Field(default=0.8, gt=0)  # of a rule whose hits a person always sees
    prevalence: float = Field(default=0.01, gt=0, lt=1)  # of each label in the traffic to be scored
    enriched_weight: float = Field(
        default=0.2, gt=0, le=1
    )  # of a clean line from an enriched batch


class TrainConfig(Config):
    """Everything ``cs-classifier train`` needs."""

    name: str = "default"
    data: DataConfig
    model: ModelConfig = ModelConfig()
    train: FineTuneConfig = FineTuneConfig()
    screen: ScreenConfig | None = None
    decision: DecisionConfig = DecisionConfig()


C = TypeVar("C", bound=Config)


def load_config(kind: type[C], path: Path, overrides: Sequence[str] = ()) -> C:
    """Read ``path`` as ``kind``, with overrides such as ``train.epochs=3`` merged in first.

    Raises:
        ConfigError: unreadable file, bad override, unknown key or bad value; each is named.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read configuration {path}: {error}"
        raise ConfigError(msg) from error
    except yaml.YAMLError as error:
        msg = f"{path} is not valid YAML: {error}"
        raise ConfigError(msg) from error
    if not isinstance(data, dict):
        msg = f"{path} must hold sections of 'key: value' lines"
        raise ConfigError(msg)
    return build_config(kind, data, overrides, where=str(path))


def build_config(kind: type[C], data: dict[str, Any], overrides: Sequence[str], *, where: str) -> C:
    """Merge ``overrides`` into ``data`` and validate; ``where`` names it in errors.

    Raises:
        ConfigError: bad override, unknown key or bad value.
    """
    for override in overrides:
        _merge(data, override)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        msg = f"{where}: {error}"
        raise ConfigError(msg) from error


def _merge(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        msg = f"override '{override}' must look like section.key=value"
        raise ConfigError(msg)
    *sections, last = key.split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            msg = f"override '{override}': '{section}' is a value, not a section"
            raise ConfigError(msg)
    try:
        data[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        msg = f"override '{override}': the value is not valid YAML"
        raise ConfigError(msg) from error
