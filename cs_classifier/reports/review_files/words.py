"""The words of the review files, and the columns of the workbook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from cs_classifier.reviews import NONE, VERDICTS

if TYPE_CHECKING:
    from cs_classifier.reports.wording import Language

Kind = Literal["shown", "answer", "hidden"]


class Column(NamedTuple):
    """A column of the review sheet; ``width`` in characters."""

    name: str
    zh: str
    en: str
    width: int
    kind: Kind = "shown"


COLUMNS = (
    Column("number", "序号", "No.", 6),
    Column("conversation_id", "会话ID", "Conversation", 16),
    Column("timestamp", "时间", "Time", 12),
    Column("platform", "平台", "Platform", 8),
    Column("shop", "店铺", "Shop", 12),
    Column("agent_id", "客服", "Agent", 14),
    Column("conversation", "对话", "Conversation around", 48),
    Column("context", "上一句(买家)", "Customer before", 26),
    Column("text", "客服原话", "Agent's line", 40),
    Column("suspected", "疑似类别", "Suspected", 12),
    Column("clauses", "子类", "Clause", 14),
    Column("evidence", "证据片段", "Evidence", 16),
    Column("score", "分数", "Probability", 8),
    Column("rules", "正则命中", "Rules", 16),
    Column("verdict", "复核结果", "Verdict", 11, "answer"),
    Column("correction", "更正类别", "Correction", 16, "answer"),
    Column("annotator", "复核人", "Reviewer", 10, "answer"),
    Column("note", "复核备注", "Note", 20, "answer"),
    Column("appeal", "申诉", "Appeal", 10, "answer"),
    Column("stratum", "抽样层", "Stratum", 14, "hidden"),
    Column("probability", "抽样概率", "Sampling probability", 14, "hidden"),
    Column("key", "行键", "Line key", 14, "hidden"),
    Column("data", "行数据", "Line data", 14, "hidden"),  # goes on in 行数据2, 行数据3, …
)

WORDS: dict[Language, dict[str, str]] = {
    "zh": {
        "instructions": "说明",
        "review": "复核",
        "information": "运行信息",
        "lists": "选项",
        "joint": "、",
        "customer": "买家",
        "agent": "客服",
        "colon": "：",
        "blind": "（盲审）",
        "unsuspected": "未检出",
        "page": "第 &P 页，共 &N 页",
        "confirmed": VERDICTS["confirmed"],
        "rejected": VERDICTS["rejected"],
        "doubtful": VERDICTS["doubtful"],
        "no_label": NONE,
        "note": "备注（可不填）",
        "title": "客服质检复核：使用说明",
        "labels": "类别与子类",
        "label": "类别",
        "clause": "子类",
        "definition": "判定说明",
        "rule": "平台规则原文",
        "verdict_title": "复核结果",
        "verdict_error": "请从下拉列表选择：确认、误判、存疑。",
        "verdict_prompt": "确认＝疑似类别成立；误判＝不成立；存疑＝拿不准，交第二人。",
        "correction_title": "更正类别",
        "correction_error": "不在类别列表中。多个类别用“、”连接；没有违规填“无”。仍要保留吗？",
        "correction_prompt": "疑似类别不对或盲审时，选正确类别；多个用“、”连接，没有违规选“无”。",
        "suspected_head": "系统疑似（须人工确认）：",
        "labels_head": "违规类别：核对预选的类别并改正；没有违规选“无”",
    },
    "en": {
        "instructions": "Instructions",
        "review": "Review",
        "information": "Run",
        "lists": "Lists",
        "joint": ", ",
        "customer": "Customer",
        "agent": "Agent",
        "colon": ": ",
        "blind": "(blind)",
        "unsuspected": "not suspected",
        "page": "Page &P of &N",
        "confirmed": "confirmed",
        "rejected": "rejected",
        "doubtful": "doubtful",
        "no_label": "none",
        "note": "Note (optional)",
        "title": "Reviewing suspected lines",
        "labels": "Labels and clauses",
        "label": "Label",
        "clause": "Clause",
        "definition": "Definition",
        "rule": "Platform's wording",
        "verdict_title": "Verdict",
        "verdict_error": "Choose from the list: confirmed, rejected, doubtful.",
        "verdict_prompt": "confirmed: the suspected labels hold; rejected: they do not; "
        "doubtful: a second person decides.",
        "correction_title": "Correction",
        "correction_error": "Not a label of the list. Join several by a comma; "
        "“none” if nothing is violated. Keep it?",
        "correction_prompt": "When the suspicion is wrong, and in blind rows: the right labels, "
        "joined by a comma, or “none”.",
        "suspected_head": "Suspected by the system (a person decides): ",
        "labels_head": "Labels: correct what is chosen; “none” if nothing is violated",
    },
}

INSTRUCTIONS: dict[Language, tuple[str, ...]] = {
    "zh": (
        "要做什么：逐行判断“客服原话”是否违规。系统只给出“疑似”，是否违规由您认定。",
        "怎么填：只填黄色的五列（复核结果、更正类别、复核人、复核备注、申诉），其他列请不要改。",
        "确认：疑似类别成立。误判：疑似类别不成立，且没有任何违规。存疑：拿不准，留给第二人复核。",
        "更正类别：违规但类别不对，或多报、漏报了类别时，填正确的全部类别，多个用“、”连接；"
        "没有违规填“无”。填了更正类别，就以它为准。",
        "盲审行（疑似类别为“（盲审）”）：不显示系统意见，以免影响判断。"
        "请直接填“更正类别”：有违规选类别，没有选“无”；复核结果可以不填。",
        "未检出的行：没有违规选“确认”；发现违规（漏判）请在“更正类别”里选类别。",
        "红色加粗的文字是系统找到的证据；“对话”列里以 ▶ 开头的是被复核的这一句。",
        "可以排序、筛选、隐藏列、插入列，也可以删掉不复核的行。"
        "不要只排序其中几列，不要删除右侧的隐藏列，请存为 .xlsx 格式交回。",
        "几个人分头复核：各自另存一份并填写“复核人”，交回后会自动合并。",
        "保密：文件含未脱敏的聊天内容（判断站外联系等需要看到原文），只限复核人员使用；"
        "不要外发，用完按本单位规定删除。",
    ),
    "en": (
        "The task: decide for each row whether the agent's line is a violation. The system only"
        " suspects; you decide.",
        "Fill only the five yellow columns; leave the others as they are.",
        "confirmed: the suspected labels hold. rejected: they do not, and no other label does."
        " doubtful: a second person decides.",
        "Correction: all true labels, joined by a comma, when the suspected ones are wrong or not"
        " complete; “none” if nothing is violated. A correction decides.",
        "Blind rows show no opinion of the system, so that it cannot sway you. Fill the correction:"
        " the labels, or “none”; the verdict may stay empty.",
        "Rows that are not suspected: confirmed if nothing is violated; name the labels in the"
        " correction if something is.",
        "Bold red text is the evidence; ▶ marks the line under review in the conversation.",
        "Rows may be sorted, filtered and deleted, columns hidden and inserted. Do not sort some of"
        " the columns alone, keep the hidden columns on the right, and save as .xlsx.",
        "Several reviewers: each fills a copy, with a name in “Reviewer”; copies are merged.",
        "Confidential: the chats are not masked, since reviewers need the wording. For reviewers"
        " only; do not pass on, and delete as your rules say.",
    ),
}
