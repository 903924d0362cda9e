"""Scorecards and service reports: one truth in every format, evidence, masking, commands."""

import dataclasses
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from openpyxl import load_workbook
from typer.testing import CliRunner

from cs_classifier import scored, tables
from cs_classifier.cli import scorecards
from cs_classifier.config import load_config
from cs_classifier.errors import CsClassifierError, DataError
from cs_classifier.labels import load_labels
from cs_classifier.performance import dialogues, scorecard
from cs_classifier.performance.penalties import ScoreRules
from cs_classifier.prediction import Output
from cs_classifier.reports import dispute
from cs_classifier.reports.masking import pseudonym
from cs_classifier.reports.output import pieces, write_book, write_text
from cs_classifier.reports.scorecard import Report
from cs_classifier.reviews import Review, Sampled
from cs_classifier.transcripts import ColumnMap

ROOT = Path(__file__).parent.parent
LABELS = load_labels()
RULES = load_config(ScoreRules, ROOT / "configs" / "scorecard.yaml")
CLEAR = {f"p_{label}": 0.01 for label in LABELS.ids}
LINES = [  # customer, agent's text, label, clause, evidence
    ("能开发票吗", "没有票的,<b>别问</b>了", "invoice_refusal", "outright_refuse", "没有票"),
    ("怎么联系", "加我微信abc12345,电话13800138000", "off_platform_contact", "contact_id",
     "微信abc"),
    ("你们这帮骗子,傻逼", "你有病吧", "abuse_harassment", "insult", "有病"),
    ("在吗", "=1+1,在的亲", "", "", ""),
    ("谢谢", "不好意思刚才说错了,可以开票的", "", "", ""),
]  # fmt: skip


def rows():
    found = []
    for number, (context, text, label, clause, part) in enumerate(LINES):
        start = text.find(part)
        evidence = {"label": label, "source": "a.rule", "clause": f"{label}.{clause}",
                    "start": start, "end": start + len(part), "text": part}  # fmt: skip
        found.append(
            {"id": f"k{number}", "conversation_id": "会话1", "timestamp": f"{20 + number}:00",
             "agent_id": "小雨", "shop": "店", "platform": "淘宝", "text": text, "context": context,
             "labels": [label] if label else [], "review": [], **CLEAR,
             "rules": ["invoice.refuse.answer"] if label else [], "tags": [],
             "evidence": [evidence] if label else [], "joined": False, "model": "m1", "error": ""}
        )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def scored_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("scored") / "s.jsonl"
    with tables.Writer(path, columns=list(rows()[0]), types=Output(LABELS.ids).types) as writer:
        writer.write(rows())
    return path


def result_of(path, **options):
    file = scored.read([path])
    reviews = [
        Review(Sampled(file.lines[0], "a", 1.0, file.lines[0].labels), "confirmed", None, "质检1"),
        Review(Sampled(file.lines[2], "a", 1.0, file.lines[2].labels), "confirmed", None, "质检1",
               "电话13800138000核实", "成立"),
    ]  # fmt: skip
    insult = "骗子".__eq__
    return scorecard.build(
        file, label_set=LABELS, rules=RULES, reviews=reviews, insult=insult, **options
    )


def report(path, *, language="zh", masked=True, **options):
    result = result_of(path, **options)
    return Report(result, label_set=LABELS, rules=RULES, language=language, masked=masked)


def test_all_formats_show_the_same_numbers(scored_file, tmp_path):
    made = report(scored_file)
    for suffix in ("html", "json", "xlsx"):
        made.write(tmp_path / f"card.{suffix}")
    page = (tmp_path / "card.html").read_text()
    data = json.loads((tmp_path / "card.json").read_text())
    book = load_workbook(tmp_path / "card.xlsx")
    (member,) = data["members"]
    assert (member["lines"], member["suspected"], member["confirmed"]) == (5, 3, 1)
    assert (member["verdict"], member["score"]) == ("fail", 70)
    shrunken = f"{1000 * member['shrunken']['value']:.1f} [{1000 * member['shrunken']['low']:.1f}, "
    assert shrunken in page
    head, row = book["汇总"].iter_rows(values_only=True)
    cells = dict(zip(head, row, strict=True))
    assert cells["收缩后疑似率（每千行）"] == pytest.approx(
        1000 * member["shrunken"]["value"], abs=1e-3
    )
    assert (cells["得分"], cells["人工确认行"]) == (70, 1)
    assert book["疑似违规"].max_row == 1 + len(data["hits"]) == 4
    assert len(re.findall(r'<article class="hit"', page)) == 3
    assert data["rules"] == RULES.identity
    assert RULES.identity in page


