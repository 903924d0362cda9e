from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cs_classifier import datasets, tables
from cs_classifier.cli import upkeep
from cs_classifier.errors import DataError
from cs_classifier.labels import load_labels
from cs_classifier.records import LabelledMessage, Message
from cs_classifier.reports import upkeep as reports
from cs_classifier.rules import load_rules
from cs_classifier.upkeep import label_errors
from scripts.simulate_label_noise import flipped

LABELS = load_labels()
RULES = load_rules()
TEST_SPLIT = Path(__file__).parent.parent / "data" / "test"


def test_flipped_labels_come_first() -> None:
    # The test split never changes: in the training lines, each further world of contrasts, where
    # only the customer's message decides, would make the task another one.
    correct = datasets.gold(datasets.load([TEST_SPLIT], LABELS))
    lines, wrong = flipped(correct, 0.2, LABELS, np.random.default_rng(0))
    ranked = label_errors.rank(lines, LABELS, RULES, limit=int(0.3 * len(lines)))
    found = [suspect for suspect in ranked if suspect.line.id in wrong]
    assert len(found) >= 0.75 * len(wrong), f"{len(found)} of {len(wrong)}"
    truth = {line.id: line.labels for line in correct}
    mended = sum(suspect.suggested == truth[suspect.line.id] for suspect in found)
    assert mended > len(found) / 2


LINES = [
    LabelledMessage(
        f"{i}",
        Message(f"{'没有发票的不开票' if i % 2 else '好的明天发货哦'}{'呢哈呀'[i % 3]}"),
        ("invoice_refusal",) if i % 2 else (),
        group=f"g{i // 2}",
    )
    for i in range(40)
]


def test_a_wrong_label_is_found_with_its_reason() -> None:
    lines = [replace(line, labels=()) if line.id == "7" else line for line in LINES]
    first = label_errors.rank(lines, LABELS, RULES, limit=1)[0]
    assert first.line.id == "7"
    assert first.suggested == ("invoice_refusal",)
    (doubt,) = first.doubts
    assert (doubt.label, doubt.given, doubt.suspected) == ("invoice_refusal", False, True)
    assert doubt.probability > 0.5
    assert len(first.neighbours) == 3
    for neighbour in first.neighbours:
        assert neighbour.line.labels == ("invoice_refusal",)
        assert neighbour.line.id != "7"
        assert 0 < neighbour.similarity <= 1 + 1e-9


def test_clean_labels_are_not_suspected() -> None:
    for suspect in label_errors.rank(LINES, LABELS, RULES):
        assert suspect.suggested == suspect.line.labels
        assert not any(doubt.suspected for doubt in suspect.doubts)


def test_a_line_is_scored_without_its_own_group() -> None:
    """Two copies of a wrong line in one group must not vouch for each other."""
    odd = [
        LabelledMessage(f"odd{i}", Message("没有发票的不开票呢"), (), group="odd") for i in range(5)
    ]
    worst = label_errors.rank([*LINES, *odd], LABELS, RULES, limit=5)
    assert {suspect.line.id for suspect in worst} == {line.id for line in odd}


def test_another_models_probabilities_count() -> None:
    told = np.array([LABELS.row(line.labels) for line in LINES], dtype=float)
    told[3, 2] = 1.0  # the other model is sure of an insult
    ranked = label_errors.rank(LINES, LABELS, RULES, probabilities=told, limit=1)
    assert ranked[0].line.id == "3"
    assert ranked[0].doubts[0].label == "abuse_harassment"


def test_too_few_groups() -> None:
    with pytest.raises(DataError, match="too few"):
        label_errors.rank([replace(line, group="one") for line in LINES], LABELS, RULES)


@pytest.mark.parametrize("suffix", [".xlsx", ".jsonl"])
def test_the_command_writes_the_ranking_without_identifiers(tmp_path: Path, suffix: str) -> None:
    secret = replace(LINES[7], labels=(), message=Message("=没有发票的不开票 13800138000"))
    datasets.dump([*LINES[:7], secret, *LINES[8:]], tmp_path / "lines.jsonl")
    out = tmp_path / f"out{suffix}"
    upkeep.label_errors([tmp_path / "lines.jsonl"], out, limit=3)
    rows = [row.values for row in tables.read(out)]
    assert len(rows) == 3
    assert str(rows[0].get("编号") or rows[0]["id"]) == "7"
    written = str(rows)
    assert "13800138000" not in written
    if suffix == ".xlsx":
        assert rows[0]["客服原话"] == "=没有发票的不开票 <手机>"
        assert rows[0]["现标签"] == "无"
        assert "交叉验证概率" in rows[0]["原因"]


def test_an_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.xlsx or \.jsonl"):
        reports.write_suspects([], tmp_path / "out.docx", LABELS)
