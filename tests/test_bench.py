import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cs_classifier import artifact, benchmark
from cs_classifier.classifiers.ngrams import NgramModel
from cs_classifier.classifiers.screen import NEVER, LabelLimit, Screen, ScreenLimits
from cs_classifier.cli.bench import bench
from cs_classifier.pipeline import Pipeline
from cs_classifier.records import Message
from tests.conftest import LINES, write_jsonl

MESSAGES = [Message(text * copies, context) for context, text, _ in LINES for copies in (1, 4)]
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def pipeline(artifact_folder: Path) -> Pipeline:
    return artifact.load(artifact_folder, threads=1, engine="onnx")


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    rows = [{"context": m.context, "text": m.text} for m in MESSAGES]
    return write_jsonl(tmp_path / "lines.jsonl", rows)


def test_every_message_is_in_one_length_class() -> None:
    lengths = [1, 10, 11, 30, 31, 500]
    classes = benchmark.length_classes([Message("好" * n) for n in lengths])
    assert {name: [len(m.text) for m in found] for name, found in classes.items()} == {
        "all": lengths,
        "short": [1, 10],
        "medium": [11, 30],
        "long": [31, 500],
    }


def test_speeds_cover_every_setting_and_class(pipeline: Pipeline) -> None:
    settings = {
        ("onnx", budget): benchmark.fresh(pipeline, pipeline.encoder.with_budget(budget))
        for budget in (64, 512)
    }
    found = benchmark.speeds(settings, MESSAGES, repeat=2)
    assert {(s.batch_tokens, s.lines) for s in found} == {
        (budget, name) for budget in (64, 512) for name in benchmark.length_classes(MESSAGES)
    }
    assert all(s.turns_per_second > 0 for s in found)


def test_a_fresh_pipeline_forgets_texts_and_predicts_alike(pipeline: Pipeline) -> None:
    expected = pipeline.predict(MESSAGES)
    new = benchmark.fresh(pipeline)
    assert new.normalize.cache_info().currsize == 0
    assert new.predict(MESSAGES) == expected
    assert pipeline.normalize.cache_info().currsize > 0


def test_the_median_is_not_above_the_95th_percentile(pipeline: Pipeline) -> None:
    p50, p95 = benchmark.latencies(pipeline, MESSAGES[:10])
    assert 0 < p50 <= p95


def test_stages_add_up_and_none_is_missed(pipeline: Pipeline, lines: Path) -> None:
    watched = benchmark.fresh(pipeline)
    n = len(pipeline.label_set)
    watched.ngrams = NgramModel(["的"], np.ones(1), np.ones((1, n)), np.zeros(n))
    never = LabelLimit(limit=NEVER, slope=1, offset=0)
    watched.screen = Screen(pipeline.encoder, ScreenLimits(labels=(never,) * n, missed=0))
    spent = benchmark.stage_seconds(watched, lines, lines.with_name("scored.jsonl"))
    assert tuple(spent) == benchmark.STAGES
    assert all(seconds > 0 for seconds in spent.values())
    assert len(lines.with_name("scored.jsonl").read_text().splitlines()) == len(MESSAGES)


def test_operations_are_those_of_the_matrix_products() -> None:
    config = {"hidden_size": 4, "intermediate_size": 16, "num_hidden_layers": 1}
    n = 3
    products = [(n, 4, 4)] * 4 + [(n, 4, 16), (n, 16, 4)] + [(n, 4, n), (n, n, 4)]
    assert benchmark.operations(config, [n]) == sum(2 * a * b * c for a, b, c in products)
    assert benchmark.operations(config, [n, n]) == 2 * benchmark.operations(config, [n])
    assert benchmark.operations({"d_model": 4}, [n]) is None


def run_bench(*arguments: str):
    app = typer.Typer()
    app.command()(bench)
    return CliRunner().invoke(app, list(arguments))


def test_the_command_prints_a_report(artifact_folder: Path, lines: Path) -> None:
    common = ("--model", str(artifact_folder), "--data", str(lines), "--threads", "1")
    done = run_bench(*common, "--repeat", "1", "--batch-tokens", "64,512", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    (engine,) = report["engines"]
    assert sum(engine["stages"].values()) == pytest.approx(1)
    assert 0 < engine["gflops"] < report["peak_gflops"]["fp32"]
    assert {row["batch_tokens"] for row in report["speeds"]} == {64, 512}


def test_an_unknown_engine_is_wrong_usage(artifact_folder: Path, lines: Path) -> None:
    done = run_bench("--model", str(artifact_folder), "--data", str(lines), "--engines", "fast")
    assert done.exit_code == 2
    assert "fast" in done.output


@pytest.fixture(scope="module")
def peers():
    spec = importlib.util.spec_from_file_location("bench_peers", ROOT / "scripts/bench_peers.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_plain_loop_of_the_peers_gives_our_logits(peers, artifact_folder, pipeline) -> None:
    pairs = benchmark.pairs(pipeline, MESSAGES)
    plain = peers.PlainOnnx(artifact_folder, threads=1)
    np.testing.assert_allclose(plain(pairs), pipeline.encoder.logits(pairs), atol=1e-4)


@pytest.mark.slow
def test_transformers_reads_the_artifact_and_agrees(peers, artifact_folder, pipeline) -> None:
    pytest.importorskip("transformers")
    pairs = benchmark.pairs(pipeline, MESSAGES)
    found = peers.Transformers(artifact_folder, threads=1)(pairs)
    ours = 1 / (1 + np.exp(-pipeline.encoder.logits(pairs)))
    np.testing.assert_allclose(found, ours, atol=1e-4)
