"""Train: lines in, a complete artifact out. And refit calibration and thresholds alone."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cs_classifier import artifact, datasets, splits
from cs_classifier.artifact import Manifest
from cs_classifier.calibration import Calibrator
from cs_classifier.classifiers import engines, ngrams, screen
from cs_classifier.classifiers.screen import ScreenLimits
from cs_classifier.decision import Decision, LabelThresholds, choose
from cs_classifier.errors import ConfigError, DataError
from cs_classifier.evaluation import EvaluationReport, evaluate
from cs_classifier.evasion import ATTACKS, Evader
from cs_classifier.labels import LabelSet, load_labels
from cs_classifier.normalize import default_normalizer
from cs_classifier.pipeline import MAX_CONTEXT
from cs_classifier.reports import card
from cs_classifier.reports.evaluation import to_json
from cs_classifier.resources import CONFIGS
from cs_classifier.training import clause_head, finetuning, screening, wide
from cs_classifier.training.export import save_encoder, save_screen
from cs_classifier.upkeep import promotion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from transformers import PreTrainedModel

    from cs_classifier.config import DecisionConfig, TrainConfig
    from cs_classifier.pipeline import Scored
    from cs_classifier.records import LabelledMessage

    Array = npt.NDArray[np.float64]

METRICS = "metrics.json"
TRAINING = "training.json"  # recipe, history, line counts, and checksums of the test files
_STAMP = "%Y%m%d%H%M%S"  # in model ids
LIBRARIES = ("cs-classifier", "numpy", "onnxruntime", "tokenizers", "torch", "transformers")


def train(
    config: TrainConfig,
    target: Path,
    *,
    work: Path,
    on_step: Callable[[int, int, str], None] = lambda *_: None,
) -> EvaluationReport | None:
    """Fine-tune, calibrate, evaluate on the test files, and write the artifact ``target``.

    Where ``config.data.replay`` names lines that the base model has learnt already, each epoch also
    takes a fresh draw of them, so that the new lines do not make it forget (experience replay,
    Rolnick et al. 2019). The n-gram model and the clause outputs are fitted on all lines.

    Args:
        config: the recipe.
        target: artifact folder; an existing artifact is replaced when the new one is complete.
        work: folder for checkpoints; a run that was stopped continues from there.
        on_step: called with (step, all steps, note).

    Returns:
        The evaluation on ``config.data.test``, if there is any.

    Raises:
        DataError: there is no gold line to train or to calibrate on, or two splits share a group.
    """
    label_set = load_labels()
    lines = _gold_lines(config.data.train, label_set, "train")
    old = _gold_lines(config.data.replay, label_set, "replay") if config.data.replay else []
    calibration = _gold_lines(config.data.calibration, label_set, "calibrate")
    test = datasets.load(config.data.test, label_set) if config.data.test else []
    check_apart(lines, old, calibration, test)
    rng = np.random.default_rng(config.train.seed)
    rest, held = splits.by_group(lines, config.data.validation_share, rng)
    replay, old_held = splits.by_group(old, config.data.validation_share, rng) if old else ([], [])
    held = [*held, *_draw(old_held, round(config.data.replay_ratio * len(held)), rng)]
    learnt, unseen = [*rest, *replay], _encodable(held, label_set)
    targets = _targets(learnt, label_set, config)
    tuned = finetuning.fine_tune(
        config.train,
        config.model,
        label_set,
        train=_epochs(rest, replay, targets, config),
        validation=unseen,
        work=work,
        on_step=on_step,
    )
    small = None
    if config.screen:
        respelt = _epochs(learnt, [], targets, config)(0)
        small = _distil(tuned, respelt, unseen, config, work / "screen", on_step)
    clauses = _name_clauses(tuned, learnt, label_set, config) if config.train.clauses else ()
    reports: list[EvaluationReport] = []

    def fill(folder: Path) -> Manifest:
        artifact.copy_configs(None, folder)
        difference = save_encoder(tuned.model, tuned.tokenizer, folder)
        if small is not None:
            save_screen(small, folder)
        if config.train.ngrams:
            wide.fit(
                *_encodable(learnt, label_set),
                weight=config.train.ngrams,
                min_lines=config.train.ngram_lines,
            ).save(folder / ngrams.FILE)
        manifest = _manifest(config, label_set, tuned, difference, clauses)
        details = {
            "config": config.model_dump(mode="json"),
            "history": [asdict(epoch) for epoch in tuned.history],
            "lines": {"train": len(rest)}
            | ({"replay": len(replay)} if replay else {})
            | {"validation": len(held), "calibration": len(calibration)},
            "tests": _checksums(config.data.test),
        }
        artifact.write_json(folder / TRAINING, details)
        missed = config.screen.missed if config.screen else 0.0
        report = _finish(
            folder,
            manifest,
            calibration,
            config.decision,
            test=test,
            train=[*lines, *old],
            missed=missed,
        )
        if report:
            reports.append(report)
        return manifest

    artifact.create(target, fill)
    return reports[0] if reports else None


def recalibrate(  # noqa: PLR0913
    model: Path,
    data: Sequence[Path],
    target: Path,
    config: DecisionConfig | None = None,
    *,
    test: Sequence[Path] = (),
    train: Sequence[Path] = (),
) -> EvaluationReport | None:
    """Refit calibration and thresholds of ``model`` on reviewed lines; the encoder stays.

    Rules and lexicon are taken from this installation, so that edited rules come into force.

    Args:
        model: artifact folder.
        data: files or folders of reviewed lines that the encoder was not trained on.
        target: artifact folder to write; may be ``model``.
        config: decision targets; the model's own by default.
        test: lines to evaluate on, for the card.
        train: the encoder's training lines, for the TF-IDF baseline of that evaluation.

    Raises:
        DataError: ``data`` holds no gold line, or shares a group with ``test`` or ``train``.
        ConfigError: the model was trained for another label set than the one in use.
    """
    label_set = load_labels()
    old = artifact.read_manifest(model)
    artifact.verify(model, old)
    if old.labels != label_set.ids:
        msg = f"{model} has the labels {', '.join(old.labels)}; set {CONFIGS} to their folder"
        raise ConfigError(msg)
    lines = _gold_lines(data, label_set, "calibrate")
    test_lines = datasets.load(test, label_set) if test else []
    train_lines = datasets.load(train, label_set) if train else []
    check_apart(lines, test_lines, train_lines)
    settings = config or artifact.load(model).decision.config
    reports: list[EvaluationReport] = []

    def fill(folder: Path) -> Manifest:
        for name in set(old.files) - {METRICS}:
            shutil.copyfile(model / name, folder / name)
        artifact.copy_configs(None, folder)
        details = _details(folder)
        details["lines"] = details.get("lines", {}) | {"calibration": len(lines)}
        used = promotion.learnt_from(model) | _checksums(data)
        tests = old.data | details.get("tests", {}) | _checksums(test)
        details["tests"] = {name: tests[name] for name in tests if name not in used}
        artifact.write_json(folder / TRAINING, details)
        identity = f"{old.id.partition('+')[0]}+{dt.datetime.now():{_STAMP}}"
        manifest = old.model_copy(update={"id": identity, "data": used})
        if report := _finish(folder, manifest, lines, settings, test=test_lines, train=train_lines):
            reports.append(report)
        return manifest

    artifact.create(target, fill)
    return reports[0] if reports else None


def _gold_lines(paths: Sequence[Path], label_set: LabelSet, purpose: str) -> list[LabelledMessage]:
    lines = datasets.gold(datasets.load(paths, label_set))
    if not lines:
        msg = f"no gold lines to {purpose} on in {', '.join(map(str, paths))}"
        raise DataError(msg)
    return lines


def check_apart(*parts: Sequence[LabelledMessage]) -> None:
    """Make sure that no line or group stands in two splits.

    Raises:
        DataError: it names the first shared group or line.
    """
    for what in ("group", "id"):
        seen: dict[str, int] = {}
        for number, part in enumerate(parts):
            for line in part:
                value = getattr(line, what)
                if seen.setdefault(value, number) != number:
                    msg = f"{what} '{value}' occurs in two splits; move one of them"
                    raise DataError(msg)


def fit_decision(
    logits: Array,
    strengths: Array,
    lines: Sequence[LabelledMessage],
    label_set: LabelSet,
    config: DecisionConfig,
) -> tuple[Calibrator, Decision]:
    """Calibrate and choose thresholds on lines that training never saw."""
    gold = np.array([label_set.row(line.labels) for line in lines], dtype=np.float64)
    natural = np.array([datasets.is_natural(line) for line in lines])
    weights = np.where(natural | gold.any(axis=1), 1.0, config.enriched_weight)
    calibrator = Calibrator.fit(
        logits, strengths, gold, prevalence=config.prevalence, weights=weights
    )
    probabilities = calibrator.transform(logits, strengths)
    groups = [line.group for line in lines]
    return calibrator, choose(probabilities, gold, config, natural=natural, groups=groups)


def _encodable(lines: Sequence[LabelledMessage], label_set: LabelSet) -> finetuning.Lines:
    """Normalised (context, text) pairs, exactly as the pipeline will make them, and gold labels."""
    gold = [label_set.row(line.labels) for line in lines]
    return _pairs(lines), np.array(gold, dtype=np.float64)


def _pairs(lines: Sequence[LabelledMessage]) -> list[tuple[str, str]]:
    normalize = default_normalizer()
    return [
        (normalize(line.message.context).text[-MAX_CONTEXT:], normalize(line.message.text).text)
        for line in lines
    ]


def _distil(  # noqa: PLR0913, PLR0917
    tuned: finetuning.FineTuned,
    lines: finetuning.Lines,
    held: finetuning.Lines,
    config: TrainConfig,
    work: Path,
    on_step: Callable[[int, int, str], None],
) -> PreTrainedModel:
    """The model's screen."""
    assert config.screen is not None
    data, unseen = (
        finetuning.encode(tuned.tokenizer, *found, max_tokens=config.model.max_tokens)
        for found in (lines, held)
    )
    return screening.distil(
        tuned.model, data, unseen, config.screen, base=config.train, work=work, on_step=on_step
    )


