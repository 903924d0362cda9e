"""Scorecards: the statistics keep their laws, and a card says what was found and confirmed."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from cs_classifier.config import load_config
from cs_classifier.errors import ConfigError, DataError
from cs_classifier.labels import load_labels
from cs_classifier.performance import scorecard, shrinkage
from cs_classifier.performance.penalties import Offence, ScoreRules, deduct, score, verdict
from cs_classifier.records import Evidence
from cs_classifier.reviews import Review, Sampled
from cs_classifier.scored import ScoredFile, ScoredLine

ROOT = Path(__file__).parent.parent
LABELS = load_labels()
RULES = load_config(ScoreRules, ROOT / "configs" / "scorecard.yaml")
SMALL = RULES.model_copy(update={"minimum": RULES.minimum.model_copy(update={"reviewed": 2})})
INSULT, STALL = "abuse_harassment.insult", "invoice_refusal.stall_excuse"


def line(number=1, agent="小雨", clause="", **fields):
    """A scored line, suspected of the clause's label if there is one."""
    label = clause.partition(".")[0]
    evidence = (Evidence(label, "rule", clause, 0, 1, "文"),) if clause else ()
    values = {
        "key": f"c{number}#1", "file": "s.jsonl", "row": number, "text": "文本", "context": "",
        "conversation_id": f"c{number}", "turn": "1", "timestamp": "2026-11-10 20:00:00",
        "agent_id": agent, "shop": "店", "platform": "淘宝", "team": "", "shift": "",
        "labels": (label,) if clause else (), "review": (), "probabilities": (0.1,) * 5,
        "rules": (), "tags": (), "evidence": evidence, "joined": False, "model": "m", "error": "",
    }  # fmt: skip
    return ScoredLine(**{**values, **fields})


def review(of, verdict="confirmed", *, probability=0.5, appeal="", correction=None):
    sampled = Sampled(of, "suspected", probability, of.suspected)
    return Review(sampled, verdict, correction, "质检1", "", appeal)


def build(lines, reviews=(), rules=RULES, **options):
    file = ScoredFile(LABELS.ids, tuple(lines))
    return scorecard.build(file, label_set=LABELS, rules=rules, reviews=reviews, **options)


def crowd(rates, turns=400, team=""):
    """Agents a0, a1, ... with that many suspected lines among their turns."""
    return [
        line(1000 * i + t, f"a{i}", INSULT if t < hits else "", team=team)
        for i, hits in enumerate(rates)
        for t in range(turns)
    ]


# Statistics

volumes = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3000)), min_size=1, max_size=12)


@given(volumes)
@example([(0, 0), (0, 0), (0, 0), (0, 2356), (10, 0)])  # the weights add up to a little over 1
@settings(max_examples=40, deadline=None)
def test_a_posterior_is_ordered_and_does_not_depend_on_the_order_of_members(members):
    k = np.array([hits for hits, _ in members])
    n = k + np.array([clear for _, clear in members]) + 1
    found = shrinkage.fit(k, n)
    assert (found.low < found.mean).all()
    assert (found.mean < found.high).all()
    assert (found.low > 0).all()
    assert (found.high < 1).all()
    assert ((found.not_worse >= 0) & (found.not_worse <= 1)).all()
    turned = shrinkage.fit(k[::-1], n[::-1])
    assert np.allclose(turned.mean[::-1], found.mean)


def test_few_turns_move_to_the_team_and_many_stay():
    found = shrinkage.fit([3, 20, 20, 20, 20], [10, 2000, 2000, 2000, 2000])
    assert 0.01 < found.mean[0] < 0.15  # 3 of 10 among four of 1 %
    assert shrinkage.fit([900, 10, 10], [3000, 1000, 1000]).mean[0] == pytest.approx(0.3, abs=0.01)


