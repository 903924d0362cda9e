"""Write a fine-tuned encoder so that both ``transformers`` and ONNX Runtime can run it.

The weights are stored once, as 16-bit floats in ``model.safetensors``. ``model.onnx`` holds only
the graph: its initializers point into the safetensors file (ONNX external data) and are cast to 32
bits when a session is built. Both engines therefore compute with the same numbers.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from cs_classifier.classifiers import screen
from cs_classifier.classifiers.engines import MODEL
from cs_classifier.errors import ArtifactError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

TOLERANCE = 1e-3  # largest difference of a logit between torch and ONNX Runtime
WEIGHTS = "model.safetensors"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def save_encoder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> float:
    """Write ``model.safetensors``, ``config.json``, ``tokenizer.json`` and ``model.onnx``.

    The model's own weights are rounded to 16 bits on the way, so that it stays equal to its files.

    Returns:
        The largest absolute difference of a logit between torch and ONNX Runtime.

    Raises:
        ArtifactError: the two engines disagree by more than ``TOLERANCE``.
        MissingExtraError: the export libraries are not installed.
    """
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        msg = "train"
        raise MissingExtraError(msg, "safetensors") from error
    folder.mkdir(parents=True, exist_ok=True)
    half = _halve(model.to("cpu").eval())
    model.config.dtype = "float32"  # load_pretrained widens the stored halves again
    model.config.save_pretrained(folder)
    save_file(half, folder / WEIGHTS, metadata={"format": "pt"})
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    backend.save(str(folder / "tokenizer.json"))
    return _export(model, folder / MODEL, [WEIGHTS])


def save_screen(model: PreTrainedModel, folder: Path) -> None:
    """Write the screen of the model in ``folder``: its graph, and weights that are its own.

    Raises:
        ArtifactError: torch and ONNX Runtime disagree by more than ``TOLERANCE``.
    """
    from safetensors.torch import load_file, save_file

    half = _halve(model)
    stored = load_file(folder / WEIGHTS)
    own = {k: v for k, v in half.items() if k not in stored or not v.equal(stored[k])}
    save_file(own, folder / screen.WEIGHTS, metadata={"format": "pt"})
    _export(model, folder / screen.GRAPH, [screen.WEIGHTS, WEIGHTS])


def _halve(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The model's tensors in 16 bits; its own are rounded likewise."""
    import torch

    half = {k: v.detach().to(torch.float16).contiguous() for k, v in model.state_dict().items()}
    model.load_state_dict({k: v.float() for k, v in half.items()})
    return half


def _export(model: PreTrainedModel, graph: Path, weights: Sequence[str]) -> float:
    """Write ``graph`` over the files ``weights`` beside it; returns the largest difference."""
    _export_graph(model, graph, weights)
    difference = _largest_difference(model, graph)
    if difference > TOLERANCE:
        msg = f"ONNX and torch logits differ by {difference:.2e}, more than {TOLERANCE:.0e}"
        raise ArtifactError(msg)
    return difference


