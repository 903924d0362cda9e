"""Real small files of every format, in and out."""

import io
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook
from pyarrow import parquet

from cs_classifier.errors import DataError
from cs_classifier.tables import (
    CUT_MARK,
    FORMATS,
    Row,
    Writer,
    columns,
    detect_encoding,
    estimate_rows,
    output_format,
    read,
)

EVIDENCE = [
    {
        "label": "off_platform_contact",
        "source": "wechat-id",
        "clause": "off_platform_contact.add",
        "start": 0,
        "end": 2,
        "text": "加薇",
    }
]
TYPES = {
    "labels": "strings",
    "p_abuse": "float",
    "evidence": "evidence",
    "joined": "bool",
}
NAMES = ["id", "text", *TYPES, "error"]
SCORED = {
    "id": "00123456789012345678",
    "text": '加薇❤️ "ab",12\n第二行 𠮷😀',
    "labels": ["off_platform_contact", "promise_breach"],
    "p_abuse": 0.25,
    "evidence": EVIDENCE,
    "joined": True,
    "error": None,
}
UNSCORED = {
    "id": "2",
    "text": None,
    "labels": [],
    "p_abuse": float("nan"),
    "error": "text is empty",
}

# What spreadsheets would run, and what only looks like it.
FORMULAS = [
    '=HYPERLINK("http://a.example","点我")',
    "=1+1",
    "+86加我",
    "-我没有骗你",
    "@客服小美",
    "\t=1+1",
    "＝1+1",
    "'=1+1",
    "''@a",
    "#N/A",
]
NUMBERS = ["-5", "+1.5", "-3%", "1e9", "12"]


def table(path: Path) -> list[dict]:
    return [row.values for row in read(path)]


def write(path: Path, rows: list[dict], names: list[str] | None = None) -> Path:
    with Writer(path, columns=names or list(rows[0])) as writer:
        writer.write(rows)
    return path


def workbook(path: Path, rows: list[list], *, before: tuple[str, ...] = ()) -> Path:
    book = Workbook()
    book.active.title = "空"
    for name in before:
        book.create_sheet(name)
    sheet = book.create_sheet("聊天记录")
    for row in rows:
        sheet.append(row)
    book.save(path)
    return path


@pytest.mark.parametrize("kind", FORMATS)
def test_output_rows_survive(tmp_path, kind):
    path = tmp_path / "夜检 out" / f"scored.{kind}"
    with Writer(path, columns=NAMES, types=TYPES) as writer:
        writer.write([SCORED])
        writer.write([UNSCORED])
    scored, unscored = read(path)
    assert scored.values["id"] == SCORED["id"]  # leading zeros and 20 digits
    assert scored.values["text"] == SCORED["text"]
    assert float(scored.values["p_abuse"]) == 0.25
    assert unscored.values["error"] == "text is empty"
    assert unscored.values["p_abuse"] in (None, "")
    assert columns(path) == tuple(NAMES)
    if kind in ("jsonl", "parquet"):
        assert scored.values == SCORED
        assert unscored.values["labels"] == []
        assert unscored.values["text"] is None
    else:
        assert scored.values["labels"] == "off_platform_contact|promise_breach"
        assert json.loads(scored.values["evidence"]) == EVIDENCE
    assert [path] == list(path.parent.iterdir())  # no temporary file is left


@pytest.mark.parametrize(
    ("kind", "first"), [("csv", 2), ("tsv", 2), ("xlsx", 2), ("jsonl", 1), ("parquet", 1)]
)
def test_row_numbers(tmp_path, kind, first):
    path = write(tmp_path / f"a.{kind}", [{"text": "第一\n行"}, {"text": "二"}])
    assert [row.number for row in read(path)] == [first, first + 1]


@pytest.mark.parametrize("kind", FORMATS)
def test_format_can_be_named(tmp_path, kind):
    path = tmp_path / "export.dat"
    with Writer(path, columns=["text"], format=kind) as writer:
        writer.write([{"text": "亲"}])
    assert [row.values for row in read(path, format=kind)] == [{"text": "亲"}]


