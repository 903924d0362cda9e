"""Review files go out, are filled and mishandled, and come back as the lines that were drawn."""

import json
import shutil
import subprocess
import time
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook
from openpyxl.cell.rich_text import CellRichText

from cs_classifier import tables
from cs_classifier.errors import DataError
from cs_classifier.labels import load_labels
from cs_classifier.records import Evidence
from cs_classifier.reports.review_files.answers import Answer, review
from cs_classifier.reports.review_files.label_studio import label_config
from cs_classifier.reports.workbook import SUFFIXES, read_reviews, write_sample
from cs_classifier.reviews import Review, Sampled
from cs_classifier.scored import ScoredLine

LABELS = load_labels()
INVOICE, PROMISE, ABUSE, CONTACT, FAKE = LABELS.ids
SOFFICE = shutil.which("soffice")


def line(number, text="亲,加我微信abc12345哦", labels=(CONTACT,), **fields):
    start = max(text.find("微信"), 0)
    evidence = [
        Evidence(i, "r1", f"{CONTACT}.contact_id", start, start + 2, "微信") for i in labels
    ]
    values = {
        "key": f"00123456789012345678-{number}",
        "file": "night.jsonl",
        "row": number,
        "text": text,
        "context": "怎么便宜点",
        "conversation_id": "00123456789012345678",
        "turn": str(number),
        "timestamp": f"2026-11-10 10:00:{number:02}",
        "agent_id": "旗舰店:小美",
        "shop": "旗舰店",
        "platform": "淘宝",
        "team": "",
        "shift": "",
        "labels": tuple(labels),
        "review": (),
        "probabilities": (0.1, 0.2, 0.3, 0.123456789012345678, 0.5),
        "rules": ("r1",) if labels else (),
        "tags": (),
        "evidence": tuple(evidence),
        "joined": False,
        "model": "m1",
        "error": "",
        "clauses": tuple(next(c for c in LABELS.clauses if c.startswith(i)) for i in labels),
    }
    return ScoredLine(**{**values, **fields})


CLEAN = line(2, "好的亲", labels=())
SAMPLED = (
    Sampled(line(1), "suspected:off_platform_contact", 1 / 3, (CONTACT,)),
    Sampled(CLEAN, "random", 0.001, ()),
    Sampled(line(3, "=1+1 加微信"), "suspected:off_platform_contact", 1.0, (), blind=True),
    Sampled(replace(line(4, "x"), probabilities=(), error="needs_media_review"), "random", 0.1, ()),
)


def write(path, sampled=SAMPLED, **kwargs):
    write_sample(sampled, path, label_set=LABELS, info={"模型": "m1", "种子": "=7"}, **kwargs)
    return path


def read(*paths):
    return read_reviews(paths, label_set=LABELS)


def fill(path, answers, name="复核"):
    """Type answers (row → column name → text) into a workbook, as a reviewer does."""
    book = load_workbook(path, rich_text=True)
    sheet = book[name]
    at = {cell.value: cell.column for cell in sheet[1]}
    for row, cells in answers.items():
        for column, text in cells.items():
            sheet.cell(row, at[column]).value = text
    book.save(path)
    return path


def change(path, edit, name="复核"):
    """Apply ``edit(sheet, column letter of each header)`` to a workbook."""
    book = load_workbook(path, rich_text=True)
    edit(book[name], {cell.value: cell.column_letter for cell in book[name][1]})
    book.save(path)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("review") / "review.xlsx")


@pytest.fixture
def workbook(written, tmp_path):
    return shutil.copy(written, tmp_path / "review.xlsx")


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_lines_come_back_as_they_were(tmp_path, suffix, language):
    assert read(write(tmp_path / f"r{suffix}", language=language)) == [
        Review(sampled, None) for sampled in SAMPLED
    ]
    assert not list(tmp_path.glob(".*"))


