"""Labelled lines: strict reading, lossless writing, and the shipped data itself."""

import json
from collections import defaultdict
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs_classifier.datasets import (
    FIELDS,
    checksum,
    dump,
    duplicate_key,
    files,
    gold,
    is_natural,
    load,
    problems,
)
from cs_classifier.errors import DataError, LabelError
from cs_classifier.labels import load_labels
from cs_classifier.records import LabelledMessage, Message

LABELS = load_labels()
DATA = Path(__file__).parent.parent / "data"
SPLITS = ("train", "calibration", "test")
NEAR = 0.8  # Jaccard similarity of character 3-grams from which two lines count as one


def line(name, text="好的", context="", **fields):
    return LabelledMessage(name, Message(text, context), fields.pop("labels", ()), **fields)


def write(path, *rows):
    texts = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


ROW = {"id": "a1", "text": "开不了票", "labels": ["invoice_refusal"]}

words = st.text(max_size=12)
names = st.text(min_size=1, max_size=8)
labelled = st.builds(
    LabelledMessage,
    id=names,
    message=st.builds(Message, st.text(min_size=1, max_size=20).filter(str.strip), words),
    labels=st.sets(st.sampled_from(LABELS.ids)).map(
        lambda chosen: tuple(label for label in LABELS.ids if label in chosen)
    ),
    clauses=st.lists(st.sampled_from(list(LABELS.clauses)), unique=True, max_size=3).map(tuple),
    status=st.sampled_from(["gold", "borderline"]),
    group=names,
    origin=words,
    note=words,
)


