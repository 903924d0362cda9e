"""Checking a corpus: what is counted, and every kind of fault it must find."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cs_classifier import corpus
from cs_classifier.cli import app
from cs_classifier.errors import DataError
from cs_classifier.labels import load_labels
from cs_classifier.records import LabelledMessage, Message
from tests.conftest import write_jsonl

LABELS = load_labels()
INVOICE = "invoice_refusal"
TEXTS = (
    "这单开不了发票的呢",
    "可以开的电子票发您邮箱",
    "明天下午三点前发顺丰",
    "您加购物车就能看到券",
    "尺码偏小建议拍大一码",
    "退款原路返回三天到账",
)


def line(identity, text, labels=(), context="", **more):
    return LabelledMessage(identity, Message(text, context), labels, **({"group": identity} | more))


def row(identity, text, **more):
    return {"id": identity, "context": "", "text": text, "labels": [], **more}


def good():
    return {
        "train": [line("t1", TEXTS[0], (INVOICE,), group="g1"), line("t2", TEXTS[1])],
        "test": [line("x1", TEXTS[2]), line("x2", TEXTS[3])],
    }


def test_a_good_corpus_has_no_problem():
    assert corpus.problems(good()) == []


FAULTS = {
    "repeats": lambda s: s["train"].append(line("t3", TEXTS[1] + "!")),
    "group 'g1' stands in test and train": lambda s: s["test"].append(
        line("x3", TEXTS[4], group="g1")
    ),
    "id 't2' stands in test and train": lambda s: s["test"].append(
        line("t2", TEXTS[4], group="other")
    ),
    "train/t2 and": lambda s: s["test"].append(line("x3", TEXTS[1] + "哦")),
    "but clauses": lambda s: s["train"].append(
        line("t3", TEXTS[4], (INVOICE,), clauses=("promise_breach.gift",))
    ),
    "does not contrast": lambda s: s.update(
        context_swap=[
            line("s1", TEXTS[4], context="有小码吗", group="s"),
            line("s2", TEXTS[4], context="有大码吗", group="s"),
        ]
    ),
}


@pytest.mark.parametrize("message", FAULTS)
def test_each_fault_is_found_and_named(message):
    splits = good()
    FAULTS[message](splits)
    found = corpus.problems(splits)
    assert len(found) == 1
    assert message in found[0]


def test_respelt_lines_may_be_near_the_test_split_but_not_near_training():
    splits = good()
    splits["evasion"] = [line("e1", TEXTS[2] + "呢"), line("e2", TEXTS[1] + "呢")]
    (problem,) = corpus.problems(splits)
    assert "train/t2" in problem


def jaccard(a, b):
    x, y = corpus._grams(a.message), corpus._grams(b.message)
    return len(x & y) / len(x | y)


@given(
    st.lists(st.text("开票发您的哦12", min_size=1, max_size=9), min_size=1, max_size=8, unique=True)
)
def test_near_duplicates_are_those_of_the_textbook_formula(texts):
    lines = [line(str(i), text) for i, text in enumerate(texts)]
    found = {(a.id, b.id): s for a, b, s in corpus.near_duplicates(lines, lines, 0.5)}
    wanted = {(a.id, b.id): jaccard(a, b) for a in lines for b in lines if jaccard(a, b) >= 0.5}
    assert found == pytest.approx(wanted)


def test_counts_by_hand():
    lines = [
        line(
            "1",
            "开不了",
            (INVOICE,),
            "能开票吗",
            group="g",
            clauses=("invoice_refusal.outright_refuse",),
        ),
        line("2", "开不了", (), "能开门吗", group="g"),
        line("3", "加薇❤️聊", (), clauses=("off_platform_contact.contact_id",), origin="a"),
        line("4", "随便", (), status="borderline"),
    ]
    found = corpus.count("train", lines, LABELS)
    assert (found.lines, found.borderline, found.violating, found.hard_negatives) == (4, 1, 1, 1)
    assert (found.groups, found.grouped_lines, found.contrasting_groups) == (2, 2, 1)
    assert (found.worlds, found.respelt, found.short) == (2, 1, 3)
    assert found.labels[INVOICE] == 1
    clauses = {c.clause: (c.violating, c.near) for c in found.clauses}
    assert clauses["invoice_refusal.outright_refuse"] == (1, 0)
    assert clauses["off_platform_contact.contact_id"] == (0, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("开fa票吗", True),
        ("開發票", True),
        ("微.信聊", True),
        ("a4纸,有货的", False),
        ("亲,(现货)明天发!", False),
    ],
)
def test_respelt(text, expected):
    assert corpus.is_respelt(text) is expected


def test_describe_by_hand():
    figures = corpus.describe([Message("好的", "在吗"), Message("亲,明天发哦😊"), Message("a1")])
    assert figures["lines"] == 3
    assert figures["length median"] == 2
    assert figures["share with context"] == pytest.approx(1 / 3)
    assert figures["share without punctuation"] == pytest.approx(2 / 3)
    assert figures["share beginning with 亲"] == pytest.approx(1 / 3)
    assert figures["share with emoji"] == pytest.approx(1 / 3)
    with pytest.raises(DataError):
        corpus.describe([])


@pytest.fixture
def folder(tmp_path):
    write_jsonl(tmp_path / "train" / "a.jsonl", [row("t1", TEXTS[0]), row("t2", TEXTS[1])])
    write_jsonl(tmp_path / "test" / "b.jsonl", [row("x1", TEXTS[2])])
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "expected.jsonl").write_text("{}\n")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def test_check_command(folder):
    result = run("check", folder)
    assert result.exit_code == 0
    assert "3 lines, 0 problems" in result.output
    write_jsonl(folder / "test" / "c.jsonl", [row("x2", TEXTS[0])])
    result = run("check", folder)
    assert result.exit_code == 1
    assert "near-duplicates" in result.output


def test_check_without_splits_says_so(tmp_path):
    with pytest.raises(DataError, match="no folder with"):
        corpus.load(tmp_path, LABELS)
    with pytest.raises(DataError, match="no such folder"):
        corpus.load(tmp_path / "nothing", LABELS)


def test_describe_command(folder):
    result = run("describe", folder / "train")
    assert result.exit_code == 0
    assert "lines\t2" in result.output


def test_evade_command_writes_a_file_per_attack_that_can_be_loaded(tmp_path):
    rows = [
        row(
            f"r{i}",
            f"{i}号仓加我微信wx{i}99,给您转账开发票的钱",
            labels=["off_platform_contact"] * (i % 2),
        )
        for i in range(40)
    ]
    write_jsonl(tmp_path / "in.jsonl", rows)
    result = run("evade", tmp_path / "in.jsonl", "-o", tmp_path / "out", "-n", 10)
    assert result.exit_code == 0, result.output
    files = sorted((tmp_path / "out").glob("*.jsonl"))
    assert len(files) == 9
    homophones = [json.loads(x) for x in (tmp_path / "out" / "homophone.jsonl").open()]
    assert len(homophones) == 10


def test_the_shipped_corpus_has_no_problem():
    from cs_classifier.resources import find

    splits = corpus.load(find("configs/labels.yaml").parents[1] / "data", LABELS)
    assert corpus.problems(splits) == []
