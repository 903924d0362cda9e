"""What a run of ``predict`` found, for the person who reads it in the morning."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cs_classifier.metrics import wilson
from cs_classifier.reports.markdown import number
from cs_classifier.reports.masking import mask, mask_span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cs_classifier.labels import LabelSet
    from cs_classifier.records import Prediction
    from cs_classifier.reports.wording import Language

TOP = 5  # rules per label, and agents
MIN_SCORED = 30  # lines of an agent below which no rate is shown
MAX_EXAMPLES = 2  # per label
EXAMPLE_LENGTH = 80  # characters
MAX_AGENTS = 20_000  # followed; a column that names an order instead of an agent has no end
MAX_REASONS = 1000  # counted apart; some name what they found in the row


@dataclass(frozen=True)
class Example:
    """One suspected line; text and evidence are masked."""

    row: int
    text: str
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class LabelSummary:
    """One label: lines decided ``violation`` and ``review``, and the rules that hit on them."""

    label: str
    violations: int
    reviews: int
    rules: tuple[tuple[str, int], ...]
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class AgentSummary:
    """One agent: lines scored, and lines with at least one suspected violation."""

    agent: str
    scored: int
    violations: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval of the share; none below ``MIN_SCORED`` lines.

        >>> AgentSummary("小雨", 10, 9).interval is None
        True
        """
        return wilson(self.violations, self.scored) if self.scored >= MIN_SCORED else None


@dataclass(frozen=True)
class ScoringSummary:
    """One file; ``rows`` is ``scored`` plus all of ``skipped`` plus ``errors``."""

    file: str
    model: str
    engine: str
    seconds: float
    rows: int
    scored: int
    truncated: int  # of the scored: too long to be read to the end
    flagged: int  # of the scored: lines with at least one suspected violation
    skipped: dict[str, int]  # reason to rows that were not meant to be scored
    errors: int  # rows that should have been scored and could not be
    error_reasons: dict[str, int]
    labels: tuple[LabelSummary, ...]
    agents: tuple[AgentSummary, ...]  # the TOP by suspected violations
    tags: dict[str, int]


@dataclass
class _LabelCounts:
    violations: int = 0
    reviews: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)


class SummaryBuilder:
    """Collects counts row by row, in memory that does not grow with the file."""

    def __init__(self, label_set: LabelSet, *, file: str, model: str, engine: str) -> None:
        """Start at zero."""
        self._label_set = label_set
        self._file, self._model, self._engine = file, model, engine
        self._totals: Counter[str] = Counter()  # rows, scored, truncated, flagged
        self._labels = [_LabelCounts() for _ in label_set.ids]
        self._skipped: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._tags: Counter[str] = Counter()
        self._agents: dict[str, list[int]] = {}  # scored, with suspected violations

    def add(
        self,
        values: Mapping[str, Any],
        prediction: Prediction | None,
        reason: str = "",
        *,
        row: int | None = None,
        error: bool = False,
    ) -> None:
        """Count one row.

        Args:
            values: the row, of which ``text`` and ``agent_id`` are read.
            prediction: none if the row was not scored.
            reason: why it was not scored; a fixed phrase, without anything from the row.
            row: number in the file; by default, rows are counted from 1.
            error: whether it should have been scored (damaged or empty text, say).
        """
        self._totals["rows"] += 1
        if prediction is None:
            reasons = self._errors if error else self._skipped
            reasons[reason if reason in reasons or len(reasons) < MAX_REASONS else ""] += 1
            return
        flagged = "violation" in prediction.outcomes
        self._totals["scored"] += 1
        self._totals["truncated"] += prediction.truncated
        self._totals["flagged"] += flagged
        self._tags.update(prediction.tags)
        if agent := str(values.get("agent_id") or "").strip():
            self._count_agent(agent, 1, flagged)
        number_ = self._totals["rows"] if row is None else row
        for label, counts_, outcome in zip(
            self._label_set.ids, self._labels, prediction.outcomes, strict=True
        ):
            if outcome != "clear":
                _count(counts_, label, prediction, str(values.get("text") or ""), number_, outcome)

    def _count_agent(self, agent: str, scored: int, violations: int) -> None:
        if agent in self._agents or len(self._agents) < MAX_AGENTS:
            counts = self._agents.setdefault(agent, [0, 0])
            counts[0] += scored
            counts[1] += violations

    def state(self) -> dict[str, Any]:
        """All counts as plain data, for :meth:`absorb`."""
        return {
            "totals": self._totals,
            "labels": [
                vars(counts) | {"examples": [asdict(example) for example in counts.examples]}
                for counts in self._labels
            ],
            "skipped": self._skipped,
            "errors": self._errors,
            "tags": self._tags,
            "agents": self._agents,
        }

    def absorb(self, state: Mapping[str, Any]) -> None:
        """Add the :meth:`state` of another builder: of an earlier run, or of another file."""
        for name in ("totals", "skipped", "errors", "tags"):
            getattr(self, f"_{name}").update(state[name])
        for counts, other in zip(self._labels, state["labels"], strict=True):
            counts.violations += other["violations"]
            counts.reviews += other["reviews"]
            counts.rules.update(other["rules"])
            examples = [
                Example(e["row"], e["text"], tuple(e["evidence"])) for e in other["examples"]
            ]
            counts.examples = [*counts.examples, *examples][:MAX_EXAMPLES]
        for agent, (scored, violations) in state["agents"].items():
            self._count_agent(agent, scored, violations)

    def build(self, *, seconds: float) -> ScoringSummary:
        """The summary of all rows so far, which took ``seconds``."""
        agents = [AgentSummary(agent, *counts) for agent, counts in self._agents.items()]
        agents = sorted((a for a in agents if a.violations), key=lambda a: (-a.violations, a.agent))
        return ScoringSummary(
            file=self._file,
            model=self._model,
            engine=self._engine,
            seconds=seconds,
            rows=self._totals["rows"],
            scored=self._totals["scored"],
            truncated=self._totals["truncated"],
            flagged=self._totals["flagged"],
            skipped=dict(self._skipped.most_common()),
            errors=self._errors.total(),
            error_reasons=dict(self._errors.most_common()),
            labels=tuple(
                LabelSummary(
                    label,
                    counts.violations,
                    counts.reviews,
                    tuple(counts.rules.most_common(TOP)),
                    tuple(counts.examples),
                )
                for label, counts in zip(self._label_set.ids, self._labels, strict=True)
            ),
            agents=tuple(agents[:TOP]),
            tags=dict(self._tags.most_common()),
        )