@pytest.mark.parametrize("kind", FORMATS)
def test_long_text(tmp_path, kind):
    text = "退款😀" * 33_334
    path = write(tmp_path / f"a.{kind}", [{"text": text}])
    (row,) = read(path)
    if kind == "xlsx":
        assert row.values["text"].endswith(CUT_MARK)
        assert len(row.values["text"].encode("utf-16-le")) <= 2 * 32_767
        assert text.startswith(row.values["text"].removesuffix(CUT_MARK))
    else:
        assert row.values["text"] == text


@pytest.mark.parametrize("kind", FORMATS)
def test_formulas_survive_as_text(tmp_path, kind):
    rows = [{"text": text} for text in FORMULAS + NUMBERS]
    path = write(tmp_path / f"a.{kind}", rows)
    assert [str(values["text"]) for values in table(path)] == FORMULAS + NUMBERS


def test_formulas_in_csv_have_an_apostrophe(tmp_path):
    path = write(tmp_path / "a.csv", [{"text": text} for text in FORMULAS + NUMBERS])
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    assert "'+86加我" in lines
    assert "'-我没有骗你" in lines
    assert set(NUMBERS) < set(lines)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")  # for Excel


def test_xlsx_output_is_a_text_table(tmp_path):
    path = write(
        tmp_path / "a.xlsx", [{"text": "=1+1", "n": 3}, {"text": "a\x00\x08b", "n": 10**18}]
    )
    sheet = load_workbook(path)["结果"]
    assert sheet["A2"].data_type == "s"
    assert sheet["A2"].quotePrefix
    assert sheet["A1"].font.bold
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == "A1:B3"
    assert [cell.value for cell in sheet["B"]] == ["n", 3, str(10**18)]
    assert sheet["A3"].value == "ab"


TEXT = st.text(max_size=40)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(TEXT, TEXT), max_size=4))
def test_any_text_survives(tmp_path, kind, rows):
    path = tmp_path / f"a.{kind}"
    expected = [{"text": text, "context": context} for text, context in rows]
    if kind in ("csv", "tsv"):
        expected = json.loads(json.dumps(expected).replace(r"\u0000", r"\ufffd"))
    with Writer(path, columns=["text", "context"]) as writer:
        writer.write([{"text": text, "context": context} for text, context in rows])
    if rows or kind != "jsonl":
        assert table(path) == expected


@pytest.mark.parametrize(
    ("encoding", "found"),
    [("utf-8", "utf-8-sig"), ("utf-8-sig", "utf-8-sig"), ("gb18030", "gb18030")],
)
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_encodings(tmp_path, kind, encoding, found):
    text = "亲，𠮷😀在的" * 200
    separator = "\t" if kind == "tsv" else ","
    content = f"text{separator}会话ＩＤ\n{text}{separator}7\n"
    if kind == "jsonl":
        content = json.dumps({"text": text, "会话ID": "7"}, ensure_ascii=False) + "\n"
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content.encode(encoding))
    assert detect_encoding(path) == found
    assert table(path) == [{"text": text, "会话ID": "7"}]


def test_a_character_across_two_chunks(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text\n" + ("a" * 1_048_570 + "退款退款"), encoding="utf-8")
    assert detect_encoding(path) == "utf-8-sig"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_damaged_byte_costs_one_row(tmp_path, kind):
    good = "亲，您好，请问有什么可以帮您的吗，这边在的"
    lines = [good.encode(), "坏".encode()[:2] + b"!", good.encode()]
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        path.write_bytes(b"text\n" + b"\n".join(lines))
    else:
        path.write_bytes(b"\n".join(b'{"text":"' + line + b'"}' for line in lines))
    first, damaged, last = read(path)
    assert (first.error, last.error) == ("", "")
    assert first.values == last.values == {"text": good}
    assert "UTF-8" in damaged.error
    assert damaged.values["text"].endswith("\ufffd!")


def test_csv_rows_that_do_not_fit(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text,,note,\n1,a,x,b,\n\n2,c\n3,d,,e,,,f\n4,\n", encoding="utf-8")
    names = {"column_3", "id", "note", "text"}
    rows = list(read(path))
    assert [row.number for row in rows] == [2, 4, 5, 6]  # an empty line counts, but is no row
    assert set(rows[0].values) == names
    assert rows[1] == Row(4, {"id": "2", "text": "c", "column_3": None, "note": None})
    assert rows[2].error == "has 7 fields, but the header has 4"
    assert rows[2].values["text"] == "d"
    assert rows[3].values["text"] == ""


def test_a_quotation_mark_that_is_not_closed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,text\n1,好\n2,"亲\n3,在的\n', encoding="utf-8")
    good, bad = read(path)
    assert good == Row(2, {"id": "1", "text": "好"})
    assert "not closed" in bad.error


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": "a"', "not valid JSON"),
        ("亲，在的", "not valid JSON"),
        ('["a"]', "not a JSON object"),
        ('"a"', "not a JSON object"),
        ('{"n": ' + "9" * 5000 + "}", "not usable JSON"),
        ('{"text": ' + "[" * 5000 + "]" * 5000 + "}", "not usable JSON"),
    ],
)
def test_bad_json_lines_stay(tmp_path, line, problem):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{line}\n\n{{"text": "好"}}\n', encoding="utf-8")
    bad, good = read(path)
    assert bad.number == 1
    assert bad.values == {}
    assert problem in bad.error
    assert good == Row(3, {"text": "好"})