def _export_graph(model: PreTrainedModel, path: Path, weights: Sequence[str]) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch's exporter needs it; say so before it starts)
    except ImportError as error:
        msg = "train"
        raise MissingExtraError(msg, "onnxscript") from error
    import torch

    wrapper = _logits_only(model).eval()
    example = {name: torch.ones((2, 8), dtype=torch.long) for name in INPUTS}
    shape = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("tokens", min=2, max=512)}
    attention = model.config._attn_implementation
    model.set_attn_implementation("eager")  # exports to plain products and a softmax
    with torch.no_grad():
        program = torch.onnx.export(
            wrapper,
            kwargs=example,
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamic_shapes=dict.fromkeys(INPUTS, shape),
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    model.set_attn_implementation(attention)
    graph = program.model_proto
    _refer_to_safetensors(graph, [path.parent / name for name in weights])
    onnx.save(graph, path)


def _logits_only(model: PreTrainedModel) -> Any:  # noqa: ANN401  (a module, made lazily)
    import torch

    class LogitsOnly(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
        """Returns the logits tensor instead of an output object."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            token_type_ids: torch.Tensor,
        ) -> torch.Tensor:
            logits: torch.Tensor = self.model(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).logits
            return logits

    return LogitsOnly()


def safetensors_index(path: Path) -> dict[str, tuple[list[int], int, int]]:
    """Shape, absolute offset and length in bytes of each tensor in a safetensors file."""
    with path.open("rb") as stream:
        (size,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(size))
    header.pop("__metadata__", None)
    start = 8 + size
    return {
        name: (
            entry["shape"],
            start + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in header.items()
    }


def _refer_to_safetensors(graph: Any, files: Sequence[Path]) -> None:  # noqa: ANN401
    """Replace each weight in ``graph`` by a reference into one of ``files`` and a cast to fp32."""
    from onnx import TensorProto, helper, numpy_helper

    indices = {path: safetensors_index(path) for path in files}
    casts, kept = [], []
    for initializer in graph.graph.initializer:
        name = initializer.name.removeprefix("model.")
        value = numpy_helper.to_array(initializer)
        matches = ((path, _locate(value, name, index, path)) for path, index in indices.items())
        path, match = next(((p, m) for p, m in matches if m), (files[0], None))
        if match is None:
            kept.append(initializer)
            continue
        shape, offset, length, transposed = match
        stored = TensorProto(
            name=f"{name}.stored",
            data_type=TensorProto.FLOAT16,
            dims=shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, place in (("location", path.name), ("offset", offset), ("length", length)):
            stored.external_data.add(key=key, value=str(place))
        kept.append(stored)
        wide = f"{name}.wide" if transposed else initializer.name
        casts.append(helper.make_node("Cast", [stored.name], [wide], to=TensorProto.FLOAT))
        if transposed:
            casts.append(helper.make_node("Transpose", [wide], [initializer.name], perm=[1, 0]))
    nodes = [*casts, *graph.graph.node]
    del graph.graph.initializer[:], graph.graph.node[:]
    for node in nodes:
        del node.metadata_props[:]  # stack traces of the machine that exported
    graph.graph.initializer.extend(kept)
    graph.graph.node.extend(nodes)


def _locate(
    value: Any,  # noqa: ANN401
    name: str,
    index: dict[str, tuple[list[int], int, int]],
    weights: Path,
) -> tuple[list[int], int, int, bool] | None:
    """Find the stored tensor that an initializer equals, as it is or transposed."""
    if value.dtype != np.float32 or value.size < 64:  # noqa: PLR2004  (scalars stay in the graph)
        return None
    candidates = (
        [name] if name in index else [n for n, e in index.items() if np.prod(e[0]) == value.size]
    )
    for candidate in candidates:
        shape, offset, length = index[candidate]
        stored = np.fromfile(weights, "<f2", length // 2, offset=offset).reshape(shape)
        if list(value.shape) == shape and np.array_equal(stored.astype(np.float32), value):
            return shape, offset, length, False
        if value.ndim == 2 and np.array_equal(stored.T.astype(np.float32), value):  # noqa: PLR2004
            return shape, offset, length, True
    return None


def _largest_difference(model: PreTrainedModel, graph: Path) -> float:
    """Compare torch and ONNX Runtime on random ids of several shapes, with padding."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    worst = 0.0
    for rows, width in ((1, 4), (3, 17), (8, 64)):
        ids = rng.integers(4, model.config.vocab_size, (rows, width))
        mask = np.ones_like(ids)
        mask[-1, width // 2 :] = 0
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        with torch.no_grad():
            ours = model(**{k: torch.from_numpy(v) for k, v in feed.items()}).logits.numpy()
        theirs = session.run(["logits"], feed)[0]
        worst = max(worst, float(np.abs(ours - theirs).max()))
    return worst
