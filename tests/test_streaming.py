"""Files of any size: what is held in memory has an end, and repeated lines are scored once."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs_classifier import prediction, tables, transcripts
from cs_classifier.recent import LENGTH, Recent
from cs_classifier.records import Evidence, Message, Prediction, RuleHit
from cs_classifier.reports import summary
from cs_classifier.transcripts import ColumnMap, Conversations
from tests import hand_made


@pytest.fixture(scope="module")
def pipeline():
    return hand_made.pipeline()


class Counted:
    """Predicts a checksum, and counts."""

    def __init__(self) -> None:
        self.asked: list[Message] = []

    def __call__(self, messages):
        self.asked += messages
        return [prediction_of(message) for message in messages]


def prediction_of(message: Message) -> Prediction:
    p = hash(message) % 997 / 997
    return Prediction(
        probabilities=(p, 1 / 3),
        outcomes=("violation", "clear"),
        hits=(RuleHit("a.b", "x", "", 0.5, 0, 1, message.text[:1]),),
        tags=("t",),
        evidence=(Evidence("x", "model", "x.y", 0, 1, message.text[:1]),),
        clauses=("x.y",),
        truncated=p > 0.5,
    )


MESSAGES = st.builds(Message, st.sampled_from("abcdefgh"), st.sampled_from(["", "问\n"]))


@settings(deadline=None)
@given(st.lists(st.lists(MESSAGES, max_size=6), max_size=12), st.integers(0, 6))
def test_recent_answers_as_the_model_does_and_can_be_restored(batches, limit):
    model = Counted()
    recent, saved = Recent(model, limit=limit), {}
    for batch in batches:
        assert recent.predict(batch) == {message: prediction_of(message) for message in batch}
        for key, value in recent.changes().items():
            saved.pop(key, None)
            if value is not None:
                saved[key] = value
        assert len(saved) <= limit
    again, once_more = Counted(), Counted()
    restored = Recent(again, limit=limit)
    restored.restore(saved.items())
    recent._predict = once_more
    for batch in batches:
        assert restored.predict(batch) == recent.predict(batch)
    assert again.asked == once_more.asked


def test_recent_forgets_the_first_in_and_keeps_no_long_ones():
    model = Counted()
    recent = Recent(model, limit=2)
    long = Message("长" * (LENGTH + 1))
    for batch in ([Message("a"), Message("b")], [Message("a")], [Message("c"), long], [long]):
        recent.predict(batch)
    assert model.asked == [Message("a"), Message("b"), Message("c"), long, long]
    recent.predict([Message("a"), Message("c")])
    assert model.asked[5:] == [Message("a")]


def test_repeated_lines_are_scored_once_across_chunks(pipeline, tmp_path):
    rows = hand_made.dialogue(np.random.default_rng(0), 400)
    source = tmp_path / "in.jsonl"
    with tables.Writer(source, columns=list(rows[0])) as writer:
        writer.write(rows)
    asked: list[Message] = []
    real = pipeline.predict

    def predict(messages):
        asked.extend(messages)
        return real(messages)

    pipeline.predict = predict
    try:
        prediction.predict_files(
            pipeline, [source], tmp_path / "out.jsonl", columns=ColumnMap(), chunk=20
        )
    finally:
        del pipeline.predict
    assert len(asked) == len(set(asked)) < 400


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ABCD"), st.sampled_from(["客服", "买家"]),
                          st.sampled_from(["好", "问", "[图片]", ""])), max_size=40),
       st.integers(0, 40))  # fmt: skip
def test_conversations_go_on_where_they_were_saved(rows, cut):
    rows = [
        tables.Row(n, {"conversation_id": c, "role": r, "text": t, "turn": n % 7, "agent_id": "x"})
        for n, (c, r, t) in enumerate(rows)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transcripts, "MAX_CONVERSATIONS", 2)
        whole, first, second = (Conversations(tracked=True) for _ in range(3))
        expected = [whole.turn(row) for row in rows]
        saved = {}
        found = []
        for row in rows[:cut]:
            found.append(first.turn(row))
            for name, state in first.changes().items():
                saved.pop(name, None)
                if state is not None:
                    saved[name] = state
        second.restore(saved.items())
        found += [second.turn(row) for row in rows[cut:]]
    assert found == expected


def test_an_untracked_reader_notes_nothing():
    conversations = Conversations()
    conversations.turn(tables.Row(1, {"conversation_id": "A", "role": "客服", "text": "好"}))
    assert conversations.changes() == {}


def test_a_long_question_is_kept_in_part():
    conversations = Conversations()
    rows = [("买家", "问" * 90_000), ("客服", "答")]
    turns = [
        conversations.turn(tables.Row(n, {"conversation_id": "A", "role": r, "text": t}))
        for n, (r, t) in enumerate(rows)
    ]
    assert len(turns[1].message.context) == transcripts.CONTEXT_CHARACTERS


@pytest.mark.parametrize("target", ["csv", "parquet", "jsonl"])
def test_a_key_that_comes_late_has_its_column(pipeline, tmp_path, target):
    source = tmp_path / "in.jsonl"
    rows = [{"text": "好的"}] * 50 + [{"text": "在的", "late": "here"}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    output = tmp_path / f"out.{target}"
    prediction.predict_files(pipeline, [source], output, columns=ColumnMap(), chunk=8)
    assert [row.values for row in tables.read(output)][-1]["late"] == "here"


def test_files_with_different_columns_go_into_one_table(pipeline, tmp_path):
    (tmp_path / "a.csv").write_text("text,a\n好的,1\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("text,b\n好的,2\n", encoding="utf-8")
    inputs, output = [tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "out.csv"
    prediction.predict_files(pipeline, inputs, output, columns=ColumnMap())
    assert [(r.values["a"], r.values["b"]) for r in tables.read(output)] == [("1", ""), ("", "2")]


def test_one_large_row_group_is_read_in_parts(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "in.parquet"
    texts = [f"{number:0200}" for number in range(200_000)]
    parquet.write_table(
        pa.table({"text": texts}), path, row_group_size=200_000, compression="none",
        use_dictionary=False,
    )  # fmt: skip
    pool = pa.default_memory_pool()
    size, before = path.stat().st_size, pool.bytes_allocated()
    highest = max(pool.bytes_allocated() for row in tables.read(path) if row.number % 500 == 0)
    assert highest - before < size / 4


def test_counts_have_an_end(monkeypatch):
    monkeypatch.setattr(summary, "MAX_AGENTS", 3)
    monkeypatch.setattr(summary, "MAX_REASONS", 2)
    labels = hand_made.load_labels()
    builder = summary.SummaryBuilder(labels, file="a", model="m", engine="e")
    clear = Prediction((0.0,) * len(labels), ("violation",) * len(labels))
    for number in range(9):
        builder.add({"text": "好", "agent_id": f"a{number}"}, clear)
        builder.add({"text": "好"}, None, f"odd {number}", error=True)
    built = builder.build(seconds=1)
    assert (built.rows, built.scored, built.errors, len(built.agents)) == (18, 9, 9, 3)
    assert built.error_reasons == {"": 7, "odd 0": 1, "odd 1": 1}


def test_summaries_add_up():
    labels = hand_made.load_labels()
    flagged = Prediction((1.0,) * len(labels), ("violation",) * len(labels), tags=("t",))

    def count(numbers):
        builder = summary.SummaryBuilder(labels, file="a", model="m", engine="e")
        for number in numbers:
            values = {"text": f"好{number}", "agent_id": f"a{number % 3}"}
            builder.add(values, flagged if number % 2 else None, "why", error=number % 4 == 0)
        return builder

    whole, first = count(range(20)), count(range(11))
    parts = summary.SummaryBuilder(labels, file="a", model="m", engine="e")
    for part in (first, count(range(11, 20))):
        parts.absorb(json.loads(json.dumps(part.state())))
    found, expected = parts.build(seconds=1), whole.build(seconds=1)
    assert [(label.violations, label.rules) for label in found.labels] == [
        (label.violations, label.rules) for label in expected.labels
    ]
    assert found.labels[0].examples[0].text == expected.labels[0].examples[0].text
    assert (found.rows, found.scored, found.agents, found.tags, found.skipped, found.errors) == (
        expected.rows, expected.scored, expected.agents, expected.tags, expected.skipped,
        expected.errors,
    )  # fmt: skip


def test_memory_does_not_grow_with_the_file(pipeline, tmp_path):
    import tracemalloc

    def peak(rows: int) -> int:
        source, done = tmp_path / f"{rows}.jsonl", []
        with source.open("w", encoding="utf-8") as stream:
            for number in range(rows):
                text = hand_made.ANSWERS[number % len(hand_made.ANSWERS)]
                row = {"conversation_id": number, "role": "客服", "agent_id": "a", "text": text}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        tracemalloc.start()
        prediction.predict_files(
            pipeline,
            [source],
            tmp_path / "out.csv",
            columns=ColumnMap(),
            chunk=100,
            # Before the first chunk, parts of the file are read to find its encoding.
            on_progress=lambda _: done.append(_) or len(done) > 1 or tracemalloc.reset_peak(),
        )
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transcripts, "MAX_CONVERSATIONS", 50)
        peak(300)  # fills the caches
        # How far reading runs ahead varies by a few chunks; 60 bytes a row would be noticed.
        assert peak(6000) < 1.45 * peak(600)


def test_chunk_of_one_row(pipeline, tmp_path):
    source = Path(tmp_path / "in.csv")
    source.write_text("text\n好的\n在的\n", encoding="utf-8")
    prediction.predict_files(pipeline, [source], tmp_path / "o.csv", columns=ColumnMap(), chunk=1)
    assert len(list(tables.read(tmp_path / "o.csv"))) == 2