def _count(  # noqa: PLR0913, PLR0917
    counts: _LabelCounts, label: str, prediction: Prediction, text: str, row: int, outcome: str
) -> None:
    """Count one label of one line that is not clear of it."""
    rules = [hit.rule for hit in prediction.hits if hit.target == label]
    counts.rules.update(list(dict.fromkeys(rules)))  # in rule order, so that ties read the same
    if outcome == "review":
        counts.reviews += 1
        return
    counts.violations += 1
    shown = _shorten(mask(text)) if len(counts.examples) < MAX_EXAMPLES else ""
    if shown and all(example.text != shown for example in counts.examples):
        evidence = dict.fromkeys(
            f"{e.source}: {mask_span(text, e.start, e.end)}"
            for e in prediction.evidence
            if e.label == label
        )
        counts.examples.append(Example(row, shown, tuple(evidence)))


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= EXAMPLE_LENGTH else text[: EXAMPLE_LENGTH - 1] + "…"


_REASONS_ZH = {
    "context only": "买家或系统消息（仅作上下文）",
    "needs_media_review": "图片或语音（需人工查看）",
    "system": "平台系统消息",
    "text is empty": "内容为空",
    "text is missing": "缺少内容",
    "text is not a string": "内容不是文字",
}

_WORDS: dict[Language, dict[str, str]] = {
    "zh": {
        "head": "文件 {file}：共 {rows:,} 行，已评分 {scored:,} 行，未评分 {left:,} 行",
        "left": "未评分原因：",
        "errors": "出错 {errors:,} 行：",
        "flagged": "疑似违规 {flagged:,} 行（每 1,000 行 {rate}），须经人工确认",
        "truncated": "有 {truncated:,} 行过长，只评分了前面部分",
        "label": "{name}：疑似违规 {violations:,}，待复核 {reviews:,}",
        "rules": "命中规则：",
        "example": "第 {row} 行：{text}",
        "evidence": "依据",
        "agents": "疑似违规最多的客服（仅为线索，不能据此考核）：",
        "agent": "{agent}：{violations:,} / {scored:,} 行",
        "rate": "，每 1,000 行 {rate}（95 % 区间 {low}–{high}）",
        "few": f"，样本不足（少于 {MIN_SCORED} 行，不计算比率）",
        "tags": "其他标记：",
        "foot": "模型 {model}，引擎 {engine}，用时 {seconds} 秒，每秒 {speed} 行",
        "join": "、",
        "other": "其他",
        "model": "模型",
    },
    "en": {
        "head": "File {file}: {rows:,} rows, {scored:,} scored, {left:,} not scored",
        "left": "Not scored because: ",
        "errors": "{errors:,} rows with errors: ",
        "flagged": (
            "{flagged:,} lines with a suspected violation ({rate} per 1,000),"
            " to be confirmed by a person"
        ),
        "truncated": "{truncated:,} lines were too long; only their beginning was scored",
        "label": "{name}: {violations:,} suspected, {reviews:,} to review",
        "rules": "rules: ",
        "example": "row {row}: {text}",
        "evidence": "evidence",
        "agents": "Agents with most suspected violations (a lead, not an assessment):",
        "agent": "{agent}: {violations:,} of {scored:,} lines",
        "rate": ", {rate} per 1,000 (95 % interval {low}–{high})",
        "few": f", too few lines for a rate (fewer than {MIN_SCORED})",
        "tags": "Other findings: ",
        "foot": "Model {model}, engine {engine}, {seconds} s, {speed} rows/s",
        "join": ", ",
        "other": "other",
        "model": "model",
    },
}


