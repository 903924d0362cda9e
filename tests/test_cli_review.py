"""``sample`` and ``estimate`` from file to file, and what wrong input gets."""

import json

import numpy as np
import pytest
import typer
from openpyxl import Workbook, load_workbook
from typer.testing import CliRunner

from cs_classifier import datasets, estimation, sampling, scored, tables
from cs_classifier.cli import review
from cs_classifier.errors import ConfigError, CsClassifierError, DataError
from cs_classifier.estimation import EstimateReport
from cs_classifier.labels import load_labels
from cs_classifier.prediction import Output
from cs_classifier.reports.workbook import read_reviews
from cs_classifier.sampling import Stratum
from cs_classifier.transcripts import ColumnMap

LABEL_SET = load_labels()
INVOICE, CONTACT = LABEL_SET.ids[0], LABEL_SET.ids[3]

app = typer.Typer()
app.command("sample")(review.sample)
app.command("estimate")(review.estimate)


def run(*arguments, expect=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, CsClassifierError):
        raise result.exception
    assert result.exit_code == expect, result.output
    return result.output


def cells(i):
    """One scored row; every 20th is suspected, every 40th of them truly."""
    decided = {
        "labels": [CONTACT] if i % 40 == 0 else [],
        "review": [INVOICE] if i % 40 == 20 else [],
    }
    p = {f"p_{label}": 0.9 if label in decided["labels"] + decided["review"] else 0.001
         for label in LABEL_SET.ids}  # fmt: skip
    return {
        "conversation_id": f"c{i // 4}",
        "turn": str(i % 4),
        "timestamp": f"2026-11-{10 + i % 2} 20:{i % 60:02}:00",
        "agent_id": f"店{i % 3}:小{i % 7}",
        "shop": f"店{i % 3}",
        "text": f"第{chr(0x4E00 + i)}句" if i else "=cmd|加微信",
        "context": "在吗",
        **decided,
        **p,
        "rules": [],
        "tags": [],
        "evidence": [],
        "joined": False,
        "model": "m1",
        "error": "",
    }


@pytest.fixture
def night(tmp_path):
    path = tmp_path / "scored.parquet"
    rows = [cells(i) for i in range(320)]
    with tables.Writer(path, columns=list(rows[0]), types=Output(LABEL_SET.ids).types) as writer:
        writer.write(rows)
    return path


def answer(path):
    """Fill the workbook in as a reviewer does: contact lines are true, the others have nothing."""
    book = load_workbook(path, rich_text=True)
    for sheet in book.worksheets:
        header = [cell.value for cell in sheet[1]]
        if "复核结果" not in header:
            continue
        at = {name: header.index(name) + 1 for name in ("客服原话", "复核结果", "更正类别")}
        for row in range(2, sheet.max_row + 1):
            text = str(sheet.cell(row, at["客服原话"]).value)
            true = text == "=cmd|加微信" or (ord(text[1]) - 0x4E00) % 40 == 0
            sheet.cell(row, at["复核结果"]).value = "确认" if true else "误判"
            sheet.cell(row, at["更正类别"]).value = LABEL_SET[CONTACT].zh if true else "无"
    book.save(path)


def test_from_scored_file_to_estimates_and_labelled_lines(night, tmp_path):
    book, report, history = (tmp_path / n for n in ("r.xlsx", "e.json", "h.jsonl"))
    table = run("sample", night, "-n", 80, "-o", book, "--watch", "店1:小1")
    assert "疑似违规 · 站外联系" in table
    assert "重点关注" in table
    answer(book)
    options = ("--history", history, "--labelled", tmp_path / "new" / "l.jsonl", "-o", report)
    text = run("estimate", book, *options)
    assert "2026-11-11" in text
    assert "站外联系" in text
    found = EstimateReport.model_validate_json(report.read_text(encoding="utf-8"))
    assert (found.reviewed, found.open, found.lines, found.models) == (80, 0, 320, ("m1",))
    contact = next(one for one in found.labels if one.label == CONTACT)
    assert contact.precision_violation.value == 1
    assert contact.prevalence.value == pytest.approx(8 / 320)
    assert contact.recall_violation.low < contact.recall_violation.value == 1
    assert found == EstimateReport.model_validate_json(history.read_text(encoding="utf-8"))
    lines = datasets.load([tmp_path / "new"], LABEL_SET)
    assert len(lines) == 80
    assert {line.origin.split(":")[0] for line in lines} == {"natural", "enriched"}
    assert {line.labels for line in lines} == {(), (CONTACT,)}
    assert not datasets.problems(lines)


def test_the_command_draws_what_the_library_draws(night, tmp_path):
    run("sample", night, "-n", 60, "-o", tmp_path / "r.jsonl", "--seed", 7)
    rows = read_reviews([tmp_path / "r.jsonl"], label_set=LABEL_SET)
    wanted = sampling.draw(
        scored.read([night]), 60, config=sampling.SamplingConfig(), rng=np.random.default_rng(7)
    )
    assert {r.sampled for r in rows} == set(wanted.sampled)
    assert all(r.verdict is None for r in rows)


@pytest.mark.parametrize("as_file", [True, False])
def test_a_watch_list_is_a_file_or_names(night, tmp_path, as_file):
    names = ["店1:小1", "店2:小2"]
    (tmp_path / "new.txt").write_text("\ufeff" + "\r\n".join(names) + "\n", encoding="utf-8")
    watch = tmp_path / "new.txt" if as_file else "，".join(names)
    run("sample", night, "-n", 60, "-o", tmp_path / "r.jsonl", "--watch", watch)
    rows = read_reviews([tmp_path / "r.jsonl"], label_set=LABEL_SET)
    watched = {
        r.sampled.line.agent_id for r in rows if Stratum.parse(r.sampled.stratum).name == "watch"
    }
    assert watched == set(names)