def test_values_become_plain(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": NaN, "a": Infinity, "b": 1.0, "c": "x\\ud83dy", "d": {"e": [NaN]}}\n')
    assert table(path) == [{"text": None, "a": None, "b": 1.0, "c": "x\ufffdy", "d": {"e": [None]}}]


def test_columns_of_jsonl_are_all_keys(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n[]\n{"id": 1, "text": "b"}\n')
    assert columns(path) == ("text", "id")


def test_xlsx_as_people_make_them(tmp_path):
    rows = [
        ["客服聊天记录 2026-08-01"],
        [" 会话ＩＤ ", "内容", "时间", "", "数量", None],
        ["A1", "亲", datetime(2026, 8, 1, 9, 30), True, 3.0],
        [],
        [6921000000000.0, "=1+1", None, None, 1.5],
        ["B", "x", None, None, None, None, "多余"],
        [None, "  "],
        [None, None, ""],
    ]
    path = workbook(tmp_path / "a.xlsx", rows, before=("也空",))
    found = list(read(path))
    assert [row.number for row in found] == [3, 4, 5, 6, 7]
    assert found[0].values == {
        "会话ID": "A1",
        "内容": "亲",
        "时间": "2026-08-01T09:30:00",
        "column_4": True,
        "数量": 3,
    }
    assert set(found[1].values.values()) == {None}
    assert found[2].values["会话ID"] == 6921000000000
    assert found[2].values["内容"] is None  # a formula without a stored result
    assert found[3].error == "has 7 fields, but the header has 5"
    assert columns(path) == tuple(found[0].values)


def test_xlsx_one_column_has_no_title(tmp_path):
    path = workbook(tmp_path / "a.xlsx", [["text"], ["亲"], ["在"]])
    assert [row.values["text"] for row in read(path)] == ["亲", "在"]


def test_xlsx_hidden_sheets_come_last(tmp_path):
    book = Workbook()
    book.active.append(["下拉值"])
    book.active.sheet_state = "hidden"
    book.create_sheet("记录").append(["text"])
    book.save(tmp_path / "a.xlsx")
    assert columns(tmp_path / "a.xlsx") == ("text",)


def test_parquet_values(tmp_path):
    times = pa.array([1_700_000_000_000_000_001, None], pa.timestamp("ns"))
    data = {"text": ["a", None], "at": times, "score": [1.5, float("nan")], "raw": [b"x", b"\xff"]}
    parquet.write_table(pa.table(data), tmp_path / "a.parquet")
    first, second = read(tmp_path / "a.parquet")
    expected = {"text": "a", "at": "2023-11-14T22:13:20", "score": 1.5, "raw": "x"}
    assert first == Row(1, expected)
    assert second == Row(2, {"text": None, "at": None, "score": None, "raw": "\ufffd"})


@pytest.mark.parametrize("kind", FORMATS)
def test_no_rows(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    with Writer(path, columns=["id", "text"]):
        pass
    if kind == "jsonl":
        assert path.read_bytes() == b""
    else:
        assert list(read(path)) == []
        assert columns(path) == ("id", "text")


def _xls(path: Path) -> None:
    path.write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600)


def _damaged_parquet(path: Path) -> None:
    parquet.write_table(pa.table({"text": ["a"]}), path)
    path.write_bytes(path.read_bytes()[:-9])


def _twice_in_parquet(path: Path) -> None:
    parquet.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, names=["a", "a"]), path)


