"""Estimates against sums by hand, published intervals and nights whose truth is known."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from cs_classifier import estimation, sampling
from cs_classifier.errors import DataError, MissingExtraError
from cs_classifier.estimation import Answers, EstimateReport
from cs_classifier.labels import load_labels
from cs_classifier.reports import estimates
from cs_classifier.reviews import Review, Sampled
from cs_classifier.sampling import SamplingConfig, Stratum
from cs_classifier.scored import ScoredFile
from tests.test_sampling import LABELS, line, night

ROOT = Path(__file__).parent.parent
FIRST, SECOND = LABELS
LABEL_SET = load_labels()


def row(key, stratum, probability, truth, verdict="confirmed", **fields):
    """A reviewed line; ``truth`` of ``None`` is an open row."""
    sampled = Sampled(line(key, **fields), str(stratum), probability, shown=(), blind=True)
    return Review(sampled, None if truth is None else verdict, correction=truth)


SUSPECTED = Stratum(f"violation:{FIRST}", 40, 1000)
REST = Stratum("rest", 960, 1000)


def by_hand():
    """40 suspected lines of which 20 are reviewed, 15 true; 96 of 960 others, 2 missed."""
    flagged = {"labels": (FIRST,), "p": (0.9, 0.01)}
    suspected = [row(f"s{i}", SUSPECTED, 0.5, (FIRST,) if i < 15 else (), **flagged)
                 for i in range(20)]  # fmt: skip
    others = [row(f"r{i}", REST, 0.1, (FIRST,) if i < 2 else ()) for i in range(96)]
    return suspected + others


def estimate(reviews, **options):
    return estimation.estimate(reviews, label_ids=LABELS, **{"night": "2026-11-11"} | options)


def test_points_and_counts_by_hand():
    report = estimate(by_hand())
    first = report.labels[0]
    assert first.prevalence.value == pytest.approx((30 + 20) / 1000)
    assert (first.prevalence.hits, first.prevalence.reviewed) == (17, 116)
    assert first.precision_violation.value == pytest.approx(0.75)
    assert first.precision_violation.lines == pytest.approx(40)
    assert first.precision_review is None
    assert first.recall_violation.value == pytest.approx(30 / 50)
    assert (first.recall_violation.hits, first.recall_violation.reviewed) == (15, 17)
    assert first.recall_review == first.recall_violation
    assert first.expected == pytest.approx((40 * 0.9 + 960 * 0.001) / 1000)
    assert (report.lines, report.unseen) == (1000, 0)


def test_intervals_by_hand():
    """One cell: Jeffreys, drawn in by the unseen share; two cells: MOVER."""
    first = estimate(by_hand()).labels[0]
    low, high = beta.ppf([0.025, 0.975], 15.5, 5.5)
    precision = first.precision_violation
    assert (precision.system_low, precision.system_high) == pytest.approx((low, high))
    unseen = 0.5**0.5
    called = (0.75 - unseen * (0.75 - low), 0.75 + unseen * (high - 0.75))
    assert (precision.low, precision.high) == pytest.approx(called)
    low, high = beta.ppf([0.025, 0.975], 2.5, 94.5)
    share, unseen = 2 / 96, 0.9**0.5
    missed = (share - unseen * (share - low), share + unseen * (high - share))
    upper = 50 + np.hypot(40 * (called[1] - 0.75), 960 * (missed[1] - share))
    assert first.prevalence.high == pytest.approx(upper / 1000)
    # a recall lies between its limits exactly where the missed may make up for the found
    limit = first.recall_violation.high
    spread = np.hypot((1 - limit) * 40 * (called[1] - 0.75), limit * 960 * (share - missed[0]))
    assert (1 - limit) * 30 - limit * 20 + spread == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("hits", "trials"), [(1, 10), (5, 10), (9, 10), (17, 240)])
def test_jeffreys_is_the_beta_interval(hits, trials):
    wanted = beta.ppf([0.025, 0.975], hits + 0.5, trials - hits + 0.5)
    assert estimation.jeffreys(hits, trials) == pytest.approx(tuple(wanted))


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3, 0.95])
def test_jeffreys_covers(share):
    trials = np.arange(50, 400)
    covered = [
        sum(binom.pmf(k, n, share) for k in range(n + 1)
            if estimation.jeffreys(k, n)[0] <= share <= estimation.jeffreys(k, n)[1])
        for n in trials[::50]
    ]  # fmt: skip
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(MissingExtraError, match="evaluate"):
        estimate(by_hand())


def test_no_hit_gets_an_upper_limit():
    report = estimate([row(f"r{i}", REST, 0.1, ()) for i in range(96)])
    share = report.labels[0].prevalence
    assert (share.value, share.low) == (0, 0)
    assert share.high == pytest.approx(beta.ppf(0.975, 0.5, 96.5) * 0.9**0.5)
    assert report.labels[0].recall_violation is None
    assert estimates.cell(share) == "0/96, ≤ 2.44 %"


def test_where_every_line_was_reviewed_the_share_is_known_but_the_system_is_not():
    taken = {"probability": 1.0, "stratum": str(Stratum(SUSPECTED.name, 20, 20))}
    rows = [replace(r, sampled=replace(r.sampled, **taken)) for r in by_hand()[:20]]
    precision = estimate(rows).labels[0].precision_violation
    assert precision.low == precision.high == precision.value == 0.75
    assert precision.system_low < 0.6
    assert precision.system_high > 0.85
    assert estimates.cell(precision) == "75.0 % (15/20)"


@settings(deadline=None, max_examples=40)
@given(
    hits=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=4),
    level=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    scale=st.floats(1, 500),
)
def test_limits_always_enclose_the_value(hits, level, scale):
    stratum = np.repeat(np.arange(len(hits)), [n for _, n in hits])
    truth = np.concatenate([np.arange(n) < k for k, n in hits])
    weight = scale * (1 + stratum)
    answers = Answers(stratum, weight, truth, np.array(level)[stratum])
    found = estimation.measure(answers)
    for name in type(found).model_fields:
        if one := getattr(found, name):
            assert 0 <= one.system_low <= one.low <= one.value <= one.high <= one.system_high <= 1


def test_open_doubtful_and_deleted_rows_change_no_point():
    rows = by_hand()
    wanted = estimate(rows).labels[0]
    gaps = [
        replace(r, verdict=(None, "doubtful")[i % 2], correction=None)
        if i in {3, 18, 60, 71}
        else r
        for i, r in enumerate(rows)
    ]
    kept = [r for i, r in enumerate(gaps) if i not in {4, 19, 80, 90}]
    report = estimate(kept)
    assert (report.open, report.doubtful, report.reviewed) == (2, 2, 108)
    # 13 of 16 suspected and 2 of 92 others, still standing for 40 and 960 lines
    assert report.labels[0].prevalence.value == pytest.approx((40 * 13 / 16 + 960 * 2 / 92) / 1000)
    assert report.lines == 1000
    assert report.labels[0].prevalence.high > wanted.prevalence.value


def test_a_stratum_without_answers_is_left_out_and_said():
    rows = [replace(r, verdict=None) if r.sampled.line.labels else r for r in by_hand()]
    report = estimate(rows)
    assert report.unseen == 40
    assert report.labels[0].prevalence.lines == pytest.approx(960)
    assert any("40" in line for line in estimates.sentences(report, LABEL_SET, "zh"))


def test_several_reviewers_of_one_line():
    rows = by_hand()
    agreeing = replace(rows[0], annotator="b")
    other = replace(rows[1], correction=(), annotator="b")
    still_open = replace(rows[2], verdict=None)
    report = estimate([*rows, agreeing, other, still_open])
    assert (report.reviewed, report.disputed, report.doubtful, report.open) == (115, 1, 0, 0)


def test_pooled_nights_add_up_their_lines():
    second = [
        replace(r, sampled=replace(r.sampled, stratum=r.sampled.stratum.replace("1000", "1001"),
                                   line=replace(r.sampled.line, file="b")))
        for r in by_hand()
    ]  # fmt: skip
    both = estimate(by_hand() + second)
    one = estimate(by_hand())
    assert both.lines == pytest.approx(2001)
    assert both.labels[0].prevalence.value == pytest.approx(one.labels[0].prevalence.value)
    assert both.labels[0].prevalence.high < one.labels[0].prevalence.high


def test_a_sample_of_another_tool_is_weighted_by_its_probabilities():
    rows = [row("a", "A", 0.5, (FIRST,)), row("b", "A", 0.25, ()), row("c", "A", 0.25, ())]
    report = estimate(rows)
    assert report.labels[0].prevalence.value == pytest.approx(2 / 10)
    assert report.lines == pytest.approx(10)


ERRORS = [
    ([row("a", REST, 0.1, None)], "no row has an answer"),
    ([row("a", REST, 0.1, ("other",))], "other labels"),
    ([row("a", REST, 0.1, (), p=(0.1,))], "other labels"),
]


@pytest.mark.parametrize(("rows", "message"), ERRORS)
def test_what_cannot_be_estimated_says_why(rows, message):
    with pytest.raises(DataError, match=message):
        estimate(rows)


def test_the_full_way_is_unbiased():
    """Draw, review and estimate one night many times: the mean is the truth."""
    scored = night()
    truth = {r.key: (FIRST,) if i % 9 == 0 or r.labels else () for i, r in enumerate(scored.lines)}
    points = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        drawn = sampling.draw(scored, 80, config=SamplingConfig(), rng=rng).sampled
        reviews = [Review(s, "confirmed", correction=truth[s.line.key]) for s in drawn]
        points.append(estimate(reviews).labels[0].prevalence.value)
    wanted = np.mean([bool(v) for v in truth.values()])
    error = np.std(points) / len(points) ** 0.5
    assert abs(np.mean(points) - wanted) < 4 * error
    assert error < 0.06 * wanted


def test_reviewing_everything_gives_the_truth():
    scored = ScoredFile(LABELS, tuple(night(120).lines))
    drawn = sampling.draw(
        scored, 200, config=SamplingConfig(), rng=np.random.default_rng(0)
    ).sampled
    report = estimate([Review(s, "confirmed", correction=s.line.suspected) for s in drawn])
    first = report.labels[0].prevalence
    assert first.value == pytest.approx(4 / 120)
    assert first.low == pytest.approx(first.high)
    assert report.overall.precision_violation.value == 1


def simulation():
    spec = importlib.util.spec_from_file_location("s", ROOT / "scripts" / "simulate_estimates.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_intervals_cover_simulated_nights():
    """A small run of the script; the bounds are 0.95 by binomial error, see docs/sampling.md."""
    script = simulation()
    who = script.texts(np.random.default_rng(1), lines=5000)
    covered = {name: [] for name in script.MEASURES}
    errors = {name: [] for name in script.MEASURES}
    for prevalence in (0.003, 0.02):
        for system in script.SYSTEMS:
            for _, name, one, truth in script.simulate(who, system, prevalence, nights=16, seed=2):
                covered[name].append(script.covers(one, truth))
                errors[name].append((one.value - truth) / truth if truth else 0.0)
    for name, found in covered.items():
        assert len(found) > 100
        assert np.mean(found) >= binom.ppf(1e-3, len(found), 0.95) / len(found), name
    for name in ("prevalence", "precision_violation", "precision_review"):
        error = np.std(errors[name]) / len(errors[name]) ** 0.5
        assert abs(np.mean(errors[name])) < max(0.02, 4 * error), name


def shifted(found, share, night_name):
    """A report of another night whose suspected lines are true with another share."""
    flagged = {"labels": (FIRST,), "p": (0.9, 0.01)}
    part, true = Stratum(SUSPECTED.name, 400, 9000), share * 200
    rows = [row(f"s{i}", part, 0.5, (FIRST,) if i < true else (), **flagged) for i in range(200)]
    rest = [row(f"r{i}", Stratum("rest", 8600, 9000), 0.01, ()) for i in range(86)]
    return estimate(rows + rest, night=night_name, previous=found)


def test_a_drop_of_precision_is_drift_and_asks_for_a_refit():
    past = [shifted((), 0.97, f"n{i}") for i in range(5)]
    assert not shifted(past, 0.96, "same").drifts
    report = shifted(past, 0.7, "today")
    drifted = {(d.label, d.measure) for d in report.drifts}
    assert (FIRST, "precision_violation") in drifted
    drift = next(d for d in report.drifts if (d.label, d.measure) == (FIRST, "precision_violation"))
    assert drift.high < 0
    assert drift.before == pytest.approx(0.97)
    assert drift.nights == report.nights == 5
    assert (FIRST, "precision") in {(r.label, r.reason) for r in report.refits}


def test_earlier_runs_of_the_same_night_are_not_compared_with():
    past = [shifted((), 0.97, "today")]
    report = shifted(past, 0.7, "today")
    assert (report.nights, report.drifts) == (0, ())


def test_nights_of_another_model_are_not_compared_with():
    past = [shifted((), 0.97, "n1").model_copy(update={"models": ("old",)})]
    report = shifted(past, 0.7, "today")
    assert (report.nights, report.drifts) == (0, ())


def test_pooled_nights_of_equal_size_are_two():
    def pooled(draws):
        return [
            replace(one, sampled=replace(
                one.sampled, line=replace(one.sampled.line, file=draw),
                stratum=str(replace(Stratum.parse(one.sampled.stratum), draw=draw)),
            ))
            for draw in draws for one in by_hand()
        ]  # fmt: skip

    report = estimate(pooled(["0a0a0a0a", "1b1b1b1b"]))
    assert (report.lines, [s.lines for s in report.strata]) == (2000, [80, 1920])
    assert report.labels[0].prevalence.value == pytest.approx(0.05)


def test_probabilities_that_do_not_add_up_ask_for_a_refit():
    rows = [row(f"r{i}", Stratum("rest", 9000, 9000), 0.05, (), p=(0.3, 0.001)) for i in range(450)]
    assert {(r.label, r.reason) for r in estimate(rows).refits} == {(FIRST, "calibration")}


def test_two_lines_are_no_reason_to_refit():
    flagged = {"labels": (FIRST,), "p": (0.9, 0.01)}
    only = Stratum(SUSPECTED.name, 2, 962)
    few = [row("a", only, 1.0, (FIRST,), **flagged), row("b", only, 1.0, (), **flagged)]
    report = estimate(few + by_hand()[20:])
    assert report.labels[0].precision_violation.value == 0.5
    assert not report.refits


@pytest.mark.parametrize("mark", "\u0085\u2028\u2029")
def test_line_separators_within_a_report_part_nothing(tmp_path, mark):
    path = tmp_path / "history.jsonl"
    estimates.append_history(path, shifted((), 0.01, f"店{mark}晚"))
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert [found.night for found in estimates.read_history(path)] == [f"店{mark}晚"]


LABELLED = [
    (row("a", replace(REST, uniform=True), 0.1, (SECOND,)), (SECOND,), "gold", "natural"),
    (row("b", REST, 0.1, ()), (), "gold", "enriched"),
    (row("c", SUSPECTED, 0.1, (FIRST,), verdict="doubtful"), (FIRST,), "borderline", "enriched"),
]


@pytest.mark.parametrize(("review", "labels", "status", "part"), LABELLED)
def test_reviewed_lines_become_labelled_lines(review, labels, status, part):
    (found,) = estimation.labelled([review], night="2026-11-11")
    assert (found.labels, found.status) == (labels, status)
    assert found.origin == f"{part}:review-2026-11-11"
    assert found.message.text == review.sampled.line.text
    assert found.group


def test_open_rows_teach_nothing_and_conversations_stay_together():
    rows = [row(k, REST, 0.1, (), conversation_id="c1") for k in "ab"]
    found = estimation.labelled([*rows, row("c", REST, 0.1, None)], night="n")
    assert [one.group for one in found] == ["c1", "c1"]
    assert len({one.id for one in found}) == 2


def test_history_keeps_nights_and_replaces_reruns(tmp_path):
    path = tmp_path / "deep" / "history.jsonl"
    assert estimates.read_history(path) == []
    for share, name in ((0.97, "a"), (0.9, "b"), (0.8, "a")):
        estimates.append_history(path, shifted((), share, name))
    assert len(path.read_text().splitlines()) == 3
    found = estimates.read_history(path)
    assert found == [shifted((), 0.8, "a"), shifted((), 0.9, "b")]
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(DataError, match=r"history\.jsonl, row 4"):
        estimates.read_history(path)


def test_json_round_trip(tmp_path):
    report = shifted([shifted((), 0.97, "n")], 0.7, "today")
    estimates.write_json(report, tmp_path / "e.json")
    assert EstimateReport.model_validate_json((tmp_path / "e.json").read_text()) == report
    assert [p.name for p in tmp_path.iterdir()] == ["e.json"]


@pytest.mark.parametrize(
    ("language", "words"),
    [("zh", ["拒开发票", "显著低于", "低于之前"]), ("en", ["refit", "below"])],
)
def test_the_text_names_what_matters(language, words):
    report = shifted([shifted((), 0.97, f"n{i}") for i in range(5)], 0.7, "today")
    text = estimates.to_text(report, LABEL_SET, language=language)
    assert all(word in text for word in words)
    assert "140/200" in text  # the denominator stands by the rate
