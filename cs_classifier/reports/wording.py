"""The words of the evaluation report, in Chinese and English."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from cs_classifier.evaluation import (
    MODEL,
    REGEX,
    RESAMPLES,
    REVIEW,
    TFIDF,
    Difference,
    EvaluationReport,
)
from cs_classifier.reports.markdown import interval, number

if TYPE_CHECKING:
    from cs_classifier.labels import LabelSet

Language = Literal["zh", "en"]
MACRO = "macro"

SYSTEMS: dict[Language, dict[str, str]] = {
    "zh": {
        REGEX: "正则基线",
        TFIDF: "TF-IDF 基线",
        MODEL: "BERT 疑似违规",
        REVIEW: "BERT 违规+复核",
    },
    "en": {
        REGEX: "regex",
        TFIDF: "TF-IDF",
        MODEL: "BERT violation",
        REVIEW: "BERT violation+review",
    },
}

TEXTS: dict[Language, dict[str, str]] = {
    "zh": {
        "title": "评测报告",
        "model": "模型",
        "files": "文件",
        "lines": "评测行数",
        "groups": "组数",
        "borderline": "边界句（未计入）",
        "summary": "结论",
        "per_label": "各标签指标",
        "label": "标签",
        "system": "系统",
        "support": "支持数",
        "called": "判出",
        "precision": "精确率",
        "recall": "召回率",
        "ap": "平均精度",
        "ece": "ECE",
        "f1": "F1",
        "macro": "宏平均",
        "difference": "F1 差",
        "baseline": "基线",
        "verdict": "结论",
        "baseline_recall": "基线召回率",
        "recall_at": "BERT 在同一精确率下的召回率",
        "beats": "优于",
        "does_not_beat": "不优于",
        "differences": "BERT 疑似违规 减 基线（配对）",
        "forest": "各系统的 F1 与 95 % 区间",
        "reliability": "可靠性图",
        "reliability_note": "横轴为平均预测概率，纵轴为实际频率；点旁数字为行数，虚线为理想情况。",
        "clauses": "各条款",
        "clause": "条款",
        "recall_of": "召回率",
        "false_near": "近似句误报",
        "clean": "每 1,000 条合规消息的误报",
        "clean_note": "合规消息中被判出任一标签的条数；共 {n} 条合规消息。",
        "contrast": "整组全对的比例（{n} 组，同组各句的标签不同）",
        "origins": "按来源",
        "origin": "来源",
        "clean_called": "误报",
        "errors": "错误列表",
        "missed": "漏判",
        "false": "误判",
        "context": "客户",
        "text": "客服",
        "probability": "概率",
        "outcome": "结果",
        "shown": "显示 {shown} / {total} 条，最确信的错误在前；个人信息已脱敏。",
        "none": "无",
        "notes": "说明",
        "interval_note": (
            f"方括号内为 95 % 区间：按组整组有放回重抽样 {RESAMPLES:,} 次取百分位"
            "（cluster bootstrap）。与基线之差在同一次重抽样内配对计算；"
            "区间整体高于 0 才写“优于”。“–”表示无法计算。"
            "“疑似违规”须经人工确认。"
        ),
        "clear": "未检出",
        "review": "待复核",
        "violation": "疑似违规",
        "TF-IDF left out: the model's training lines are not at hand": (
            "未含 TF-IDF 基线：没有该模型的训练数据"
        ),
    },
    "en": {
        "title": "Evaluation report",
        "model": "Model",
        "files": "Files",
        "lines": "Lines",
        "groups": "Groups",
        "borderline": "Borderline, left out",
        "summary": "Summary",
        "per_label": "Metrics per label",
        "label": "Label",
        "system": "System",
        "support": "Support",
        "called": "Called",
        "precision": "Precision",
        "recall": "Recall",
        "ap": "Average precision",
        "ece": "ECE",
        "f1": "F1",
        "macro": "macro",
        "difference": "F1 difference",
        "baseline": "Baseline",
        "verdict": "Verdict",
        "baseline_recall": "Baseline recall",
        "recall_at": "BERT recall at that precision",
        "beats": "beats",
        "does_not_beat": "does not beat",
        "differences": "BERT violation minus baseline, paired",
        "forest": "F1 of each system with 95 % intervals",
        "reliability": "Reliability",
        "reliability_note": (
            "Mean probability across, frequency of the label upwards; numbers beside the points are"
            " lines, the dashed line is the ideal."
        ),
        "clauses": "Clauses",
        "clause": "Clause",
        "recall_of": "Recall",
        "false_near": "False alarms on near lines",
        "clean": "False calls per 1,000 clean lines",
        "clean_note": "Clean lines called with any label; {n} clean lines in all.",
        "contrast": "Groups entirely right ({n} groups whose lines differ in their labels)",
        "origins": "By origin",
        "origin": "Origin",
        "clean_called": "False calls",
        "errors": "Errors",
        "missed": "Missed",
        "false": "False",
        "context": "Customer",
        "text": "Agent",
        "probability": "Probability",
        "outcome": "Outcome",
        "shown": "{shown} of {total}, the most confident mistakes first; identifiers are masked.",
        "none": "none",
        "notes": "Notes",
        "interval_note": (
            f"Brackets hold 95 % intervals: percentiles of {RESAMPLES:,} resamples of whole groups"
            " (cluster bootstrap). Differences to a baseline are taken within each resample;"
            " “beats” means that the whole interval lies above 0. “–” marks"
            " what cannot be computed."
            " A suspected violation has to be confirmed by a person."
        ),
        "clear": "clear",
        "review": "review",
        "violation": "violation",
    },
}


def label_name(label_set: LabelSet, label: str, language: Language) -> str:
    """Name of a label, or of the macro average, for people."""
    if label == MACRO:
        return TEXTS[language]["macro"]
    return label_set[label].zh if language == "zh" else label_set[label].en


def clause_name(label_set: LabelSet, clause: str, language: Language) -> str:
    """Name of a clause, or of several joined by ``+``; ids that are unknown stay as they are."""
    known = label_set.clauses
    ids = clause.split("+") if clause else []
    return " + ".join(getattr(known[i], language) if i in known else i for i in ids)


def comparable(report: EvaluationReport, difference: Difference) -> bool:
    """Whether there are violations to compare on; without any, F1 says nothing."""
    support = {scores.label: scores.support for scores in report.systems[0].labels}
    return not math.isnan(difference.f1.value) and support.get(difference.label, 1) > 0


def verdict(difference: Difference, language: Language) -> str:
    """Whether the model beats the baseline, in words.

    >>> from cs_classifier.evaluation import Estimate
    >>> f1 = Estimate(value=0.2, low=0.1, high=0.3)
    >>> verdict(Difference(baseline="regex", label="macro", f1=f1, beats=True), "en")
    'beats regex'
    """
    words = TEXTS[language]["beats" if difference.beats else "does_not_beat"]
    space = " " if language == "en" or difference.baseline == TFIDF else ""
    return f"{words}{space}{SYSTEMS[language][difference.baseline]}"


def sentence(difference: Difference, language: Language) -> str:
    """The verdict with its difference, and recall at the baseline's own precision if known."""
    gap = interval(difference.f1)
    ours = difference.model_recall_at_baseline_precision
    theirs = difference.baseline_recall
    if language == "zh":
        text = f"{verdict(difference, 'zh')}（F1 差 {gap}）"
        same = "；在该基线自身的精确率下，召回率为 {}，基线为 {}"
    else:
        text = f"{verdict(difference, 'en')} (F1 difference {gap})"
        same = "; at that baseline's own precision its recall is {}, the baseline's {}"
    if ours is None or theirs is None:
        return text
    return text + same.format(number(ours), number(theirs))
