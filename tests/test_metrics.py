"""Metrics against scikit-learn, published values and sums by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score

from cs_classifier import metrics

# Few distinct scores, so that ties are common.
scored = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, 1)),
    min_size=1,
    max_size=40,
)


@settings(deadline=None, max_examples=80)
@given(rows=scored.filter(lambda rows: any(positive for positive, _ in rows)))
def test_average_precision_equals_scikit_learn(rows):
    gold, scores = zip(*rows, strict=True)
    wanted = average_precision_score(gold, scores)
    assert metrics.average_precision(gold, scores) == pytest.approx(wanted, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(rows=scored, seed=st.integers(0, 1000))
def test_average_precision_does_not_depend_on_line_order(rows, seed):
    mixed = list(np.random.default_rng(seed).permutation(np.array(rows, dtype=float)))
    one = metrics.average_precision(*zip(*rows, strict=True))
    other = metrics.average_precision(*zip(*mixed, strict=True))
    assert one == pytest.approx(other, nan_ok=True)


@pytest.mark.parametrize(
    ("gold", "scores", "wanted"),
    [
        ([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1], (1 + 2 / 3) / 2),
        ([1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5], 1 / 4),  # all tied: the share of positives
        ([0, 0, 1], [3, 2, 1], 1 / 3),
        ([0, 0], [1, 2], math.nan),
        ([], [], math.nan),
    ],
)
def test_average_precision_by_hand(gold, scores, wanted):
    assert metrics.average_precision(gold, scores) == pytest.approx(wanted, nan_ok=True)


def test_mean_average_precision_leaves_labels_without_positives_out():
    gold = np.array([[1, 0], [0, 0], [1, 0]])
    scores = np.array([[0.9, 0.3], [0.8, 0.2], [0.7, 0.1]])
    assert metrics.mean_average_precision(gold, scores) == pytest.approx((1 + 2 / 3) / 2)
    assert math.isnan(metrics.mean_average_precision(gold[1:2], scores[1:2]))


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_against_published_values(successes, trials, low, high):
    assert metrics.wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None, max_examples=50)
@given(trials=st.integers(1, 500), data=st.data())
def test_wilson_against_scipy(trials, data):
    successes = data.draw(st.integers(0, trials))
    low, high = metrics.wilson(successes, trials)
    wanted = binomtest(successes, trials).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=1e-6)
    assert 0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1


def test_wilson_without_trials_says_nothing():
    assert metrics.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("hits", "called", "support", "wanted"),
    [
        (3, 4, 6, 0.6),
        (5, 5, 5, 1.0),
        (0, 4, 0, 0.0),
        (0, 0, 4, 0.0),
        (0, 4, 4, 0.0),
        (0, 0, 0, math.nan),
    ],
)
def test_f1(hits, called, support, wanted):
    assert float(metrics.f1(hits, called, support)) == pytest.approx(wanted, nan_ok=True)


def test_f1_is_elementwise():
    found = metrics.f1([[1, 0], [2, 0]], [[1, 0], [4, 1]], [[1, 0], [2, 0]])
    assert found == pytest.approx(np.array([[1, math.nan], [2 / 3, 0]]), nan_ok=True)


GOLD = [0, 0, 1, 1, 1]
PROBABILITIES = [0.05, 0.15, 0.15, 0.95, 1.0]


def test_reliability_by_hand():
    table = metrics.reliability(GOLD, PROBABILITIES)
    wanted = [(0.05, 0.0, 1), (0.15, 0.5, 2), (0.975, 1.0, 2)]
    assert [row[2] for row in table] == [1, 2, 2]
    assert np.array(table) == pytest.approx(np.array(wanted))


def test_reliability_with_two_bins():
    table = metrics.reliability(GOLD, PROBABILITIES, bins=2)
    assert np.array(table) == pytest.approx(np.array([(0.35 / 3, 1 / 3, 3), (0.975, 1, 2)]))


def test_calibration_error_by_hand():
    wanted = (1 * 0.05 + 2 * 0.35 + 2 * 0.025) / 5
    assert metrics.expected_calibration_error(GOLD, PROBABILITIES) == pytest.approx(wanted)


def test_calibration_error_of_certain_and_right_is_zero():
    assert metrics.expected_calibration_error([0, 1, 1], [0.0, 1.0, 1.0]) == 0


def test_calibration_error_without_lines_is_nan():
    assert math.isnan(metrics.expected_calibration_error([], []))
    assert metrics.reliability([], []) == []


@settings(deadline=None, max_examples=50)
@given(
    groups=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=30),
    resamples=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_bootstrap_draws_whole_groups(groups, resamples, seed):
    weights = metrics.bootstrap_weights(groups, resamples, np.random.default_rng(seed))
    assert weights.shape == (resamples, len(groups))
    first = [groups.index(group) for group in groups]
    assert (weights == weights[:, first]).all()  # lines of one group go together
    distinct = sorted(set(first))
    assert (weights[:, distinct].sum(axis=1) == len(distinct)).all()


def test_bootstrap_of_single_lines_keeps_their_number_and_mean():
    weights = metrics.bootstrap_weights(list(range(50)), 2000, np.random.default_rng(5))
    assert (weights.sum(axis=1) == 50).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(50), abs=0.1)


def test_bootstrap_is_reproducible():
    one, other = (
        metrics.bootstrap_weights(["a", "b", "c"], 20, np.random.default_rng(9)) for _ in range(2)
    )
    assert (one == other).all()


def test_interval():
    assert metrics.interval(np.arange(101)) == pytest.approx((2.5, 97.5))
    assert metrics.interval(np.arange(101), level=0.5) == pytest.approx((25, 75))
    assert metrics.interval([4.0]) == (4, 4)


def test_interval_leaves_nan_out():
    mixed = np.concatenate([np.arange(101.0), np.full(40, np.nan)])
    assert metrics.interval(mixed) == pytest.approx((2.5, 97.5))
    for nothing in ([], [math.nan, math.nan]):
        assert all(math.isnan(bound) for bound in metrics.interval(nothing))
