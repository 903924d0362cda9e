"""The draw and the estimates as text, the estimates as JSON, and the history of nights."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from cs_classifier.errors import DataError
from cs_classifier.estimation import (
    ANY,
    Drift,
    Estimate,
    EstimateReport,
    LabelEstimates,
    Measures,
    Refit,
)
from cs_classifier.reports.markdown import MISSING, table
from cs_classifier.reports.output import read_text, whole
from cs_classifier.reports.wording import label_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cs_classifier.labels import LabelSet
    from cs_classifier.reports.wording import Language
    from cs_classifier.sampling import Sample

_NO_WIDTH = 1e-6  # of an interval, but for rounding

WORDS: dict[Language, dict[str, str]] = {
    "zh": {
        "violation": "疑似违规",
        "review": "待复核",
        "near": "接近阈值",
        "disagreement": "规则与模型不一致",
        "watch": "重点关注",
        "rest": "其余（随机）",
        "stratum": "抽样层",
        "lines": "行数",
        "drawn": "抽取",
        "answered": "已复核",
        "random": "其中随机",
        "probability": "抽样概率",
        "total": "合计",
        "files": "评分文件",
        "models": "模型",
        "seed": "随机种子",
        "plan": "抽样方案",
        "made": "抽样时间",
        "unscored": "{n} 行未评分（图片、语音、空行等），不参与抽样。",
        "absent": "重点关注名单中今晚没有发言的客服：{names}。",
        "short": "只有 {n} 行可抽（重复话术每层最多 {cap} 行），少于 {budget}。",
        "floors": "客服与店铺的保底条数按 {factor:.0%} 执行：全部满足会超过预算中留给保底的部分。",
        "title": "复核估计：{night}",
        "counts": "已复核 {reviewed} 行 · 未复核 {open} · 存疑 {doubtful} · 意见不一 {disputed} · "
        "代表 {lines:,.0f} 行",
        "label": "标签",
        ANY: "任一标签",
        "prevalence": "真实占比",
        "precision_violation": "“疑似违规”精确率",
        "precision_review": "“待复核”精确率",
        "recall_violation": "“疑似违规”召回率",
        "recall_review": "“违规+待复核”召回率",
        "note": "方括号内为 95 % 区间，圆括号内为未加权的行数（命中/已复核；"
        "召回率为判出/真实违规）。"
        "没有区间的是已全部复核；全部命中或无命中时只给界限。召回率的分母含漏判：抽到的漏判少时偏乐观，请看区间。",
        "unseen": "{n:,.0f} 行所在的抽样层还没有复核结果，以上估计不包括它们。",
        "no_drift": "与之前 {nights} 晚相比：无显著变化。",
        "up": "高于",
        "down": "低于",
        "drift": "{label}的{measure}为 {value}，{direction}之前 {nights} 晚的 {before}"
        "（差值区间 [{low}, {high}]）。",
        "precision": "{label}：疑似违规的精确率 {value} 显著低于下限 {floor}，"
        "建议用复核结果重新校准（calibrate）。",
        "calibration": "{label}：校准概率的平均值 {expected} 与真实占比 {value} 不符，"
        "建议用复核结果重新校准（calibrate）。",
    },
    "en": {
        "violation": "violation",
        "review": "review",
        "near": "near threshold",
        "disagreement": "rule, not model",
        "watch": "watch list",
        "rest": "rest (random)",
        "stratum": "Stratum",
        "lines": "Lines",
        "drawn": "Drawn",
        "answered": "Answered",
        "random": "At random",
        "probability": "Probability",
        "total": "total",
        "files": "Scored files",
        "models": "Models",
        "seed": "Seed",
        "plan": "Plan",
        "made": "Drawn at",
        "unscored": "{n} rows were not scored (media, empty) and cannot be drawn.",
        "absent": "On the watch list, but without a line tonight: {names}.",
        "short": "Only {n} lines can be drawn (a template at most {cap} times per stratum), "
        "fewer than {budget}.",
        "floors": "The floors of agents and shops are applied at {factor:.0%}: in full they would "
        "cost more than their share of the budget.",
        "title": "Estimates from review: {night}",
        "counts": "reviewed {reviewed} · open {open} · doubtful {doubtful} · disputed {disputed} · "
        "standing for {lines:,.0f} lines",
        "label": "Label",
        ANY: "any label",
        "prevalence": "Prevalence",
        "precision_violation": "Precision of suspected violations",
        "precision_review": "Precision of review",
        "recall_violation": "Recall of suspected violations",
        "recall_review": "Recall of violation+review",
        "note": "95 % intervals in brackets, unweighted rows in parentheses (hits / reviewed; for "
        "recall: found / true). No interval: all lines were reviewed. With no or only hits, the "
        "limit alone is given. Recall rests on the misses that were drawn: where they are few it "
        "looks too good, so read its interval.",
        "unseen": "{n:,.0f} lines lie in strata without an answer; the estimates leave them out.",
        "no_drift": "Against the {nights} nights before: no significant change.",
        "up": "above",
        "down": "below",
        "drift": "{label}, {measure}: {value}, {direction} the {before} of the {nights} nights "
        "before (interval of the difference [{low}, {high}]).",
        "precision": "{label}: precision of suspected violations, {value}, is significantly below "
        "the floor of {floor}; refit with the reviewed lines (calibrate).",
        "calibration": "{label}: calibrated probabilities average {expected}, which does not fit "
        "the prevalence {value}; refit with the reviewed lines (calibrate).",
    },
}


def sample_text(
    sample: Sample, label_set: LabelSet, *, budget: int, cap: int, language: Language = "zh"
) -> str:
    """What was drawn from where, and why it is not as planned."""
    words = WORDS[language]
    rows: list[list[object]] = [
        [
            stratum_name(one.stratum, label_set, language),
            f"{one.lines:,}",
            one.drawn,
            one.uniform,
            " – ".join(dict.fromkeys(f"{p:.3g}" for p in one.probabilities)),
        ]
        for one in sample.strata
    ]
    uniform = sum(one.uniform for one in sample.strata)
    rows.append([words["total"], f"{sample.lines:,}", len(sample.sampled), uniform, ""])
    header = [words[key] for key in ("stratum", "lines", "drawn", "random", "probability")]
    notes = []
    if sample.unscored:
        notes.append(words["unscored"].format(n=sample.unscored))
    if sample.absent:
        notes.append(words["absent"].format(names=", ".join(sample.absent)))
    if len(sample.sampled) < budget:
        notes.append(words["short"].format(n=len(sample.sampled), cap=cap, budget=budget))
    if sample.floor_factor < 1:
        notes.append(words["floors"].format(factor=sample.floor_factor))
    return "\n".join([table(header, rows), *notes])


def sample_info(  # noqa: PLR0913
    sample: Sample,
    *,
    files: Sequence[str],
    models: Sequence[str],
    seed: int,
    plan: str,
    language: Language,
) -> dict[str, str]:
    """What the review file says about the draw: enough to repeat it."""
    words = WORDS[language]
    return {
        words["files"]: ", ".join(files),
        words["models"]: ", ".join(models),
        words["lines"]: f"{sample.lines}",
        words["drawn"]: f"{len(sample.sampled)}",
        words["seed"]: f"{seed}",
        words["plan"]: plan,
        words["made"]: f"{datetime.now(UTC).astimezone():%Y-%m-%d %H:%M}",
    }


def stratum_name(name: str, label_set: LabelSet, language: Language) -> str:
    """``violation:abuse_harassment`` in words; the name of another tool's stratum as it is."""
    kind, _, label = name.partition(":")
    words = WORDS[language].get(kind, kind)
    return f"{words} · {label_name(label_set, label, language)}" if label else words


