"""Windows of the day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

from cs_classifier.moments import DAY

if TYPE_CHECKING:
    from collections.abc import Sequence


def _minutes(text: str) -> int:
    hour, colon, minute = text.strip().partition(":")
    if not (colon and hour.isdecimal() and minute.isdecimal()):
        msg = f"'{text}' is not a time such as 08:00"
        raise ValueError(msg)
    total = int(hour) * 60 + int(minute)
    if int(minute) >= 60 or total > 24 * 60:  # noqa: PLR2004
        msg = f"'{text}' is not a time of day"
        raise ValueError(msg)
    return total


def _window(value: object) -> object:
    """``22:00-08:00`` as (start, end) in minutes."""
    if not isinstance(value, str):
        return value
    start, dash, end = value.replace("–", "-").partition("-")
    if not dash:
        msg = f"'{value}' is not a window such as 08:00-24:00"
        raise ValueError(msg)
    return _minutes(start), _minutes(end)


# Minutes of the day; the start belongs to it, the end does not. It may reach over midnight.
Window = Annotated[tuple[int, int], BeforeValidator(_window)]


def within(moment: float, window: Sequence[int]) -> bool:
    """Whether a local time lies in a window.

    >>> within(23 * 3600, (22 * 60, 8 * 60)), within(8 * 3600, (22 * 60, 8 * 60))
    (True, False)
    """
    start, end = window
    at = (moment % DAY) / 60
    return start <= at < end if start < end else at >= start or at < end


def spelled(window: Sequence[int]) -> str:
    """The window as people write it.

    >>> spelled((1320, 480))
    '22:00–08:00'
    """
    return "–".join(f"{minutes // 60:02d}:{minutes % 60:02d}" for minutes in window)
