"""The nightly draw for review: who is drawn with which probability, and the draw itself.

Every scored line lies in exactly one stratum and has a rate. The rate is at least the uniform one,
which all lines share, and higher in the strata that deserve a look and for agents and shops that
would otherwise go unseen. Of a template repeated more often than its cap only that many lines,
chosen at random, stay in the frame, each standing for its share of the rest (two-phase sampling,
Särndal, Swensson & Wretman 1992, chapter 9). Lines are then drawn by systematic sampling with
unequal probabilities (Madow 1949): the size is exact, every probability is exactly the planned
one, and a block of lines in a row whose probabilities sum to ``s`` gives ``floor(s)`` lines at
least.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import Field, model_validator

from cs_classifier.config import Config
from cs_classifier.errors import DataError
from cs_classifier.reviews import Sampled
from cs_classifier.scored import fingerprint

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt

    from cs_classifier.scored import ScoredFile, ScoredLine

    Array = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

REST = "rest"
KINDS = ("violation", "review", "near", "disagreement", "watch", REST)  # by priority
MIN_DRAWN = 2  # per stratum, so that each has a variance
_BISECTIONS = 40
_STRATUM = re.compile(
    r"(?P<name>\S+?)(?P<uniform>\+random)? (?P<lines>\d+)/(?P<total>\d+)(?:@(?P<draw>[0-9a-f]{8}))?"
)


class Shares(Config):
    """Shares of the budget; see ``configs/sampling.yaml``."""

    random: float = Field(default=0.35, ge=0.3, le=1)
    violation: float = Field(default=0.25, ge=0, le=1)
    review: float = Field(default=0.15, ge=0, le=1)
    near: float = Field(default=0.05, ge=0, le=1)
    disagreement: float = Field(default=0.05, ge=0, le=1)
    watch: float = Field(default=0.05, ge=0, le=1)
    floors: float = Field(default=0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if sum(self.model_dump().values()) > 1 + 1e-9:
            msg = "the shares add up to more than 1"
            raise ValueError(msg)
        return self


class SamplingConfig(Config):
    """How a night's checks are spent; see ``configs/sampling.yaml``."""

    shares: Shares = Shares()
    near_margin: float = Field(default=0.7, ge=0)
    agent_floor: float = Field(default=1, ge=0)
    shop_floor: float = Field(default=2, ge=0)
    template_cap: int = Field(default=2, ge=1)
    blind: float = Field(default=0.2, ge=0, le=1)


@dataclass(frozen=True, slots=True)
class Stratum:
    """What ``Sampled.stratum`` says, so that a returned workbook needs no other file.

    ``lines`` are those of the stratum and ``total`` those of the night. ``uniform`` marks lines
    that belong to the random part, which is drawn from all lines alike. ``draw`` tells apart nights
    that are pooled; older files lack it.

    >>> str(Stratum("near", 40, 900, uniform=True, draw="0a1b2c3d"))
    'near+random 40/900@0a1b2c3d'
    >>> Stratum.parse("near+random 40/900").lines
    40
    """

    name: str
    lines: int
    total: int
    uniform: bool = False
    draw: str = ""

    def __str__(self) -> str:
        """Text that :meth:`parse` reads."""
        uniform, draw = "+random" * self.uniform, f"@{self.draw}" * bool(self.draw)
        return f"{self.name}{uniform} {self.lines}/{self.total}{draw}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read back; a text of another form is a name with unknown counts (0)."""
        if found := _STRATUM.fullmatch(text):
            counts = int(found["lines"]), int(found["total"])
            return cls(found["name"], *counts, bool(found["uniform"]), found["draw"] or "")
        return cls(text, 0, 0, uniform=text == "random")


@dataclass(frozen=True, slots=True)
class Frame:
    """Lines as numbers, all of shape ``(n,)``; ``names`` are the strata, in order, the rest last.

    An agent or shop of -1 has no floor.
    """

    names: tuple[str, ...]
    stratum: Ints
    template: Ints
    agent: Ints
    shop: Ints


