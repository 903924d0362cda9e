"""Labels in from every kind of file that people fill, and out to the tools that they use."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from openpyxl import load_workbook
from typer.testing import CliRunner

from cs_classifier import cli, datasets, tables
from cs_classifier.cli import labeling
from cs_classifier.errors import CsClassifierError, DataError
from cs_classifier.labeling import exchange
from cs_classifier.labeling.agreement import AgreementReport
from cs_classifier.labeling.store import append, load, truth
from cs_classifier.labels import load_labels
from cs_classifier.records import LabelledMessage, Message
from cs_classifier.reports.workbook import read_reviews, write_sample
from cs_classifier.reviews import Sampled
from cs_classifier.scored import ScoredLine

ROOT = Path(__file__).parent.parent
LABELS = load_labels()
INVOICE, PROMISE, ABUSE, CONTACT, FAKE = LABELS.ids
WHEN = "2026-11-22T10:00:00+00:00"

app = typer.Typer()
app.add_typer(labeling.app, name="label")


def run(*arguments, expect=0):
    result = CliRunner().invoke(app, ["label", *map(str, arguments)])
    if isinstance(result.exception, CsClassifierError):
        raise result.exception
    assert result.exit_code == expect, result.output
    return result.output


def read(*paths, **options):
    return exchange.read(paths, label_set=LABELS, when=WHEN, **options)


def said(filled):
    """Text, labels and annotator of each event."""
    return [(e.message.text, e.new, e.who) for e in filled.events]


TABLE = (
    "text,labels,context,annotator,note\n"
    "没有票的,拒开发票,能开吗,小王,G3\n好的,无,,小李,\n在的,,,,\n"
)
DOCCANO = [
    {"id": 1, "text": "没有票的", "label": ["拒开发票"], "Comments": ["G3"], "context": "能开吗"},
    {"id": 2, "text": "好的", "label": ["无"], "Comments": []},
    {"id": 3, "text": "在的", "label": []},
]
LABELLED = [
    {"text": "没有票的", "labels": [INVOICE], "context": "能开吗", "note": "G3"},
    {"text": "好的", "labels": []},
    {"text": "在的", "labels": None},
]
SPANS = [
    {"data": "没有票的", "label": [[0, 2, "拒开发票"], [2, 3, INVOICE]], "context": "能开吗"},
    {"data": "好的", "label": [{"id": 1, "label": "无", "start_offset": 0, "end_offset": 1}]},
    {"data": "在的", "label": []},
]


def jsonl(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


FILES = {
    "table.csv": TABLE.encode("utf-8-sig"),
    "gb.csv": TABLE.replace("text,labels", "文本,类别")
    .replace("annotator", "标注人")
    .encode("gb18030"),
    "doccano.jsonl": jsonl(DOCCANO).encode(),
    "labelled.jsonl": jsonl(LABELLED).encode(),
    "spans.jsonl": jsonl(SPANS).encode(),
    "doccano.csv": "text,label,context\n没有票的,拒开发票,能开吗\n好的,无,\n在的,,\n".encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_every_table_says_the_same(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(FILES[name])
    filled = read(path)
    names = ("小王", "小李") if name in {"table.csv", "gb.csv"} else (path.stem, path.stem)
    assert said(filled) == [("没有票的", (INVOICE,), names[0]), ("好的", (), names[1])]
    assert filled.open == 1
    assert {(e.source, e.origin, e.when) for e in filled.events} == {
        ("import", "enriched:import", WHEN)
    }
    assert filled.events[0].message.context == "能开吗"
    assert filled.events[0].file.startswith(f"{name}#")


def test_a_workbook_with_labels_is_a_table(tmp_path):
    with tables.Writer(tmp_path / "t.xlsx", columns=["文本", "标签"]) as writer:
        writer.write(
            [{"文本": "=没有票的", "标签": "拒开发票、违背承诺"}, {"文本": "好", "标签": None}]
        )
    filled = read(tmp_path / "t.xlsx", who="小王", source="appeal")
    assert said(filled) == [("=没有票的", (INVOICE, PROMISE), "小王")]
    assert (filled.events[0].source, filled.open) == ("appeal", 1)


def scored(number, **fields):
    texts = ("conversation_id", "turn", "timestamp", "agent_id", "shop", "platform", "team",
             "shift", "error", "context")  # fmt: skip
    values = {
        **dict.fromkeys(texts, ""),
        "key": f"k{number}",
        "file": "n.jsonl",
        "row": number,
        "text": f"加我微信第{number}次",
        "labels": (CONTACT,),
        "review": (),
        "probabilities": (0.1, 0.1, 0.1, 0.9, 0.1),
        "rules": (),
        "tags": (),
        "evidence": (),
        "joined": False,
        "model": "m1",
        **fields,
    }
    return ScoredLine(**values)


SAMPLED = [
    Sampled(scored(1, conversation_id="c1"), "near+random 5/9", 0.5, (), blind=True),
    Sampled(scored(2), f"violation:{CONTACT} 5/9", 0.5, (CONTACT,)),
    Sampled(scored(3), "queue:like", 1.0, (CONTACT,)),
    Sampled(scored(4), "rest 5/9", 0.5, ()),
]


def test_review_files_bring_verdicts_groups_and_origins(tmp_path):
    path = tmp_path / "r.jsonl"
    write_sample(SAMPLED, path, label_set=LABELS, info={})
    answers = [{"correction": "无", "annotator": "小王"}, {"verdict": "确认", "note": "G1"},
               {"verdict": "存疑"}, {}]  # fmt: skip
    rows = [json.loads(row) | answer for row, answer in zip(path.open(), answers, strict=True)]
    path.write_text(jsonl(rows))
    filled = read(path)
    assert [(e.new, e.who, e.status) for e in filled.events] == [
        ((), "小王", "gold"), ((CONTACT,), "r", "gold"), (None, "r", "borderline")]  # fmt: skip
    assert [e.origin for e in filled.events] == ["natural:r", "enriched:r", "enriched:r"]
    assert [e.group for e in filled.events] == ["c1", "加我微信第0次", "加我微信第0次"]
    assert [e.reason for e in filled.events] == ["", "G1", ""]
    assert (filled.open, {e.source for e in filled.events}) == (1, {"review"})


def test_who_answers_twice_and_differently_could_not_tell(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "text,labels,annotator\n滚,辱骂骚扰,甲\n滚！,无,甲\n好,无,甲\n好,无,甲\n滚,无,乙\n"
    )
    filled = read(path)
    assert said(filled) == [("滚", None, "甲"), ("好", (), "甲"), ("滚", (), "乙")]
    assert filled.events[0].reason == f"{ABUSE} / none"


FAULTS = {
    "a.csv": (
        "text,labels\n好,无礼\n坏,无,多\n",
        r"a\.csv, row 2: unknown label(.|\n)*row 3: has 3",
    ),
    "b.csv": ("text,answer\n好,无\n", "no columns 'text' and 'labels'"),
    "c.csv": ("text,labels,p_x\n好,无,0.1\n", "not what people say"),
    "d.jsonl": ('{"text": " ", "labels": []}\n', "row 1: needs a non-empty string 'text'"),
    "e.jsonl": ('{"text": "a", "labels": [], "clause": "x.y"}\n', "row 1: unknown clause"),
    "f.jsonl": ("{}}\n", "f.jsonl"),
    "g.json": ("[1]", "not a list of tasks"),
    "h.txt": ("好", "suffix"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_refused(tmp_path, name):
    content, message = FAULTS[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*gone\.csv"):
        read(tmp_path / "gone.csv")


LINES = [
    LabelledMessage("store-1", Message("=没有票的", "能开吗"), (INVOICE,), group="g1"),
    LabelledMessage("store-2", Message("好的"), (), group="g2"),
    LabelledMessage("store-3", Message("晚点给您"), (PROMISE,), status="borderline", group="g2"),
]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_doccano_gets_and_returns_every_line(tmp_path, language):
    path = tmp_path / "d.jsonl"
    exchange.write(LINES, path, format="doccano", label_set=LABELS, language=language)
    assert [(e.message, e.new) for e in read(path).events] == [(x.message, x.labels) for x in LINES]


@pytest.mark.parametrize(("format_", "name"), [("label-studio", "t.json"), ("workbook", "t.xlsx")])
def test_tools_get_lines_with_their_labels(tmp_path, format_, name):
    exchange.write(LINES, tmp_path / name, format=format_, label_set=LABELS)
    rows = read_reviews([tmp_path / name], label_set=LABELS)
    assert {
        (r.sampled.line.text, r.sampled.shown, r.sampled.line.conversation_id) for r in rows
    } == {(x.message.text, x.labels, x.group) for x in LINES}
    assert all(r.verdict is None for r in rows)
    assert (tmp_path / "t.xml").exists() == (format_ == "label-studio")


def test_label_studio_annotations_come_back(tmp_path):
    path = tmp_path / "t.json"
    exchange.write(LINES, path, format="label-studio", label_set=LABELS)
    tasks = json.loads(path.read_text())
    for task in tasks:
        choice = {"from_name": "labels", "to_name": "text", "type": "choices"}
        result = [{**choice, "value": {"choices": ["辱骂骚扰"]}}]
        task["annotations"] = [{"completed_by": {"email": "a@b"}, "result": result}]
    path.write_text(json.dumps(tasks))
    assert {(x[1], x[2]) for x in said(read(path))} == {((ABUSE,), "a@b")}


def test_what_a_real_label_studio_exported():
    """The file that ``scripts/label_studio_check.py --keep`` got from version 1.23.2."""
    path = ROOT / "tests" / "fixtures" / "label_studio_export.json"
    tasks = json.loads(path.read_text("utf-8"))
    filled = read(path)
    shown, blind = sorted(filled.events, key=lambda event: len(event.new))
    assert (shown.message.text[:8], shown.new) == ("姐你心里有数就好", (FAKE,))
    assert (blind.new, blind.reason) == ((ABUSE, CONTACT), "两类都有")
    assert {e.who for e in filled.events} == {"1"}  # this export names annotators by number
    assert filled.open == len(tasks) - 2


@pytest.mark.slow
@pytest.mark.skipif(
    not (os.environ.get("LABEL_STUDIO_URL") or shutil.which("label-studio")),
    reason="no Label Studio: put 'label-studio' on the PATH, or set LABEL_STUDIO_URL",
)
def test_a_real_label_studio():
    command = [sys.executable, str(ROOT / "scripts" / "label_studio_check.py")]
    done = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=2400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("passed\n")


def test_the_wrong_suffix_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"label-studio ends in \.json"):
        exchange.write(LINES, tmp_path / "t.xlsx", format="label-studio", label_set=LABELS)
    assert not list(tmp_path.iterdir())


def test_the_commands_from_votes_to_a_ruling(tmp_path):
    store, votes = tmp_path / "s.jsonl", tmp_path / "votes.csv"
    votes.write_text(
        "text,labels,context,annotator\n没有票的,拒开发票,能开吗,甲\n没有票的,无,能开吗,乙\n"
        "加我13800138000,站外联系,,甲\n加我13800138000,站外联系,,乙\n"
    )
    out = run("import", votes, "--store", store, "--when", "2026-11-22T18:00+08:00")
    assert "4 new, 0 known already, 0 rows open" in out
    assert "0 new, 4 known already" in run("import", votes, "-s", store)
    assert {e.when for e in load(store, LABELS)} == {WHEN}
    run("adjudicate", "-s", store, "-o", tmp_path / "c.xlsx")
    book = load_workbook(tmp_path / "c.xlsx", rich_text=True)
    sheet = book["复核"]
    at = {cell.value: cell.column for cell in sheet[1]}
    assert sheet.max_row == 2
    shown = str(sheet.cell(2, at["对话"]).value)
    assert "拒开发票" in shown
    assert "无" in shown
    assert "甲" not in shown
    sheet.cell(2, at["更正类别"]).value = "拒开发票"
    book.save(tmp_path / "c.xlsx")
    ruling = (
        "import",
        tmp_path / "c.xlsx",
        "-s",
        store,
        "--source",
        "adjudication",
        "--who",
        "组长",
    )
    assert "1 new" in run(*ruling)
    run("export", "-s", store, "-o", tmp_path / "lines.jsonl")
    lines = datasets.load([tmp_path / "lines.jsonl"], LABELS)
    assert {x.message.text: (x.labels, x.status) for x in lines} == {
        "没有票的": ((INVOICE,), "gold"), "加我13800138000": ((CONTACT,), "gold")}  # fmt: skip
    assert [x.id for x in lines] == [x.id for x in truth(load(store, LABELS))]
    out = run("agreement", "-s", store, "-o", tmp_path / "a.json")
    found = AgreementReport.model_validate_json((tmp_path / "a.json").read_text())
    assert (found.overlap, found.disputed, found.adjudicated) == (2, 0, 1)
    assert "各人与裁定结果对照" in out
    assert run("agreement", votes).startswith("# 标注一致性")
    history = run("show", "没有票的", "-s", store)
    assert "adjudication  组长  拒开发票 → 拒开发票" in history
    assert "13800138000" not in run("show", "加我", "-s", store)
    assert "13800138000" in run("show", "加我", "-s", store, "--no-mask")


def test_a_queue_leaves_out_what_has_labels(tmp_path):
    store, night = tmp_path / "s.jsonl", tmp_path / "n.jsonl"
    names = ("conversation_id", "turn", "text", "context", "labels", "review", "rules", "tags",
             "evidence", "joined", "model", "error")  # fmt: skip
    texts = ["加我微信", "没有票的", "好的呢", "滚远点", "一比一复刻的", "明天一定发"]
    rows = [
        {**dict.fromkeys(names, ""), "text": t, "labels": [], **{f"p_{x}": 0.1 for x in LABELS.ids}}
        for t in texts
    ]
    night.write_text(jsonl(rows))
    (tmp_path / "t.csv").write_text("text,labels\n加我微信！,站外联系\n")
    append(store, read(tmp_path / "t.csv").events, label_set=LABELS)
    out = run("queue", night, "-n", 9, "-s", store, "-o", tmp_path / "q.jsonl", "-l", "en")
    rows = read_reviews([tmp_path / "q.jsonl"], label_set=LABELS)
    assert {r.sampled.line.text for r in rows} == set(texts[1:])
    assert "random\t" in out
    assert sum(int(x.split("\t")[1]) for x in out.splitlines() if "\t" in x) == 5


def test_wrong_usage(tmp_path):
    assert "--store" in run("agreement", expect=2)
    with pytest.raises(DataError, match=r"--when: .*time zone"):
        run("import", tmp_path / "x.csv", "-s", tmp_path / "s", "--when", "2026-11-22")
    with pytest.raises(DataError, match="no such label store"):
        run("show", "x", "-s", tmp_path / "s")
    assert not list(tmp_path.iterdir())


def _commands():
    groups = [group.name for group in cli.app.registered_groups]
    return {*groups, *(command.name for command in cli.app.registered_commands)}


@pytest.mark.slow
@pytest.mark.skipif(
    not {"sample", "estimate", "label"} <= _commands(), reason="not all commands are there"
)
def test_the_whole_loop(artifact_folder, tiny_config, corpus, tmp_path):
    for part in ("train", "calibration"):
        (tmp_path / "corpus" / part).mkdir(parents=True)
        shutil.copy(corpus / f"{part}.jsonl", tmp_path / "corpus" / part)
    # The gate refuses lines like those of the training, and the tiny test lines are such.
    frozen = datasets.load([ROOT / "data" / "test"], LABELS)[::20]
    datasets.dump(frozen, tmp_path / "corpus" / "test" / "test.jsonl")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_config.model_dump(mode="json")), "utf-8")
    environment = {
        **os.environ, "CS_COMMAND": f"{sys.executable} -m cs_classifier",
        "CS_PYTHON": sys.executable, "CS_MODEL": str(artifact_folder),
        "CS_CONFIG": str(recipe), "CS_CORPUS": str(tmp_path / "corpus"),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "labelling_round_trip.sh"), str(tmp_path)],
        env=environment, check=False, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = datasets.load([tmp_path / "lines.jsonl"], LABELS)
    expected = [json.loads(x)["labels"] for x in (ROOT / "data/samples/expected.jsonl").open()]
    assert len(lines) > 100
    assert 0 < sum(bool(x.labels) for x in lines) <= len(expected)
    assert all(x.status == "gold" for x in lines)
    assert (tmp_path / "model" / "calibration.json").exists()
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text("utf-8"))
    assert "parts/train.jsonl" in json.dumps(manifest)
    gate = json.loads((tmp_path / "gate.json").read_text("utf-8"))
    frozen = [tmp_path / "corpus" / "test", tmp_path / "parts" / "test.jsonl"]
    assert gate["lines"] == len(datasets.gold(datasets.load(frozen, LABELS)))
    assert ("does not pass" in done.stdout) == bool(gate["failures"])
