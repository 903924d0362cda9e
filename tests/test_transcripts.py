"""Rows to messages: mappings, roles, context, bubbles and what is not an agent's words."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cs_classifier import transcripts
from cs_classifier.errors import ConfigError, DataError
from cs_classifier.records import Message
from cs_classifier.tables import Row, read
from cs_classifier.transcripts import (
    ColumnMap,
    Conversations,
    check_columns,
)

NAMES = ("conversation_id", "role", "text", "timestamp", "agent_id")


def turns(rows, spec=None):
    """Turns of (conversation, role, text[, time[, agent]]) rows."""
    conversations = Conversations(ColumnMap.parse(spec))
    dicts = [row if isinstance(row, dict) else dict(zip(NAMES, row, strict=False)) for row in rows]
    return [conversations.turn(Row(number, values)) for number, values in enumerate(dicts, 2)]


def scored(rows, spec=None):
    return [(turn.message.context, turn.message.text) for turn in turns(rows, spec) if turn.message]


def joined(rows):
    return [turn.joined.text if turn.joined else None for turn in turns(rows) if turn.message]


# Mappings.


def test_columns_have_their_own_names_by_default():
    assert ColumnMap.parse(None) == ColumnMap.parse(" ") == ColumnMap()
    assert ColumnMap().value({"text": "亲", "other": 1}, "text") == "亲"
    assert ColumnMap().value({"text": "亲"}, "shop") is None


@pytest.mark.parametrize(
    "spec", ["text=内容,agent_id=客服昵称", " text = 内容 ， agent_id=客服昵称, "]
)
def test_pairs(spec):
    mapping = ColumnMap.parse(spec)
    assert (mapping.text, mapping.agent_id, mapping.shop) == ("内容", "客服昵称", "shop")


def test_names_are_found_as_table_headers_spell_them():
    mapping = ColumnMap.parse("conversation_id=会话ＩＤ")
    assert mapping.value({"会话ID": 1}, "conversation_id") == 1
    assert mapping.value({"会话ＩＤ": 2}, "conversation_id") == 2


def test_file(tmp_path):
    path = tmp_path / "我们.yaml"
    path.write_text("text: [内容, 消息]\nroles: {1: agent, 2: customer}\n", encoding="utf-8")
    mapping = ColumnMap.parse(str(path))
    assert mapping.value({"消息": "亲"}, "text") == "亲"
    assert mapping.roles == {"1": "agent", "2": "customer"}


BAD_YAML = {
    "unknown.yaml": ("txt: 内容", "txt"),
    "role.yaml": ("roles: {甲: boss}", "unknown role boss"),
    "roles.yaml": ("roles: [agent]", "roles"),
    "list.yaml": ("- text", "list.yaml"),
    "broken.yml": ("text: [", "not valid YAML"),
}


@pytest.mark.parametrize("name", BAD_YAML)
def test_bad_files(tmp_path, name):
    content, problem = BAD_YAML[name]
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=problem):
        ColumnMap.parse(str(tmp_path / name))


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("txt=内容", "'txt=内容' must look like text=内容, once for each of text, id,"),
        ("roles=x", "'roles=x' must look like"),
        ("text=", "'text=' must look like"),
        ("text=a,内容", "'内容' must look like"),
        ("text=a,text=b", "'text=b' must look like"),
        ("taobao", "no mapping 'taobao'; give one of generic_zh, pdd, qianniu, qiyu"),
        ("missing.yaml", "cannot read configuration missing.yaml"),
    ],
)
def test_bad_specs(spec, problem):
    with pytest.raises(ConfigError, match=problem):
        ColumnMap.parse(spec)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("generic_zh", ["会话ID", "客服原话", "上一句(买家)"]),
        ("generic_zh", ["内容"]),
        ("qianniu", ["shopname", "active_user_nickname", "chatTime", "chatName", "chatTextLeft"]),
        ("qiyu", ["id", "text", "role", "staffName"]),
        ("pdd", ["消息内容", "角色"]),
    ],
)
def test_shipped_mappings(name, columns):
    check_columns(columns, ColumnMap.parse(name))


@pytest.mark.parametrize(
    ("spec", "columns", "problem"),
    [
        (
            None,
            ["内容", "角色"],
            "no column 'text' for 'text'; columns found: 内容, 角色. Map yours ",
        ),
        (None, [], "columns found: none. Map yours with --columns text=NAME"),
        ("generic_zh", ["会话ID"], "'客服原话' or '文本' or"),
        ("text=内容,agent_id=客服", ["内容"], "no column '客服' for 'agent_id'"),
        (None, ["a" * 90], f"found: {'a' * 30}\\. "),
    ],
)
def test_missing_columns(spec, columns, problem):
    with pytest.raises(DataError, match=problem):
        check_columns(columns, ColumnMap.parse(spec))


def test_unmapped_columns_are_optional():
    check_columns(["text"], ColumnMap())


# Rows without roles.


@pytest.mark.parametrize(
    ("values", "text", "context", "reason"),
    [
        ({"text": "亲", "context": "在吗"}, "亲", "在吗", ""),
        ({"text": " 亲 ", "context": None}, " 亲 ", "", ""),
        ({"text": 666, "context": 1.5}, "666", "1.5", ""),
        ({"text": "[图片] 加我"}, "[图片] 加我", "", ""),
        ({"text": "[订单] 13800000000"}, "[订单] 13800000000", "", ""),
        ({"text": "[微笑]"}, "[微笑]", "", ""),
        ({"text": "给您小额打款"}, "给您小额打款", "", ""),
        ({"text": "加v12345 撤回了一条消息"}, "加v12345 撤回了一条消息", "", ""),
        ({"text": ""}, None, None, "text is empty"),
        ({"text": " \n\u3000"}, None, None, "text is empty"),
        ({"text": None}, None, None, "text is empty"),
        ({"id": "1"}, None, None, "text is missing"),
        ({"text": ["亲"]}, None, None, "text is not a string"),
        ({"text": True}, None, None, "text is not a string"),
        ({"text": {}}, None, None, "text is not a string"),
        ({"text": " [图片]【语音】\n"}, None, None, "needs_media_review"),
        ({"text": "<Image>"}, None, None, "needs_media_review"),
        ({"text": "[表情]"}, None, None, "needs_media_review"),
        ({"text": "你撤回了一条消息"}, None, None, "system"),
        ({"text": '"t***8" 撤回了一条消息'}, None, None, "system"),
        ({"text": "对方正在输入…"}, None, None, "system"),
        ({"text": "对方正在语音/隐私号沟通中"}, None, None, "system"),
        ({"text": "邀请关注"}, None, None, "system"),
        ({"text": "[订单卡片] 订单号：240801-123456789012345"}, None, None, "system"),
    ],
)
def test_one_row(values, text, context, reason):
    (turn,) = turns([values])
    assert turn.reason == reason
    assert turn.message == (None if text is None else Message(text, context))
    assert turn.joined is None


def test_a_damaged_row_stays_damaged():
    row = Row(7, {"text": "亲", "role": "agent"}, "has 3 fields, but the header has 2")
    turn = Conversations().turn(row)
    assert (turn.row, turn.message, turn.reason) == (row, None, row.error)


def test_many_spaces_are_no_trouble():
    (turn,) = turns([{"text": "[图片]" + " " * 100_000 + "x"}])
    assert turn.message


# Roles and context.


def test_interleaved_conversations():
    rows = [
        ("A", "客户", "能开发票吗"),
        ("B", "买家", "是正品吗"),
        ("A", "客服", "不开"),
        ("B", "卖家", "您懂的"),
        ("A", "agent", "开不了"),
        ("B", "顾客", "什么"),
        ("B", "顾客", "意思"),
        ("A", "系统", "会话已转接"),
        ("B", "Bot", "请稍等"),
        ("B", "商家", "高仿"),
    ]
    assert scored(rows) == [
        ("能开发票吗", "不开"),
        ("是正品吗", "您懂的"),
        ("能开发票吗", "开不了"),
        ("什么 意思", "请稍等"),
        ("什么 意思", "高仿"),
    ]


def test_the_first_agent_line_has_no_context():
    assert scored([("A", "agent", "亲"), ("A", "customer", "在吗"), ("A", "agent", "在")]) == [
        ("", "亲"),
        ("在吗", "在"),
    ]


def test_a_context_column_fills_in():
    row = {"role": "agent", "text": "亲", "context": "在吗", "conversation_id": "A"}
    assert scored([row]) == [("在吗", "亲")]


def test_what_customers_send_beside_words():
    rows = [
        ("A", "customer", "看图"),
        ("A", "customer", "[图片]"),
        ("A", "customer", "买家撤回了一条消息"),
        ("A", "customer", None),
        ("A", "agent", "[图片]"),
        ("A", "customer", "然后呢"),
        ("A", "agent", "好"),
    ]
    assert scored(rows[:4] + rows[6:]) == [("看图 [图片]", "好")]
    assert scored(rows) == [("然后呢", "好")]
    assert [turn.reason for turn in turns(rows)] == ["", "", "", "", "needs_media_review", "", ""]


@pytest.mark.parametrize(
    ("role", "reason"),
    [
        (" ＡＧＥＮＴ ", ""),
        ("自动回复", ""),
        (None, "role is empty"),
        ("店长", "unknown role '店长'; map it under 'roles'"),
        (1, "unknown role '1'; map it under 'roles'"),
    ],
)
def test_role_values(role, reason):
    (turn,) = turns([("A", role, "亲")])
    assert turn.reason == reason
    assert (turn.message is None) == bool(reason)


def test_mapped_roles(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("roles: {0: customer, 店长: agent}\n", encoding="utf-8")
    assert scored([("A", 0, "在吗"), ("A", "店长", "在")], str(path)) == [("在吗", "在")]


def test_roles_without_conversation_ids():
    rows = [{"role": "customer", "text": "在吗"}, {"role": "agent", "text": "在"}]
    assert scored(rows) == [("在吗", "在")]
    blank = [{**row, "conversation_id": " "} for row in rows]
    assert scored(blank) == [("", "在")]


def test_qianniu_speakers():
    def row(speaker, text):
        return {"active_user_nickname": "t***8", "chatName": speaker, "chatTextLeft": text}

    rows = [row("t***8", "能便宜吗"), row("旗舰店:小美", "加微信"), row(None, "?")]
    assert scored(rows, "qianniu") == [("能便宜吗", "加微信")]
    assert turns(rows, "qianniu")[2].reason == "speaker is empty"


def test_pdd_system_texts():
    rows = [{"消息内容": "30s应答率", "角色": "商家"}, {"消息内容": "您好", "角色": "商家"}]
    assert scored(rows, "pdd") == [("", "您好")]
    assert turns(rows, "pdd")[0].reason == "system"


def test_old_conversations_are_forgotten(monkeypatch):
    monkeypatch.setattr(transcripts, "MAX_CONVERSATIONS", 2)
    rows = [(name, "customer", f"问{name}") for name in "ABAC"]
    rows += [(name, "agent", "答") for name in "ACB"]
    assert scored(rows) == [("问A 问A", "答"), ("问C", "答"), ("", "答")]


def test_context_does_not_grow_without_end():
    rows = [("A", "customer", f"问题{number:03}") for number in range(200)]
    ((context, _),) = scored([*rows, ("A", "agent", "答")])
    assert context.endswith("问题198 问题199")
    assert len(context) == transcripts.CONTEXT_CHARACTERS


def test_disorder_is_counted():
    conversations = Conversations()
    rows = [{"conversation_id": "A", "role": "agent", "text": "亲", "turn": n} for n in (3, "2", 4)]
    rows += [
        {"conversation_id": "B", "role": "agent", "text": "亲", "timestamp": time}
        for time in ("10:00:01", "bad", "10:00:00", "09:59:59")
    ]
    for number, values in enumerate(rows):
        conversations.turn(Row(number, values))
    assert conversations.disordered == 2


# Bubbles.


def test_bubbles_without_times():
    rows = [("A", "agent", text) for text in ("亲", "加我", "v", "abc123")]
    assert joined(rows) == [None, "亲 加我", "亲 加我 v", "加我 v abc123"]


def test_bubbles_keep_the_context():
    rows = [("A", "customer", "怎么联系"), ("A", "agent", "加我"), ("A", "agent", "v")]
    assert turns(rows)[2].joined == Message("加我 v", "怎么联系")


@pytest.mark.parametrize(
    ("times", "last"),
    [
        (["10:00:00", "10:00:30", "10:01:30", "10:02:30"], "a b c d"),
        (["10:00:00", "10:01:01", "10:01:30", "10:02:31"], None),
        (["10:00:00", "10:01:01", "10:01:30", "10:02:00"], "b c d"),
        (["10:00:00", "10:00:01", "10:00:02", "soon"], "b c d"),
        (["10:00:00", "10:00:01", None, "10:00:02"], "b c d"),
        ([None, "", {}, float("nan")], "b c d"),
        (["23:59:50", "23:59:55", "23:59:59", "00:00:01"], None),
        ([1_785_000_000, 1_785_000_001, 1_785_000_002, 1_785_000_003], "a b c d"),
    ],
)
def test_bubbles_with_times(times, last):
    rows = [("A", "agent", text, time) for text, time in zip("abcd", times, strict=True)]
    assert joined(rows)[3] == last


@pytest.mark.parametrize(
    ("between", "last"),
    [
        (("A", "customer", "嗯"), None),
        (("A", "customer", "[图片]"), None),
        (("A", "customer", ""), None),
        (("A", "bot", "您好"), None),
        (("A", "agent", "您好", None, "小丽"), None),
        (("B", "customer", "嗯"), "加我 v"),
        (("B", "agent", "您好", None, "小美"), "加我 v"),
        (("A", "system", "会话提醒"), "加我 v"),
        (("A", "agent", "[图片]", None, "小美"), "加我 v"),
        (("A", "agent", "你撤回了一条消息", None, "小美"), "加我 v"),
    ],
)
def test_what_stands_between_bubbles(between, last):
    rows = [("A", "agent", "加我", None, "小美"), between, ("A", "agent", "v", None, "小美")]
    assert joined(rows)[-1] == last


def test_a_picture_before_the_answer_does_not_join_over_a_question():
    rows = [("A", "agent", "加我"), ("A", "customer", "嗯"), ("A", "agent", "[图片]")]
    assert joined([*rows, ("A", "agent", "v")]) == [None, None]


def test_long_bubbles_are_not_joined():
    rows = [("A", "agent", text) for text in ("长" * 201, "a", "b" * 199, "c")]
    assert joined(rows) == [None, None, "a " + "b" * 199, "a " + "b" * 199 + " c"]


# Times.


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just([])


@given(st.lists(st.dictionaries(st.sampled_from((*NAMES, "turn", "context")), VALUES), max_size=6))
def test_no_row_crashes_and_none_is_lost(rows):
    for turn in turns(rows):
        assert turn.message is None or turn.message.text.strip()
        assert not (turn.message and turn.reason)
        if turn.joined:
            assert turn.message
            assert turn.joined.text.endswith(" " + turn.message.text)


def test_from_a_file(tmp_path: Path):
    path = tmp_path / "export.csv"
    content = "会话ＩＤ,角色,内容\nA,买家,在吗\nA,客服,在的\nA,客服,\n"
    path.write_bytes(content.encode("gb18030"))
    mapping = ColumnMap.parse("generic_zh")
    conversations = Conversations(mapping)
    found = [conversations.turn(row) for row in read(path)]
    assert [(turn.row.number, turn.reason) for turn in found] == [
        (2, ""),
        (3, ""),
        (4, "text is empty"),
    ]
    assert found[1].message == Message("在的", "在吗")
