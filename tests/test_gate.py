"""The gate on real small artifacts, its statistics on arrays, and what promotion leaves behind."""

import itertools
import json
import re
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs_classifier import artifact, datasets, metrics
from cs_classifier.config import DecisionConfig
from cs_classifier.decision import Decision, LabelThresholds
from cs_classifier.errors import ArtifactError, DataError
from cs_classifier.labels import load_labels
from cs_classifier.records import LabelledMessage, Message, Prediction
from cs_classifier.reports.upkeep import gate_text
from cs_classifier.upkeep import gate, promotion

LABELS = load_labels()
NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
HALF = Decision(
    labels=(LabelThresholds(review=0.5, violation=0.5),) * len(LABELS), config=DecisionConfig()
)


@dataclass
class Table:
    """A model whose probabilities stand in a table: text to probability per label."""

    rows: dict[str, np.ndarray]
    model_id: str
    label_set = LABELS
    decision = HALF

    def predict(self, messages: list[Message]) -> list[Prediction]:
        rows = np.array([self.rows[m.text] for m in messages])
        return [Prediction(tuple(p), o) for p, o in zip(rows, HALF.outcomes(rows), strict=True)]


@pytest.fixture(scope="module")
def world() -> tuple[list[LabelledMessage], np.ndarray]:
    """400 lines, about 60 violations per label, and probabilities that separate them well."""
    rng = np.random.default_rng(0)
    gold = np.zeros((400, len(LABELS)))
    gold[np.arange(300), np.arange(300) % 5] = 1
    lines = [
        LabelledMessage(f"{i}", Message(f"{i:04d}" * 3), tuple(np.array(LABELS.ids)[row > 0]),
                        group=f"g{i // 2}")
        for i, row in enumerate(gold)
    ]  # fmt: skip
    logits = 6 * gold - 4 + rng.normal(0, 1, gold.shape)
    return lines, logits


def model(name: str, lines: list[LabelledMessage], logits: np.ndarray) -> Table:
    p = 1 / (1 + np.exp(-logits))
    return Table({line.message.text: row for line, row in zip(lines, p, strict=True)}, name)


def verdict(lines, old, new, **options) -> gate.GateReport:
    options = {"floor": 0.5, "resamples": 300} | options
    return gate.judge(
        model("old", lines, old), model("new", lines, new), lines,
        rng=np.random.default_rng(1), **options,
    )  # fmt: skip


def found(report: gate.GateReport) -> set[tuple[str, str]]:
    return {(finding.kind, finding.label) for finding in report.failures}


def test_a_model_passes_against_itself(world) -> None:
    lines, logits = world
    report = verdict(lines, logits, logits)
    assert report.passed
    for row in report.labels:
        for measure in gate.MEASURES:
            comparison = getattr(row, measure)
            assert (comparison.difference, comparison.adjusted) == (0, 1)
    assert report.labels[0].support == 60


def test_a_clearly_worse_label_fails_and_only_that_one(world) -> None:
    lines, logits = world
    worse = logits.copy()
    worse[:, 2] = np.random.default_rng(5).permutation(worse[:, 2])
    report = verdict(lines, logits, worse)
    assert not report.passed
    assert {f.label for f in report.failures if f.kind == "worse"} == {"abuse_harassment"}
    measures = {f.measure for f in report.failures if f.kind == "worse"}
    assert measures == set(gate.MEASURES)
    assert verdict(lines, worse, logits).passed  # the other way round is an improvement


def test_thresholds_count_and_not_only_the_ranking(world) -> None:
    lines, logits = world
    timid = logits.copy()
    timid[:, 0] -= 3  # the same order, but hardly any call
    report = verdict(lines, logits, timid)
    assert {(f.label, f.measure) for f in report.failures} == {("invoice_refusal", "f1")}


def test_noise_alone_is_refused_rarely(world) -> None:
    lines, logits = world
    refused = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        a, b = (logits + rng.normal(0, 1.5, logits.shape) for _ in range(2))
        report = verdict(lines, a, b, floor=0.01, resamples=200)
        refused += not report.passed
    assert refused <= 3  # at most 5 % per measure (three of them) and for the clean lines


def test_precision_below_the_floor(world) -> None:
    lines, logits = world
    eager = logits.copy()
    eager[:, 1] += 5
    report = verdict(lines, eager, eager, floor=0.9)
    assert ("floor", "promise_breach") in found(report)
    row = report.labels[1]
    assert row.hits / row.called < row.precision_bound < 0.9


