import zlib
from pathlib import Path

import numpy as np
import pytest

from cs_classifier import artifact
from cs_classifier.classifiers.batching import ROUNDING
from cs_classifier.decision import Decision, LabelThresholds
from cs_classifier.pipeline import (
    MAX_WINDOWS,
    STRIDE,
    WINDOW,
    Pipeline,
    windows,
)
from cs_classifier.prediction import combine, predict_turns
from cs_classifier.records import Message
from cs_classifier.tables import Row
from cs_classifier.transcripts import ColumnMap, Conversations
from tests import hand_made

MESSAGES = [
    Message("没有票的", "能开票吗"),
    Message("没有票的"),
    Message("加微信abc12345", "怎么联系"),
    Message("在的亲", "在吗"),
    Message("高仿的,看不出来", "是正品吗"),
    Message("傻逼买家"),
]


@pytest.fixture(scope="module")
def pipeline(artifact_folder: Path) -> Pipeline:
    return artifact.load(artifact_folder)


def test_batch_equals_single_and_order_is_kept(pipeline: Pipeline) -> None:
    together = pipeline.predict(MESSAGES + MESSAGES[::-1])
    for message, found in zip(MESSAGES + MESSAGES[::-1], together, strict=True):
        alone = pipeline.predict([message])[0]
        np.testing.assert_allclose(found.probabilities, alone.probabilities, atol=1e-5)
        assert found.outcomes == alone.outcomes
        assert found.hits == alone.hits


class Spread:
    """Logits between -4 and 4 by a checksum of the text, off by up to ``error``."""

    name = "spread"

    def __init__(self, n_labels: int, error: float = 0.0) -> None:
        self.n_labels, self.error = n_labels, error

    def logits(self, pairs):
        seeds = [zlib.crc32("|".join(pair).encode()) for pair in pairs]
        exact, off = np.array(
            [np.random.default_rng(seed).uniform(-1, 1, (2, self.n_labels)) for seed in seeds]
        ).swapaxes(0, 1)
        return 4 * exact + self.error * off


def test_rounding_changes_no_decision() -> None:
    messages = [Message(f"好的{i}", "在吗") for i in range(400)]
    pipeline = hand_made.pipeline()
    pipeline.decision = Decision(
        labels=(LabelThresholds(review=0.4, violation=0.6),) * len(pipeline.label_set),
        config=pipeline.decision.config,
    )
    exact = pipeline.encoder = Spread(len(pipeline.label_set))
    expected = [p.outcomes for p in pipeline.predict(messages)]
    pipeline.encoder = Spread(len(pipeline.label_set), ROUNDING)
    assert [p.outcomes for p in pipeline.predict(messages)] != expected
    pipeline.exact = exact
    assert [p.outcomes for p in pipeline.predict(messages)] == expected


class ClauseEncoder:
    """Flags the first label of every line; its clauses by a fixed preference."""

    def __init__(self, label_set, clauses, favourite):
        self.row = [9.0] + [-9.0] * (len(label_set) - 1) + [float(c == favourite) for c in clauses]

    def logits(self, pairs):
        return np.array([self.row for _ in pairs])


def test_the_likeliest_clause_of_a_flagged_label_is_named(pipeline: Pipeline) -> None:
    labels = pipeline.label_set
    clauses = tuple(labels.clauses)
    favourite = [c for c in clauses if labels.clauses[c].label == labels.ids[0]][2]
    named = Pipeline(
        label_set=labels,
        rules=pipeline.rules,
        normalizer=pipeline.normalize,
        encoder=ClauseEncoder(labels, clauses, favourite),
        calibrator=pipeline.calibrator,
        decision=Decision(
            labels=(LabelThresholds(review=0.5, violation=0.5),) * len(labels),
            config=pipeline.decision.config,
        ),
        model_id="clauses",
        clauses=clauses,
    )
    found = named.predict([Message("好的呢")])[0]
    assert found.outcomes == ("violation", *["clear"] * (len(labels) - 1))
    assert found.clauses == (favourite,)
    assert {(e.source, e.clause) for e in found.evidence} == {("model", favourite)}


def test_without_a_clause_head_the_first_rule_names_the_clause(pipeline: Pipeline) -> None:
    for found in pipeline.predict(MESSAGES):
        ruled = {e.clause for e in found.evidence if e.source != "model"}
        assert set(found.clauses) <= ruled


def test_nothing_in_nothing_out(pipeline: Pipeline) -> None:
    assert pipeline.predict([]) == []


