"""Agreement against examples worked out by hand, and what is said where nothing can be."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs_classifier.labeling.agreement import agreement, alpha, kappa, positive
from cs_classifier.labeling.store import Event
from cs_classifier.labeling.words import agreement_text
from cs_classifier.labels import load_labels
from cs_classifier.records import Message

LABELS = load_labels()
FIRST, SECOND = LABELS.ids[:2]


def votes(columns, label=FIRST, **fields):
    """One event per answer: ``columns`` maps an annotator to "1", "0", "?" or " " for each line."""
    return [
        Event(
            message=Message(f"第{i}句"),
            new={"1": (label,), "0": (), "?": None}[answer],
            who=who,
            when="2026-11-10T10:00:00+00:00",
            source=fields.get("source", "review"),
            group=fields.get("group", f"g{i}"),
        )
        for who, answers in columns.items()
        for i, answer in enumerate(answers)
        if answer != " "
    ]


def report(events, **options):
    options = {"rng": np.random.default_rng(0), "resamples": 200, **options}
    return agreement(events, label_ids=LABELS.ids, **options)


def test_alpha_of_two_observers_without_gaps():
    # Krippendorff 2011, section A (binary data, two observers): the published alpha is 0.095.
    found = report(votes({"a": "0100000000", "b": "1110010010"}))
    first = found.labels[0]
    assert first.alpha.value == pytest.approx(0.095, abs=5e-4)
    assert first.counts.model_dump() == {"both": 1, "first": 0, "second": 4, "neither": 5}
    # By hand: observed 0.6, expected (1*5 + 9*5)/100 = 0.5.
    assert found.pairs[0].kappa.value == pytest.approx((0.6 - 0.5) / 0.5)
    assert found.pairs[0].positive.value == pytest.approx(2 / 6)


def test_alpha_with_gaps_and_three_annotators():
    # By hand. Lines with at least two answers: 11, 10, 111, 00, 100; the last line has one only.
    # ones 2+1+3+0+1 = 7, zeros 0+1+0+2+2 = 5; mixed 1*1/1 + 1*2/2 = 2.
    # alpha = 1 - 11 * 2 / (7 * 5)
    found = report(votes({"甲": "111 11", "乙": "10100 ", "丙": "  100?"}))
    assert found.labels[0].alpha.value == pytest.approx(1 - 22 / 35)
    assert (found.lines, found.overlap) == (6, 5)
    assert [(a.answered, a.doubtful) for a in found.annotators] == [(3, 1), (5, 0), (5, 0)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["00", "01", "10", "11"]), min_size=1, max_size=12))
def test_coefficients_follow_their_definitions(answers):
    both, first, second, neither = (
        np.float64(answers.count(x)) for x in ("11", "10", "01", "00"))  # fmt: skip
    n = len(answers)
    k = float(kappa(both, first, second, neither))
    assert np.isnan(k) or -1 <= k <= 1 + 1e-12
    assert np.allclose(k, kappa(both, second, first, neither), equal_nan=True)
    ones = 2 * both + first + second
    a = float(alpha(first + second, ones, 2 * n - ones))
    assert np.isnan(a) == (ones in (0, 2 * n))
    if not np.isnan(a):  # observed against expected disagreement, from the coincidence matrix
        observed = (first + second) / n
        expected = 2 * ones * (2 * n - ones) / (2 * n * (2 * n - 1))
        assert a == pytest.approx(1 - observed / expected)
    p = float(positive(both, first, second, neither))
    assert np.isnan(p) == (ones == 0)


def test_intervals_draw_whole_groups():
    columns = {"甲": "10" * 30, "乙": "10" * 24 + "01" * 6}
    loose = report(votes(columns)).labels[0].alpha
    events = votes(columns)
    # The same answers in few groups: less is known.
    tied = [replace(event, group=f"g{i % 60 // 12}") for i, event in enumerate(events)]
    wide = report(tied).labels[0].alpha
    assert loose.value == wide.value
    assert loose.low < loose.value < loose.high < 1
    assert wide.high - wide.low > loose.high - loose.low


UNDEFINED = [
    ("no_overlap", votes({"甲": "10  ", "乙": "  10"})),
    ("one_value", votes({"甲": "0000", "乙": "0000"})),
    ("one_group", votes({"甲": "1010", "乙": "1000"}, group="g")),
    ("unstable", votes({"甲": "1000", "乙": "1000"})),
    # All resamples agree perfectly, and yet nobody knows what the next line brings.
    ("unstable", votes({"甲": "10" * 20, "乙": "10" * 20})),
]


@pytest.mark.parametrize(("reason", "events"), UNDEFINED)
def test_what_is_not_defined_is_not_a_number(reason, events):
    found = report(events).labels[0]
    for coefficient in (found.alpha, found.positive):
        assert coefficient.reason == reason
        assert (coefficient.low, coefficient.high) == (None, None)
        assert (coefficient.value is None) == (reason in {"no_overlap", "one_value"})
    text = agreement_text(report(events), LABELS)
    assert "nan" not in text.casefold()


def test_nothing_at_all():
    found = report([])
    assert (found.lines, found.pairs, found.labels[0].alpha.value) == (0, (), None)
    assert agreement_text(found, LABELS, language="en").startswith("# Agreement")


def test_annotators_against_the_rulings():
    events = [
        *votes({"甲": "1101", "乙": "1001"}),
        *votes({"组长": "10 ?"}, source="adjudication"),
        *votes({"客服": "   1"}, source="appeal"),
    ]
    found = report(events)
    assert (found.adjudicated, found.disputed) == (2, 0)
    cells = {c.annotator: c.counts.model_dump() for c in found.confusions if c.label == FIRST}
    assert cells == {
        "甲": {"both": 1, "first": 1, "second": 0, "neither": 0},
        "乙": {"both": 1, "first": 0, "second": 0, "neither": 1},
    }
    assert "组长" not in {a.name for a in found.annotators}
    text = agreement_text(found, LABELS)
    assert "各人与裁定结果对照" in text
    assert "1/1/0/0" in text


def test_the_same_seed_gives_the_same_report():
    events = votes({"甲": "1010110", "乙": "1010010"})
    assert report(events) == report(events)
