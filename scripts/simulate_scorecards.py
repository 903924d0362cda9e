"""Do the scorecard's statistics keep their promises? Known truth, many nights.

    python scripts/simulate_scorecards.py --nights 300

Two promises: drawing the rates of a team's agents towards the team lowers the mean squared error
against the raw rates in every scenario, and at most 5 % of the nights call an agent "worse than the
team" who is not: whose true rate is at most the mean of the team's true rates.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from cs_classifier.metrics import wilson
from cs_classifier.performance import shrinkage

LEVEL, MARGIN = 0.05, 1.2  # as in configs/scorecard.yaml


@dataclass(frozen=True)
class Scenario:
    """A night: agents of each team, mean rate, spread between agents, volumes, conversations."""

    name: str
    teams: tuple[int, ...]
    rate: float
    spread: float = 0.0  # coefficient of variation of the agents' true rates (gamma)
    bad: tuple[float, float] = (0.0, 1.0)  # share of agents with this multiple of the rate
    turns: float = 400  # mean of an agent
    skew: float = 0.3  # sd of log turns
    burst: float = 0.0  # spread of the rate between conversations of ten turns
    minimum: int = 200


SCENARIOS = (
    Scenario("no differences", (20, 20), 0.01),
    Scenario("no differences, 0.1 %", (20, 20), 0.001),
    Scenario("no differences, clustered", (20, 20), 0.01, burst=2.0),
    Scenario("no differences, teams of 4", (4,) * 10, 0.01),
    Scenario("no differences, one team of 200", (200,), 0.002),
    Scenario("small differences", (20, 20), 0.01, spread=0.3),
    Scenario("large differences", (20, 20), 0.01, spread=1.0),
    Scenario("large differences, 0.1 %", (20, 20), 0.001, spread=1.0),
    Scenario("large differences, teams of 4", (4,) * 10, 0.01, spread=1.0),
    Scenario("large differences, clustered", (20, 20), 0.01, spread=1.0, burst=2.0),
    Scenario("one in ten is five times worse", (20, 20), 0.005, bad=(0.1, 5.0), turns=1000),
    Scenario("skewed volumes", (20, 20), 0.01, spread=0.5, skew=1.5),
    Scenario("skewed volumes, 0.1 %, clustered", (20, 20), 0.001, spread=0.5, skew=1.5, burst=2.0),
)


@dataclass(frozen=True)
class Night:
    """What one simulated night gave."""

    raw: float  # sum of squared errors of the raw rates
    shrunken: float
    agents: int
    covered: int  # agents whose interval holds the true rate
    false: int  # agents called worse who are not
    found: int  # agents called worse who are
    worse: int  # agents at least twice as bad as the team
    naive: int  # agents not worse whose own Wilson interval lies above the team's rate


def night(scenario: Scenario, rng: np.random.Generator) -> Night:
    """Simulate a night; rates per team and calls over the whole night, as the scorecard does."""
    fits, tails, not_worse, bad, sums = [], [], [], [], np.zeros(4)
    data = [_team(scenario, size, rng) for size in scenario.teams]
    effect = shrinkage.design_effect(
        np.concatenate([team * 1000 + d[0] for team, d in enumerate(data)]),
        np.concatenate([d[1] for d in data]),
        np.concatenate([d[2] for d in data]),
    )
    naive = 0
    for member, hits, turns, truth in data:
        k, n = np.bincount(member, hits), np.bincount(member, turns)
        fits.append(found := shrinkage.fit(k / effect, n / effect, margin=MARGIN))
        enough = n >= scenario.minimum
        tails += list(found.not_worse[enough])
        not_worse += list(truth[enough] <= truth.mean())
        bad += list(truth[enough] >= 2 * truth.mean())
        fine = enough & (truth <= truth.mean())
        pooled = k.sum() / n.sum()
        naive += sum(wilson(int(k[i]), int(n[i]))[0] > pooled for i in np.flatnonzero(fine))
        covered = (found.low <= truth) & (truth <= found.high)
        errors = np.sum((k / n - truth) ** 2), np.sum((found.mean - truth) ** 2)
        sums += (*errors, len(n), covered.sum())
    called = np.array(shrinkage.stand_out(tails, LEVEL), dtype=bool)
    clean, twice = np.array(not_worse, dtype=bool), np.array(bad, dtype=bool)
    return Night(
        sums[0], sums[1], int(sums[2]), int(sums[3]),
        int((called & clean).sum()), int((called & twice).sum()), int(twice.sum()), naive,
    )  # fmt: skip


def _team(scenario: Scenario, size: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Member, hits and turns of each conversation, and the true rate of each member."""
    truth = np.full(size, scenario.rate)
    if scenario.spread:
        shape = scenario.spread**-2
        truth = scenario.rate * rng.gamma(shape, 1 / shape, size)
    truth = truth * np.where(rng.random(size) < scenario.bad[0], scenario.bad[1], 1.0)
    volume = scenario.turns * np.exp(rng.normal(-(scenario.skew**2) / 2, scenario.skew, size))
    conversations = np.maximum(1, np.round(volume / 10)).astype(int)
    member = np.repeat(np.arange(size), conversations)
    turns = 1 + rng.poisson(9, len(member))
    rate = truth[member]
    if scenario.burst:
        shape = scenario.burst**-2
        rate = rate * rng.gamma(shape, 1 / shape, len(member))
    return member, rng.binomial(turns, np.minimum(rate, 1)), turns, truth


def simulate(scenario: Scenario, nights: int, seed: int) -> list[Night]:
    """Independent nights of one scenario."""
    rng = np.random.default_rng(seed)
    return [night(scenario, rng) for _ in range(nights)]


def main() -> None:
    """Print one line per scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{options.nights} nights each, seed {options.seed}")
    print(
        f"{'scenario':36} {'MSE ratio':>9} {'coverage':>9} {'false-alarm nights':>19} "
        f"{'same, own Wilson':>17} {'found of twice as bad':>22}"
    )
    for scenario in SCENARIOS:
        rows = simulate(scenario, options.nights, options.seed)
        ratio = sum(r.shrunken for r in rows) / sum(r.raw for r in rows)
        coverage = sum(r.covered for r in rows) / sum(r.agents for r in rows)
        alarms = sum(r.false > 0 for r in rows)
        low, high = wilson(alarms, len(rows))
        naive = sum(r.naive > 0 for r in rows) / len(rows)
        worse = sum(r.worse for r in rows)
        power = f"{sum(r.found for r in rows) / worse:.2f} of {worse}" if worse else "–"
        print(
            f"{scenario.name:36} {ratio:9.3f} {coverage:9.3f} "
            f"{alarms / len(rows):6.3f} [{low:.3f}, {high:.3f}] {naive:17.3f} {power:>22}"
        )


if __name__ == "__main__":
    main()
