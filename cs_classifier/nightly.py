"""What one night's scored lines add up to: values in, frozen values out.

Every count of lines is of *suspected* violations: what the model and
the rules say, not what a person has confirmed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cs_classifier.metrics import wilson
from cs_classifier.moments import date_of, seconds
from cs_classifier.normalize import NormalizedText, apply_steps, normalize
from cs_classifier.scored import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cs_classifier.scored import ScoredFile, ScoredLine

MIN_LINES = 30  # scored lines below which no rate is shown
EXAMPLES = 3  # rows named per reason why lines were not scored
# The normaliser's steps that put a word for its spelling.
HIDING = ("components", "joined", "lexicon")

_DIGITS = re.compile(r"\d")
_VARIABLE = re.compile(r"[\w-]{2}\*{3}\(\d+\)|\d+")  # a masked account name, or a number
_HAN = "\u3400-\u9fff"
# Up to three letters of another script inside Chinese text, or a symbol. Digits and longer words
# are left out: they are sizes, prices, brands, and account names.
_MIXED = re.compile(
    rf"[{_HAN}][^\W\d_{_HAN}]{{1,3}}(?:[{_HAN}]|$)"
    r"|[^\w\s,.!?:;~，。！？、：；…—～·“”‘’（）()《》【】\[\]\ufe0f\u200d]"
)
MIN_MIXED = 2  # suspected lines with a mixture; one alone is chance


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``total`` lines."""

    count: int
    total: int

    @property
    def enough(self) -> bool:
        """Whether a rate may be shown."""
        return self.total >= MIN_LINES

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval, which takes the lines as independent."""
        return wilson(self.count, self.total)


@dataclass(frozen=True, slots=True)
class Tally:
    """Lines of one label, shop, platform or hour.

    ``violations`` are lines with a suspected violation, ``reviews`` further lines to be looked at;
    both are parts of the ``lines`` that were scored. ``labels`` counts suspected violations.
    """

    name: str
    lines: int
    violations: int
    reviews: int
    labels: dict[str, int] = field(default_factory=dict)

    @property
    def violation(self) -> Share:
        """Suspected violations among the scored lines."""
        return Share(self.violations, self.lines)

    @property
    def review(self) -> Share:
        """Lines to be looked at among the scored lines."""
        return Share(self.reviews, self.lines)


@dataclass(frozen=True, slots=True)
class Template:
    """Suspected lines that are the same but for numbers, account names and hidden spelling.

    ``sent`` counts all scored lines with one of these wordings, suspected or not.
    """

    example: str  # masked
    suspected: int
    sent: int
    agents: int
    labels: dict[str, int]


@dataclass(frozen=True, slots=True)
class Spelling:
    """A spelling in suspected lines that hides a word.

    ``meaning`` is what the normaliser makes of it; empty for a mixture of scripts that the lexicon
    does not know. ``others`` counts the scored lines with it that are not suspected, for these
    mixtures only.
    """

    surface: str  # masked
    meaning: str
    step: str
    suspected: int
    others: int = 0
    first_seen: str = ""  # date of the first night with it, as far as the history goes back

    @property
    def key(self) -> str:
        """How the history names it."""
        return f"{self.surface}→{self.meaning}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why rows were not scored, or were scored with a remark; ``rows`` names the first ones."""

    reason: str
    count: int
    scored: bool
    rows: tuple[tuple[str, int], ...]  # file, row


@dataclass(frozen=True, slots=True)
class Night:
    """One night. ``hits`` are all suspected lines, likeliest violations first."""

    date: str
    fingerprint: str
    models: tuple[str, ...]
    label_ids: tuple[str, ...]
    rows: int
    conversations: int
    agents: int
    total: Tally
    labels: tuple[Tally, ...]
    clauses: tuple[Tally, ...]
    shops: tuple[Tally, ...]
    platforms: tuple[Tally, ...]
    hours: tuple[Tally, ...]
    untimed: int  # scored lines without a time of day
    templates: tuple[Template, ...]
    spellings: tuple[Spelling, ...]
    mixtures: tuple[Spelling, ...]
    problems: tuple[Problem, ...]
    hits: tuple[ScoredLine, ...]


