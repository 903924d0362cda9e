"""How well the intervals of ``estimate`` cover, on nights whose truth is known.

A night has 100,000 lines: four fifths unique, the rest templates whose copies run from two to
thousands, agents of very different volume. Truth and decisions are redrawn every night, alike for
all copies of a text; texts with more than 50 copies are approved quick replies. The night is drawn
with ``sampling.draw_units`` under the default plan, "reviewed", and estimated with
``estimation.measure``. Printed per prevalence, system and budget: the share of nights whose 95 %
interval holds the truth, and the relative bias with its Monte-Carlo standard error.

    python scripts/simulate_estimates.py --nights 200
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from cs_classifier import estimation, sampling
from cs_classifier.estimation import CLEAR, REVIEW, VIOLATION

LINES = 100_000
STRATA = ("violation:a", "review:a", "near", "disagreement", "watch", "rest")
IN_VIOLATION, IN_REVIEW, NEAR, DISAGREEMENT, _, REST = range(len(STRATA))
PREVALENCES = (0.001, 0.003, 0.01, 0.05)
BUDGETS = (300, 1000)
REPEATED = 0.2  # of the lines are templates
QUICK_REPLY = 50  # copies
MEASURES = tuple(estimation.Measures.model_fields)


@dataclass(frozen=True)
class System:
    """What the system does with violating and with clean lines."""

    name: str
    violation: float  # share of the violating lines decided violation
    review: float
    near: float
    precision: float  # of the violation decision
    to_review: float = 0.005  # share of the clean lines


Night = tuple[sampling.Frame, np.ndarray, np.ndarray]  # frame, truth, decision per line
Results = Iterator[tuple[int, str, estimation.Estimate, float]]
SYSTEMS = (System("strong", 0.7, 0.2, 0.05, 0.95), System("weak", 0.4, 0.3, 0.1, 0.7))


@dataclass(frozen=True)
class Texts:
    """What stays from night to night: the text and agent of each line, the copies of each text."""

    text: np.ndarray
    agent: np.ndarray
    copies: np.ndarray


def texts(rng: np.random.Generator, lines: int = LINES) -> Texts:
    """Who writes what."""
    repeated = rng.random(lines) < REPEATED
    text = np.where(repeated, (rng.zipf(1.4, lines) - 1) % (lines // 5), lines + np.arange(lines))
    _, text, copies = np.unique(text, return_inverse=True, return_counts=True)
    agent = np.minimum((rng.pareto(1.2, lines) * 20).astype(int), 149)
    return Texts(text, agent, copies)


def night(who: Texts, system: System, prevalence: float, rng: np.random.Generator) -> Night:
    """The frame of one night, its truth, and what was decided."""
    free = who.copies <= QUICK_REPLY
    chance, truth = rng.random((2, len(free)))
    truth = (truth < prevalence) & free
    false = prevalence * system.violation * (1 - system.precision) / system.precision
    right = np.cumsum([system.violation, system.review, system.near, 0])
    wrong = np.cumsum([false, *[system.to_review] * 3])
    place = np.where(
        truth, np.searchsorted(right, chance), np.where(free, np.searchsorted(wrong, chance), 4)
    )
    stratum = np.array([IN_VIOLATION, IN_REVIEW, NEAR, DISAGREEMENT, REST])[place]
    level = np.select([stratum == IN_VIOLATION, stratum == IN_REVIEW], [VIOLATION, REVIEW], CLEAR)
    agent, shop = who.agent, who.agent // 10
    frame = sampling.Frame(STRATA, stratum[who.text], who.text, agent, shop)
    return frame, truth[who.text], level[who.text]


def true_values(truth: np.ndarray, level: np.ndarray) -> dict[str, float]:
    """What ``measure`` should find."""
    flagged, doubtful = level == VIOLATION, level == REVIEW
    return {
        "prevalence": truth.mean(),
        "precision_violation": truth[flagged].mean() if flagged.any() else np.nan,
        "precision_review": truth[doubtful].mean() if doubtful.any() else np.nan,
        "recall_violation": flagged[truth].mean() if truth.any() else np.nan,
        "recall_review": (flagged | doubtful)[truth].mean() if truth.any() else np.nan,
    }


def reviewed(known: Night, budget: int, rng: np.random.Generator) -> estimation.Measures:
    """Draw, look up the truth of the drawn lines, estimate."""
    frame, truth, level = known
    units, _ = sampling.draw_units(frame, budget, config=sampling.SamplingConfig(), rng=rng)
    stratum, weight = frame.stratum[units.rows], 1 / units.probabilities
    lines, seen = np.bincount(frame.stratum, minlength=6), np.bincount(stratum, weight, minlength=6)
    weight *= (lines / np.maximum(seen, 1e-9))[stratum]
    answers = estimation.Answers(stratum, weight, truth[units.rows], level[units.rows])
    return estimation.measure(answers)


def simulate(who: Texts, system: System, prevalence: float, *, nights: int, seed: int) -> Results:
    """Yield (budget, measure, estimate, truth) where there is something to estimate."""
    for number in range(nights):
        rng = np.random.default_rng([seed, number])
        known = night(who, system, prevalence, rng)
        wanted = true_values(*known[1:])
        for budget in BUDGETS:
            found = reviewed(known, budget, rng)
            for name in MEASURES:
                one = getattr(found, name)
                if one is not None and not np.isnan(wanted[name]):
                    yield budget, name, one, wanted[name]


def covers(one: estimation.Estimate, truth: float) -> bool:
    """Whether the interval holds the truth (a fully reviewed part has an interval of width 0)."""
    return one.low - 1e-9 <= truth <= one.high + 1e-9


def summary(found: list[tuple[estimation.Estimate, float]]) -> str:
    """Coverage, relative bias and its standard error."""
    errors, scale = [one.value - truth for one, truth in found], np.mean([t for _, t in found])
    covered = np.mean([covers(one, truth) for one, truth in found])
    bias, error = np.mean(errors) / scale, np.std(errors) / len(errors) ** 0.5 / scale
    return f"{covered:6.1%} {f'{bias:+.1%}±{error:.1%}':>12}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    who = texts(np.random.default_rng(options.seed))
    print("prevalence system budget  " + "  ".join(f"{name:>19}" for name in MEASURES))
    everything = defaultdict(list)
    for prevalence, system in product(PREVALENCES, SYSTEMS):
        found = defaultdict(list)
        for budget, name, one, truth in simulate(
            who, system, prevalence, nights=options.nights, seed=options.seed
        ):
            found[budget, name].append((one, truth))
            everything[name].append((one, truth))
        for budget in BUDGETS:
            cells = "  ".join(summary(found[budget, name]) for name in MEASURES)
            print(f"{prevalence:10.1%} {system.name:6} {budget:6}  {cells}", flush=True)
    cells = "  ".join(summary(everything[name]) for name in MEASURES)
    print(f"{'all':>24}  {cells}")


if __name__ == "__main__":
    main()
