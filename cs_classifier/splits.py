"""Splits that keep a group together: no scenario, template or context pair on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from cs_classifier.records import LabelledMessage


def by_group(
    lines: Sequence[LabelledMessage], share: float, rng: np.random.Generator
) -> tuple[list[LabelledMessage], list[LabelledMessage]]:
    """Part ``lines`` into the rest and about ``share`` of them, whole groups at a time."""
    groups = sorted({line.group for line in lines})
    rng.shuffle(groups)
    size: dict[str, int] = {}
    for line in lines:
        size[line.group] = size.get(line.group, 0) + 1
    held: set[str] = set()
    taken = 0
    for group in groups:
        if taken >= share * len(lines):
            break
        held.add(group)
        taken += size[group]
    rest = [line for line in lines if line.group not in held]
    return rest, [line for line in lines if line.group in held]