TEXTS = st.one_of(
    st.text(st.characters(), max_size=40),
    st.sampled_from(
        [
            "=cmd|' /C calc'!A0",
            "+1",
            "@a",
            "#N/A",
            "1e5",
            "_x000D_",
            "\x00\x0b\ufffe\ud83d",
            "第一行\r\n第二行",
            "👩‍👩‍👧 ❤️𠮷",
            " 空 ",
        ]
    ),
)
SHARES = st.floats(min_value=0, max_value=1, exclude_min=True)
EVIDENCE = st.builds(
    Evidence,
    label=st.sampled_from(LABELS.ids),
    source=TEXTS,
    clause=TEXTS,
    start=st.integers(-3, 50),
    end=st.integers(-3, 50),
    text=TEXTS,
)
ANY_LABELS = st.lists(st.sampled_from(LABELS.ids), unique=True).map(tuple)
ANY_LINES = st.builds(
    ScoredLine,
    **dict.fromkeys(ScoredLine.__slots__, TEXTS)
    | {
        "text": st.one_of(
            TEXTS, st.sampled_from(["你" * 32_768, "😀" * 20_000 + "好", "=" * 40_000])
        ),
        "row": st.integers(0, 10**9),
        "labels": ANY_LABELS,
        "review": ANY_LABELS,
        "probabilities": st.one_of(st.just(()), st.tuples(*[SHARES] * len(LABELS))),
        "rules": st.lists(TEXTS, max_size=2).map(tuple),
        "tags": st.lists(TEXTS, max_size=2).map(tuple),
        "evidence": st.lists(EVIDENCE, max_size=3).map(tuple),
        "joined": st.booleans(),
        "clauses": st.lists(st.sampled_from(list(LABELS.clauses)), max_size=2).map(tuple),
    },
)
ANY_SAMPLED = st.builds(
    Sampled,
    line=ANY_LINES,
    stratum=TEXTS,
    probability=SHARES,
    shown=ANY_LABELS,
    blind=st.booleans(),
)


@given(st.lists(ANY_SAMPLED, min_size=1, max_size=3, unique_by=lambda item: item.line.key))
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_line_survives(tmp_path, sampled):
    for suffix in (".xlsx", ".json"):
        reviews = read(write(tmp_path / f"any{suffix}", sampled))
        assert len(reviews) == len(sampled)
        assert {review.sampled for review in reviews} == set(sampled)


def test_the_workbook_shows_what_a_reviewer_needs(workbook):
    book = load_workbook(workbook, rich_text=True)
    assert book.sheetnames == ["说明", "复核", "运行信息", "选项"]
    assert book["选项"].sheet_state == "hidden"
    assert book["运行信息"]["B2"].value == "=7"
    assert book["运行信息"]["B2"].data_type == "s"
    sheet = book["复核"]
    at = {cell.value: cell.column_letter for cell in sheet[1]}
    text = sheet[f"{at['客服原话']}2"].value
    assert isinstance(text, CellRichText)
    assert [str(piece) for piece in text] == ["亲,加我", "微信", "abc12345哦"]
    assert text[1].font.b
    assert sheet[f"{at['会话ID']}2"].value == "00123456789012345678"
    assert sheet[f"{at['疑似类别']}2"].value == "站外联系"
    assert sheet[f"{at['子类']}2"].value == "发送联系方式"
    assert sheet[f"{at['疑似类别']}3"].value == "未检出"
    assert sheet[f"{at['分数']}2"].value == pytest.approx(0.1234567890)
    assert sheet.freeze_panes == "C2"
    assert sheet.auto_filter.ref == sheet.dimensions
    hidden = {name for name, letter in at.items() if sheet.column_dimensions[letter].hidden}
    assert hidden == {"抽样层", "抽样概率", "行键", "行数据"}
    lists = {rule.errorStyle: rule for rule in sheet.data_validations.dataValidation}
    assert str(lists["stop"].sqref) == f"{at['复核结果']}2:{at['复核结果']}5"
    assert lists["warning"].formula1 == "'选项'!$B$1:$B$6"
    assert [cell.value for cell in book["选项"]["B"]] == [*(i.zh for i in LABELS.labels), "无"]


