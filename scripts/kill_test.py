"""Kills ``predict --resume`` at random moments until it is done, and compares with a whole run.

    python scripts/kill_test.py --kills 50

Each run is stopped by SIGKILL, SIGTERM or SIGINT at a random moment after it has begun to score,
and continued, until that many have been stopped; the formats take turns. Outputs must be identical:
byte for byte in jsonl and csv, row for row in parquet and xlsx.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cs_classifier import tables

SAMPLE = Path(__file__).parent.parent / "data" / "samples" / "transcripts.csv"
FORMATS = ("jsonl", "csv", "parquet", "xlsx")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def make_input(path: Path, rows: int, rng: random.Random) -> Path:
    """The sample's rows again and again, with numbers in them so that most lines are distinct."""
    sample = [row.values for row in tables.read(SAMPLE)]
    with tables.Writer(path, columns=list(sample[0])) as writer:
        for start in range(0, rows, len(sample)):
            night = f"-{start}"
            writer.write(
                [
                    row
                    | {
                        "conversation_id": f"{row['conversation_id']}{night}",
                        "text": f"{row['text']}{rng.choice(['', '', '~', rng.randrange(10**6)])}",
                    }
                    for row in sample[: rows - start]
                ]
            )
    return path


def content(path: Path) -> object:
    """What has to be identical."""
    if path.suffix in {".parquet", ".xlsx"}:
        return [row.values for row in tables.read(path)]
    return path.read_bytes()


def finished(output: Path) -> int:
    """Bytes of finished or begun rows."""
    parts = list(output.with_name(f"{output.name}.partial").glob("rows.*"))
    return parts[0].stat().st_size if parts else 0


def stop_once(command: list[str], output: Path, moment: float, number: int) -> bool:
    """Start, wait for ``moment`` seconds after rows appear or grow, stop; false if it was done."""
    before = finished(output)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and finished(output) <= before:
        time.sleep(0.005)
    time.sleep(moment)
    process.send_signal(number)
    return process.wait() != 0


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="model folder; default: the shipped one")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--longest", type=float, default=2.0, help="seconds from begin to kill")
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    model = ["-m", str(options.model)] if options.model else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = make_input(folder / "in.jsonl", options.rows, rng)
        predict = [sys.executable, "-m", "cs_classifier", "predict", str(source), *model]
        predict += ["--quiet", "--resume", "--threads", "1", "--chunk", str(options.chunk), "-o"]
        whole = {}
        for kind in options.formats:
            path = folder / f"whole.{kind}"
            subprocess.run([*predict, str(path)], check=True)
            whole[kind] = content(path)
        kills = rounds = 0
        while kills < options.kills:
            kind = options.formats[rounds % len(options.formats)]
            output = folder / f"out.{kind}"
            stopped = 0
            while kills < options.kills:
                moment, number = rng.uniform(0, options.longest), rng.choice(SIGNALS)
                if not stop_once([*predict, str(output)], output, moment, number):
                    break
                stopped, kills = stopped + 1, kills + 1
            if not output.exists():
                subprocess.run([*predict, str(output)], check=True)
            if content(output) != whole[kind]:
                sys.exit(f"{kind}: the output differs after {stopped} stops")
            output.unlink()
            rounds += 1
            print(f"{kind}: stopped {stopped} times, identical ({kills} in all)", flush=True)


if __name__ == "__main__":
    main()