def _name_clauses(
    tuned: finetuning.FineTuned,
    lines: Sequence[LabelledMessage],
    label_set: LabelSet,
    config: TrainConfig,
) -> tuple[str, ...]:
    """Give the model outputs that name clauses; returns them in order."""
    violating = [line for line in lines if line.labels and line.clauses]
    if not violating:
        return ()
    data = finetuning.encode(
        tuned.tokenizer, *_encodable(violating, label_set), max_tokens=config.model.max_tokens
    )
    return clause_head.append(tuned.model, data, [line.clauses for line in violating], label_set)


def _targets(
    lines: Sequence[LabelledMessage], label_set: LabelSet, config: TrainConfig
) -> dict[str, Array]:
    """What to learn of each line, by id: its labels ``(n_labels,)``, or the mean with a teacher's.

    The teacher ("knowledge distillation", Hinton et al. 2015) reads lines as they were written, so
    that a respelt one has the same target.
    """
    pairs, targets = _encodable(lines, label_set)
    if config.train.teacher:
        of_teacher = config.model.model_copy(update={"base": config.train.teacher, "layers": None})
        model, tokenizer = finetuning.load_base(of_teacher, label_set, dropout=0.0)
        data = finetuning.encode(tokenizer, pairs, targets, max_tokens=config.model.max_tokens)
        found = finetuning.logits(model, data, config.train.precision)
        targets = (targets + 1 / (1 + np.exp(-found))) / 2
    return {line.id: target for line, target in zip(lines, targets, strict=True)}