def to_text(report: EstimateReport, label_set: LabelSet, *, language: Language = "zh") -> str:
    """Compact Markdown that also reads well in a terminal."""
    words = WORDS[language]
    counts = report.model_dump(include={"reviewed", "open", "doubtful", "disputed", "lines"})
    measures = list(Measures.model_fields)
    rows = [
        [_name(one.label, label_set, language), *(cell(getattr(one, name)) for name in measures)]
        for one in (*report.labels, report.overall)
    ]
    strata = [
        [stratum_name(s.stratum, label_set, language), f"{s.lines:,.0f}", s.rows, s.answered]
        for s in report.strata
    ]
    keys = ("stratum", "lines", "drawn", "answered")
    return "\n\n".join(
        [
            f"# {words['title'].format(night=report.night)}",
            words["counts"].format(**counts),
            table([words["label"], *(words[name] for name in measures)], rows),
            words["note"],
            table([words[key] for key in keys], strata),
            "\n".join(f"- {line}" for line in sentences(report, label_set, language)),
        ]
    ).rstrip()


def sentences(report: EstimateReport, label_set: LabelSet, language: Language) -> list[str]:
    """What a reader should notice: lines not covered, drift, and advice to refit."""
    words = WORDS[language]
    found = {one.label: one for one in (*report.labels, report.overall)}
    lines = [words["unseen"].format(n=report.unseen)] if round(report.unseen) else []
    lines += [_drift(drift, found[drift.label], label_set, language) for drift in report.drifts]
    if report.nights and not report.drifts:
        lines.append(words["no_drift"].format(nights=report.nights))
    return lines + [_refit(r, found[r.label], report, label_set, language) for r in report.refits]


