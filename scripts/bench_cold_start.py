"""Time the command from a cold start: --help, and scoring one row and 1,000 from file to file.

    python scripts/bench_cold_start.py [--rows 1 1000] [--runs 5] [--engine onnx openvino]

The rows are the project's own natural lines, among which violations are rare as in traffic; a line
decided as a violation costs more, since its evidence is searched. Prints minimum and median time.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def sample_rows(count: int) -> list[dict[str, str]]:
    """Distinct (context, text) pairs of the natural batches, in file order."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for path in sorted((ROOT / "data").glob("*/natural_*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            pair = {"context": row["context"], "text": row["text"]}
            rows.setdefault((pair["context"], pair["text"]), pair)
    return list(rows.values())[:count]


def seconds(command: list[str]) -> float:
    """Wall-clock time of one run; an error of the command is an error here."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Run both measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 1000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--engine", nargs="+", default=["auto"])
    options = parser.parse_args()
    timed = {"--help": ["--help"]}
    with tempfile.TemporaryDirectory() as folder:
        for count in options.rows:
            rows = sample_rows(count)
            source, target = Path(folder) / f"{count}.jsonl", Path(folder) / "scored.jsonl"
            source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
            for engine in options.engine:
                arguments = ["predict", str(source), "-o", str(target), "-q", "--engine", engine]
                timed[f"predict, rows: {len(rows)}, engine: {engine}"] = arguments
        for name, arguments in timed.items():
            command = [sys.executable, "-m", "cs_classifier", *arguments]
            times = [seconds(command) for _ in range(options.runs)]
            print(f"{name}: min {min(times):.2f} s, median {statistics.median(times):.2f} s")


if __name__ == "__main__":
    main()