def test_a_long_watch_list_is_no_path(night, tmp_path):
    names = ",".join(f"店1:小{i}" for i in range(2000))
    run("sample", night, "-n", 60, "-o", tmp_path / "r.jsonl", "--watch", names)
    rows = read_reviews([tmp_path / "r.jsonl"], label_set=LABEL_SET)
    assert any(Stratum.parse(r.sampled.stratum).name == "watch" for r in rows)


def test_plans_can_be_changed(night, tmp_path):
    random = ("--set", "shares.random=1", *(
        part for name in ("violation", "review", "near", "disagreement", "watch", "floors")
        for part in ("--set", f"shares.{name}=0")))  # fmt: skip
    run("sample", night, "-n", 60, "-o", tmp_path / "r.jsonl", *random)
    rows = [r.sampled for r in read_reviews([tmp_path / "r.jsonl"], label_set=LABEL_SET)]
    plain = [r for r in rows if Stratum.parse(r.stratum).name == "rest"]
    assert len({r.probability for r in plain}) == 1
    assert len(plain) > 45


def test_lines_are_shown_in_their_conversation(tmp_path):
    mapped, export = tmp_path / "scored.jsonl", tmp_path / "export.csv"
    rows = [cells(i) for i in range(320)]
    renamed = [{"会话": r.pop("conversation_id"), "内容": r.pop("text"), **r} for r in rows]
    with tables.Writer(mapped, columns=list(renamed[0])) as writer:
        writer.write(renamed)
    with tables.Writer(export, columns=["会话", "内容", "role"]) as writer:
        writer.write([{k: r[k] for k in ("会话", "内容")} | {"role": "客服"} for r in renamed])
    options = ("--columns", "conversation_id=会话,text=内容", "--transcript", export)
    run("sample", mapped, "-n", 60, "-o", tmp_path / "r.xlsx", *options)
    sheets = load_workbook(tmp_path / "r.xlsx").worksheets
    values = [str(c.value) for sheet in sheets for row in sheet.iter_rows() for c in row]
    assert sum(value.count("第") == 4 and "{" not in value for value in values) >= 50


def test_ids_with_blanks_and_zero_are_ids(tmp_path):
    scored_file, export = tmp_path / "scored.jsonl", tmp_path / "export.xlsx"
    rows = [cells(i) | {"conversation_id": f"{i // 8} "} for i in range(64)]
    with tables.Writer(scored_file, columns=list(rows[0])) as writer:
        writer.write(rows)
    book = Workbook()
    book.active.append(["conversation_id", "text", "role"])
    for i, row in enumerate(rows):
        book.active.append([i // 8, row["text"], "客服"])
    book.save(export)
    found = review._turns([export], ColumnMap(), {row["conversation_id"] for row in rows})
    assert {key: len(turns) for key, turns in found.items()} == {f"{i} ": 8 for i in range(8)}


@pytest.mark.parametrize(("language", "word"), [("zh", "合计"), ("en", "total")])
def test_both_languages(night, tmp_path, language, word):
    options = ("-l", language, "--watch", "小新")
    out = run("sample", night, "-n", 60, "-o", tmp_path / "r.jsonl", *options)
    assert word in out
    assert "小新" in out  # was off tonight: said, not an error


FAULTS = [
    (("-n", 5), DataError, "at least"),
    (("--set", "shares.random=0.1"), ConfigError, "shares.random"),
    (("--set", "share.random=0.5"), ConfigError, "share"),
    (("--columns", "nonsense"), ConfigError, "nonsense"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), FAULTS, ids=str)
def test_what_sample_refuses(night, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        run("sample", night, "-o", tmp_path / "r.jsonl", *arguments)
    assert not (tmp_path / "r.jsonl").exists()


def test_what_estimate_refuses(night, tmp_path):
    run("sample", night, "-n", 60, "-o", tmp_path / "r.jsonl")
    with pytest.raises(DataError, match="no row has an answer"):
        run("estimate", tmp_path / "r.jsonl", "--history", tmp_path / "h.jsonl")
    assert not (tmp_path / "h.jsonl").exists()
    (tmp_path / "h.jsonl").write_text("not json\n")
    rows = [json.loads(x) | {"verdict": "确认"} for x in (tmp_path / "r.jsonl").open()]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    with pytest.raises(DataError, match="row 1"):
        run("estimate", tmp_path / "a.jsonl", "--history", tmp_path / "h.jsonl")
    assert (tmp_path / "h.jsonl").read_text() == "not json\n"


def test_the_command_estimates_what_the_library_estimates(night, tmp_path):
    run("sample", night, "-n", 60, "-o", tmp_path / "r.xlsx")
    answer(tmp_path / "r.xlsx")
    run("estimate", tmp_path / "r.xlsx", "-o", tmp_path / "e.json", "--night", "n", "--floor", 0.9)
    wanted = estimation.estimate(
        read_reviews([tmp_path / "r.xlsx"], label_set=LABEL_SET),
        label_ids=LABEL_SET.ids,
        night="n",
        floor=0.9,
    )
    assert EstimateReport.model_validate_json((tmp_path / "e.json").read_text()) == wanted
