"""The nightly report: what is counted, what is compared, what is shown, and what never is."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cs_classifier import nightly, scored, tables, trends
from cs_classifier.cli import nightly as command
from cs_classifier.errors import DataError
from cs_classifier.labels import load_labels
from cs_classifier.prediction import Output
from cs_classifier.records import Evidence
from cs_classifier.reports import nightly as page
from cs_classifier.reports.nightly_sections import NightReport, sections, sentences
from cs_classifier.reports.nightly_words import ESTIMATES, REASONS, STEPS, TEXTS
from cs_classifier.scored import ScoredFile, ScoredLine
from cs_classifier.trends import Record

LABELS = ("invoice_refusal", "off_platform_contact")
CONTACT = "off_platform_contact.contact_id"
EMPTY = dict.fromkeys((f.name for f in ScoredLine.__dataclass_fields__.values()), "")


def line(text, *, labels=(), review=(), spans=(), **own):
    """A scored line; ``spans`` are the evidence of its first suspected label."""
    suspected = (*labels, *review)
    evidence = tuple(
        Evidence(suspected[0], "rule", f"{suspected[0]}.contact_id", a, b, text[a:b])
        for a, b in spans
    )
    values = {
        **EMPTY, "text": text, "file": "s.csv", "row": 2, "labels": labels, "review": review,
        "probabilities": tuple(0.9 if x in suspected else 0.001 for x in LABELS),
        "rules": (), "tags": (), "clauses": (), "evidence": evidence, "joined": False, "model": "m",
    }  # fmt: skip
    return ScoredLine(**{**values, "key": text, **own})


LINES = (
    line("加薇❤️abc12345", labels=("off_platform_contact",), spans=[(0, 4)],
         conversation_id="c1", agent_id="a1", shop="甲", timestamp="2026-11-11 23:30:00", key="k1"),
    line("加V信 xyz99887", labels=("off_platform_contact",), review=("invoice_refusal",),
         agent_id="a2", shop="乙", timestamp="2026-11-11 09:00:00", key="k2"),
    line("没有票", review=("invoice_refusal",), shop="甲", timestamp="2026-11-11 9:59", key="k3"),
    line("在的亲", shop="甲", timestamp="", key="k4"),
    line("[图片]", probabilities=(), error="needs_media_review", key="k5", row=7),
    line("很长", error="truncated", shop="甲", timestamp="2026-11-10 09:00:00", key="k6"),
)  # fmt: skip


def build(lines=LINES, date="2026-11-11"):
    return nightly.build(ScoredFile(LABELS, tuple(lines)), date=date, mask=page.hide)


def report(night=None, **values):
    return NightReport(night=night or build(), label_set=load_labels(), **values)


def test_counts_add_up():
    night = build()
    total = night.total
    assert (night.rows, total.lines, total.violations, total.reviews) == (6, 5, 2, 1)
    by_label = {t.name: (t.lines, t.violations, t.reviews) for t in night.labels}
    assert by_label == {"invoice_refusal": (5, 0, 2), "off_platform_contact": (5, 2, 0)}
    assert [(t.name, t.lines, t.violations) for t in night.shops] == [("甲", 4, 1), ("乙", 1, 1)]
    assert [(t.name, t.lines) for t in night.hours] == [("09", 3), ("23", 1)]
    assert night.untimed == 1
    assert [(t.name, t.violations, t.reviews) for t in night.clauses] == [(CONTACT, 1, 0)]
    assert (night.conversations, night.agents) == (1, 2)
    assert [hit.key for hit in night.hits] == ["k1", "k2", "k3"]
    assert {(p.reason, p.count, p.scored, p.rows) for p in night.problems} == {
        ("needs_media_review", 1, False, (("s.csv", 7),)),
        ("truncated", 1, True, (("s.csv", 2),)),
    }


OUTCOMES = st.lists(
    st.tuples(st.sampled_from(["甲", "乙", ""]), st.integers(0, 23), st.booleans(), st.booleans()),
    max_size=30,
)


@settings(deadline=None)  # of the first example: it loads the lexicon
@given(OUTCOMES)
def test_every_grouping_is_a_partition(rows):
    night = build(
        line(
            "好的", shop=shop, timestamp=f"2026-11-11 {hour}:00", platform="p",
            labels=LABELS[:1] if violation else (), review=LABELS[1:] if review else (),
        )
        for shop, hour, violation, review in rows
    )  # fmt: skip
    named = sum(bool(shop) for shop, *_ in rows)
    for tallies, lines in (
        (night.shops, named),
        (night.platforms, len(rows)),
        (night.hours, len(rows)),
    ):
        assert sum(t.lines for t in tallies) == lines
    assert sum(t.violations for t in night.hours) == night.total.violations
    assert night.total.violations + night.total.reviews == len(night.hits)


def test_the_commonest_date_is_the_nights():
    assert nightly.night_of(LINES) == "2026-11-11"
    assert nightly.night_of([line("好", timestamp="2026年8月1日 9:59")]) == "2026-08-01"
    assert nightly.night_of([line("好", timestamp="09:00")]) == ""
    assert nightly.night_of([line("好", timestamp="1794411000")]) == "2026-11-11"


def test_hours_are_local():
    assert nightly.hour_of("1794411000") == nightly.hour_of("2026-11-11T15:30:00Z") == "23"


def test_the_fingerprint_is_of_what_came_in_not_of_what_was_found():
    cleared = [replace(x, labels=(), review=(), model="other") for x in LINES]
    assert build(cleared).fingerprint == build().fingerprint
    assert build(LINES[1:]).fingerprint != build().fingerprint


def test_templates_differ_in_numbers_accounts_and_spelling_only():
    words = ["加微信abc12345,减20", "加薇❤️xyz99887,减300", "在吗"]
    suspected = [line(w, labels=LABELS[1:], agent_id=w) for w in words]
    (template,) = build([*suspected, line(words[0])]).templates
    assert (template.suspected, template.sent, template.agents) == (2, 3, 2)
    assert template.labels == {LABELS[1]: 2}
    assert "12345" not in template.example


SPELLINGS = [
    ("加薇❤️abc12345", [("薇❤", "微信")]),
    ("用ⓥ信吧,微-信也行", [("ⓥ信", "微信"), ("微-信", "微信")]),
    ("卫星电视", []),
]


@pytest.mark.parametrize(("text", "expected"), SPELLINGS)
def test_spellings_are_given_as_written(text, expected):
    found = build([line(text, labels=LABELS[1:])]).spellings
    assert sorted((s.surface, s.meaning) for s in found) == sorted(expected)


def test_mixtures_stand_mostly_in_suspected_lines():
    suspected = [line(t, labels=LABELS[1:]) for t in ("加Ж聊🐧", "加Ж聊🐧", "好的😊", "加q")]
    found = build([*suspected, line("好的😊"), line("谢谢😊")]).mixtures
    assert [(s.surface, s.suspected, s.others) for s in found] == [("加Ж聊", 2, 0), ("🐧", 2, 0)]


def past(day, violations, **own):
    values = {"scored": 10_000, "models": ("m",), "input": f"in{day}", "reviews": {}, **own}
    return Record(date=f"2026-11-{day:02d}", violations={trends.ANY: violations}, **values)


def changed(records, **own):
    return [record.model_copy(update=own) for record in records]


STEADY = [past(day, 100 + day % 3) for day in range(1, 8)]
CHANGES = [
    (STEADY, past(11, 103), "usual"),
    (STEADY, past(11, 170), "higher"),
    (STEADY, past(11, 40), "lower"),
    (STEADY, past(11, 17, scored=1000), "usual"),  # as large a rise, of fewer lines
    ([past(day, 40 + 120 * (day % 2)) for day in range(1, 8)], past(11, 170), "usual"),  # restless
    ([past(day, 0) for day in range(1, 8)], past(11, 0), "usual"),
    (STEADY[:2], past(11, 900), None),  # too few nights
    (changed(STEADY, models=("old",)), past(11, 900), None),
    (changed(STEADY, input="in11"), past(11, 900), None),
    ([past(day, 100) for day in range(12, 20)], past(11, 900), None),  # later nights
]  # fmt: skip


@pytest.mark.parametrize(("history", "tonight", "verdict"), CHANGES)
def test_a_night_against_the_nights_before(history, tonight, verdict):
    found = trends.changes(history, tonight)
    assert [c.verdict for c in found] == ([verdict] if verdict else [])


def test_the_test_is_the_conditional_binomial_one():
    from scipy import stats

    (change,) = trends.changes(STEADY, past(11, 125))
    before = sum(r.violations[trends.ANY] for r in STEADY)
    upper = stats.binomtest(125, 125 + before, 1 / 8, alternative="greater").pvalue
    assert change.dispersion == 1
    assert change.p_value == pytest.approx(2 * upper)


@pytest.mark.parametrize("shape", [None, 50])  # Poisson nights, and nights that vary by a seventh
def test_ordinary_nights_seldom_raise_an_alarm(shape):
    rng = np.random.default_rng(11)

    def night(day):
        level = rng.gamma(shape, 1 / shape) if shape else 1.0
        return past(day, int(rng.poisson(100 * level)))

    nights = 300
    alarms = 0
    for _ in range(nights):
        (change,) = trends.changes([night(day) for day in range(1, 8)], night(11))
        alarms += change.verdict != "usual"
    assert alarms <= nights * 0.04  # level 0.01, and the dispersion is estimated from seven nights


def test_a_night_reported_again_replaces_its_line():
    history = trends.with_night(STEADY, past(3, 7, input="corrected"))
    assert [r.date for r in history] == [r.date for r in STEADY]
    assert history[2].violations == {trends.ANY: 7}
    assert trends.parse_history(trends.dump_history(history), "h") == history


@pytest.mark.parametrize("mark", "\u0085\u2028\u2029")
def test_line_separators_within_a_record_part_nothing(mark):
    history = (past(1, 1), past(2, 1, spellings=(f"微{mark}信",)))
    assert trends.parse_history(trends.dump_history(history), "h") == history


@pytest.mark.parametrize("text", ["{}", "no", '{"date": "yesterday"}'])
def test_a_damaged_history_names_its_line(text):
    with pytest.raises(DataError, match=r"h\.jsonl, line 2"):
        trends.parse_history(trends.dump_history([past(1, 1)]) + text, "h.jsonl")


def test_a_spelling_is_dated_by_the_first_night_that_had_it():
    night = build()
    known = night.spellings[0].key
    dated = trends.dated(night, [past(1, 1, spellings=(known,)), past(2, 1, spellings=(known,))])
    assert [s.first_seen for s in dated.spellings] == ["2026-11-01", "2026-11-11"]


NUMBERS = (
    "13800138000", "1 3 8 0 0 1 3 8 0 0 0", "11010519491231002X", "6222021234567890128",
    "2381234567890123457", "a.b@example.com", "https://x.cn/a1b2c3",
)  # fmt: skip
ACCOUNTS = ("abc12345", "dl_laozao0626")  # told by their looks in what people write, not in names


@pytest.mark.parametrize("identifier", [*NUMBERS, *ACCOUNTS])
@pytest.mark.parametrize("form", ["加薇❤️{}哈", "<b>电话 {}</b>", "转我 {}"])
def test_no_identifier_leaves_in_any_place(identifier, form):
    text = form.format(identifier)
    name = "甲" if identifier in ACCOUNTS else text
    names = dict.fromkeys(("agent_id", "shop", "platform", "error"), name)
    secret = line(text, context=text, labels=LABELS[1:], spans=[(0, len(text))], **names)
    keys = [*"ab", "单号" + text, f"{text}#3"] if identifier not in ACCOUNTS else "ab"
    lines = [replace(secret, key=key, conversation_id=key.removesuffix("#3")) for key in keys]
    made = report(build(lines))
    assert len({hit["key"] for hit in page.to_json(made)["hits"]}) == len(keys)
    html = page.to_html(made)
    assert identifier not in html
    assert "<b>" not in html
    assert identifier not in page.dump(made)


def test_evidence_is_marked_in_the_masked_line():
    assert page.marked(LINES[0], LABELS) == [("加薇❤️", True), ("ab***(8)", False)]
    assert page.marked(LINES[0], ()) == [("加薇❤️ab***(8)", False)]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_page_needs_nothing_else(language):
    html = page.to_html(report(history=(past(10, 1), past(11, 1))), language=language)
    assert "default-src 'none'" in html
    assert not re.search(r"(?:src|href)=|url\(|@import|https?://", html)
    assert html.count("<svg") == html.count("<title>") - 1  # every chart has a title
    assert ("疑似" if language == "zh" else "uspected") in html


def test_few_lines_have_no_rate_and_none_has_an_upper_bound():
    few = sections(report(), "zh")[0]["rows"]
    assert few[0][3] == "样本不足"
    many = sections(report(build([line("好")] * 1000)), "zh")[0]["rows"]
    assert many[0][2:4] == ["0", "0.00 [0.00, 3.83]"]


def test_the_summary_gives_denominators_and_what_is_unusual():
    changes = trends.changes(STEADY, past(11, 170))
    made = report(build([line("好")] * 1000), changes=changes, compared=7, history=tuple(STEADY))
    text = "\n".join(sentences(made, "zh"))
    assert "1,000" in text
    assert "异常偏高（本晚 170/10,000，之前 707/70,000）" in text
    assert 3 <= len(sentences(made, "en")) <= 5
    shown = {s["title"]: s["rows"] for s in sections(made, "zh")}
    assert [row[0] for row in shown["走势"]] == [r.date for r in reversed(STEADY)]
    assert shown["与之前各晚比较"][0][-1] == "异常偏高"


def test_the_same_wording_does_not_crowd_the_table_but_all_keys_are_in_the_json():
    lines = [line(f"没有票{i}", labels=LABELS[:1], key=f"k{i}") for i in range(10)]
    made = report(build(lines))
    assert page.to_html(made).count("<tr data-label=") == page.MAX_ALIKE
    assert {hit["key"] for hit in page.to_json(made)["hits"]} == {x.key for x in lines}


def test_both_languages_have_the_same_words():
    for words in (TEXTS, ESTIMATES, STEPS):
        assert words["zh"].keys() == words["en"].keys()
    assert REASONS["en"].keys() <= REASONS["zh"].keys()


ESTIMATE = {
    "reviewed": 300,
    "labels": [
        {"label": LABELS[0],
         "prevalence": {"value": 0.01, "low": 0.005, "high": 0.02, "reviewed": 9},
         "precision_violation": None, "expected": 0.1},
        {"label": "new_label", "recall_violation": {"value": 0.5, "low": 0.25, "high": 0.75}},
    ],
}  # fmt: skip
SERVICE = [
    {"name": "回复率", "shop": "甲", "numerator": 90, "denominator": 100, "met": True},
    {"name": "首响", "shop": "乙", "numerator": 0, "denominator": 0, "met": False},
    {"name": "其他", "numerator": "?"},
]


def test_what_estimate_and_service_found_is_shown_beside():
    made = report(estimate=ESTIMATE, service=SERVICE)
    shown = {s["title"]: s["rows"] for s in sections(made, "zh")}
    assert shown["抽样复核估计"] == [
        ["拒开发票", "1.00 % [0.50, 2.00] n=9", "–", "–"],
        ["new_label", "–", "–", "50.00 % [25.00, 75.00]"],
    ]
    assert [row[0] for row in shown["服务指标"]] == ["首响", "回复率", "其他"]
    assert shown["服务指标"][1][3:] == ["90/100", "90.0 % [82.6, 94.5]", "–", "达标"]


def run(*arguments, expect=0):
    import typer

    app = typer.Typer()
    app.command()(command.report)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, DataError):
        raise result.exception
    assert result.exit_code == expect, result.output
    return result.output


@pytest.fixture
def night_file(tmp_path):
    types = Output(LABELS).types
    cells = {"p_invoice_refusal": 0.01, "p_off_platform_contact": 0.9, "model": "m", "error": ""}
    lists = {"review": [], "rules": [], "tags": [], "clauses": [], "evidence": [], "joined": False}
    rows = [
        {"text": f"加薇❤️abc1234{i}", "timestamp": "2026-11-11 10:00:00",
         "labels": ["off_platform_contact"], **cells, **lists}
        for i in range(3)
    ]  # fmt: skip
    path = tmp_path / "s.parquet"
    with tables.Writer(path, columns=["text", "timestamp", *types], types=types) as writer:
        writer.write(rows)
    return path


def test_the_command_writes_page_json_and_history(night_file, tmp_path):
    out, data, history = (tmp_path / name for name in ("r.html", "r.json", "h.jsonl"))
    arguments = (night_file, "-o", out, "--json", data, "--history", history)
    assert "疑似违规 3 条" in run(*arguments)
    assert "abc1234" not in out.read_text() + data.read_text() + history.read_text()
    first = history.read_bytes()
    run(*arguments)
    assert history.read_bytes() == first
    assert json.loads(data.read_text())["date"] == "2026-11-11"
    warned = run(*arguments, "--date", "2026-11-12", "--language", "en")
    assert "most lines are of 2026-11-11" in warned
    assert "the same as those of 2026-11-11" in out.read_text()
    assert [r.date for r in trends.parse_history(history.read_text(), "h")] == [
        "2026-11-11", "2026-11-12",
    ]  # fmt: skip


def test_bad_arguments_leave_nothing_behind(night_file, tmp_path):
    out, bad = tmp_path / "r.html", tmp_path / "bad.json"
    bad.write_text('{"labels": 3}')
    assert "always masked" in run(night_file, "-o", out, "--no-mask", expect=2)
    assert "2026/11" in run(night_file, "-o", out, "--date", "2026/11/11", expect=2)
    with pytest.raises(DataError, match="given twice"):
        run(night_file, "-o", night_file)
    with pytest.raises(DataError, match="no list of checks"):
        run(night_file, "-o", out, "--service", bad, "--history", tmp_path / "h.jsonl")
    with pytest.raises(DataError, match="no list of results"):
        run(night_file, "-o", out, "--estimate", bad, "--history", tmp_path / "h.jsonl")
    assert {path.name for path in tmp_path.iterdir()} == {"s.parquet", "bad.json"}


def test_lines_read_back_from_a_file_report_the_same(night_file):
    file = scored.read([night_file])
    night = nightly.build(file, date="", mask=page.hide)
    assert (night.total.violations, len(night.templates)) == (3, 1)
    with pytest.raises(DataError, match="--date"):
        trends.record(night)


def test_files_with_a_byte_order_mark(night_file, tmp_path):
    history, service = tmp_path / "h.jsonl", tmp_path / "service.json"
    history.write_text(trends.dump_history([past(1, 1)]), encoding="utf-8-sig")
    service.write_text('{"checks": []}', encoding="utf-8-sig")
    options = ("--history", history, "--service", service)
    run(night_file, "-o", tmp_path / "r.html", *options)
    assert len(trends.parse_history(history.read_text(), "h")) == 2
