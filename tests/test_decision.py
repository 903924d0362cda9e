"""Thresholds: what lies at them, and what they hold on the lines they were chosen on."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import beta

from cs_classifier.config import DecisionConfig
from cs_classifier.decision import (
    Decision,
    LabelThresholds,
    _hits_needed,
    _lowest_proven,
    choose,
    lower_bound,
    to_levels,
)

CONFIG = DecisionConfig()
HAND = Decision(
    labels=(LabelThresholds(review=0.2, violation=0.8), LabelThresholds(review=0.5, violation=0.5)),
    config=CONFIG,
)


def choose_one(p, gold, natural=None, **targets):
    """Thresholds of one label."""
    p, gold = np.asarray(p, dtype=float), np.asarray(gold, dtype=float)
    natural = np.ones(len(p), dtype=bool) if natural is None else np.asarray(natural, dtype=bool)
    config = DecisionConfig(**targets)
    return choose(p[:, None], gold[:, None], config, natural=natural)


@st.composite
def calibration_sets(draw):
    """Probabilities with ties, gold and natural of one label."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 80))
    gold = rng.random(n) < draw(st.sampled_from([0.02, 0.2, 0.7]))
    z = rng.normal(draw(st.floats(-3, 12)) * gold - 4, draw(st.sampled_from([0.5, 2.0, 12.0])))
    p = 1 / (1 + np.exp(-z))
    places = draw(st.sampled_from([1, 2, 17]))
    return np.round(p, places), gold, rng.random(n) < draw(st.sampled_from([0.0, 0.5, 1.0]))


def test_a_probability_at_its_threshold_has_reached_it():
    p = [[0.2, 0.5], [0.19, 0.49], [0.8, 0.51], [0.79, 0.0], [1.0, 1.0]]
    assert HAND.levels(p).tolist() == [[1, 2], [0, 0], [2, 2], [1, 0], [2, 2]]
    assert HAND.outcomes(p[:3]) == [
        ("review", "violation"),
        ("clear", "clear"),
        ("violation", "violation"),
    ]


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=8, max_size=8),
)
def test_a_strong_rule_is_always_seen_and_never_decides(p, strengths):
    strengths = np.array(strengths[: len(p)])
    alone, ruled = HAND.levels(p), HAND.levels(p, strengths)
    strong = strengths >= HAND.config.review_strength
    assert (ruled[strong] > 0).all()
    assert ((ruled == 2) == (alone == 2)).all()
    assert (ruled == alone)[~strong].all()
    assert to_levels(HAND.outcomes(p, strengths)).tolist() == ruled.tolist()


def test_no_rows_no_outcomes():
    assert HAND.outcomes(np.zeros((0, 2))) == []


def test_review_may_not_lie_above_violation():
    assert LabelThresholds(review=0.5, violation=0.5).review == 0.5
    with pytest.raises(ValidationError, match=r"review threshold 0\.6 lies above .* 0\.5"):
        LabelThresholds(review=0.6, violation=0.5)


@pytest.mark.parametrize("bad", [{"review": -0.1}, {"violation": 1.1}, {"reviews": 0.1}])
def test_thresholds_are_strict(bad):
    with pytest.raises(ValidationError):
        LabelThresholds(**{"review": 0.1, "violation": 0.9} | bad)


@settings(deadline=None, max_examples=80)
@given(
    trials=st.integers(1, 400),
    share=st.floats(0, 1),
    confidence=st.sampled_from([0.5, 0.8, 0.95, 0.99]),
)
def test_lower_bound_is_that_of_clopper_and_pearson(trials, share, confidence):
    successes = round(share * trials)
    wanted = beta.ppf(1 - confidence, successes, trials - successes + 1) if successes else 0.0
    assert lower_bound(successes, trials, confidence) == pytest.approx(wanted, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    called=st.integers(1, 200),
    floor=st.sampled_from([0.5, 0.8, 0.95]),
    confidence=st.sampled_from([0.5, 0.7, 0.95]),
)
def test_hits_needed_are_the_fewest_that_prove_the_floor(called, floor, confidence):
    needed = _hits_needed(called, floor, confidence)
    assert needed > called or lower_bound(needed, called, confidence) >= floor - 1e-9
    assert lower_bound(needed - 1, called, confidence) < floor + 1e-9


