"""Scorecards: what is suspected of, and confirmed for, each agent, shop, team or shift.

A number about a person comes with its denominator and interval, is drawn towards the team, is
silent below a minimum volume, and stays a suspicion until a person has confirmed it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cs_classifier.errors import DataError
from cs_classifier.moments import date_of, seconds
from cs_classifier.performance import hits as hit_finding
from cs_classifier.performance import peers, shrinkage
from cs_classifier.performance.clock import within
from cs_classifier.performance.peers import Cell, Figures, Measured, Member, Triple, Volume
from cs_classifier.performance.penalties import (
    Deduction,
    Offence,
    ScoreRules,
    Verdict,
    check_clauses,
    deduct,
    score,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cs_classifier.labels import LabelSet
    from cs_classifier.performance.hits import Hit
    from cs_classifier.performance.shrinkage import Rate
    from cs_classifier.reviews import Review
    from cs_classifier.scored import Identity, ScoredFile, ScoredLine

By = Literal["agent", "shop", "team", "shift"]
BY: tuple[By, ...] = ("agent", "shop", "team", "shift")
_SEED = 0  # of ranks and corrected rates, if no generator is given


@dataclass(frozen=True, slots=True)
class Appeals:
    """Hits that were confirmed, how many of them were appealed, and with what outcome."""

    confirmed: int = 0
    appealed: int = 0
    upheld: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What people found among a member's lines; all counts are of lines."""

    decided: int
    confirmed: int  # with at least one confirmed label
    rate: Rate | None  # confirmed, weighted by inclusion probability; of drawn lines only