def _drift(drift: Drift, now: LabelEstimates, label_set: LabelSet, language: Language) -> str:
    words = WORDS[language]
    return words["drift"].format(
        label=_name(drift.label, label_set, language),
        measure=words[drift.measure],
        value=cell(getattr(now, drift.measure)),
        direction=words["up" if drift.low > 0 else "down"],
        nights=drift.nights,
        before=percent(drift.before),
        low=percent(drift.low),
        high=percent(drift.high),
    )


def _refit(
    refit: Refit,
    label: LabelEstimates,
    report: EstimateReport,
    label_set: LabelSet,
    language: Language,
) -> str:
    share = label.precision_violation if refit.reason == "precision" else label.prevalence
    return WORDS[language][refit.reason].format(
        label=_name(refit.label, label_set, language),
        value=cell(share),
        floor=percent(report.floor),
        expected=percent(label.expected or 0.0),
    )


def _name(label: str, label_set: LabelSet, language: Language) -> str:
    return WORDS[language][ANY] if label == ANY else label_name(label_set, label, language)


def cell(estimate: Estimate | None) -> str:
    """An estimate with interval and counts; with no or only hits, its limit alone.

    An interval of width 0, where every line was reviewed, is left out.

    >>> rest = {"system_low": 0, "system_high": 1, "reviewed": 150, "effective": 150, "lines": 9e4}
    >>> cell(Estimate(value=0, low=0, high=0.0166, hits=0, **rest))
    '0/150, ≤ 1.66 %'
    >>> cell(Estimate(value=0.02, low=0.004, high=0.06, hits=3, **rest))
    '2.00 % [0.400, 6.00] (3/150)'
    """
    if estimate is None:
        return MISSING
    counts = f"{estimate.hits}/{estimate.reviewed}"
    if estimate.high - estimate.low < _NO_WIDTH:
        return f"{percent(estimate.value)} ({counts})"
    if not estimate.hits:
        return f"{counts}, ≤ {percent(estimate.high)}"
    if estimate.hits == estimate.reviewed and estimate.low < 1:
        return f"{counts}, ≥ {percent(estimate.low)}"
    low, high = (percent(bound).removesuffix(" %") for bound in (estimate.low, estimate.high))
    return f"{percent(estimate.value)} [{low}, {high}] ({counts})"


def percent(share: float) -> str:
    """Per cent with three digits, no more than four decimals.

    >>> percent(0.95), percent(0.00123), percent(1.0), percent(-0.0000001)
    ('95.0 %', '0.123 %', '100 %', '0 %')
    """
    scaled = 100 * share
    size = abs(scaled)
    digits = next((d for d, least in enumerate((100, 10, 1, 0.1)) if size >= least), 4)
    text = f"{scaled:.{digits}f}"
    return f"{text if float(text) else '0'} %"


def write_json(report: EstimateReport, path: Path) -> None:
    """Write the report; the file appears whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    with whole(path) as part:
        part.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_history(path: Path) -> list[EstimateReport]:
    """Reports of earlier nights, the last of each night; none if there is no such file yet.

    Raises:
        DataError: a line is damaged; with file and row.
    """
    if not path.exists():
        return []
    nights: dict[str, EstimateReport] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            report = EstimateReport.model_validate_json(line)
        except ValidationError as error:
            msg = f"{path}, row {number}: not a line that 'estimate' wrote; restore or delete it"
            raise DataError(msg) from error
        nights[report.night] = report
    return list(nights.values())


def append_history(path: Path, report: EstimateReport) -> None:
    """Add a night at the end; the file is never left half written.

    Raises:
        DataError: the file cannot be read or written.
    """
    before = read_text(path) if path.exists() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    with whole(path) as part:
        part.write_text(before + report.model_dump_json() + "\n", encoding="utf-8")
