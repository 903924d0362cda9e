"""The draw: exact size, exact probabilities, floors, caps, and what each row carries."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cs_classifier import sampling
from cs_classifier.config import load_config
from cs_classifier.errors import DataError
from cs_classifier.resources import find
from cs_classifier.sampling import Frame, SamplingConfig, Stratum
from cs_classifier.scored import ScoredFile, ScoredLine

LABELS = ("invoice_refusal", "abuse_harassment")
DEFAULT = SamplingConfig()


def line(key="k", text="好的", p=(0.001, 0.001), **fields):
    texts = (
        "conversation_id",
        "turn",
        "timestamp",
        "agent_id",
        "shop",
        "platform",
        "team",
        "shift",
    )
    empty = dict.fromkeys(("file", "context", *texts), "")
    decided = {"labels": (), "review": (), "rules": (), "tags": (), "evidence": ()}
    rest = {"row": 1, "joined": False, "model": "m", "error": ""}
    values = empty | decided | rest | {"key": key, "text": text, "probabilities": p}
    return ScoredLine(**values | fields)


def word(i):
    return f"第{chr(0x4E00 + i)}句"


def night(n=400, agents=8, shops=3):
    """Ordinary lines of several agents, with a few of everything else in between."""
    lines = [
        line(f"k{i}", word(i), agent_id=f"a{i % agents}", shop=f"s{i % agents % shops}")
        for i in range(n)
    ]
    special = {
        5: {"labels": LABELS[:1], "probabilities": (0.98, 0.01)},
        25: {"labels": LABELS, "probabilities": (0.9, 0.95)},
        45: {"labels": LABELS[1:], "review": LABELS[:1], "probabilities": (0.6, 0.97)},
        65: {"review": LABELS[:1], "probabilities": (0.5, 0.01)},
        85: {"probabilities": (0.45, 0.01)},
        105: {"rules": ("invoice.refuse",)},
    }
    for at, fields in special.items():
        lines[at] = replace(lines[at], **fields)
    return ScoredFile(LABELS, tuple(lines))


def draw(scored, n, seed=0, watch=(), config=DEFAULT):
    return sampling.draw(scored, n, config=config, rng=np.random.default_rng(seed), watch=watch)


STRATA = {
    "k5": "violation:invoice_refusal",
    "k25": "violation:abuse_harassment",  # the more probable of two
    "k45": "violation:abuse_harassment",  # a violation comes before a review
    "k65": "review:invoice_refusal",
    "k85": "near",  # 0.45 has more than half the odds of 0.5
    "k105": "disagreement",
    "k7": "watch",
    "k6": "rest",
}


def test_each_line_lies_in_the_first_stratum_that_fits():
    scored = night()
    frame = sampling.frame_of(scored.lines, LABELS, near_margin=0.7, watch={"a5", "a7"})
    found = {key: frame.names[frame.stratum[int(key[1:])]] for key in STRATA}
    assert found == STRATA


def test_without_suspicion_nothing_is_near():
    lines = [line(str(i), p=(0.5, 0.5)) for i in range(9)]
    frame = sampling.frame_of(lines, LABELS, near_margin=0.7)
    assert {frame.names[code] for code in frame.stratum} == {"rest"}


def test_every_row_carries_what_the_estimate_needs():
    sample = draw(night(), 60, watch={"a7"})
    assert len(sample.sampled) == 60
    assert sum(row.drawn for row in sample.strata) == 60
    assert sum(row.lines for row in sample.strata) == sample.lines == 400
    for row in sample.sampled:
        stratum = Stratum.parse(row.stratum)
        drawn = next(d for d in sample.strata if d.stratum == stratum.name)
        assert (stratum.lines, stratum.total) == (drawn.lines, 400)
        assert drawn.probabilities[0] <= row.probability <= drawn.probabilities[1]
        assert row.shown == (() if row.blind else row.line.suspected)
        assert row.blind or not stratum.uniform
        assert row.blind or stratum.name not in {"rest", "watch"}


def test_all_suspected_lines_are_taken_where_they_fit():
    drawn = {row.line.key: row for row in draw(night(), 60).sampled}
    assert {"k5", "k25", "k45", "k65", "k85", "k105"} <= drawn.keys()
    assert drawn["k5"].probability == 1


def test_a_share_of_the_suspected_rows_is_blind():
    lines = [line(f"v{i}", word(i), labels=LABELS[:1], p=(0.9, 0.1)) for i in range(300)]
    sampled = draw(ScoredFile(LABELS, (*lines, *night().lines)), 200).sampled
    chosen = [row for row in sampled if row.line.labels and not Stratum.parse(row.stratum).uniform]
    assert len(chosen) > 30
    assert 0.05 < np.mean([row.blind for row in chosen]) < 0.4


def test_the_same_seed_draws_the_same_rows():
    assert draw(night(), 50, seed=3) == draw(night(), 50, seed=3)
    assert draw(night(), 50, seed=3) != draw(night(), 50, seed=4)


def test_rows_come_in_the_order_of_the_file():
    keys = [int(row.line.key[1:]) for row in draw(night(), 80).sampled]
    assert keys == sorted(keys)


def test_a_budget_beyond_the_night_takes_everything_once():
    sample = draw(night(120), 500)
    assert len({row.line.key for row in sample.sampled}) == len(sample.sampled) == 120
    assert {row.probability for row in sample.sampled} == {1.0}


def test_lines_that_were_not_scored_are_left_out_and_counted():
    scored = night(200)
    media = line("m", "[图片]", p=(), error="needs_media_review")
    sample = draw(replace(scored, lines=(*scored.lines, media)), 200)
    assert (sample.lines, sample.unscored) == (200, 1)
    assert "m" not in {row.line.key for row in sample.sampled}


def test_a_watched_agent_who_was_off_is_named():
    assert draw(night(), 60, watch={"a7", "off"}).absent == ("off",)


ERRORS = [
    (night(), 3, "at least"),
    (ScoredFile(LABELS, (line(p=()),)), 5, "no line was scored"),
]


@pytest.mark.parametrize(("scored", "n", "message"), ERRORS)
def test_what_cannot_be_drawn_says_why(scored, n, message):
    with pytest.raises(DataError, match=message):
        draw(scored, n)


def frame(rng, n=600):
    """A night as numbers: skewed agents, templates of all sizes, every stratum."""
    names = ("violation:a", "violation:b", "review:a", "near", "disagreement", "watch", "rest")
    shares = [0.02, 0.005, 0.04, 0.03, 0.01, 0.05]
    agent = np.minimum(rng.geometric(0.2, n) - 1, 9)
    return Frame(
        names,
        stratum=rng.choice(len(names), n, p=[*shares, 1 - sum(shares)]),
        template=np.minimum(rng.zipf(1.5, n) * rng.integers(1, 40, n), 500),
        agent=agent,
        shop=np.where(agent == 9, -1, agent // 3),
    )


def draws(made, budget, times):
    """Per line: how often it came, its probability when it last came, sum of 1/p, random part."""
    rng = np.random.default_rng(11)
    count, inverse, uniform = np.zeros((3, len(made.stratum)))
    p = np.full(len(made.stratum), np.nan)
    for _ in range(times):
        units, _ = sampling.draw_units(made, budget, config=DEFAULT, rng=rng)
        assert len(units.rows) == budget
        count[units.rows] += 1
        inverse[units.rows] += 1 / units.probabilities
        uniform[units.rows] += units.uniform
        p[units.rows] = units.probabilities
    return count, p, inverse, uniform


def test_lines_are_drawn_as_often_as_their_probability_says():
    made = replace(frame(np.random.default_rng(5), 240), template=np.arange(240))
    times = 2000
    count, p, _, uniform = draws(made, 90, times)
    off = (count / times - p) / np.sqrt(p * (1 - p) / times + 1e-9)
    assert np.abs(off).max() < 4.5  # of 240 lines, one lies beyond by chance in 600 runs
    assert (off[p < 1] ** 2).mean() == pytest.approx(1, abs=0.4)
    share = uniform.mean() / times  # the random part takes all lines alike
    assert share >= 0.3 * 90 / 240
    assert np.abs((uniform / times - share) / np.sqrt(share * (1 - share) / times)).max() < 4.5


def test_weights_are_unbiased_for_every_line_with_templates_too():
    made, times = frame(np.random.default_rng(6), 240), 700
    _, p, inverse, _ = draws(made, 90, times)
    assert (made.template == np.bincount(made.template).argmax()).sum() > DEFAULT.template_cap
    assert np.abs((inverse / times - 1) / np.sqrt((1 / p - 1) / times + 1e-9)).max() < 4.5


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), budget=st.integers(40, 400), cap=st.integers(1, 4))
def test_size_caps_and_probabilities_hold_in_every_draw(seed, budget, cap):
    rng = np.random.default_rng(seed)
    made = frame(rng)
    config = SamplingConfig(template_cap=cap)
    units, _ = sampling.draw_units(made, budget, config=config, rng=rng)
    group = Counter(zip(made.stratum[units.rows], made.template[units.rows], strict=True))
    groups = Counter(zip(made.stratum, made.template, strict=True))
    assert len(units.rows) == min(budget, sum(min(cap, n) for n in groups.values()))
    assert len(set(units.rows)) == len(units.rows)
    assert max(group.values()) <= cap
    assert (units.probabilities > 0).all()
    assert (units.probabilities <= 1).all()
    counts, drawn = (np.bincount(s, minlength=7) for s in (made.stratum, made.stratum[units.rows]))
    assert (drawn >= np.minimum(counts, 1)).all()


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_floors_are_met_where_the_budget_pays_for_them(seed):
    rng = np.random.default_rng(seed)
    made = frame(rng)
    made = replace(made, template=np.arange(600))
    units, factor = sampling.draw_units(made, 200, config=DEFAULT, rng=rng)
    rest = made.stratum == 6
    for blocks, floor in ((made.agent, DEFAULT.agent_floor), (made.shop, DEFAULT.shop_floor)):
        drawn = Counter(blocks[units.rows][rest[units.rows]])
        for block, lines in Counter(blocks[rest & (blocks >= 0)]).items():
            assert drawn[block] >= int(factor * min(floor, lines) + 1e-9)
    assert factor == 1


def test_floors_that_cost_too_much_are_lowered_alike():
    n = 2000
    made = Frame(("rest",), np.zeros(n, int), np.arange(n), np.arange(n) // 4, np.full(n, -1))
    units, factor = sampling.draw_units(made, 100, config=DEFAULT, rng=np.random.default_rng(0))
    assert factor == pytest.approx(0.1 * 100 / 500)
    assert len(units.rows) == 100


def test_one_text_is_reviewed_no_more_often_than_the_cap():
    copies = [line(f"c{i}", f"单号{i},已发出哦") for i in range(300)]
    sample = draw(ScoredFile(LABELS, (*copies, *night().lines)), 80)
    drawn = [row for row in sample.sampled if row.line.key.startswith("c")]
    assert len(drawn) == DEFAULT.template_cap
    assert sum(1 / row.probability for row in drawn) == pytest.approx(300)


@pytest.mark.parametrize(
    "stratum",
    [
        Stratum("rest", 98, 100, uniform=True, draw="0a1b2c3d"),
        Stratum("rest", 98, 100, uniform=True),
        Stratum("violation:abuse_harassment", 7, 9),
    ],
)
def test_strata_survive_as_text(stratum):
    assert Stratum.parse(str(stratum)) == stratum


def test_strata_tell_nights_apart():
    def draws(scored, seed=0):
        return {Stratum.parse(row.stratum).draw for row in draw(scored, 60, seed).sampled}

    one = night()
    other = replace(one, lines=tuple(replace(x, timestamp="2026-11-12 9:00") for x in one.lines))
    assert len(draws(one)) == 1
    assert draws(one) == draws(one, seed=1) != draws(other)


def test_a_stratum_of_another_tool_is_a_name():
    assert Stratum.parse("抽样 A") == Stratum("抽样 A", 0, 0)


def test_the_shipped_configuration_is_the_default():
    assert load_config(SamplingConfig, find("configs/sampling.yaml")) == DEFAULT


@pytest.mark.parametrize(
    "values", [{"shares": {"random": 0.2}}, {"shares": {"random": 0.9}}, {"template_cap": 0}]
)
def test_impossible_plans_are_refused(values):
    with pytest.raises(ValidationError):
        SamplingConfig.model_validate(values)
