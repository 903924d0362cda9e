import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs_classifier import datasets, tables
from cs_classifier.cli import upkeep
from cs_classifier.errors import ConfigError
from cs_classifier.labels import load_labels
from cs_classifier.metrics import wilson
from cs_classifier.normalize import normalize
from cs_classifier.records import LabelledMessage, Message
from cs_classifier.rules import load_rules, statistics
from cs_classifier.upkeep import ledger
from cs_classifier.upkeep.ledger import LedgerConfig, RuleStatistics

LABELS = load_labels()
RULES = load_rules()
OFF = "off_platform_contact"


def line(number: int, text: str, *labels: str, origin: str = "review") -> LabelledMessage:
    return LabelledMessage(f"{number}", Message(text), labels, group=f"{number}", origin=origin)


CAUGHT = [line(i, f"加微信abc1234{i}", OFF, origin="appeal" if i < 4 else "review")
          for i in range(15)]  # fmt: skip
MISSED = [
    line(100 + i, f"{start}去隔壁小店找我{end}", OFF)
    for i, (start, end) in enumerate([("亲", ""), ("您", "哈"), ("", "便宜"), ("那", "哦")])
]
CLEAN = [line(200 + i, f"{word}我去问问仓库") for i, word in enumerate("亲您那嗯好" * 3)]
INSULT = line(250, "滚去隔壁小店闹", "abuse_harassment")
LINES = [*CAUGHT, *MISSED, INSULT, *CLEAN]


def row(correct: int, hits: int) -> RuleStatistics:
    return RuleStatistics(
        rule="r", target=OFF, hits=hits, coverage=0, overlap=0, conflict=0, correct=correct,
        precision=correct / hits, interval=wilson(correct, hits),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("correct", "hits", "expected"),
    [(50, 50, "keep"), (48, 50, "keep"), (9, 9, "undecided"), (10, 10, "tighten"),
     (35, 50, "tighten"), (15, 50, "retire"), (0, 10, "retire"), (0, 9, "undecided")],
)  # fmt: skip
def test_verdicts_follow_the_interval(correct: int, hits: int, expected: str) -> None:
    assert ledger.verdict(row(correct, hits), LedgerConfig()) == expected


def test_the_bars_are_configuration() -> None:
    assert ledger.verdict(row(10, 10), LedgerConfig(keep=0.7)) == "keep"
    assert ledger.verdict(row(3, 3), LedgerConfig(keep=0.4, retire=0.3, reviewed=3)) == "keep"


def test_the_ledger_agrees_with_the_statistics() -> None:
    found = ledger.build(RULES, LINES, LABELS.ids)
    assert [entry.statistics.rule for entry in found.rules] == [
        s.rule for s in statistics(RULES, LINES)
    ]
    for entry in found.rules:
        if entry.verdict is None:
            assert entry.statistics.target in LABELS.tag_ids
            continue
        assert sum(source.hits for source in entry.sources) == entry.statistics.hits
        assert sum(source.correct for source in entry.sources) == entry.statistics.correct
        wrong = entry.statistics.hits - entry.statistics.correct
        assert len(entry.wrong) == min(ledger.EXAMPLES, wrong)
    hit = [entry for entry in found.rules if entry.statistics.hits and entry.verdict]
    assert {source.origin for source in hit[0].sources} == {"appeal", "review"}
    assert found.missed[OFF] == (len(MISSED), len(CAUGHT) + len(MISSED))


def test_what_missed_violations_share_is_suggested() -> None:
    found = ledger.build(RULES, LINES, LABELS.ids).suggestions
    assert {suggestion.label for suggestion in found} == {OFF}
    first = found[0]
    assert (first.lines, first.missed) == (4, 4)
    assert set(first.examples) == {line.id for line in MISSED}
    for suggestion in found:
        matching = [
            one for one in LINES if re.search(suggestion.pattern, normalize(one.message.text).text)
        ]
        assert all(one.labels for one in matching)
        assert suggestion.elsewhere == sum(OFF not in one.labels for one in matching)
        assert len([one for one in matching if one in MISSED]) == suggestion.lines


def test_nothing_is_suggested_that_clean_lines_say_too() -> None:
    clean = [line(300 + i, one.message.text) for i, one in enumerate(MISSED)]
    assert ledger.build(RULES, [*LINES, *clean], LABELS.ids).suggestions == ()


def test_numbers_never_become_patterns() -> None:
    missed = [line(i, f"打 13800138000 {word}") for i, word in enumerate("啊哦呢哈")]
    found = ledger.suggest({OFF: missed}, [*missed, *CLEAN], LedgerConfig())
    patterns = [suggestion.pattern for suggestion in found]
    assert not any(re.search(r"\d{3}", pattern.replace("{0,8}", "")) for pattern in patterns)


def test_lines_that_are_all_missed_violations_tell_no_pattern_from_another() -> None:
    missed = [line(i, "来隔壁找我", OFF) for i in range(3)]
    found = list(ledger.suggest({OFF: missed}, missed, LedgerConfig()))
    assert found
    assert {suggestion.z for suggestion in found} == {0}


@settings(deadline=None)
@given(st.text(max_size=30))
def test_every_candidate_matches_its_line(text: str) -> None:
    plain = normalize(text).text
    for pattern in ledger.candidates(plain):
        assert re.search(pattern, plain, re.DOTALL)


@pytest.mark.parametrize("suffix", [".xlsx", ".json"])
def test_the_command_prints_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture, suffix: str
) -> None:
    datasets.dump(LINES, tmp_path / "lines.jsonl")
    out = tmp_path / f"ledger{suffix}"
    upkeep.ledger([tmp_path / "lines.jsonl"], output=out, overrides=["keep=0.7"])
    printed = capsys.readouterr().out
    assert "15/15 [0.80, 1.00]" in printed
    assert "保留" in printed
    assert f"{len(MISSED)}/{len(CAUGHT) + len(MISSED)}" in printed
    if suffix == ".json":
        document = json.loads(out.read_text(encoding="utf-8"))
        assert document["config"]["keep"] == 0.7
        assert len(document["rules"]) == len(RULES.rules)
    else:
        assert {row.values["规则"] for row in tables.read(out)} == {r.id for r in RULES.rules}


def test_a_bar_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="precision"):
        upkeep.ledger([tmp_path / "lines.jsonl"], overrides=["precision=0.7"])
