"""Comparing members (agents, shops, ...) with their team: rates, ranks, case mix, model errors."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cs_classifier.performance import shrinkage
from cs_classifier.performance.shrinkage import Posterior, Rate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from cs_classifier.performance.penalties import ScoreRules

    Array = npt.NDArray[np.float64]

Member = tuple[str, str]  # name and, for an agent, the shop: nicknames repeat between shops
Cell = tuple[str, str]  # platform and shift
Triple = tuple[float, float, float]  # value, low, high

_DRAWS = 2000
_Z = 1.959964
_EDGE = 1e-3  # a measured bound of 0 or 1 is taken as this far from it


@dataclass(frozen=True, slots=True)
class Measured:
    """Precision and recall of the decision "violation" as measured on reviewed lines.

    Each is (value, low, high), or ``None`` where it could not be measured.
    """

    label: str
    precision: Triple | None
    recall: Triple | None


@dataclass(frozen=True, slots=True)
class Volume:
    """What was counted for one member; a hit is a line with a suspected violation."""

    team: str
    turns: int
    hits: int
    labels: Mapping[str, int]  # lines suspected of each label
    cells: Mapping[Cell, tuple[int, int]]  # turns and hits
    conversations: tuple[tuple[int, int], ...]  # turns and hits of each


@dataclass(frozen=True, slots=True)
class Figures:
    """What follows for one member. Rates are shares of turns."""

    raw: Rate
    shrunken: Rate  # drawn towards the team
    corrected: Rate | None  # label violations after the model's measured errors
    enough: bool  # the minimum of turns is reached
    worse: bool
    rank: tuple[int, int] | None  # 95 % interval within the team; 1 is the highest rate
    ranked: int  # members of the team that are ranked
    case_mix: Rate | None  # observed to expected by platform and shift


@dataclass(frozen=True, slots=True)
class Comparison:
    """All members, the mean rate of each team, and what the figures rest on."""

    figures: dict[Member, Figures]
    teams: dict[str, Rate]
    design_effect: float
    uncorrected: tuple[str, ...]  # labels without measured precision and recall


def compare(
    volumes: Mapping[Member, Volume],
    *,
    rules: ScoreRules,
    measured: Mapping[str, Measured],
    label_ids: Sequence[str],
    rng: np.random.Generator,
) -> Comparison:
    """Compare the members of each team.

    Counts are divided by the design effect of conversations first. "Worse" needs three things: the
    minimum of turns, a place in the set that :func:`shrinkage.stand_out` draws from all members of
    the night, and a rate that the member's case mix does not explain.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    effect = _effect(volumes)
    known = [m for label in label_ids if (m := measured.get(label)) and _complete(m)]
    expected = _expected(volumes)
    figures: dict[Member, Figures] = {}
    tails: dict[Member, float] = {}
    teams: dict[str, Rate] = {}
    for name, members in _teams(volumes).items():
        team = _Team([volumes[member] for member in members], effect, rules)
        teams[name] = team.mean()
        corrected, ranks = team.corrected(known, rng), team.ranks(rng)
        for i, member in enumerate(members):
            figures[member] = Figures(
                raw=team.raw(i),
                shrunken=team.shrunken(i),
                corrected=corrected[i] if known else None,
                enough=bool(team.enough[i]),
                worse=False,
                rank=ranks[i],
                ranked=int(team.enough.sum()),
                case_mix=_case_mix(float(team.hits[i]), expected.get(member), effect),
            )
            if team.enough[i] and len(members) > 1:
                tails[member] = float(team.posterior.not_worse[i])
    called = shrinkage.stand_out(list(tails.values()), rules.false_alarm)
    for member, out in zip(tails, called, strict=True):
        mix = figures[member].case_mix
        figures[member] = replace(figures[member], worse=out and (mix is None or mix.low > 1))
    left = set(label_ids) - {label.label for label in known}
    uncorrected = tuple(label for label in label_ids if label in left)
    return Comparison(figures, teams, effect, uncorrected)


def _complete(measured: Measured) -> bool:
    return bool(measured.precision and measured.recall and measured.recall[0] > 0)


def _teams(volumes: Mapping[Member, Volume]) -> dict[str, list[Member]]:
    teams: dict[str, list[Member]] = defaultdict(list)
    for member, volume in volumes.items():
        teams[volume.team].append(member)
    return teams


def _effect(volumes: Mapping[Member, Volume]) -> float:
    rows = [
        (i, hits, turns)
        for i, volume in enumerate(volumes.values())
        for turns, hits in volume.conversations
    ]
    members, hits, turns = zip(*rows, strict=True)
    return shrinkage.design_effect(members, hits, turns)


