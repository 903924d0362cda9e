"""Times of table cells, as local time: that of the platforms' clocks, +08:00."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

DAY = 86_400.0
_EAST_8 = 8 * 3600.0
_START = datetime(1970, 1, 1)
_DATE = r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})"
_DATED = re.compile(rf"\s*{_DATE}(?!\d)", re.ASCII)
_TIME = re.compile(
    rf"(?:{_DATE}日?[T\s]*)?(\d{{1,2}})[:：](\d{{2}})(?:[:：](\d{{2}}(?:\.\d{{1,9}})?))?"
    r"(?:\s*(Z|[+-]\d{2}(?::?\d{2})?))?",
    re.ASCII,
)
# Other numbers are no time of a transcript.
_EPOCH_SECONDS = (1e8, 1e10)
_EPOCH_MILLISECONDS = (1e12, 1e13)
_DIGITS = (1.9e13, 2.1e13)  # 20261111093000


def seconds(value: object) -> float | None:
    """Seconds from 1970-01-01 00:00, local time; ``None`` if the cell is not understood.

    Understands ISO and Chinese dates with a time, a time of day alone (then less than ``DAY``), 14
    digits, and epoch numbers in seconds or milliseconds. A time with a zone, and an epoch number,
    is converted to +08:00; a time without a zone is local.

    >>> seconds("2026-08-01 10:00:30") - seconds("2026年8月1日 9:59")
    90.0
    >>> seconds("1970-01-02T00:00:00Z"), seconds("yesterday")
    (115200.0, None)
    """
    found = number(value)
    if found is not None:
        return _of_number(found)
    match = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    *parts, zone = match.groups()
    year, month, day, hour, minute, second = (float(part or 0) for part in parts)
    clock = hour * 3600 + minute * 60 + second + _to_local(zone)
    if not year:
        return clock % DAY if zone else clock
    try:
        return (datetime(int(year), int(month), int(day)) - _START).total_seconds() + clock
    except ValueError:
        return None


def _to_local(zone: str | None) -> float:
    """What a time of a zone lacks to local time."""
    if zone is None:
        return 0.0
    digits = zone.strip("Z+-").replace(":", "").ljust(4, "0")
    offset = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return _EAST_8 + (offset if zone.startswith("-") else -offset)


def _of_number(value: float) -> float | None:
    if _EPOCH_MILLISECONDS[0] <= value < _EPOCH_MILLISECONDS[1]:
        return value / 1000 + _EAST_8
    if _EPOCH_SECONDS[0] <= value < _EPOCH_SECONDS[1]:
        return value + _EAST_8
    if not _DIGITS[0] <= value < _DIGITS[1]:
        return None
    try:
        return (datetime.strptime(f"{value:.0f}", "%Y%m%d%H%M%S") - _START).total_seconds()
    except ValueError:
        return None


def number(value: object) -> float | None:
    """The cell as a finite number; ``None`` if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def day(moment: float) -> str:
    """The date of a local time, ISO 8601.

    >>> day(115200.0)
    '1970-01-02'
    """
    return (_START + timedelta(seconds=moment)).date().isoformat()


def date_of(value: object) -> str:
    """The local date of a cell, ISO 8601; empty if it has none, as a time of day alone.

    >>> date_of("2026-11-11T23:30:00Z"), date_of("2026年8月1日"), date_of("09:30")
    ('2026-11-12', '2026-08-01', '')
    """
    moment = seconds(value)
    if moment is not None:
        return "" if moment < DAY else day(moment)
    match = _DATED.match(value) if isinstance(value, str) else None
    return "-".join(part.zfill(2) for part in match.groups()) if match else ""
