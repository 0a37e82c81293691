"""The report's page: what the reader is told, in which order, and how it becomes one HTML file.

What always holds: the file needs nothing beside it and asks no network for anything (its policy forbids it); all text
that comes from a scenario or a checker is escaped; equal results give equal bytes, so no wall-clock time is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mediadht_sim.columns import INTERVALS, LOOKUPS, NODES, TABLES
from mediadht_sim.happenings import Happening, happenings, phases
from mediadht_sim.metrics import METRICS
from mediadht_sim.report import operations, over_time
from mediadht_sim.report.drawing import Plot, Timeline
from mediadht_sim.report.glossary import GLOSSARY
from mediadht_sim.report.operations import Columns
from mediadht_sim.report.setting import setting
from mediadht_sim.tables import Results, ResultsError, Violated, read_results
from mediadht_sim.toml_text import write_toml
from mediadht_sim.wording import command, count, plain, said, seconds, verdict, where

__all__ = ["render", "write_report"]

_VIOLATIONS_SHOWN = 50
_UNIT = re.compile(r"(?<=\d) (?=(?:%|ms|s|h|B|kB|MB|GB|B/s|kB/s|MB/s)\b|%)")


@dataclass(frozen=True, slots=True)
class _Section:
    title: str
    about: str
    plots: tuple[Plot, ...]


def write_report(folder: Path) -> Path:
    """Write `report.html` beside the results in `folder`; returns its path. Raises `ResultsError`."""
    results = read_results(folder)
    path = folder / "report.html"
    try:
        path.write_text(render(results), encoding="utf-8")
    except OSError as why:
        raise ResultsError(f"cannot write {path}: {why}; copy the results to where you may write") from why
    return path


def render(results: Results) -> str:
    """The whole page as text."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=PackageLoader("mediadht_sim.report", "page"),
    )
    environment.filters |= {
        "kept": _kept,
        "said": said,
        "seconds": seconds,
        "count": count,
        "plain": plain,
        "where": where,
    }
    return environment.get_template("report.html.jinja").render(_context(results)) + "\n"


def _kept(text: str) -> str:
    """The text with numbers and their units kept on one line."""
    return _UNIT.sub("\N{NO-BREAK SPACE}", text)


def _context(results: Results) -> dict[str, Any]:
    told = happenings(results.scenario)
    return {
        "results": results,
        "paragraphs": [part for part in plain(results.about).split("\n\n") if part.strip()],
        "verdict": verdict(results),
        "groups": _groups(results.violations),
        "violations": results.violations[:_VIOLATIONS_SHOWN],
        "setting": setting(results.scenario),
        "happenings": [(number, one, _when(one)) for number, one in enumerate(told, 1)],
        "phases": phases(results),
        "sections": _sections(results, told),
        "figures": [
            (metric, said(results.metrics[metric.name], metric.unit))
            for metric in METRICS
            if _has(results, metric.name)
        ],
        "command": command(results, None),
        "scenario_text": write_toml(results.scenario),
        "tables": TABLES,
        "glossary": GLOSSARY,
    }


def _has(results: Results, name: str) -> bool:
    return results.metrics.get(name) is not None


def _groups(violations: Iterable[Violated]) -> list[tuple[str, int, float, float]]:
    """(checker, how often, first at, last at), in order of the first."""
    found: dict[str, list[float]] = {}
    for seen in violations:
        found.setdefault(seen.checker, []).append(seen.at_s)
    return [(checker, len(times), min(times), max(times)) for checker, times in found.items()]


def _when(one: Happening) -> str:
    return f"{seconds(one.at_s)} to {seconds(one.until_s)}" if one.is_band else seconds(one.at_s)


def _sections(results: Results, told: list[Happening]) -> list[_Section]:
    done: Columns = results.lookups.select([column.name for column in LOOKUPS.columns]).to_pydict()
    series: Columns = results.intervals.select([column.name for column in INTERVALS.columns]).to_pydict()
    hosts: Columns = results.nodes.select([column.name for column in NODES.columns]).to_pydict()
    end_s = max([results.scenario.get("duration_s") or 0.0, *series["at_s"]])
    timeline = Timeline(end_s, told)
    marks = " Numbers above a plot are those of the list of what happened; shaded is while it lasted." if told else ""
    sections = (
        ("Over time", f"One point an interval.{marks}", (
            over_time.success(series, timeline), over_time.first_provider(series, timeline),
            over_time.routing_health(series, timeline), over_time.nodes_up(series, timeline),
            over_time.traffic(series, timeline), over_time.holdings(series, timeline),
        )),
        ("Operations", "All that ended in the measured time.", (
            operations.latency(done), operations.hops(done), operations.requests(done),
            over_time.messages_per_operation(series, timeline),
        )),
        ("Load", "Messages that honest nodes received in the measured time.", (
            operations.load(hosts), operations.lorenz_curve(hosts),
        )),
    )  # fmt: skip
    return [_Section(title, about, tuple(plot for plot in plots if plot)) for title, about, plots in sections]
