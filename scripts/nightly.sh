#!/usr/bin/env bash
# One night: predict, sample, report, scorecard. docs/nightly.md says how to schedule it.
#
#   CS_INPUT_DIR=/exports CS_OUTPUT_DIR=/quality scripts/nightly.sh [--force] [DATE]
#
# Exit status: 0 done, 1 failed, 2 wrong usage, 3 scored, but a later step failed.
set -euo pipefail
umask 027 # the files hold customers' words: for the owner and the group only

DATE=${DATE:-$(date -d yesterday +%F)}
CS_INPUT_DIR=${CS_INPUT_DIR:-}                        # holds DATE.csv (.xlsx, ...) or DATE/*.csv
CS_OUTPUT_DIR=${CS_OUTPUT_DIR:-}                      # everything goes to $CS_OUTPUT_DIR/DATE
CS_BUDGET=${CS_BUDGET:-300}                           # lines drawn for review
CS_RETAIN_DAYS=${CS_RETAIN_DAYS:-90}                  # older nights are deleted; 0 keeps them
CS_COLUMNS=${CS_COLUMNS:-}                            # column mapping, such as qianniu
CS_MODEL=${CS_MODEL:-}                                # model folder; the shipped one if empty
CS_LANGUAGE=${CS_LANGUAGE:-zh}                        # of the reports: zh or en
CS_STEPS=${CS_STEPS:-predict sample report scorecard} # in this order
CS_WAIT=${CS_WAIT:-7200}                              # seconds to wait for the export
CS_SETTLE=${CS_SETTLE:-60}                            # seconds it must not change, unless DATE.done
CS_COMMAND=${CS_COMMAND:-cs-classifier}               # how the program is called

force=false

usage() {
  sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
  echo "$1" >&2
  exit 2
}

log() {
  printf '%s %s\n' "$(date '+%F %T')" "$*" | tee -a "$night/nightly.log" >&2
}

# The export's files; the shell expands a pattern without matches to nothing.
find_inputs() {
  local suffix
  inputs=()
  shopt -s nullglob
  for suffix in csv tsv xlsx jsonl parquet; do
    inputs+=("$CS_INPUT_DIR/$DATE.$suffix" "$CS_INPUT_DIR/$DATE"/*."$suffix")
  done
  shopt -u nullglob
  local path found=()
  for path in "${inputs[@]}"; do
    [[ -f $path ]] && found+=("$path")
  done
  inputs=("${found[@]}")
}

# Sizes and times of all inputs; two equal answers, some time apart, mean that nobody writes.
state_of_inputs() {
  find_inputs
  ((${#inputs[@]} == 0)) || stat -c '%n %s %Y' -- "${inputs[@]}"
}

wait_for_export() {
  local deadline=$((SECONDS + CS_WAIT)) before now
  before=$(state_of_inputs)
  while true; do
    if [[ -n $before && -e $CS_INPUT_DIR/$DATE.done ]]; then break; fi
    sleep "$CS_SETTLE"
    now=$(state_of_inputs)
    if [[ -n $now && $now == "$before" ]]; then break; fi
    before=$now
    if ((SECONDS >= deadline)); then return 1; fi
  done
  find_inputs
}

# A finished file is there as a whole, so being newer than what it is made of means: done.
finished() {
  local target=$1 source
  shift
  if $force || [[ ! -e $target ]]; then return 1; fi
  for source; do
    if [[ $source -nt $target ]]; then return 1; fi
  done
}

# Runs one command. Its messages name files and rows, never what a customer wrote; what it prints
# for people to read is not logged.
run() {
  local step=$1 status=0
  shift
  log "$step: started"
  "${program[@]}" "$step" "$@" >/dev/null 2>>"$night/nightly.log" || status=$?
  if ((status == 0)); then log "$step: done"; else log "$step: failed with status $status"; fi
  return "$status"
}

step_predict() {
  if ! wait_for_export; then
    log "predict: no complete export $DATE in the input folder after $CS_WAIT s"
    return 1
  fi
  if finished "$scored" "${inputs[@]}"; then
    log "predict: finished before"
    return 0
  fi
  local partial=$scored.partial # of a run that was cut off; begun anew if the export was corrected
  if [[ -d $partial ]] && ! finished "$partial/ledger.sqlite" "${inputs[@]}"; then
    rm -rf -- "$partial"
  fi
  run predict "${inputs[@]}" -o "$scored" "${columns[@]}" "${model[@]}" --resume --quiet
}

# A workbook that reviewers may have begun to fill in is never drawn anew; --force keeps it aside.
step_sample() {
  if [[ -e $night/review.xlsx ]]; then
    if ! $force; then
      log "sample: finished before"
      return 0
    fi
    mv -- "$night/review.xlsx" "$night/review-$(date +%Y%m%dT%H%M%S).xlsx" || return 1
  fi
  local path transcripts=() # a line is judged in its conversation
  find_inputs
  for path in "${inputs[@]}"; do transcripts+=(--transcript "$path"); done
  run sample "$scored" -n "$CS_BUDGET" -o "$night/review.xlsx" --seed "${DATE//-/}" \
    "${columns[@]}" "${transcripts[@]}"
}

# Not among the default steps: it needs times, and the customer's lines too.
step_service() {
  find_inputs
  if finished "$night/service.json" "${inputs[@]}"; then
    log "service: finished before"
    return 0
  fi
  run service "${inputs[@]}" -o "$night/service.json" "${columns[@]}"
}

step_report() {
  local option extra=()
  for option in estimate service; do
    if [[ -e $night/$option.json ]]; then extra+=("--$option" "$night/$option.json"); fi
  done
  if finished "$night/report.html" "$scored" "${extra[@]}"; then
    log "report: finished before"
    return 0
  fi
  run report "$scored" -o "$night/report.html" --json "$night/report.json" --date "$DATE" \
    --history "$CS_OUTPUT_DIR/history.jsonl" --language "$CS_LANGUAGE" \
    "${columns[@]}" "${model[@]}" "${extra[@]}"
}

step_scorecard() {
  if finished "$night/scorecard.html" "$scored"; then
    log "scorecard: finished before"
    return 0
  fi
  run scorecard "$scored" -o "$night/scorecard.html" --language "$CS_LANGUAGE" "${columns[@]}"
}

# Deletes what this script writes, from nights older than CS_RETAIN_DAYS, and nothing else.
delete_old_nights() {
  local limit folder
  ((CS_RETAIN_DAYS > 0)) || return 0
  limit=$(date -d "$CS_RETAIN_DAYS days ago" +%F)
  for folder in "$CS_OUTPUT_DIR"/[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]; do
    if [[ ! -d $folder || -L $folder || ! ${folder##*/} < $limit || $folder == "$night" ]]; then
      continue
    fi
    rm -rf -- "$folder/scored.parquet.partial"
    find "$folder" -maxdepth 1 -type f \( -name scored.parquet -o -name review.xlsx \
      -o -name 'review-[0-9]*T[0-9]*.xlsx' -o -name report.html -o -name report.json \
      -o -name scorecard.html -o -name service.json -o -name nightly.log \) -delete
    if rmdir -- "$folder" 2>/dev/null; then
      log "retention: deleted ${folder##*/}"
    else
      log "retention: ${folder##*/} holds other files, which stay"
    fi
  done
}

