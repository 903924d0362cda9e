"""Service checks: every formula by examples, at the edges of windows and limits."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs_classifier.config import build_config, load_config
from cs_classifier.errors import ConfigError
from cs_classifier.moments import seconds
from cs_classifier.performance import dialogues, service
from cs_classifier.performance.clock import spelled, within
from cs_classifier.tables import Row
from cs_classifier.transcripts import ColumnMap

ROOT = Path(__file__).parent.parent
RULES = load_config(service.ServiceRules, ROOT / "configs" / "service.yaml")
ROLES = {"买": "客户", "客": "客服", "机": "机器人", "系": "系统"}
LATER = ["2026-12-31 00:00 买 在吗", "2026-12-31 00:00 客 在的"]  # so that everything is decided


def rows(said, *, conversation="c1", shop="店", platform="快手", agent="小雨", **more):
    """Rows from lines such as '2026-11-10 10:00:00 客@阿枫 在的'; the date may be left out."""
    found = []
    for number, entry in enumerate(said, 1):
        *when, who, text = entry.split(" ", 3) if entry[4:5] == "-" else entry.split(" ", 2)
        time = " ".join(when) if len(when) == 2 else f"2026-11-10 {when[0]}"
        role, _, name = who.partition("@")
        values = {
            "conversation_id": conversation, "timestamp": time, "role": ROLES[role], "text": text,
            "agent_id": (name or agent) if role == "客" else "", "shop": shop, "platform": platform,
        }  # fmt: skip
        found.append(Row(number, {**values, **more}))
    return found


def report(*groups, decided=True, columns=None, rules=RULES):
    everything = [row for group in groups for row in group]
    if decided:
        everything += rows(LATER, conversation="later", shop="别店", platform="")
    transcript = dialogues.collect(
        everything, columns=columns or ColumnMap(), queued=rules.queued, accepted=rules.accepted
    )
    return service.check(transcript, rules)


def results(found, check, *, variant="all", scope="shop", shop="店"):
    return [
        r
        for r in found.results
        if (r.check, r.variant, r.scope, r.shop) == (check, variant, scope, shop)
    ]


def rate(found, check, **where):
    """Numerator and denominator of the only result."""
    (result,) = results(found, check, **where)
    return result.numerator, result.denominator


# (said, with bots, without) as (numerator, denominator); None: no turn counts
KUAISHOU = {
    "in time": (["10:00:00 买 在吗", "10:04:59 客 在"], (1, 1), (1, 1)),
    "exactly at the limit": (["10:00:00 买 在吗", "10:05:00 客 在"], (1, 1), (1, 1)),
    "too late": (["10:00:00 买 在吗", "10:05:01 客 在"], (0, 1), (0, 1)),
    "never": (["10:00:00 买 在吗"], (0, 1), (0, 1)),
    "a turn starts with its first message": (
        ["10:00:00 买 在吗", "10:04:00 买 人呢", "10:06:00 客 在"], (0, 1), (0, 1),
    ),
    "two turns": (
        ["10:00:00 买 在吗", "10:01:00 客 在", "10:02:00 买 有货吗", "10:20:00 客 有"],
        (1, 2), (1, 2),
    ),
    "a bot answers": (["10:00:00 买 在吗", "10:00:01 机 您好", "10:30:00 客 在"], (1, 1), (0, 1)),
    "window begins": (["08:00:00 买 在吗", "08:01:00 客 在"], (1, 1), (1, 1)),
    "before the window": (["07:59:59 买 在吗", "08:01:00 客 在"], None, None),
    "window ends at midnight": (
        ["23:59:59 买 在吗", "2026-11-11 00:01:00 客 在"], (1, 1), (1, 1),
    ),
    "after midnight": (["00:00:00 买 在吗", "00:01:00 客 在"], None, None),
    "queue time is left out": (
        ["10:00:00 买 在吗", "10:00:01 系 当前排队人数较多", "10:09:00 系 客服 小雨 已接入会话",
         "10:10:00 客 在"], (1, 1), (1, 1),
    ),
    "clock runs once an agent is there": (
        ["10:00:00 买 在吗", "10:01:00 系 客服 小雨 已接入会话", "10:06:01 客 在"], (0, 1), (0, 1),
    ),
    "a transfer does not stop the clock": (
        ["09:00:00 买 在", "09:00:10 客 在", "10:00:00 买 有货吗", "10:04:00 系 阿枫 已接入会话",
         "10:06:00 客@阿枫 有"], (1, 2), (1, 2),
    ),
    "never out of the queue": (["10:00:00 买 在吗", "10:00:01 系 您前面排队3人"], None, None),
    "a picture is an answer": (["10:00:00 买 什么样", "10:01:00 客 [图片]"], (1, 1), (1, 1)),
    "a recalled message is none": (
        ["10:00:00 买 在吗", "10:01:00 客 撤回了一条消息"], (0, 1), (0, 1),
    ),
    "other system rows say nothing": (
        ["10:00:00 买 在吗", "10:01:00 系 用户超过10分钟未发言"], (0, 1), (0, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KUAISHOU)
def test_kuaishou_reply_rate(name):
    said, *expected = KUAISHOU[name]
    found = report(rows(said))
    for variant, counts in zip(service.VARIANTS, expected, strict=True):
        if counts is None:
            assert results(found, "kuaishou_5_minutes", variant=variant) == []
        else:
            assert rate(found, "kuaishou_5_minutes", variant=variant) == counts


def test_kuaishou_threshold_and_offending_conversations():
    good = [rows(["10:00:00 买 在吗", "10:01:00 客 在"], conversation=f"g{i}") for i in range(4)]
    bad = rows(["11:00:00 买 在吗"], conversation="bad")
    (result,) = results(report(*good, bad), "kuaishou_5_minutes")
    assert (result.rate, result.met, result.offending) == (0.8, True, ("bad",))
    assert result.interval[0] < 0.8 < result.interval[1]
    (result,) = results(report(*good[1:], bad), "kuaishou_5_minutes")
    assert (result.rate, result.met) == (0.75, False)


def test_a_check_concerns_its_platforms_only():
    said = ["10:00:00 买 在吗", "10:01:00 客 在"]
    found = report(rows(said, platform="淘宝"))
    assert not results(found, "kuaishou_5_minutes")
    assert not results(found, "pdd_effective_reply")
    assert results(found, "first_response")
    assert results(report(rows(said, platform="Kuaishou")), "kuaishou_5_minutes")


def test_days_and_shops_are_apart():
    found = report(
        rows(["23:58:00 买 在吗", "2026-11-11 09:00:00 买 人呢", "2026-11-11 09:01:00 客 在"]),
        rows(["10:00:00 买 在吗", "10:01:00 客 在"], conversation="c2", shop="二店"),
        rows(["2026-11-11 10:00:00 买 在吗", "2026-11-11 10:01:00 客 在"], conversation="c3"),
    )
    days = [(r.day, r.numerator, r.denominator) for r in results(found, "kuaishou_5_minutes")]
    # The first dialogue is one turn, which began before midnight.
    assert days == [("2026-11-10", 0, 1), ("2026-11-11", 1, 1)]
    assert rate(found, "kuaishou_5_minutes", shop="二店") == (1, 1)


def test_replies_belong_to_who_answered_and_silence_to_who_had_answered_before():
    said = ["10:00:00 买 在吗", "10:01:00 客@甲 在", "10:02:00 买 有货吗", "10:03:00 客@乙 有",
            "10:04:00 买 那发吧"]  # fmt: skip
    found = report(rows(said))
    agents = results(found, "kuaishou_5_minutes", scope="agent")
    assert {r.agent: (r.numerator, r.denominator) for r in agents} == {"甲": (1, 1), "乙": (1, 2)}
    assert all(r.met is None for r in agents)


def test_what_the_file_does_not_show_is_undecided():
    open_end = rows(["23:50:00 买 在吗", "23:58:00 买 在吗2"], conversation="c9")
    late = rows(["23:57:00 买 有人吗"], conversation="c8")
    (result,) = results(report(open_end, late, decided=False), "kuaishou_5_minutes")
    assert (result.numerator, result.denominator, result.undecided) == (0, 1, 1)


PDD = {
    "every turn in an hour": (["10:00:00 买 在吗", "11:00:00 客 在"], (1, 1)),
    "one turn too late": (
        ["10:00:00 买 在吗", "10:01:00 客 在", "12:00:00 买 人呢", "13:00:01 客 在"], (0, 1),
    ),
    "one turn unanswered": (["10:00:00 买 在吗", "10:01:00 客 在", "12:00:00 买 人呢"], (0, 1)),
    "at 23:00 the day is over": (
        ["10:00:00 买 在吗", "10:01:00 客 在", "23:00:00 买 人呢"], (1, 1),
    ),
    "at 22:59:59 it is not": (
        ["10:00:00 买 在吗", "10:01:00 客 在", "22:59:59 买 人呢"], (0, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PDD)
def test_pdd_effective_reply_rate(name):
    said, expected = PDD[name]
    assert rate(report(rows(said, platform="拼多多")), "pdd_effective_reply") == expected


def test_pdd_counts_each_customer_of_a_day_once_and_judges_from_a_hundred_on():
    columns = ColumnMap(customer="buyer")
    answered = ["10:00:00 买 在吗", "10:01:00 客 在"]
    shared = [
        rows(said, conversation=f"s{i}", platform="拼多多", buyer="同一人")
        for i, said in enumerate([answered, ["12:00:00 买 在吗"]])
    ]
    others = [
        rows(answered, conversation=f"c{i}", platform="拼多多", buyer=f"b{i}") for i in range(99)
    ]
    (result,) = results(report(*shared, *others[:98], columns=columns), "pdd_effective_reply")
    assert (result.numerator, result.denominator, result.met) == (98, 99, None)
    assert result.offending == ("s1",)
    (result,) = results(report(*shared, *others, columns=columns), "pdd_effective_reply")
    assert (result.denominator, result.met) == (100, True)


def test_first_response_times():
    found = report(
        rows(["10:00:00 买 在吗", "10:00:06 客 在", "10:10:00 买 哈", "11:00:00 客 在"]),
        rows(["10:00:00 买 在吗", "10:00:07 客 在"], conversation="c2"),
        rows(["10:00:00 买 在吗", "10:00:01 机 您好", "10:01:40 客 在"], conversation="c3"),
        rows(["10:00:00 买 在吗"], conversation="c4"),
        rows(["10:00:00 客 亲,活动来了"], conversation="c5"),  # nobody asked
    )
    (everyone,) = results(found, "first_response")
    assert (everyone.numerator, everyone.denominator, everyone.met) == (2, 4, None)
    assert everyone.offending == ("c2", "c4")
    (human,) = results(found, "first_response", variant="human")
    assert (human.numerator, human.denominator) == (1, 4)
    assert (human.median, human.ninetieth) == (7, pytest.approx(7 + 0.8 * 93))
    queue = ["10:00:00 买 在吗", "10:00:30 系 小雨 已接入会话", "10:00:35 客 在"]
    assert results(report(rows(queue)), "first_response")[0].median == 35


NIGHT = {  # said, flagged customers of those written to, for each day in order
    "one night": (["22:00:00 客 亲", "2026-11-14 12:00:00 客 亲"], [(0, 1), (0, 1)]),
    "two nights": (["22:00:00 客 亲", "2026-11-12 03:00:00 客 亲"], [(0, 1), (1, 1)]),
    "evening and morning are one night": (
        ["23:00:00 客 亲", "2026-11-11 07:59:59 客 亲"], [(0, 1)],
    ),
    "eight o'clock is day": (["23:00:00 客 亲", "2026-11-12 08:00:00 客 亲"], [(0, 1), (0, 1)]),
    "a week later": (["22:00:00 客 亲", "2026-11-17 22:00:00 客 亲"], [(0, 1), (0, 1)]),
    "within the week": (["22:00:00 客 亲", "2026-11-16 22:00:00 客 亲"], [(0, 1), (1, 1)]),
    "an answer is no contact": (
        ["22:00:00 客 亲", "2026-11-11 23:00:00 买 在吗", "2026-11-11 23:30:00 客 在"],
        [(0, 1), (0, 1)],
    ),
    "half an hour later it is": (
        ["22:00:00 客 亲", "2026-11-11 23:00:00 买 在吗", "2026-11-11 23:30:01 客 亲"],
        [(0, 1), (1, 1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NIGHT)
def test_night_contact(name):
    said, expected = NIGHT[name]
    found = results(report(rows(said)), "night_contact")
    assert [(r.numerator, r.denominator) for r in found] == expected


def test_night_contact_by_bots_and_across_conversations():
    columns = ColumnMap(customer="buyer")
    found = report(
        rows(["22:00:00 机 大促开始"], buyer="b"),
        rows(["2026-11-11 22:00:00 客 亲"], conversation="c2", buyer="b"),
        columns=columns,
    )
    assert [r.numerator for r in results(found, "night_contact")] == [0, 1]
    assert [r.numerator for r in results(found, "night_contact", variant="human")] == [0]


REPEATED = {
    "three bubbles of one answer": (
        ["10:00:00 买 在吗", "10:00:05 客 在", "10:00:09 客 您说", "10:00:12 客 有货"],
        (0, 1), {},
    ),
    "three after silence": (
        ["10:00:00 买 在吗", "10:01:00 客 在", "10:11:00 客 还在吗", "10:12:00 客 有活动",
         "10:13:00 客 拍吗"], (1, 1), {},
    ),
    "two after silence": (
        ["10:00:00 买 在吗", "10:01:00 客 在", "10:11:00 客 还在吗", "10:12:00 客 有活动"],
        (0, 1), {},
    ),
    "not yet silent": (
        ["10:00:00 买 在吗", "10:01:00 客 在", "10:10:59 客 a", "10:11:00 客 b", "10:12:00 客 c"],
        (0, 1), {},
    ),
    "the customer speaks in between": (
        ["10:00:00 买 在吗", "10:01:00 客 在", "10:20:00 客 a", "10:40:00 客 b", "10:41:00 买 嗯",
         "11:00:00 客 c"], (0, 1), {},
    ),
    "after a refusal at once": (
        ["10:00:00 买 别再发了", "10:00:05 客 a", "10:00:09 客 b", "10:00:12 客 c"], (1, 1), {},
    ),
    "the same text is spam": (
        ["10:00:00 买 勿扰", "10:00:05 客 来看看", "10:00:09 客 来看看", "10:00:12 客 来看看"],
        (1, 1), {"spam": 1},
    ),
    "an agent who waits long before the first answer": (
        ["10:00:00 买 在吗", "11:00:00 客 在", "11:00:05 客 抱歉", "11:00:09 客 您说"], (0, 1), {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REPEATED)
def test_repeated_messages(name):
    said, expected, remarks = REPEATED[name]
    (result,) = results(report(rows(said)), "repeated_messages")
    assert (result.numerator, result.denominator) == expected
    assert result.remarks == remarks


def test_repeated_messages_count_within_24_hours():
    said = ["08:00:00 买 勿扰", "09:00:00 客 a", "20:00:00 客 b", "2026-11-11 {} 客 c"]
    for time, flagged in (("09:00:00", 1), ("09:00:01", 0)):
        found = report(rows([entry.format(time) for entry in said]))
        assert sum(r.numerator for r in results(found, "repeated_messages")) == flagged


WAIT = {
    "silence": (["10:00:00 买 有货吗", "10:01:00 客 稍等哦,我看下"], (1, 1)),
    "an answer in time": (["10:01:00 客 稍等", "10:31:00 客 有的"], (0, 1)),
    "too late": (["10:01:00 客 稍等", "10:31:01 客 有的"], (1, 1)),
    "another request is no answer": (["10:01:00 客 稍等", "10:02:00 客 亲等一下哈"], (2, 2)),
    "no need to wait": (["10:01:00 客 不用等,现在就能拍"], None),
    "the customer's words": (["10:01:00 买 稍等我看看", "10:01:09 客 好的"], None),
}


@pytest.mark.parametrize("name", WAIT)
def test_wait_then_silence(name):
    said, expected = WAIT[name]
    found = report(rows(said))
    if expected is None:
        assert not results(found, "wait_silence")
    else:
        assert rate(found, "wait_silence") == expected


def test_a_bot_that_asks_to_wait_counts_with_bots_only():
    found = report(rows(["10:01:00 机 请稍候", "10:02:00 客 来了"]))
    assert rate(found, "wait_silence") == (0, 1)
    assert not results(found, "wait_silence", variant="human")
    assert not results(found, "wait_silence", scope="agent")


def test_conversations_without_times_are_left_out_and_counted():
    said = rows(["10:00:00 买 在吗", "10:01:00 客 在"])
    said[1].values["timestamp"] = ""
    found = report(said, rows(["10:00:00 买 在吗", "10:01:00 客 在"], conversation="c2"))
    assert (found.dialogues, found.untimed) == (2, 1)
    assert rate(found, "kuaishou_5_minutes") == (1, 1)


def test_times_of_day_tell_no_order_over_midnight():
    said = rows(["23:59:50 买 在吗", "00:00:10 客 在的"])
    for row in said:
        row.values["timestamp"] = row.values["timestamp"].split()[1]
    found = report(said, decided=False)
    assert (found.dialogues, found.untimed, found.results) == (0, 1, ())


def test_rows_that_belong_nowhere_are_counted():
    good = rows(["10:00:00 买 在吗", "10:01:00 客 在"])
    blank = rows(["10:00:00 买 在吗"], conversation=" ")
    strange = [Row(9, {**good[0].values, "role": "路人"})]
    damaged = [Row(10, {}, "not valid JSON")]
    assert report(good, blank, strange, damaged).unplaced == 3


def test_rows_may_come_in_any_order_and_times_in_any_form():
    said = rows(["10:00:00 买 在吗", "10:01:00 客 在", "10:02:00 买 好", "10:09:00 客 嗯"])
    assert report(said[::-1]).results == report(said).results
    epoch = [
        Row(row.number, {**row.values, "timestamp": seconds(row.values["timestamp"]) - 28800})
        for row in said
    ]
    assert report(epoch).results == report(said).results


moments = st.integers(0, 3 * 86_400)
speakers = st.sampled_from(["客户", "客服", "机器人"])


@given(
    st.lists(st.tuples(moments, speakers, st.sampled_from(["稍等", "在", "别发了"])), max_size=30)
)
@settings(max_examples=40, deadline=None)
def test_laws_of_all_checks(said):
    made = [
        Row(i, {"conversation_id": f"c{i % 3}", "timestamp": 1_760_000_000 + t, "role": who,
                "text": text, "agent_id": "a", "shop": "店", "platform": ("快手", "拼多多")[i % 2]})
        for i, (t, who, text) in enumerate(said)
    ]  # fmt: skip
    found = report(made)
    for result in found.results:
        assert 0 <= result.numerator <= result.denominator
        assert (result.rate is None) == (result.denominator == 0)
        if result.rate is not None:
            assert result.interval[0] - 1e-9 <= result.rate <= result.interval[1] + 1e-9
    # Bots only help to answer: what counts without them counts with them.
    for check in ("kuaishou_5_minutes", "first_response"):
        ahead = {(r.platform, r.day): r for r in results(found, check)}
        for human in results(found, check, variant="human"):
            if check == "first_response":
                assert human.numerator <= ahead[human.platform, human.day].numerator


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        ("08:00-24:00", ["08:00", "23:59"], ["07:59", "00:00"]),
        ("22:00–08:00", ["22:00", "00:00", "07:59"], ["08:00", "21:59"]),
        ("00:00-24:00", ["00:00", "12:00", "23:59"], []),
    ],
)
def test_windows(window, inside, outside):
    check = RULES.checks[0].model_dump() | {"window": window}
    parsed = service.ReplyRate.model_validate(check).window
    assert spelled(parsed) == window.replace("-", "–")
    assert all(within(seconds(time), parsed) for time in inside)
    assert not any(within(seconds(time), parsed) for time in outside)


@pytest.mark.parametrize("window", ["8-9", "25:00-26:00", "08:60-09:00", "ab:cd-09:00"])
def test_bad_windows_are_errors(window):
    rule = RULES.checks[0].model_dump(mode="json") | {"window": window}
    with pytest.raises(ConfigError, match="time"):
        build_config(service.ServiceRules, {"version": "1", "checks": [rule]}, [], where="x.yaml")


def test_every_shipped_check_says_what_it_computes():
    for rule in RULES.checks:
        assert rule.formula.zh
        assert rule.formula.en
        assert rule.source
    assert {rule.name for rule in RULES.checks} == {
        "kuaishou_5_minutes", "pdd_effective_reply", "first_response", "night_contact",
        "repeated_messages", "wait_silence",
    }  # fmt: skip