def test_a_formula_stays_text(workbook):
    sheet = load_workbook(workbook)["复核"]
    cell = next(cell for cell in sheet[4] if str(cell.value).startswith("=1+1"))
    assert cell.data_type == "s"
    assert cell.quotePrefix


def test_nothing_of_a_blind_row_tells_what_is_suspected(tmp_path):
    blind = Sampled(line(3), "suspected:off_platform_contact", 1.0, (), blind=True)
    tell_tales = (CONTACT, "suspected", "站外联系", "contact_id", "r1")
    for suffix in (".xlsx", ".jsonl", ".json"):
        path = write(tmp_path / f"b{suffix}", [blind])
        if suffix == ".xlsx":
            sheet = load_workbook(path)["复核"]
            shown = " ".join(str(cell.value) for cell in sheet[2])
        else:
            content = path.read_text(encoding="utf-8")
            shown = json.dumps(json.loads(content), ensure_ascii=False).replace('"suspected":', "")
        # The packed data may hold any short run of letters by chance.
        words = [word for word in shown.split() if not word.strip('",').startswith("r1.")]
        assert not [tale for tale in tell_tales if tale in " ".join(words)]


def test_rows_follow_the_files_and_not_the_strata(tmp_path):
    other = replace(line(2), conversation_id="B")
    drawn = [Sampled(item, "s", 1.0, (CONTACT,)) for item in (line(9), other, line(1))]
    found = read(write(tmp_path / "r.jsonl", drawn))
    assert [review.sampled.line.row for review in found] == [1, 9, 2]


def test_the_conversation_is_shown_around_the_line(tmp_path):
    turns = [(f"2026-11-10 09:00:{i:02}", "买家", f"问题{i}") for i in range(30)]
    turns[20] = ("2026-11-10 10:00:01", "客服", SAMPLED[0].line.text)
    path = write(tmp_path / "r.xlsx", transcripts={SAMPLED[0].line.conversation_id: turns})
    sheet = load_workbook(path)["复核"]
    shown = sheet["G2"].value.split("\n")
    assert shown[0] == "09:00:12 买家：问题12"
    assert shown[8] == f"▶ 10:00:01 客服：{SAMPLED[0].line.text}"
    assert len(shown) == 13
    assert sheet["G3"].value == "买家：怎么便宜点\n▶ 10:00:02 客服：好的亲"


ANSWERS = [
    ("确认", "", "confirmed", None),
    (" 确 认 ", "", "confirmed", None),
    ("对", "", "confirmed", None),
    ("Confirmed", "", "confirmed", None),
    ("误判", "", "rejected", None),
    ("误判", "无", "rejected", ()),
    ("存疑", "", "doubtful", None),
    ("确认", "辱骂骚扰、站外联系", "confirmed", (ABUSE, CONTACT)),
    ("误判", "Abuse_Harassment", "rejected", (ABUSE,)),
    ("", "站外联系", "confirmed", (CONTACT,)),
    ("", " 无 ", "rejected", ()),
    ("", "违背承诺, 拒开发票 ", "rejected", (INVOICE, PROMISE)),
    ("", " ", None, None),
]


@pytest.mark.parametrize(("verdict", "correction", "meant", "labels"), ANSWERS)
def test_answers_are_understood(verdict, correction, meant, labels):
    answer = Answer(verdict=verdict, correction=correction)
    found = review(SAMPLED[0], answer, label_set=LABELS)
    assert (found.verdict, found.correction) == (meant, labels)


MEANINGLESS = [
    (0, "大概", "", "unknown verdict '大概'"),
    (0, "", "辱骂", "unknown label '辱骂'"),
    (0, "", "无、站外联系", "the correction holds both"),
    (0, "误判", "站外联系", "误判, but the correction names"),
    (0, "确认", "无", "确认, but the correction is '无'"),
    (1, "误判", "", "误判 of a line without suspicion"),
    (2, "误判", "", "误判 of a line without suspicion"),
]


