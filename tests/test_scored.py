"""What ``predict`` wrote is read back the same from every format."""

import json
from dataclasses import replace

import pytest

from cs_classifier import scored, tables
from cs_classifier.errors import DataError
from cs_classifier.prediction import Output
from cs_classifier.records import Evidence
from cs_classifier.transcripts import ColumnMap

LABELS = ("invoice_refusal", "off_platform_contact")
ADDED = Output(LABELS).types
EVIDENCE = {
    "label": "invoice_refusal",
    "source": "invoice.refuse",
    "clause": "invoice_refusal.outright_refuse",
    "start": 0,
    "end": 3,
    "text": "开不了",
}


def row(text="好的", **cells):
    clear = {"labels": [], "review": [], "p_invoice_refusal": 0.0125, "p_off_platform_contact": 0.0}
    rest = {"rules": [], "tags": [], "evidence": [], "joined": False, "model": "m1", "error": ""}
    return {"text": text, "context": "", **clear, **rest, **cells}


ROWS = [
    row("开不了", labels=["invoice_refusal"], evidence=[EVIDENCE], rules=["a", "b"], joined=True),
    row("=1+1", review=["invoice_refusal", "off_platform_contact"]),
    row("[图片]", p_invoice_refusal=None, p_off_platform_contact=None, error="needs_media_review"),
]


def write(path, rows, columns=None):
    columns = columns or list(rows[0])
    with tables.Writer(path, columns=columns, types=ADDED) as writer:
        writer.write(rows)
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "xlsx", "parquet"])
def test_every_format_gives_the_same_lines(tmp_path, suffix):
    found = scored.read([write(tmp_path / f"s.{suffix}", ROWS)])
    assert found.label_ids == LABELS
    assert found.models == ("m1",)
    first, second, media = found.lines
    assert first.labels == ("invoice_refusal",)
    assert first.evidence == (Evidence(**EVIDENCE),)
    assert first.rules == ("a", "b")
    assert first.joined
    assert first.probabilities == (0.0125, 0.0)
    assert second.text == "=1+1"
    assert second.suspected == LABELS
    assert [second.outcome(label) for label in LABELS] == ["review", "review"]
    assert (media.probabilities, media.error) == ((), "needs_media_review")
    assert first.outcome("invoice_refusal") == "violation"
    assert first.outcome("off_platform_contact") == "clear"


KEYS = [
    ([{"id": "a"}, {"id": "b"}, {"id": "a"}], ["a", "b", "a~2"]),
    ([{"conversation_id": "c", "turn": 3}, {"conversation_id": "c", "turn": 4}], ["c#3", "c#4"]),
]


@pytest.mark.parametrize(("cells", "keys"), KEYS)
def test_keys(tmp_path, cells, keys):
    path = write(tmp_path / "s.jsonl", [row(**c) for c in cells])
    assert [line.key for line in scored.read([path]).lines] == keys


def test_without_id_the_key_is_the_content_wherever_the_line_stands(tmp_path):
    both = scored.read([write(tmp_path / "a.jsonl", [row("一"), row("二"), row("一")])])
    turned = scored.read([write(tmp_path / "b.jsonl", [row("二"), row("一")])])
    one, two, again = (line.key for line in both.lines)
    assert [line.key for line in turned.lines] == [two, one]
    assert again == f"{one}~2"


def test_mapped_columns(tmp_path):
    cells = {k: v for k, v in row().items() if k != "text"} | {"内容": "好的", "班组": "一组"}
    path = write(tmp_path / "s.csv", [cells])
    (line,) = scored.read([path], columns=ColumnMap(text="内容", team="班组")).lines
    assert (line.text, line.team, line.shift) == ("好的", "一组", "")


def test_several_files_are_one_night(tmp_path):
    paths = [write(tmp_path / f"{n}.jsonl", [row(n)]) for n in ("a", "b")]
    assert [(line.file, line.text) for line in scored.read(paths).lines] == [
        ("a.jsonl", "a"),
        ("b.jsonl", "b"),
    ]


FAULTS = {
    "no columns 'p_<label>'": [{"text": "好的"}],
    "row 2: no columns": [row(), {"text": "好的", "p_other": 0.5}],
    "row 1: 'viel' in column 'p_invoice_refusal' is no probability; rename": [
        row(p_invoice_refusal="viel")
    ],
    "row 1: column 'evidence' is damaged": [row(evidence=[{"label": "x"}])],
    "row 1: '12.5' in column 'p_price'": [dict(sorted(row(p_price=12.5).items()))],
    "'\\[1\\]' in column 'p_invoice_refusal'": [row(p_invoice_refusal=[1])],
    "label 'other' has no column": [row(labels=["other"])],
}


@pytest.mark.parametrize("message", FAULTS)
def test_other_files_are_refused_with_file_and_row(tmp_path, message):
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in FAULTS[message]), encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        scored.read([path])
    assert "s.jsonl" in str(caught.value)


def test_own_columns_that_begin_like_a_label_stay_out(tmp_path):
    lines = [{"p_id": 778812345, **row(), "p_price": "12.5"}]
    found = scored.read([write(tmp_path / "s.csv", lines)])
    assert found.label_ids == LABELS
    assert found.lines[0].probabilities == (0.0125, 0.0)


def test_columns_in_another_order_are_read(tmp_path):
    assert (
        scored.read([write(tmp_path / "s.jsonl", [dict(sorted(row().items()))])]).label_ids
        == LABELS
    )


def test_a_file_given_twice_is_refused(tmp_path):
    path = write(tmp_path / "s.jsonl", ROWS)
    with pytest.raises(DataError, match="given twice"):
        scored.read([path, tmp_path / ".." / tmp_path.name / "s.jsonl"])


def test_an_empty_file_is_an_error(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text("\n")
    with pytest.raises(DataError):
        scored.read([path])


def test_lines_are_values(tmp_path):
    path = write(tmp_path / "s.jsonl", ROWS)
    assert scored.read([path]) == scored.read([path])
    assert replace(scored.read([path]).lines[0], key="x").key == "x"
