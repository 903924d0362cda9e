import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs_classifier.calibration import Calibrator, LabelCalibration
from cs_classifier.config import DecisionConfig
from cs_classifier.decision import Decision, LabelThresholds
from cs_classifier.evidence import (
    LIMIT,
    MODEL,
    PART,
    PARTIAL,
    PIECE,
    ROUNDS,
    Suspicion,
    explain,
    is_blank,
    merge,
    pieces,
)
from cs_classifier.labels import load_labels
from cs_classifier.normalize import default_normalizer, normalize
from cs_classifier.pipeline import Pipeline
from cs_classifier.records import Message, RuleHit
from cs_classifier.rules import load_rules

THRESHOLD = 0.5


def suspicion(text, hits=(), threshold=THRESHOLD):
    return Suspicion(
        message=Message(text, "在吗"),
        text=normalize(text),
        label="label",
        column=0,
        threshold=threshold,
        hits=tuple(hits),
        clause="label.clause",
    )


def hit(text, word):
    start = text.index(word)
    return RuleHit("a.rule", "label", "label.ruled", 0.8, start, start + len(word), word)


class Words:
    """Suspects a line the more, the more of the words stand in it, however they are spelt."""

    def __init__(self, *words):
        self.words, self.calls = words, 0

    def __call__(self, messages):
        self.calls += 1
        assert messages
        assert not any(is_blank(m.text) for m in messages)
        texts = [normalize(m.text).text for m in messages]
        counts = [sum(word in text for word in self.words) for text in texts]
        return 1 - 0.9 ** (1 + 9 * np.array(counts)[:, None])


def rest(text, evidence):
    kept = [
        char
        for at, char in enumerate(text)
        if not any(item.start <= at < item.end for item in evidence)
    ]
    return "".join(kept)


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("您好呀,加微信吧,今天就发", ["微信"], ["加微信吧"]),
        ("没有票", ["票"], ["没有票"]),  # nothing is left: the whole of a short line
        ("🖕", ["🖕"], ["🖕"]),
        ("亲 🖕 今天就发", ["🖕"], ["🖕"]),
        ("您好呀,加微信吧,今天就发 刷个支付宝", ["微信", "支付"], ["加微信吧", "刷个支付宝"]),
        ("可以的,加v❤️ab12345,今天发", ["微信"], ["加v❤️ab12345"]),
        ("可以的,【加】【微】【信】,今天发", ["微信"], ["【加】【微】【信】"]),
        (
            "麻煩您加一下我的\u200b微\u200b信號碼好不好呀親",
            ["微信"],
            ["加一下我的\u200b微\u200b信號"],
        ),
        ("号码是guangchu_pei_0617记得备注一下是老顾客", ["chu"], ["号码是guangchu_pei_0617"]),
    ],
)
def test_the_piece_that_matters_is_shown_as_it_is_spelt(text, words, expected):
    found = explain([suspicion(text)], Words(*words))[0]
    assert [item.text for item in found] == expected
    assert {(item.source, item.clause) for item in found} == {(MODEL, "label.clause")}


def test_the_rules_spans_are_enough_where_they_pass():
    text = "您好呀,加微信吧,今天就发"
    found = explain([suspicion(text, [hit(text, "加微信")])], Words("微信"))[0]
    assert [(item.source, item.text) for item in found] == [("a.rule", "加微信")]


def test_the_rules_spans_are_completed_where_they_do_not():
    text = "您好呀,加微信吧,今天就发 刷个支付宝"
    found = explain([suspicion(text, [hit(text, "加微信")])], Words("微信", "支付"))[0]
    assert [(item.source, item.text) for item in found] == [
        ("a.rule", "加微信"),
        (MODEL, "刷个支付宝"),
    ]


def test_what_does_not_pass_says_so_and_stays_short():
    text = "一二三四五六七,八九十甲乙丙丁,戊己庚辛壬癸,子丑寅卯辰巳午未申酉戌亥"
    found = explain([suspicion(text)], lambda messages: np.full((len(messages), 1), 0.9))[0]
    assert {item.source for item in found} == {PARTIAL}
    assert sum(len(item.text) for item in found) <= max(LIMIT, len(text) / 2)


@pytest.mark.parametrize("words", [["微信"], ["微信", "支付"]])
def test_every_suspicious_place_of_a_long_line_is_shown(words):
    filler = "今天给您安排发货的哈,"
    text = "".join(filler * 30 + f"请{word}联系," for word in words) + filler * 30
    found = explain([suspicion(text)], Words(*words))[0]
    assert [item.text for item in found] == [f"请{word}联系" for word in words]


