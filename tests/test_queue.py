"""What a queue asks, and what it does not ask twice."""

import argparse
import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs_classifier.errors import DataError
from cs_classifier.labeling.queue import (
    QueueConfig,
    disagreements,
    hashed_ngrams,
    margins,
    queue,
)
from cs_classifier.labels import load_labels
from cs_classifier.records import Message
from cs_classifier.sampling import template
from cs_classifier.scored import ScoredFile, ScoredLine

IDS = load_labels().ids
INVOICE, PROMISE, ABUSE, CONTACT, FAKE = IDS


def line(number, text, p=None, **fields):
    own = {INVOICE: 0.001, PROMISE: 0.001, ABUSE: 0.001, CONTACT: 0.001, FAKE: 0.001, **(p or {})}
    empty = dict.fromkeys(
        ("conversation_id", "turn", "timestamp", "agent_id", "shop", "platform", "team", "shift",
         "error"), "")  # fmt: skip
    return ScoredLine(
        key=str(number), file="n.jsonl", row=number, text=text, probabilities=tuple(own.values()),
        tags=(), evidence=(), joined=False, model="m",
        **{**empty, "context": "", "labels": (), "review": (), "rules": (), **fields},
    )  # fmt: skip


def sentence(number):
    """A line that is like no other."""
    rng = np.random.default_rng(number)
    return "".join(chr(0x4E00 + i) for i in rng.integers(0, 4000, size=12))


def night(count=300):
    lines = [line(i, sentence(i)) for i in range(count)]
    for i in range(20):  # uncertain about invoices
        p = 0.3 + i / 50
        lines.append(line(1000 + i, sentence(1000 + i), {INVOICE: p}, review=(INVOICE,)))
    for i in range(3):  # nothing was ever decided about fakes; these are likeliest
        lines.append(line(2000 + i, sentence(2000 + i), {FAKE: 0.05 + i / 100}))
    for i in range(6):
        lines.append(line(3000 + i, sentence(3000 + i), rules=("r1",)))
        lines.append(line(4000 + i, sentence(4000 + i), {CONTACT: 0.99}, labels=(CONTACT,)))
    return ScoredFile(IDS, tuple(lines))


def ask(scored, budget, seed=0, **options):
    return queue(scored, budget, rng=np.random.default_rng(seed), **options)


def reasons(chosen):
    return Counter(item.stratum.removeprefix("queue:") for item in chosen)


def test_every_row_says_why_and_each_reason_has_its_share():
    chosen = ask(night(), 50)
    counts = reasons(chosen)
    assert len(chosen) == 50
    assert counts["random"] == 10
    assert counts["disagreement"] == 10
    assert {name: n for name, n in counts.items() if name.startswith("uncertain")} == {
        f"uncertain:{label}": 6 for label in IDS}  # fmt: skip
    assert {c.line.key for c in chosen} >= {"2000", "2001", "2002"}
    assert all(c.blind == (c.stratum == "queue:random") for c in chosen)
    assert all(c.shown == (() if c.blind else c.line.suspected) for c in chosen)


def test_the_random_share_is_random_and_always_there():
    config = QueueConfig(random=0.5, disagreement=0)
    nights = [ask(night(), 20, seed=seed, config=config) for seed in range(3)]
    drawn = [{c.line.key for c in chosen if c.blind} for chosen in nights]
    assert [len(keys) for keys in drawn] == [10, 10, 10]
    assert drawn[0] != drawn[1] != drawn[2]
    assert reasons(ask(night(), 1)) == {"random": 1}
    same = [ask(night(), 20, seed=7) for _ in range(2)]
    assert same[0] == same[1]


@settings(max_examples=20, deadline=None)
@given(budget=st.integers(1, 40), seed=st.integers(0, 9))
def test_no_more_than_asked_and_nothing_twice(budget, seed):
    copies = [line(i, f"单号SF{i}，已发出哦" + "～" * (i % 3)) for i in range(30)]
    scored = ScoredFile(IDS, (*copies, *night(20).lines))
    chosen = ask(scored, budget, seed=seed)
    assert len(chosen) == min(budget, 56)
    templates = Counter(template(c.line.text) for c in chosen)
    assert max(templates.values()) == 1


def test_labelled_lines_and_lines_like_them_are_not_asked_again():
    text = "亲亲这边是没有办法给您开发票的哦真的开不了"
    near, other = "亲亲这边是没有办法给您开发票的呢真的开不了", "在吗"
    scored = ScoredFile(IDS, (line(1, text + "！"), line(2, near), line(3, text, context=other)))
    chosen = ask(scored, 3, labelled=[Message(text)])
    # In another conversation the same words may mean something else.
    assert [c.line.key for c in chosen] == ["3"]
    with pytest.raises(DataError, match="score new ones"):
        ask(ScoredFile(IDS, scored.lines[:1]), 3, labelled=[Message(text)])