def lowest(p, gold, weights=None, **targets):
    """The threshold of one resample; no line is natural."""
    order = np.argsort(-np.asarray(p), kind="stable")
    p, gold = np.asarray(p, dtype=float)[order], np.asarray(gold)[order] > 0
    weights = np.ones(len(p), dtype=int) if weights is None else np.asarray(weights)[order]
    return _lowest_proven(p, gold, np.zeros(len(p), dtype=bool), weights, DecisionConfig(**targets))


# From the top: 40 positives, one false call at 0.80, 20 positives, many false calls below 0.5.
P = np.concatenate(
    [np.linspace(0.9, 0.99, 40), [0.8], np.linspace(0.6, 0.7, 20), np.linspace(0.1, 0.5, 30)]
)
GOLD = np.concatenate([np.ones(40), [0], np.ones(20), np.zeros(30)])


def test_the_lowest_threshold_that_proves_the_floor():
    assert beta.ppf(0.2, 60, 2) >= CONFIG.precision_floor
    assert lowest(P, GOLD) == pytest.approx(0.55)  # half way from 0.6 to 0.5
    # 40 of 40 proves it, 60 of 61 does not
    assert lowest(P, GOLD, confidence=0.85) == pytest.approx(0.85)


def test_a_line_counts_as_often_as_it_was_drawn():
    false_call_thrice = np.where(P == 0.8, 3, 1)
    assert lowest(P, GOLD, false_call_thrice) == pytest.approx(0.85)
    assert lowest(P, GOLD, np.where(P == 0.8, 0, 1)) == pytest.approx(0.55)
    assert lowest(P, GOLD, np.zeros(91, dtype=int)) is None


def test_equal_probabilities_are_called_together():
    assert lowest([0.9] * 30 + [0.5] * 40, [1] * 30 + [1, 0] * 20) == pytest.approx(0.7)


def test_resamples_are_of_whole_groups_and_always_the_same():
    p, gold = np.linspace(0.2, 0.9, 31)[:, None], np.ones((31, 1))
    gold[-8] = 0
    rows = {"natural": np.zeros(31, dtype=bool)}
    config = DecisionConfig(confidence=0.6, precision_floor=0.9, min_probability=0)
    apart = choose(p, gold, config, **rows)
    assert apart == choose(p, gold, config, **rows, groups=[f"g{i:02}" for i in range(31)])
    pairs = choose(p, gold, config, **rows, groups=[f"g{i // 2}" for i in range(31)])
    assert pairs.labels[0].violation != apart.labels[0].violation


def test_what_is_less_likely_than_not_is_no_violation():
    p, gold = np.concatenate([np.linspace(0.2, 0.4, 60), np.zeros(60)]), [1] * 60 + [0] * 60
    (free,) = choose_one(p, gold, natural=np.ones(120), min_probability=0).labels
    (held,) = choose_one(p, gold, natural=np.ones(120)).labels
    assert free.violation < 0.2
    assert held.violation == DecisionConfig().min_probability == 0.5
    assert 0.2 < held.review < 0.4


def test_what_is_reported_holds_at_the_threshold():
    (label,) = choose_one(P, GOLD, natural=np.zeros(91)).labels
    hits, called = int(GOLD[label.violation <= P].sum()), int((label.violation <= P).sum())
    assert label.precision == hits / called
    assert label.precision_bound == pytest.approx(lower_bound(hits, called, CONFIG.confidence))
    assert label.recall == pytest.approx(hits / 60)


def test_floor_that_cannot_be_proven_is_not_met():
    p, gold = [0.9, 0.8, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0]
    (label,) = choose_one(p, gold).labels
    assert label.precision == 1
    assert not label.floor_met
    assert 0.2 < label.violation <= 0.9


def test_natural_false_calls_bind_before_the_floor():
    """Two clean natural lines score high; leaving them out costs half of the recall."""
    p = np.concatenate([np.full(100, 0.9), [0.8, 0.8], np.full(100, 0.7), np.full(98, 0.1)])
    gold = np.concatenate([np.ones(100), [0, 0], np.ones(100), np.zeros(98)])
    free = choose_one(p, gold, natural=np.zeros(300)).labels[0]
    assert free.floor_met
    assert free.recall == 1
    bound = choose_one(p, gold).labels[0]
    assert 0.8 < bound.violation <= 0.9
    assert bound.recall == 0.5