@dataclass(frozen=True, slots=True)
class Card:
    """One member."""

    member: Member
    team: str
    turns: int  # scored lines
    conversations: int
    suspected: int  # lines with at least one label decided "violation"
    to_review: int  # lines with at least one label decided "review" and none "violation"
    labels: dict[str, tuple[int, int]]  # label to suspected and confirmed lines
    mix: dict[Cell, int]  # turns by platform and shift
    figures: Figures
    reviewed: Reviewed
    appeals: Appeals
    score: float | None
    deductions: tuple[Deduction, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Scorecard:
    """All members, every hit, and what they rest on."""

    by: By
    cards: tuple[Card, ...]
    hits: tuple[Hit, ...]
    label_ids: tuple[str, ...]
    turns: int
    unscored: int
    unassigned: int  # scored lines without a name, such as those of bots
    teams: dict[str, Rate]  # mean rate of each team
    design_effect: float
    uncorrected: tuple[str, ...]  # labels without a measured precision and recall
    clauses: dict[str, Appeals]
    rules: str  # version and checksum of the scoring rules
    minimum: tuple[int, int]  # turns, reviewed lines
    models: tuple[str, ...]
    files: tuple[str, ...]


def parse_measured(data: Any) -> dict[str, Measured]:  # noqa: ANN401
    """Precision and recall by label from the JSON that ``cs-classifier estimate -o`` wrote.

    Raises:
        DataError: it is something else.
    """
    try:
        rows = [
            Measured(
                str(row["label"]),
                _triple(row.get("precision_violation")),
                _triple(row.get("recall_violation")),
            )
            for row in data["labels"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        msg = "--measured: give the JSON file that 'cs-classifier estimate -o' wrote"
        raise DataError(msg) from error
    return {row.label: row for row in rows}


def _triple(value: Mapping[str, Any] | None) -> Triple | None:
    if value is None or any(value.get(name) is None for name in ("value", "low", "high")):
        return None
    triple = float(value["value"]), float(value["low"]), float(value["high"])
    return triple if all(map(math.isfinite, triple)) else None


def build(  # noqa: PLR0913
    scored: ScoredFile,
    *,
    label_set: LabelSet,
    rules: ScoreRules,
    by: By = "agent",
    reviews: Sequence[Review] = (),
    measured: Mapping[str, Measured] | None = None,
    insult: Callable[[str], bool] | None = None,
    rng: np.random.Generator | None = None,
) -> Scorecard:
    """Make the scorecards.

    Args:
        scored: last night's lines.
        label_set: for clauses and their severity.
        rules: the team's scoring rules.
        by: whom the cards are about.
        reviews: what people decided; of lines that are not in ``scored`` they only count as the
            member's earlier offences.
        measured: precision and recall by label, for the corrected rate.
        insult: whether a customer's words insult.
        rng: for ranks and corrected rates.

    Raises:
        ConfigError: the rules name an unknown clause.
        DataError: an appeal that the rules do not know, or no line has a name.
        MissingExtraError: scipy is not installed.
    """
    check_clauses(rules, label_set.clauses, label_set.ids)
    lines = [line for line in scored.lines if line.probabilities]
    members = _members(lines, by, rules)
    by_line: dict[Identity, list[Review]] = defaultdict(list)
    for review in reviews:
        by_line[review.sampled.line.identity].append(review)
    volumes = {member: _volume(own, by, rules) for member, own in members.items()}
    comparison = peers.compare(
        volumes,
        rules=rules,
        measured=measured or {},
        label_ids=scored.label_ids,
        rng=rng or np.random.default_rng(_SEED),
    )
    found = tuple(
        hit_finding.find(members, by_line, label_set=label_set, rules=rules, insult=insult)
    )
    past = _earlier(by_line, {line.identity for line in scored.lines}, by, rules, label_set)
    own_hits: dict[Member, list[Hit]] = defaultdict(list)
    for hit in found:
        own_hits[hit.member].append(hit)
    make = _Maker(rules, by, by_line)
    cards = [
        make.card(
            member, own, volumes[member], comparison.figures[member], own_hits[member], past[member]
        )
        for member, own in members.items()
    ]
    return Scorecard(
        by=by,
        cards=tuple(cards),
        hits=found,
        label_ids=scored.label_ids,
        turns=len(lines),
        unscored=len(scored.lines) - len(lines),
        unassigned=len(lines) - sum(map(len, members.values())),
        teams=comparison.teams,
        design_effect=comparison.design_effect,
        uncorrected=comparison.uncorrected,
        clauses=_by_clause(found),
        rules=rules.identity,
        minimum=(rules.minimum.turns, rules.minimum.reviewed),
        models=scored.models,
        files=tuple(dict.fromkeys(line.file for line in scored.lines)),
    )


def shift_of(line: ScoredLine, rules: ScoreRules) -> str:
    """The line's shift: its column, else by its time; empty if neither is there."""
    if line.shift or not rules.shifts:
        return line.shift
    moment = seconds(line.timestamp)
    if moment is None:
        return ""
    return next((name for name, window in rules.shifts.items() if within(moment, window)), "")


def _member(line: ScoredLine, by: By, rules: ScoreRules) -> Member | None:
    if by == "agent":
        return (line.agent_id, line.shop) if line.agent_id else None
    name = shift_of(line, rules) if by == "shift" else getattr(line, by)
    return (name, "") if name else None


def _members(
    lines: Iterable[ScoredLine], by: By, rules: ScoreRules
) -> dict[Member, list[ScoredLine]]:
    members: dict[Member, list[ScoredLine]] = defaultdict(list)
    for line in lines:
        if member := _member(line, by, rules):
            members[member].append(line)
    if not members:
        column = "agent_id" if by == "agent" else by
        msg = f"no scored line names its {by}; say where it stands with --columns {column}=NAME"
        raise DataError(msg)
    return dict(sorted(members.items()))


def _volume(lines: Sequence[ScoredLine], by: By, rules: ScoreRules) -> Volume:
    cells: dict[Cell, list[int]] = defaultdict(lambda: [0, 0])
    conversations: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    labels: Counter[str] = Counter()
    for line in lines:
        cell = line.platform, "" if by == "shift" else shift_of(line, rules)
        for counts in (cells[cell], conversations[line.conversation_id or line.key]):
            counts[0] += 1
            counts[1] += bool(line.labels)
        labels.update(line.labels)
    return Volume(
        team=_team(lines) if by == "agent" else "",
        turns=len(lines),
        hits=sum(bool(line.labels) for line in lines),
        labels=labels,
        cells={cell: (turns, hits) for cell, (turns, hits) in cells.items()},
        conversations=tuple((turns, hits) for turns, hits in conversations.values()),
    )


def _team(lines: Iterable[ScoredLine]) -> str:
    """The team that most of the lines name."""
    return Counter(line.team for line in lines).most_common(1)[0][0]


def _earlier(
    reviews: Mapping[Identity, Sequence[Review]],
    tonight: set[Identity],
    by: By,
    rules: ScoreRules,
    label_set: LabelSet,
) -> dict[Member, list[Offence]]:
    """Offences confirmed on lines of other nights."""
    past: dict[Member, list[Offence]] = defaultdict(list)
    for identity, own in reviews.items():
        line = own[0].sampled.line
        member = _member(line, by, rules)
        if identity in tonight or member is None:
            continue
        if hit_finding.appeal_of(own, rules) != "upheld":
            for label in hit_finding.confirmed(own) or ():
                clause = hit_finding.clause_of(line, label)
                level = hit_finding.severity(label_set, label, clause)
                past[member].append(_offence(line, label, clause, level))
    return past


def _offence(line: ScoredLine, label: str, clause: str, severity: int) -> Offence:
    return Offence(clause or label, severity, date_of(line.timestamp))


@dataclass(frozen=True)
class _Maker:
    """Puts together the card of one member after another."""

    rules: ScoreRules
    by: By
    reviews: Mapping[Identity, Sequence[Review]]

    def card(  # noqa: PLR0913, PLR0917
        self,
        member: Member,
        lines: Sequence[ScoredLine],
        volume: Volume,
        figures: Figures,
        hits: Sequence[Hit],
        past: Sequence[Offence],
    ) -> Card:
        true = [hit for hit in hits if hit.state == "confirmed"]
        by_label = Counter(hit.label for hit in true)
        reviewed = self._reviewed(lines, {hit.line.identity for hit in true})
        offences = [_offence(hit.line, hit.label, hit.clause, hit.severity) for hit in true]
        scored = self.by == "agent" and reviewed.decided > 0
        deductions = deduct(offences, self.rules, earlier=past) if scored else ()
        decision = verdict(deductions, self.rules, reviewed=reviewed.decided)
        return Card(
            member=member,
            team=volume.team,
            turns=volume.turns,
            conversations=len(volume.conversations),
            suspected=volume.hits,
            to_review=sum(bool(line.review) and not line.labels for line in lines),
            labels={
                label: (volume.labels.get(label, 0), by_label[label])
                for label in sorted({*volume.labels, *by_label})
            },
            mix={cell: turns for cell, (turns, _) in volume.cells.items()},
            figures=figures,
            reviewed=reviewed,
            appeals=_appeals(hits),
            score=score(deductions, self.rules) if scored else None,
            deductions=deductions,
            verdict=decision if scored else "none",
        )

    def _reviewed(self, lines: Sequence[ScoredLine], true: set[Identity]) -> Reviewed:
        decided = 0
        sample = []  # confirmed or not, inclusion probability
        for line in lines:
            own = self.reviews.get(line.identity, ())
            if hit_finding.confirmed(own) is None:
                continue
            decided += 1
            drawn = (review.sampled for review in own if not review.sampled.picked)
            if first := next(drawn, None):
                sample.append((line.identity in true, first.probability))
        rate = None
        if len(sample) >= self.rules.minimum.reviewed:
            rate = shrinkage.hajek(*zip(*sample, strict=True))
        return Reviewed(decided, len(true), rate)


def _appeals(hits: Iterable[Hit]) -> Appeals:
    """Of the hits that were confirmed, whether that still holds or not."""
    counts: Counter[str] = Counter()
    for hit in hits:
        if hit.state in {"confirmed", "overturned"}:
            counts.update(["confirmed", *(["appealed", hit.appeal] if hit.appeal else [])])
    return Appeals(counts["confirmed"], counts["appealed"], counts["upheld"], counts["pending"])


def _by_clause(hits: Iterable[Hit]) -> dict[str, Appeals]:
    clauses: dict[str, list[Hit]] = defaultdict(list)
    for hit in hits:
        clauses[hit.clause or hit.label].append(hit)
    return {clause: _appeals(clauses[clause]) for clause in sorted(clauses)}