def test_a_very_long_line_costs_a_bounded_number_of_calls():
    encoder = Words("微信")
    found = explain([suspicion("加微信吧 好的呀亲" * 10_000)], encoder)[0]
    assert found
    assert encoder.calls <= ROUNDS + 1


ALPHABET = "加微信票您好的 ,。!❤️v1aA【】\u200b繁體🖕"
TEXTS = st.text(ALPHABET, min_size=1, max_size=3 * PART).filter(lambda t: not is_blank(t))


@settings(deadline=None, max_examples=50)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.lists(st.sampled_from("微票v1❤您"), max_size=3))
def test_laws(texts, words):
    suspicions = [suspicion(text) for text in texts]
    together = explain(suspicions, Words(*words))
    assert together == [explain([s], Words(*words))[0] for s in suspicions]
    for s, found in zip(suspicions, together, strict=True):
        text = s.message.text
        spans = [(item.start, item.end) for item in found]
        assert found
        assert merge(spans) == tuple(spans)
        assert all(0 <= start < end <= len(text) for start, end in spans)
        assert all(item.text == text[item.start : item.end] for item in found)
        left = rest(text, found)
        passes = is_blank(left) or Words(*words)([Message(left)])[0, 0] < s.threshold
        # Each part of a long line passes by itself; together they need not.
        assert passes or found[0].source == PARTIAL or len(text) > PART


@settings(deadline=None)
@given(TEXTS)
def test_pieces_cover_every_word(text):
    line = normalize(text)
    covered = merge(pieces(line))
    for at, char in enumerate(line.text):
        start, end = line.original_span(at, at + 1)
        assert not char.isalnum() or any(a <= start and end <= b for a, b in covered)


@pytest.mark.parametrize("length", [1, PIECE, PIECE + 1, 30, 61, PART])
def test_pieces_of_one_clause_are_short_and_few(length):
    text = "".join(chr(0x4E00 + i) for i in range(length))
    found = pieces(normalize(text))
    assert max(end - start for start, end in found) <= max(PIECE + 2, PART // PIECE)
    assert len(found) <= 2 * PIECE


def test_nothing_suspected_nothing_asked():
    encoder = Words("微信")
    assert explain([], encoder) == []
    assert encoder.calls == 0


def test_equal_lines_are_explained_once():
    encoder, line = Words("微信"), suspicion("您好呀,加微信吧,今天就发")
    first, second = explain([line, line], encoder)
    assert first == second
    assert encoder.calls <= ROUNDS


class Encoder:
    """Finds the last label in every line that sends the customer to the shop or the phone."""

    name = "hand-made"

    def logits(self, pairs):
        found = [any(word in text for word in ("门店", "电话")) for _, text in pairs]
        logits = np.full((len(pairs), 5), -9.0)
        logits[:, -1] = np.where(found, 4.0, -4.0)
        return logits


@pytest.fixture(scope="module")
def pipeline():
    labels = load_labels()
    calibration = LabelCalibration(slope=1, rule=2, offset=0, positives=1, lines=2)
    thresholds = LabelThresholds(review=0.5, violation=0.9)
    return Pipeline(
        label_set=labels,
        rules=load_rules(),
        normalizer=default_normalizer(),
        encoder=Encoder(),
        calibrator=Calibrator(labels=(calibration,) * len(labels), prevalence=0.01),
        decision=Decision(labels=(thresholds,) * len(labels), config=DecisionConfig()),
        model_id="hand-made",
    )


LONG = "今天给您安排发货的哈," * 30
LINES = [
    "您好呀,來門店看看吧,今天就发",
    "都是高仿的,您来门店看看吧,今天就发",  # a rule's span, and not enough
    f"{LONG}您来门店看看吧 {LONG}",
    f"{LONG}您来门店看看吧 {LONG}或者打个电话问问,{LONG}",
    "您好呀,今天就发",
]


def test_evidence_of_the_pipeline_passes_the_test_of_the_pipeline(pipeline):
    messages = [Message(line) for line in LINES]
    found = pipeline.predict(messages)
    assert found == [pipeline.predict([message])[0] for message in messages]
    assert [prediction.outcomes[-1] == "violation" for prediction in found] == [True] * 4 + [False]
    for line, prediction in zip(LINES[:4], found, strict=False):
        left = rest(line, prediction.evidence)
        assert pipeline.predict([Message(left)])[0].outcomes[-1] == "clear"
        assert prediction.evidence[-1].source == MODEL
        assert len(line) - len(left) <= 2 * PIECE
    assert "counterfeit" in found[1].evidence[0].source
    assert found[4].evidence == ()
