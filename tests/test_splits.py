"""Splits by group."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs_classifier.records import LabelledMessage, Message
from cs_classifier.splits import by_group

groups = st.lists(st.sampled_from("abcdefghijklmnop"), max_size=60)
shares = st.floats(0.01, 0.5)
seeds = st.integers(0, 2**32 - 1)


def lines_of(names):
    return [
        LabelledMessage(id=str(i), message=Message(f"第{i}句"), labels=(), group=group)
        for i, group in enumerate(names)
    ]


@settings(deadline=None, max_examples=50)
@given(names=groups, share=shares, seed=seeds)
def test_groups_stay_whole_and_nothing_is_lost(names, share, seed):
    lines = lines_of(names)
    rest, held = by_group(lines, share, np.random.default_rng(seed))
    assert not {line.group for line in rest} & {line.group for line in held}
    assert sorted(rest + held, key=lambda line: int(line.id)) == lines
    for part in (rest, held):  # each in the order given
        assert [int(line.id) for line in part] == sorted(int(line.id) for line in part)


@settings(deadline=None, max_examples=50)
@given(names=groups, share=shares, seed=seeds)
def test_share_is_reached_and_overshot_by_less_than_a_group(names, share, seed):
    lines = lines_of(names)
    _, held = by_group(lines, share, np.random.default_rng(seed))
    wanted = share * len(lines)
    largest = max((names.count(group) for group in names), default=0)
    assert wanted <= len(held) < wanted + largest or not lines


def test_share_of_many_small_groups_is_close():
    lines = lines_of([str(i // 3) for i in range(3000)])
    rest, held = by_group(lines, 0.1, np.random.default_rng(3))
    assert len(held) == pytest.approx(300, abs=3)
    assert len(rest) + len(held) == 3000


def test_seed_decides_and_line_order_does_not():
    lines = lines_of([str(i // 2) for i in range(200)])

    def held(some, seed):
        return {line.group for line in by_group(some, 0.2, np.random.default_rng(seed))[1]}

    assert held(lines, 1) == held(lines[::-1], 1)
    assert held(lines, 1) != held(lines, 2)
