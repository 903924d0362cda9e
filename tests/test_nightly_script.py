"""``scripts/nightly.sh`` as a scheduler runs it: every ending, and what stays on the disk."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from cs_classifier import scored

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "nightly.sh"
SAMPLE = ROOT / "data" / "samples" / "transcripts.csv"
DATE = "2026-11-10"

# Stands for the program where only the script is looked at: it notes how it was called, writes what
# -o names, and fails at the steps that the test wants.
RECORDER = """
import os, sys
from pathlib import Path
step = sys.argv[1]
with open(os.environ["CALLS"], "a") as calls:
    print(" ".join(sys.argv[1:]), file=calls)
if step in os.environ.get("FAILING", "").split():
    sys.exit(1)
Path(sys.argv[sys.argv.index("-o") + 1]).write_text(step)
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(SAMPLE, tmp_path / "in" / f"{DATE}.csv")
    (tmp_path / "recorder.py").write_text(RECORDER)
    return tmp_path


def night(place, *arguments, expect=0, **variables):
    """Run the script; return the calls of this run, as lists of words."""
    calls = place / "calls"
    calls.write_text("")
    environment = {
        "PATH": os.environ["PATH"], "CALLS": str(calls), "CS_WAIT": "0", "CS_SETTLE": "0",
        "CS_INPUT_DIR": str(place / "in"), "CS_OUTPUT_DIR": str(place / "out"),
        "CS_COMMAND": f"{sys.executable} {place / 'recorder.py'}", **variables,
    }  # fmt: skip
    result = subprocess.run(
        ["bash", str(SCRIPT), *(arguments or [DATE])],
        env=environment, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120,
    )  # fmt: skip
    assert result.returncode == expect, result.stderr
    return [call.split() for call in calls.read_text().splitlines()]


def steps(calls):
    return [call[0] for call in calls]


@pytest.mark.slow
def test_a_night_end_to_end_on_the_sample(place):
    program = f"{sys.executable} -m cs_classifier"
    assert night(place, CS_COMMAND=program, CS_BUDGET="40", OMP_NUM_THREADS="1") == []
    folder = place / "out" / DATE
    lines = scored.read([folder / "scored.parquet"]).lines
    report = json.loads((folder / "report.json").read_text())
    assert report["rows"] == len(lines)
    assert report["date"] == DATE
    for name in ("report.html", "review.xlsx", "scorecard.html"):
        assert (folder / name).stat().st_size > 5_000
    assert len((place / "out" / "history.jsonl").read_text().splitlines()) == 1
    log = (folder / "nightly.log").read_text()
    assert not [line.text for line in lines if len(line.text) > 8 and line.text in log]


def test_the_steps_and_what_they_are_given(place):
    calls = night(place, CS_BUDGET="50", CS_COLUMNS="qianniu", CS_MODEL="models/mine")
    assert steps(calls) == ["predict", "sample", "report", "scorecard"]
    for call in calls:
        assert "--columns qianniu" in " ".join(call)
    predict, sample, report, _ = map(" ".join, calls)
    assert f"{DATE}.csv -o " in predict
    assert "--model models/mine" in predict
    assert "-n 50" in sample
    assert "--seed 20261110" in sample
    assert f"--date {DATE}" in report
    assert "--model models/mine" in report


def test_finished_steps_are_not_repeated(place):
    night(place)
    assert night(place) == []
    assert len(night(place, "--force", DATE)) == 4
    folder = place / "out" / DATE
    (folder / "scorecard.html").unlink()
    assert steps(night(place)) == ["scorecard"]
    (folder / "estimate.json").write_text("{}")
    (report,) = night(place)
    assert "--estimate" in report
    later = (folder / "scorecard.html").stat().st_mtime + 10
    os.utime(place / "in" / f"{DATE}.csv", (later, later))
    assert "sample" not in steps(night(place))


