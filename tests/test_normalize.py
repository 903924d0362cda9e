"""Hidden spellings become plain, ordinary words stay, and every character knows its origin."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from cs_classifier import resources
from cs_classifier.errors import ConfigError
from cs_classifier.normalize import Normalizer, apply_steps, normalize

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "cases/normalize.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
LEXICON = yaml.safe_load(resources.find("configs/lexicon.yaml").read_text(encoding="utf-8"))


def params(cases):
    """Known failures are strict: one that starts to pass must move to another kind."""
    return [
        pytest.param(
            case,
            id=case["original"],
            marks=[pytest.mark.xfail(strict=True, reason=case["comment"])]
            if case["kind"] == "known_failure"
            else [],
        )
        for case in cases
    ]


# Cases.


@pytest.mark.parametrize("case", params(CASES))
def test_case(case):
    assert normalize(case["original"]).text == case["expected"]


def test_cases_are_distinct_and_of_every_kind():
    assert len({case["original"] for case in CASES}) == len(CASES)
    kinds = [case["kind"] for case in CASES]
    assert set(kinds) == {"evasion", "trap", "known_failure"}
    assert kinds.count("evasion") >= 70
    assert kinds.count("trap") >= 60


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c["kind"] == "trap"],
    ids=lambda c: c["original"],
)
def test_a_trap_stays_in_the_middle_of_a_line(case):
    around = "在的亲，{}，您放心"
    expected = around.replace("，", ",").format(case["expected"])
    assert normalize(around.format(case["original"])).text == expected


# Laws.

PIECES = st.sampled_from(
    [
        *(
            word
            for entry in LEXICON["lexemes"]
            if not entry.get("regex")
            for word in entry["surfaces"]
        ),
        *LEXICON["split"],
        *(entry[1:] for entry in LEXICON["components"][::50]),
        *(case["original"] for case in CASES),
        *"加我您号发给留的裙群❤✘🐎🐶🧧🐟、，。！？～：·-_/` \n",
        *"請發票轉帳號碼臺灣乾隆徵信裡麵後頭髮",
        *"一二三零幺壹贰０１２３⑴①Ⅷ㎏½",
        *"\u200b\u200d\u2060\ufeff\ufe0f\u202e\u0336\u20e3\u0301\u00ad",
        *"vVxXqQwW+＋➕ⓥ🅥𝐖ｖａé",
        "1️⃣",
        "👨‍👩‍👧",
        "138 0013 8000",
        "100-20-3",
    ]
)
CHARACTERS = st.one_of(
    st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF),
    st.characters(min_codepoint=0x20, max_codepoint=0x7E),
    st.characters(exclude_categories=["Cs"]),
)
LINES = st.one_of(
    st.lists(PIECES, max_size=12).map("".join),
    st.lists(st.one_of(PIECES, CHARACTERS), max_size=20).map("".join),
    st.text(CHARACTERS, max_size=40),
)


@given(LINES)
@example("")
@example("\u200b")
@example("加 v-x❤，一 三 八 零 零 一 三 八 零 零 零")
def test_normalising_twice_changes_nothing(line):
    once = normalize(line).text
    assert normalize(once).text == once


@given(LINES)
@example("加 v-x❤️")
def test_replaying_the_steps_gives_the_same_value(line):
    result = normalize(line)
    assert apply_steps(line, result.steps) == result
    assert result.original == line


@given(LINES)
@example("發票➕V❤️1️⃣")
def test_every_character_comes_from_a_span_of_the_original(line):
    result = normalize(line)
    assert len(result.text) == len(result.starts) == len(result.ends)
    for start, end in zip(result.starts, result.ends, strict=True):
        assert 0 <= start < end <= len(line)
    assert list(result.starts) == sorted(result.starts)
    assert list(result.ends) == sorted(result.ends)
    for i in range(len(result.text)):
        assert result.original_span(i, i + 1) == (result.starts[i], result.ends[i])


@given(st.text("亲您好在的请问尺码多大今天能发货吗收到,.? abc0"))
@example("在的亲,M码有现货")
def test_what_is_plain_maps_to_itself(line):
    result = normalize(line)
    assert result.text == line
    assert result.steps == ()
    assert result.starts == tuple(range(len(line)))
    assert result.ends == tuple(range(1, len(line) + 1))


@given(st.text("亲您好在的请问尺码多大今天能发货"), st.text("您好在的请问尺码多大今天能发货"))
def test_characters_around_a_spelling_map_to_themselves(before, after):
    spelling = "微-信"
    line = f"{before}。{spelling}。{after}"
    result = normalize(line)
    assert result.text == f"{before}。微信。{after}"
    at = len(before) + 1
    assert result.original_span(at, at + 2) == (at, at + len(spelling))
    assert all(result.starts[i] == i for i in range(at))
    assert all(result.starts[i] == i + 1 for i in range(at + 2, len(result.text)))


# Spans and steps.


@pytest.mark.parametrize(
    ("line", "plain", "evasive"),
    [
        ("亲您薇❤️同号的", "微信", "薇❤️"),
        ("想看图v x联系", "微信", "v x"),
        ("麻烦加微\u200b信聊", "微信", "微\u200b信"),
        ("他家fa票没有", "发票", "fa票"),
        ("不开發票的亲", "发票", "發票"),
        ("直接打138 0013 8000吧", "13800138000", "138 0013 8000"),
        ("打1️⃣3️⃣8️⃣00138000", "13800138000", "1️⃣3️⃣8️⃣00138000"),
        ("𝐖𝐗同号", "微信", "𝐖𝐗"),
        ("v̶x̶联系", "微信", "v̶x̶"),
        ("这款是高 仿的", "高仿", "高 仿"),
        ("这个🐶东西坏了", "狗东西", "🐶东西"),
        ("去某宝买", "淘宝", "某宝"),
        ("把您扣扣给我", "QQ", "扣扣"),
    ],
)
def test_a_span_covers_exactly_the_spelling(line, plain, evasive):
    result = normalize(line)
    start = result.text.index(plain)
    first, last = result.original_span(start, start + len(plain))
    # A mark that follows the last character is part of the spelling for the reader only.
    assert line[first:last].rstrip("\u0336\u20e3\ufe0f") == evasive.rstrip("\u0336\u20e3\ufe0f")


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("加薇\u2060信", ["invisible", "lexicon"]),
        ("🅥信聊", ["enclosed", "lexicon"]),
        ("ｖ信聊", ["nfkc", "lexicon"]),
        ("沒有", ["traditional"]),
        ("微-信聊", ["joined"]),
        ("壹叁捌零零壹叁捌零零零", ["digits"]),
        ("在的亲", []),
    ],
)
def test_steps_say_what_was_done(line, names):
    assert [step.name for step in normalize(line).steps] == names


def test_a_lexicon_step_says_where_the_spelling_is_known_from():
    origins = {
        line: [step.origin for step in normalize(line).steps if step.name == "lexicon"]
        for line in ("薇信同号", "支付堡付款", "直接zz就行")
    }
    assert origins == {
        "薇信同号": ["seen"],
        "支付堡付款": ["generated"],
        "直接zz就行": ["noted"],
    }


def test_time_grows_with_length_only():
    piece = "加 微 信 一三八零零一三八零零零 發票 v❤ 🐶东西 "
    line = (piece * (100_000 // len(piece) + 1))[:100_000]
    result = normalize(line)
    assert result.text.count("狗东西") > 1000
    for line in ("加 " * 50_000, "v" * 100_000, "一 " * 50_000, "\u0301" * 100_000):
        assert normalize(line).original == line


# The lexicon file.


def test_every_lexeme_says_where_it_is_known_from():
    assert all(entry["origin"] in {"seen", "noted", "generated"} for entry in LEXICON["lexemes"])


def test_every_innocent_word_contains_a_surface_and_stays():
    """An ``unless`` word that no surface touches would be a slip of the pen."""
    for entry in LEXICON["lexemes"]:
        for word in entry.get("unless", ()):
            chars = set("".join(entry["surfaces"]).lower())
            assert chars & set(word.lower()), (entry["to"], word)


GOOD = {
    "separators": " .-",
    "split": ["微信"],
    "lexemes": [{"to": "微信", "origin": "seen", "surfaces": ["薇信"], "unless": ["薇信子"]}],
}


def lexicon(tmp_path, content):
    path = tmp_path / "lexicon.yaml"
    text = content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_small_lexicon(tmp_path):
    small = Normalizer(lexicon(tmp_path, GOOD))
    assert small("加薇信，微.信，薇信子").text == "加微信,微信,薇信子"
    assert small("扣扣号").text == "扣扣号"


def changed(**change):
    return GOOD | {"lexemes": [GOOD["lexemes"][0] | change]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("lexemes: [", "lexicon.yaml"),
        ("just text", "lexicon.yaml"),
        ({"separators": " ", "split": []}, "lexemes"),
        (GOOD | {"extra": 1}, "extra"),
        (changed(origin="heard"), "origin"),
        (changed(colour="red"), "colour"),
        ({**GOOD, "lexemes": [{"to": "微信", "surfaces": ["薇信"]}]}, "origin"),
        (changed(regex=True, surfaces=["(?=薇)信"]), "RE2"),
        (changed(when=["({s}"]), "RE2"),
        (GOOD | {"separators": "z-a"}, "RE2"),
    ],
)
def test_a_bad_lexicon_is_an_error_that_names_the_file(tmp_path, content, words):
    with pytest.raises(ConfigError, match=r"lexicon\.yaml") as error:
        Normalizer(lexicon(tmp_path, content))
    assert words in str(error.value)


def test_a_missing_lexicon(tmp_path):
    with pytest.raises(ConfigError, match="nowhere"):
        Normalizer(tmp_path / "nowhere.yaml")