def test_a_number_about_a_person_comes_with_its_reservations(scored_file):
    page = report(scored_file).html()
    for text in (
        "疑似",
        "样本不足（少于 200 行）",
        "未经人工确认不得",
        "3/5 行",
        "申诉 1/2，改判 1",
    ):
        assert text in page
    assert "名次 " not in page.partition("<script>")[0].partition("说明")[0]
    english = report(scored_file, language="en").html()
    assert "suspected" in english.lower()
    assert not re.search("[\u4e00-\u9fff]", re.sub(r"<article.*?</article>|<td.*?</td>|<tr.*?>", "",
                                                     english, flags=re.DOTALL)
                         .replace("PingFang SC", "").replace("会话1", ""))  # fmt: skip


def test_evidence_is_marked_and_text_is_escaped(scored_file):
    page = report(scored_file).html()
    assert "<mark>没有票</mark>的,&lt;b&gt;别问&lt;/b&gt;了" in page
    assert "<b>别问" not in page


def test_the_page_needs_nothing_else(scored_file):
    page = report(scored_file).html()
    assert not re.search(r"(?:src|href)=|https?://|@import|url\(", page)


def test_identifiers_are_masked_unless_asked_for(scored_file, tmp_path):
    for masked in (True, False):
        made = report(scored_file, masked=masked)
        made.write(tmp_path / "a.xlsx")
        cells = [str(c) for sheet in load_workbook(tmp_path / "a.xlsx")
                 for row in sheet.iter_rows(values_only=True) for c in row]  # fmt: skip
        page, data = made.html(), json.dumps(made.json(), ensure_ascii=False)
        for text in (page, data, "\n".join(cells)):
            plain = re.sub("<[^>]*>", "", text) if text is page else text
            assert ("abc12345" in plain) is not masked
            assert ("13800138000" in plain) is not masked


PIECES = [
    ("加我微信abc12345哈", [(4, 7)], [("加我微信", False), ("ab***(8)", True), ("哈", False)]),
    ("nuanyang0823", [(0, 8)], [("nu***(12)", True)]),
    ("没有票的", [(0, 2), (1, 3)], [("没有", True), ("票的", False)]),
    ("好的", [(0, 2)], [("好的", True)]),
    ("好的", [(5, 9), (-1, 1), (1, 1)], [("好的", False)]),
    ("电话13800138000转", [(0, 13)], [("电话<手机>", True), ("转", False)]),
]


@pytest.mark.parametrize(("text", "spans", "expected"), PIECES)
def test_pieces_of_a_masked_line(text, spans, expected):
    assert pieces(text, spans, masked=True) == expected


def test_cells_are_never_formulas(tmp_path):
    texts = ["=1+1", "+86", "-a", "@x", "＝1", "普通", "\x07坏", "长" * 40_000]
    write_book(tmp_path / "a.xlsx", [("表", ["a"], [[text] for text in texts])])
    cells = [row[0] for row in load_workbook(tmp_path / "a.xlsx")["表"].iter_rows(min_row=2)]
    assert {cell.data_type for cell in cells} == {"s"}
    assert [cell.value for cell in cells[:7]] == [*texts[:6], "坏"]
    assert [bool(cell.quotePrefix) for cell in cells[:6]] == [True] * 5 + [False]


