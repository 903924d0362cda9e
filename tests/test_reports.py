"""Reports: evaluation page, text and JSON, model card, run summary, masking."""

import json
import math
import re
import time

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cs_classifier import metrics
from cs_classifier.artifact import Manifest
from cs_classifier.calibration import Calibrator
from cs_classifier.config import DecisionConfig
from cs_classifier.decision import Decision, LabelThresholds
from cs_classifier.evaluation import Estimate, EvaluationReport, comparison
from cs_classifier.labels import load_labels
from cs_classifier.records import Evidence, LabelledMessage, Message, Prediction, RuleHit
from cs_classifier.reports import card, markdown, summary
from cs_classifier.reports import evaluation as pages
from cs_classifier.reports.masking import (
    _CHECKS,
    _WIDTHS,
    is_bank_card,
    is_id_card,
    mask,
    mask_span,
)

LABELS = load_labels()
INVOICE, PROMISE, ABUSE, CONTACT, _ = LABELS.ids


# --- a small evaluation, made by the evaluation functions from arrays ----------------------------


def _lines():
    """Twelve lines per label but the last: six violations, six near misses; and clean ones."""
    lines = []
    for label in LABELS.labels[:4]:
        for i in range(12):
            clause = label.clauses[i % 2].id
            labels = (label.id,) if i < 6 else ()
            message = Message(f"第{i}行 <b>{label.zh}</b> 电话13800138000", context=f"问{i}")
            line = f"{label.id}-{i}"
            lines.append(LabelledMessage(line, message, labels, (clause,), group=line))
    lines += [LabelledMessage(f"clean-{i}", Message("好的"), (), group=f"g{i}") for i in range(20)]
    return lines


def _system(key, gold, wrong, *, calibrated=True):
    """A system that gets the given share of each label wrong; always the same lines."""
    flip = np.random.default_rng(3).random(gold.shape) < wrong
    scores = np.where(flip, 1 - gold, gold) * 0.8 + 0.1
    return comparison._System(key, scores, scores > 0.5, calibrated)


def make_report(*, with_tfidf=True):
    lines = _lines()
    gold = np.array([LABELS.row(line.labels) for line in lines], dtype=float)
    rng = np.random.default_rng(0)
    weights = metrics.bootstrap_weights([x.group for x in lines], 200, rng)
    systems = [_system("regex", gold, 0.3, calibrated=False), _system("tfidf", gold, 0.1)]
    systems += [_system("model", gold, 0.02), _system("model+review", gold, 0.05)]
    if not with_tfidf:
        del systems[1]
    predictions = [
        Prediction(tuple(map(float, p)), tuple("violation" if c else "clear" for c in calls))
        for p, calls in zip(systems[-2].scores, systems[-2].calls, strict=True)
    ]
    notes = () if with_tfidf else ("TF-IDF left out: the model's training lines are not at hand",)
    return EvaluationReport(
        model="default-20260101-abcdef0",
        files=("test",),
        lines=len(lines),
        borderline=3,
        groups=len(lines),
        systems=tuple(comparison._scores(s, gold, lines, weights, LABELS) for s in systems),
        differences=tuple(comparison._differences(systems, gold, weights, LABELS)),
        errors=tuple(comparison._errors(lines, predictions, LABELS)),
        notes=notes,
    )


REPORT = make_report()


# --- numbers and tables --------------------------------------------------------------------------


def test_missing_numbers_are_a_dash():
    nothing = Estimate(value=math.nan, low=math.nan, high=math.nan)
    assert markdown.interval(nothing) == markdown.number(None) == "–"


def test_table_lines_have_equal_width_and_escape_bars():
    rows = markdown.table(["标签", "b"], [["拒开发票", "x|y"], ["a", 1]]).splitlines()
    assert len({markdown.width(row) for row in rows}) == 1
    assert "x\\|y" in rows[2]


# --- text ----------------------------------------------------------------------------------------