def test_interval_and_mean_are_those_of_the_draws():
    found = shrinkage.fit([0, 3, 12], [300, 500, 900])
    draws = found.draws(40_000, np.random.default_rng(0))
    assert draws.mean(axis=0) == pytest.approx(found.mean, rel=0.02)
    assert np.quantile(draws, 0.975, axis=0) == pytest.approx(found.high, rel=0.1)
    assert np.quantile(draws, 0.025, axis=0) == pytest.approx(found.low, rel=0.25, abs=2e-4)


@given(st.lists(st.floats(0, 1), max_size=20), st.floats(0.001, 0.5))
def test_those_who_stand_out_are_the_most_extreme_that_the_level_allows(tails, level):
    called = shrinkage.stand_out(tails, level)
    inside = sorted(t for t, c in zip(tails, called, strict=True) if c)
    outside = sorted(t for t, c in zip(tails, called, strict=True) if not c)
    assert sum(inside) <= level + 1e-12
    if outside:
        assert sum(inside) + outside[0] > level
        assert not inside or inside[-1] <= outside[0]


def test_design_effect_is_one_for_independent_turns_and_the_size_of_copied_ones():
    rng = np.random.default_rng(0)
    members = np.repeat([0, 1], 1000)
    hits = rng.binomial(8, np.where(members == 0, 0.05, 0.2))
    independent = shrinkage.design_effect(members, hits, np.full(2000, 8))
    assert independent == pytest.approx(1, abs=0.12)
    copied = shrinkage.design_effect(members, 8 * rng.binomial(1, 0.1, 2000), np.full(2000, 8))
    assert copied == pytest.approx(8, rel=0.1)
    assert shrinkage.design_effect([0], [0], [5]) == 1


def test_intervals_agree_with_their_sources():
    rate = shrinkage.jeffreys(3, 50)
    assert (rate.low, rate.high) == pytest.approx(stats.beta(3.5, 47.5).ppf([0.025, 0.975]))
    assert shrinkage.jeffreys(0, 50).low == 0
    assert shrinkage.jeffreys(50, 50).high == 1
    ratio = shrinkage.observed_to_expected(5, 2.5)
    assert (ratio.low, ratio.high) == pytest.approx((1.6235 / 2.5, 11.668 / 2.5), rel=1e-3)


def test_weighted_rate_is_the_plain_one_for_equal_probabilities_and_else_corrects_the_draw():
    equal = shrinkage.hajek([1, 0, 0, 1], [0.2] * 4)
    plain = shrinkage.jeffreys(2, 4)
    assert (equal.value, equal.low, equal.high) == pytest.approx((0.5, plain.low, plain.high))
    # All 2 suspected lines and 10 of 1,000 others were reviewed.
    skewed = shrinkage.hajek([1, 1] + [0] * 10, [1, 1] + [0.01] * 10)
    assert skewed.value == pytest.approx(2 / 1002)


