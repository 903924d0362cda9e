"""Rules: matching semantics on small files, and the shipped file against its examples and traps."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import yaml

from cs_classifier.errors import ConfigError, CsClassifierError
from cs_classifier.labels import load_labels
from cs_classifier.metrics import wilson
from cs_classifier.normalize import normalize
from cs_classifier.records import LabelledMessage, Message
from cs_classifier.rules import load_rules, statistics

TRAPS = [
    json.loads(line)
    for line in (Path(__file__).parent / "cases/traps.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
REFUSE = "invoice_refusal.outright_refuse"
TAX = "invoice_refusal.tax_surcharge"
INSULT = "abuse_harassment.insult"
CONTACT = "off_platform_contact.contact_id"
EXAMPLES = {
    "positive": [{"text": "一"}, {"text": "二"}],
    "negative": [{"text": "三"}, {"text": "四"}],
}


def rule(**fields):
    target = {} if "tag" in fields else {"clause": REFUSE}
    return {"id": "r", "source": "test", "examples": EXAMPLES} | target | fields


def write(path, *rules, **fields):
    content = {"version": "1", "rules": list(rules)} | fields
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


@pytest.fixture
def load(tmp_path):
    """Loads rules given as dictionaries."""
    return lambda *rules, **fields: load_rules(write(tmp_path / "small.yaml", *rules, **fields))


def found(rules, text, context=""):
    """Ids and evidence of the hits."""
    return [(hit.rule, hit.text) for hit in rules.match_message(Message(text, context))]


# The shipped file.


def test_every_inline_example_does_what_it_says():
    assert load_rules().failures() == []


def test_every_clause_has_a_rule_and_nothing_else_is_targeted():
    labels = load_labels()
    assert len(labels.clauses) == 42
    rules = load_rules().rules
    assert {rule.clause for rule in rules if rule.clause} == set(labels.clauses)
    assert {rule.tag for rule in rules if rule.tag} <= labels.tag_ids
    assert {rule.target for rule in rules if rule.clause} == set(labels.ids)


@pytest.mark.parametrize("shipped", load_rules().rules, ids=lambda rule: rule.id)
def test_every_rule_has_examples_a_source_and_a_use(shipped):
    texts = [(e.text, e.context) for e in (*shipped.examples.positive, *shipped.examples.negative)]
    assert len(shipped.examples.positive) >= 2
    assert len(shipped.examples.negative) >= 2
    assert len(set(texts)) == len(texts)
    assert shipped.source.strip()


def test_every_exemption_list_and_fragment_is_used():
    file = load_rules().file
    used = {name for rule in file.rules for name in rule.exempt}
    assert used == set(file.exemptions)
    text = file.model_dump_json()
    assert [name for name in file.fragments if f"{{{{{name}}}}}" not in text] == []


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap["text"])
def test_no_label_rule_hits_a_trap(trap):
    hits = load_rules().match_message(Message(trap["text"], trap["context"]))
    assert [(hit.rule, hit.text) for hit in hits if hit.clause] == []


def test_traps_are_distinct():
    assert len({(trap["context"], trap["text"]) for trap in TRAPS}) == len(TRAPS) >= 40


@pytest.mark.parametrize(
    ("text", "context", "label", "evidence"),
    [
        ("亲，fa票没有的哦", "", "invoice_refusal", "fa票没有的"),
        ("真开不出来", "能开發票嗎", "invoice_refusal", "真开不出来"),
        ("你这个煞笔", "", "abuse_harassment", "煞笔"),
        ("这批是精·仿的 看不出来", "", "counterfeit_hint", "精·仿"),
    ],
)
def test_a_hidden_spelling_is_hit_and_quoted_as_written(text, context, label, evidence):
    hits = [h for h in load_rules().match_message(Message(text, context)) if h.clause]
    assert {hit.target for hit in hits} == {label}
    assert evidence in {hit.text for hit in hits}
    assert all(hit.text == text[hit.start : hit.end] for hit in hits)


# What makes a rule fire.


def test_any_trigger_fires_once_at_the_leftmost_place(load):
    rules = load(rule(triggers=["乙", "甲"]))
    assert found(rules, "丙") == []
    assert found(rules, "丙甲丙乙甲") == [("r", "甲")]
    (hit,) = rules.match_message(Message("丙甲丙乙甲"))
    assert (hit.start, hit.end, hit.target, hit.clause) == (1, 2, "invoice_refusal", REFUSE)


def test_rules_hit_in_file_order_with_their_strength(load):
    rules = load(
        rule(id="b", triggers=["甲"], strength=0.4),
        rule(id="a", tag="cold_tone", triggers=["乙"]),
    )
    hits = rules.match_message(Message("乙甲"))
    assert [(h.rule, h.target, h.clause, h.strength) for h in hits] == [
        ("b", "invoice_refusal", REFUSE, 0.4),
        ("a", "cold_tone", "", 0.8),
    ]


def test_an_empty_match_is_no_hit(load):
    assert found(load(rule(triggers=["甲*"])), "乙乙") == []


def test_patterns_ignore_case(load):
    assert found(load(rule(triggers=["abc"])), "ABC") == [("r", "ABC")]


@pytest.mark.parametrize(
    ("fields", "text", "context", "fires"),
    [
        # needs: any, anywhere in the line
        ({"needs": ["乙", "丙"]}, "甲", "", False),
        ({"needs": ["乙", "丙"]}, "甲", "乙", False),
        ({"needs": ["乙", "丙"]}, "甲,丙", "", True),
        # context: any, in the customer's message only
        ({"context": ["乙", "丙"]}, "甲乙", "", False),
        ({"context": ["乙", "丙"]}, "甲", "丁", False),
        ({"context": ["乙", "丙"]}, "甲", "丙", True),
        # unless: none in the clause of the line where the trigger stands
        ({"unless": ["乙"]}, "甲乙", "", False),
        ({"unless": ["乙"]}, "乙丙甲", "", False),
        ({"unless": ["乙"]}, "甲,乙", "", True),
        ({"unless": ["乙"]}, "乙。甲", "", True),
        ({"unless": ["乙"]}, "乙但是甲", "", True),
        ({"unless": ["乙"]}, "乙！甲", "", True),
        ({"unless": ["乙"]}, "甲", "乙", True),
        ({"unless": ["乙"]}, "甲乙,甲", "", True),
        ({"unless": ["乙"]}, "甲乙,甲乙", "", False),
        # unless_line: none anywhere in the line
        ({"unless_line": ["乙"]}, "甲。丙,乙", "", False),
        ({"unless_line": ["乙"]}, "甲", "乙", True),
        # unless_context: none in the customer's message
        ({"unless_context": ["乙"]}, "甲", "丙乙", False),
        ({"unless_context": ["乙"]}, "甲乙", "", True),
        # an exemption list works like unless
        ({"exempt": ["quote"]}, "甲丁", "", False),
        ({"exempt": ["quote"]}, "甲,丁", "", True),
        # conditions add up
        ({"needs": ["乙"], "context": ["丙"], "unless": ["丁"]}, "甲乙", "丙", True),
        ({"needs": ["乙"], "context": ["丙"], "unless": ["丁"]}, "甲乙丁", "丙", False),
        ({"needs": ["乙"], "context": ["丙"], "unless": ["丁"]}, "甲乙", "", False),
        ({"needs": ["乙"], "context": ["丙"], "unless": ["丁"]}, "甲", "丙", False),
    ],
)
def test_conditions(load, fields, text, context, fires):
    rules = load(rule(triggers=["甲"], **fields), exemptions={"quote": ["丁", "戊"]})
    assert bool(found(rules, text, context)) == fires


def test_a_trigger_that_spans_clauses_is_judged_on_all_of_them(load):
    rules = load(rule(triggers=["甲,乙"], unless=["丙"]))
    assert found(rules, "丁,甲,乙,丁") == [("r", "甲,乙")]
    assert found(rules, "甲,乙丙") == []
    assert found(rules, "丙甲,乙") == []
    assert found(rules, "甲,乙,丙") == [("r", "甲,乙")]


def test_the_hit_moves_on_to_the_clause_without_exemption(load):
    (hit,) = load(rule(triggers=["甲"], unless=["乙"])).match_message(Message("乙甲,丙甲"))
    assert (hit.start, hit.end) == (4, 5)


def test_fragments_are_inserted_as_one_group_and_may_nest(load):
    rules = load(
        rule(triggers=["不{{DO}}票"], unless=["{{DO}}心"]),
        fragments={"DO": "开|{{GIVE}}", "GIVE": "给|送"},
    )
    assert found(rules, "不开票") == [("r", "不开票")]
    assert found(rules, "不送票") == [("r", "不送票")]
    assert found(rules, "开心不开票") == []
    assert found(rules, "不") == []


@pytest.mark.parametrize(
    ("trigger", "text", "evidence"),
    [
        ("加微信", "亲，加薇❤看图", "加薇❤"),
        ("加微信", "亲，加 微\u200b信看图", "加 微\u200b信"),
        ("没有发票", "亲親，沒有發票的", "沒有發票"),
        ("13800138000", "打138-0013-8000吧", "138-0013-8000"),
        ("微信", "ＶＸ联系", "ＶＸ"),
    ],
)
def test_evidence_is_the_original_text(load, trigger, text, evidence):
    (hit,) = load(rule(triggers=[trigger])).match_message(Message(text))
    assert hit.text == evidence == text[hit.start : hit.end]


def test_the_context_is_normalised_too(load):
    rules = load(rule(triggers=["没有"], context=["发票"]))
    assert found(rules, "沒有", "有fa票吗") == [("r", "沒有")]


def test_match_and_match_message_agree(load):
    rules = load(rule(triggers=["甲"], context=["发票"]))
    line = Message("甲乙", "發票")
    hits = rules.match(normalize(line.text), normalize(line.context).text)
    assert hits == rules.match_message(line) != []


def test_an_empty_file_and_an_empty_line(load):
    assert found(load(), "甲") == []
    assert found(load(rule(triggers=["甲"])), "") == []


# Examples of a rule file.


def test_failures_name_the_example_that_fails(load):
    examples = {
        "positive": [{"text": "甲"}, {"text": "乙", "context": "丙"}],
        "negative": [{"text": "甲甲"}, {"text": "丁"}],
    }
    failures = load(rule(triggers=["甲"], examples=examples)).failures()
    assert [(f.rule, f.example.text, f.example.context, f.expected) for f in failures] == [
        ("r", "乙", "丙", True),
        ("r", "甲甲", "", False),
    ]


def test_an_example_must_be_hit_by_its_own_rule(load):
    examples = {**EXAMPLES, "positive": [{"text": "乙"}, {"text": "甲"}]}
    rules = load(rule(triggers=["甲"], examples=examples), rule(id="s", triggers=["乙"]))
    assert ("r", "乙") in [(f.rule, f.example.text) for f in rules.failures()]


# Errors.


@pytest.mark.parametrize(
    ("rules", "fields", "words"),
    [
        ([rule(triggers=["{{NAME}}甲"])], {}, ["{{NAME}}"]),
        ([rule(triggers=["甲"], exempt=["nobody"])], {}, ["rule r", "nobody"]),
        ([rule(triggers=["甲"], tag="no_such_tag")], {}, ["rule r", "no_such_tag"]),
        ([rule(triggers=["甲"]), rule(triggers=["乙"])], {}, ["'r'", "twice"]),
        ([rule(triggers=["甲(?!乙)"])], {}, ["甲(?!乙)", "RE2"]),
        ([rule(triggers=["甲"], unless=["(?<=甲)乙"])], {}, ["(?<=甲)乙"]),
        ([rule(triggers=["甲"], context=[r"(.)\1"])], {}, [r"(.)\\1"]),
        ([rule(triggers=["("])], {}, ["small.yaml"]),
        (
            [rule(triggers=["甲"], clause=REFUSE, tag="cold_tone")],
            {},
            ["rule r", "clause or a tag"],
        ),
        ([rule(triggers=["甲"], clause="")], {}, ["rule r", "clause or a tag"]),
        ([rule(triggers=[])], {}, ["triggers"]),
        ([rule(triggers=["甲"], strength=0)], {}, ["strength"]),
        ([rule(triggers=["甲"], strength=1.5)], {}, ["strength"]),
        ([rule(triggers=["甲"], unles=["乙"])], {}, ["unles"]),
        ([rule(triggers=["甲"])], {"extra": 1}, ["extra"]),
        (
            [rule(triggers=["甲"], examples={**EXAMPLES, "positive": [{"text": "甲"}]})],
            {},
            ["positive"],
        ),
        (
            [rule(triggers=["甲"], examples={**EXAMPLES, "negative": [{"text": "乙"}]})],
            {},
            ["negative"],
        ),
        ([{"id": "r", "clause": REFUSE, "triggers": ["甲"], "source": "x"}], {}, ["examples"]),
    ],
)
def test_a_bad_file_is_an_error_that_names_the_fault(load, rules, fields, words):
    with pytest.raises(ConfigError) as error:
        load(*rules, **fields)
    assert "small.yaml" in str(error.value)
    assert all(word in str(error.value) for word in words)


def test_an_unknown_clause_is_named(load):
    with pytest.raises(CsClassifierError, match="no_such_clause"):
        load(rule(triggers=["甲"], clause="invoice_refusal.no_such_clause"))


def test_an_unknown_clause_is_a_configuration_error(load):
    with pytest.raises(ConfigError, match=r"small\.yaml.*rule r"):
        load(rule(triggers=["甲"], clause="invoice_refusal.no_such_clause"))


def test_a_missing_or_broken_file(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_rules(tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("rules: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load_rules(broken)


# Statistics.


def labelled(text, *labels):
    return LabelledMessage(id=text, message=Message(text), labels=labels)


def test_statistics_by_hand(load):
    rules = load(
        rule(id="a", triggers=["甲"]),
        rule(id="b", clause=TAX, triggers=["乙"]),
        rule(id="c", clause=INSULT, triggers=["丙"]),
        rule(id="t", tag="cold_tone", triggers=["甲"]),
        rule(id="z", clause=CONTACT, triggers=["丁"]),
    )
    lines = [
        labelled("甲", "invoice_refusal"),  # a t
        labelled("甲乙", "invoice_refusal"),  # a b t: overlap of a and b
        labelled("甲丙", "abuse_harassment"),  # a c t: conflict of a and c; a is wrong
        labelled("乙"),  # b, wrong
        labelled("丙", "abuse_harassment", "invoice_refusal"),  # c
        labelled("戊"),
        labelled("戊", "invoice_refusal"),
        labelled("甲乙丙", "invoice_refusal"),  # a b c t: overlap and conflict; c is wrong
    ]
    table = {row.rule: row for row in statistics(rules, lines)}
    assert list(table) == ["a", "b", "c", "t", "z"]
    measured = {
        name: (row.hits, row.coverage * 8, row.overlap * 8, row.conflict * 8, row.correct)
        for name, row in table.items()
    }
    assert measured == {
        "a": (4, 4, 2, 2, 3),
        "b": (3, 3, 2, 1, 2),
        "c": (3, 3, 0, 2, 2),
        "t": (4, 4, 0, 4, 0),
        "z": (0, 0, 0, 0, 0),
    }
    assert table["a"].precision == 0.75
    assert table["a"].interval == wilson(3, 4)
    assert table["a"].target == "invoice_refusal"
    assert table["t"].target == "cold_tone"
    assert math.isnan(table["z"].precision)


def test_statistics_without_lines(load):
    (row,) = statistics(load(rule(triggers=["甲"])), [])
    assert (row.hits, row.coverage, row.overlap, row.conflict) == (0, 0, 0, 0)
    assert math.isnan(row.precision)


def test_hits_of_the_shipped_examples_count_as_hits():
    rules = load_rules()
    lines = [
        LabelledMessage(id=r.id, message=Message(e.text, e.context), labels=(r.target,))
        for r in rules.rules
        if r.clause
        for e in r.examples.positive
    ]
    table = {row.rule: row for row in statistics(rules, lines)}
    given = Counter(line.id for line in lines)
    assert all(table[name].correct >= count for name, count in given.items())
