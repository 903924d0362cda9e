"""Columns with intervals as inline SVG: colours and fonts come from the page's CSS."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

from cs_classifier.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cs_classifier.nightly import Share

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 380, 170, 34, 24  # in CSS pixels, so that a telephone has room


Bar = tuple[str, "Share", str]  # name, what it shows, CSS class


def chart(title: str, description: str, bars: Sequence[Bar], *, every: int = 1) -> str:
    """Counts per thousand with 95 % intervals; every n-th bar is named.

    A share of too few lines is a small cross, one of no lines is left out. The result may stand in
    a page as it is.

    Raises:
        MissingExtraError: markupsafe, which jinja2 brings, is not installed.
    """
    try:
        from markupsafe import Markup
    except ImportError:
        extra = "evaluate"
        raise MissingExtraError(extra, "jinja2") from None

    top = _ceiling(max(_heights([share for _, share, _ in bars if share.enough])))
    step = (_WIDTH - _LEFT - 4) / max(1, len(bars))
    floor = _HEIGHT - _BOTTOM
    parts = []
    for value in (0, top / 2, top):
        y = floor - value / top * (floor - 8)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for i, (name, share, kind) in enumerate(bars):
        x = _LEFT + 2 + (i + 0.5) * step
        parts.append(_column(x, min(26.0, step * 0.62), share, (floor - 8) / top, kind))
        if i % every == 0:
            parts += _tick(x, name, step * every)
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>{html.escape(title)}</title>'
        f"<desc>{html.escape(description)}</desc>{''.join(parts)}</svg>"
    )


def _heights(shares: Sequence[Share]) -> list[float]:
    """What must fit: every rate, and all but the longest fifth of the intervals, which are cut."""
    highs = sorted(1000 * share.interval[1] for share in shares)
    rates = [1100 * share.count / share.total for share in shares]
    return [1e-9, *rates, *highs[: math.ceil(0.8 * len(highs))]]


def _column(x: float, width: float, share: Share, scale: float, kind: str) -> str:
    floor = _HEIGHT - _BOTTOM
    if not share.enough:
        cross = f"M{x - 2:.1f} {floor - 6}l4 4m0 -4l-4 4"
        return f'<path class="few" d="{cross}"/>' if share.total else ""
    low, high = (max(2.0, floor - 1000 * bound * scale) for bound in share.interval)
    height = 1000 * share.count / share.total * scale
    return (
        f'<rect class="bar {kind}" x="{x - width / 2:.1f}" y="{floor - height:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}"/>'
        f'<path class="whisker" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
    )


def _tick(x: float, name: str, room: float) -> list[str]:
    """The name under a column, in two lines where it needs them."""
    parts = [name] if len(name) * 6 <= room else name.split(maxsplit=1)
    return [
        f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 11 + 11 * i}" text-anchor="middle">'
        f"{html.escape(part)}</text>"
        for i, part in enumerate(parts)
    ]


def _ceiling(value: float) -> float:
    """The next round number that has a round half.

    >>> _ceiling(23.4), _ceiling(0.31)
    (30.0, 0.4)
    """
    power = 10.0 ** math.floor(math.log10(max(value, 1e-9)))
    return next(round(m * power, 12) for m in (1, 2, 3, 4, 6, 8, 10) if m * power >= value)
