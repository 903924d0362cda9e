"""The command line against the library, and what bad input gets."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cs_classifier import __version__, artifact, prediction, tables
from cs_classifier.cli import app
from cs_classifier.errors import CsClassifierError
from cs_classifier.records import Message
from cs_classifier.transcripts import ColumnMap

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "data" / "samples" / "transcripts.csv"
ROWS = [
    {"id": "1", "context": "能开票吗", "text": "没有票的"},
    {"id": "2", "context": "", "text": "加薇❤️abc12345"},
    {"id": "3", "context": "在吗", "text": "在的亲\n您说"},
    {"id": "4", "context": "是正品吗", "text": "=1+1,高仿的"},
]


def run(*arguments: str | Path, expect: int = 0) -> str:
    """Run a command in this process and return what it printed."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, CsClassifierError):
        raise result.exception
    assert result.exit_code == expect, result.output
    return result.output


def process(
    *arguments: str | Path, cwd: Path | None = None, **options
) -> subprocess.CompletedProcess:
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "cs_classifier", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, check=False, **options,
    )  # fmt: skip


COMMANDS = [
    ["predict"], ["explain"], ["train"], ["evaluate"], ["calibrate"], ["rules", "test"],
    ["rules", "coverage"], ["sample"], ["estimate"], ["report"], ["scorecard"], ["service"],
    ["data", "check"], ["data", "describe"], ["data", "evade"],
    ["gate"], ["promote"], ["rollback"], ["label-errors"], ["rules", "ledger"], ["label", "import"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_is_documented(command: list[str]) -> None:
    assert len(run(*command, "--help")) > 200
    assert f"cs-classifier {' '.join(command)}" in (ROOT / "README.md").read_text()


def test_version() -> None:
    assert run("--version").strip() == __version__


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    code = (
        "import sys, cs_classifier.cli; "
        "print([m for m in ('torch', 'transformers', 'sklearn', 'onnxruntime', 'pyarrow', "
        "'matplotlib', 'datasets') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with tables.Writer(path, columns=list(rows[0])) as writer:
        writer.write(rows)
    return path


def decisions(path: Path) -> list[tuple]:
    def items(value: object) -> list[str]:
        return value.split("|") if isinstance(value, str) and value else list(value or [])

    return [
        (
            row.values["text"],
            items(row.values["labels"]),
            items(row.values["review"]),
            items(row.values["rules"]),
        )
        for row in tables.read(path)
    ]


@pytest.mark.parametrize("target", ["csv", "tsv", "xlsx", "jsonl", "parquet"])
@pytest.mark.parametrize("source", ["csv", "tsv", "xlsx", "jsonl", "parquet"])
def test_the_same_labels_from_and_to_every_format(
    artifact_folder: Path, tmp_path: Path, source: str, target: str
) -> None:
    out = tmp_path / f"out.{target}"
    run("predict", write(tmp_path / f"in.{source}", ROWS), "-o", out, "-m", artifact_folder, "-q")
    pipeline = artifact.load(artifact_folder)
    expected = [
        (
            row["text"],
            [
                n
                for n, o in zip(pipeline.label_set.ids, p.outcomes, strict=True)
                if o == "violation"
            ],
            [n for n, o in zip(pipeline.label_set.ids, p.outcomes, strict=True) if o == "review"],
            list(dict.fromkeys(hit.rule for hit in p.hits)),
        )
        for row in ROWS
        for p in pipeline.predict([Message(row["text"], row["context"])])
    ]
    assert decisions(out) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_encodings(artifact_folder: Path, tmp_path: Path, encoding: str) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.jsonl"
    with source.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    run("predict", source, "-o", out, "-m", artifact_folder, "-q")
    assert [row[0] for row in decisions(out)] == [row["text"] for row in ROWS]


def test_rows_that_cannot_be_scored_are_kept(artifact_folder: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = ['{"text": "好的"}', '{"text": ""}', "{broken", '{"text": null}', '{"text": NaN}',
             '{"text": ["a"]}', '{"text": "[图片]"}', '{"text": "在的亲"}']  # fmt: skip
    source.write_text("\n".join(lines), encoding="utf-8")
    output = run("predict", source, "-o", out, "-m", artifact_folder, "-l", "en")
    rows = [row.values for row in tables.read(out)]
    assert len(rows) == len(lines)
    assert [bool(row["error"]) for row in rows] == [
        False,
        True,
        True,
        True,
        True,
        True,
        True,
        False,
    ]
    assert "5 rows with errors" in output


def test_a_line_of_100000_characters(artifact_folder: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"text": "在的亲" * 33_334}), encoding="utf-8")
    run("predict", source, "-o", out, "-m", artifact_folder, "-q")
    assert "beginning" in next(tables.read(out)).values["error"]


def test_clashing_columns_are_renamed(artifact_folder: Path, tmp_path: Path) -> None:
    rows = [row | {"labels": "mine", "model": "old"} for row in ROWS]
    out = tmp_path / "out.jsonl"
    run("predict", write(tmp_path / "in.csv", rows), "-o", out, "-m", artifact_folder)
    first = next(tables.read(out)).values
    assert (first["input_labels"], first["input_model"]) == ("mine", "old")


def test_roles_give_the_context(artifact_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run("predict", SAMPLE, "-o", out, "-m", artifact_folder, "-q")
    agents = [r.values for r in tables.read(SAMPLE) if r.values["role"] in {"客服", "机器人"}]
    scored = [r.values for r in tables.read(out)]
    assert [(r["conversation_id"], r["turn"]) for r in scored] == [
        (r["conversation_id"], r["turn"]) for r in agents
    ]


def test_the_sample_workbook_equals_the_sample_csv() -> None:
    books = [list(tables.read(SAMPLE.with_suffix(suffix))) for suffix in (".csv", ".xlsx")]
    texts = [[str(row.values["text"] or "") for row in book] for book in books]
    assert texts[0] == texts[1]
    assert len(texts[0]) > 290


def test_stdin_and_stdout(artifact_folder: Path) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    done = process("predict", "-", "-o", "-", "-m", artifact_folder, "-q", input=lines)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["1", "2", "3", "4"]


def test_explain_shows_why(artifact_folder: Path) -> None:
    output = run("explain", "加薇❤️abc12345", "-c", "怎么联系", "-m", artifact_folder)
    assert "加微信abc12345" in output
    assert "offplatform." in output
    document = json.loads(run("explain", "好的", "--json", "-m", artifact_folder))
    assert set(document["outcomes"]) == set(artifact.load(artifact_folder).label_set.ids)


def test_rules_test_and_coverage(corpus: Path, tmp_path: Path) -> None:
    assert "0 failed" in run("rules", "test")
    assert "coverage" in run("rules", "coverage", corpus / "test.jsonl")
    text = (ROOT / "configs" / "rules.yaml").read_text(encoding="utf-8")
    broken = re.sub(
        r"triggers: \[.*?\]|triggers:\n( +- .*\n)+", "triggers: ['永不出现的字']\n", text, count=1
    )
    (tmp_path / "rules.yaml").write_text(broken, encoding="utf-8")
    assert "should hit" in run("rules", "test", "--rules", tmp_path / "rules.yaml", expect=1)


def test_evaluate_writes_a_report(artifact_folder: Path, corpus: Path, tmp_path: Path) -> None:
    output = run(
        "evaluate", artifact_folder, corpus / "test.jsonl", "--train", corpus / "train.jsonl",
        "-o", tmp_path / "report",
    )  # fmt: skip
    assert "TF-IDF" in output
    assert json.loads((tmp_path / "report" / "report.json").read_text())["lines"] == 32
    assert "<svg" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.parametrize("name", ["mine", "mine[/x][old]"])
def test_calibrate(artifact_folder: Path, corpus: Path, tmp_path: Path, name: str) -> None:
    output = run("calibrate", artifact_folder, corpus / "calibration.jsonl", "-o", tmp_path / name)
    assert "floor" in output
    assert name in output.replace("\n", "")
    artifact.load(tmp_path / name)


def test_calibrate_changes_single_targets_of_the_model(
    artifact_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    data, target = corpus / "calibration.jsonl", tmp_path / "mine"
    run("calibrate", artifact_folder, data, "-o", target, "--set", "prevalence=0.2")
    old, new = (artifact.load(f).decision.config for f in (artifact_folder, target))
    assert new == old.model_copy(update={"prevalence": 0.2})


def test_train_from_the_command_line(tiny_base: Path, corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(
        f"name: small\ndata: {{train: [{corpus / 'train.jsonl'}], "
        f"calibration: [{corpus / 'calibration.jsonl'}]}}\nmodel: {{base: {tiny_base}}}\n"
    )
    run(
        "train", "-c", config, "-o", tmp_path / "model", "--work", tmp_path / "work",
        "--set", "train.epochs=1", "--set", "train.precision=fp32",
    )  # fmt: skip
    assert artifact.read_manifest(tmp_path / "model").id.startswith("small-")


def bad_inputs() -> list:
    def text(content: bytes | str, name: str = "in.csv"):
        raw = content if isinstance(content, bytes) else content.encode()
        return lambda folder: (folder / name).write_bytes(raw) and folder / name

    return [
        pytest.param(text("id,content\n1,好\n"), r"text.*--columns", id="missing column"),
        pytest.param(lambda f: (f / "in.csv").touch() or f / "in.csv", "empty", id="empty file"),
        pytest.param(text(bytes(range(256)) * 20), "binary", id="binary file"),
        pytest.param(text(b"\x89PNG\r\n\x1a\n\0\0", "in.xlsx"), r"in\.xlsx", id="not a workbook"),
        pytest.param(text(b"text\n\xff\xfe\xff\xff\n"), r"in\.csv", id="wrong encoding"),
        pytest.param(text("a,a\n1,2\n"), "a", id="repeated column"),
        pytest.param(lambda f: f / "none.csv", r"none\.csv", id="no such file"),
        pytest.param(lambda f: f, "folder|directory", id="a folder"),
        pytest.param(text("text\n好\n", "in.docx"), "format", id="unknown format"),
    ]


@pytest.mark.parametrize(("make", "message"), bad_inputs())
def test_bad_input_gets_a_clear_message(
    artifact_folder: Path, tmp_path: Path, make, message: str
) -> None:
    source, out = make(tmp_path), tmp_path / "out.csv"
    with pytest.raises(CsClassifierError, match=f"(?is){message}"):
        run("predict", source, "-o", out, "-m", artifact_folder, "-q")
    assert not out.exists()
    assert not list(tmp_path.glob("*.part"))


def test_output_that_cannot_be_written(artifact_folder: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", ROWS)
    (tmp_path / "file").touch()
    with pytest.raises(CsClassifierError, match="file"):
        run("predict", source, "-o", tmp_path / "file" / "out.csv", "-m", artifact_folder, "-q")
    with pytest.raises(CsClassifierError, match="also an input"):
        run("predict", source, "-o", source, "-m", artifact_folder, "-q")


def test_failure_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    done = process("predict", tmp_path / "none.csv", "-o", tmp_path / "out.csv", "-m", tmp_path)
    assert done.returncode == 1
    assert "Error:" in done.stderr
    assert "Traceback" not in done.stderr
    assert (
        "Traceback" in process("--debug", "predict", "x.csv", "-o", "y.csv", "-m", tmp_path).stderr
    )
    assert process("predict").returncode == 2


@pytest.mark.parametrize("name", ["[/x].jsonl", "a[old].jsonl"])
def test_names_in_brackets_are_printed_as_they_are(tmp_path: Path, name: str) -> None:
    done = process("data", "describe", tmp_path / name)
    assert done.returncode == 1
    assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_the_default_model_is_found_from_any_folder(tmp_path: Path) -> None:
    done = process("explain", "亲,只有收据哈", "-c", "要发票", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert artifact.read_manifest(artifact.default_path()).id in done.stdout


def test_a_damaged_model_is_reported(artifact_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifact_folder, tmp_path / "model"))
    with (folder / "model.onnx").open("r+b") as stream:
        stream.write(b"broken")
    done = process("explain", "好", "-m", folder)
    assert done.returncode == 1
    assert "model.onnx" in done.stderr


def test_cli_equals_library(artifact_folder: Path, tmp_path: Path) -> None:
    source, pipeline = write(tmp_path / "in.csv", ROWS), artifact.load(artifact_folder)
    run("predict", source, "-o", tmp_path / "cli.jsonl", "-m", artifact_folder, "-q")
    prediction.predict_files(pipeline, [source], tmp_path / "library.jsonl", columns=ColumnMap())
    assert (tmp_path / "cli.jsonl").read_bytes() == (tmp_path / "library.jsonl").read_bytes()