@dataclass(frozen=True, slots=True)
class Units:
    """Drawn lines: rows of the frame, ascending, their inclusion probabilities, the random part."""

    rows: Ints
    probabilities: Array
    uniform: Flags


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one stratum gave."""

    stratum: str
    lines: int
    drawn: int
    uniform: int
    probabilities: tuple[float, float]  # lowest and highest


@dataclass(frozen=True, slots=True)
class Sample:
    """A draw, what each stratum gave, and how many lines it was made from.

    ``absent`` are watched agents without a line. ``floor_factor`` is 1 where the floors of agents
    and shops were met in full.
    """

    sampled: tuple[Sampled, ...]
    strata: tuple[Drawn, ...]
    lines: int
    unscored: int
    absent: tuple[str, ...]
    floor_factor: float


def draw(
    scored: ScoredFile,
    budget: int,
    *,
    config: SamplingConfig,
    rng: np.random.Generator,
    watch: Collection[str] = (),
) -> Sample:
    """Draw ``budget`` lines (all, if there are fewer), in the order of the file.

    Lines that could not be scored are not drawn. ``watch`` names agents.

    Raises:
        DataError: no line was scored, or the budget is too small for the strata.
    """
    lines = [line for line in scored.lines if line.probabilities]
    frame = frame_of(lines, scored.label_ids, near_margin=config.near_margin, watch=watch)
    units, floor_factor = draw_units(frame, budget, config=config, rng=rng)
    sizes = np.bincount(frame.stratum, minlength=len(frame.names))
    night = fingerprint(lines)[:8]
    lottery = rng.random(len(units.rows)) < config.blind
    sampled = []
    columns = (units.rows, units.probabilities, units.uniform, lottery)
    for row, probability, uniform, chosen in zip(*(c.tolist() for c in columns), strict=True):
        line, code = lines[row], frame.stratum[row]
        name = frame.names[code]
        blind = uniform or chosen or name in {REST, "watch"}
        stratum = Stratum(name, int(sizes[code]), len(lines), uniform=uniform, draw=night)
        shown = () if blind else line.suspected
        sampled.append(Sampled(line, str(stratum), probability, shown, blind=blind))
    return Sample(
        tuple(sampled),
        tuple(_table(frame, sizes, units)),
        lines=len(lines),
        unscored=len(scored.lines) - len(lines),
        absent=tuple(sorted(set(watch) - {line.agent_id for line in lines})),
        floor_factor=floor_factor,
    )


def _table(frame: Frame, sizes: Ints, units: Units) -> list[Drawn]:
    rows, stratum = [], frame.stratum[units.rows]
    for code in np.unique(stratum).tolist():
        p, uniform = units.probabilities[stratum == code], units.uniform[stratum == code]
        bounds = (float(p.min()), float(p.max()))
        rows.append(Drawn(frame.names[code], int(sizes[code]), len(p), int(uniform.sum()), bounds))
    return rows


def frame_of(
    lines: Sequence[ScoredLine],
    label_ids: Sequence[str],
    *,
    near_margin: float,
    watch: Collection[str] = (),
) -> Frame:
    """Put each line into its stratum: the first of violation, review, near, … that it fits."""
    if not lines:
        msg = "no line was scored; there is nothing to draw from"
        raise DataError(msg)
    names = (
        *(f"{kind}:{label}" for kind in KINDS[:2] for label in label_ids),
        *KINDS[2:],
    )
    code = {name: i for i, name in enumerate(names)}
    close = _near(lines, label_ids, near_margin)
    index = {label: j for j, label in enumerate(label_ids)}

    def stratum(line: ScoredLine, near: bool) -> str:
        for kind, labels in (("violation", line.labels), ("review", line.review)):
            if labels:
                return f"{kind}:{max(labels, key=lambda x: line.probabilities[index[x]])}"
        if near:
            return "near"
        if line.rules:
            return "disagreement"
        return "watch" if line.agent_id in watch else REST

    return Frame(
        names,
        stratum=np.array([code[stratum(x, near)] for x, near in zip(lines, close, strict=True)]),
        template=_codes([template(line.text) for line in lines]),
        agent=_codes([(line.shop, line.agent_id) if line.agent_id else None for line in lines]),
        shop=_codes([line.shop or None for line in lines]),
    )


def _near(lines: Sequence[ScoredLine], label_ids: Sequence[str], margin: float) -> Flags:
    """Lines within ``margin`` logits of the lowest probability decided violation or review."""
    p = np.array([line.probabilities for line in lines])
    near = np.zeros(len(lines), dtype=bool)
    for j, label in enumerate(label_ids):
        decided = np.array([label in line.suspected for line in lines])
        if decided.any() and 0 < (lowest := p[decided, j].min()) < 1:
            odds = lowest / (1 - lowest) * np.exp(-margin)
            near |= p[:, j] >= odds / (1 + odds)
    return near


def template(text: str) -> str:
    """Equal for lines that differ only in digits, spaces, punctuation, emoji and case.

    >>> template("单号 SF123,已发出哦~") == template("单号SF980，已发出哦")
    True
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"\d+", "0", re.sub(r"[\W_]", "", folded)) or text


def _codes(values: Sequence[object]) -> Ints:
    numbers: dict[object, int] = {}
    return np.array([-1 if v is None else numbers.setdefault(v, len(numbers)) for v in values])


def draw_units(
    frame: Frame, budget: int, *, config: SamplingConfig, rng: np.random.Generator
) -> tuple[Units, float]:
    """Draw exactly ``budget`` lines of the frame, or all that the template cap leaves, if fewer.

    Returns the lines, and the factor by which floors had to be lowered (1 if not).

    Raises:
        DataError: the budget is too small for the strata.
    """
    kept, size = _representatives(frame, config.template_cap, rng)
    rates, factor = _rates(frame, kept, size, budget, config)
    uniform_rate = _uniform_rate(rates, size, min(budget, len(kept)))
    p = np.minimum(1.0, size * np.maximum(rates, uniform_rate))
    order = np.argsort(_blocks(frame)[kept] + rng.random(len(kept)))
    drawn = np.sort(order[_systematic(p[order], rng)])
    p, size, kept = p[drawn], size[drawn], kept[drawn]
    uniform = rng.random(len(p)) * p < np.minimum(1.0, size * uniform_rate)
    by_row = np.argsort(kept)
    return Units(kept[by_row], (p / size)[by_row], uniform[by_row]), factor


