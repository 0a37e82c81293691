"""Plots of single operations: how long, how many hops, how many requests; and of the load that they put on nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from mediadht_sim.metrics import gini, lorenz, percentile
from mediadht_sim.report.drawing import DASHES, INK, MUTED, PAPER, SERIES, Plot, draw, scale, ticks
from mediadht_sim.wording import count, said

__all__ = ["Columns", "hops", "latency", "load", "lorenz_curve", "requests"]

Columns = dict[str, list[Any]]
_POINTS_MAX = 400
_BARS_MAX = 40
_MS_MIN = 0.1
"""Shorter durations are drawn here: a logarithmic axis has no 0."""


def picked(columns: Columns, name: str, kind: str) -> list[float]:
    """The column's values for operations of a kind that ended; nulls left out."""
    rows = zip(columns[name], columns["kind"], columns["outcome"], strict=True)
    return [value for value, of, outcome in rows if value is not None and of == kind and outcome != "unfinished"]


def latency(operations: Columns) -> Plot | None:
    """The cumulative distributions of time to the first provider, to a lookup's end, to an announcement's."""
    lines = [
        ("first provider", picked(operations, "first_ms", "lookup")),
        ("lookup's end", picked(operations, "end_ms", "lookup")),
        ("announcement's end", picked(operations, "end_ms", "announce")),
    ]
    lines = [(label, values) for label, values in lines if values]
    if not lines:
        return None

    def paint(axes: Axes) -> None:
        for place, (label, values) in enumerate(lines):
            x, y = _cumulated(values)
            axes.plot(x, y, color=SERIES[place], linestyle=DASHES[place], label=label, drawstyle="steps-post")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ticks("ms"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(ticks("share"))
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("done within")
        axes.legend(loc="lower right")

    told = "; ".join(
        f"{label}: half within {said(percentile(values, 0.5), 'ms')}, "
        f"99 of 100 within {said(percentile(values, 0.99), 'ms')}"
        for label, values in lines
    )
    told = told[0].upper() + told[1:]
    caption = (
        f"For every time on the horizontal axis (logarithmic), the share of operations done by then. {told}. "
        "Further left and steeper is better; a step far to the right is a group that waited for a timeout."
    )
    if any(min(values) <= _MS_MIN for _, values in lines):
        caption += " What begins at the left edge was answered from the node's own store, in no time."
    alt = f"Cumulative distribution of operations' durations. {told}."
    return Plot("latency", "How long operations took", draw("latency", alt, paint), caption)


def hops(operations: Columns) -> Plot | None:
    """How many hops operations took."""
    found = _bars(operations, "hops", "hops")
    if found is None:
        return None
    svg, told = found
    caption = (
        f"A hop is one step further from the asker: nodes it knew are hop 1, nodes that those named hop 2. {told} Bars "
        "far to the right are lookups that wandered: stale tables, or nodes that lead astray."
    )
    return Plot("hops", "Hops", svg, caption)


def requests(operations: Columns) -> Plot | None:
    """How many requests operations sent."""
    found = _bars(operations, "requests", "requests sent")
    if found is None:
        return None
    svg, told = found
    caption = (
        f"What one operation cost; each request has one answer, so messages are twice as many. {told} A long tail "
        "to the right means many nodes that did not answer and were replaced."
    )
    return Plot("requests", "Requests per operation", svg, caption)


def load(nodes: Columns) -> Plot | None:
    """Messages received by each honest node, from the busiest to the idlest."""
    values = sorted(_received(nodes), reverse=True)
    if not values or not values[0]:
        return None
    middle = percentile(values, 0.5) or 0

    def paint(axes: Axes) -> None:
        shown = range(0, len(values), max(1, len(values) // _POINTS_MAX))
        x, y = [*shown, len(values)], [*(values[at] for at in shown), values[-1]]
        axes.fill_between(x, y, step="post", color=SERIES[0], alpha=0.3, linewidth=0)
        axes.step(x, y, where="post", color=SERIES[0])
        axes.axhline(middle, color=INK, linewidth=0.9, linestyle=DASHES[1])
        axes.text(0.99 * len(values), middle, f"median {count(middle)}", ha="right", va="bottom", fontsize=8.5)
        axes.set_ylim(0)
        axes.set_xlim(0, len(values))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(scale(""))
        axes.yaxis.set_major_formatter(ticks(""))
        axes.xaxis.set_major_formatter(ticks(""))
        axes.set_xlabel("honest nodes, the busiest first")
        axes.set_ylabel("messages received")

    told = (
        f"The busiest of {count(len(values))} nodes received {count(values[0])} messages, "
        f"the median node {count(middle)}."
    )
    caption = f"{told} A steep left edge is a few nodes that carry the others; a flat line would be perfectly even."
    return Plot("load", "Load of each node", draw("load", f"Ranked load of nodes. {told}", paint), caption)


def lorenz_curve(nodes: Columns) -> Plot | None:
    """How unequal the load is."""
    values = _received(nodes)
    curve, inequality = lorenz(values), gini(values)
    if not curve or inequality is None:
        return None
    size = len(values)

    def paint(axes: Axes) -> None:
        step = max(1, size // _POINTS_MAX)
        shown = [*range(0, size, step), size]
        x = [at / size for at in shown]
        y = [curve[at] for at in shown]
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DASHES[1], label="all alike")
        axes.fill_between(x, y, x, color=SERIES[0], alpha=0.2, linewidth=0)
        axes.plot(x, y, color=SERIES[0], label="this run")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(ticks("share"))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("of the nodes, the idlest first")
        axes.set_ylabel("of all messages received")
        axes.legend(loc="upper left")

    top = 1 - curve[size - max(1, round(size / 10))]
    told = (
        f"The Gini coefficient is {inequality:.2f}; the busiest tenth of the nodes received {said(top, 'share')} "
        "of all messages."
    )
    caption = (
        f"Lorenz curve of the same load. {told} The nearer the curve to the diagonal, the more even: 0 is perfectly "
        "even, 1 is one node that does everything."
    )
    return Plot("lorenz", "How even the load is", draw("lorenz", f"Lorenz curve of load. {told}", paint), caption)


def _received(nodes: Columns) -> list[int]:
    rows = zip(nodes["messages_in"], nodes["honest"], nodes["up_s"], strict=True)
    return [received for received, is_honest, up_s in rows if is_honest and up_s > 0]


def _cumulated(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """The points of the distribution, thinned to what a plot can show; the smallest and largest always stay."""
    ordered = sorted(max(value, _MS_MIN) for value in values)
    last = len(ordered) - 1
    ranks = range(last + 1) if last < _POINTS_MAX else [round(at * last / _POINTS_MAX) for at in range(_POINTS_MAX + 1)]
    return [ordered[0], *(ordered[rank] for rank in ranks)], [0.0, *((rank + 1) / (last + 1) for rank in ranks)]


def _bars(operations: Columns, name: str, label: str) -> tuple[Markup, str] | None:
    """Shares of lookups and announcements by a whole number, side by side."""
    groups = [("lookups", picked(operations, name, "lookup")), ("announcements", picked(operations, name, "announce"))]
    groups = [(of, values) for of, values in groups if values]
    if not groups:
        return None
    most = max(max(values) for _, values in groups)
    width = max(1, -(-int(most + 1) // _BARS_MAX))

    def paint(axes: Axes) -> None:
        part = 0.84 * width / len(groups)
        for place, (of, values) in enumerate(groups):
            bins = sorted(Counter(int(value) // width for value in values).items())
            aside = (width - 1) / 2 + (place - (len(groups) - 1) / 2) * part
            at, shares = [one * width + aside for one, _ in bins], [times / len(values) for _, times in bins]
            bars = axes.bar(at, shares, part, label=of, color=SERIES[place], edgecolor=PAPER, linewidth=0.3)
            for bar in bars:
                bar.set_hatch(("", "////")[place])
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.yaxis.set_major_locator(scale("share"))
        axes.yaxis.set_major_formatter(ticks("share"))
        axes.grid(visible=False, axis="x")
        axes.set_xlabel(label)
        axes.set_ylabel("share of the operations")
        axes.legend(loc="upper right")

    told = " ".join(
        f"{of.capitalize()}: {said(sum(values) / len(values))} on average, at most {count(max(values))}."
        for of, values in groups
    )
    return draw(name, f"Distribution of {name} per operation. {told}", paint), told
