"""Calibration: the laws it must keep on any data, and the truth on simulated data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from cs_classifier.calibration import (
    MAX_RULE_WEIGHT,
    PRIOR_PRECISION,
    Calibrator,
    prevalence_weights,
)

seeds = st.integers(0, 2**32 - 1)
prevalences = st.sampled_from([0.001, 0.01, 0.2, 0.9])


def column(values):
    return np.asarray(values, dtype=float)[:, None]


def fit(logits, strengths, gold, prevalence, weights=None):
    """Calibrator of one label."""
    return Calibrator.fit(
        column(logits), column(strengths), column(gold), prevalence=prevalence, weights=weights
    )


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@st.composite
def samples(draw):
    """Logits, strengths and gold of one label: helpful, useless or misleading; any scale."""
    rng = np.random.default_rng(draw(seeds))
    n = draw(st.integers(4, 80))
    gold = np.zeros(n)
    gold[: draw(st.integers(1, n - 1))] = 1
    scale = 10 ** draw(st.floats(-2, 1.7))
    shift, apart = draw(st.floats(-4, 4)), draw(st.floats(-2, 6))
    logits = scale * (rng.normal(size=n) + shift + apart * gold)
    fires = rng.random(n) < np.where(gold, draw(st.floats(0, 1)), draw(st.floats(0, 1)))
    return logits, np.where(fires, rng.choice([0.3, 0.8, 1.0], n), 0.0), gold


@settings(deadline=None, max_examples=25)
@given(sample=samples(), prevalence=prevalences)
def test_more_evidence_never_lowers_a_probability(sample, prevalence):
    calibrator = fit(*sample, prevalence)
    steps = np.linspace(-60, 60, 200)
    for strength in (0.0, 0.5, 1.0):
        rising = calibrator.transform(column(steps), np.full((200, 1), strength))
        assert (np.diff(rising[:, 0]) >= 0).all()
    grid = np.linspace(0, 1, 50)
    for logit in (-8.0, 0.0, 8.0):
        rising = calibrator.transform(np.full((50, 1), logit), column(grid))
        assert (np.diff(rising[:, 0]) >= 0).all()


@settings(deadline=None, max_examples=15)
@given(sample=samples(), prevalence=prevalences)
def test_fit_is_the_optimum_within_the_bounds(sample, prevalence):
    logits, strengths, gold = sample
    (label,) = fit(*sample, prevalence).labels
    assert label.slope > 0
    assert 0 <= label.rule <= MAX_RULE_WEIGHT
    weights = prevalence_weights(gold, np.ones(len(gold)), prevalence)
    design = np.column_stack([logits, strengths, np.ones(len(gold))])
    prior, precision = np.array([1, MAX_RULE_WEIGHT / 2, 0]), PRIOR_PRECISION * np.array([1, 1, 0])

    def loss(at):
        z = design @ at
        return weights @ (np.logaddexp(0, z) - gold * z) + 0.5 * precision @ (at - prior) ** 2

    found = np.array([label.slope, label.rule, label.offset])
    bounds = [(0.05, 5), (0, MAX_RULE_WEIGHT), (None, None)]
    for start in (found, np.array([0.5, 1.0, 0.0])):
        best = minimize(loss, start, method="L-BFGS-B", bounds=bounds)
        assert loss(found) <= best.fun + 1e-6 * (1 + abs(best.fun))


@settings(deadline=None, max_examples=25)
@given(sample=samples(), prevalence=prevalences, seed=seeds)
def test_weighted_mean_probability_is_the_prevalence(sample, prevalence, seed):
    logits, strengths, gold = sample
    base = np.random.default_rng(seed).uniform(0.2, 1, len(gold))
    calibrator = fit(*sample, prevalence, weights=base)
    probabilities = calibrator.transform(column(logits), column(strengths))[:, 0]
    weights = prevalence_weights(gold, base, prevalence)
    assert weights @ probabilities / weights.sum() == pytest.approx(prevalence, abs=1e-5)


def test_prevalence_weights():
    gold, base = np.array([1.0, 0, 0, 0]), np.array([1.0, 1, 0.5, 0.5])
    weights = prevalence_weights(gold, base, 0.01)
    assert weights.mean() == pytest.approx(1)
    assert weights @ gold / weights.sum() == pytest.approx(0.01)
    assert weights[1] == pytest.approx(2 * weights[2])  # base weights keep their ratio


def test_recovers_known_parameters():
    rng = np.random.default_rng(11)
    n, slope, rule, offset = 60_000, 0.7, 1.5, -2.0
    logits = rng.normal(0, 4, n)
    strengths = np.where(rng.random(n) < 0.3, 0.8, 0.0)
    gold = (rng.random(n) < sigmoid(slope * logits + rule * strengths + offset)).astype(float)
    (label,) = fit(logits, strengths, gold, gold.mean()).labels
    assert label.slope == pytest.approx(slope, abs=0.03)
    assert label.rule == pytest.approx(rule, abs=0.15)
    assert label.offset == pytest.approx(offset, abs=0.1)
    assert (label.positives, label.lines) == (int(gold.sum()), n)


def test_another_prevalence_moves_the_offset_by_the_log_odds():
    rng = np.random.default_rng(12)
    logits = rng.normal(0, 3, 40_000)
    gold = (rng.random(40_000) < sigmoid(logits)).astype(float)
    (half,) = fit(logits, np.zeros(40_000), gold, 0.5).labels
    (rare,) = fit(logits, np.zeros(40_000), gold, 0.01).labels
    assert rare.offset - half.offset == pytest.approx(np.log(0.01 / 0.99), abs=0.3)


def test_keyword_alone_does_not_carry_a_clean_line():
    """Every positive has a rule hit, no negative has one: the weight still stays bounded."""
    gold = np.repeat([1.0, 0.0], 200)
    logits = np.concatenate([np.full(200, 4.0), np.full(200, -4.0)])
    calibrator = fit(logits, gold, gold, 0.01)
    assert calibrator.labels[0].rule <= MAX_RULE_WEIGHT
    assert calibrator.transform([[-4.0]], [[1.0]])[0, 0] < 0.05


def test_misleading_rule_gets_no_weight():
    rng = np.random.default_rng(13)
    gold = np.repeat([1.0, 0.0], 500)
    logits = rng.normal(4 * gold - 2, 1.5)
    (label,) = fit(logits, 1 - gold, gold, 0.1).labels
    assert label.rule == pytest.approx(0, abs=1e-6)


def test_misleading_logit_still_has_a_positive_slope():
    gold = np.repeat([1.0, 0.0], 50)
    (label,) = fit(-4 * gold + np.linspace(-1, 1, 100), np.zeros(100), gold, 0.1).labels
    assert 0 < label.slope < 0.1


@pytest.mark.parametrize("gap", [0.1, 10, 1000])
def test_separable_data_stays_finite(gap):
    gold = np.repeat([1.0, 0.0], 30)
    calibrator = fit(gap * (gold - 0.5), gold, gold, 0.01)
    (label,) = calibrator.labels
    assert np.isfinite([label.slope, label.rule, label.offset]).all()
    probabilities = calibrator.transform(column(gap * (gold - 0.5)), column(gold))
    assert np.isfinite(probabilities).all()
    assert probabilities[0] > probabilities[-1]


def test_extreme_logits_do_not_overflow():
    calibrator = fit([1, -1, 2, -2], [0, 0, 0, 0], [1, 0, 1, 0], 0.1)
    with np.errstate(all="raise"):
        found = calibrator.transform(column([-1e6, 1e6]), column([0, 1]))
    assert found[:, 0].tolist() == [0, 1]


@pytest.mark.parametrize("all_the_same", [0.0, 1.0])
def test_label_without_positives_or_negatives_keeps_the_prevalence(all_the_same):
    logits, zeros = np.array([-3.0, 0.0, 3.0]), np.zeros(3)
    calibrator = fit(logits, zeros, np.full(3, all_the_same), 0.01)
    (label,) = calibrator.labels
    assert (label.slope, label.rule) == (1, 0)
    assert calibrator.transform([[0.0]], [[1.0]])[0, 0] == pytest.approx(0.01)
    assert label.positives == 3 * all_the_same


def test_labels_are_fitted_apart():
    rng = np.random.default_rng(14)
    gold = (rng.random((300, 3)) < 0.3).astype(float)
    logits, strengths = rng.normal(3 * gold, 2), rng.random((300, 3))
    together = Calibrator.fit(logits, strengths, gold, prevalence=0.05)
    for j, label in enumerate(together.labels):
        assert fit(logits[:, j], strengths[:, j], gold[:, j], 0.05).labels == (label,)


def test_json_round_trip():
    calibrator = fit([1.1, -1.3, 2.7, -2.9], [0.8, 0, 0, 0.3], [1, 0, 1, 0], 0.013)
    again = Calibrator.model_validate_json(calibrator.model_dump_json())
    assert again == calibrator
    logits, strengths = column(np.linspace(-9, 9, 19)), column(np.linspace(0, 1, 19))
    assert (again.transform(logits, strengths) == calibrator.transform(logits, strengths)).all()