def test_a_bundle_holds_everything_about_one_line(scored_file):
    made = report(scored_file)
    lines = scored.read([scored_file]).lines
    spoken = [("20:00", "customer", "能开发票吗"), (lines[0].timestamp, "agent", lines[0].text),
              ("20:09", "system", "会话结束")]  # fmt: skip
    rules = {"invoice.refuse.answer": dispute.RuleText("invoice_refusal.outright_refuse", "天猫")}
    page = dispute.to_html(
        made, "k0", lines=lines, transcript=spoken, rules=rules,
        thresholds={"invoice_refusal": (0.05, 0.76)},
    )  # fmt: skip
    clause = LABELS.clauses["invoice_refusal.outright_refuse"]
    for text in ("拒开发票", "invoice_refusal.outright_refuse", clause.rule.replace('"', "&#34;"),
                 "<mark>没有票</mark>", "invoice.refuse.answer", "天猫", "0.7600", "m1", "质检1",
                 "会话结束", "已确认", RULES.identity):  # fmt: skip
        assert text in page
    assert page.count('class="turn') == 3
    assert page.count("turn here") == 1
    with pytest.raises(DataError, match="no hit has the key 'k9'"):
        dispute.to_html(made, "k9", lines=lines)


def test_a_bundle_without_transcript_shows_scored_lines_and_is_masked(scored_file):
    lines = scored.read([scored_file]).lines
    page = dispute.to_html(report(scored_file), "k2", lines=lines)
    plain = re.sub("<[^>]*>", "", page)
    for text in ("阈值未知", "仅显示已评分的消息", "申诉改判", "申诉成立"):
        assert text in plain
    assert page.count('class="turn') == 10
    assert "13800138000" not in plain
    assert "abc12345" not in plain


NICKNAME = "小美爱购物"


@pytest.fixture
def named_file(scored_file, tmp_path):
    """A file in which the conversation is the buyer's nickname, and keys hold identifiers."""
    path = tmp_path / "s.jsonl"
    kept = [{**row, "conversation_id": NICKNAME, "turn": i} for i, row in enumerate(rows())]
    for row in kept:
        del row["id"]
    kept[2]["id"] = "13800138000"
    with tables.Writer(path, columns=list(kept[2]), types=Output(LABELS.ids).types) as writer:
        writer.write(kept)
    return path


def test_conversations_and_keys_are_masked_and_keys_still_found(named_file, tmp_path):
    made, lines = report(named_file), scored.read([named_file]).lines
    made.write(tmp_path / "a.xlsx")
    book = [
        str(cell) for row in load_workbook(tmp_path / "a.xlsx")["疑似违规"].values for cell in row
    ]
    shown = [made.key(line) for line in lines[:3]]
    assert len(set(shown)) == 3
    for key, line in zip(shown, lines, strict=False):
        bundle = dispute.to_html(made, key, lines=lines)
        assert bundle == dispute.to_html(made, line.key, lines=lines)
        for text in (bundle, made.html(), json.dumps(made.json(), ensure_ascii=False), *book):
            assert NICKNAME not in text
            assert "13800138000" not in text
            assert key in text or text in book
    assert f"{NICKNAME}#0" in report(named_file, masked=False).html()


def test_a_key_of_two_lines_is_refused(named_file):
    made = report(named_file)
    first, second = (hit.line for hit in made.scorecard.hits[:2])
    clash = dataclasses.replace(
        made.scorecard.hits[1], line=dataclasses.replace(second, key=first.key)
    )
    hits = (made.scorecard.hits[0], clash)
    made.scorecard = dataclasses.replace(made.scorecard, hits=hits)
    with pytest.raises(DataError, match="2 lines have the key"):
        dispute.to_html(made, first.key, lines=())


def test_a_suggested_clause_has_a_question_mark(scored_file):
    made = report(scored_file)
    hit = dataclasses.replace(
        made.scorecard.hits[0], clause="", suggestion="invoice_refusal.outright_refuse"
    )
    name = LABELS.clauses[hit.suggestion].zh
    assert (made.clause(hit), made.clause(made.scorecard.hits[0])) == (f"{name}？", name)
    made.scorecard = dataclasses.replace(made.scorecard, hits=(hit,))
    assert f"{name}？" in made.html()
    assert "未点明条款的命中按该标签最轻的一档计" in made.html()