class _Team:
    """The members of one team, with counts divided by the design effect where they are modelled."""

    def __init__(self, volumes: Sequence[Volume], effect: float, rules: ScoreRules) -> None:
        self.volumes, self.effect = volumes, effect
        self.turns = np.array([volume.turns for volume in volumes], dtype=np.float64)
        self.hits = np.array([volume.hits for volume in volumes], dtype=np.float64)
        self.enough = self.turns >= rules.minimum.turns
        self.posterior = self._fit(self.hits, rules.margin)

    def _fit(self, hits: Array, margin: float = 1.0) -> Posterior:
        return shrinkage.fit(hits / self.effect, self.turns / self.effect, margin=margin)

    def mean(self) -> Rate:
        value, low, high = self.posterior.team
        return Rate(value, low, high, float(self.hits.sum()), float(self.turns.sum()))

    def raw(self, i: int) -> Rate:
        hits, turns = float(self.hits[i]), float(self.turns[i])
        rate = shrinkage.jeffreys(hits / self.effect, turns / self.effect)
        return replace(rate, count=hits, of=turns)

    def shrunken(self, i: int) -> Rate:
        p = self.posterior
        value, low, high = float(p.mean[i]), float(p.low[i]), float(p.high[i])
        return Rate(value, low, high, float(self.hits[i]), float(self.turns[i]))

    def ranks(self, rng: np.random.Generator) -> list[tuple[int, int] | None]:
        """Intervals of ranks among the members with enough turns; none if there are not two."""
        ranks: list[tuple[int, int] | None] = [None] * len(self.enough)
        places = np.flatnonzero(self.enough)
        if len(places) > 1:
            draws = self.posterior.draws(_DRAWS, rng)[:, places]
            order = np.argsort(np.argsort(-draws, axis=1), axis=1) + 1
            low, high = np.quantile(order, [0.025, 0.975], axis=0)
            for place, first, last in zip(places, low, high, strict=True):
                ranks[place] = int(np.floor(first)), int(np.ceil(last))
        return ranks

    def corrected(self, known: Sequence[Measured], rng: np.random.Generator) -> list[Rate]:
        """Suspected rate times precision over recall, summed over labels (Rogan & Gladen 1978).

        Assumes that the model errs alike for all members. The interval is that of joint draws of
        rates, precisions and recalls.
        """
        value, draws = np.zeros(len(self.turns)), np.zeros((_DRAWS, len(self.turns)))
        for label in known:
            if label.precision and label.recall:
                hits = [volume.labels.get(label.label, 0) for volume in self.volumes]
                posterior = self._fit(np.array(hits, dtype=np.float64))
                value += posterior.mean * label.precision[0] / label.recall[0]
                factor = _share_draws(label.precision, rng) / _share_draws(label.recall, rng)
                draws += posterior.draws(_DRAWS, rng) * factor[:, None]
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        return [
            Rate(float(v), float(a), float(b), float(v * n), float(n))
            for v, a, b, n in zip(value, low, high, self.turns, strict=True)
        ]


def _share_draws(measured: Triple, rng: np.random.Generator) -> Array:
    """Draws of a share whose logit is normal with the measured interval."""
    bounds = np.clip(np.array(measured[1:]), _EDGE, 1 - _EDGE)
    low, high = np.log(bounds / (1 - bounds))
    draws = rng.normal((low + high) / 2, (high - low) / (2 * _Z), _DRAWS)
    return np.asarray(1 / (1 + np.exp(-draws)))


def _expected(volumes: Mapping[Member, Volume]) -> dict[Member, float]:
    """Hits that a member would have with everybody's rate in each cell; empty with one cell."""
    cells: dict[Cell, list[int]] = defaultdict(lambda: [0, 0])
    for volume in volumes.values():
        for cell, (turns, hits) in volume.cells.items():
            cells[cell][0] += turns
            cells[cell][1] += hits
    if len(cells) < 2:  # noqa: PLR2004
        return {}
    return {
        member: sum(turns * cells[cell][1] / cells[cell][0] for cell, (turns, _) in v.cells.items())
        for member, v in volumes.items()
    }


def _case_mix(hits: float, expected: float | None, effect: float) -> Rate | None:
    """Indirect standardisation: observed over expected hits."""
    if not expected:
        return None
    ratio = shrinkage.observed_to_expected(hits / effect, expected / effect)
    return replace(ratio, count=hits, of=expected)
