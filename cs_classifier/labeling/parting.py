"""A store's lines as training, calibration and test lines that know nothing of each other.

Whole shops go to one part, or whole conversations. Where a shop goes follows from its name alone,
so that a line stays where it is while the store grows, and a frozen test set stays frozen. A
template that several parts share (a quick reply of two shops) is kept in the strictest of them, and
so are lines of nearly the same words, which the gate would refuse.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cs_classifier.corpus import near_duplicates
from cs_classifier.errors import DataError
from cs_classifier.sampling import template

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cs_classifier.labeling.store import History
    from cs_classifier.records import LabelledMessage

By = Literal["shop", "group"]
PARTS = ("test", "calibration", "train")  # the strictest first


@dataclass(frozen=True, slots=True)
class Parting:
    """The gold lines of each part, in the order of the store.

    ``doubled`` lines were left out since a stricter part holds their group or template or nearly
    the same words, and ``borderline`` ones since nobody knows what holds.
    """

    parts: dict[str, list[LabelledMessage]]
    doubled: int
    borderline: int


def part(
    histories: Iterable[History], *, calibration: float = 0.2, test: float = 0.2, by: By = "shop"
) -> Parting:
    """Part the lines of a store.

    Args:
        histories: what is known of each line.
        calibration: share of the shops or groups whose lines calibrate; about.
        test: share of those whose lines are kept to compare models.
        by: what is never parted. Lines whose shop is unknown go by their group: conversation or,
            without one, template.

    Raises:
        DataError: a part that should have lines got none.
        MissingExtraError: scikit-learn is not installed.
    """
    everything = list(histories)
    known = [history for history in everything if history.line.status == "gold"]
    homes = [_home(_draw(_unit(h, by)), calibration=calibration, test=test) for h in known]
    parts: dict[str, list[LabelledMessage]] = {}
    taken: set[str] = set()
    for name in PARTS:
        mine = [h.line for h, home in zip(known, homes, strict=True) if home == name]
        new = [line for line in mine if not taken & _ties(line)]
        stricter = [line for lines in parts.values() for line in lines]
        near = {line.id for line, _, _ in near_duplicates(new, stricter)}
        parts[name] = [line for line in new if line.id not in near]
        taken.update(*map(_ties, mine))
    wanted = {"test": test > 0, "calibration": calibration > 0, "train": test + calibration < 1}
    for name in PARTS:
        if wanted[name] and not parts[name]:
            units = len({_unit(h, by) for h in known})
            msg = f"{units} different {by}s leave no line for {name}"
            raise DataError(f"{msg}; part by group, or label more" if by == "shop" else msg)
    kept = sum(map(len, parts.values()))
    return Parting(parts, len(known) - kept, len(everything) - len(known))


def _unit(history: History, by: By) -> str:
    return f"shop {history.shop}" if by == "shop" and history.shop else history.line.group


def _draw(unit: str) -> float:
    """A number in [0, 1) that is drawn at random, and always the same for this unit."""
    digest = hashlib.sha256(unit.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _home(drawn: float, *, calibration: float, test: float) -> str:
    if drawn < test:
        return "test"
    return "calibration" if drawn < test + calibration else "train"


def _ties(line: LabelledMessage) -> set[str]:
    return {f"group {line.group}", f"template {template(line.message.text)}"}