def _epochs(
    new: Sequence[LabelledMessage],
    old: Sequence[LabelledMessage],
    targets: dict[str, Array],
    config: TrainConfig,
) -> Callable[[int], finetuning.Lines]:
    """Lines of an epoch: all new ones and a draw of old ones, a share of them respelt.

    Respelling takes a random attack, for violating and clean lines alike.
    """
    evader = Evader("train")

    def of_epoch(epoch: int) -> finetuning.Lines:
        rng = np.random.default_rng((config.train.seed, epoch))
        lines = [*new, *_draw(old, round(config.data.replay_ratio * len(new)), rng)]
        for i, line in enumerate(lines):
            if rng.random() < config.train.evasion:
                attack = ATTACKS[int(rng.integers(len(ATTACKS)))]
                if text := evader(line.message.text, attack, rng):
                    lines[i] = replace(line, message=replace(line.message, text=text))
        return _pairs(lines), np.stack([targets[line.id] for line in lines])

    return of_epoch


def _draw(
    lines: Sequence[LabelledMessage], size: int, rng: np.random.Generator
) -> list[LabelledMessage]:
    """``size`` lines without replacement, or all where there are fewer."""
    return [lines[i] for i in rng.permutation(len(lines))[:size]]


def _finish(  # noqa: PLR0913
    folder: Path,
    manifest: Manifest,
    calibration: Sequence[LabelledMessage],
    config: DecisionConfig,
    *,
    test: Sequence[LabelledMessage],
    train: Sequence[LabelledMessage],
    missed: float = 0.0,
) -> EvaluationReport | None:
    """Fit calibration, thresholds and the screen's limits, evaluate; write all but the manifest."""
    n = len(manifest.labels)
    flat = Calibrator.fit(np.zeros((1, n)), np.zeros((1, n)), np.zeros((1, n)), prevalence=0.5)
    open_ = Decision(labels=(LabelThresholds(review=1, violation=1),) * n, config=config)
    artifact.write_json(folder / "calibration.json", flat)
    artifact.write_json(folder / "decision.json", open_)
    artifact.seal(folder, manifest)
    draft = artifact.load(folder, engine="onnx", screened=False)
    scored = draft.score([line.message for line in calibration])
    calibrator, decision = fit_decision(
        scored.logits, scored.strengths, calibration, draft.label_set, config
    )
    artifact.write_json(folder / "calibration.json", calibrator)
    artifact.write_json(folder / "decision.json", decision)
    small = engines.load(
        folder,
        max_tokens=manifest.max_tokens,
        pad_id=manifest.pad_id,
        labels=len(draft.label_set),
        engine="onnx",
    ).screen
    if small:
        found = draft.encode(small, _encodable(calibration, draft.label_set)[0])
        levels = decision.levels(calibrator.transform(scored.logits, scored.strengths))
        limits = _screen_limits(found, scored, levels, missed=missed, path=folder / screen.LIMITS)
        artifact.write_json(folder / screen.LIMITS, limits)
    report = None
    if test:
        artifact.seal(folder, manifest)
        report = evaluate(artifact.load(folder, engine="onnx"), test, train=train, files=["test"])
        artifact.write_json(folder / METRICS, to_json(report))
    details = _details(folder)
    (folder / "README.md").write_text(
        card.render(manifest, draft.label_set, calibrator, decision, report, training=details),
        encoding="utf-8",
    )
    return report