@settings(deadline=None, max_examples=40)
@given(lines=st.lists(labelled, max_size=5, unique_by=lambda one: one.id))
def test_load_returns_what_dump_wrote(lines, tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "lines.jsonl"
    dump(lines, path)
    assert load([path], LABELS) == lines


def test_dump_writes_every_field_in_order(tmp_path):
    path = tmp_path / "new" / "lines.jsonl"
    dump([line("a1", "加我微信", labels=("off_platform_contact",), group="g")], path)
    row = json.loads(path.read_text(encoding="utf-8"))
    assert tuple(row) == FIELDS
    assert "微信" in path.read_text(encoding="utf-8")


def test_short_row_gets_defaults(tmp_path):
    path = write(tmp_path / "x.jsonl", {"text": "好的亲", "labels": []})
    (found,) = load([path], LABELS)
    assert found.message == Message("好的亲", "")
    assert (found.labels, found.clauses, found.status, found.origin) == ((), (), "gold", "")
    assert found.id == found.group == f"{path}, line 1"


def test_labels_come_in_label_order_and_clauses_as_written(tmp_path):
    row = ROW | {
        "labels": ["counterfeit_hint", "invoice_refusal", "counterfeit_hint"],
        "clause": "counterfeit_hint.evasive_hint+invoice_refusal.outright_refuse",
    }
    (found,) = load([write(tmp_path / "x.jsonl", row)], LABELS)
    assert found.labels == ("invoice_refusal", "counterfeit_hint")
    assert found.clauses == ("counterfeit_hint.evasive_hint", "invoice_refusal.outright_refuse")


@pytest.mark.parametrize(
    ("field", "value", "group"),
    [("group", "g7", "g7"), ("cluster", "c7", "c7"), ("group", "", "a1"), ("group", None, "a1")],
)
def test_group_falls_back_to_the_id(tmp_path, field, value, group):
    (found,) = load([write(tmp_path / "x.jsonl", ROW | {field: value})], LABELS)
    assert found.group == group


def test_byte_order_mark_and_blank_lines_are_skipped(tmp_path):
    path = tmp_path / "bom.jsonl"
    path.write_text("\n" + json.dumps(ROW) + "\r\n\n  \n", encoding="utf-8-sig")
    assert [one.id for one in load([path], LABELS)] == ["a1"]
    path.write_text(json.dumps(ROW), encoding="utf-8-sig")
    assert [one.id for one in load([path], LABELS)] == ["a1"]


@pytest.mark.parametrize(
    ("row", "error", "message"),
    [
        ('{"text": "好"', DataError, "not valid JSON"),
        ('["text"]', DataError, "'text'"),
        ("3", DataError, "'text'"),
        ({"labels": []}, DataError, "'text'"),
        (ROW | {"text": ""}, DataError, "non-empty"),
        (ROW | {"text": " \u3000\t"}, DataError, "non-empty"),
        (ROW | {"text": 5}, DataError, "'text'"),
        ({"text": "好"}, DataError, "'labels' must be a list"),
        (ROW | {"labels": "invoice_refusal"}, DataError, "'labels' must be a list"),
        (ROW | {"labels": [["invoice_refusal"]]}, DataError, "list of label ids"),
        (ROW | {"labels": [0]}, DataError, "list of label ids"),
        (ROW | {"labels": ["rudeness"]}, LabelError, "unknown label 'rudeness'"),
        (
            ROW | {"clause": "invoice_refusal.outright_refuse+invoice_refusal.mood"},
            LabelError,
            r"unknown clause 'invoice_refusal\.mood'",
        ),
        (ROW | {"clause": ["invoice_refusal.outright_refuse"]}, DataError, "'clause' must be text"),
        (ROW | {"context": 7}, DataError, "'context' must be text"),
        (ROW | {"status": ["gold"]}, DataError, "'status' must be text"),
        (ROW | {"status": "maybe"}, DataError, "'status' must be one of gold.*borderline"),
        (ROW, DataError, "id 'a1' occurs twice"),
    ],
)
def test_bad_row_is_named(tmp_path, row, error, message):
    path = write(tmp_path / "bad.jsonl", ROW, "", row)
    with pytest.raises(error, match=rf"bad\.jsonl, line 3: .*{message}"):
        load([path], LABELS)


def test_repeated_id_is_found_across_files(tmp_path):
    write(tmp_path / "1.jsonl", ROW)
    write(tmp_path / "2.jsonl", ROW | {"text": "别的"})
    with pytest.raises(DataError, match=r"2\.jsonl, line 1: id 'a1'"):
        load([tmp_path], LABELS)


def test_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "gbk.jsonl"
    path.write_bytes(json.dumps(ROW, ensure_ascii=False).encode("gbk"))
    with pytest.raises(DataError, match=r"gbk\.jsonl: not UTF-8"):
        load([path], LABELS)


def test_files_are_sorted_and_folders_searched_one_level_deep(tmp_path):
    names = ["b.jsonl", "a.jsonl", "sub/c.jsonl", "notes.txt"]
    (tmp_path / "sub").mkdir()
    for name in names:
        write(tmp_path / name, "")
    assert [path.name for path in files([tmp_path])] == ["a.jsonl", "b.jsonl"]
    assert files([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]


def test_missing_path_and_empty_folder_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("none.jsonl", "empty"):
        with pytest.raises(DataError, match=name):
            load([tmp_path / name], LABELS)


def test_checksum_is_sha256_of_the_bytes(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"abc\r\n")
    assert checksum(path) == sha256(b"abc\r\n").hexdigest()


def test_gold_leaves_borderline_lines_out(tmp_path):
    rows = [ROW | {"id": status, "status": status} for status in ("gold", "borderline", "clear")]
    lines = load([write(tmp_path / "x.jsonl", *rows)], LABELS)
    assert [one.id for one in gold(lines)] == ["gold", "clear"]
    assert [one.status for one in lines] == ["gold", "borderline", "gold"]


def test_problems():
    refusal, breach = "invoice_refusal.outright_refuse", "promise_breach.gift"
    lines = [
        line("fine", "开不了票", labels=("invoice_refusal",), clauses=(refusal,)),
        line("near", "票开好了", clauses=(refusal,)),
        line("bare", "没法开", labels=("invoice_refusal",)),
        line("wrong", "不送了", labels=("invoice_refusal",), clauses=(breach,)),
        line("half", "都没有", labels=("invoice_refusal",), clauses=(refusal, breach)),
        line("again", "开 不了票!"),
        line("other-context", "开不了票", "在吗"),
    ]
    found = problems(lines)
    assert [text.partition(":")[0] for text in found] == ["wrong", "half", "again"]
    assert found[-1] == "again: repeats fine"


han_and_latin = st.text("开不了发票微信aBcXyZ019", min_size=1, max_size=12)
filler = st.text(" ,,。.!!??~_-、…()\t\u3000", max_size=3)


@settings(deadline=None, max_examples=50)
@given(text=han_and_latin, context=han_and_latin, data=st.data())
def test_duplicate_key_ignores_spaces_punctuation_and_case(text, context, data):
    def disguise(part):
        return "".join(
            data.draw(filler) + data.draw(st.sampled_from([c.lower(), c.upper()])) for c in part
        )

    plain, disguised = Message(text, context), Message(disguise(text), disguise(context))
    assert duplicate_key(plain) == duplicate_key(disguised)


@settings(deadline=None, max_examples=50)
@given(one=han_and_latin, other=han_and_latin)
def test_duplicate_key_tells_texts_and_places_apart(one, other):
    if one.lower() != other.lower():
        assert duplicate_key(Message(one)) != duplicate_key(Message(other))
        assert duplicate_key(Message(one, other)) != duplicate_key(Message(other, one))
    assert duplicate_key(Message(one, "")) != duplicate_key(Message(one, one))


@pytest.mark.parametrize(
    ("origin", "natural"),
    [("natural:snacks", True), ("", True), ("enriched:auto-parts", False), ("enriched", False)],
)
def test_is_natural(origin, natural):
    assert is_natural(line("a", origin=origin)) is natural


@pytest.fixture(scope="module")
def shipped():
    return {split: load([DATA / split], LABELS) for split in SPLITS}


def test_shipped_data_has_no_problems(shipped):
    everything = [one for split in SPLITS for one in shipped[split]]
    assert problems(everything) == []  # within a split and across


def test_shipped_splits_share_no_id_line_or_group(shipped):
    keys = (lambda one: one.id, lambda one: one.group, lambda one: duplicate_key(one.message))
    for key in keys:
        train, calibration, test = ({key(one) for one in shipped[split]} for split in SPLITS)
        assert not train & calibration
        assert not train & test
        assert not calibration & test


@pytest.mark.parametrize("split", SPLITS)
def test_every_shipped_split_has_every_label_and_clean_lines(shipped, split):
    lines = gold(shipped[split])
    assert {label for one in lines for label in one.labels} == set(LABELS.ids)
    assert any(not one.labels for one in lines)


@pytest.mark.parametrize("split", ["calibration", "test"])
def test_held_out_lines_say_how_they_were_drawn(shipped, split):
    assert {one.origin.partition(":")[0] for one in shipped[split]} == {"natural", "enriched"}
    assert all(one.origin.partition(":")[2] for one in shipped[split])


def test_training_lines_come_from_other_batches(shipped):
    batches = {
        split: {one.origin.partition(":")[2] or one.origin for one in shipped[split]}
        for split in SPLITS
    }
    assert not batches["train"] & (batches["calibration"] | batches["test"])
    assert not batches["calibration"] & batches["test"]


def trigrams(message):
    text = duplicate_key(message)
    return frozenset(text[i : i + 3] for i in range(max(1, len(text) - 2)))


def near_duplicates(ours, theirs):
    """Pairs of ids whose 3-gram sets have a Jaccard similarity of at least NEAR."""
    index = defaultdict(list)
    grams = [trigrams(one.message) for one in theirs]
    for number, some in enumerate(grams):
        for gram in some:
            index[gram].append(number)
    found = []
    for one in ours:
        mine = trigrams(one.message)
        rarest_first = sorted(mine, key=lambda gram: len(index.get(gram, ())))
        # A set at least NEAR alike shares one of any |mine| - ceil(NEAR |mine|) + 1 grams.
        probes = rarest_first[: len(mine) - int(-(-NEAR * len(mine) // 1)) + 1]
        for number in {n for gram in probes for n in index.get(gram, ())}:
            if len(mine & grams[number]) >= NEAR * len(mine | grams[number]):
                found.append((one.id, theirs[number].id))
    return found


def test_near_duplicates_are_found():
    ours = [line("a", "亲亲不好意思哦我们小店开不了发票的呢", "能开发票吗")]
    theirs = [
        line("same", "亲亲不好意思哦,我们小店开不了发票的呢!", "能开发票吗?"),
        line("near", "亲亲不好意思哦我们小店开不了发票的", "能开发票吗"),
        line("far", "亲亲可以开发票的哦", "能开发票吗"),
    ]
    assert near_duplicates(ours, theirs) == [("a", "same"), ("a", "near")]


@pytest.mark.parametrize(("ours", "theirs"), [(0, 1), (0, 2), (1, 2)])
def test_shipped_splits_share_no_near_duplicate(shipped, ours, theirs):
    assert near_duplicates(shipped[SPLITS[theirs]], shipped[SPLITS[ours]]) == []
