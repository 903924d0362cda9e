#!/usr/bin/env bash
# The labelling loop on the sample transcripts: sample, workbook, import, recalibrate, train, gate.
# docs/labelling_loop.md explains the steps. In place of people, data/samples/expected.jsonl answers.
#
#   scripts/labelling_round_trip.sh [FOLDER]     everything is written to FOLDER (default: out/loop)
#
# Training takes minutes with the shipped recipe; CS_CONFIG and CS_CORPUS name a smaller one.
set -euo pipefail
cd "$(dirname "$0")/.."

FOLDER=${1:-out/loop}
CS_COMMAND=${CS_COMMAND:-cs-classifier} # how the program is called
CS_PYTHON=${CS_PYTHON:-python3}         # has openpyxl
CS_MODEL=${CS_MODEL:-models/default}
CS_CONFIG=${CS_CONFIG:-configs/warm_start.yaml} # recipe
CS_CORPUS=${CS_CORPUS:-data}                    # has the folders train, calibration and test
STORE=$FOLDER/labels.jsonl

cs() {
  echo "+ cs-classifier $*" >&2
  $CS_COMMAND "$@"
}

# Fill a review workbook in, as annotator $2 would; with "hasty", every third violation is missed.
fill() {
  "$CS_PYTHON" - "$FOLDER/$1" "$2" "${3:-}" "$FOLDER/scored.jsonl" <<'PYTHON'
import json, sys
from openpyxl import load_workbook

def rows(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]

path, name, hasty, scored = sys.argv[1:]
answers = {(r["conversation_id"], r["turn"]): r["labels"] for r in rows("data/samples/expected.jsonl")}
truth = {r["text"]: answers.get((r["conversation_id"], int(r["turn"])), []) for r in rows(scored)}
book = load_workbook(path, rich_text=True)
sheet = book["复核"]
at = {cell.value: cell.column for cell in sheet[1]}
seen = 0
for row in range(2, sheet.max_row + 1):
    labels = truth[str(sheet.cell(row, at["客服原话"]).value)]
    seen += bool(labels)
    missed = hasty and seen % 3 == 0
    sheet.cell(row, at["更正类别"]).value = "无" if missed else "、".join(labels) or "无"
    sheet.cell(row, at["复核人"]).value = name
book.save(path)
PYTHON
}

mkdir -p "$FOLDER"
cs predict data/samples/transcripts.csv --model "$CS_MODEL" -o "$FOLDER/scored.jsonl"

# A night's sample, filled by two people.
cs sample "$FOLDER/scored.jsonl" -n 80 -o "$FOLDER/review.xlsx"
cp "$FOLDER/review.xlsx" "$FOLDER/second.xlsx"
fill review.xlsx 小王
fill second.xlsx 小李 hasty
cs estimate "$FOLDER/review.xlsx"
cs label import "$FOLDER/review.xlsx" "$FOLDER/second.xlsx" --store "$STORE"

# Where they differ, a third decides.
cs label adjudicate --store "$STORE" -o "$FOLDER/conflicts.xlsx"
fill conflicts.xlsx 组长
cs label import "$FOLDER/conflicts.xlsx" --source adjudication --store "$STORE"
cs label agreement --store "$STORE" -o "$FOLDER/agreement.json"

# What teaches most of the rest.
cs label queue "$FOLDER/scored.jsonl" -n 40 --store "$STORE" -o "$FOLDER/queue.xlsx"
fill queue.xlsx 小李
cs label import "$FOLDER/queue.xlsx" --store "$STORE"

# Everything that is known by now fits the thresholds anew, in seconds.
cs label export --store "$STORE" -o "$FOLDER/lines.jsonl"
cs calibrate "$CS_MODEL" "$FOLDER/lines.jsonl" -o "$FOLDER/model"

# Or it trains the model further. The sample has too few shops to part them.
cs label split --store "$STORE" --by group -o "$FOLDER/parts"
cs train --config "$CS_CONFIG" -o "$FOLDER/new" --work "$FOLDER/work" \
  --set "model.base=$CS_MODEL" \
  --set "data.train=[$FOLDER/parts/train.jsonl]" --set "data.replay=[$CS_CORPUS/train]" \
  --set "data.calibration=[$CS_CORPUS/calibration, $FOLDER/parts/calibration.jsonl]" \
  --set "data.test=[$CS_CORPUS/test, $FOLDER/parts/test.jsonl]"

# May it take the place of the model in use? "cs-classifier promote" would ask the same, and do it.
passed=0
cs gate "$FOLDER/new" "$CS_MODEL" "$CS_CORPUS/test" "$FOLDER/parts/test.jsonl" \
  -o "$FOLDER/gate.json" || passed=$?
case $passed in
  0) echo "the new model passes" ;;
  3) echo "the new model does not pass; the one in use stays" ;;
  *) exit "$passed" ;;
esac