def _screen_limits(
    logits: Array, scored: Scored, levels: npt.NDArray[np.int64], *, missed: float, path: Path
) -> ScreenLimits:
    """Limits of the screen on calibration lines; where ``path`` holds some, they get stricter.

    What a rule hits is never left to the screen, so such lines count only for a label that reports
    no others.
    """
    former = ScreenLimits.model_validate_json(path.read_bytes()) if path.exists() else None
    missed = former.missed if former else missed
    alone = ~scored.strengths.any(axis=1)
    chosen, by_all = (
        ScreenLimits.choose(logits[rows], scored.logits[rows], levels[rows], missed=missed)
        for rows in (alone, slice(None))
    )
    chosen = chosen.filled_by(by_all)
    return former.stricter(chosen) if former else chosen


def _details(folder: Path) -> dict[str, Any]:
    path = folder / TRAINING
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _manifest(
    config: TrainConfig,
    label_set: LabelSet,
    tuned: finetuning.FineTuned,
    difference: float,
    clauses: tuple[str, ...],
) -> Manifest:
    now = dt.datetime.now()
    base, parent = config.model.base, ""
    data = _checksums([*config.data.train, *config.data.replay, *config.data.calibration])
    if config.train.teacher:
        data = promotion.learnt_from(Path(config.train.teacher)) | data
    if (Path(base) / artifact.MANIFEST).exists():
        former = artifact.read_manifest(Path(base))
        data = promotion.learnt_from(Path(base)) | data
        base, parent = former.base, former.id
    return Manifest(
        format_version=artifact.FORMAT_VERSION,
        id=f"{config.name}-{now:{_STAMP}}-{_revision()[:7]}",
        created=now.date().isoformat(),
        labels=label_set.ids,
        clauses=clauses,
        base=base,
        parent=parent,
        max_tokens=config.model.max_tokens,
        pad_id=tuned.model.config.pad_token_id or 0,
        seed=config.train.seed,
        revision=_revision(),
        data=data,
        versions=_versions(),
        onnx_difference=difference,
    )


def _checksums(paths: Sequence[Path]) -> dict[str, str]:
    return {path.as_posix(): datasets.checksum(path) for path in datasets.files(paths)}


def _revision() -> str:
    try:
        found = subprocess.run(  # the code's revision, wherever the command was called
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