BAD_FILES = [
    ("empty.csv", b"", "is empty"),
    ("empty.jsonl", b"", "is empty"),
    ("empty.xlsx", b"", "is empty"),
    ("empty.parquet", b"", "is empty"),
    ("blank.csv", b"\xef\xbb\xbf\n\n", "has no header row"),
    ("blanks.csv", b" , ,\n1,2,3\n", "has no header row"),
    ("twice.csv", "text,id,ｔｅｘｔ\n".encode(), "names text more than once"),
    ("twice.tsv", b"a\tb\ta\tb\n", "names a, b more than once"),
    ("twice.parquet", _twice_in_parquet, "names a more than once"),
    ("twice.xlsx", lambda path: workbook(path, [["a", "a"]]), "names a more than once"),
    ("nothing.xlsx", lambda path: Workbook().save(path), "no sheet has any content"),
    ("photo.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "looks like a binary file"),
    ("wide.csv", "text\n亲\n".encode("utf-16"), "looks like a binary file or UTF-16"),
    ("latin.jsonl", b'{"text": "\xff\xff"}', "looks like a binary file"),
    ("old.xls", _xls, "save old .xls workbooks as .xlsx"),
    ("renamed.xlsx", _xls, "not a readable xlsx workbook"),
    ("csv.xlsx", b"text\na\n", "not a readable xlsx workbook"),
    ("csv.parquet", b"text\na\n", "not a readable parquet file"),
    ("cut.parquet", _damaged_parquet, "not a readable parquet file"),
    ("text.txt", b"text\na\n", "cannot tell the format from the suffix '.txt'"),
    ("folder.csv", Path.mkdir, "is a folder"),
    ("missing.csv", lambda path: None, "cannot read .*missing.csv: No such file"),
]


@pytest.mark.parametrize(("name", "content", "problem"), BAD_FILES, ids=[x[0] for x in BAD_FILES])
@pytest.mark.parametrize("look", [read, columns])
def test_unusable_files(tmp_path, name, content, problem, look):
    path = tmp_path / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=problem) as caught:
        look(path)
    assert name in str(caught.value)


def test_a_field_without_end(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text\n"' + "a" * 10_000_001, encoding="utf-8")
    with pytest.raises(DataError, match="a quotation mark is not closed"):
        list(read(path))


def test_a_workbook_damaged_inside(tmp_path):
    path = workbook(tmp_path / "a.xlsx", [["text"], ["a"]])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="not a readable xlsx"):
        read(path)


def _interrupted(writer: Writer) -> None:
    writer.write([{"text": "new"}])
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", FORMATS)
def test_a_failed_write_leaves_the_old_file(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), Writer(path, columns=["text"]) as writer:
        _interrupted(writer)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_folder_that_cannot_be_written(tmp_path, kind):
    (tmp_path / "file").write_text("")
    writer = Writer(tmp_path / "file" / f"a.{kind}", columns=["text"])
    with pytest.raises(DataError, match="cannot write"):
        writer.__enter__()


def test_output_must_be_a_file(tmp_path):
    with pytest.raises(DataError, match="not a regular file"):
        output_format(tmp_path, "csv")
    with pytest.raises(DataError, match="not a regular file"):
        output_format(Path(os.devnull), "jsonl")


@pytest.mark.parametrize(
    ("path", "wanted", "kind"),
    [
        (None, None, "jsonl"),
        (Path("-"), "tsv", "tsv"),
        (Path("a.CSV"), None, "csv"),
        (Path("a.ndjson"), None, "jsonl"),
        (Path("a.pq"), None, "parquet"),
        (Path("a.csv"), "xlsx", "xlsx"),
    ],
)
def test_output_format(path, wanted, kind):
    assert output_format(path, wanted) == kind