@pytest.fixture(scope="module")
def simulation():
    path = ROOT / "scripts" / "simulate_scorecards.py"
    spec = importlib.util.spec_from_file_location("simulate_scorecards", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_shrinkage_beats_raw_rates_and_false_alarms_are_rare(simulation):
    nights = 5
    results = {s.name: simulation.simulate(s, nights, 7) for s in simulation.SCENARIOS}
    for name, rows in results.items():
        assert sum(r.shrunken for r in rows) < sum(r.raw for r in rows), name
    alarms = sum(r.false > 0 for rows in results.values() for r in rows)
    assert alarms <= stats.binom.ppf(0.999, nights * len(results), RULES.false_alarm)
    found = results["one in ten is five times worse"]
    assert sum(r.found for r in found) > 0.5 * sum(r.worse for r in found)
    assert (RULES.false_alarm, RULES.margin) == (simulation.LEVEL, simulation.MARGIN)


# Points

DAY1, DAY2, DAY3 = "2026-11-10", "2026-11-20", "2026-12-30"
CASES = [  # offences, earlier ones, points
    ([(STALL, 2, DAY1)], [], 3 * 2),
    ([(STALL, 2, DAY1), (STALL, 2, DAY1)], [], 3 * 2 * 2),  # the same day is no repeat
    ([(STALL, 2, DAY1), (STALL, 2, DAY2)], [], 3 * 2 * (1 + 1.5)),
    ([(STALL, 2, DAY2)], [(STALL, 2, DAY1)], 3 * 2 * 1.5),
    ([(STALL, 2, DAY3)], [(STALL, 2, DAY1)], 3 * 2),  # more than 30 days later
    ([(STALL, 2, DAY2)], [(INSULT, 3, DAY1)], 3 * 2),  # another clause
    ([(STALL, 2, "")], [(STALL, 2, DAY1)], 3 * 2),  # an unknown day is no repeat
    ([(STALL, 2, DAY1)] * 20, [], 30),  # the cap
    ([("abuse_harassment.belittle_sarcasm", 1, DAY1)], [], 3),
]


@pytest.mark.parametrize(("offences", "earlier", "points"), CASES)
def test_deductions(offences, earlier, points):
    given_ = [Offence(*o) for o in offences]
    found = deduct(given_, RULES, earlier=[Offence(*o) for o in earlier])
    assert [row.points for row in found] == [points]
    assert found[0].capped == (points == 30)
    assert score(found, RULES) == 100 - points


def test_only_a_fatal_clause_fails_and_little_review_gives_no_verdict():
    fatal = deduct([Offence(INSULT, 3, DAY1)], RULES)
    minor = deduct([Offence(STALL, 2, DAY1)] * 10, RULES)
    many = deduct([Offence(clause, 3, DAY1) for clause in list(LABELS.clauses)[:9] * 4], RULES)
    assert verdict(fatal, RULES, reviewed=1) == "fail"
    assert [verdict(minor, RULES, reviewed=n) for n in (0, 29, 30)] == [
        "none", "insufficient", "pass",
    ]  # fmt: skip
    harmless = [row for row in many if not row.fatal]
    assert score(harmless, RULES) < RULES.pass_line
    assert verdict(harmless, RULES, reviewed=30) == "below"
    assert score(many, RULES) == 0


def test_the_checksum_follows_the_content():
    changed = RULES.model_copy(update={"pass_line": 60.0})
    assert changed.identity != RULES.identity
    assert RULES.identity.startswith(f"{RULES.version}+")


# Cards


def test_nothing_is_confirmed_and_nothing_deducted_without_review():
    card = build([line(1, clause=INSULT), *(line(i) for i in range(2, 30))]).cards[0]
    assert (card.suspected, card.reviewed.confirmed, card.score) == (1, 0, None)
    assert card.verdict == "none"
    assert (card.figures.rank, card.figures.worse, card.figures.enough) == (None, False, False)
    assert card.figures.raw.value == pytest.approx(1 / 29)
    assert card.figures.raw.low < 1 / 29 < card.figures.raw.high


STATES = [  # verdicts and appeals of the reviews, state, score
    ([], "suspected", None),
    ([("confirmed", "")], "confirmed", 70),
    ([("rejected", "")], "rejected", 100),
    ([("doubtful", "")], "doubtful", None),
    ([(None, "")], "suspected", None),
    ([("confirmed", "待处理")], "confirmed", 70),
    ([("confirmed", "驳回")], "confirmed", 70),
    ([("confirmed", "成立")], "overturned", 100),
    ([("confirmed", ""), ("rejected", "")], "doubtful", None),  # reviewers disagree
    ([("confirmed", ""), ("confirmed", "")], "confirmed", 70),
]


@pytest.mark.parametrize(("answers", "state", "points"), STATES)
def test_state_of_a_hit(answers, state, points):
    hit = line(1, clause=INSULT)
    result = build([hit, line(2)], [review(hit, v, appeal=a) for v, a in answers])
    assert [h.state for h in result.hits] == [state]
    assert result.cards[0].score == points
    assert (result.cards[0].verdict == "fail") == (state == "confirmed")


def test_another_export_with_the_same_keys_convicts_nobody():
    tonight = [line(1, "小雨", key="1"), line(2, "小雪", key="2")]
    old = line(1, "老王", INSULT, key="1", text="你有病吧", timestamp="2026-11-01 10:00:00")
    result = build(tonight, [review(old)])
    assert result.hits == ()
    assert [card.reviewed.decided for card in result.cards] == [0, 0]


def test_lines_that_reviewers_disagree_on_are_left_out():
    lines = [line(i, clause=INSULT) for i in range(3)]
    second = [review(lines[0], "rejected"), review(lines[1], correction=("promise_breach",))]
    result = build(lines, [*map(review, lines), *second], rules=SMALL)
    reviewed = result.cards[0].reviewed
    assert (reviewed.decided, reviewed.confirmed, reviewed.rate) == (1, 1, None)
    assert [hit.state for hit in result.hits] == ["doubtful", "doubtful", "confirmed"]


def test_lines_that_the_queue_picked_are_hits_but_no_sample():
    lines = [line(i, clause=INSULT if i < 20 else "") for i in range(40)]
    picked = [Review(Sampled(x, "queue:uncertain", 1.0, x.suspected), "confirmed") for x in lines]
    (card,) = build(lines, picked).cards
    assert (card.reviewed.decided, card.reviewed.confirmed, card.reviewed.rate) == (40, 20, None)
    (card,) = build(lines, [*picked, review(lines[0]), review(lines[39])], rules=SMALL).cards
    assert (card.reviewed.decided, card.reviewed.rate.of) == (40, 4)


def test_a_suggested_clause_is_told_apart_and_costs_nothing():
    fields = {"labels": ("abuse_harassment",), "clauses": ("invoice_refusal.x", INSULT)}
    hit = line(1, **fields)
    result = build([hit], [review(hit)])
    assert (result.hits[0].clause, result.hits[0].suggestion) == ("", INSULT)
    assert [d.clause for d in result.cards[0].deductions] == ["abuse_harassment"]


def test_a_violation_that_only_the_reviewer_found_is_a_hit_and_a_correction_decides():
    missed, wrong = line(1), line(2, clause=INSULT)
    reviews = [
        review(missed, correction=("promise_breach",)),
        review(wrong, correction=("invoice_refusal",)),
    ]
    found = {(h.line.key, h.label): h.state for h in build([missed, wrong], reviews).hits}
    assert found == {
        ("c1#1", "promise_breach"): "confirmed",
        ("c2#1", "abuse_harassment"): "rejected",
        ("c2#1", "invoice_refusal"): "confirmed",
    }


def test_appeals_are_counted_against_what_was_confirmed():
    lines = [line(i, clause=INSULT) for i in range(1, 5)]
    appeals = ["成立", "维持", "待处理", ""]
    result = build(lines, [review(of, appeal=a) for of, a in zip(lines, appeals, strict=True)])
    assert result.cards[0].appeals == scorecard.Appeals(4, 3, 1, 1)
    assert result.clauses == {INSULT: scorecard.Appeals(4, 3, 1, 1)}
    assert result.cards[0].labels == {"abuse_harassment": (4, 3)}


def test_an_unknown_appeal_is_an_error_with_its_place():
    hit = line(7, clause=INSULT)
    with pytest.raises(DataError, match=r"s\.jsonl, row 7: unknown appeal '再说吧'"):
        build([hit], [review(hit, appeal="再说吧")])


def test_other_nights_raise_the_repeat_factor_only():
    tonight, before = line(1, clause=STALL), line(99, clause=STALL, timestamp="2026-10-30 09:00")
    alone = build([tonight], [review(tonight)]).cards[0]
    again = build([tonight], [review(tonight), review(before)]).cards[0]
    assert (alone.score, again.score) == (94, 91)
    assert again.reviewed.confirmed == 1
    overturned = build([tonight], [review(tonight), review(before, appeal="成立")]).cards[0]
    assert overturned.score == 94


def test_confirmed_rate_is_weighted_and_needs_enough_reviews():
    lines = [line(1, clause=INSULT), *(line(i) for i in range(2, 12))]
    reviews = [review(lines[0], probability=1.0), review(lines[1], probability=0.1)]
    assert build(lines, reviews).cards[0].reviewed.rate is None
    rate = build(lines, reviews, SMALL).cards[0].reviewed.rate
    assert rate.value == pytest.approx(1 / 11)
    assert rate.low < 1 / 11 < rate.high


def test_one_clearly_bad_agent_is_called_and_the_innocent_are_not():
    result = build(crowd([60, 4, 4, 5, 3, 4, 4, 3]))
    assert [c.member[0] for c in result.cards if c.figures.worse] == ["a0"]
    worst = result.cards[0].figures
    assert worst.rank == (1, 1)
    assert worst.ranked == 8
    assert worst.raw.value > worst.shrunken.value > result.teams[""].value
    low, high = result.cards[3].figures.rank
    assert low < high  # a rank is an interval


def test_too_few_turns_are_never_called_or_ranked():
    few = [line(90_000 + t, "new", INSULT if t < 100 else "") for t in range(199)]
    result = build([*crowd([4] * 8), *few])
    card = next(c for c in result.cards if c.member[0] == "new")
    assert (card.figures.enough, card.figures.worse, card.figures.rank) == (False, False, None)


def test_teams_are_compared_within_themselves():
    lines = crowd([40, 40, 40, 40], team="A") + [
        line(50_000 + 1000 * i + t, f"b{i}", INSULT if t < 4 else "", team="B")
        for i in range(4)
        for t in range(400)
    ]
    result = build(lines)
    assert not any(card.figures.worse for card in result.cards)
    assert result.teams["A"].value > 5 * result.teams["B"].value


def test_case_mix_can_explain_a_high_rate():
    night = {"shift": "夜班"}
    lines = [
        line(
            1000 * i + t,
            f"a{i}",
            INSULT if t < 40 * (i < 4) + 1 else "",
            **(night if i < 4 else {}),
        )
        for i in range(12)
        for t in range(400)
    ]
    result = build(lines)
    mixes = {card.member[0]: card.figures.case_mix for card in result.cards}
    assert mixes["a0"].value == pytest.approx(1)
    assert mixes["a0"].of == pytest.approx(41)
    assert not any(card.figures.worse for card in result.cards)


def test_expected_hits_add_up_to_the_observed_ones():
    lines = [
        line(t, f"a{t % 5}", INSULT if t % 7 == 0 else "", platform=("淘宝", "抖音")[t % 3 == 0])
        for t in range(500)
    ]
    mixes = [card.figures.case_mix for card in build(lines).cards]
    assert sum(m.of for m in mixes) == pytest.approx(sum(m.count for m in mixes))


def test_hits_of_one_conversation_count_less_than_hits_of_many():
    spread = build(crowd([30, 2, 2, 2])).cards[0].figures
    together = build(
        [
            line(
                i,
                of.agent_id,
                INSULT if of.labels else "",
                conversation_id=f"{of.agent_id}{i // 30}",
            )
            for i, of in enumerate(crowd([30, 2, 2, 2]))
        ]
    )
    assert together.design_effect > 5
    assert together.cards[0].figures.raw.low < spread.raw.low


MEASURED = {"value": 0.8, "low": 0.7, "high": 0.9}


def test_correction_multiplies_by_precision_over_recall():
    half = {"value": 0.4, "low": 0.3, "high": 0.5}
    labels = [{"label": name, "precision_violation": MEASURED, "recall_violation": half}
              for name in LABELS.ids]  # fmt: skip
    measured = scorecard.parse_measured({"labels": labels, "anything": 1})
    result = build(crowd([40] * 6), measured=measured)
    rate = result.cards[0].figures.corrected
    assert result.uncorrected == ()
    assert rate.value == pytest.approx(2 * 0.1, rel=0.1)
    assert rate.low < rate.value < rate.high
    again = build(crowd([40] * 6), measured=measured).cards[0].figures.corrected
    assert again == rate  # seeded


def test_what_was_not_measured_is_named_and_left_out():
    rows = [
        {"label": "abuse_harassment", "precision_violation": MEASURED, "recall_violation": None},
        {"label": "promise_breach", "precision_violation": MEASURED,
         "recall_violation": {"value": None, "low": 0, "high": 1}},
        {"label": "invoice_refusal"},
    ]  # fmt: skip
    result = build(crowd([4, 4]), measured=scorecard.parse_measured({"labels": rows}))
    assert result.uncorrected == LABELS.ids
    assert result.cards[0].figures.corrected is None


@pytest.mark.parametrize("data", [[], {}, {"labels": [1]}, {"labels": [{"x": 1}]}, "x"])
def test_another_json_is_refused(data):
    with pytest.raises(DataError, match="estimate -o"):
        scorecard.parse_measured(data)


def test_provoked_and_taken_back_are_flags_and_deduct_nothing():
    same = {"conversation_id": "c"}
    lines = [
        line(1, context="骗子,你们都是骗子", **same),
        line(2, clause=INSULT, **same),
        line(3, text="不好意思刚才说错了", **same),
        line(4, clause=INSULT, conversation_id="other"),
        line(5, text="说错了", agent="另一位", conversation_id="other"),
    ]
    result = build(lines, insult=lambda text: "骗子" in text)
    flags = [(h.line.row, h.provoked, h.taken_back) for h in result.hits]
    assert flags == [(2, True, True), (4, False, False)]
    reviews = [review(lines[1])]
    assert build(lines, reviews, insult=lambda _: True).cards[-1].score == 70


def test_what_comes_after_a_line_does_not_provoke_it():
    lines = [line(1, clause=INSULT, conversation_id="c"),
             line(2, context="骗子", conversation_id="c")]  # fmt: skip
    assert not build(lines, insult=lambda text: "骗子" in text).hits[0].provoked


def test_bots_and_unscored_lines_are_counted_apart_and_nicknames_of_two_shops_too():
    lines = [line(1), line(2, ""), line(3, probabilities=(), error="needs_media_review"),
             line(4, shop="另一家")]  # fmt: skip
    result = build(lines)
    assert (result.turns, result.unscored, result.unassigned) == (3, 1, 1)
    assert [card.member for card in result.cards] == [("小雨", "另一家"), ("小雨", "店")]


def test_shifts_come_from_the_column_or_the_time():
    lines = [line(1, shift="A"), line(2, timestamp="2026-11-10 23:59:59"),
             line(3, timestamp="2026-11-11 00:00:00"), line(4, timestamp="?")]  # fmt: skip
    result = build(lines, by="shift")
    assert [card.member[0] for card in result.cards] == ["A", "夜班", "晚班"]
    assert result.unassigned == 1


@pytest.mark.parametrize("by", ["shop", "team", "shift"])
def test_only_agents_get_a_score(by):
    hit = line(1, clause=INSULT, team="一组")
    card = build([hit, line(2)], [review(hit)], by=by).cards[0]
    assert (card.score, card.verdict, card.reviewed.confirmed) == (None, "none", 1)


def test_no_names_and_unknown_clauses_are_errors():
    with pytest.raises(DataError, match="--columns agent_id=NAME"):
        build([line(1, "")])
    wrong = RULES.model_copy(update={"provoked_clauses": ("abuse_harassment.nonsense",)})
    with pytest.raises(ConfigError, match="nonsense"):
        build([line(1)], rules=wrong)


def test_every_rate_has_a_finite_interval_around_it():
    for card in build(crowd([0, 1, 400], turns=400)).cards:
        for rate in (card.figures.raw, card.figures.shrunken):
            assert rate.low <= rate.value <= rate.high
            assert math.isfinite(rate.high)
