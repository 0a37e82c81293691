"""How the report draws: matplotlib to SVG that sits within the page and takes its colours and its font.

What always holds: equal data give equal bytes (salted identifiers, no dates, no version); no text from a scenario
enters a plot; each plot's identifiers begin with its own name, so that many share a page; colours are the page's CSS
variables, so that a dark page has light lines, and lines differ in dashes too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mediadht_sim.happenings import Happening
from mediadht_sim.wording import count, said

__all__ = ["DASHES", "INK", "MUTED", "PAPER", "SERIES", "Plot", "Timeline", "draw", "scale", "ticks"]

# Stand-ins: matplotlib wants real colours; each is exchanged for a CSS variable when the SVG is done.
INK, MUTED, GRID, BAND, PAPER = "#a10001", "#a10002", "#a10003", "#a10004", "#a10005"
SERIES = ("#a10011", "#a10012", "#a10013")
DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)))
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    BAND: "band",
    PAPER: "paper",
    SERIES[0]: "series-1",
    SERIES[1]: "series-2",
    SERIES[2]: "series-3",
}
_NAMESPACE = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
_WIDTH_IN, _HEIGHT_IN = 5.0, 2.9
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "none",
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot as the page shows it: `caption` says what one sees and what would be bad."""

    name: str
    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The measured time, and what happened in it; drawn behind every plot over time, numbered from 1."""

    end_s: float
    happenings: Sequence[Happening] = ()

    def draw(self, axes: Axes) -> None:
        """Bands and lines, their numbers above."""
        taken: list[float] = []
        for number, one in enumerate(self.happenings, 1):
            if one.is_band:
                axes.axvspan(one.at_s, min(one.until_s, self.end_s), facecolor=BAND, edgecolor="none", zorder=0)
            axes.axvline(one.at_s, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
            crowd = sum(abs(at_s - one.at_s) < 0.035 * self.end_s for at_s in taken)
            taken.append(one.at_s)
            axes.annotate(
                str(number),
                (one.at_s, 1.0),
                (0, 2 + 9 * crowd),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=8,
                color=INK,
            )
        axes.set_xlim(0, self.end_s or 1.0)
        axes.set_xlabel("virtual time, s")


def draw(name: str, alt: str, paint: Callable[[Axes], None], bottom: float | None = None) -> Markup:
    """What `paint` puts on empty axes, as an `<svg>` element for use within HTML; `alt` is for who cannot see it.

    With `bottom`, the share of the height under the axes, the margins are fixed, so that plots can be compared.
    """
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"mediadht-sim {name}"}):
        figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), layout=None if bottom else "constrained")
        if bottom:
            figure.subplots_adjust(left=0.135, right=0.965, top=0.92, bottom=bottom)
        paint(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return Markup(_within_page(file.getvalue(), name, alt))  # noqa: S704  # matplotlib's words and our labels only


def _within_page(svg: str, name: str, alt: str) -> str:
    """Without prologue, metadata, size and style sheet, with identifiers, colours and font of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    svg = f'<svg class="plot" role="img" aria-label="{escape(alt)}" {_NAMESPACE} {box[0]}>' + svg[svg.index(">") + 1 :]
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = svg.replace("font-family: 'DejaVu Sans', sans-serif; ", "").replace('\n"', '"')
    svg = re.sub(r"(?<=\d) \nL ", "L", svg)
    svg = re.sub(r"#a100\d\d", lambda found: f"var(--{_VARIABLES[found[0]]})", svg)
    return re.sub(r"\n\s*", "\n", svg).strip()


def ticks(unit: str) -> FuncFormatter:
    """Numbers beside an axis: short, and 0 without a unit."""
    return FuncFormatter(lambda value, _: _tick(value, unit))


def scale(unit: str) -> MaxNLocator:
    """Where they stand: at round numbers, few enough for a narrow page."""
    return MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], min_n_ticks=2)


def _tick(value: float, unit: str) -> str:
    if value == 0:
        return "0 %" if unit == "share" else "0"
    if unit == "ms":
        return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"
    if unit == "" and abs(value) >= 100_000:
        return f"{value / 1e6:g} M" if abs(value) >= 1e6 else f"{value / 1e3:g} k"
    return count(value) if unit == "" else said(value, unit)