@pytest.mark.parametrize(
    ("path", "wanted", "problem"),
    [
        (None, "parquet", "cannot be streamed"),
        (Path("-"), "xlsx", "cannot be streamed"),
        (Path("a.csv"), "excel", "unknown format 'excel'"),
        (Path("a"), None, "cannot tell the format"),
    ],
)
def test_no_output_format(path, wanted, problem):
    with pytest.raises(DataError, match=problem):
        output_format(path, wanted)


def test_columns_to_write_must_differ(tmp_path):
    with pytest.raises(DataError, match="names a more than once"):
        Writer(tmp_path / "a.csv", columns=["a", "a"])


@pytest.mark.parametrize("kind", ["csv", "xlsx", "parquet"])
def test_an_unknown_column_is_not_dropped(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    with (
        pytest.raises(DataError, match="columns note are not among"),
        Writer(path, columns=["text"]) as writer,
    ):
        writer.write([{"text": "a", "note": "b"}])
    assert not path.exists()


def test_jsonl_keeps_additional_columns(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"note": "b", "text": "a"}], ["id", "text"])
    assert path.read_text() == '{"id": null, "text": "a", "note": "b"}\n'


def test_parquet_types(tmp_path):
    path = tmp_path / "a.parquet"
    names = ["text", "turn", *TYPES]
    with Writer(path, columns=names, types=TYPES) as writer:
        writer.write([{"text": "a", "turn": 3}, {"text": None, "turn": [1]}])
    schema = parquet.read_schema(path)
    assert schema.field("turn").type == pa.string()
    assert schema.field("labels").type == pa.list_(pa.string())
    assert schema.field("p_abuse").type == pa.float64()
    assert [row["turn"] for row in table(path)] == ["3", "[1]"]


def test_parquet_wrong_type(tmp_path):
    path = tmp_path / "a.parquet"
    with (
        pytest.raises(DataError, match=r"column 'p_abuse' .* 'float'"),
        Writer(path, columns=["p_abuse"], types=TYPES) as writer,
    ):
        writer.write([{"p_abuse": "high"}])
    assert list(tmp_path.iterdir()) == []


def test_xlsx_has_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr("cs_classifier.tables.writing.XLSX_ROWS", 1_000)
    path = tmp_path / "a.xlsx"
    with (
        pytest.raises(DataError, match="at most 1,000 rows"),
        Writer(path, columns=["text"]) as writer,
    ):
        writer.write([{}] * 1_000)


COPY = """
from pathlib import Path
from cs_classifier.tables import Writer, read
with Writer(Path("-"), columns=["text", "labels"], format={kind!r}) as writer:
    for row in read(Path("-"), format={kind!r}):
        writer.write([{{**row.values, "labels": ["a", "b"]}}])
"""


@pytest.mark.parametrize(
    ("kind", "given", "printed"),
    [
        (None, '{"text": "亲😀"}\n', '{"text": "亲😀", "labels": ["a", "b"]}\n'),
        ("csv", "\ufefftext\r\n=亲\r\n", "text,labels\r\n'=亲,a|b\r\n"),
        ("tsv", "text\n亲\n", "text\tlabels\r\n亲\ta|b\r\n"),
    ],
)
def test_stdin_to_stdout(kind, given, printed):
    # In the C locale Python would not choose UTF-8 by itself everywhere.
    done = subprocess.run(
        [sys.executable, "-c", COPY.format(kind=kind)],
        input=given.encode(),
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.stdout.decode() == printed
    assert done.stderr == b""


def test_stdin_without_header(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(DataError, match="stdin has no header row"):
        read(None, format="csv")


def test_heavy_libraries_stay_out():
    code = "import sys, cs_classifier.tables; print({'openpyxl', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"set()"


@pytest.mark.parametrize(
    ("suffix", "expected"), [("csv", 4), ("tsv", 4), ("jsonl", 3), ("parquet", 3), ("xlsx", None)]
)
def test_row_estimates(tmp_path: Path, suffix: str, expected: int | None) -> None:
    path = tmp_path / f"rows.{suffix}"
    with Writer(path, columns=["text"]) as writer:
        writer.write([{"text": text} for text in ("好", "的", "呢")])
    assert estimate_rows(path) == expected


@pytest.mark.parametrize("name", ["none.csv", "none.parquet", "broken.parquet", "notes.txt"])
def test_no_estimate_for_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "notes.txt").touch()
    assert estimate_rows(tmp_path / name) is None