@pytest.mark.parametrize(("line", "verdict", "correction", "message"), MEANINGLESS)
def test_answers_that_mean_nothing_or_two_things(line, verdict, correction, message):
    answer = Answer(verdict=verdict, correction=correction)
    with pytest.raises(DataError, match=message):
        review(SAMPLED[line], answer, label_set=LABELS)


def test_a_blind_row_is_answered_by_its_correction_alone(workbook):
    fill(workbook, {4: {"更正类别": "站外联系"}, 3: {"复核结果": "确认"}})
    _, clean, blind, _ = read(workbook)
    assert blind.truth == (CONTACT,)
    assert clean.truth == ()


def test_the_other_cells_come_back(workbook):
    cells = {"复核结果": "误判", "复核人": 1001.0, "复核备注": "=是引用", "申诉": " 成立 "}
    found = read(fill(workbook, {2: cells | {"复核备注": "引用\n两行"}}))[0]
    assert (found.annotator, found.note, found.appeal) == ("1001", "引用\n两行", "成立")


DAMAGED = [
    (3, {"行数据": None}, "row 3: the hidden data is missing; copy the row"),
    (3, {"行数据": "r1.0.abc"}, "row 3: the hidden data is damaged"),
    (3, {"行数据": "r9.0.abc"}, "row 3: the hidden data is not of this version"),
    (3, {"客服原话": "您好"}, "row 3: the visible line is not the one of the hidden data"),
]


@pytest.mark.parametrize(("row", "cells", "message"), DAMAGED)
def test_damaged_rows_are_named(workbook, row, cells, message):
    with pytest.raises(DataError, match=message) as error:
        read(fill(workbook, {row: cells}))
    assert str(workbook) in str(error.value)


def test_one_error_names_all_rows(workbook):
    fill(workbook, {2: {"复核结果": "大概"}, 3: {"更正类别": "某类"}})
    with pytest.raises(DataError, match=r"row 2(.|\n)*row 3"):
        read(workbook)


def put(cell, value):
    """Set a value as Excel does, which keeps text that begins with = as text."""
    cell.value = value
    if isinstance(value, str):
        cell.data_type = "s"


def titled(sheet, _):
    sheet.insert_rows(1, 2)
    sheet["A1"] = "十一月十日复核"


def reordered(sheet, at):
    rows = [[cell.value for cell in row] for row in sheet.iter_rows()]
    width = len(at)
    for row, values in enumerate(rows, 1):
        for column, value in enumerate(values):
            put(sheet.cell(row, width - column), value)


def extended(sheet, _):
    sheet.insert_cols(3)
    sheet["C1"] = "组长意见"
    sheet["C3"] = "看过"


def renamed(sheet, at):
    sheet.title = "张三 已复核"
    sheet[f"{at['复核结果']}1"] = " 复核 结果 "
    sheet[f"{at['上一句(买家)']}1"] = "上一句（买家）"
    sheet[f"{at['会话ID']}1"] = "会话ＩＤ"
    sheet.column_dimensions[at["行数据"]].hidden = False


def numbered(sheet, at):
    sheet[f"{at['会话ID']}2"] = 1.2345678901234568e18
    sheet[f"{at['抽样概率']}2"] = 0.333
    sheet[f"{at['行键']}2"] = None
    sheet[f"{at['序号']}2"] = 1.0


def dotted(sheet, at):
    """Empty formatted rows below, a remark in an extra column, the header once more."""
    sheet.cell(30, 1).number_format = "0.00"
    sheet.cell(9, 40, "以上已复核")
    for cell in list(sheet[1]):
        sheet.cell(8, cell.column, cell.value)


@pytest.mark.parametrize("edit", [titled, reordered, extended, renamed, numbered, dotted])
def test_what_people_do_to_a_workbook_loses_nothing(workbook, edit):
    fill(workbook, {2: {"复核结果": "确认"}, 3: {"更正类别": "拒开发票"}})
    expected = read(workbook)
    assert [review.verdict for review in expected] == ["confirmed", "rejected", None, None]
    assert read(change(workbook, edit)) == expected


