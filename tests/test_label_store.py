"""The label store: what holds, what was said, and what survives merges, crashes and crowds."""

import itertools
import multiprocessing
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs_classifier import datasets
from cs_classifier.errors import DataError, LabelError
from cs_classifier.labeling.store import (
    SOURCES,
    Event,
    append,
    dumps,
    find,
    histories,
    key_of,
    load,
    news,
    ordered,
    truth,
    utc,
)
from cs_classifier.labels import load_labels
from cs_classifier.records import Message

LABELS = load_labels()
INVOICE, PROMISE, ABUSE = LABELS.ids[:3]


def event(who="甲", new=(INVOICE,), *, at=0, source="review", text="没有票的", **fields):
    when = f"2026-11-10T10:{at // 60:02}:{at % 60:02}+00:00"
    message = Message(text, fields.pop("context", "能开票吗"))
    return Event(message=message, new=new, who=who, when=when, source=source, **fields)


# events, labels and status of the line
CASES = {
    "one answer": ([event()], (INVOICE,), "gold"),
    "clean": ([event(new=())], (), "gold"),
    "the latest of an annotator": ([event(at=0), event(new=(), at=1)], (), "gold"),
    "two agree": ([event("甲"), event("乙")], (INVOICE,), "gold"),
    "two differ": ([event("甲"), event("乙", ())], (INVOICE,), "borderline"),
    "two of three": ([event("甲"), event("乙"), event("丙", ())], (INVOICE,), "gold"),
    "three answers": (
        [event("甲"), event("乙", (PROMISE,)), event("丙", ())], (), "borderline"),
    "half overlap": (
        [event("甲", (INVOICE, PROMISE)), event("乙")], (INVOICE, PROMISE), "borderline"),
    "doubtful alone": ([event(new=None)], (), "borderline"),
    "doubtful counts not": ([event("甲", None), event("乙")], (INVOICE,), "gold"),
    "borderline alone": ([event(status="borderline")], (INVOICE,), "borderline"),
    "gold before borderline": (
        [event("甲", (), status="borderline"), event("乙")], (INVOICE,), "gold"),
    "appeal before reviews": (
        [event("甲", at=3), event("乙", at=4), event("丁", (), source="appeal")], (), "gold"),
    "adjudication before appeal": (
        [event("丁", (), source="appeal", at=9), event("戊", (ABUSE,), source="adjudication")],
        (ABUSE,), "gold"),
    "latest adjudication": (
        [event("戊", (ABUSE,), source="adjudication", at=1),
         event("己", (), source="adjudication", at=2)], (), "gold"),
    "adjudicator in doubt": (
        [event("甲"), event("戊", None, source="adjudication")], (), "borderline"),
}  # fmt: skip


@pytest.mark.parametrize(("events", "labels", "status"), CASES.values(), ids=CASES)
def test_truth_whatever_the_order_of_the_file(events, labels, status):
    for order in itertools.permutations(events):
        (line,) = truth(order)
        assert (set(line.labels), line.status) == (set(labels), status)
        assert len(line.labels) == len(labels)


def test_what_a_line_carries():
    events = [
        event("甲", group="c1", origin="enriched:q", reason="没说能开"),
        event("乙", (), at=1, group="c2", origin="natural:r"),
        event("戊", source="adjudication", clauses=(f"{INVOICE}.outright_refuse",), reason="G3"),
    ]
    (line,) = truth(events)
    assert (line.group, line.origin, line.note) == ("c1", "natural:r", "G3")
    assert line.clauses == (f"{INVOICE}.outright_refuse",)
    assert line.id == f"store-{key_of(line.message)}"
    (line,) = truth(events[:2])
    assert line.note == f"甲: {INVOICE}; 乙: none"
    assert not datasets.problems([line])


def test_disputed_until_somebody_decides():
    vote = [event("甲"), event("乙", ())]
    ruled = [*vote, event("戊", source="adjudication")]
    majority = [*vote, event("丙", ())]
    disputed = [
        next(iter(histories(events).values())).disputed
        for events in (vote[:1], vote, majority, ruled, [event(new=None)])
    ]
    assert disputed == [False, True, True, False, True]


EVENTS = st.builds(
    event,
    who=st.sampled_from("甲乙"),
    new=st.sampled_from([None, (), (INVOICE,), (INVOICE, ABUSE)]),
    at=st.integers(0, 3),
    source=st.sampled_from(SOURCES),
    text=st.sampled_from(["没有票的", "好的", "👍", "滚\n=1\u2028"]),
    reason=st.sampled_from(["", "备注"]),
    file=st.sampled_from(["", "a.xlsx#1"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, max_size=6), st.lists(EVENTS, max_size=6), st.lists(EVENTS, max_size=6))
def test_merging_branches_loses_nothing_and_their_order_is_no_matter(base, mine, theirs):
    assert truth(base + mine + theirs) == truth(theirs + base + mine + base)
    assert set(ordered(base + mine)) == set(base + mine)


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, max_size=8), st.lists(EVENTS, max_size=5))
def test_what_was_added_is_no_news(known, events):
    fresh = news(known, events)
    assert not news([*known, *fresh], fresh)
    assert {e.key for e in fresh} <= {e.key for e in events}