def to_text(summary: ScoringSummary, label_set: LabelSet, language: Language = "zh") -> str:
    """Plain text for a QA lead."""
    words = _WORDS[language]
    lines = [*_totals(summary, words), ""]
    for label in summary.labels:
        lines += _label_lines(label, label_set, language)
    if summary.agents:
        lines += ["", words["agents"], *(f"  {_agent(a, words)}" for a in summary.agents)]
    if summary.tags:
        names = {tag.id: getattr(tag, language) for tag in label_set.tags}
        tags = [f"{names.get(tag, tag)} {count:,}" for tag, count in summary.tags.items()]
        lines += ["", words["tags"] + words["join"].join(tags)]
    foot = {"seconds": number(summary.seconds, 1), "speed": _speed(summary)}
    lines += ["", words["foot"].format(model=summary.model, engine=summary.engine, **foot)]
    return "\n".join(lines) + "\n"


def _totals(summary: ScoringSummary, words: Mapping[str, str]) -> list[str]:
    left = summary.rows - summary.scored
    head = {"file": summary.file, "rows": summary.rows, "scored": summary.scored, "left": left}
    lines = [words["head"].format(**head)]
    if summary.skipped:
        lines.append("  " + words["left"] + _reasons(summary.skipped, words))
    if summary.errors:
        text = words["errors"].format(errors=summary.errors)
        lines.append("  " + text + _reasons(summary.error_reasons, words))
    if summary.truncated:
        lines.append("  " + words["truncated"].format(truncated=summary.truncated))
    rate = _per_thousand(summary.flagged / summary.scored) if summary.scored else "–"
    return [*lines, words["flagged"].format(flagged=summary.flagged, rate=rate)]


def _reasons(counts: Mapping[str, int], words: Mapping[str, str]) -> str:
    """The most frequent reasons with their counts; the rest in one sum."""
    items: Sequence[tuple[str, int]] = Counter(counts).most_common()
    names = _REASONS_ZH if words is _WORDS["zh"] else {}
    parts = [
        f"{names.get(reason, reason) or words['other']} {count:,}" for reason, count in items[:TOP]
    ]
    if rest := sum(count for _, count in items[TOP:]):
        parts.append(f"{words['other']} {rest:,}")
    return words["join"].join(parts)


def _label_lines(label: LabelSummary, label_set: LabelSet, language: Language) -> list[str]:
    words = _WORDS[language]
    name = getattr(label_set[label.label], language)
    counts = {"violations": label.violations, "reviews": label.reviews}
    lines = [words["label"].format(name=name, **counts)]
    if label.rules:
        rules = words["join"].join(f"{rule} {count:,}" for rule, count in label.rules)
        lines.append(f"  {words['rules']}{rules}")
    for example in label.examples:
        lines.append("  " + words["example"].format(row=example.row, text=example.text))
        lines += [f"    {words['evidence']} {part}" for part in example.evidence]
    return lines


def _agent(agent: AgentSummary, words: Mapping[str, str]) -> str:
    text = words["agent"].format(
        agent=agent.agent, violations=agent.violations, scored=agent.scored
    )
    if agent.interval is None:
        return text + words["few"]
    low, high = map(_per_thousand, agent.interval)
    rate = _per_thousand(agent.violations / agent.scored)
    return text + words["rate"].format(rate=rate, low=low, high=high)


def _per_thousand(share: float) -> str:
    return number(1000 * share, 1)


def _speed(summary: ScoringSummary) -> str:
    return number(summary.rows / summary.seconds if summary.seconds > 0 else None, 0)
