"""A run may be cut off at any time; the one that continues it ends as if nothing had happened."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cs_classifier import chunks, prediction, tables
from cs_classifier.errors import DataError
from cs_classifier.transcripts import ColumnMap
from tests import hand_made

CHUNK = 16


@pytest.fixture(scope="module")
def pipeline():
    return hand_made.pipeline()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "in.jsonl", hand_made.dialogue(np.random.default_rng(1), 100))


def write(path: Path, rows: list[dict]) -> Path:
    with tables.Writer(path, columns=list(rows[0])) as writer:
        writer.write(rows)
    return path


def score(pipeline, source: Path, output: Path, **options):
    options = {"columns": ColumnMap(), "chunk": CHUNK, **options}
    return prediction.predict_files(pipeline, [source], output, **options)


def cut_off(pipeline, source: Path, output: Path, *, after: int, **options) -> bool:
    """Run until ``after`` further chunks are finished; false if it came to its end before."""
    left = after + bool(options.get("resume") and chunks.folder_of(output).exists())

    def progress(_: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    try:
        score(pipeline, source, output, on_progress=progress, **options)
    except KeyboardInterrupt:
        return True
    return False


def content(path: Path) -> object:
    """Bytes where they are promised, else rows."""
    if path.suffix in {".parquet", ".xlsx"}:
        return [(row.number, row.values) for row in tables.read(path)]
    return path.read_bytes()


FORMATS = ["jsonl", "csv", "tsv", "parquet", "xlsx"]


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_run_cut_off_twice_ends_as_one_that_was_not(pipeline, tmp_path, kind, target):
    source = write(tmp_path / f"in.{kind}", hand_made.dialogue(np.random.default_rng(0), 100))
    whole, output = tmp_path / f"whole.{target}", tmp_path / f"out.{target}"
    expected = score(pipeline, source, whole)
    assert cut_off(pipeline, source, output, after=2)
    assert not output.exists()
    assert cut_off(pipeline, source, output, after=3, resume=True)
    counts = score(pipeline, source, output, resume=True)
    assert content(output) == content(whole)
    assert replace(counts, seconds=0) == replace(expected, seconds=0)
    assert hand_made.names_in(tmp_path) == sorted([source.name, whole.name, output.name])


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    chunk=st.integers(1, 30),
    cuts=st.lists(st.integers(1, 4), max_size=4),
    torn=st.binary(max_size=40),
)
def test_wherever_it_is_cut_off(pipeline, source, chunk, cuts, torn):
    tmp_path = source.parent
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    score(pipeline, source, whole, chunk=chunk)
    for after in cuts:
        if not cut_off(pipeline, source, output, after=after, resume=True, chunk=chunk):
            break
        for rows in chunks.folder_of(output).glob("rows.*"):
            rows.write_bytes(rows.read_bytes() + torn)  # half a chunk that did not count
    score(pipeline, source, output, resume=True, chunk=chunk)
    assert output.read_bytes() == whole.read_bytes()


def test_the_batches_matter_to_this_encoder(pipeline, source, tmp_path):
    """Otherwise the tests above could not fail."""
    score(pipeline, source, tmp_path / "a.jsonl", chunk=10)
    score(pipeline, source, tmp_path / "b.jsonl", chunk=11)
    assert (tmp_path / "a.jsonl").read_bytes() != (tmp_path / "b.jsonl").read_bytes()


def test_cut_off_before_anything_is_finished_leaves_nothing(pipeline, source, tmp_path):
    with pytest.raises(DataError, match="no column"):
        score(pipeline, source, tmp_path / "out.csv", columns=ColumnMap.parse("text=内容"))
    stopped = hand_made.pipeline()
    stopped.encoder = Stopped()
    with pytest.raises(KeyboardInterrupt):
        score(stopped, source, tmp_path / "out.csv")
    assert hand_made.names_in(tmp_path) == ["in.jsonl"]


class Stopped:
    name = "stopped"

    def logits(self, pairs):
        raise KeyboardInterrupt


def test_left_over_chunks_are_not_touched_unasked(pipeline, source, tmp_path):
    output = tmp_path / "out.csv"
    assert cut_off(pipeline, source, output, after=2)
    with pytest.raises(DataError, match="--resume, or delete the folder"):
        score(pipeline, source, output)
    score(pipeline, source, output, resume=True)
    assert output.exists()


def test_without_left_over_chunks_resume_begins(pipeline, source, tmp_path):
    score(pipeline, source, tmp_path / "a.csv")
    score(pipeline, source, tmp_path / "b.csv", resume=True)
    assert content(tmp_path / "a.csv") == content(tmp_path / "b.csv")


def test_what_has_changed_is_named(pipeline, source, tmp_path):
    output = tmp_path / "out.jsonl"
    assert cut_off(pipeline, source, output, after=2)

    def refused(match: str, model=pipeline, **options) -> None:
        with pytest.raises(DataError, match=rf"(?s)has changed: {match}"):
            score(model, source, output, resume=True, **options)

    refused("chunk: was 16, is 17", chunk=17)
    refused("columns: was .*agent_id", columns=ColumnMap(agent_id="role"))
    refused("output format: was jsonl, is csv", output_format="csv")
    other = hand_made.pipeline()
    other.model_id = "moody-2"
    refused("model: was moody-1 .*, is moody-2", model=other)
    source.write_bytes(source.read_bytes().replace("在的亲".encode(), "好的亲".encode(), 1))
    refused(rf"input {source}: was .* bytes of .*, is .* bytes of")


def test_what_was_cut_off_at_the_very_end(pipeline, source, tmp_path):
    """The last chunk was finished, but the output could not take its place."""
    output = tmp_path / "out.parquet"
    output.mkdir()
    with pytest.raises(DataError, match="not a regular file"):
        score(pipeline, source, output)
    output.rmdir()

    def block(_: int) -> None:
        output.mkdir(exist_ok=True)

    with pytest.raises(DataError, match="cannot write"):
        score(pipeline, source, output, on_progress=block)
    output.rmdir()
    score(pipeline, source, output, resume=True)
    score(pipeline, source, tmp_path / "whole.parquet")
    assert content(output) == content(tmp_path / "whole.parquet")


def test_cut_off_between_the_last_two_steps(pipeline, source, tmp_path):
    """The rows have become the output, but the folder is still there."""
    output, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    expected = score(pipeline, source, whole)
    assert cut_off(pipeline, source, output, after=7)  # all chunks
    folder = chunks.folder_of(output)
    with closing(sqlite3.connect(folder / chunks.LEDGER)) as ledger, ledger:
        ((state,),) = ledger.execute("select value from state")
        state = json.dumps(json.loads(state) | {"complete": True})
        ledger.execute("update state set value = ?", (state,))
    (folder / "rows.jsonl").rename(output)
    counts = score(pipeline, source, output, resume=True)
    assert replace(counts, seconds=0) == replace(expected, seconds=0)
    assert output.read_bytes() == whole.read_bytes()
    assert not folder.exists()


def test_two_runs_do_not_write_the_same_output(pipeline, source, tmp_path):
    def again(_: int) -> None:
        with pytest.raises(DataError, match="another run"):
            score(pipeline, source, tmp_path / "out.csv", resume=True)

    score(pipeline, source, tmp_path / "out.csv", on_progress=again, chunk=60)
    assert (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(("inputs", "output"), [("-", "out.csv"), ("in.csv", "-")])
def test_streams_cannot_be_continued(pipeline, inputs, output):
    with pytest.raises(DataError, match="stdin or to stdout cannot be resumed"):
        score(pipeline, Path(inputs), Path(output), resume=True)


@pytest.mark.parametrize("name", [chunks.LEDGER, "rows.csv"])
def test_damage_says_what_to_do(pipeline, source, tmp_path, name):
    output = tmp_path / "out.csv"
    assert cut_off(pipeline, source, output, after=2)
    (chunks.folder_of(output) / name).write_bytes(b"nonsense")
    with pytest.raises(DataError, match="delete the folder to begin anew"):
        score(pipeline, source, output, resume=True)


@pytest.fixture
def interruptible():
    """A shell lets jobs in the background ignore SIGINT, and so do their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_the_command_says_how_to_go_on(artifact_folder, tmp_path):
    source = write(tmp_path / "in.jsonl", hand_made.dialogue(np.random.default_rng(1), 3000))
    output = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "cs_classifier", "predict", str(source), "-o", str(output),
               "-m", str(artifact_folder), "-q", "--chunk", "1"]  # fmt: skip
    for number, resume in ((signal.SIGINT, []), (signal.SIGTERM, ["--resume"])):
        process = subprocess.Popen([*command, *resume], stderr=subprocess.PIPE, text=True)
        rows = chunks.folder_of(output) / "rows.jsonl"
        size = rows.stat().st_size if resume else 0
        while not rows.exists() or rows.stat().st_size == size:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(number)
        _, printed = process.communicate(timeout=60)
        assert process.returncode == 128 + number
        assert re.search(r"Stopped\. [1-9][\d,]* rows are finished", printed), printed
        assert printed.strip().endswith("-q --chunk 1 --resume")


@pytest.mark.slow
def test_random_kills(artifact_folder):
    script = Path(__file__).parent.parent / "scripts" / "kill_test.py"
    arguments = ["--model", str(artifact_folder), "--kills", "6", "--rows", "600"]
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "(6 in all)" in done.stdout
