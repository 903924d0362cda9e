"""Plots as inline SVG: no fonts, no fixed colours, no links, the same bytes for the same numbers.

Names are put in after drawing, so that the layout does not depend on the Chinese fonts of this
machine; colours become CSS variables, so that the page can be light or dark.
"""

from __future__ import annotations

import html
import io
import math
import re
from typing import TYPE_CHECKING, Any

from cs_classifier.errors import MissingExtraError
from cs_classifier.evaluation import (
    MODEL,
    REGEX,
    REVIEW,
    TFIDF,
    Estimate,
    EvaluationReport,
    LabelScores,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

# Stand-ins that matplotlib can draw with, and what they become.
_INK, _GRID = "#010203", "#020304"
_SERIES = {REGEX: "#030405", TFIDF: "#040506", MODEL: "#050607", REVIEW: "#060708"}
_COLOURS = {_INK: "currentColor", _GRID: "var(--line)"} | {
    colour: f"var(--{key.replace('+', '-')})" for key, colour in _SERIES.items()
}
EXTRA = "evaluate"  # brings matplotlib and jinja2
MARKERS = {REGEX: "s", TFIDF: "^", MODEL: "o", REVIEW: "D"}
_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same metrics everywhere
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GRID,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _GRID,
}


def f1_by_system(report: EvaluationReport, rows: Sequence[str]) -> str:
    """F1 with its interval per label and system; ``rows`` are the labels' names, macro last."""
    count, systems = len(rows), report.systems

    def draw(axes: Any) -> None:  # noqa: ANN401
        for k, system in enumerate(systems):
            shift = (k - (len(systems) - 1) / 2) * 0.19
            values = [*(scores.f1 for scores in system.labels), system.macro_f1]
            for row, estimate in enumerate(values):
                _interval(axes, estimate, row + shift, system.system)
        axes.set(xlim=(-0.02, 1.02), ylim=(count - 0.5, -0.5), yticks=range(count))
        axes.set_yticklabels([f"@{i}@" for i in range(count)])
        axes.set_xlabel("F1")
        axes.grid(axis="x", linewidth=0.6)
        axes.set_axisbelow(True)
        for edge in range(1, count):
            axes.axhline(edge - 0.5, color=_GRID, linewidth=0.6)

    return _svg(draw, (4.6, 0.5 + 0.62 * count), rows, salt="f1", left=0.27)


def _interval(axes: Any, estimate: Estimate, y: float, system: str) -> None:  # noqa: ANN401
    if math.isnan(estimate.value):
        return
    colour = _SERIES[system]
    axes.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=1.6)
    axes.plot([estimate.value], [y], MARKERS[system], color=colour, markersize=5)


def reliability(scores: Sequence[tuple[str, LabelScores]], title: str, *, salt: str) -> str:
    """Frequency against mean probability of one label; ``scores`` are (system, scores)."""

    def draw(axes: Any) -> None:  # noqa: ANN401
        axes.plot([0, 1], [0, 1], "--", color=_GRID, linewidth=1)
        for system, row in scores:
            x = [point[0] for point in row.reliability]
            y = [point[1] for point in row.reliability]
            axes.plot(
                x, y, marker=MARKERS[system], color=_SERIES[system], linewidth=1, markersize=5
            )
            place = {"xytext": (0, 6) if system == MODEL else (0, -12), "ha": "center"}
            for probability, frequency, lines in row.reliability:
                axes.annotate(
                    f"{lines}",
                    (probability, frequency),
                    textcoords="offset points",
                    fontsize=7.5,
                    color=_SERIES[system],
                    **place,
                )
        axes.set(xlim=(-0.08, 1.08), ylim=(-0.12, 1.12), aspect="equal")
        axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.grid(linewidth=0.6)
        axes.set_title("@0@", fontsize=11)

    return _svg(draw, (3, 3.1), [title], salt=salt, left=0.12)


def _svg(
    draw: Any,  # noqa: ANN401
    size: tuple[float, float],
    names: Sequence[str],
    *,
    salt: str,
    left: float,
) -> str:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(EXTRA, "matplotlib") from None
    stream = io.StringIO()
    with rc_context({**_STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=size)
        bottom, top = 0.45 / size[1], 1 - 0.3 / size[1]
        draw(figure.add_axes((left, bottom, 0.98 - left, top - bottom)))
        figure.savefig(stream, format="svg", transparent=True, metadata=_METADATA)
    return _inline(stream.getvalue(), names)


def _inline(svg: str, names: Sequence[str]) -> str:
    """Strip what a page does not need, and put in names and colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # would occur twice in a page with two plots
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 var(--font)", svg)
    for colour, variable in _COLOURS.items():
        svg = svg.replace(colour, variable)
    for i, name in enumerate(names):
        svg = svg.replace(f">@{i}@<", f">{html.escape(name)}<")
        svg = re.sub(rf"<!-- @{i}@ -->\s*", "", svg)
    return svg.strip()
