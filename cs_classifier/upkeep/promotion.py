"""Put a model into use in place of another, and take it back.

The former model stays beside the new one as ``<target>.previous``; both are checked against their
checksums before anything moves. ``promotions.jsonl`` beside the target says what happened and why.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from cs_classifier import artifact, datasets
from cs_classifier.errors import ArtifactError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cs_classifier.labels import LabelSet
    from cs_classifier.records import LabelledMessage
    from cs_classifier.upkeep.gate import GateReport

HISTORY = "promotions.jsonl"


def previous_path(target: Path) -> Path:
    """Where the model that ``target`` replaced is kept."""
    return target.with_name(f"{target.name}.previous")


def promote(
    new: Path, target: Path, report: GateReport, *, when: datetime, force: str = ""
) -> None:
    """Copy the model folder ``new`` to ``target``; the model there becomes ``<target>.previous``.

    The new copy is complete and checked before anything moves; then two renames put it in place.
    Should the machine stop between them, :func:`rollback` brings the former model back.

    Args:
        new: the candidate; it stays where it is.
        target: the model in use.
        report: what the gate found for these two.
        when: for the history.
        force: why a model that did not pass is put into use all the same.

    Raises:
        ArtifactError: a folder is not a sound artifact, the report is on other models, the new
            model did not pass and no reason is given, or the history cannot be written.
    """
    manifests = [artifact.read_manifest(folder) for folder in (new, target)]
    if [report.new, report.old] != [manifest.id for manifest in manifests]:
        msg = f"the gate's report is on {report.new} and {report.old}; run the gate on these two"
        raise ArtifactError(msg)
    if not report.passed and not force:
        msg = f"{report.new} did not pass the gate; mend it, or force it with a reason"
        raise ArtifactError(msg)
    incoming, previous = target.with_name(f".{target.name}.incoming"), previous_path(target)
    try:
        shutil.rmtree(incoming, ignore_errors=True)
        shutil.copytree(new, incoming)
        artifact.verify(incoming, manifests[0])
        artifact.verify(target, manifests[1])
        if previous.exists():
            artifact.read_manifest(previous)  # nothing but a model is ever deleted
            shutil.rmtree(previous)
        target.rename(previous)
        incoming.rename(target)
    except OSError as error:
        msg = f"cannot replace {target}: {error.strerror or error}"
        raise ArtifactError(msg) from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    _record(
        target,
        event="promote",
        when=when,
        model=report.new,
        former=report.old,
        passed=report.passed,
        forced=force,
        failures=[finding.model_dump(exclude_defaults=True) for finding in report.failures],
    )


def rollback(target: Path, *, when: datetime) -> str:
    """Swap ``target`` and ``<target>.previous``; a second call swaps them back.

    Returns:
        The id of the model that is now in use.

    Raises:
        ArtifactError: there is no former model, it is damaged, or the history cannot be written.
    """
    previous = previous_path(target)
    if not previous.exists():
        msg = f"{previous} does not exist: nothing has been promoted over {target}"
        raise ArtifactError(msg)
    manifest = artifact.read_manifest(previous)
    artifact.verify(previous, manifest)
    leaving = target.with_name(f".{target.name}.leaving")
    former = ""
    try:
        if target.exists():
            former = artifact.read_manifest(target).id
            target.rename(leaving)
        previous.rename(target)
        if leaving.exists():
            leaving.rename(previous)
    except OSError as error:
        msg = f"cannot roll {target} back: {error.strerror or error}"
        raise ArtifactError(msg) from error
    _record(target, event="rollback", when=when, model=manifest.id, former=former)
    return manifest.id


def _record(target: Path, *, event: str, when: datetime, **details: object) -> None:
    """Add a line to the history beside ``target``.

    Raises:
        ArtifactError: it cannot be written; the message holds the line.
    """
    line = {
        "event": event,
        "target": target.name,
        "when": when.isoformat(timespec="seconds"),
        **details,
        "manifest": datasets.checksum(target / artifact.MANIFEST),
    }
    text, path = json.dumps(line, ensure_ascii=False), target.with_name(HISTORY)
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")
    except OSError as error:
        msg = (
            f"{line['model']} is in place as {target}, but {path} cannot be written: "
            f"{error.strerror}; add this line to it: {text}"
        )
        raise ArtifactError(msg) from error


def check_unused(models: Iterable[Path], data: Iterable[Path]) -> None:
    """Make sure that no file of ``data`` was used to train or calibrate one of ``models``.

    Raises:
        DataError: one was, by its checksum.
    """
    used = {checksum: name for folder in models for name, checksum in learnt_from(folder).items()}
    for path in datasets.files(data):
        if name := used.get(datasets.checksum(path)):
            msg = f"{path} cannot judge: a model was trained or calibrated on it, as {name}"
            raise DataError(msg)


def seen_lines(
    models: Iterable[Path], label_set: LabelSet
) -> tuple[list[LabelledMessage], tuple[str, ...]]:
    """Training and calibration lines of model folders, and the files that are not at hand.

    Only files that still have the checksum in the manifest are read, from the working folder.
    """
    used = {item for folder in models for item in learnt_from(folder).items()}
    there = {name for name, checksum in used if _unchanged(Path(name), checksum)}
    lines = [line for name in sorted(there) for line in datasets.load([Path(name)], label_set)]
    return lines, tuple(sorted({name for name, _ in used} - there))


def learnt_from(folder: Path) -> dict[str, str]:
    """Files that a model was trained or calibrated on, with their checksums."""
    recipe = folder / "training.json"
    details = json.loads(recipe.read_text(encoding="utf-8")) if recipe.exists() else {}
    data = artifact.read_manifest(folder).data
    if "tests" in details:
        return data
    # Manifests written before "tests" hold the test files of the recipe as well.
    tests = [Path(path) for path in details.get("config", {}).get("data", {}).get("test", ())]
    return {
        name: checksum
        for name, checksum in data.items()
        if not any(Path(name).is_relative_to(test) for test in tests)
    }


def _unchanged(path: Path, checksum: str) -> bool:
    return path.is_file() and datasets.checksum(path) == checksum