def night_of(lines: Iterable[ScoredLine]) -> str:
    """The commonest date of the lines' times, ISO 8601; empty if none has a date."""
    dates = Counter(date for line in lines if (date := date_of(line.timestamp)))
    return min(dates, key=lambda day: (-dates[day], day), default="")


def build(file: ScoredFile, *, date: str, mask: Callable[[str], str]) -> Night:
    """Add up one night.

    Args:
        file: the night's lines.
        date: of the night, ISO 8601.
        mask: takes personal identifiers out of a text.
    """
    scored = [line for line in file.lines if line.probabilities]
    hits = sorted((line for line in scored if line.suspected), key=lambda x: _rank(x, file))
    normal = {text: normalize(text) for text in dict.fromkeys(line.text for line in hits)}
    hours = _grouped(scored, lambda line: hour_of(line.timestamp))
    return Night(
        date=date,
        fingerprint=fingerprint(file.lines),
        models=file.models,
        label_ids=file.label_ids,
        rows=len(file.lines),
        conversations=len({line.conversation_id for line in scored} - {""}),
        agents=len({line.agent_id for line in scored} - {""}),
        total=_tally("", scored),
        labels=tuple(_per_label(label, scored) for label in file.label_ids),
        clauses=_clauses(hits, len(scored)),
        shops=_grouped(scored, lambda line: line.shop),
        platforms=_grouped(scored, lambda line: line.platform),
        hours=tuple(sorted(hours, key=lambda tally: tally.name)),
        untimed=len(scored) - sum(tally.lines for tally in hours),
        templates=_templates(hits, normal, Counter(line.text for line in scored), mask),
        spellings=_spellings(hits, normal, mask),
        mixtures=_mixtures(scored, normal),
        problems=_problems(file.lines),
        hits=tuple(hits),
    )


def top_probability(line: ScoredLine, label_ids: Sequence[str]) -> float:
    """Highest probability among the labels that the line is suspected of."""
    pairs = zip(label_ids, line.probabilities, strict=True)
    return max(p for label, p in pairs if label in line.suspected)


def hour_of(timestamp: str) -> str:
    """Two digits, empty if the time is not understood.

    >>> hour_of("2026-11-11 09:30:00"), hour_of("")
    ('09', '')
    """
    time = seconds(timestamp)
    return "" if time is None else f"{int(time // 3600 % 24):02d}"


def _rank(line: ScoredLine, file: ScoredFile) -> tuple[bool, float, str]:
    return not line.labels, -top_probability(line, file.label_ids), line.key


def _tally(name: str, lines: Sequence[ScoredLine]) -> Tally:
    return Tally(
        name,
        lines=len(lines),
        violations=sum(bool(line.labels) for line in lines),
        reviews=sum(bool(line.review and not line.labels) for line in lines),
        labels=dict(Counter(label for line in lines for label in line.labels)),
    )


def _per_label(label: str, lines: Sequence[ScoredLine]) -> Tally:
    return Tally(
        label,
        lines=len(lines),
        violations=sum(label in line.labels for line in lines),
        reviews=sum(label in line.review for line in lines),
    )


def _grouped(lines: Sequence[ScoredLine], name: Callable[[ScoredLine], str]) -> tuple[Tally, ...]:
    """A tally per name that is not empty; most suspected violations first."""
    groups: dict[str, list[ScoredLine]] = defaultdict(list)
    for line in lines:
        groups[name(line)].append(line)
    tallies = [_tally(name, members) for name, members in groups.items() if name]
    return tuple(sorted(tallies, key=lambda t: (-t.violations, -t.reviews, t.name)))


def _clauses(hits: Sequence[ScoredLine], scored: int) -> tuple[Tally, ...]:
    """Per clause that the evidence or the model names: a line counts once for each of its clauses.

    A clause stands under a label, and the outcome of that label is the line's outcome here.
    """
    violations: Counter[str] = Counter()
    reviews: Counter[str] = Counter()
    for line in hits:
        named = {evidence.clause for evidence in line.evidence} | set(line.clauses)
        for clause in named - {""}:
            label = clause.partition(".")[0]
            violations[clause] += label in line.labels
            reviews[clause] += label in line.review
    found = [Tally(c, scored, violations[c], reviews[c]) for c in violations]
    found = [tally for tally in found if tally.violations or tally.reviews]
    return tuple(sorted(found, key=lambda t: (-t.violations, -t.reviews, t.name)))


