"""The labelling loop in words: agreement as text, histories, and what review files say."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cs_classifier.reports.markdown import number, table
from cs_classifier.reports.masking import mask
from cs_classifier.reports.wording import label_name
from cs_classifier.reviews import NONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cs_classifier.labeling.agreement import AgreementReport, Coefficient, Counts
    from cs_classifier.labeling.store import History
    from cs_classifier.labels import LabelSet
    from cs_classifier.reports.wording import Language
    from cs_classifier.reviews import Sampled

WORDS: dict[Language, dict[str, str]] = {
    "zh": {
        "customer": "买家",
        "agent": "客服",
        "votes": "各人判定",
        "none": NONE,
        "doubtful": "存疑",
        "disputed": "待裁定",
        "lines": "行数",
        "title": "标注一致性",
        "counts": "{lines} 行，其中 {overlap} 行（{groups} 组）有两人以上作答；"
        "待裁定 {disputed} 行，已裁定 {adjudicated} 行。",
        "label": "标签",
        "annotator": "标注人",
        "pair": "两人",
        "cells": "都有/仅前者/仅后者/都无",
        "ruled": "都有/错判/漏判/都无",
        "alpha": "Krippendorff α",
        "kappa": "Cohen κ",
        "positive": "阳性一致率",
        "answered": "作答",
        "confusion": "各人与裁定结果对照",
        "no_overlap": "没有两人都作答的行",
        "one_value": "没有可比较的差异",
        "one_group": "只有一组，无区间",
        "unstable": "数据太少，无区间",
        "note": "方括号内为 95 % 区间（按组自助抽样）。一般 ≥ 0.8 为好，0.6–0.8 可用，"
        "低于 0.6 说明判定标准要修订；少见的标签请看四格数与阳性一致率。",
        "like": "与给定的话相似",
        "uncertain": "拿不准",
        "disagreement": "正则与模型不一致",
        "random": "随机",
        "now": "现在",
        "borderline": "边界句",
        "gold": "已定",
    },
    "en": {
        "customer": "Customer",
        "agent": "Agent",
        "votes": "Votes",
        "none": "none",
        "doubtful": "doubtful",
        "disputed": "to be ruled on",
        "lines": "lines",
        "title": "Agreement between annotators",
        "counts": "{lines} lines, {overlap} of them (in {groups} groups) with two answers or more; "
        "{disputed} to be ruled on, {adjudicated} adjudicated.",
        "label": "label",
        "annotator": "annotator",
        "pair": "pair",
        "cells": "both/first only/second only/neither",
        "ruled": "both/false/missed/neither",
        "alpha": "Krippendorff's alpha",
        "kappa": "Cohen's kappa",
        "positive": "positive agreement",
        "answered": "answered",
        "confusion": "Annotators against the rulings",
        "no_overlap": "no line with two answers",
        "one_value": "nothing to compare",
        "one_group": "one group, no interval",
        "unstable": "too few, no interval",
        "note": "In brackets: 95 % intervals from drawing groups. Usually 0.8 is good, 0.6 to 0.8 "
        "usable, and below 0.6 the definition needs work; where a label is rare, read the four "
        "counts and positive agreement.",
        "like": "like the given line",
        "uncertain": "uncertain",
        "disagreement": "rules and model differ",
        "random": "random",
        "now": "now",
        "borderline": "borderline",
        "gold": "gold",
    },
}


def agreement_text(
    report: AgreementReport, label_set: LabelSet, *, language: Language = "zh"
) -> str:
    """Markdown that also reads well in a terminal."""
    words = WORDS[language]

    def name(label: str) -> str:
        return label_name(label_set, label, language)

    def cell(found: Coefficient) -> str:
        return _coefficient(found, words)

    labels = [
        (name(x.label), _cells(x.counts), cell(x.alpha), cell(x.positive)) for x in report.labels
    ]
    pairs = [
        (
            f"{x.first} – {x.second}",
            name(x.label),
            _cells(x.counts),
            cell(x.kappa),
            cell(x.positive),
        )
        for x in report.pairs
    ]
    people = [(x.name, x.answered, x.doubtful) for x in report.annotators]
    confusions = [(x.annotator, name(x.label), _cells(x.counts)) for x in report.confusions]
    parts = [
        f"# {words['title']}",
        words["counts"].format(**report.model_dump()),
        _table(("label", "cells", "alpha", "positive"), labels, words),
        words["note"],
        _table(("pair", "label", "cells", "kappa", "positive"), pairs, words),
        _table(("annotator", "answered", "doubtful"), people, words),
    ]
    if confusions:
        parts += [f"## {words['confusion']}"]
        parts += [_table(("annotator", "label", "ruled"), confusions, words)]
    return "\n\n".join(filter(None, parts))


def _table(head: Sequence[str], rows: Sequence[Sequence[object]], words: dict[str, str]) -> str:
    return table([words[key] for key in head], rows) if rows else ""


def _cells(counts: Counts) -> str:
    return "/".join(map(str, counts.model_dump().values()))


def _coefficient(found: Coefficient, words: dict[str, str]) -> str:
    if found.low is not None:
        return f"{number(found.value)} [{number(found.low)}, {number(found.high)}]"
    return f"{number(found.value)} ({words[found.reason]})"


def history_text(
    history: History, label_set: LabelSet, *, language: Language = "zh", masked: bool = True
) -> str:
    """A line, what holds of it now, and its events."""
    words = WORDS[language]

    def shown(text: str) -> str:
        return mask(text) if masked else text

    def names(labels: tuple[str, ...] | None) -> str:
        said = [label_name(label_set, label, language) for label in labels or ()]
        return " + ".join(said) or words["doubtful" if labels is None else "none"]

    line, said = history.line, []
    for e in history.events:
        old = "" if e.old is None else f"{names(e.old)} → "
        said.append(
            f"{e.when}  {e.source}  {e.who}  {old}{names(e.new)}  {shown(e.reason)}  {e.file}"
        )
    context = [f"{words['customer']}: {shown(line.message.context)}"] * bool(line.message.context)
    return "\n".join(
        [
            history.key,
            *context,
            f"{words['agent']}: {shown(line.message.text)}",
            f"{words['now']}: {names(line.labels)} ({words[line.status]})",
            *said,
        ]
    )


def reasons(
    chosen: Sequence[Sampled], label_set: LabelSet, *, language: Language = "zh"
) -> dict[str, str]:
    """Why lines were chosen for a queue, and how many for each reason."""
    words = WORDS[language]
    counts = Counter(item.stratum for item in chosen)
    found = {}
    for stratum, count in counts.items():
        _, reason, *label = stratum.split(":")
        name = "".join(f" · {label_name(label_set, x, language)}" for x in label)
        found[words[reason] + name] = str(count)
    return found
