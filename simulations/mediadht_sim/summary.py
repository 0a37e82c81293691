"""A run's results in the terminal: the verdict, the figures that a reader wants, violations, and what to do next.

Nothing in a scenario or a violation is taken as markup. Colours repeat what words say already.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mediadht_sim.happenings import phases
from mediadht_sim.metrics import METRICS_BY_NAME
from mediadht_sim.tables import Results, RunLike, results_of
from mediadht_sim.wording import command, count, plain, said, seconds, verdict, where

__all__ = ["show"]

_VIOLATIONS_SHOWN = 10
_STYLES = {"passed": "bold green", "failed": "bold red", "unchecked": "bold yellow", "empty": "bold yellow"}
_SECTIONS = (
    (
        "Lookups",
        (
            "success_share",
            "lookups_missed",
            "lookups_stale",
            "first_ms_p50",
            "first_ms_p99",
            "end_ms_p50",
            "end_ms_p99",
        ),
    ),
    ("What a lookup costs", ("requests_mean", "requests_p99", "hops_mean", "hops_p99")),
    (
        "Announcements",
        ("announces", "stored_share", "announce_ms_p50", "announce_requests_mean", "announce_replicas_mean"),
    ),
    (
        "Network",
        (
            "routing_health",
            "routing_health_min",
            "messages_per_operation",
            "messages_per_node_s",
            "bytes_per_node_s",
            "load_gini",
            "load_max_over_mean",
        ),
    ),
)


def show(result: RunLike | Results, console: Console, folder: Path | None = None) -> None:
    """Print the results; `folder` is where they were written, so that the next steps can name it."""
    results = results_of(result)
    told = verdict(results)
    console.print()
    console.print(_title(results))
    console.print(Text(told.headline, _STYLES[told.word]))
    if told.word != "empty":
        console.print(_figures(results))
        _show_phases(results, console)
    _show_violations(results, console)
    console.print(_cost(results))
    _show_next(results, console, folder, told.word)


def _title(results: Results) -> Text:
    title = Text(plain(results.name), "bold")
    about = " ".join(plain(results.about).split())
    return title.append(f"  {about}" if about else "", "not bold dim")


def _figures(results: Results) -> Table:
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for heading, names in _SECTIONS:
        rows = [(name, results.metrics.get(name)) for name in names]
        if all(value is None for _, value in rows):
            continue
        table.add_row(Text(heading, "bold"), "")
        for name, value in rows:
            metric = METRICS_BY_NAME[name]
            table.add_row(f"  {metric.words}", said(value, metric.unit))
    return table


def _show_phases(results: Results, console: Console) -> None:
    found = phases(results)
    if not found:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Lookups by when they began", title_justify="left")
    table.add_column("from")
    table.add_column("")
    for heading in ("found", "missed", "first, median", "first, 95 %", "requests"):
        table.add_column(heading, justify="right")
    for phase in found:
        figures = phase.figures
        table.add_row(
            seconds(phase.from_s),
            Text(plain(phase.words)),
            said(figures["success_share"], "share"),
            said(figures["lookups_missed"]),
            said(figures["first_ms_p50"], "ms"),
            said(figures["first_ms_p95"], "ms"),
            said(figures["requests_mean"]),
        )
    console.print(table)


def _show_violations(results: Results, console: Console) -> None:
    for seen in results.violations[:_VIOLATIONS_SHOWN]:
        line = Text("violation ", "bold red").append(f"{plain(seen.checker)}, {where(seen)}: ", "red")
        console.print(line.append(plain(seen.what), "not bold red"))
    more = len(results.violations) - _VIOLATIONS_SHOWN
    if more > 0:
        console.print(Text(f"and {count(more)} more, all in summary.json", "red"))


def _cost(results: Results) -> Text:
    rate = f", {count(round(results.messages / results.wall_s))} messages/s" if results.wall_s > 0 else ""
    return Text(
        f"{seconds(results.virtual_s)} of virtual time, {count(results.events)} events, {count(results.messages)} "
        f"messages in {seconds(results.wall_s)}{rate}. Seed {results.seed}, trace {results.trace[:16]}.",
        "dim",
    )


def _show_next(results: Results, console: Console, folder: Path | None, word: str) -> None:
    if folder is None:
        return
    if (folder / "report.html").is_file():
        console.print(
            Text(f"Read {folder / 'report.html'} in a browser: what happened when, with plots."), soft_wrap=True
        )
    else:
        console.print(Text(f"For plots: mediadht-sim report {shlex.quote(str(folder))}"), soft_wrap=True)
    purpose = "To see the violations again" if word == "failed" else "To get the same again"
    console.print(Text(f"{purpose}: {command(results, folder)}"), soft_wrap=True)
