"""The evaluation, on a few lines whose every number can be counted by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from cs_classifier.calibration import Calibrator, LabelCalibration
from cs_classifier.classifiers.batching import token_batches
from cs_classifier.classifiers.regex import RegexClassifier
from cs_classifier.classifiers.tfidf import TfidfClassifier
from cs_classifier.config import DecisionConfig
from cs_classifier.decision import Decision, LabelThresholds
from cs_classifier.errors import DataError
from cs_classifier.evaluation import (
    best_f1_threshold,
    evaluate,
    fit_tfidf,
    recall_at_precision,
)
from cs_classifier.labels import load_labels
from cs_classifier.normalize import default_normalizer
from cs_classifier.pipeline import Pipeline
from cs_classifier.records import LabelledMessage, Message
from cs_classifier.rules import RuleFile, RuleSet

LABELS = load_labels()
INVOICE, CONTACT = "invoice_refusal", "off_platform_contact"
REFUSE, CONTACT_ID = "invoice_refusal.outright_refuse", "off_platform_contact.contact_id"
REST = tuple(label for label in LABELS.ids if label not in {INVOICE, CONTACT})


def rule(clause, triggers):
    ok = [{"text": "开不了"}, {"text": "加群"}]
    return {
        "id": clause,
        "clause": clause,
        "strength": 0.8,
        "triggers": triggers,
        "source": "tests",
        "examples": {"positive": ok, "negative": ok},
    }


RULES = RuleSet(
    RuleFile(version="1", rules=[rule(REFUSE, ["开不了"]), rule(CONTACT_ID, ["加群", "电话"])]),
    LABELS,
)

# id, text, gold labels, clauses, logits of the labels that are not -9, group
LINES = [
    ("i1", "这个开不了票", [INVOICE], [REFUSE], {INVOICE: 4}, "a"),
    ("i2", "不给开", [INVOICE], [REFUSE], {INVOICE: 3}, "a"),
    ("i3", "没票哈", [INVOICE], [REFUSE], {INVOICE: 0}, "b"),  # review: missed
    ("i4", "谁要票谁加钱", [INVOICE], [], {INVOICE: -6}, "c"),  # clear: missed
    ("c1", "进来加群领券", [CONTACT], [CONTACT_ID], {CONTACT: 5}, "d"),
    (
        "b1",
        "开不了,加群吧",
        [INVOICE, CONTACT],
        [REFUSE, CONTACT_ID],
        {INVOICE: 2, CONTACT: 2},
        "e",
    ),
    ("n1", "快递电话在面单上", [], [CONTACT_ID], {CONTACT: 2.5}, "f"),  # called: false
    ("n2", "活动链接开不了", [], [REFUSE], {}, "f"),  # the rule alone is wrong
    ("n3", "好的亲", [], [], {}, "g"),
    ("n4", "明天发货", [], [], {INVOICE: 0.5}, "h"),  # review: no false call
]
BORDERLINE = ("x1", "票的事回头说", [INVOICE], [], {INVOICE: 4}, "i")


class DictionaryEncoder:
    """Logits looked up by text; -9 for any text or label that has none."""

    def __init__(self, rows):
        self.known = {default_normalizer()(text).text: logits for _, text, _, _, logits, _ in rows}

    def logits(self, pairs):
        return np.array(
            [
                [self.known.get(text, {}).get(label, -9.0) for label in LABELS.ids]
                for _, text in pairs
            ]
        ).reshape(len(pairs), len(LABELS))


def pipeline_of(rows, rule_weight=0.0):
    calibration = LabelCalibration(slope=1, rule=rule_weight, offset=0, positives=1, lines=2)
    thresholds = LabelThresholds(review=0.4, violation=0.8)  # logits -0.41 and 1.39
    return Pipeline(
        label_set=LABELS,
        rules=RULES,
        normalizer=default_normalizer(),
        encoder=DictionaryEncoder(rows),
        calibrator=Calibrator(labels=(calibration,) * len(LABELS), prevalence=0.01),
        decision=Decision(labels=(thresholds,) * len(LABELS), config=DecisionConfig()),
        model_id="by-hand",
    )


def labelled(rows, status="gold"):
    return [
        LabelledMessage(
            id=name,
            message=Message(text),
            labels=tuple(label for label in LABELS.ids if label in labels),
            clauses=tuple(clauses),
            status=status,
            group=group,
        )
        for name, text, labels, clauses, _, group in rows
    ]


@pytest.fixture(scope="module")
def report():
    lines = labelled(LINES) + labelled([BORDERLINE], status="borderline")
    return evaluate(pipeline_of([*LINES, BORDERLINE]), lines, train=TRAIN, files=["hand.jsonl"])


def system(report, key):
    (found,) = [one for one in report.systems if one.system == key]
    return found


def scores(report, key, label):
    return system(report, key).labels[LABELS.index(label)]


def difference(report, baseline, label):
    (found,) = [d for d in report.differences if (d.baseline, d.label) == (baseline, label)]
    return found


TRAIN = labelled(
    [
        row
        for i in range(12)
        for row in (
            (f"t{i}a", f"第{i}单开不了发票", [INVOICE], [], {}, f"t{i}"),
            (f"t{i}b", f"加群领{i}元券", [CONTACT], [], {}, f"u{i}"),
            (f"t{i}c", f"第{i}单明天发货哈", [], [], {}, f"v{i}"),
            (f"t{i}d", f"亲{i}号快递到了", [], [], {}, f"w{i}"),
        )
    ]
)


def test_borderline_lines_are_only_counted(report):
    assert (report.lines, report.borderline, report.groups) == (10, 1, 8)
    assert "x1" not in {error.id for error in report.errors}
    assert (report.model, report.files, report.notes) == ("by-hand", ("hand.jsonl",), ())


def test_systems_and_labels_stand_in_order(report):
    assert [one.system for one in report.systems] == ["regex", "tfidf", "model", "model+review"]
    for one in report.systems:
        assert tuple(row.label for row in one.labels) == LABELS.ids
        assert tuple(row.clause for row in one.clauses) == tuple(LABELS.clauses)


@pytest.mark.parametrize(
    ("key", "label", "counts"),
    [
        ("model", INVOICE, (3, 3, 5)),  # i1 i2 b1 of i1-i4 b1
        ("model", CONTACT, (2, 3, 2)),  # c1 b1, and n1 wrongly
        ("model+review", INVOICE, (4, 6, 5)),  # and i3, n4 wrongly, and n2 since a rule fires
        ("model+review", CONTACT, (2, 3, 2)),
        ("regex", INVOICE, (2, 3, 5)),  # i1 b1, and n2 wrongly
        ("regex", CONTACT, (2, 3, 2)),
    ],
)
def test_counts_and_ratios_by_hand(report, key, label, counts):
    hits, called, support = counts
    found = scores(report, key, label)
    assert (found.hits, found.called, found.support) == (hits, called, support)
    assert found.precision.value == pytest.approx(hits / called)
    assert found.recall.value == pytest.approx(hits / support)
    assert found.f1.value == pytest.approx(2 * hits / (called + support))
    for estimate in (found.precision, found.recall, found.f1):
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


@pytest.mark.parametrize("label", REST)
def test_label_without_gold_lines_and_calls_has_no_number(report, label):
    found = scores(report, "model", label)
    assert (found.hits, found.called, found.support) == (0, 0, 0)
    for value in (found.precision.value, found.recall.value, found.f1.value):
        assert math.isnan(value)
    assert math.isnan(found.average_precision)


def test_macro_f1_is_the_mean_over_labels_with_a_number(report):
    assert system(report, "model").macro_f1.value == pytest.approx((6 / 8 + 4 / 5) / 2)
    assert system(report, "regex").macro_f1.value == pytest.approx((4 / 8 + 4 / 5) / 2)


@pytest.mark.parametrize(("key", "called"), [("model", 1), ("model+review", 3), ("regex", 2)])
def test_false_calls_on_clean_lines(report, key, called):
    found = system(report, key)
    assert (found.clean_lines, found.clean_called) == (4, called)
    assert found.per_thousand_clean.value == pytest.approx(250 * called)
    assert found.per_thousand_clean.low <= 250 * called <= found.per_thousand_clean.high


def test_average_precision_and_calibration_of_the_model(report):
    found = scores(report, "model", CONTACT)
    # by logit: c1 5 (right), n1 2.5 (wrong), b1 2 (right), the rest -9
    assert found.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert sum(row[2] for row in found.reliability) == 10
    p = 1 / (1 + np.exp(-np.array([5, 2.5, 2, -9])))
    high = abs((p[0] + p[1]) / 2 - 0.5) * 2  # c1 and n1 share the top bin, b1 has its own
    assert found.ece == pytest.approx((high + (1 - p[2]) + 7 * p[3]) / 10)


def test_regex_has_no_calibration(report):
    found = scores(report, "regex", INVOICE)
    assert found.ece is None
    assert found.reliability == ()
    assert scores(report, "tfidf", INVOICE).ece is not None


def test_clauses_by_hand(report):
    rows = {row.clause: row for row in system(report, "model").clauses}
    refuse, contact = rows[REFUSE], rows[CONTACT_ID]
    assert (refuse.support, refuse.recall) == (4, 3 / 4)  # i1 i2 i3 b1
    assert (refuse.near, refuse.false_alarms, refuse.precision) == (1, 0, 1)  # n2
    assert (contact.support, contact.recall) == (2, 1)
    assert (contact.near, contact.false_alarms) == (1, 1)  # n1
    assert contact.precision == pytest.approx(2 / 3)
    assert contact.f1 == pytest.approx(0.8)
    other = rows["abuse_harassment.insult"]
    assert (other.support, other.near) == (0, 0)
    assert math.isnan(other.recall)


def test_differences_by_hand(report):
    invoice = difference(report, "regex", INVOICE)
    assert invoice.f1.value == pytest.approx(6 / 8 - 4 / 8)
    assert invoice.beats == (invoice.f1.low > 0)
    assert invoice.baseline_recall == pytest.approx(2 / 5)
    # by logit i1 i2 b1 right, n4 wrong, i3 right, then i4: precision 4/5 >= 2/3, then 5/6
    assert invoice.model_recall_at_baseline_precision == 1
    macro = difference(report, "regex", "macro")
    assert macro.f1.value == pytest.approx((6 / 8 - 4 / 8) / 2)
    assert {d.baseline for d in report.differences} == {"regex", "tfidf"}
    assert len(report.differences) == 2 * (len(LABELS) + 1)


def test_contrast_groups_must_be_right_in_every_line(report):
    """Group e: two labels and none; group f: two clean lines, so it does not contrast."""
    groups = {}
    for line in labelled(LINES):
        groups.setdefault(line.group, set()).add(line.labels)
    assert report.contrast_groups == sum(len(found) > 1 for found in groups.values())


def test_contrast_groups_by_hand():
    rows = [
        ("s1", "不可以的", [INVOICE], [], {INVOICE: 4}, "right"),
        ("s2", "不可以的哦", [], [], {}, "right"),
        ("s3", "不行的", [INVOICE], [], {INVOICE: 4}, "half"),
        ("s4", "不行的哦", [], [], {INVOICE: 4}, "half"),
        ("s5", "没有", [], [], {INVOICE: 4}, "no contrast"),
        ("s6", "没有哦", [], [], {}, "no contrast"),
    ]
    found = evaluate(pipeline_of(rows), labelled(rows))
    assert found.contrast_groups == 2
    assert system(found, "model").groups_right.value == 0.5
    assert system(found, "regex").groups_right.value == 0


def test_origins_by_hand():
    rows = [
        ("s1", "不可以的", [INVOICE], [], {INVOICE: 4}, "a"),
        ("s2", "不可以的哦", [], [], {INVOICE: 4}, "b"),
        ("s3", "没有", [INVOICE], [], {INVOICE: -4}, "c"),
    ]
    lines = [
        replace(line, origin=origin)
        for line, origin in zip(labelled(rows), ("one", "one", "two"), strict=True)
    ]
    one, two = evaluate(pipeline_of(rows), lines).origins
    assert (one.origin, one.lines, one.clean_lines) == ("one", 2, 1)
    assert one.macro_f1[1] == pytest.approx(2 / 3)  # regex, model, model+review
    assert one.clean_called == (0, 1, 1)
    assert (two.macro_f1[1], two.clean_called) == (0, (0, 0, 0))
    assert evaluate(pipeline_of(rows), labelled(rows)).origins == ()


def test_equal_systems_differ_by_nothing():
    """The encoder finds exactly what the rules find: same calls, paired difference zero."""
    hits = RegexClassifier(RULES, LABELS).scores([line.message for line in labelled(LINES)])
    rows = [
        (*row[:4], {label: 6 for label, hit in zip(LABELS.ids, found, strict=True) if hit}, row[5])
        for row, found in zip(LINES, hits, strict=True)
    ]
    same = evaluate(pipeline_of(rows), labelled(rows))
    for label in ("macro", INVOICE, CONTACT):
        found = difference(same, "regex", label)
        assert (found.f1.value, found.f1.low, found.f1.high) == (0, 0, 0)
        assert not found.beats
    assert repr(system(same, "model").clauses) == repr(system(same, "regex").clauses)


def test_errors_are_listed_most_confident_first(report):
    found = [(error.id, error.label, error.kind, error.outcome) for error in report.errors]
    assert found == [
        ("i4", INVOICE, "missed", "clear"),
        ("n1", CONTACT, "false", "violation"),
        ("i3", INVOICE, "missed", "review"),
    ]
    first = report.errors[0]
    assert first.probability == pytest.approx(1 / (1 + math.exp(6)))
    assert (first.text, first.clause) == ("谁要票谁加钱", "")
    assert report.errors[1].clause == CONTACT_ID


def test_without_training_lines_tfidf_is_left_out_and_said_so():
    found = evaluate(pipeline_of(LINES), labelled(LINES))
    assert [one.system for one in found.systems] == ["regex", "model", "model+review"]
    assert {d.baseline for d in found.differences} == {"regex"}
    assert "TF-IDF left out" in found.notes[0]


def test_rule_evidence_reaches_the_decision():
    assert pipeline_of(LINES).predict([Message("谁要票谁加钱")])[0].outcomes[0] == "clear"
    without, with_rule = (
        pipeline_of([("x", "开不了", [], [], {INVOICE: 0.5}, "x")], rule_weight=weight)
        for weight in (0.0, 2.0)
    )
    assert without.predict([Message("开不了")])[0].outcomes[0] == "review"
    (prediction,) = with_rule.predict([Message("开不了")])
    assert prediction.outcomes[0] == "violation"
    assert prediction.probabilities[0] == pytest.approx(1 / (1 + math.exp(-0.5 - 2 * 0.8)))


def test_same_seed_same_report(report):
    lines = labelled(LINES) + labelled([BORDERLINE], status="borderline")
    again = evaluate(pipeline_of([*LINES, BORDERLINE]), lines, train=TRAIN, files=["hand.jsonl"])
    assert repr(again) == repr(report)  # as text, since NaN is unlike itself


@pytest.mark.parametrize("lines", [[], labelled([BORDERLINE], status="borderline")])
def test_nothing_to_evaluate_is_an_error(lines):
    with pytest.raises(DataError, match="no gold lines"):
        evaluate(pipeline_of(LINES), lines)


@pytest.mark.parametrize(
    ("ranked", "calls", "wanted"),
    [
        # gold by falling score; the lines the baseline calls
        ([1, 1, 0, 1, 0, 0], [0, 3], (2 / 3, 2 / 3)),  # baseline precision 1: only the top two
        ([1, 1, 0, 1, 0, 0], [0, 2], (1 / 3, 1.0)),  # precision 1/2 still holds at the end
        ([0, 1, 1, 0, 0, 0], [1], (1 / 2, 0.0)),  # precision 1 is never reached
        ([0, 0, 0], [1], (None, None)),  # no positives
        ([1, 0, 0], [], (None, None)),  # no calls
    ],
)
def test_recall_at_precision_by_hand(ranked, calls, wanted):
    gold, called = np.array(ranked, dtype=float), np.zeros(len(ranked), dtype=bool)
    called[calls] = True
    found = recall_at_precision(-np.arange(len(ranked), dtype=float), called, gold)
    assert found == (pytest.approx(wanted) if wanted[0] is not None else wanted)


def test_recall_at_precision_takes_tied_lines_together():
    gold, calls = np.array([1.0, 0, 1]), np.array([True, False, False])
    assert recall_at_precision(np.array([0.9, 0.9, 0.1]), calls, gold) == (0.5, 0.0)
    assert recall_at_precision(np.array([0.9, 0.8, 0.1]), calls, gold) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("values", "gold", "wanted"),
    [
        ([0.9, 0.7, 0.3, 0.1], [1, 1, 0, 0], 0.7),
        ([0.9, 0.7, 0.3, 0.1], [1, 0, 1, 0], 0.3),
        ([0.9, 0.7, 0.3, 0.1], [0, 0, 0, 0], 0.5),
        ([0.2, 0.2, 0.2], [1, 0, 0], 0.2),
    ],
)
def test_best_f1_threshold(values, gold, wanted):
    assert best_f1_threshold(np.array(values), np.array(gold, dtype=float)) == wanted


def test_tfidf_learns_and_leaves_unseen_labels_at_zero():
    tfidf, thresholds = fit_tfidf(TRAIN, LABELS)
    found = tfidf.scores([Message("这单开不了发票"), Message("加群领券"), Message("明天发货")])
    assert found.shape == (3, len(LABELS))
    assert found[:, LABELS.index(INVOICE)].argmax() == 0
    assert found[:, LABELS.index(CONTACT)].argmax() == 1
    for label in REST:
        assert not found[:, LABELS.index(label)].any()
        assert thresholds[LABELS.index(label)] == 0.5


@pytest.mark.parametrize("context", ["", "能开发票吗"])
def test_tfidf_takes_lines_with_and_without_context(context):
    messages = [Message(line.message.text, context) for line in TRAIN]
    gold = np.array([LABELS.row(line.labels) for line in TRAIN], dtype=float)
    tfidf = TfidfClassifier.fit(messages, gold)
    assert tfidf.scores([Message("开不了发票", "在吗")])[0].argmax() == LABELS.index(INVOICE)


def test_regex_scores_are_the_strongest_hits():
    found = RegexClassifier(RULES, LABELS).scores([Message("开不了,加群"), Message("好的")])
    wanted = np.zeros((2, len(LABELS)))
    wanted[0, [LABELS.index(INVOICE), LABELS.index(CONTACT)]] = 0.8
    assert (found == wanted).all()


@pytest.mark.parametrize("budget", [1, 64, 300, 10_000])
def test_token_batches_hold_every_row_once_within_the_budget(budget):
    lengths = np.random.default_rng(31).integers(1, 130, 200).tolist()
    batches = list(token_batches(lengths, budget))
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget
    assert list(token_batches([], budget)) == []