while (($#)); do
  case $1 in
    --force) force=true ;;
    -*) usage "unknown option $1" ;;
    *) DATE=$1 ;;
  esac
  shift
done
if [[ ! $DATE =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}$ ]] || ! date -d "$DATE" >/dev/null 2>&1; then
  usage "DATE must look like 2026-11-11"
fi
[[ -d $CS_INPUT_DIR ]] || usage "CS_INPUT_DIR must name a folder"
[[ -n $CS_OUTPUT_DIR ]] || usage "CS_OUTPUT_DIR must name a folder"
for value in "$CS_BUDGET" "$CS_RETAIN_DAYS" "$CS_WAIT" "$CS_SETTLE"; do
  [[ $value =~ ^(0|[1-9][0-9]*)$ ]] || usage "'$value' is not a whole number"
done
for step in $CS_STEPS; do
  [[ " predict sample service report scorecard " == *" $step "* ]] ||
    usage "CS_STEPS: unknown step $step"
done

night=$CS_OUTPUT_DIR/$DATE
scored=$night/scored.parquet
read -r -a program <<<"$CS_COMMAND"
columns=() model=() inputs=()
if [[ -n $CS_COLUMNS ]]; then columns=(--columns "$CS_COLUMNS"); fi
if [[ -n $CS_MODEL ]]; then model=(--model "$CS_MODEL"); fi
mkdir -p -- "$night"

exec 9>"$CS_OUTPUT_DIR/.nightly.lock"
if ! flock -n 9; then
  log "another run is under way"
  exit 1
fi

result=0
for step in $CS_STEPS; do
  if [[ $step != predict && ! -e $scored ]]; then
    log "$step: there is no $scored; run the step predict"
    exit 1
  fi
  case $step in
    predict) step_predict || exit 1 ;;
    sample) step_sample || result=3 ;;
    service) step_service || result=3 ;;
    report) step_report || result=3 ;;
    scorecard) step_scorecard || result=3 ;;
  esac
done
delete_old_nights
log "finished with status $result"
exit "$result"