def test_a_column_that_stands_twice_is_refused(workbook):
    def edit(sheet, _):
        sheet["AA1"] = "复核 结果"

    with pytest.raises(DataError, match="two columns are named 复核结果"):
        read(change(workbook, edit))


def test_rows_may_be_sorted_and_deleted(workbook):
    fill(workbook, {2: {"复核结果": "确认"}})

    def edit(sheet, _):
        rows = [[cell.value for cell in row] for row in sheet.iter_rows(min_row=2)]
        for row, values in enumerate([rows[3], rows[0]], 2):
            for column, value in enumerate(values, 1):
                put(sheet.cell(row, column), value)
        sheet.delete_rows(4, 2)

    found = read(change(workbook, edit))
    assert [review.sampled for review in found] == [SAMPLED[3], SAMPLED[0]]
    assert [review.verdict for review in found] == [None, "confirmed"]


def test_answers_sorted_apart_from_their_lines_are_refused(workbook):
    def edit(sheet, at):
        for column in ("行键", "行数据"):
            letter = at[column]
            sheet[f"{letter}2"].value, sheet[f"{letter}3"].value = (
                sheet[f"{letter}3"].value,
                sheet[f"{letter}2"].value,
            )

    with pytest.raises(DataError, match="were some columns sorted alone"):
        read(change(workbook, edit))


def test_several_reviewers(tmp_path):
    first, second, third = (write(tmp_path / f"{name}.xlsx") for name in "abc")
    fill(first, {2: {"复核结果": "确认", "复核人": "甲"}})
    fill(second, {2: {"复核结果": "误判", "复核人": "乙"}, 3: {"复核结果": "确认"}})
    fill(third, {2: {"复核结果": "确认", "复核人": "甲"}})
    found = read(first, second, third)
    assert [(review.sampled, review.annotator, review.verdict) for review in found] == [
        (SAMPLED[0], "甲", "confirmed"),
        (SAMPLED[0], "乙", "rejected"),
        (SAMPLED[1], "", "confirmed"),
        (SAMPLED[2], "", None),
        (SAMPLED[3], "", None),
    ]
    fill(third, {2: {"复核结果": "误判"}})
    with pytest.raises(DataError, match=r"c\.xlsx, sheet 复核, row 2: another answer .*a\.xlsx"):
        read(first, second, third)


APPEALS = {  # cells of two files, and what is kept: verdict, note, appeal
    "a later copy with an appeal": (
        {"复核结果": "确认", "复核人": "甲", "复核备注": "旧"},
        {"复核结果": "确认", "复核人": "甲", "申诉": "成立"},
        [("confirmed", "旧", "成立")],
    ),
    "an earlier one": (
        {"复核结果": "确认", "复核人": "甲", "申诉": "成立"},
        {"复核结果": "确认", "复核人": "甲", "复核备注": "新"},
        [("confirmed", "新", "成立")],
    ),
    "the later one counts": (
        {"复核结果": "确认", "复核人": "甲", "复核备注": "旧", "申诉": "待处理"},
        {"复核人": "甲", "复核备注": "新", "申诉": "成立"},
        [("confirmed", "新", "成立")],
    ),
    "a judge without a verdict": (
        {"复核结果": "确认", "复核人": "甲"},
        {"复核人": "终审", "申诉": "成立"},
        [("confirmed", "", ""), (None, "", "成立")],
    ),
}


@pytest.mark.parametrize("name", APPEALS)
def test_an_appeal_in_a_second_file_counts(tmp_path, name):
    first, second, kept = APPEALS[name]
    files = [write(tmp_path / "a.xlsx"), write(tmp_path / "b.xlsx")]
    for file, cells in zip(files, (first, second), strict=True):
        fill(file, {2: cells})
    found = [review for review in read(*files) if review.sampled == SAMPLED[0]]
    assert [(review.verdict, review.note, review.appeal) for review in found] == kept


