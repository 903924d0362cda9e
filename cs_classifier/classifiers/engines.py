"""Which engine runs the encoder, and why."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cs_classifier.classifiers.batching import BatchedEncoder, read_tokenizer
from cs_classifier.errors import ConfigError

if TYPE_CHECKING:
    from cs_classifier.classifiers.batching import Session

Engine = Literal["auto", "onnx", "openvino", "torch"]
Device = Literal["cpu", "cuda"]
LIBRARIES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
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
    if engine != "auto":
        capable = {"openvino": "amx_bf16" in flags, "torch": bool(BF16_FLAGS & flags)}
        return Choice(engine, device, capable.get(engine, False), f"{engine} as asked for")
    if "amx_bf16" not in flags:
        return Choice("onnx", device, False, "onnx: this CPU has no AMX for bf16")
    if "openvino" not in installed:
        return Choice("onnx", device, False, "onnx: OpenVINO, faster on AMX, is not installed")
    return Choice("openvino", device, True, "openvino: this CPU has AMX for bf16")


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
    engine: Engine = "auto",
    device: Device = "cpu",
    threads: int = 0,
) -> BatchedEncoder:
    """Load the encoder of an artifact ``folder``.

    Raises:
        ConfigError: the engine or the device cannot be used.
        MissingExtraError: the engine's library is not installed.
    """
    choice = choose(engine, device, flags=cpu_flags(), installed=installed_engines())
    tokenizer = read_tokenizer(folder, max_tokens)
    exact = None
    if choice.bf16:
        plain = replace(choice, bf16=False)
        exact = BatchedEncoder(tokenizer, _open(plain, folder, threads), pad_id=pad_id)
    return BatchedEncoder(
        tokenizer,
        _open(choice, folder, threads),
        pad_id=pad_id,
        reason=choice.reason,
        exact=exact,
    )


def _open(choice: Choice, folder: Path, threads: int) -> Session:
    if choice.engine == "openvino":
        from cs_classifier.classifiers.openvino import OpenVinoSession

        return OpenVinoSession(folder, bf16=choice.bf16, threads=threads)
    if choice.engine == "torch":
        from cs_classifier.classifiers.torch import TorchSession

        return TorchSession(folder, device=choice.device, bf16=choice.bf16, threads=threads)
    from cs_classifier.classifiers.onnx import OnnxSession

    return OnnxSession(folder, threads=threads, device=choice.device)
