"""Fine-tune an encoder for multi-label classification of (context, agent line) pairs.

A plain loop: length-sorted batches, AdamW with layer-wise learning-rate decay (Howard & Ruder 2018,
"discriminative fine-tuning"), linear warm-up and decay, early stopping on the mean average
precision over labels. Average precision is undisturbed by the many clean lines, on which
exact-match or sample-averaged scores say little.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cs_classifier.artifact import MANIFEST
from cs_classifier.errors import ConfigError, MissingExtraError
from cs_classifier.metrics import mean_average_precision
from cs_classifier.training import base_encoder, pruning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from cs_classifier.config import FineTuneConfig, ModelConfig
    from cs_classifier.labels import LabelSet

    Lines = tuple[Sequence[tuple[str, str]], npt.NDArray[np.float64]]
    """(context, text) pairs and their gold labels ``(n, n_labels)``."""

log = logging.getLogger(__name__)
CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Encoded:
    """Token ids per line, ready to be padded, and gold labels ``(n, n_labels)``."""

    ids: list[list[int]]
    types: list[list[int]]
    labels: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Epoch:
    """One row of the training history."""

    epoch: int
    loss: float
    validation: float  # mean average precision
    seconds: float


@dataclass(frozen=True)
class FineTuned:
    """The model that is kept, its tokenizer, and how it got there."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    history: list[Epoch]