def test_a_workbook_that_may_hold_reviews_is_kept(place):
    night(place)
    book = place / "out" / DATE / "review.xlsx"
    book.write_text("reviewed")
    night(place, "--force", DATE)
    assert book.read_text() == "sample"
    (kept,) = book.parent.glob("review-*.xlsx")
    assert kept.read_text() == "reviewed"


ENDINGS = [
    ("", 0, ["predict", "sample", "report", "scorecard"]),
    ("sample report", 3, ["predict", "sample", "report", "scorecard"]),
    ("predict", 1, ["predict"]),
]


@pytest.mark.parametrize(("failing", "status", "called"), ENDINGS)
def test_the_exit_status_tells_how_it_ended(place, failing, status, called):
    assert steps(night(place, expect=status, FAILING=failing)) == called
    assert (place / "out" / DATE / "nightly.log").exists()
    assert steps(night(place)) == (failing.split() if status != 1 else ENDINGS[0][2])


USAGE = [
    (["2026-13-01"], {}),
    (["yesterday"], {}),
    (["--fast"], {}),
    ([DATE], {"CS_STEPS": "predict rm"}),
    ([DATE], {"CS_BUDGET": "many"}),
    ([DATE], {"CS_INPUT_DIR": "/nowhere"}),
    ([DATE], {"CS_OUTPUT_DIR": ""}),
]


@pytest.mark.parametrize(("arguments", "variables"), USAGE)
def test_wrong_usage_does_nothing(place, arguments, variables):
    assert night(place, *arguments, expect=2, **variables) == []
    assert not (place / "out").exists()


def test_without_an_export_nothing_is_scored(place):
    assert night(place, "2026-11-09", expect=1) == []
    assert night(place, expect=1, CS_STEPS="report") == []


def test_an_export_that_still_grows_is_waited_for(place):
    export = place / "in" / f"{DATE}.csv"
    writer = subprocess.Popen(
        ["bash", "-c", f"for i in 1 2 3; do echo x >>'{export}'; sleep 0.5; done"]
    )
    night(place, CS_WAIT="20", CS_SETTLE="1")
    assert writer.poll() == 0
    assert (place / "out" / DATE / "scored.parquet").stat().st_mtime > export.stat().st_mtime


def test_a_done_file_ends_the_waiting_at_once(place):
    (place / "in" / f"{DATE}.done").touch()
    assert night(place, CS_WAIT="100", CS_SETTLE="100")


def test_two_runs_at_once_are_refused(place):
    (place / "out").mkdir()
    with (place / "out" / ".nightly.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert night(place, expect=1) == []
    assert len(night(place)) == 4


def test_retention_deletes_its_own_old_files_only(place):
    out = place / "out"
    names = {days: (date.today() - timedelta(days=days)).isoformat() for days in (10, 40)}
    for folder in (*names.values(), "2026-1", "notes"):
        (out / folder).mkdir(parents=True)
        for name in ("scored.parquet", "review.xlsx", "report.html", "nightly.log"):
            (out / folder / name).touch()
    mixed = out / (date.today() - timedelta(days=50)).isoformat()
    mixed.mkdir()
    for name in ("scored.parquet", "reviewed by Li.xlsx"):
        (mixed / name).touch()
    night(place, CS_RETAIN_DAYS="30")
    assert not (out / names[40]).exists()
    assert [path.name for path in mixed.iterdir()] == ["reviewed by Li.xlsx"]
    for kept in (names[10], "2026-1", "notes"):
        assert len(list((out / kept).iterdir())) == 4


def test_shellcheck_finds_nothing():
    if not (tool := shutil.which("shellcheck")):
        pytest.skip("shellcheck is not installed")
    assert subprocess.run([tool, str(SCRIPT)], check=False).returncode == 0


def test_the_page_on_operations_names_every_variable_and_file():
    text = (ROOT / "docs" / "nightly.md").read_text()
    script = SCRIPT.read_text()
    variables = set(re.findall(r"^(CS_[A-Z_]+)=", script, re.MULTILINE))
    files = set(re.findall(r"\$night/([\w.]+)", script)) | {"history.jsonl"}
    missing = [name for name in variables | files if name not in text]
    assert not missing
