"""A Ray job gives the rows that the local command gives."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from cs_classifier import artifact, cluster, prediction, tables
from cs_classifier.errors import DataError
from cs_classifier.transcripts import ColumnMap
from tests import hand_made

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ray():
    module = pytest.importorskip("ray")
    module.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield module
    module.shutdown()


def files(folder: Path, *, shared: bool = False) -> Path:
    """Three files, with conversations of their own unless ``shared``."""
    for number, kind in enumerate(["parquet", "jsonl", "parquet"]):
        rows = hand_made.dialogue(np.random.default_rng(number), 80)
        for row in rows:
            row["conversation_id"] += "" if shared else f"-{number}"
        path = folder / f"day={number}" / f"part.{kind}"
        path.parent.mkdir(parents=True)
        with tables.Writer(path, columns=list(rows[0])) as writer:
            writer.write(rows)
    return folder


def score(folder: Path, output: Path, model: Path, **options):
    settings = cluster.Options(model, ColumnMap(), chunk=32)
    return cluster.predict_folder([folder], output, options=settings, workers=2, **options)


def equal(a: object, b: object) -> bool:
    """Probabilities may differ in the last digit, since batches differ."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, abs_tol=2e-4)
    return a == b


def test_the_same_rows_as_the_local_command(ray, artifact_folder, tmp_path):
    folder, output = files(tmp_path / "in"), tmp_path / "out"
    counts = score(folder, output, artifact_folder)
    inputs = [folder / name for name in ("day=0/part.parquet", "day=1/part.jsonl")]
    inputs.append(folder / "day=2/part.parquet")
    pipeline = artifact.load(artifact_folder, threads=1)
    expected = prediction.predict_files(
        pipeline, inputs, tmp_path / "local.parquet", columns=ColumnMap()
    )
    found = [
        row.values
        for number in range(3)
        for row in tables.read(output / f"day={number}" / "part.parquet")
    ]
    local = [row.values for row in tables.read(tmp_path / "local.parquet")]
    assert len(found) == len(local) > 100
    for row, other in zip(found, local, strict=True):
        assert row.keys() == other.keys()
        assert all(equal(row[name], other[name]) for name in row), (row, other)
    assert (counts.rows, counts.scored, counts.flagged, counts.agents) == (
        expected.rows, expected.scored, expected.flagged, expected.agents,
    )  # fmt: skip

    with pytest.raises(DataError, match="--resume"):
        score(folder, output, artifact_folder)
    shutil.rmtree(output / "day=1")
    (output / cluster.NOTES / "day=1" / "part.parquet.json").unlink()
    notices = []
    again = score(folder, output, artifact_folder, resume=True, on_notice=notices.append)
    assert "2 of 3 files were finished before" in notices[0]
    assert (again.rows, again.flagged) == (counts.rows, counts.flagged)
    assert (output / "day=1" / "part.parquet").exists()

    (folder / "day=3").mkdir()
    shutil.copy(inputs[0], folder / "day=3" / "part.parquet")
    with pytest.raises(DataError, match=r"has changed: input .*day=3"):
        score(folder, output, artifact_folder, resume=True)


def test_a_conversation_in_two_files_is_an_error(ray, artifact_folder, tmp_path):
    with pytest.raises(DataError, match=r"a conversation has rows in .*partition by a hash"):
        score(files(tmp_path / "in", shared=True), tmp_path / "out", artifact_folder)
    assert not (tmp_path / "out").exists()


def test_a_bad_file_does_not_stop_the_others(ray, artifact_folder, tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.csv").write_text("text,context\n没有票的,能开票吗\n", encoding="utf-8")
    (folder / "b.csv").write_text("content\n好\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.csv: no column 'text'"):
        score(folder, output, artifact_folder)
    assert len(list(tables.read(output / "a.parquet"))) == 1
    assert not (output / "b.parquet").exists()


@pytest.mark.parametrize(
    ("header", "message"), [("role,text\n客服,好\n", "conversation_id"), ("", "is empty")]
)
def test_files_that_cannot_be_scored_alone(ray, artifact_folder, tmp_path, header, message):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text(header, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        score(tmp_path / "in", tmp_path / "out", artifact_folder)
