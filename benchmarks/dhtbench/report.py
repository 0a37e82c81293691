"""Tables of the results, for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from dhtbench.targets import MIB, targets

__all__ = ["show"]


def show(console: Console, results: dict[str, Any]) -> None:
    """All tables of the parts that ran."""
    if results["networks"]:
        console.print(_announces(results["networks"]), _lookups(results["networks"]), _costs(results["networks"]))
    if any("providers" in part for part in results["networks"]):
        console.print(_providers(results["networks"]))
    if results["kills"]:
        console.print(_kills(results["kills"]))
    if results["idle_daemon"] is not None:
        console.print(_idle(results["idle_daemon"]))
    console.print(_targets(results))
    for text in results["wrong"]:
        console.print(f"[red]wrong:[/red] {text}", highlight=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="left" if column in {"system", "work", "target", "way"} else "right")
    return table


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _announces(networks: list[dict[str, Any]]) -> Table:
    table = _table(
        "Announces: until replicas have acknowledged (ms); CPU of all nodes together, and net of the idle share",
        *(
            "system",
            "N",
            "work",
            "p50",
            "p99",
            "on disk p50",
            "per s",
            "CPU ms",
            "net",
            "messages",
            "KiB",
            "dials",
            "replicas",
        ),
    )
    kinds = {"fresh": "network fresh, 1 at a time", "1": "warm, 1 at a time", "16": "warm, 16 at a time"}
    for part in networks:
        for kind, work in kinds.items():
            row = part[f"announce_{kind}"]
            table.add_row(
                *(part["system"], str(part["nodes"]), work, _number(row["p50_ms"]), _number(row["p99_ms"])),
                *(_number(row["durable_p50_ms"]), _number(row["per_s"], 0), _number(row["cpu_ms"])),
                *(_number(row["cpu_net_ms"]), _number(row["messages"], 1)),
                *(_number(row["bytes"] / 1024, 1), _number(row["dials"], 1), _number(row["replicas_p50"], 0)),
            )
    return table


def _lookups(networks: list[dict[str, Any]]) -> Table:
    table = _table(
        "Lookups, warm (ms). `asked`: only those whose node held no copy itself, so that others had to be asked",
        *("system", "N", "work", "p50", "p99", "first p50", "first p99", "asked", "asked p50", "asked first p50"),
        *("asked first p99", "per s", "CPU ms", "net", "messages", "KiB", "requests p50/max"),
    )
    for part in networks:
        for at_once in (1, 16):
            row = part[f"lookup_{at_once}"]
            times = ("p50_ms", "p99_ms", "first_p50_ms", "first_p99_ms")
            asked = ("asked_p50_ms", "asked_first_p50_ms", "asked_first_p99_ms")
            table.add_row(
                *(part["system"], str(part["nodes"]), f"{at_once} at a time"),
                *(_number(row[name]) for name in times),
                str(row["asked"]),
                *(_number(row[name]) for name in asked),
                *(_number(row["per_s"], 0), _number(row["cpu_ms"]), _number(row["cpu_net_ms"])),
                *(_number(row["messages"], 1), _number(row["bytes"] / 1024, 1)),
                f"{row['requests_p50'] or '-'} / {row['requests_max'] or '-'}",
            )
    return table


def _costs(networks: list[dict[str, Any]]) -> Table:
    table = _table(
        "What it costs to be there, per daemon",
        *("system", "N", "processes", "MiB, warm", "sessions as joined", "sessions warm", "settled s"),
        *("idle CPU %: before", "after", "idle messages/s: before", "after"),
    )
    for part in networks:
        table.add_row(
            *(part["system"], str(part["nodes"]), str(part["workers"])),
            _number(part["memory_bytes"]["per_daemon"] / MIB, 2),
            *(_number(part[when]["sessions_mean"], 0) for when in ("joined", "warm")),
            _number(part["settled_s"], 0),
            *(_number(part[f"idle_{when}"]["cpu_percent_per_daemon"], 3) for when in ("before", "after")),
            *(_number(part[f"idle_{when}"]["messages_per_s_per_daemon"], 2) for when in ("before", "after")),
        )
    return table


def _providers(networks: list[dict[str, Any]]) -> Table:
    table = _table(
        "Many providers of one key, fetched from 20 nodes",
        *("system", "N", "announced", "counted, least", "fetched, least", "ms for all", "requests"),
    )
    for part in networks:
        if "providers" in part:
            row = part["providers"]
            table.add_row(
                *(part["system"], str(part["nodes"]), str(row["announced"]), str(row["counted_min"])),
                *(str(row["fetched_min"]), _number(row["all_ms"]), _number(row["requests_mean"], 1)),
            )
    return table


def _kills(kills: list[dict[str, Any]]) -> Table:
    table = _table(
        "Lookups right after a part of the daemons was killed at once (ms); mediadht 1, kademlia 16 at a time",
        *("system", "N", "way", "killed", "found: both live", "found: provider dead", "found: no replica"),
        *("first p50", "first p99", "p50", "p99", "each node's first: p50", "p99", "again, 16 at a time: p50", "p99"),
    )
    for part in kills:
        after, firsts, again = part["after"], part["first_of_each_node"], part["again"]
        found = [f"{part[kind]['found']} of {part[kind]['lookups']}" for kind in ("both", "replica", "none")]
        table.add_row(
            *(part["system"], str(part["nodes"]), f"{part['how']} {part['share']:.0%}", str(part["killed"])),
            *found,
            *(_number(after[name], 1) for name in ("first_p50_ms", "first_p99_ms", "p50_ms", "p99_ms")),
            *(_number(run[name], 1) for run in (firsts, again) for name in ("p50_ms", "p99_ms")),
        )
    return table


def _idle(part: dict[str, Any]) -> Table:
    table = _table(
        f"A whole `mediadht run`, API on, idle in a network of {part['nodes']}, {part['settled_s']:.0f} s after it "
        f"joined, for {part['measured_s']:.0f} s",
        *("CPU %", "RSS MiB", "PSS MiB", "USS MiB", "threads"),
    )
    memory = (_number(part[name] / MIB, 1) for name in ("rss_bytes", "pss_bytes", "uss_bytes"))
    table.add_row(_number(part["cpu_percent"], 3), *memory, str(part["threads"]))
    return table


def _targets(results: dict[str, Any]) -> Table:
    table = _table("Targets", "target", "figure", "reached")
    for target in targets(results):
        table.add_row(target.wish, target.figure, "[green]yes[/green]" if target.reached else "[red]no[/red]")
    return table