def test_one_of_many_alike_is_enough():
    alike = [
        line(i, "发票要下个月才能给您补开出来" + "哦呢呀啊"[i] * 3, {INVOICE: 0.5})
        for i in range(4)
    ]
    odd = line(9, "不好意思我们店不提供收据以外的凭证", {INVOICE: 0.4})
    scored = ScoredFile(IDS, (*night(200).lines[:200], *alike, odd))
    config = QueueConfig(random=0.01, disagreement=0, alike=1.0)
    chosen = ask(scored, 10, config=config)
    mine = [c.line.key for c in chosen if c.stratum == f"queue:uncertain:{INVOICE}"]
    assert "9" in mine


def test_like_ranks_by_likeness():
    lines = [*night(200).lines, line(1, "您加我微信发您链接"), line(2, "加下我的微信吧亲给优惠")]
    chosen = ask(ScoredFile(IDS, tuple(lines)), 5, like="加我微信给您优惠")
    assert reasons(chosen) == {"random": 1, "like": 4}
    assert {c.line.key for c in chosen if c.stratum == "queue:like"} >= {"1", "2"}


def test_margins_are_distances_to_the_nearest_decision():
    lines = [
        line(0, "a", {INVOICE: 0.9}, labels=(INVOICE,)),
        line(1, "b", {INVOICE: 0.3}, review=(INVOICE,)),
        line(2, "c", {INVOICE: 0.2}),
        line(3, "d", {INVOICE: 0.8}, review=(INVOICE,)),
    ]
    p = np.array([x.probabilities[0] for x in lines])
    logit = np.log(p / (1 - p))
    wanted = [0, 0, logit[1] - logit[2], logit[0] - logit[3]]
    assert margins(lines, p, INVOICE) == pytest.approx(wanted)
    assert margins(lines, p, FAKE) == pytest.approx(np.abs(logit))


def test_disagreements_of_both_kinds_in_turn():
    lines = [
        line(0, "a", rules=("r",)),
        line(1, "b", {FAKE: 0.2}, rules=("r",)),
        line(2, "c", {FAKE: 0.9}, labels=(FAKE,)),
        line(3, "d", {FAKE: 0.9}, labels=(FAKE,), rules=("r",)),
        line(4, "e"),
    ]
    assert disagreements(lines) == [0, 2, 1]


def test_vectors_have_length_one_and_forget_digits():
    vectors = hashed_ngrams([Message("单号123"), Message("单号 98！"), Message("好的", "在吗")])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert vectors[0] @ vectors[1] == pytest.approx(1)
    assert vectors[0] @ vectors[2] < 0.2


def test_own_vectors_can_be_given():
    calls = []

    def embed(messages):
        calls.append(len(messages))
        return np.tile(np.float32([1, 0]), (len(messages), 1))

    # All lines say the same to this encoder, so one is asked.
    assert len(ask(night(), 10, embed=embed)) == 1
    assert calls


def simulation():
    path = Path(__file__).parent.parent / "scripts" / "simulate_labelling.py"
    spec = importlib.util.spec_from_file_location("simulate_labelling", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_queue_finds_more_violations_than_chance():
    """A small run of the script; docs/labelling_loop.md has the whole one."""
    data = Path(__file__).parent.parent / "data"
    options = argparse.Namespace(
        pool=sorted((data / "train").glob("ordinary-*.jsonl"))[:4],
        tune=sorted((data / "calibration").glob("natural_*.jsonl"))[:1],
        test=sorted((data / "test").glob("enriched_*.jsonl"))[:1],
        violating=0.08, hard=0.25, seeds=1,
    )  # fmt: skip
    script = simulation()
    (world,) = script.simulations(options)
    size = len(world.pool.lines)
    kinds = Counter("v" if x.labels else "h" if x.clauses else "o" for x in world.pool.lines)
    assert (kinds["v"] / size, kinds["h"] / size) == pytest.approx((0.08, 0.25), abs=0.01)
    order = np.random.default_rng(0).permutation(size).tolist()
    chosen = world.chosen(order[:150], [40, 40], QueueConfig(), 0)
    drawn = world.random(order, [150, 190, 230])
    assert chosen[0] == drawn[0]
    assert chosen[0].violating < chosen[1].violating < chosen[2].violating
    assert chosen[2].violating > drawn[2].violating
    assert all(0 <= value <= 1 for p in chosen for value in (p.f1, p.precision))
