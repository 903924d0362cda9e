"""Make a model's screen: a copy with fewer layers, fine-tuned to give the same logits."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cs_classifier.errors import ConfigError
from cs_classifier.training import finetuning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PreTrainedModel

    from cs_classifier.config import FineTuneConfig, ScreenConfig


def distil(  # noqa: PLR0913
    model: PreTrainedModel,
    data: finetuning.Encoded,
    held: finetuning.Encoded,
    config: ScreenConfig,
    *,
    base: FineTuneConfig,
    work: Path,
    on_step: Callable[[int, int, str], None] = lambda *_: None,
) -> PreTrainedModel:
    """A model of the first ``config.layers - 1`` layers and the last, taught by ``model``.

    Its targets are the probabilities that ``model`` gives the lines, not their labels. The
    embeddings stay as they are, so that a folder stores them once.

    Args:
        model: fine-tuned; it stays as it is.
        data: the lines it was trained on.
        held: lines that it was not trained on, for the training history.
        config: size and schedule.
        base: the recipe of ``model``, for everything that ``config`` does not say.
        work: folder for checkpoints.
        on_step: called with (step, all steps, note).

    Raises:
        ConfigError: the model has no more layers than the screen is to have.
    """
    import torch

    small = deepcopy(model)
    layers = small.base_model.encoder.layer
    if len(layers) <= config.layers:
        msg = f"screen.layers is {config.layers}, but the model itself has {len(layers)}"
        raise ConfigError(msg)
    kept = [*layers[: config.layers - 1], layers[-1]]
    small.base_model.encoder.layer = torch.nn.ModuleList(kept)
    small.config.num_hidden_layers = config.layers
    small.base_model.embeddings.requires_grad_(False)
    recipe = base.model_copy(
        update={
            "epochs": config.epochs,
            "patience": config.epochs,
            "keep": "last",
            "learning_rate": config.learning_rate,
            "head_learning_rate": config.learning_rate,
            "layer_decay": 1.0,
            "label_smoothing": 0.0,
        }
    )
    targets = 1 / (1 + np.exp(-finetuning.logits(model, data, recipe.precision)))
    taught = replace(data, labels=targets.astype(np.float32))
    finetuning.optimize(recipe, small, lambda _: taught, held, work=work, on_step=on_step)
    return small