def test_saved_equals_in_memory(pipeline: Pipeline, artifact_folder: Path) -> None:
    assert artifact.load(artifact_folder).predict(MESSAGES) == pipeline.predict(MESSAGES)


def test_outcomes_follow_probabilities_and_rules(pipeline: Pipeline) -> None:
    found = pipeline.predict(MESSAGES)
    strengths = pipeline.score(MESSAGES).strengths
    assert [p.outcomes for p in found] == pipeline.decision.outcomes(
        [p.probabilities for p in found], strengths
    )
    assert (strengths >= pipeline.decision.config.review_strength).any()


def test_every_violation_has_evidence_in_the_line(pipeline: Pipeline) -> None:
    flagged = 0
    for message, found in zip(MESSAGES, pipeline.predict(MESSAGES), strict=True):
        for label, outcome in zip(pipeline.label_set.ids, found.outcomes, strict=True):
            spans = [e for e in found.evidence if e.label == label]
            assert spans or outcome != "violation"
            assert outcome != "clear" or not spans
            flagged += len(spans)
            for e in spans:
                assert e.text == message.text[e.start : e.end]
                assert e.text
    assert flagged


def test_evasion_scores_like_the_plain_spelling(pipeline: Pipeline) -> None:
    plain, hidden = pipeline.predict(
        [Message("加微信abc12345", "怎么联系"), Message("加薇❤️abc12345", "怎么聯系")]
    )
    assert plain.probabilities == hidden.probabilities
    assert hidden.hits[0].text.startswith("加薇")


@pytest.mark.parametrize("length", [1, WINDOW, WINDOW + 1, 500, 5000])
def test_windows_cover_the_text(length: int) -> None:
    text = "".join(chr(0x4E00 + i % 2000) for i in range(length))
    parts = windows(text)
    assert all(len(part) <= WINDOW for part in parts)
    rebuilt = parts[0] + "".join(part[WINDOW - STRIDE :] for part in parts[1:])
    assert rebuilt == text


def test_a_violation_anywhere_in_a_long_line_is_seen(pipeline: Pipeline) -> None:
    filler = "在的亲" * 100
    short = pipeline.score([Message("加我微信给您优惠")])
    long = pipeline.score([Message(f"{filler}加我微信给您优惠{filler}")])
    column = pipeline.label_set.index("off_platform_contact")
    assert long.strengths[0, column] == short.strengths[0, column] > 0
    assert not long.truncated[0]


def test_a_line_of_100000_characters_is_cut_and_says_so(pipeline: Pipeline) -> None:
    found = pipeline.predict([Message("在的亲" * 33_334)])[0]
    assert found.truncated
    assert WINDOW * MAX_WINDOWS < 100_000


def turns(rows: list[dict[str, object]]) -> list:
    conversations = Conversations(ColumnMap())
    return [conversations.turn(Row(i, row)) for i, row in enumerate(rows)]


def test_an_act_split_over_bubbles_goes_to_the_bubble_that_completes_it(pipeline: Pipeline) -> None:
    rows = [
        {"conversation_id": "1", "role": "customer", "text": "怎么联系"},
        {"conversation_id": "1", "role": "agent", "text": "加我"},
        {"conversation_id": "1", "role": "agent", "text": "微信abc12345"},
    ]
    found = predict_turns(pipeline, turns(rows))
    assert found[0] is None
    column = pipeline.label_set.index("off_platform_contact")
    assert found[2].prediction.outcomes[column] != "clear"
    alone = pipeline.predict([Message("微信abc12345", "怎么联系")])[0]
    expected = pipeline.predict([Message("加我 微信abc12345", "怎么联系")])[0]
    higher = expected.probabilities[column] > alone.probabilities[column]
    assert found[2].joined == (higher and expected.outcomes[column] != alone.outcomes[column])


def test_joined_labels_are_taken_only_where_they_add_something(pipeline: Pipeline) -> None:
    clear, loud = pipeline.predict(
        [Message("在的亲", "在吗"), Message("加微信abc12345", "怎么联系")]
    )
    assert combine(pipeline, clear, clear, clear, shift=3).joined is False
    assert combine(pipeline, clear, loud, loud, shift=3).joined is False  # said before
    both = combine(pipeline, clear, loud, clear, shift=3)
    assert both.joined is True
    assert both.prediction.outcomes == loud.outcomes
    assert all(e.end <= len("加微信abc12345") - 3 for e in both.prediction.evidence)