def _blocks(frame: Frame) -> Ints:
    """Numbers that order lines by stratum, then shop, then agent."""
    blocks = frame.stratum
    for part in (frame.shop, frame.agent):
        blocks = blocks * (part.max() + 2) + part + 1
    return blocks


def _representatives(frame: Frame, cap: int, rng: np.random.Generator) -> tuple[Ints, Array]:
    """At most ``cap`` random lines per stratum and template, and how many lines each stands for."""
    group = frame.stratum * (frame.template.max() + 1) + frame.template
    order = np.argsort(group + rng.random(len(group)))  # at random within a group
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    counts = np.diff(first, append=len(order))
    rank = np.arange(len(order)) - np.repeat(first, counts)
    size = np.repeat(np.maximum(1.0, counts / cap), counts)
    return order[rank < cap], size[rank < cap]


def _rates(
    frame: Frame, kept: Ints, size: Array, budget: int, config: SamplingConfig
) -> tuple[Array, float]:
    """Rates that strata and floors ask for, and the factor by which the floors were lowered."""
    stratum = frame.stratum[kept]
    rates = np.zeros(len(kept))
    counts = np.bincount(stratum, minlength=len(frame.names))
    for code, quota in enumerate(_quotas(frame.names, counts, budget, config.shares)):
        here = np.flatnonzero(stratum == code)
        rates[here] = _level(size[here], quota)
    rest = np.flatnonzero(stratum == frame.names.index(REST))
    floors = [
        (members, floor)
        for blocks, floor in ((frame.agent, config.agent_floor), (frame.shop, config.shop_floor))
        for members in _members(blocks[kept], rest)
    ]

    def raised(factor: float) -> Array:
        wanted = np.zeros(len(kept))
        for members, floor in floors:
            level = _level(size[members], factor * min(floor, len(members)))
            wanted[members] = np.maximum(wanted[members], level)
        return wanted

    full = raised(1.0)
    cost = float(np.minimum(1.0, size * full).sum())
    factor = min(1.0, config.shares.floors * budget / cost) if cost else 1.0
    return np.maximum(rates, full if factor == 1 else raised(factor)), factor


def _members(blocks: Ints, rows: Ints) -> list[Ints]:
    """The ``rows`` of each block, without those of block -1."""
    order = rows[np.argsort(blocks[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(blocks[order])) + 1
    return [part for part in np.split(order, starts) if len(part) and blocks[part[0]] >= 0]


def _quotas(names: tuple[str, ...], counts: Ints, budget: int, shares: Shares) -> Array:
    """Checks that each stratum is to get at least; ``counts`` are what it can use."""
    kinds = np.array([name.partition(":")[0] for name in names])
    quotas = np.zeros(len(names))
    spare = 0.0
    for kind, share in shares.model_dump().items():
        quotas[kinds == kind] = _evenly(share * budget, counts[kinds == kind])
        if kind not in {"random", "floors"}:
            spare += share * budget - quotas[kinds == kind].sum()
    first = kinds == "violation"
    quotas[first] = _evenly(quotas[first].sum() + spare, counts[first])
    return np.maximum(quotas, np.minimum(counts, MIN_DRAWN))


def _evenly(total: float, limits: Ints) -> Array:
    """``total`` in equal parts, each no more than its limit."""
    parts = np.zeros(len(limits))
    for done, i in enumerate(np.argsort(limits)):
        parts[i] = min(limits[i], (total - parts.sum()) / (len(limits) - done))
    return parts


def _level(size: Array, total: float) -> float:
    """The rate ``r`` at which ``sum(min(1, r * size))`` is ``total``; sizes are at least 1."""
    if total >= len(size):
        return 1.0
    if (rate := total / float(size.sum())) * size.max() <= 1:
        return rate
    largest = np.sort(size)[::-1]
    below = np.cumsum(largest[::-1])[::-1]  # of this size and all smaller ones
    rates = (total - np.arange(len(size))) / below
    return max(0.0, float(rates[np.argmax(rates * largest <= 1)]))  # the first that holds


def _uniform_rate(rates: Array, size: Array, budget: int) -> float:
    """The rate of the random part that uses the budget up, by bisection."""

    def used(rate: float) -> float:
        return float(np.minimum(1.0, size * np.maximum(rates, rate)).sum())

    if used(0.0) > budget:
        msg = f"{budget} lines are too few for this night; draw at least {np.ceil(used(0.0)):.0f}"
        raise DataError(msg)
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if used(middle) >= budget else (middle, high)
    return high


def _systematic(p: Array, rng: np.random.Generator) -> Ints:
    """Rows drawn with probabilities ``p``, whose sum is a whole number, in order."""
    ends = np.cumsum(p)
    count = round(float(ends[-1]))
    points = rng.random() + np.arange(count)
    return np.searchsorted(ends * (count / ends[-1]), points, side="right")