def test_more_calls_on_clean_lines(world) -> None:
    lines, logits = world
    eager = logits.copy()
    eager[300:340, 3] = 5
    report = verdict(lines, logits, eager)
    assert ("clean", "") in found(report)
    assert report.clean.new > report.clean.old


def test_too_few_violations_are_a_warning(world) -> None:
    lines, logits = world
    few = [line for line in lines if "counterfeit_hint" not in line.labels or int(line.id) < 20]
    keep = [int(line.id) for line in few]
    report = verdict(few, logits[keep], logits[keep])
    assert report.passed
    assert ("few", "counterfeit_hint") in {(w.kind, w.label) for w in report.warnings}


def test_a_smaller_set_detects_less(world) -> None:
    lines, logits = world
    worse = logits + np.random.default_rng(2).normal(0, 1.5, logits.shape)
    part = [i for i in range(400) if i % 4 == 0]
    large = verdict(lines, logits, worse)
    small = verdict([lines[i] for i in part], logits[part], worse[part])
    assert small.labels[0].f1.detectable > large.labels[0].f1.detectable > 0


def test_the_bootstrap_measures_equal_the_textbook_ones(world) -> None:
    lines, logits = world
    report = verdict(lines, logits, logits)
    p = 1 / (1 + np.exp(-logits))
    for j, row in enumerate(report.labels):
        gold = np.array([row.label in line.labels for line in lines])
        assert row.average_precision.new == pytest.approx(metrics.average_precision(gold, p[:, j]))
        called = p[:, j] >= 0.5
        assert row.f1.new == pytest.approx(
            float(metrics.f1((called & gold).sum(), called.sum(), gold.sum()))
        )
        precision = gold[called].mean()
        reachable = [
            gold[p[:, j] >= t].sum() / gold.sum()
            for t in p[:, j]
            if gold[p[:, j] >= t].mean() >= precision
        ]
        assert row.recall.old == row.recall.new == pytest.approx(max(reachable))


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_corrects_upwards_and_keeps_the_order(p: list[float]) -> None:
    adjusted = gate.holm(p)
    for (a, x), (b, y) in itertools.pairwise(sorted(zip(p, adjusted, strict=True))):
        assert a <= x <= 1
        assert x <= y or a == b
    assert min(adjusted) == min(1.0, len(p) * min(p))


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_report_says_every_finding_in_words(world, language: str) -> None:
    lines, logits = world
    worse = logits.copy()
    worse[:, 2] = np.random.default_rng(5).permutation(worse[:, 2])
    report = verdict(lines, logits, worse, floor=0.99)
    kinds = get_args(gate.Finding.model_fields["kind"].annotation)
    said = [
        gate.Finding(kind=kind, label="" if kind == "clean" else "promise_breach", measure="f1")
        for kind in kinds
    ]
    text = gate_text(report.model_copy(update={"warnings": said}), LABELS, language=language)
    assert len([line for line in text.splitlines() if line.startswith("- ")]) == len(
        report.failures
    ) + len(kinds)
    assert LABELS["abuse_harassment"].zh in text or LABELS["abuse_harassment"].en in text
    assert "{" not in text
    assert "nan" not in text


OVERLAPS = [
    pytest.param(lambda line: replace(line, group="new", message=Message("别的话说什么都行")),
                 "same id", id="id"),
    pytest.param(lambda line: replace(line, id="new", message=Message("别的话说什么都行")),
                 "same group", id="group"),
    pytest.param(lambda line: replace(line, id="new", group="new",
                                      message=Message(line.message.text + "。")),
                 "same words", id="near-duplicate"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), OVERLAPS)
def test_lines_seen_in_training_cannot_judge(world, change, message: str) -> None:
    lines, logits = world
    with pytest.raises(DataError, match=message):
        verdict(lines, logits, logits, seen=[change(lines[7])])