@settings(max_examples=40, deadline=None)
@given(events=st.lists(EVENTS, min_size=1, max_size=5))
def test_events_survive_the_file(events, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "s.jsonl"
    path.write_text("".join(dumps(e) + "\n" for e in events), encoding="utf-8")
    assert load(path, LABELS) == ordered(events)


def test_append_keeps_bytes_notes_the_old_and_takes_nothing_twice(tmp_path):
    path = tmp_path / "new" / "s.jsonl"
    assert len(append(path, [event(file="a#1")], label_set=LABELS)) == 1
    path.write_bytes(path.read_bytes().rstrip(b"\n"))  # an editor took the last newline away
    before = path.read_bytes()
    (second,) = append(path, [event(new=(), at=5, file="b#2")], label_set=LABELS)
    assert second.old == (INVOICE,)
    assert path.read_bytes().startswith(before + b"\n")
    # The same answer again later, and an old file once more: nothing new.
    again = [event(new=(), at=50, file="c#3"), event(at=60, file="a#1")]
    for repeated in again:
        assert not append(path, [repeated], label_set=LABELS)
    assert len(append(path, [event(at=70, file="d#4")], label_set=LABELS)) == 1
    assert truth(load(path, LABELS))[0].labels == (INVOICE,)
    assert [p.name for p in path.parent.iterdir()] == ["s.jsonl"]


def _append_one(arguments):
    path, number = arguments
    append(Path(path), [event(f"p{number}", text=f"第{number}句")], label_set=LABELS)


def test_a_crowd_appends_at_once(tmp_path):
    path = tmp_path / "s.jsonl"
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        pool.map(_append_one, [(str(path), number) for number in range(12)], chunksize=1)
    assert {e.who for e in load(path, LABELS)} == {f"p{number}" for number in range(12)}


def test_git_merges_two_branches(tmp_path):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True,
                       env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull})  # fmt: skip

    path = tmp_path / "s.jsonl"
    (tmp_path / ".gitattributes").write_text("s.jsonl merge=union\n")
    git("init", "-q", "-b", "main")
    append(path, [event("甲")], label_set=LABELS)
    git("add", ".")
    git("commit", "-qm", "base")
    git("checkout", "-qb", "other")
    append(path, [event("乙", (), at=1)], label_set=LABELS)
    git("commit", "-qam", "other")
    git("checkout", "-q", "main")
    append(path, [event("丙", (), at=2), event("丙", (), text="好的")], label_set=LABELS)
    git("commit", "-qam", "mine")
    git("merge", "-q", "other")
    events = load(path, LABELS)
    assert len(events) == 4
    assert {line.message.text: line.labels for line in truth(events)} == {
        "没有票的": (),
        "好的": (),
    }


GOOD = dumps(event())
FAULTS = {
    "<<<<<<< HEAD": (DataError, "row 2: not valid JSON"),
    GOOD.replace('"who"', '"whom"'): (DataError, "row 2: an event needs the field 'who'"),
    GOOD.replace("+00:00", ""): (DataError, "row 2: .* no time zone"),
    GOOD.replace('"review"', '"guess"'): (DataError, "row 2: 'source' must be one of"),
    GOOD.replace(INVOICE, "rudeness"): (LabelError, "row 2: unknown label 'rudeness'"),
    GOOD.replace("没有票的", " "): (DataError, "row 2: needs a non-empty string 'text'"),
    GOOD.replace("gold", "sure"): (DataError, "row 2: 'status' must be one of"),
}


@pytest.mark.parametrize(("line", "expected"), FAULTS.items(), ids=range(len(FAULTS)))
def test_a_damaged_store_is_refused_and_left_alone(tmp_path, line, expected):
    error, message = expected
    path = tmp_path / "s.jsonl"
    path.write_text(f"{GOOD}\n{line}\n", encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(error, match=message):
        append(path, [event("乙")], label_set=LABELS)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_a_lock_that_stays_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("cs_classifier.labeling.store._WAIT", 0.05)
    (tmp_path / ".s.jsonl.lock").touch()
    with pytest.raises(DataError, match=r"delete .*\.s\.jsonl\.lock"):
        append(tmp_path / "s.jsonl", [event()], label_set=LABELS)
    with pytest.raises(DataError, match="no such label store"):
        load(tmp_path / "s.jsonl", LABELS)


def test_lines_are_found_by_text_part_or_key():
    events = [event(), event(text="没有票的", context="在吗"), event(text="没有票的哦亲")]
    assert len(find(events, "没有票的！")) == 2
    assert len(find(events, "哦亲")) == 1
    assert [h.key for h in find(events, events[0].key)] == [events[0].key]
    with pytest.raises(DataError, match="no such line"):
        find(events, "滚")


def test_times_are_stored_as_utc():
    assert utc("2026-11-22T00:30+08:00") == "2026-11-21T16:30:00+00:00"
    for wrong in ("2026-11-22T00:30", "昨天"):
        with pytest.raises(ValueError, match=wrong):
            utc(wrong)
