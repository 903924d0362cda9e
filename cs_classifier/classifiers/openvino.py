"""The encoder in OpenVINO: faster than ONNX Runtime where the CPU multiplies bf16 matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cs_classifier.errors import MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from cs_classifier.classifiers.batching import Feed


class OpenVinoSession:
    """A graph of an artifact compiled for this CPU, in bf16 or 32-bit floats."""

    def __init__(self, graph: Path, *, bf16: bool, threads: int = 0) -> None:
        """Compile ``graph``, such as an artifact's ``model.onnx``; 0 ``threads`` means all cores.

        Raises:
            MissingExtraError: OpenVINO is not installed.
        """
        try:
            import openvino
        except ImportError as error:
            extra = "openvino"
            raise MissingExtraError(extra, "openvino") from error
        settings = {
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time on all threads
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "ENABLE_CPU_PINNING": "NO",  # workers beside each other would all sit on the first core
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        core = openvino.Core()
        model = core.compile_model(core.read_model(graph), "CPU", settings)
        self._request = model.create_infer_request()
        self.name = "openvino-bf16" if bf16 else "openvino"
        self.batch_tokens = 2048 if bf16 else 512

    def run(self, feed: Feed) -> npt.NDArray[np.float32]:
        """Logits of one batch."""
        logits: npt.NDArray[np.float32] = self._request.infer(feed)[0].copy()
        return logits