def test_training_lines_are_found_by_the_manifest(
    artifact_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    lines, missing = promotion.seen_lines([artifact_folder] * 2, LABELS)
    expected = datasets.load([corpus / "calibration.jsonl", corpus / "train.jsonl"], LABELS)
    assert sorted(line.id for line in lines) == sorted(line.id for line in expected)
    assert missing == ()
    promotion.check_unused([artifact_folder], [corpus / "test.jsonl"])
    copy = shutil.copy(corpus / "train.jsonl", tmp_path / "frozen.jsonl")
    with pytest.raises(DataError, match="cannot judge"):
        promotion.check_unused([artifact_folder], [Path(copy)])


def test_training_files_that_are_gone_are_named(models: tuple[Path, Path]) -> None:
    new, _ = models
    manifest = artifact.read_manifest(new).model_copy(update={"data": {"gone.jsonl": "0" * 64}})
    artifact.seal(new, manifest)
    assert promotion.seen_lines([new], LABELS) == ([], ("gone.jsonl",))


@pytest.fixture
def models(artifact_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two model folders that differ in their ids: the candidate, and the one in use."""
    target = Path(shutil.copytree(artifact_folder, tmp_path / "in-use"))
    new = Path(shutil.copytree(artifact_folder, tmp_path / "new"))
    artifact.seal(new, artifact.read_manifest(new).model_copy(update={"id": "candidate"}))
    return new, target


def report_on(models: tuple[Path, Path], *, passed: bool = True) -> gate.GateReport:
    new, old = (artifact.read_manifest(folder).id for folder in models)
    failures = () if passed else (gate.Finding(kind="clean"),)
    return gate.GateReport(
        old=old, new=new, lines=1, groups=1, clean_lines=0, floor=0.9, alpha=0.05, resamples=1,
        seen=0, labels=(), clean=None, failures=failures, warnings=(),
    )  # fmt: skip


def test_promote_and_roll_back(models: tuple[Path, Path]) -> None:
    new, target = models
    old_id = artifact.read_manifest(target).id
    promotion.promote(new, target, report_on(models), when=NOW)
    assert artifact.load(target).model_id == "candidate"
    assert artifact.load(promotion.previous_path(target)).model_id == old_id
    assert promotion.rollback(target, when=NOW) == old_id
    assert artifact.load(target).model_id == old_id
    assert promotion.rollback(target, when=NOW) == "candidate"
    history = (target.parent / promotion.HISTORY).read_text().splitlines()
    events = [json.loads(line)["event"] for line in history]
    assert events == ["promote", "rollback", "rollback"]
    assert {path.name for path in target.parent.iterdir()} == {
        "in-use", "in-use.previous", "new", promotion.HISTORY,
    }  # fmt: skip


def test_a_model_that_did_not_pass_needs_a_reason(models: tuple[Path, Path]) -> None:
    new, target = models
    report = report_on(models, passed=False)
    with pytest.raises(ArtifactError, match="did not pass"):
        promotion.promote(new, target, report, when=NOW)
    promotion.promote(new, target, report, when=NOW, force="规则更新，见会议纪要")
    line = json.loads((target.parent / promotion.HISTORY).read_text())
    assert (line["forced"], line["passed"]) == ("规则更新，见会议纪要", False)
    assert line["failures"] == [{"kind": "clean"}]


def test_a_history_that_cannot_be_written(models: tuple[Path, Path]) -> None:
    new, target = models
    (target.parent / promotion.HISTORY).mkdir()
    old_id = artifact.read_manifest(target).id
    with pytest.raises(ArtifactError, match=r"candidate is in place.*promotions\.jsonl"):
        promotion.promote(new, target, report_on(models), when=NOW)
    assert artifact.load(target).model_id == "candidate"
    with pytest.raises(ArtifactError, match=f"{re.escape(old_id)} is in place"):
        promotion.rollback(target, when=NOW)
    assert artifact.load(target).model_id == old_id


def damage(folder: Path) -> None:
    (folder / "decision.json").write_text("{}")


def test_nothing_moves_when_a_model_is_damaged(models: tuple[Path, Path]) -> None:
    new, target = models
    damage(new)
    before = sorted(path.name for path in target.parent.iterdir())
    with pytest.raises(ArtifactError, match=r"decision\.json"):
        promotion.promote(new, target, report_on(models), when=NOW)
    assert sorted(path.name for path in target.parent.iterdir()) == before
    artifact.load(target)


def test_a_report_on_other_models_does_not_open_the_gate(models: tuple[Path, Path]) -> None:
    new, target = models
    with pytest.raises(ArtifactError, match="run the gate"):
        promotion.promote(new, target, report_on((target, new)), when=NOW)


def test_rollback_without_a_sound_former_model(models: tuple[Path, Path]) -> None:
    new, target = models
    with pytest.raises(ArtifactError, match="nothing has been promoted"):
        promotion.rollback(target, when=NOW)
    promotion.promote(new, target, report_on(models), when=NOW)
    damage(promotion.previous_path(target))
    with pytest.raises(ArtifactError, match=r"decision\.json"):
        promotion.rollback(target, when=NOW)
    assert artifact.load(target).model_id == "candidate"


def test_rollback_heals_a_promotion_cut_short(models: tuple[Path, Path]) -> None:
    _, target = models
    old_id = artifact.read_manifest(target).id
    target.rename(promotion.previous_path(target))  # the machine stopped between two renames
    assert promotion.rollback(target, when=NOW) == old_id
    artifact.load(target)
