"""Which engine runs the encoder, and why."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cs_classifier.classifiers import screen
from cs_classifier.classifiers.batching import ROUNDING, BatchedEncoder, read_tokenizer
from cs_classifier.errors import ConfigError

if TYPE_CHECKING:
    from cs_classifier.classifiers.batching import Session

Engine = Literal["auto", "onnx", "openvino", "torch"]
Device = Literal["cpu", "cuda"]
MODEL = "model.onnx"
LIBRARIES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
PROBE = (
    ("能开发票吗", "没有的哦亲"),
    ("昨天说好今天发货的", "不好意思 仓库这边排到周五了"),
    ("", "您好 请问有什么可以帮您的吗"),
    (
        "是正品吗 怎么比专柜便宜这么多",
        "亲亲 这款是活动价 支持七天无理由退换 您可以放心拍下 有问题随时联系我们哦",
    ),
)  # context and text
BF16_FLAGS = {"amx_bf16", "avx512_bf16"}  # instructions that multiply 16-bit matrices


@dataclass(frozen=True)
class Choice:
    """An engine, a device, a precision, and the reason in one line."""

    engine: Engine
    device: Device
    bf16: bool
    reason: str


def choose(
    engine: Engine, device: Device, *, flags: frozenset[str], installed: frozenset[str]
) -> Choice:
    """Choose by what the CPU can do and what is installed; nothing is loaded or timed.

    Args:
        engine: one by name, or ``auto``.
        device: where to run.
        flags: the CPU's features, as Linux names them.
        installed: engines whose library is there.

    Raises:
        ConfigError: the engine cannot run on the device.
    """
    if device == "cuda":
        if engine == "openvino":
            msg = "OpenVINO does not run on CUDA; use --engine torch or onnx"
            raise ConfigError(msg)
        name: Engine = engine
        if engine == "auto":
            name = "torch" if "torch" in installed else "onnx"
        return Choice(name, device, name == "torch", f"{name} on the GPU")
    bf16 = bool(BF16_FLAGS & flags)
    if engine != "auto":
        return Choice(engine, device, bf16 and engine != "onnx", f"{engine} as asked for")
    if not bf16:
        return Choice("onnx", device, False, "onnx: this CPU does not multiply bf16 matrices")
    if "openvino" not in installed:
        reason = "onnx: OpenVINO, twice as fast on this CPU, is not installed"
        return Choice("onnx", device, False, reason)
    return Choice("openvino", device, True, "openvino: this CPU multiplies bf16 matrices")


def cpu_flags() -> frozenset[str]:
    """Features of this CPU; empty where the system does not list them."""
    path = Path("/proc/cpuinfo")
    if platform.system() != "Linux" or not path.is_file():
        return frozenset()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def installed_engines() -> frozenset[str]:
    """Engines whose library can be imported; none is."""
    return frozenset(name for name, library in LIBRARIES.items() if find_spec(library))


def load(  # noqa: PLR0913
    folder: Path,
    *,
    max_tokens: int,
    pad_id: int,
    labels: int,
    engine: Engine = "auto",
    device: Device = "cpu",
    threads: int = 0,
    screened: bool = True,
) -> BatchedEncoder:
    """Load the encoder of an artifact ``folder``, with that of its screen if it has one.

    torch is the reference and takes no screen: it scores every line in full. The first ``labels``
    outputs decide; the others name clauses.

    Raises:
        ConfigError: the engine or the device cannot be used.
        MissingExtraError: the engine's library is not installed.
    """
    choice = choose(engine, device, flags=cpu_flags(), installed=installed_engines())
    tokenizer = read_tokenizer(folder, max_tokens)

    def opened(choice: Choice, graph: str = MODEL) -> BatchedEncoder:
        session = _open(choice, folder, graph, threads)
        return BatchedEncoder(tokenizer, session, pad_id=pad_id, reason=choice.reason)

    encoder = opened(choice)
    if choice.bf16:
        reason = f"{choice.engine}: bf16 is too far off here"
        plain = replace(choice, bf16=False, reason=reason)
        exact = opened(plain)
        if rounds_little(encoder, exact, labels):
            encoder.exact = exact
        else:
            choice, encoder = plain, exact
    if screened and choice.engine != "torch" and (folder / screen.GRAPH).exists():
        encoder.screen = opened(choice, screen.GRAPH)
    return encoder


def rounds_little(rounding: BatchedEncoder, exact: BatchedEncoder, labels: int) -> bool:
    """Whether the labels' logits are as near to the exact ones as :class:`Pipeline` takes them.

    Hardware and libraries differ, so that is tried on a few pairs whenever a model is loaded.
    """
    difference = np.abs(rounding.logits(PROBE) - exact.logits(PROBE))[:, :labels].max()
    return bool(difference <= ROUNDING / 2)  # a few pairs are not the worst; nan is not little


def _open(choice: Choice, folder: Path, graph: str, threads: int) -> Session:
    if choice.engine == "openvino":
        from cs_classifier.classifiers.openvino import OpenVinoSession

        return OpenVinoSession(folder / graph, bf16=choice.bf16, threads=threads)
    if choice.engine == "torch":
        from cs_classifier.classifiers.torch import TorchSession

        return TorchSession(folder, device=choice.device, bf16=choice.bf16, threads=threads)
    from cs_classifier.classifiers.onnx import OnnxSession

    return OnnxSession(folder / graph, threads=threads, device=choice.device)
