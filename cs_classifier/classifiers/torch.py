"""The encoder in PyTorch: the reference that the other engines are compared with, and GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cs_classifier.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from cs_classifier.classifiers.batching import Feed


class TorchSession:
    """``model.safetensors`` as a ``transformers`` model."""

    def __init__(self, folder: Path, *, device: str, bf16: bool, threads: int = 0) -> None:
        """Load the model of an artifact ``folder``; 0 ``threads`` leaves their number to torch.

        Raises:
            ConfigError: no GPU can be used.
            MissingExtraError: torch or transformers is not installed.
        """
        try:
            import torch
            from transformers import AutoModelForSequenceClassification
        except ImportError as error:
            extra = "train"
            raise MissingExtraError(extra, error.name or "torch") from error
        if device == "cuda" and not torch.cuda.is_available():
            msg = "torch finds no GPU here; install a CUDA build of torch, or use --device cpu"
            raise ConfigError(msg)
        if threads:
            torch.set_num_threads(threads)
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
        self._torch, self._device, self._bf16 = torch, device, bf16
        self._model = model.to(device).eval()
        self.name = f"torch-{device}{'-bf16' if bf16 else ''}"
        self.batch_tokens = 512 if device == "cpu" else 16384

    def run(self, feed: Feed) -> npt.NDArray[np.float32]:
        """Logits of one batch."""
        torch = self._torch
        inputs = {name: torch.from_numpy(ids).to(self._device) for name, ids in feed.items()}
        with (
            torch.inference_mode(),
            torch.autocast(self._device, dtype=torch.bfloat16, enabled=self._bf16),
        ):
            logits: npt.NDArray[np.float32] = self._model(**inputs).logits.float().cpu().numpy()
        return logits