def test_a_line_copied_with_another_answer_is_refused(workbook):
    fill(workbook, {2: {"复核结果": "确认"}})

    def edit(sheet, at):
        for cell in list(sheet[2]):
            sheet.cell(6, cell.column, cell.value)
        sheet[f"{at['复核结果']}6"] = "存疑"

    with pytest.raises(DataError, match=r"row 6: another answer to the same line than .*row 2"):
        read(change(workbook, edit))


def other_sheet(path):
    book = Workbook()
    book.active.append(["复核结果", "客服原话"])
    book.save(path)


def damaged(path):
    path.write_bytes(b"PK nothing")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.xlsx", other_sheet, "no sheet with the columns 复核结果 and 行数据"),
        ("a.xlsx", damaged, "not a readable xlsx workbook"),
        ("a.xls", damaged, "save a workbook as .xlsx"),
        ("a.json", damaged, "not valid JSON"),
        ("a.json", lambda path: path.write_text("{}"), "not a list of tasks"),
        ("a.json", lambda path: path.write_text('[{"id": 7}]'), "task 7: has no field"),
        ("a.json", lambda _: None, "cannot read"),
        (
            "a.jsonl",
            lambda path: path.write_text('{"data": 1}\n{'),
            "(?s)row 1: .*row 2: not valid",
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, make, message):
    path = tmp_path / name
    make(path)
    with pytest.raises(DataError, match=message):
        read(path)


def test_a_failed_write_leaves_the_earlier_file(tmp_path, workbook):
    before = workbook.read_bytes()
    with pytest.raises(DataError, match="drawn twice"):
        write(workbook, [SAMPLED[0], SAMPLED[0]])
    with pytest.raises(DataError, match="end in"):
        write(tmp_path / "review.ods")
    with pytest.raises(DataError, match="cannot write"):
        write(workbook / "below.xlsx")
    assert workbook.read_bytes() == before


def test_jsonl_is_filled_by_a_program(tmp_path):
    path = write(tmp_path / "r.jsonl")
    rows = [row.values for row in tables.read(path)]
    assert rows[0]["suspected"] == [CONTACT]
    assert rows[2]["suspected"] == rows[2]["rules"] == rows[2]["evidence"] == []
    rows[0] |= {"verdict": "rejected", "correction": [PROMISE], "annotator": "甲"}
    rows[1] |= {"correction": []}
    path.write_text("\n".join(map(json.dumps, rows)))
    first, second, *_ = read(path)
    assert (first.verdict, first.correction, first.annotator) == ("rejected", (PROMISE,), "甲")
    assert (second.verdict, second.correction) == ("confirmed", ())


# What Label Studio exports of a task: (result, completed_by, was_cancelled) → what it means.
EXPORTED = [
    ({"labels": ["站外联系"]}, 7, False, ("confirmed", (CONTACT,), "7")),
    ({"labels": ["无"]}, {"id": 7, "email": "a@b.cn"}, False, ("rejected", (), "a@b.cn")),
    ({"labels": ["站外联系"], "verdict": ["误判"]}, 7, False, ("rejected", None, "7")),
    ({"labels": ["辱骂骚扰"], "verdict": ["误判"]}, 7, False, ("rejected", (ABUSE,), "7")),
    ({"labels": ["站外联系"], "verdict": ["存疑"]}, 7, False, ("doubtful", (CONTACT,), "7")),
    ({"labels": ["无"]}, 7, True, (None, None, "")),
]