def load_base(
    config: ModelConfig, label_set: LabelSet, *, dropout: float
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load any BERT-like checkpoint with a fresh multi-label head, or a model folder with its own.

    A model folder keeps its pooling layer, whatever ``pooling_layer`` says, and the outputs of
    labels that it knows; those of other labels start afresh.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ConfigError: the model folder has other labels and a head that cannot take them over.
    """
    try:
        from transformers import (
            AutoConfig,
            AutoModelForSequenceClassification,
            PreTrainedTokenizerFast,
        )
    except ImportError as error:
        msg = "train"
        raise MissingExtraError(msg, "transformers") from error
    folder = base_encoder.resolve(config.base)
    own = AutoConfig.from_pretrained(folder)
    warm = (Path(folder) / MANIFEST).exists()
    layers = own.num_hidden_layers
    model = AutoModelForSequenceClassification.from_pretrained(
        folder,
        num_hidden_layers=layers if warm else (config.layers or layers) + config.pooling_layer,
        num_labels=len(label_set),
        id2label=dict(enumerate(label_set.ids)),
        label2id={label: i for i, label in enumerate(label_set.ids)},
        problem_type="multi_label_classification",
        hidden_dropout_prob=dropout,
        ignore_mismatched_sizes=warm,
    )
    if warm:
        _keep_outputs(model, Path(folder), [own.id2label[i] for i in range(own.num_labels)])
        pruning.keep_layers(model, config.layers or layers)
    elif config.pooling_layer:
        _start_as_mean(model)
    tokenizer_file = Path(folder) / "tokenizer.json"
    if tokenizer_file.exists():
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file))
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
    return model, tokenizer


def _keep_outputs(model: PreTrainedModel, folder: Path, former: Sequence[str]) -> None:
    """Give each label the output row that it had in ``folder``, by name; others start afresh."""
    import torch
    from safetensors.torch import load_file

    if list(model.config.id2label.values()) == list(former):
        return
    head = model.classifier
    if not isinstance(head, torch.nn.Linear):
        msg = f"{folder}: only BERT's own head can change its labels; train from the base instead"
        raise ConfigError(msg)
    stored = load_file(folder / "model.safetensors")
    torch.nn.init.normal_(head.weight, std=model.config.initializer_range)
    torch.nn.init.zeros_(head.bias)
    with torch.no_grad():
        for row, label in model.config.id2label.items():
            if label in former:
                at = former.index(label)
                head.weight[row] = stored["classifier.weight"][at].float()
                head.bias[row] = stored["classifier.bias"][at].float()


MEAN_WEIGHT = 4.0  # of the mean over tokens against the first token's own state


def _start_as_mean(model: PreTrainedModel) -> None:
    """Let the last layer begin as a mean over tokens, seen from the first token.

    Sentence encoders such as E5 are trained with mean pooling, which BertForSequenceClassification
    lacks: it reads the first token. A standard layer with equal attention scores (query and key 0),
    identity values and a silent feed-forward block computes the mean, keeps the architecture
    standard, and is fine-tuned like the rest.
    """
    import torch

    layer = model.base_model.encoder.layer[-1]
    eye = torch.eye(model.config.hidden_size)
    with torch.no_grad():
        for linear, weight in (
            (layer.attention.self.query, 0 * eye),
            (layer.attention.self.key, 0 * eye),
            (layer.attention.self.value, eye),
            (layer.attention.output.dense, MEAN_WEIGHT * eye),
        ):
            linear.weight.copy_(weight + 0.01 * torch.randn_like(weight))
            linear.bias.zero_()
        layer.output.dense.weight.zero_()
        layer.output.dense.bias.zero_()
        model.base_model.pooler.dense.weight.copy_(eye)
        model.base_model.pooler.dense.bias.zero_()


def encode(
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[tuple[str, str]],
    labels: npt.ArrayLike,
    *,
    max_tokens: int,
) -> Encoded:
    """Tokenise (context, text) pairs; over ``max_tokens`` the longer part loses its end."""
    import datasets

    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(max_tokens, strategy="longest_first")

    def tokens(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        found = backend.encode_batch(list(zip(batch["context"], batch["text"], strict=True)))
        return {"ids": [e.ids for e in found], "types": [e.type_ids for e in found]}

    contexts, texts = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_dict({"context": contexts, "text": texts}).map(
        tokens, batched=True, remove_columns=["context", "text"], load_from_cache_file=False
    )
    return Encoded(list(rows["ids"]), list(rows["types"]), np.asarray(labels, dtype=np.float32))


def fine_tune(  # noqa: PLR0913
    config: FineTuneConfig,
    model_config: ModelConfig,
    label_set: LabelSet,
    *,
    train: Callable[[int], Lines],
    validation: Lines,
    work: Path,
    on_step: Callable[[int, int, str], None] = lambda *_: None,
) -> FineTuned:
    """Fine-tune on the lines of each epoch; resume from ``work`` when an earlier run was stopped.

    Args:
        config: the recipe.
        model_config: the encoder.
        label_set: outputs, in order.
        train: gives the lines of an epoch (0, 1, ...), always equally many; a second run goes on
            counting.
        validation: lines for early stopping.
        work: folder for checkpoints; one epoch at most is lost when a run is killed.
        on_step: called with (step, all steps, note) for a progress bar.
    """
    import torch

    torch.manual_seed(config.seed)
    model, tokenizer = load_base(model_config, label_set, dropout=config.dropout)
    if model_config.prune_vocabulary:
        tokenizer = pruning.keep_pieces(model, tokenizer, train(0)[0])
    start = _weights(model)
    held = encode(tokenizer, *validation, max_tokens=model_config.max_tokens)

    def fit(run: int) -> list[Epoch]:
        first = run * config.epochs
        return optimize(
            config.model_copy(update={"seed": config.seed + run}),
            model,
            lambda epoch: encode(
                tokenizer, *train(first + epoch), max_tokens=model_config.max_tokens
            ),
            held,
            work=work / f"run-{run + 1}" if run else work,
            on_step=lambda step, steps, note: on_step(
                run * steps + step, config.runs * steps, note
            ),
        )

    history = fit(0)
    for run in range(1, config.runs):
        mean = _weights(model)
        model.load_state_dict(start)
        history += fit(run)
        _average(model, mean, run / (run + 1))
    if config.start_weight:
        _average(model, start, config.start_weight)
    return FineTuned(model, tokenizer, history)


def optimize(  # noqa: PLR0913
    config: FineTuneConfig,
    model: PreTrainedModel,
    lines: Callable[[int], Encoded],
    held: Encoded,
    *,
    work: Path,
    on_step: Callable[[int, int, str], None] = lambda *_: None,
) -> list[Epoch]:
    """Fit ``model`` in place to the lines of each epoch, on a GPU if there is one.

    Args:
        config: the recipe.
        model: what to train; parameters that need no gradient stay as they are.
        lines: gives the lines of an epoch (0, 1, ...), always equally many, with targets in [0, 1].
        held: lines for early stopping, with gold labels.
        work: folder for checkpoints; a run that was stopped continues from there.
        on_step: called with (step, all steps, note).

    Returns:
        The training history. The model is on the CPU, for inference.
    """
    model.to(_device())
    data = lines(0)
    run = _Run(config, model, work, len(data.ids))
    for epoch in range(run.restore(), config.epochs):
        if run.stalled(config.patience):
            break
        run.epoch(epoch, lines(epoch) if epoch else data, held, on_step)
    run.load_best()
    model.to("cpu").eval()
    return run.history


def logits(
    model: PreTrainedModel, data: Encoded, precision: Literal["auto", "fp32", "bf16"]
) -> npt.NDArray[np.float32]:
    """Logits ``(n, n_outputs)`` in the order of ``data``, on a GPU if there is one."""
    import torch

    device = _device()
    model.to(device).eval()
    bf16 = _use_bf16(precision, device)
    out = np.zeros((len(data.ids), model.config.num_labels), dtype=np.float32)
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        for batch in batches(data, 64):
            inputs = padded(data, batch, model.config.pad_token_id or 0, device)
            out[batch] = model(**inputs).logits.float().cpu().numpy()
    return out


def _device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: values.clone() for name, values in model.state_dict().items()}


def _average(model: PreTrainedModel, other: dict[str, torch.Tensor], weight: float) -> None:
    """Move all parameters ``weight`` of the way to those of ``other``.

    The mean of a model and the one that it was trained on from keeps most of what is new and
    forgets less ("WiSE-FT", Wortsman et al. 2022); that of several runs from one start is mostly
    better than each ("model soups", Wortsman et al. 2022).
    """
    import torch

    state = model.state_dict()
    with torch.no_grad():
        for name, values in state.items():
            if values.is_floating_point():
                values.lerp_(other[name], weight)


class _Run:
    """State of one fine-tuning run: optimiser, schedule, history, checkpoints."""

    def __init__(
        self, config: FineTuneConfig, model: PreTrainedModel, work: Path, n_lines: int
    ) -> None:
        import torch

        self.config, self.model, self.work, self.device = config, model, work, model.device
        self.pad = model.config.pad_token_id or 0
        self.history: list[Epoch] = []
        steps = -(-n_lines // config.batch_size)
        self.all_steps = steps * config.epochs
        self.optimizer = torch.optim.AdamW(_groups(model, config), fused=True)
        warmup = max(1, int(config.warmup * self.all_steps))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: min(
                (step + 1) / warmup,
                max(0.0, (self.all_steps - step) / max(1, self.all_steps - warmup)),
            ),
        )
        self.bf16 = _use_bf16(config.precision, self.device)
        work.mkdir(parents=True, exist_ok=True)

    def epoch(
        self, epoch: int, data: Encoded, held: Encoded, on_step: Callable[[int, int, str], None]
    ) -> None:
        """Train for one epoch, score the validation lines, write a checkpoint."""
        import torch

        start, losses = time.monotonic(), []
        rng = np.random.default_rng((self.config.seed, epoch))
        torch.manual_seed(self.config.seed * 10_000 + epoch)  # the same after a resume
        self.model.train()
        for batch in batches(data, self.config.batch_size, rng):
            inputs = padded(data, batch, self.pad, self.device)
            gold = torch.from_numpy(data.labels[batch]).to(self.device)
            smoothing = self.config.label_smoothing
            with self._autocast():
                found = self.model(**inputs).logits
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                found.float(), gold * (1 - smoothing) + smoothing / 2
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            note = f"epoch {epoch + 1}, loss {np.mean(losses[-50:]):.4f}"
            on_step(self.schedule.last_epoch, self.all_steps, note)
        predicted = logits(self.model, held, self.config.precision)
        score = mean_average_precision(held.labels, predicted)
        score = 0.0 if np.isnan(score) else score  # nothing violating was held out: take the last
        row = Epoch(epoch + 1, float(np.mean(losses)), score, time.monotonic() - start)
        self.history.append(row)
        log.info(
            "epoch %d: loss %.4f, validation mAP %.4f, %.0f s",
            row.epoch,
            row.loss,
            row.validation,
            row.seconds,
        )
        best = score >= max(e.validation for e in self.history)
        self._save(best=best or self.config.keep == "last")

    def stalled(self, patience: int) -> bool:
        """Whether the best epoch lies ``patience`` or more epochs back."""
        scores = [epoch.validation for epoch in self.history]
        return len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])

    def _autocast(self) -> torch.autocast:
        import torch

        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def _save(self, *, best: bool) -> None:
        import torch

        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.last_epoch,
        }
        if best:
            torch.save({"model": state["model"]}, self.work / "best.pt")
        partial = self.work / f"{CHECKPOINT}.tmp"
        torch.save(state, partial)
        partial.replace(self.work / f"{CHECKPOINT}.pt")
        document = {"config": self.config.model_dump(), "epochs": [asdict(e) for e in self.history]}
        (self.work / f"{CHECKPOINT}.json").write_text(json.dumps(document, indent=1))

    def restore(self) -> int:
        """Continue an earlier run with the same configuration; returns the next epoch."""
        import torch

        history, weights = self.work / f"{CHECKPOINT}.json", self.work / f"{CHECKPOINT}.pt"
        if not (history.exists() and weights.exists()):
            return 0
        document = json.loads(history.read_text())
        if document["config"] != self.config.model_dump():
            log.warning("%s holds another configuration's checkpoint; starting anew", self.work)
            return 0
        state = torch.load(weights, weights_only=True, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.last_epoch = state["schedule"]
        self.history = [Epoch(**row) for row in document["epochs"]]
        log.info("resuming after epoch %d", len(self.history))
        return len(self.history)

    def load_best(self) -> None:
        """Bring back the weights of the epoch that is kept."""
        import torch

        best = torch.load(self.work / "best.pt", weights_only=True, map_location=self.device)
        self.model.load_state_dict(best["model"])


def padded(
    data: Encoded, batch: Sequence[int], pad: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """Model inputs of some rows, each ``(rows, longest)``."""
    import torch

    width = max(len(data.ids[i]) for i in batch)
    ids = torch.full((len(batch), width), pad)
    types = torch.zeros((len(batch), width), dtype=torch.long)
    mask = torch.zeros((len(batch), width), dtype=torch.long)
    for row, i in enumerate(batch):
        n = len(data.ids[i])
        ids[row, :n] = torch.tensor(data.ids[i])
        types[row, :n] = torch.tensor(data.types[i])
        mask[row, :n] = 1
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def batches(
    data: Encoded, size: int, rng: np.random.Generator | None = None
) -> Iterator[list[int]]:
    """Row numbers of batches of similar length; in random order when ``rng`` is given."""
    lengths = np.array([len(ids) for ids in data.ids], dtype=np.float64)
    if rng is not None:  # jitter, so that batches differ from epoch to epoch
        lengths = lengths * rng.uniform(0.8, 1.25, len(lengths))
    order = np.argsort(lengths, kind="stable")
    cuts = [order[i : i + size].tolist() for i in range(0, len(order), size)]
    if rng is not None:
        rng.shuffle(cuts)
    yield from cuts


def _groups(model: PreTrainedModel, config: FineTuneConfig) -> list[dict[str, Any]]:
    """Parameter groups: the head at its own rate, each layer below slower than the one above."""
    layers = model.config.num_hidden_layers
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in model.named_parameters():
        decay = 0.0 if parameter.ndim == 1 else config.weight_decay
        groups.setdefault((_rate(name, layers, config), decay), []).append(parameter)
    return [
        {"params": params, "lr": rate, "weight_decay": decay}
        for (rate, decay), params in groups.items()
    ]


def _rate(name: str, layers: int, config: FineTuneConfig) -> float:
    if "embeddings" in name:
        return config.learning_rate * config.layer_decay ** (layers + 1)
    if ".layer." in name:
        layer = int(name.split(".layer.")[1].split(".", maxsplit=1)[0])
        return config.learning_rate * config.layer_decay ** (layers - layer)
    return config.head_learning_rate


def _use_bf16(precision: str, device: torch.device) -> bool:
    """Resolve ``auto`` by timing one layer-sized product: bf16 pays only with hardware support."""
    import torch

    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    seconds = {}
    for kind in (torch.float32, torch.bfloat16):
        left, right = torch.ones(256, 384, dtype=kind), torch.ones(384, 384, dtype=kind)
        left @ right
        start = time.perf_counter()
        for _ in range(5):
            left @ right
        seconds[kind] = time.perf_counter() - start
    return seconds[torch.bfloat16] < 0.7 * seconds[torch.float32]