def test_a_line_that_is_not_found_or_found_twice_is_not_marked(scored_file):
    lines = scored.read([scored_file]).lines
    first, text = (lines[0].timestamp, "agent", lines[0].text), lines[0].text
    turns = [
        [("20:00", "customer", text)],  # the customer says the same
        [first, first],
        [("8:00", "agent", text), ("9:00", "agent", text)],
    ]
    for spoken in turns:
        page = dispute.to_html(report(scored_file), "k0", lines=lines, transcript=spoken)
        assert "未能在会话中唯一定位该行" in page
        assert page.count("turn here") == 0
    for spoken in ([first, ("8:00", "agent", text)], [("8:00", "agent", text)]):
        page = dispute.to_html(report(scored_file), "k0", lines=lines, transcript=spoken)
        assert "未能在会话中唯一定位该行" not in page
        assert page.count("turn here") == 1


def test_a_correction_to_a_label_that_the_model_lacks(scored_file, tmp_path):
    file = scored.read([scored_file])
    known = [i for i, label in enumerate(file.label_ids) if label != "counterfeit_hint"]
    lines = tuple(
        replace(line, probabilities=tuple(line.probabilities[i] for i in known))
        for line in file.lines
    )
    file = replace(file, label_ids=tuple(file.label_ids[i] for i in known), lines=lines)
    sampled = Sampled(lines[3], "a", 1.0, lines[3].labels)
    reviews = [Review(sampled, "rejected", ("counterfeit_hint",), "质检1")]
    result = scorecard.build(file, label_set=LABELS, rules=RULES, reviews=reviews)
    made = Report(result, label_set=LABELS, rules=RULES)
    (hit,) = (hit for hit in made.json()["hits"] if hit["label"] == "counterfeit_hint")
    assert hit["probability"] is None
    made.write(tmp_path / "a.xlsx")
    assert "概率 –" in made.html()
    assert "概率 –" in dispute.to_html(made, "k3", lines=lines)


def test_half_a_character_does_not_stop_a_report(tmp_path):
    write_text(tmp_path / "a.html", "好\ud83d")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == "好?"


def test_blanks_around_ids_do_not_part_a_conversation():
    rows = [tables.Row(1, {"conversation_id": 0, "role": "客服", "text": "在的"})]
    assert dialogues.said(rows, "0 ", columns=ColumnMap()) == [("", "agent", "在的")]


# Commands

app = typer.Typer()
app.command("scorecard")(scorecards.scorecard)
app.command("service")(scorecards.service)


def run(*arguments, expect=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, CsClassifierError):
        raise result.exception
    assert result.exit_code == expect, result.output
    return result.output


def test_the_command_writes_what_the_library_makes(scored_file, tmp_path):
    made = Report(
        scorecard.build(scored.read([scored_file]), label_set=LABELS, rules=RULES,
                        insult=lambda text: "傻逼" in text),
        label_set=LABELS, rules=RULES,
    )  # fmt: skip
    made.write(tmp_path / "library.json")
    printed = run("scorecard", scored_file, "-o", tmp_path / "command.json")
    assert (tmp_path / "command.json").read_text() == (tmp_path / "library.json").read_text()
    assert "1 cards, 3 hits" in printed
    hits = json.loads((tmp_path / "command.json").read_text())["hits"]
    assert [(h["provoked"], h["taken_back"]) for h in hits] == [
        (False, True), (False, True), (True, True),
    ]  # fmt: skip


