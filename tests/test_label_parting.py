"""The parts of a store share nothing, and a line never changes its part."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cs_classifier import datasets
from cs_classifier.cli import labeling
from cs_classifier.errors import DataError
from cs_classifier.labeling.parting import PARTS, part
from cs_classifier.labeling.store import Event, append, histories
from cs_classifier.labels import load_labels
from cs_classifier.records import Message
from cs_classifier.sampling import template

LABELS = load_labels()
WORDS = ("好的亲", "马上发货", "单号SF{}", "没有票的", "加我微信", "滚", "明天一定补发", "您看下")


def said(shop, conversation, word, number=0, new=()):
    text = WORDS[word].format(number)
    return Event(
        message=Message(text, f"{shop} {conversation}"),
        new=new,
        who="甲",
        when="2026-11-22T10:00:00+00:00",
        source="review",
        group=conversation or template(text),
        shop=shop,
    )


EVENTS = st.builds(
    said,
    st.sampled_from(["", *(f"店{i}" for i in range(12))]),
    st.sampled_from(["", *(f"会话{i}" for i in range(30))]),
    st.integers(0, len(WORDS) - 1),
    st.integers(0, 5),
    st.sampled_from([(), ("invoice_refusal",), None]),
)


def parted(events, **options):
    try:
        return part(histories(events).values(), **options)
    except DataError:
        return None


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENTS, min_size=30, max_size=80), st.sampled_from(["shop", "group"]))
def test_parts_share_no_shop_group_or_template(events, by):
    found = parted(events, by=by)
    if found is None:
        return
    lines = histories(events)
    shops, ties = {}, {}
    for name, mine in found.parts.items():
        shops[name] = {lines[x.id.removeprefix("store-")].shop for x in mine} - {""}
        ties[name] = {x.group for x in mine} | {f"t {template(x.message.text)}" for x in mine}
        assert all(x.status == "gold" for x in mine)
    for i, one in enumerate(PARTS):
        for other in PARTS[i + 1 :]:
            assert not ties[one] & ties[other]
            assert by == "group" or not shops[one] & shops[other]
    kept = sum(map(len, found.parts.values()))
    assert kept + found.doubled + found.borderline == len(lines)


@settings(max_examples=20, deadline=None)
@given(st.lists(EVENTS, min_size=40, max_size=60), st.lists(EVENTS, max_size=40))
def test_a_test_line_stays_one_while_the_store_grows(events, later):
    before, after = parted(events), parted([*events, *later])
    if before and after:
        gold = {x.id for lines in after.parts.values() for x in lines}
        kept = {x.id for x in before.parts["test"]} & gold
        assert kept <= {x.id for x in after.parts["test"]}


def distinct(count, shops):
    """Lines that have nothing in common but their shops, every other one violating."""
    return [
        Event(
            message=Message(f"{chr(0x4E00 + i)}票"),
            new=("invoice_refusal",) * (i % 2),
            who="甲",
            when="2026-11-22T10:00:00+00:00",
            source="review",
            group=f"g{i}",
            shop=f"店{i % shops}",
        )
        for i in range(count)
    ]


def test_what_differs_in_a_word_is_in_one_part_only():
    shared = "亲亲这边没有办法给您开发票的哦真的开不了您看可以吗"
    events = distinct(60, shops=20)
    events += [
        replace(e, message=Message(f"{shared}{i}" if i % 2 else f"{shared}呢"))
        for i, e in enumerate(events)
    ]
    holding = [
        name
        for name, lines in parted(events).parts.items()
        if any(shared in line.message.text for line in lines)
    ]
    assert holding == ["test"]


def test_shares_are_about_what_was_asked():
    events = distinct(1000, shops=1000)
    found = parted(events, test=0.3, calibration=0.1)
    sizes = {name: len(lines) for name, lines in found.parts.items()}
    assert 250 < sizes["test"] < 350
    assert 60 < sizes["calibration"] < 140
    assert sum(sizes.values()) == 1000
    assert not parted(events, test=0).parts["test"]


def test_one_shop_cannot_be_parted_by_shop():
    events = distinct(60, shops=1)
    with pytest.raises(DataError, match=r"1 different shops leave no line for .*part by group"):
        part(histories(events).values())
    assert all(parted(events, by="group").parts.values())


def test_the_command_writes_files_that_train_takes(tmp_path):
    append(tmp_path / "s.jsonl", distinct(60, shops=20), label_set=LABELS)
    arguments = ["split", "-s", str(tmp_path / "s.jsonl"), "-o", str(tmp_path / "parts")]
    result = CliRunner().invoke(labeling.app, arguments)
    assert result.exit_code == 0, result.output
    lines = datasets.load([tmp_path / "parts"], LABELS)
    assert len(lines) == 60
    for name in PARTS:
        mine = datasets.load([tmp_path / "parts" / f"{name}.jsonl"], LABELS)
        assert (
            f"{name}\t{len(mine)}\t{sum(bool(x.labels) for x in mine)} violating" in result.output
        )
    wrong = CliRunner().invoke(labeling.app, [*arguments, "--test", "0.9"])
    assert wrong.exit_code == 2
