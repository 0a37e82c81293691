"""What is aimed at, beside what was measured. A missed figure is said, and explained in `docs/benchmarks.md`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Target", "targets"]

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """A wish, the figure, and whether it came true; `reached` is None where nothing was measured."""

    wish: str
    figure: str
    reached: bool


def targets(results: dict[str, Any]) -> list[Target]:
    """All that the parts which ran can say."""
    networks = {(part["system"], part["nodes"]): part for part in results["networks"]}
    found: list[Target] = []
    largest = max((nodes for system, nodes in networks if system == "mediadht"), default=None)
    if largest is not None:
        found += _of_network(networks["mediadht", largest], networks.get(("kademlia", largest)))
    for part in results["kills"]:
        if part["system"] == "mediadht":
            found += _of_kill(part)
    if results["idle_daemon"] is not None:
        found += _of_idle(results["idle_daemon"])
    return found


def _below(wish: str, value: float | None, limit: float, unit: str, digits: int = 2) -> Target:
    if value is None:
        return Target(wish, "not measured", reached=False)
    return Target(wish, f"{value:.{digits}f} {unit}", reached=value < limit)


def _of_network(ours: dict[str, Any], theirs: dict[str, Any] | None) -> list[Target]:
    about = f"N = {ours['nodes']}"
    lookup, announce = ours["lookup_1"], ours["announce_1"]
    typical, most = lookup["requests_p50"], lookup["requests_max"]
    asked, cpu_ms = lookup["asked_first_p50_ms"], announce["cpu_net_ms"]
    found = []
    if most is not None:
        found.append(Target(f"{about}: 3 requests a lookup typically, 6 at most", f"{typical}, {most}", most <= 6))
    if asked is not None:
        found += [
            _below(f"{about}: first provider p50 < 1 ms, asked of others", asked, 1.0, "ms"),
            _below(f"{about}: first provider p50 < 0.45 ms, asked of others", asked, 0.45, "ms"),
        ]
    unit = f"ms net of the idle share, {announce['cpu_ms']:.1f} ms in all"
    found += [
        _below(f"{about}: CPU per announce < 18 ms", cpu_ms, 18.0, unit),
        _below(f"{about}: CPU per announce < 5 ms", cpu_ms, 5.0, unit),
    ]
    if theirs is not None:
        limit = theirs["announce_1"]["cpu_net_ms"] or theirs["announce_1"]["cpu_ms"]
        found.append(_below(f"{about}: CPU per announce < kademlia's {limit:.1f} ms", cpu_ms, limit, unit))
    if "providers" in ours:
        part = ours["providers"]
        figure = f"{part['fetched_min']} fetched, {part['counted_min']} counted"
        reached = min(part["fetched_min"], part["counted_min"]) >= part["announced"]
        found.append(Target(f"{about}: all of {part['announced']} providers of one key", figure, reached))
    return found


def _of_kill(part: dict[str, Any]) -> list[Target]:
    about = f"{part['how']} {part['share']:.0%}"
    both, after = part["both"], part["after"]
    return [
        Target(
            f"{about}: every key with a live replica and provider is found",
            f"{both['found']} of {both['lookups']}",
            both["found"] == both["lookups"],
        ),
        _below(f"{about}: first provider p50 < 20 ms", after["first_p50_ms"], 20.0, "ms"),
        _below(f"{about}: first provider p99 < 1 s", after["first_p99_ms"], 1000.0, "ms", 0),
        _below(f"{about}: complete p50 < 20 ms", after["p50_ms"], 20.0, "ms"),
        _below(f"{about}: complete p99 < 1 s", after["p99_ms"], 1000.0, "ms", 0),
    ]


def _of_idle(part: dict[str, Any]) -> list[Target]:
    return [
        _below("idle daemon: < 0.1 % CPU", part["cpu_percent"], 0.1, "%", 3),
        _below("idle daemon: < 80 MiB", part["rss_bytes"] / MIB, 80.0, "MiB RSS", 1),
    ]