def test_the_command_corrects_with_measured_errors(scored_file, tmp_path):
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    labels = [{"label": name, "precision_violation": estimate, "recall_violation": estimate}
              for name in LABELS.ids]  # fmt: skip
    path = tmp_path / "estimate.json"
    path.write_text(json.dumps({"labels": labels}), encoding="utf-8-sig")
    run("scorecard", scored_file, "--measured", path, "-o", tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    assert data["uncorrected_labels"] == []
    assert data["members"][0]["corrected"]["low"] > 0
    path.write_text("[")
    with pytest.raises(DataError, match="not valid JSON"):
        run("scorecard", scored_file, "--measured", path, "-o", tmp_path / "a.json")


def test_a_bundle_from_the_command(scored_file, tmp_path):
    transcript = tmp_path / "t.csv"
    with tables.Writer(transcript, columns=["conversation_id", "timestamp", "role", "text"]) as out:
        out.write(
            [
                {"conversation_id": "会话1", "timestamp": "20:00", "role": "客户", "text": "在？"},
                {"conversation_id": "别的", "timestamp": "20:00", "role": "客户", "text": "无关"},
            ]
        )
    page = tmp_path / "bundle.html"
    run("scorecard", scored_file, "--dispute", "k0", "--transcript", transcript, "-o", page)
    assert "在？" in page.read_text()
    assert "无关" not in page.read_text()
    run("scorecard", scored_file, "--dispute", "k0", "-o", tmp_path / "a.xlsx", expect=2)
    assert "not masked" in run("scorecard", scored_file, "--no-mask", "-o", page)


@pytest.mark.parametrize("suffix", ["json", "xlsx", "html"])
def test_service_command(tmp_path, suffix):
    sample = ROOT / "data" / "samples" / "transcripts.csv"
    printed = run("service", sample, "-o", tmp_path / f"a.{suffix}")
    assert "60 conversations" in printed
    assert (tmp_path / f"a.{suffix}").stat().st_size > 1000


def test_service_json_is_what_the_night_report_reads(tmp_path):
    sample = ROOT / "data" / "samples" / "transcripts.csv"
    run("service", sample, "-o", tmp_path / "a.json", "--language", "en")
    data = json.loads((tmp_path / "a.json").read_text())
    assert [key for key, value in data.items() if isinstance(value, list)] == ["checks"]
    for check in data["checks"]:
        wanted = {
            "name",
            "platform",
            "shop",
            "numerator",
            "denominator",
            "rate",
            "threshold",
            "met",
        }
        assert wanted <= check.keys()
    pdd = next(check for check in data["checks"] if check["check"] == "pdd_effective_reply")
    assert (pdd["platform"], pdd["denominator"], pdd["met"]) == ("拼多多", 11, None)


@pytest.mark.parametrize("suffix", ["json", "xlsx", "html"])
def test_conversations_are_named_by_a_hash(tmp_path, suffix):
    transcript, output = tmp_path / "t.csv", tmp_path / f"a.{suffix}"
    cell = {"conversation_id": NICKNAME, "timestamp": "2026-11-10 10:00:00", "role": "客户",
            "text": "在吗", "shop": "店", "platform": "拼多多"}  # fmt: skip
    with tables.Writer(transcript, columns=list(cell)) as out:
        out.write([cell, {**cell, "conversation_id": "别的", "timestamp": "2026-11-12 10:00:00"}])
    run("service", transcript, "-o", output)
    book = load_workbook(output) if suffix == "xlsx" else ()
    cells = [str(cell) for sheet in book for row in sheet.values for cell in row]
    text = "\n".join(cells) or output.read_text(encoding="utf-8")
    assert NICKNAME not in text
    assert pseudonym(NICKNAME) in text


def test_service_workbook_and_page_say_the_formulas_in_words(tmp_path):
    sample = ROOT / "data" / "samples" / "transcripts.csv"
    run("service", sample, "-o", tmp_path / "a.xlsx")
    book = load_workbook(tmp_path / "a.xlsx")
    assert book.sheetnames == ["服务指标检查", "公式", "运行信息"]
    assert "5 分钟内得到回复的买家轮次" in book["公式"].cell(2, 4).value
    run("service", sample, "-o", tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "5 分钟内得到回复的买家轮次" in page
    assert not re.search(r"(?:src|href)=|https?://|@import|url\(", page)


def test_bad_input_is_explained(tmp_path, scored_file):
    plain = tmp_path / "t.csv"
    plain.write_text("text\n在吗\n")
    with pytest.raises(DataError, match="--columns role=NAME"):
        run("service", plain, "-o", tmp_path / "a.json")
    with pytest.raises(DataError, match="predict"):
        run("scorecard", plain, "-o", tmp_path / "a.json")
    with pytest.raises(DataError, match="service checks are written as"):
        run("service", ROOT / "data/samples/transcripts.csv", "-o", tmp_path / "a.txt")
    run("scorecard", scored_file, "-o", tmp_path / "a.txt", expect=2)