def _templates(
    hits: Sequence[ScoredLine],
    normal: Mapping[str, NormalizedText],
    texts: Mapping[str, int],
    mask: Callable[[str], str],
) -> tuple[Template, ...]:
    """Wordings that occur in at least two suspected lines, most frequent first."""
    groups: dict[str, list[ScoredLine]] = defaultdict(list)
    keys: dict[str, str] = {}  # masking is slow, and lines that differ in numbers only mask alike
    for line in hits:
        text = normal[line.text].text
        alike = _DIGITS.sub("0", text)
        if alike not in keys:
            keys[alike] = " ".join(_VARIABLE.sub("#", mask(text)).split())
        groups[keys[alike]].append(line)
    found = [
        Template(
            example=mask(lines[0].text),
            suspected=len(lines),
            sent=sum(texts[text] for text in {line.text for line in lines}),
            agents=len({line.agent_id for line in lines} - {""}),
            labels=dict(Counter(label for line in lines for label in line.suspected)),
        )
        for lines in groups.values()
        if len(lines) > 1
    ]
    return tuple(sorted(found, key=lambda t: (-t.suspected, -t.sent, t.example)))


def _spellings(
    hits: Sequence[ScoredLine], normal: Mapping[str, NormalizedText], mask: Callable[[str], str]
) -> tuple[Spelling, ...]:
    """Spellings that the normaliser undid, by the number of suspected lines with them."""
    undone = {text: set(_undone(result)) for text, result in normal.items() if result.steps}
    counts = Counter(found for line in hits for found in undone.get(line.text, ()))
    spellings = [
        Spelling(mask(surface), meaning, step, count)
        for (step, surface, meaning), count in counts.items()
    ]
    return tuple(sorted(spellings, key=lambda s: (-s.suspected, s.key)))


def _undone(result: NormalizedText) -> Iterable[tuple[str, str, str]]:
    """(step, surface in the original, meaning) of every hidden word."""
    for i, step in enumerate(result.steps):
        if step.name not in HIDING:
            continue
        before = apply_steps(result.original, result.steps[:i])
        for edit in step.edits:
            start, end = before.original_span(edit.start, edit.end)
            yield step.name, result.original[start:end], edit.after


def _mixtures(
    scored: Sequence[ScoredLine],
    normal: Mapping[str, NormalizedText],
) -> tuple[Spelling, ...]:
    """Mixtures of scripts that no step knows and that stand mostly in suspected lines."""
    unknown = {text: _unknown(result) for text, result in normal.items()}
    suspected = Counter(found for line in scored if line.suspected for found in unknown[line.text])
    others = Counter(
        found
        for line in scored
        if not line.suspected
        for found in set(_MIXED.findall(line.text)) & suspected.keys()
    )
    spellings = [
        Spelling(surface, "", "mixed", count, others[surface])
        for surface, count in suspected.items()
        if count >= MIN_MIXED and count > others[surface]
    ]
    return tuple(sorted(spellings, key=lambda s: (-s.suspected, s.others, s.surface)))


def _unknown(result: NormalizedText) -> set[str]:
    """Mixtures of scripts in a line of which no step changed a character."""
    kept = set()  # positions in the original that the result shows as they were
    for char, start, end in zip(result.text, result.starts, result.ends, strict=True):
        if end == start + 1 and result.original[start] == char:
            kept.add(start)
    return {
        match.group()
        for match in _MIXED.finditer(result.original)
        if kept.issuperset(range(*match.span()))
    }


def _problems(lines: Sequence[ScoredLine]) -> tuple[Problem, ...]:
    groups: dict[tuple[str, bool], list[ScoredLine]] = defaultdict(list)
    for line in lines:
        if line.error or not line.probabilities:
            groups[line.error, bool(line.probabilities)].append(line)
    found = [
        Problem(reason, len(rows), scored, tuple((x.file, x.row) for x in rows[:EXAMPLES]))
        for (reason, scored), rows in groups.items()
    ]
    return tuple(sorted(found, key=lambda p: (-p.count, p.reason)))
