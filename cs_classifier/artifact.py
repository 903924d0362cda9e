"""A trained model as one folder of safe formats: JSON, YAML, safetensors, ONNX; no pickle.

``manifest.json`` lists every other file with its SHA-256; loading checks them all first.

When the format changes: raise ``FORMAT_VERSION``, keep reading the older one or say in
``CHANGELOG.md`` that it must be trained anew, and add a test with a folder of the old format.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cs_classifier import resources
from cs_classifier.calibration import Calibrator
from cs_classifier.classifiers import engines, ngrams, screen
from cs_classifier.classifiers.screen import Screen, ScreenLimits
from cs_classifier.datasets import checksum
from cs_classifier.decision import Decision
from cs_classifier.errors import ArtifactError, ConfigError
from cs_classifier.labels import load_labels
from cs_classifier.normalize import Normalizer
from cs_classifier.pipeline import Pipeline
from cs_classifier.rules import load_rules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
DEFAULT = "models/default"
M = TypeVar("M", bound=BaseModel)
CONFIGS = ("labels.yaml", "rules.yaml", "lexicon.yaml")  # what the model was fitted with


class Manifest(BaseModel):
    """What an artifact is made of and how it came about."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format_version: int
    id: str
    created: str  # date, ISO 8601
    labels: tuple[str, ...]
    clauses: tuple[str, ...] = ()  # that the head names after the labels
    base: str
    parent: str = ""  # id of the model that it was trained on from
    max_tokens: int
    pad_id: int
    seed: int
    revision: str  # git revision of the code
    data: dict[str, str]  # file to SHA-256, of what it was trained or calibrated on
    versions: dict[str, str]  # library to version
    onnx_difference: float  # largest logit difference between torch and ONNX Runtime
    files: dict[str, str] = {}  # every other file in the folder to its SHA-256


def default_path() -> Path:
    """The shipped model, whatever the working directory.

    Raises:
        ArtifactError: this installation carries none.
    """
    try:
        return resources.find(DEFAULT)
    except ConfigError as error:
        raise ArtifactError(str(error)) from error


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``manifest.json``.

    Raises:
        ArtifactError: no such folder, not an artifact, or of a newer format.
    """
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["format_version"]
    except OSError as error:
        msg = f"{folder} is not a model folder: it has no readable {MANIFEST}"
        raise ArtifactError(msg) from error
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path} is damaged; restore the model folder or train it again"
        raise ArtifactError(msg) from error
    if version != FORMAT_VERSION:
        msg = (
            f"{folder} has artifact format {version}, this version reads {FORMAT_VERSION}; "
            f"{'upgrade cs-classifier' if version > FORMAT_VERSION else 'train the model again'}"
        )
        raise ArtifactError(msg)
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        msg = f"{path} is damaged: {error}"
        raise ArtifactError(msg) from error


def verify(folder: Path, manifest: Manifest) -> None:
    """Compare every listed file with its checksum.

    Raises:
        ArtifactError: a file is missing or changed; it is named.
    """
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            msg = f"{folder}: {name} is missing; restore the model folder"
            raise ArtifactError(msg)
        if checksum(path) != expected:
            msg = f"{folder}: {name} has been changed or damaged (checksum differs)"
            raise ArtifactError(msg)


def load(
    folder: Path | None = None,
    *,
    threads: int = 0,
    engine: engines.Engine = "auto",
    device: engines.Device = "cpu",
    screened: bool = True,
) -> Pipeline:
    """Load a model folder, the shipped one by default.

    Args:
        folder: the artifact.
        threads: of the encoder; 0 means all cores.
        engine: what runs the encoder; ``auto`` chooses by the CPU.
        device: where the encoder runs.
        screened: let the model's screen clear lines, where it has one and the engine is not torch.

    Raises:
        ArtifactError: missing, damaged or of another format.
        ConfigError: the engine cannot run on the device, or there is none.
        MissingExtraError: the engine is not installed.
    """
    folder = folder or default_path()
    manifest = read_manifest(folder)
    verify(folder, manifest)
    label_set = load_labels(folder / "labels.yaml")
    wide = folder / ngrams.FILE
    encoder = engines.load(
        folder,
        max_tokens=manifest.max_tokens,
        pad_id=manifest.pad_id,
        labels=len(label_set),
        engine=engine,
        device=device,
        threads=threads,
        screened=screened,
    )
    small = encoder.screen
    return Pipeline(
        label_set=label_set,
        rules=load_rules(folder / "rules.yaml", label_set),
        normalizer=Normalizer(folder / "lexicon.yaml"),
        encoder=encoder,
        exact=encoder.exact,
        screen=Screen(small, _read(ScreenLimits, folder / screen.LIMITS)) if small else None,
        ngrams=ngrams.NgramModel.load(wide) if wide.exists() else None,
        calibrator=_read(Calibrator, folder / "calibration.json"),
        decision=_read(Decision, folder / "decision.json"),
        model_id=manifest.id,
        clauses=manifest.clauses,
    )


def _read(kind: type[M], path: Path) -> M:
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        msg = f"{path} does not fit this version: {error}"
        raise ArtifactError(msg) from error


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401
    """Write readable JSON with a final newline; Chinese is kept as it is."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Write ``manifest.json`` with the checksums of everything else in ``folder``."""
    files = {p.name: checksum(p) for p in sorted(folder.iterdir()) if p.name != MANIFEST}
    sealed = manifest.model_copy(update={"files": files})
    write_json(folder / MANIFEST, sealed)
    return sealed


def create(target: Path, fill: Callable[[Path], Manifest]) -> Path:
    """Let ``fill`` write a new artifact beside ``target``, seal it, and move it into place.

    An existing artifact at ``target`` is replaced only when the new one is complete; any other
    folder there is an error.
    """
    if target.exists() and not (target / MANIFEST).exists():
        msg = f"{target} exists and is not a model folder; choose another output"
        raise ArtifactError(msg)
    building = target.with_name(f".{target.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        seal(building, fill(building))
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        msg = f"cannot write {target}: {error.strerror}"
        raise ArtifactError(msg) from error
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    if target.exists():
        shutil.rmtree(target)
    building.rename(target)
    return target


def copy_configs(source: Path | None, folder: Path) -> None:
    """Put label set, rules and lexicon beside the model: the shipped ones or ``source``'s."""
    for name in CONFIGS:
        origin = source / name if source else resources.find(f"configs/{name}")
        shutil.copyfile(origin, folder / name)
