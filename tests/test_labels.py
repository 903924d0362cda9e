"""The label set: shipped content, lookups, and what a changed file may and may not hold."""

import copy

import pytest
import yaml
from pydantic import ValidationError

from cs_classifier import resources
from cs_classifier.errors import ConfigError, CsClassifierError, LabelError
from cs_classifier.labels import load_labels

IDS = (
    "invoice_refusal",
    "promise_breach",
    "abuse_harassment",
    "off_platform_contact",
    "counterfeit_hint",
)
SHIPPED = load_labels()
CLAUSE = {
    "id": "slow_reply.unanswered",
    "zh": "不回复",
    "en": "No reply",
    "definition": "The agent leaves a question unanswered.",
    "severity": 1,
    "rule": "3分钟内回复",
    "source": "shop manual",
}
SIXTH = {
    "id": "slow_reply",
    "zh": "回复慢",
    "en": "Slow reply",
    "definition": "The agent answers too late.",
    "clauses": [CLAUSE],
}


@pytest.fixture
def content():
    path = resources.find("configs/labels.yaml")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture
def stored(tmp_path):
    def store(content):
        path = tmp_path / "labels.yaml"
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        return path

    return store


def test_labels_and_their_order():
    assert SHIPPED.ids == IDS
    assert len(SHIPPED) == 5
    assert [SHIPPED.index(label) for label in IDS] == [0, 1, 2, 3, 4]
    assert [SHIPPED[label].id for label in IDS] == list(IDS)


def test_clauses():
    assert len(SHIPPED.clauses) == 42
    assert [len(label.clauses) for label in SHIPPED.labels] == [11, 10, 7, 8, 6]
    for label in SHIPPED.labels:
        for clause in label.clauses:
            assert clause.label == label.id
            assert SHIPPED.clauses[clause.id] is clause
            assert SHIPPED.check_clause(clause.id) == clause.id


@pytest.mark.parametrize("clause", SHIPPED.clauses.values(), ids=lambda clause: clause.id)
def test_a_clause_is_complete(clause):
    assert clause.severity in {1, 2, 3}
    for field in ("zh", "en", "definition", "rule", "source"):
        assert getattr(clause, field).strip(), field


def test_every_severity_is_used():
    assert {clause.severity for clause in SHIPPED.clauses.values()} == {1, 2, 3}


def test_tags_stand_apart_from_labels():
    assert SHIPPED.tags
    assert len(SHIPPED.tag_ids) == len(SHIPPED.tags)
    assert not SHIPPED.tag_ids & set(SHIPPED.ids)
    assert all(tag.source.strip() and tag.definition.strip() for tag in SHIPPED.tags)


@pytest.mark.parametrize(
    ("labels", "row"),
    [
        ([], [0, 0, 0, 0, 0]),
        (["counterfeit_hint", "invoice_refusal"], [1, 0, 0, 0, 1]),
        (["promise_breach", "promise_breach"], [0, 1, 0, 0, 0]),
        (IDS, [1, 1, 1, 1, 1]),
    ],
)
def test_row(labels, row):
    assert SHIPPED.row(labels) == row


def test_unknown_label_is_named_and_the_known_ones_listed():
    for use in (SHIPPED.index, SHIPPED.__getitem__, lambda label: SHIPPED.row([label])):
        with pytest.raises(LabelError, match=r"'rudeness'.*invoice_refusal.*counterfeit_hint"):
            use("rudeness")
    assert issubclass(LabelError, CsClassifierError)


def test_unknown_clause_is_named():
    with pytest.raises(LabelError, match=r"'invoice_refusal\.mood'"):
        SHIPPED.check_clause("invoice_refusal.mood")


def test_label_set_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        SHIPPED.version = "2"


def test_a_sixth_label_needs_only_configuration(content, stored):
    content["labels"].append(SIXTH)
    changed = load_labels(stored(content))
    assert changed.ids == (*IDS, "slow_reply")
    assert len(changed) == 6
    assert changed.row(["slow_reply"]) == [0, 0, 0, 0, 0, 1]
    assert changed["slow_reply"].zh == "回复慢"
    assert changed.check_clause("slow_reply.unanswered").startswith("slow_reply")
    assert len(changed.clauses) == 43


def test_order_is_that_of_the_file(content, stored):
    content["labels"].reverse()
    assert load_labels(stored(content)).ids == IDS[::-1]


def test_repeated_clause_is_an_error(content, stored):
    clauses = content["labels"][0]["clauses"]
    clauses.append(copy.deepcopy(clauses[0]))
    with pytest.raises(ConfigError, match="unique"):
        load_labels(stored(content))


def test_repeated_label_is_an_error(content, stored):
    twin = {**content["labels"][0], "clauses": []}
    content["labels"].append(twin)
    with pytest.raises(ConfigError, match="unique"):
        load_labels(stored(content))


def test_misplaced_clause_is_an_error(content, stored):
    content["labels"][1]["clauses"].append(CLAUSE)
    wanted = r"clause slow_reply\.unanswered stands under label promise_breach"
    with pytest.raises(ConfigError, match=wanted):
        load_labels(stored(content))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"severity": 4}, r"severity"),
        ({"severity": 0}, r"severity"),
        ({"weight": 2}, r"weight"),
        ({"definition": None}, r"definition"),
    ],
)
def test_bad_field_is_named_with_the_file(content, stored, change, field):
    content["labels"][0]["clauses"][0] |= change
    with pytest.raises(ConfigError, match=rf"labels\.yaml.*\n.*clauses\.0\.{field}"):
        load_labels(stored(content))


def test_missing_field_is_named(content, stored):
    del content["labels"][2]["zh"]
    with pytest.raises(ConfigError, match=r"labels\.2\.zh"):
        load_labels(stored(content))


@pytest.mark.parametrize("raw", [b"", b"labels: [", "版本: 一".encode("gbk")])
def test_unreadable_content_names_the_file(tmp_path, raw):
    path = tmp_path / "labels.yaml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match=r"labels\.yaml"):
        load_labels(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_labels(tmp_path / "none.yaml")


def test_file_with_byte_order_mark(content, tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8-sig")
    assert load_labels(path) == SHIPPED


def test_missing_resource_says_what_to_do():
    with pytest.raises(ConfigError, match=r"configs/none\.yaml.*reinstall"):
        resources.find("configs/none.yaml")
