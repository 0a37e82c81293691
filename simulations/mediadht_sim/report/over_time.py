"""Plots over virtual time, with what happened drawn behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from markupsafe import Markup
from matplotlib.axes import Axes

from mediadht_sim.report.drawing import DASHES, SERIES, Plot, Timeline, draw, scale, ticks
from mediadht_sim.report.operations import Columns
from mediadht_sim.wording import count, said, seconds

__all__ = ["first_provider", "holdings", "messages_per_operation", "nodes_up", "routing_health", "success", "traffic"]

_Line: TypeAlias = tuple[str, Sequence[float | None]]
_POINTS_ALONE = 3
"""So few points make no line that one sees; they get marks."""


def success(intervals: Columns, timeline: Timeline) -> Plot | None:
    """Of the lookups that could succeed, the share that did."""
    pairs = zip(intervals["found"], intervals["missed"], strict=True)
    shares = [found / (found + missed) if found + missed else None for found, missed in pairs]
    worst = _worst(intervals, shares)
    if worst is None:
        return None
    told = f"The worst interval, ending at {seconds(worst[0])}, had {said(worst[1], 'share')}."
    caption = (
        "Of the lookups that ended in an interval and for which a live provider was there, the share that found "
        f"one. {told} The other line is of all lookups: it also falls where nobody has what is looked for, or whoever "
        "has it is down or cut off. A dip while something is broken is expected; one that stays after it was mended is "
        "a fault. Gaps are intervals without such lookups."
    )
    everybody = zip(intervals["found"], intervals["lookups"], strict=True)
    of_all = [found / lookups if lookups else None for found, lookups in everybody]
    lines = [("where a live one was there", shares), ("of all lookups", of_all)]
    svg = _lines("success", f"Success of lookups over time. {told}", lines, "share", (intervals, timeline))
    return Plot("success", "Success of lookups", svg, caption)


def first_provider(intervals: Columns, timeline: Timeline) -> Plot | None:
    """Time to the first provider, median and 95th percentile."""
    middle, late = intervals["first_ms_p50"], intervals["first_ms_p95"]
    worst = _worst(intervals, late, highest=True)
    if worst is None:
        return None
    told = f"The slowest interval, ending at {seconds(worst[0])}, had 95 of 100 within {said(worst[1], 'ms')}."
    caption = (
        f"Time until the first provider was told, of lookups that ended in the interval. {told} A gap that opens "
        "between the lines is a part of the nodes that waits for timeouts."
    )
    lines = [("half within", middle), ("95 of 100 within", late)]
    svg = _lines("first", f"Time to the first provider over time. {told}", lines, "ms", (intervals, timeline))
    return Plot("first", "Time to the first provider", svg, caption)


def routing_health(intervals: Columns, timeline: Timeline) -> Plot | None:
    """How much of their true neighbourhood nodes know."""
    worst = _worst(intervals, intervals["routing_health"])
    if worst is None:
        return None
    at_end = said(intervals["routing_health"][-1], "share")
    told = f"It was lowest at {seconds(worst[0])} with {said(worst[1], 'share')}, and {at_end} at the end."
    caption = (
        "Of the k nodes truly closest to a node, the share that it knows and that is live, averaged over sampled "
        f"nodes. {told} Records are stored at the closest nodes, so what falls here is later missed; a line that does "
        "not come back up is a network that does not heal."
    )
    lines = [("", intervals["routing_health"])]
    svg = _lines("health", f"Routing health over time. {told}", lines, "share", (intervals, timeline))
    return Plot("health", "Routing health", svg, caption)


def nodes_up(intervals: Columns, timeline: Timeline) -> Plot | None:
    """How many nodes are up."""
    up = intervals["nodes_up"]
    if not up:
        return None
    told = f"Between {count(min(up))} and {count(max(up))} nodes were up, {count(up[-1])} at the end."
    if min(up) == max(up):
        told = f"{count(up[0])} nodes were up all the time."
    caption = f"{told} This is what the scenario did to the network, not how well it did."
    svg = _lines("up", f"Nodes up over time. {told}", [("", up)], "", (intervals, timeline))
    return Plot("up", "Nodes up", svg, caption)


def traffic(intervals: Columns, timeline: Timeline) -> Plot | None:
    """Bytes per second and node, or messages where bytes were not counted (messages passed by reference)."""
    has_bytes = any(intervals["bytes"])
    sums = intervals["bytes" if has_bytes else "messages"]
    rows = list(zip(sums, intervals["nodes_up"], _lengths(intervals), strict=True))
    rates = [sent / (up * length_s) if up and length_s > 0 else None for sent, up, length_s in rows]
    worst = _worst(intervals, rates, highest=True)
    if worst is None:
        return None
    whole = sum(intervals["messages"])
    unit, what, size = "", "Messages", ""
    if has_bytes:
        unit, what, size = "B/s", "Bytes", f" of {said(sum(sums), 'bytes')}"
    told = f"{count(whole)} messages{size} in all; the most were {said(worst[1], unit)} a node at {seconds(worst[0])}."
    caption = (
        f"{what} that a node sent per second, on average of the nodes up, upkeep included. {told} It should follow the "
        "work asked for; a hill after an event is repair, and one that does not end is a storm."
    )
    svg = _lines("traffic", f"Traffic over time. {told}", [("", rates)], unit, (intervals, timeline))
    return Plot("traffic", "Traffic per node", svg, caption)


def messages_per_operation(intervals: Columns, timeline: Timeline) -> Plot | None:
    """All messages, upkeep included, over the operations that ended."""
    rows = zip(intervals["messages"], intervals["lookups"], intervals["announces"], strict=True)
    ratios = [sent / (looked + told) if looked + told else None for sent, looked, told in rows]
    worst = _worst(intervals, ratios, highest=True)
    if worst is None:
        return None
    told = f"The most were {count(worst[1])} in the interval that ended at {seconds(worst[0])}."
    caption = (
        "All messages of an interval, the upkeep of tables and records included, divided by the lookups and "
        f"announcements that ended in it. {told} With little work it is high, for upkeep goes on; judge "
        "it where there is much."
    )
    lines = [("", ratios)]
    svg = _lines("cost", f"Messages per operation over time. {told}", lines, "", (intervals, timeline))
    return Plot("cost", "All messages per operation", svg, caption)


def holdings(intervals: Columns, timeline: Timeline) -> Plot | None:
    """Records held by all nodes."""
    records = intervals["records"]
    if not records:
        return None
    told = f"{count(records[-1])} records at the end, {count(max(records))} at most."
    caption = (
        f"Records that all nodes up hold together, each replica counted. {told} It falls when holders go and should "
        "rise again as providers announce anew; growth without end would be records that nobody removes."
    )
    svg = _lines("records", f"Records held over time. {told}", [("", records)], "", (intervals, timeline))
    return Plot("records", "Records held", svg, caption)


def _worst(intervals: Columns, values: Sequence[float | None], *, highest: bool = False) -> tuple[float, float] | None:
    """(end of the interval, value) of the lowest value, or the highest; the first of equals."""
    there = [(at_s, value) for at_s, value in zip(intervals["at_s"], values, strict=True) if value is not None]
    if not there:
        return None
    return max(there, key=lambda pair: pair[1]) if highest else min(there, key=lambda pair: pair[1])


def _lengths(intervals: Columns) -> list[float]:
    ends = intervals["at_s"]
    return [end - start for start, end in zip([0.0, *ends], ends, strict=False)]


def _lines(name: str, alt: str, lines: Sequence[_Line], unit: str, over: tuple[Columns, Timeline]) -> Markup:
    intervals, timeline = over
    ends = intervals["at_s"]
    middles = [end - length_s / 2 for end, length_s in zip(ends, _lengths(intervals), strict=True)]
    highest = max((value for _, values in lines for value in values if value is not None), default=0)

    def paint(axes: Axes) -> None:
        for place, (label, values) in enumerate(lines):
            shown = [math.nan if value is None else value for value in values]
            line = axes.plot(middles, shown, color=SERIES[place], linestyle=DASHES[place], label=label)
            if len(shown) <= _POINTS_ALONE:
                line[0].set(marker="o", markersize=3)
        axes.set_ylim(0, 1.02 if unit == "share" else 1.08 * highest or 1)
        axes.yaxis.set_major_locator(scale(unit))
        axes.yaxis.set_major_formatter(ticks(unit))
        timeline.draw(axes)
        if len(lines) > 1:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=len(lines))

    return draw(name, alt, paint, bottom=0.26 if len(lines) > 1 else 0.175)
