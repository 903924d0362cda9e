"""The words of the nightly report, in Chinese and English."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cs_classifier.nightly import EXAMPLES, MIN_LINES, MIN_MIXED
from cs_classifier.trends import ALPHA, MIN_NIGHTS, WINDOW

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cs_classifier.reports.wording import Language

REASONS: Mapping[Language, Mapping[str, str]] = {
    "zh": {
        "needs_media_review": "图片或语音（需人工查看）",
        "system": "平台系统消息",
        "text is empty": "内容为空",
        "text is missing": "缺少内容",
        "text is not a string": "内容不是文字",
        "role is empty": "缺少角色",
        "speaker is empty": "缺少发言人",
        "": "未说明",
    },
    "en": {"needs_media_review": "image or voice (for a person to look at)", "": "not stated"},
}
STEPS: Mapping[Language, Mapping[str, str]] = {
    "zh": {"components": "拆字", "lexicon": "谐音或代称", "joined": "字间隔断"},
    "en": {"components": "in parts", "lexicon": "respelt", "joined": "split"},
}
ESTIMATES: Mapping[Language, Mapping[str, str]] = {
    "zh": {
        "prevalence": "真实占比",
        "precision_violation": "“违规”精确率",
        "precision_review": "“待复核”精确率",
        "recall_violation": "“违规”召回率",
        "recall_review": "“违规+待复核”召回率",
    },
    "en": {
        "prevalence": "prevalence",
        "precision_violation": "precision of “violation”",
        "precision_review": "precision of “review”",
        "recall_violation": "recall of “violation”",
        "recall_review": "recall of “violation+review”",
    },
}
TEXTS: Mapping[Language, Mapping[str, str]] = {
    "zh": {
        "title": "客服质检夜报",
        "warning": "以下均为系统疑似，须经人工确认；不能单独作为考核或处罚的依据。",
        "summary": "摘要",
        "scored": "已评分",
        "conversations": "会话",
        "agents": "客服",
        "shops": "店铺",
        "violations": "疑似违规",
        "reviews": "待复核",
        "unscored": "未评分",
        "model": "模型",
        "by_label": "按类别",
        "by_clause": "按条款",
        "by_shop": "按店铺",
        "by_platform": "按平台",
        "by_hour": "按时段",
        "trend": "走势",
        "comparison": "与之前各晚比较",
        "templates": "重复的疑似话术",
        "spellings": "规避写法",
        "mixtures": "词表之外的混写",
        "problems": "未评分与出错的行",
        "estimate": "抽样复核估计",
        "service": "服务指标",
        "hits": "最可疑的消息",
        "notes": "说明",
        "label": "类别",
        "clause": "条款",
        "shop": "店铺",
        "platform": "平台",
        "hour": "时段",
        "night": "日期",
        "any": "任一类别",
        "lines": "评分条数",
        "violation_rate": "疑似违规 ‰ [95 %]",
        "review_rate": "待复核 ‰ [95 %]",
        "thresholds": "阈值（复核 / 违规）",
        "few": "样本不足",
        "none": "无",
        "now": "本晚",
        "before": "之前各晚合计",
        "dispersion": "离散度",
        "p_value": "p 值",
        "verdict": "判断",
        "higher": "异常偏高",
        "lower": "异常偏低",
        "usual": "无异常",
        "example": "示例",
        "suspected": "疑似条数",
        "sent": "同样措辞共发送",
        "surface": "写法",
        "meaning": "原意",
        "step": "方式",
        "others": "非疑似条数",
        "first_seen": "首次出现",
        "new": "新",
        "reason": "原因",
        "rows": "行数",
        "kind": "结果",
        "was_scored": "已评分，有备注",
        "not_scored": "未评分",
        "where": "例如",
        "row": "{file} 第 {row} 行",
        "check": "指标",
        "ratio": "计数 / 总数",
        "rate": "比率 [95 %]",
        "threshold": "要求",
        "met": "是否达标",
        "yes": "达标",
        "no": "未达标",
        "unknown": "–",
        "probability": "概率",
        "dialogue": "对话",
        "customer": "买家",
        "agent": "客服",
        "time": "时间",
        "key": "编号",
        "outcome": "结果",
        "violation": "疑似违规",
        "review": "待复核",
        "all": "全部",
        "search": "搜索原话、客服、编号",
        "matching": "条符合",
        "sort": "点击表头排序",
        "shown": "显示 {shown} / {total}，其余见 JSON。",
        "per_thousand": "每 1,000 条评分消息",
        "chart": "{title}：每 1,000 条评分消息的疑似违规条数，竖线为 95 % 区间；数值见表。",
        "few_mark": "× 样本不足",
        "estimate_note": "已复核 {reviewed} 条。按抽样概率加权，方括号内为 95 % 区间。",
        "join": "、",
        "stop": "。",
        "s_scope": (
            "{date}共评分 {scored:,} 条客服消息（{conversations:,} 个会话，{agents:,} 名客服，"
            "{shops:,} 家店铺）；读入的 {rows:,} 行中有 {unscored:,} 行未评分，"
            "其中图片或语音 {media:,} 行须人工查看。"
        ),
        "s_found": (
            "疑似违规 {count:,} 条，占 {total:,} 条的千分之 {rate}（95 % 区间 {low}–{high}）；"
            "另有 {reviews:,} 条待复核。"
        ),
        "s_few": "疑似违规 {count:,} 条（共 {total:,} 条，样本不足，不计算比率）；"
        "另有 {reviews:,} 条待复核。",
        "s_top": (
            "疑似最多的类别是“{name}”：{total:,} 条中有 {count:,} 条；其次“{second}”{next:,} 条。"
        ),
        "s_change": "与之前 {nights} 晚相比，{changes}。",
        "s_one_change": (
            "“{name}”{verdict}（本晚 {count:,}/{total:,}，之前 {past:,}/{past_total:,}）"
        ),
        "s_usual": (
            "与之前 {nights} 晚相比，各类别均无异常跳变"
            "（任一类别：本晚 {count:,}/{total:,}，之前 {past:,}/{past_total:,}）。"
        ),
        "s_no_history": f"同一模型的历史不足 {MIN_NIGHTS} 晚（现有 {{nights}} 晚），暂不判断走势。",
        "s_template": (
            "最常见的疑似话术在 {hits:,} 条疑似消息中出现 {count:,} 次，涉及 {agents:,} 名客服。"
        ),
        "trend_hint": (
            "深色柱为本晚，浅色柱为其他模型评分的晚上（不参与比较）。"
            f"至少 {MIN_NIGHTS} 晚同一模型的历史才作判断，方法见文末说明。"
        ),
        "trend_note": (
            f"走势：与同一模型之前至多 {WINDOW} 晚的合计比较：条件二项检验"
            "（Przyborowski–Wilenski 1940），计数除以各晚的 Pearson 离散度（不小于 1；"
            f"大于 1 时用 t 分布的尾概率），按类别数作 Bonferroni 校正，总显著性水平 {ALPHA}。"
        ),
        "rate_note": (
            "比率为每 1,000 条评分消息的疑似条数，方括号内为 95 % Wilson 区间；"
            "区间把每条消息当作独立，重复话术多时偏窄。"
            f"少于 {MIN_LINES} 条评分消息时不显示比率。疑似率不是真实违规率，"
            "真实占比须由抽样复核估计。"
        ),
        "clause_note": "条款取自证据和模型；一条消息可属于多个条款，也可能没有条款。",
        "template_note": ("归一化后只有数字、账号不同的消息视为同一话术；至少两条疑似。已脱敏。"),
        "spelling_note": "疑似消息中被归一化还原的写法；首次出现以历史文件为准。",
        "mixture_note": (
            f"至少 {MIN_MIXED} 条疑似消息中出现、且在疑似消息中多于其他消息的中外文混写或符号，"
            "可考虑加入词表。"
        ),
        "problem_note": f"每种原因最多列出 {EXAMPLES} 行。",
        "untimed_note": "另有 {count:,} 条没有可识别的时间。",
        "alike": "只有数字不同的消息最多列 {alike} 条，最可疑的在前。",
        "mask_note": "电话、证件、账号、地址、订单号等已脱敏；编号用于在评分文件中查找原文。",
        "repeated": "警告：这批消息与 {date} 那一晚完全相同，可能是重复导出。",
        "other_model": "警告：阈值来自模型 {model}，与评分所用模型不同。",
    },
    "en": {
        "title": "Nightly quality report",
        "warning": (
            "Everything here is suspected until a person confirms it; nothing here alone may "
            "decide about a person."
        ),
        "summary": "Summary",
        "scored": "Scored",
        "conversations": "Conversations",
        "agents": "Agents",
        "shops": "Shops",
        "violations": "Suspected violations",
        "reviews": "To review",
        "unscored": "Not scored",
        "model": "Model",
        "by_label": "By label",
        "by_clause": "By clause",
        "by_shop": "By shop",
        "by_platform": "By platform",
        "by_hour": "By hour",
        "trend": "Trend",
        "comparison": "Against the nights before",
        "templates": "Repeated suspected wordings",
        "spellings": "Evasive spellings",
        "mixtures": "Mixed scripts outside the lexicon",
        "problems": "Rows not scored, and errors",
        "estimate": "Estimates from the reviewed sample",
        "service": "Service checks",
        "hits": "Most suspicious messages",
        "notes": "Notes",
        "label": "Label",
        "clause": "Clause",
        "shop": "Shop",
        "platform": "Platform",
        "hour": "Hour",
        "night": "Night",
        "any": "any label",
        "lines": "Lines scored",
        "violation_rate": "Suspected ‰ [95 %]",
        "review_rate": "To review ‰ [95 %]",
        "thresholds": "Thresholds (review / violation)",
        "few": "too few lines",
        "none": "none",
        "now": "Tonight",
        "before": "Nights before, together",
        "dispersion": "Dispersion",
        "p_value": "p",
        "verdict": "Verdict",
        "higher": "unusually high",
        "lower": "unusually low",
        "usual": "usual",
        "example": "Example",
        "suspected": "Suspected",
        "sent": "Sent in these words",
        "surface": "Spelling",
        "meaning": "Meaning",
        "step": "How",
        "others": "Not suspected",
        "first_seen": "First seen",
        "new": "new",
        "reason": "Reason",
        "rows": "Rows",
        "kind": "Outcome",
        "was_scored": "scored, with a remark",
        "not_scored": "not scored",
        "where": "Such as",
        "row": "{file} row {row}",
        "check": "Check",
        "ratio": "Count / all",
        "rate": "Rate [95 %]",
        "threshold": "Required",
        "met": "Met",
        "yes": "met",
        "no": "not met",
        "unknown": "–",
        "probability": "Probability",
        "dialogue": "Dialogue",
        "customer": "Customer",
        "agent": "Agent",
        "time": "Time",
        "key": "Key",
        "outcome": "Outcome",
        "violation": "suspected violation",
        "review": "to review",
        "all": "all",
        "search": "Search words, agent, key",
        "matching": "match",
        "sort": "Click a header to sort",
        "shown": "{shown} of {total} shown; the JSON file has the rest.",
        "per_thousand": "per 1,000 scored lines",
        "chart": (
            "{title}: suspected violations per 1,000 scored lines with 95 % intervals; "
            "the numbers are in the table."
        ),
        "few_mark": "× too few lines",
        "estimate_note": (
            "{reviewed} lines reviewed. Weighted by inclusion probability; 95 % intervals."
        ),
        "join": ", ",
        "stop": ".",
        "s_scope": (
            "{date}{scored:,} agent lines were scored ({conversations:,} conversations, "
            "{agents:,} agents, {shops:,} shops); {unscored:,} of the {rows:,} rows read were not, "
            "among them {media:,} images or voice messages for a person to look at."
        ),
        "s_found": (
            "{count:,} of {total:,} lines are suspected violations: {rate} per 1,000 "
            "(95 % interval {low}–{high}); {reviews:,} more are to be reviewed."
        ),
        "s_few": (
            "{count:,} of {total:,} lines are suspected violations (too few lines for a rate); "
            "{reviews:,} more are to be reviewed."
        ),
        "s_top": (
            "Most often suspected: {name}, {count:,} of {total:,} lines; then {second}, {next:,}."
        ),
        "s_change": "Against the {nights} nights before: {changes}.",
        "s_one_change": (
            "{name} {verdict} (tonight {count:,} of {total:,}, before {past:,} of {past_total:,})"
        ),
        "s_usual": (
            "No label differs from the {nights} nights before "
            "(any label: tonight {count:,} of {total:,}, before {past:,} of {past_total:,})."
        ),
        "s_no_history": (
            f"Fewer than {MIN_NIGHTS} earlier nights by the same model ({{nights}}): "
            "no comparison yet."
        ),
        "s_template": (
            "The commonest suspected wording makes up {count:,} of {hits:,} suspected lines, "
            "by {agents:,} agents."
        ),
        "trend_hint": (
            "The dark bar is tonight, pale ones are nights scored by another model and not "
            f"compared. It takes {MIN_NIGHTS} nights by the same model; the method is in the notes."
        ),
        "trend_note": (
            f"Trend: up to {WINDOW} nights before by the same model are pooled; conditional "
            "binomial test (Przyborowski and Wilenski 1940) on counts divided by the nights' "
            "Pearson dispersion (at least 1; above 1 with Student's tail), Bonferroni over the "
            f"labels, level {ALPHA} in all."
        ),
        "rate_note": (
            "Rates are suspected lines per 1,000 scored lines with 95 % Wilson intervals, which "
            "take lines as independent and are too narrow where wordings repeat. No rate is shown "
            f"below {MIN_LINES} lines. A rate of suspicion is not the true rate of violations; "
            "that takes a reviewed sample."
        ),
        "clause_note": (
            "Clauses come from the evidence and the model; a line may have several, or none."
        ),
        "template_note": (
            "Lines that differ only in numbers and account names after normalisation; "
            "at least two suspected. Masked."
        ),
        "spelling_note": (
            "Spellings in suspected lines that normalisation undid; "
            "first seen as far as the history goes back."
        ),
        "mixture_note": (
            f"Mixtures of scripts and symbols in at least {MIN_MIXED} suspected lines, and in more "
            "of them than of the others; candidates for the lexicon."
        ),
        "problem_note": f"At most {EXAMPLES} rows are named per reason.",
        "untimed_note": "{count:,} further lines have no time that could be read.",
        "alike": "The likeliest first; at most {alike} that differ in digits only.",
        "mask_note": (
            "Telephone numbers, ids, accounts, addresses and order numbers are masked; "
            "the key finds the line in the scored file."
        ),
        "repeated": "Warning: these lines are the same as those of {date}; exported twice?",
        "other_model": "Warning: the thresholds are of model {model}, which did not score this.",
    },
}