@pytest.mark.parametrize(("choices", "who", "cancelled", "meaning"), EXPORTED)
def test_label_studio_export(tmp_path, choices, who, cancelled, meaning):
    path = write(tmp_path / "tasks.json")
    tasks = json.loads(path.read_text(encoding="utf-8"))
    result = [
        {
            "id": "a",
            "from_name": name,
            "to_name": "text",
            "type": "choices",
            "value": {"choices": v},
        }
        for name, v in choices.items()
    ]
    note = {"id": "n", "from_name": "note", "to_name": "text", "type": "textarea"}
    result.append(note | {"value": {"text": ["看上下文"]}})
    region = tasks[0]["predictions"][0]["result"][1]
    annotation = {"id": 1, "result": [*result, region], "lead_time": 3.5}
    tasks[0]["annotations"] = [annotation | {"completed_by": who, "was_cancelled": cancelled}]
    path.write_text(json.dumps([task | {"id": i} for i, task in enumerate(tasks, 1)]))
    found = read(path)
    assert (found[0].verdict, found[0].correction, found[0].annotator) == meaning
    assert found[0].note == ("" if cancelled else "看上下文")
    assert [review.sampled for review in found] == list(SAMPLED)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_tasks_use_what_the_labelling_configuration_names(tmp_path, language):
    path = write(tmp_path / "tasks.json", language=language)
    root = ET.fromstring(path.with_suffix(".xml").read_text(encoding="utf-8"))
    assert ET.tostring(root) == ET.tostring(ET.fromstring(label_config(LABELS, language)))
    choices = {
        control.get("name"): {choice.get("value") for choice in control}
        for control in root
        if control.tag in {"Choices", "Labels"}
    }
    used = {e.get("value", "")[1:] for e in root.iter() if e.get("value", "").startswith("$")}
    for task, sampled in zip(json.loads(path.read_text(encoding="utf-8")), SAMPLED, strict=True):
        assert used <= task["data"].keys()
        assert bool(task["predictions"]) != sampled.blind
        for region in (r for p in task["predictions"] for r in p["result"]):
            value = region["value"]
            assert set(value[region["type"]]) <= choices[region["from_name"]]
            if region["type"] == "labels":
                assert task["data"]["text"][value["start"] : value["end"]] == value["text"]


def convert(path, *suffixes):
    """Open and save a file with LibreOffice, once for each suffix."""
    for suffix in suffixes:
        out = path.parent / f"out-{suffix}-{len(path.name)}"
        profile = f"-env:UserInstallation={(path.parent / 'profile').as_uri()}"
        command = [SOFFICE, profile, "--headless", "--convert-to", suffix, "--outdir", str(out)]
        subprocess.run([*command, str(path)], check=True, capture_output=True, timeout=300)
        path = out / f"{path.stem}.{suffix}"
    return path


@pytest.mark.slow
@pytest.mark.skipif(SOFFICE is None, reason="LibreOffice is not installed")
@pytest.mark.parametrize("suffixes", [("xlsx",), ("ods", "xlsx")])
def test_libreoffice_loses_nothing(tmp_path, suffixes):
    texts = [
        "第一行\r\n第二行 ",
        "=HYPERLINK(1)",
        "#N/A",
        "_x000D_",
        "\x00\ud83d👩‍👩‍👧",
        "你" * 40_000,
    ]
    odd = [Sampled(line(10 + i, text), "s", 0.1, (CONTACT,)) for i, text in enumerate(texts)]
    path = write(tmp_path / "review.xlsx", [*SAMPLED, *odd])
    cells = {"复核结果": "误判", "更正类别": "辱骂骚扰", "复核人": "甲", "复核备注": "=看\n过 "}
    fill(path, {2: cells | {"复核备注": "看\n过"}, 3: {"复核结果": "确认", "申诉": "待处理"}})
    expected = read(path)
    assert [review.verdict for review in expected[:2]] == ["rejected", "confirmed"]
    assert read(convert(path, *suffixes)) == expected


def seconds_to_write(path, sampled):
    start = time.process_time()
    write(path, sampled)
    return time.process_time() - start


def test_500_rows_are_written_in_time(tmp_path):
    many = [Sampled(line(i), "s", 0.1, (CONTACT,)) for i in range(500)]
    # Further tries, since the machine may be busy with something else.
    assert any(seconds_to_write(tmp_path / "r.xlsx", many) < 3 for _ in range(3))
