"""How much memory ``predict`` holds while it reads a long file.

    python scripts/stream_test.py --rows 10000000 --model models/tiny --json rss.json

Writes a transcript of that many rows (conversations of eight, customer and agent in turn; half of
the agents' lines are templates that come again and again, half come once) and scores it, noting the
resident memory after each tenth.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from cs_classifier import artifact, prediction, tables
from cs_classifier.transcripts import ColumnMap

SAMPLE = Path(__file__).parent.parent / "data" / "samples" / "transcripts.csv"
PAGE = 4096
MIB = 1 << 20


def write_transcript(path: Path, rows: int, repeated: float, rng: random.Random) -> None:
    """JSON lines: a share ``repeated`` of the agents' lines are templates."""
    sample = [row.values for row in tables.read(SAMPLE)]
    agents = [row["text"] for row in sample if row["role"] == "客服"]
    customers = [row["text"] for row in sample if row["role"] == "客户"]
    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            role, lines = ("客服", agents) if number % 2 else ("客户", customers)
            text = lines[int(len(lines) * rng.random() ** 2)]  # some more often than others
            if number % 2 and rng.random() >= repeated:
                text += f" {number}"
            row = {
                "conversation_id": f"c{number // 8}",
                "turn": number % 8,
                "role": role,
                "agent_id": f"店:{number // 8 % 500}",
                "text": text,
            }
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def resident() -> float:
    """Resident memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * PAGE / MIB


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeated", type=float, default=0.5)
    parser.add_argument("--model", type=Path, help="model folder; default: the shipped one")
    parser.add_argument("--format", default="jsonl", choices=tables.FORMATS)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    pipeline = artifact.load(options.model, threads=options.threads)
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "in.jsonl"
        write_transcript(source, options.rows, options.repeated, random.Random(0))
        done, start = 0, time.monotonic()

        def progress(rows: int) -> None:
            nonlocal done
            tenth, done = 10 * done // options.rows, done + rows
            if 10 * done // options.rows > tenth:
                cpu, seconds, rss = time.process_time(), time.monotonic() - start, resident()
                found.append({"rows": done, "rss": rss, "seconds": seconds, "cpu": cpu})
                text = f"{done:>12,} rows {rss:7,.0f} MiB {seconds:7,.0f} s {cpu:7,.0f} s CPU"
                print(text, flush=True)

        output = Path(name) / f"out.{options.format}"
        prediction.predict_files(
            pipeline, [source], output, columns=ColumnMap(), on_progress=progress
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