def test_no_positive_above_the_limit_means_no_violation_calls():
    p, gold = [0.9, 0.5, 0.4, 0.1], [0, 1, 1, 0]
    decision = choose_one(p, gold)
    (label,) = decision.labels
    assert not (decision.levels(np.array(p)[:, None]) == 2).any()
    assert (label.floor_met, label.precision, label.recall) == (False, None, 0)


@settings(deadline=None, max_examples=50)
@given(
    sample=calibration_sets(),
    violations=st.sampled_from([0.002, 0.05, 0.3]),
    reviews=st.sampled_from([0.01, 0.1, 0.4]),
)
def test_natural_limits_hold_on_the_calibration_set(sample, violations, reviews):
    p, gold, natural = sample
    clean = natural & ~gold
    assume(gold.any())
    assume((p[clean] == 1).mean() <= violations if clean.any() else True)  # nothing lies above 1
    decision = choose_one(p, gold, natural, max_violation_rate=violations, max_review_rate=reviews)
    levels = decision.levels(p[:, None])[:, 0]
    assert (levels[clean] == 2).sum() <= violations * clean.sum() + 1e-9
    # Where violations alone exceed the limit for review, review sends nothing more.
    assert (levels[clean] >= 1).sum() <= max(violations, reviews) * clean.sum() + 1e-9


@settings(deadline=None, max_examples=50)
@given(sample=calibration_sets())
def test_what_is_reported_is_what_the_thresholds_do(sample):
    p, gold, natural = sample
    assume(gold.any())
    decision = choose_one(p, gold, natural)
    (label,) = decision.labels
    levels = decision.levels(p[:, None])[:, 0]
    called = levels == 2
    assert label.recall == pytest.approx(called[gold].mean())
    assert label.review_recall == pytest.approx((levels[gold] >= 1).mean())
    if label.precision is not None and label.violation < 1:
        assert label.precision == pytest.approx(gold[called].mean())
        hits, n = int(gold[called].sum()), int(called.sum())
        assert label.precision_bound == pytest.approx(lower_bound(hits, n, CONFIG.confidence))
        assert label.floor_met == (label.precision_bound >= CONFIG.precision_floor)


@settings(deadline=None, max_examples=40)
@given(sample=calibration_sets(), target=st.sampled_from([0.5, 0.9, 0.95]))
def test_review_reaches_the_recall_target_where_no_limit_binds(sample, target):
    p, gold, _ = sample
    assume(gold.any())
    none = np.zeros(len(p), dtype=bool)
    (label,) = choose_one(p, gold, none, recall_target=target).labels
    assert label.review_recall >= target - 1e-9


def test_review_is_raised_until_the_natural_limit_holds():
    p = np.concatenate([[0.99] * 50, [0.3], np.linspace(0.25, 0.45, 1000)])
    gold = np.concatenate([np.ones(51), np.zeros(1000)])
    (label,) = choose_one(p, gold, recall_target=0.99).labels
    sent = int((p[51:] >= label.review).sum())
    assert 5 <= sent <= 10  # of 1,000, at 1 %
    assert label.review_recall == pytest.approx(50 / 51)


def test_label_without_positives_is_never_called():
    p = np.linspace(0, 0.999, 50)
    decision = choose_one(p, np.zeros(50))
    assert decision.labels == (LabelThresholds(review=1, violation=1),)
    assert not decision.levels(p[:, None]).any()


def test_labels_are_chosen_apart():
    rng = np.random.default_rng(21)
    gold = (rng.random((200, 2)) < 0.2).astype(float)
    p = 1 / (1 + np.exp(-rng.normal(8 * gold - 4, [1, 2])))
    natural = rng.random(200) < 0.5
    both = choose(p, gold, CONFIG, natural=natural)
    for j in range(2):
        alone = choose(p[:, [j]], gold[:, [j]], CONFIG, natural=natural)
        assert alone.labels == (both.labels[j],)


def test_stored_probabilities_give_the_same_decisions():
    rng = np.random.default_rng(22)
    gold = (rng.random((300, 3)) < 0.2).astype(float)
    p = 1 / (1 + np.exp(-rng.normal(6 * gold - 3, 2)))
    decision = choose(p, gold, CONFIG, natural=np.ones(300, dtype=bool))
    again = Decision.model_validate_json(decision.model_dump_json())
    stored = [[float(repr(float(v))) for v in row] for row in p]
    assert again == decision
    assert again.outcomes(stored) == decision.outcomes(p)
    assert {level for row in decision.outcomes(p) for level in row} >= {"clear", "violation"}
