"""The encoder in ONNX Runtime: runs everywhere, and starts without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cs_classifier.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from cs_classifier.classifiers.batching import Feed


class OnnxSession:
    """A graph of an artifact in 32-bit floats."""

    def __init__(self, graph: Path, *, threads: int = 0, device: str = "cpu") -> None:
        """Load ``graph``, such as an artifact's ``model.onnx``; 0 ``threads`` means all cores.

        Raises:
            ConfigError: the installed ONNX Runtime does not know the device.
        """
        import onnxruntime

        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
        if provider not in onnxruntime.get_available_providers():
            msg = (
                "the installed onnxruntime has no CUDA; install onnxruntime-gpu in its place, "
                "or use --engine torch"
            )
            raise ConfigError(msg)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=[provider])
        self.name = "onnx" if device == "cpu" else f"onnx-{device}"
        # On a CPU the activations of a batch should stay in the second-level cache.
        self.batch_tokens = 512 if device == "cpu" else 16384

    def run(self, feed: Feed) -> npt.NDArray[np.float32]:
        """Logits of one batch."""
        logits: npt.NDArray[np.float32] = self._session.run(["logits"], feed)[0]
        return logits