def test_text_holds_every_number_with_interval_and_support():
    text = pages.to_text(REPORT, LABELS)
    row = next(line for line in text.splitlines() if line.startswith("| Invoice refusal"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "6"
    model = REPORT.systems[2].labels[0].f1
    assert cells[4] == f"{model.value:.2f} [{model.low:.2f}, {model.high:.2f}]"
    assert len(cells) == 6
    for words in ("BERT violation+review", "Average precision", "ECE", "per 1,000 clean lines"):
        assert words in text


def test_text_says_in_words_whether_each_label_beats_each_baseline():
    text = pages.to_text(REPORT, LABELS)
    assert "beats regex" in text
    assert "does not beat TF-IDF" in text
    chinese = pages.to_text(REPORT, LABELS, language="zh")
    assert "优于正则基线" in chinese
    assert "不优于 TF-IDF 基线" in chinese


def test_label_without_positives_is_shown_as_dashes():
    text = pages.to_text(REPORT, LABELS)
    assert "nan" not in text.lower()
    verdicts = [line for line in text.splitlines() if "| Counterfeit hint" in line][-1]
    assert "beat" not in verdicts
    row = next(line for line in text.splitlines() if line.startswith("| Counterfeit hint"))
    assert "| 0 " in row


def test_text_without_tfidf_says_so():
    text = pages.to_text(make_report(with_tfidf=False), LABELS)
    assert "TF-IDF left out" in text


# --- JSON ----------------------------------------------------------------------------------------


def test_json_is_strict_masked_and_reads_back():
    data = pages.to_json(REPORT)
    text = json.dumps(data, allow_nan=False)
    assert "13800138000" not in text
    again = pages.from_json(json.loads(text))
    assert pages.to_json(again) == data
    assert math.isnan(again.systems[2].labels[4].recall.value)
    assert again.systems[0].labels[0].ece is None
    assert again.differences == REPORT.differences or "nan" in repr(REPORT.differences)


def test_write_gives_both_files_and_names_a_folder_that_cannot_be_written(tmp_path):
    page, data = pages.write(REPORT, LABELS, tmp_path / "report", "zh")
    assert page.name == "report.html"
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    json.loads(data.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    (tmp_path / "file").write_text("")
    with pytest.raises(pages.ArtifactError, match="cannot write the report"):
        pages.write(REPORT, LABELS, tmp_path / "file", "zh")


# --- page ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page():
    return pages.to_html(REPORT, LABELS)


def test_page_needs_nothing_from_outside(page):
    assert "http" not in page
    assert not re.search(r"<(script|link|img|iframe|object)\b|@import|url\((?!#)", page)
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(link.startswith("#") for link in links)


def test_page_is_the_same_every_time(page):
    assert page == pages.to_html(make_report(), LABELS)


def test_page_names_labels_in_chinese_and_in_english(page):
    for label in LABELS.labels:
        assert label.zh in page
    assert '<html lang="zh-CN">' in page
    english = pages.to_html(REPORT, LABELS, language="en")
    assert "Invoice refusal" in english
    assert not re.search(r"[一-鿿]", re.sub(r'<p class="line">.*', "", english))


def test_page_plots_keep_text_as_text_and_follow_the_colour_scheme(page):
    assert page.count("<svg") == 1 + len(LABELS)
    for label in LABELS.labels:  # axis of the F1 plot, title of the reliability plot
        assert len(re.findall(rf">{label.zh}</text>", page)) == 2
    assert "var(--model)" in page
    assert "prefers-color-scheme: dark" in page
    assert not re.search(r"@\d@|#0[1-6]0[2-7]0[3-8]", page)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_page_escapes_and_masks_the_lines_it_shows(page):
    assert "13800138000" not in page
    assert "&lt;手机&gt;" in page
    assert "<b>拒开发票</b> 电话" not in page
    assert "&lt;b&gt;" in page


def test_page_shows_at_most_200_errors_missed_and_false_apart():
    missed = [e for e in REPORT.errors if e.kind == "missed"][:1] * 30
    false = [e for e in REPORT.errors if e.kind == "false"][:1] * 500
    report = REPORT.model_copy(update={"errors": (*missed, *false)})
    lists = pages._error_lists(report, LABELS, "zh")
    assert [(x["kind"], len(x["rows"]), x["total"]) for x in lists] == [
        ("missed", len(missed), len(missed)),
        ("false", 200 - len(missed), 500),
    ]
    assert "显示 170 / 500 条" in pages.to_html(report, LABELS)


def test_page_states_recall_at_the_baselines_own_precision(page):
    assert "在该基线自身的精确率下，召回率为" in page
    assert "cluster bootstrap" in page


def test_page_survives_a_report_without_lines():
    empty = REPORT.model_copy(update={"errors": (), "differences": (), "files": ()})
    assert "无" in pages.to_html(empty, LABELS)


# --- model card ----------------------------------------------------------------------------------

MANIFEST = Manifest(
    format_version=1,
    id="default-20260101-abcdef0",
    created="2026-01-01",
    labels=LABELS.ids,
    base="embedded",
    max_tokens=128,
    pad_id=0,
    seed=0,
    revision="abcdef0123",
    data={"data/train/a.jsonl": "0" * 64, "data/test/b.jsonl": "1" * 64},
    versions={"numpy": "2.1"},
    onnx_difference=1.2e-5,
)
DECISION = Decision(
    labels=(
        LabelThresholds(
            review=0.2,
            violation=0.9,
            precision=0.99,
            precision_bound=0.96,
            floor_met=True,
            recall=0.7,
            review_recall=0.95,
        ),
        *(LabelThresholds(review=0.3, violation=0.8) for _ in range(4)),
    ),
    config=DecisionConfig(),
)
CALIBRATOR = Calibrator.fit(
    np.zeros((2, 5)), np.zeros((2, 5)), np.array([[1] * 5, [0] * 5]), prevalence=0.01
)
TRAINING = {
    "config": {"train": {"epochs": 12, "learning_rate": 1e-4}},
    "history": [{"epoch": 1, "loss": 0.1, "validation": 0.91, "seconds": 3.0}],
    "lines": {"train": 8000, "validation": 900, "calibration": 700},
    "files": {"data/train/a.jsonl": 9000},
}


def _card(report=REPORT, training=TRAINING, manifest=MANIFEST):
    return card.render(manifest, LABELS, CALIBRATOR, DECISION, report, training=training)


def test_card_front_matter_is_yaml():
    front = yaml.safe_load(_card().split("---")[1])
    assert front["license"] == "apache-2.0"
    assert front["language"] == "zh"
    assert front["base_model"] == "intfloat/multilingual-e5-small"
    assert front["pipeline_tag"] == "text-classification"


def test_card_says_that_a_screen_may_miss_something():
    screened = TRAINING | {"config": TRAINING["config"] | {"screen": {"layers": 3}}}
    assert "A screen of 3 layers" in _card(training=screened)
    assert "screen" not in _card()


def test_card_has_all_sections_and_says_who_must_not_be_judged():
    text = _card()
    sections = ["Intended use", "How to use", "Training data", "Labels", "Metrics", "Calibration"]
    for section in (*sections, "Thresholds", "Limitations"):
        assert f"\n## {section}\n" in text
    for words in ("疑似", "Nobody may be judged", 'function_to_apply="sigmoid"', "text_pair"):
        assert words in text
    assert "CC BY 4.0" in text
    assert "train 8,000" in text
    assert "9,000" in text
    assert "nan" not in re.sub(r"\w*nan\w+", "", text)


def test_card_shows_thresholds_and_where_the_floor_was_not_proven():
    text = _card()
    rows = [x for x in text.splitlines() if x.startswith(f"| `{INVOICE}`") and "0.9000" in x]
    assert len(rows) == 1
    assert "| yes" in rows[0]
    assert f"**not proven** for `{PROMISE}`" in text


def test_card_lists_clauses_that_are_found_badly():
    clauses = REPORT.systems[2].clauses
    weak = [
        c.model_copy(update={"recall": 0.25, "support": 4}) if i == 0 else c
        for i, c in enumerate(clauses)
    ]
    rare = weak[1].model_copy(update={"recall": 0.0, "support": 2})
    model = REPORT.systems[2].model_copy(update={"clauses": (weak[0], rare, *weak[2:])})
    systems = (*REPORT.systems[:2], model, REPORT.systems[3])
    text = _card(REPORT.model_copy(update={"systems": systems}))
    assert f"`{clauses[0].clause}` 明确拒开 (recall 0.25 of 4)" in text
    assert f"`{clauses[1].clause}`" not in text


def test_card_says_what_was_not_measured():
    text = _card(report=None, training={})
    assert "## Metrics\n\n[not measured]" in text
    assert text.count("[not measured]") > 3


def test_card_shows_no_folder_of_the_machine_it_was_made_on():
    base = MANIFEST.model_copy(
        update={"base": "/home/somebody/encoders/rbt3", "data": {"/home/somebody/a.jsonl": "0"}}
    )
    text = _card(manifest=base)
    assert "somebody" not in text
    assert "base_model: rbt3" in text
    assert "`a.jsonl`" in text


# --- run summary ---------------------------------------------------------------------------------


def _prediction(outcomes, *, hits=(), evidence=(), tags=(), truncated=False):
    return Prediction((0.5,) * 5, outcomes, hits, tags, evidence, truncated=truncated)


def _clear(**more):
    return _prediction(("clear",) * 5, **more)


def make_summary():
    builder = summary.SummaryBuilder(LABELS, file="转录.csv", model="m-1", engine="onnxruntime")
    text = "亲亲加我微信abc123456吧,电话13800138000"
    start = text.index("abc")
    hit = RuleHit("contact.wechat", CONTACT, "off_platform_contact.wechat", 0.9, 2, 6, "加我微信")
    bad = _prediction(
        ("clear", "clear", "clear", "violation", "review"),
        hits=(hit, hit),
        evidence=(Evidence(CONTACT, "contact.wechat", "", start, start + 4, "abc1"),),
        tags=("cold_tone",),
    )
    for _ in range(3):
        builder.add({"text": text, "agent_id": "店:小雨"}, bad, row=17)
    for _ in range(37):
        builder.add({"text": "好的", "agent_id": "店:小雨"}, _clear())
    builder.add({"text": text, "agent_id": "店:大刘"}, bad)
    builder.add({"text": "好的"}, _clear(truncated=True))
    builder.add({"text": "在吗"}, None, "客户消息")
    builder.add({"text": ""}, None, "空文本", error=True)
    return builder.build(seconds=2.0)


def test_summary_counts_every_row_once():
    result = make_summary()
    assert result.rows == result.scored + sum(result.skipped.values()) + result.errors == 44
    assert (result.scored, result.flagged, result.truncated) == (42, 4, 1)
    contact = result.labels[3]
    assert (contact.violations, contact.reviews) == (4, 0)
    assert contact.rules == (("contact.wechat", 4),)  # a rule counts once per line
    assert result.labels[4].reviews == 4
    assert [example.row for example in contact.examples] == [17]  # the same text only once


def test_summary_rate_needs_enough_lines():
    first, second = make_summary().agents
    assert (first.agent, first.scored, first.violations) == ("店:小雨", 40, 3)
    assert first.interval == pytest.approx((0.0258, 0.1986), abs=1e-3)
    assert second.interval is None


def test_summary_text_is_plain_chinese_without_identifiers():
    text = summary.to_text(make_summary(), LABELS)
    for words in (
        "疑似违规",
        "待复核",
        "未评分",
        "样本不足",
        "客户消息 1",
        "空文本 1",
        "态度冷漠 4",
    ):
        assert words in text
    assert "店:小雨：3 / 40 行，每 1,000 行 75.0（95 % 区间 25.8–198.6）" in text
    assert "13800138000" not in text
    assert "abc1" not in text
    assert "微信ab***(9)" in text
    assert "\x1b" not in text


def test_summary_in_english_and_of_nothing():
    assert "suspected" in summary.to_text(make_summary(), LABELS, "en")
    builder = summary.SummaryBuilder(LABELS, file="a.csv", model="m", engine="e")
    assert "共 0 行" in summary.to_text(builder.build(seconds=0.0), LABELS)


# --- masking -------------------------------------------------------------------------------------


def _digits(rng, n):
    return "".join(map(str, rng.integers(0, 10, n)))


def _id_card(rng):
    body = f"{rng.integers(110000, 659000)}{rng.integers(1950, 2010)}"
    body += f"{rng.integers(1, 13):02}{rng.integers(1, 29):02}{_digits(rng, 3)}"
    total = sum(int(d) * w for d, w in zip(body, _WIDTHS, strict=True))
    return body + _CHECKS[total % 11]


def _bank_card(rng):
    body = "622202" + _digits(rng, 12)
    return next(body + str(d) for d in range(10) if is_bank_card(body + str(d)))


def _account(rng):
    return "".join(rng.choice(list("abcdefghijkmnp"), 4)) + "_" + _digits(rng, 5)


def _mobile(rng):
    return f"1{rng.integers(3, 10)}{_digits(rng, 9)}"


def _address(rng):
    cities = ["浙江省杭州市西湖区", "广东省深圳市南山区", "天津市和平区", "北京市西城区"]
    road = f"{rng.choice(['文三', '人民', '建设'])}路{rng.integers(1, 999)}号"
    return f"{rng.choice(cities)}{road}{rng.integers(1, 30)}栋{rng.integers(101, 999)}室"


KINDS = {
    "mobile": (_mobile, "<手机>"),
    "spaced mobile": (lambda r: f"{(m := _mobile(r))[:3]} {m[3:7]} {m[7:]}", "<手机>"),
    "wide mobile": (
        lambda r: _mobile(r).translate({48 + i: 0xFF10 + i for i in range(10)}),
        "<手机>",
    ),
    "spelt mobile": (
        lambda r: _mobile(r).translate(
            dict(zip(range(48, 58), "零一二三四五六七八九", strict=True))
        ),
        "<手机>",
    ),
    "landline": (lambda r: f"0571-{r.integers(1, 9)}{_digits(r, 7)}", "<电话>"),
    "hotline": (lambda r: f"400-{_digits(r, 3)}-{_digits(r, 4)}", "<电话>"),
    "id card": (_id_card, "<证件>"),
    "bank card": (_bank_card, "<卡号>"),
    "order": (lambda r: f"2{_digits(r, 18)}", None),
    "pdd order": (lambda r: f"2{_digits(r, 5)}-{_digits(r, 15)}", "<订单>"),
    "courier": (lambda r: f"SF{_digits(r, 13)}", "<订单>"),
    "e-mail": (lambda r: f"{_account(r)}@163.com", "<邮箱>"),
    "link": (lambda r: f"https://{_account(r)[:4]}.example.com/p/{_digits(r, 6)}", "<链接>"),
    "short link": (lambda r: f"t.cn/{_account(r)[:4]}{_digits(r, 2)}", "<链接>"),
    "wechat": (lambda r: f"微信号:{_account(r)}", None),
    "vx": (lambda r: f"加vx {_account(r)}", None),
    "own wechat": (lambda r: f"{_account(r)}是我微信", None),
    "qq": (lambda r: f"QQ:{r.integers(1, 9)}{_digits(r, 8)}", None),
    "address": (_address, "<地址>"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_identifiers_of_each_kind_do_not_leak(kind):
    make, placeholder = KINDS[kind]
    rng = np.random.default_rng(11)
    for around in ("{}", "亲,{} 您记一下哈", "发到{}，谢谢"):
        for _ in range(20):
            found = make(rng)
            masked = mask(around.format(found))
            secret = re.sub(r"^(微信号:|加vx |QQ:)|是我微信$", "", found)
            assert not any(secret[i : i + 5] in masked for i in range(len(secret) - 4)), masked
            assert placeholder is None or placeholder in masked, masked


@pytest.mark.parametrize(
    "text",
    [
        "满199减20,拍2件打95折",
        "2026-11-10 19:31:08 下的单,48小时内发货",
        "新疆西藏等偏远地区乡镇不包邮",
        "广东省广州市仓库发货",
        "被套220*240那个,30*60的也有",
        "微信支付和支付宝都可以",
        "3号5号都可以",
        "开票加6个点,税率13%",
        "iPhone15ProMax 256G有现货",
    ],
)
def test_ordinary_lines_stay(text):
    assert mask(text) == text


def test_platform_links_keep_the_domain_and_only_they():
    assert mask("https://item.taobao.com/item.htm?id=123") == "<链接 taobao.com>"
    assert mask("看 detail.tmall.com/a?b=1 哈") == "看 <链接 tmall.com> 哈"
    assert mask("https://taobao.com.evil.cn/jd.com") == "<链接>"


def test_account_keeps_two_characters_and_its_length():
    assert mask("加微信 abc123456 哈") == "加微信 ab***(9) 哈"
    assert mask("QQ群12345678") == "QQ群12***(8)"


def test_checksums():
    assert is_id_card("11010519491231002X")
    assert not is_id_card("110105194912310021")
    assert not is_id_card("X" * 18)
    assert not is_bank_card("123")


def test_span_that_cuts_an_identifier_shows_none_of_it():
    text = "电话13800138000,微信abc123456"
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            shown = mask_span(text, start, end)
            assert "138" not in shown
            assert "c12" not in shown
    assert mask_span("好的亲", 0, 2) == "好的"


PIECES = st.one_of(
    st.sampled_from(
        (
            *("微信", "QQ", "v", "vx", "电话", "订单号", "是我", "转", "一三八", "零", "收件人:"),
            *("13800138000", "0571-88886666", "abc123456", "6222021234567890128", "https://"),
            *("taobao.com", "浙江省", "杭州市", "西湖区", "文三路", "10号", "3栋", "@", ".", "-"),
            *("<手机>", "ab***(9)", "<链接 ", ">", "***", " ", "(", ")", "张三"),
        )
    ),
    st.text(max_size=6),
    st.text("0123456789aX- ", max_size=20),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_masking_twice_changes_nothing(text):
    once = mask(text)
    assert mask(once) == once


@pytest.mark.parametrize("unit", ["1 ", "a.", "微信", "省市", "路", "一", "13800138000,", "a@"])
def test_masking_time_stays_linear(unit):
    text = unit * (20_000 // len(unit))
    started = time.perf_counter()
    mask(text)
    assert time.perf_counter() - started < 5


def test_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(pages.MissingExtraError, match=r"\.\[evaluate\]"):
        pages.to_html(REPORT, LABELS)
