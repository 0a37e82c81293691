"""The parts of the benchmark: the network at work, many providers of one key, daemons killed, a daemon idle.

Each returns plain data for the report and for JSON, with `wrong`: what should have been found and was not. Speed is
never wrong here; what it should reach is `targets`' business.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from subprocess import PIPE
from typing import Any

import psutil
import trio

from dhtbench.figures import cpu_of, summary_of_announces, summary_of_lookups
from dhtbench.fleet import BenchmarkFault, Fleet, free_ports, open_fleet
from dhtbench.plan import Operation, Plan, media_id

__all__ = ["Settings", "idle_daemon", "kills", "network"]

AT_ONCE = 16
WARM_KEYS_PER_NODE = 12
PROVIDERS = 100
QUIET_WINDOW_S = 10.0
QUIET_SHARE = 0.85
QUIET_S_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line chose."""

    seed: int
    operations: int
    settle_s: float
    """From the start of the last daemon until anything is measured: the neighbourhood is looked up again for 60 s."""
    idle_s: float
    say: Callable[[str], None]
    """Shows what is being done."""


# --- The network at work --------------------------------------------------------------------------------------------


async def network(settings: Settings, system: str, nodes: int, workers: int) -> dict[str, Any]:
    """500 announces and 500 lookups, one after the other and 16 at a time, in a network of `nodes`."""
    plan = Plan(settings.seed, nodes, workers)
    settings.say(f"{system}, {nodes} nodes: joining")
    async with open_fleet(system, plan) as fleet:
        report: dict[str, Any] = {"system": system, "nodes": nodes, "workers": workers}
        report["settled_s"] = await _settle(settings, fleet)
        await fleet.ask_all("freeze")
        report["joined"] = _spread(await fleet.status())
        count = settings.operations
        fresh = plan.announces("fresh", max(16, count // 5))
        report["announce_fresh"] = await _measured(fleet, "announce", fresh, 1)
        settings.say(f"{system}, {nodes} nodes: warming up")
        await fleet.at_once("lookup", plan.strangers("warm", WARM_KEYS_PER_NODE), AT_ONCE)
        await fleet.ask_all("freeze")
        report["warm"] = _spread(await fleet.status())
        report["quiet_s"] = await _until_quiet(settings, fleet)
        report["idle_before"] = await _idle_network(settings, fleet)
        announced: list[Operation] = []
        for at_once in (1, AT_ONCE):
            settings.say(f"{system}, {nodes} nodes: announcing, {at_once} at a time")
            keys = plan.announces(f"announce{at_once}", count)
            report[f"announce_{at_once}"] = await _measured(fleet, "announce", keys, at_once)
            announced += keys
        for at_once in (1, AT_ONCE):
            settings.say(f"{system}, {nodes} nodes: looking up, {at_once} at a time")
            keys = plan.lookups(f"lookup{at_once}", announced, count, fleet.living_nodes)
            report[f"lookup_{at_once}"] = await _measured(fleet, "lookup", keys, at_once)
        report["memory_bytes"] = await _memory(fleet)
        await _until_quiet(settings, fleet)
        report["idle_after"] = await _idle_network(settings, fleet)
        _take_off_idle_share(report)
        if nodes > 2:
            settings.say(f"{system}, {nodes} nodes: many providers")
            report["providers"] = await _many_providers(fleet)
    parts = [part for name, part in report.items() if name.startswith(("announce", "lookup"))]
    report["wrong"] = [
        f"{system}, {nodes} nodes: {part['failed']} of {part['operations']} {part['what']}s failed"
        for part in parts
        if part["failed"]
    ]
    if system == "mediadht" and nodes > 2 and report["providers"]["fetched_min"] < report["providers"]["announced"]:
        report["wrong"].append(f"{nodes} nodes: not all providers of one key were fetched")
    return report


async def _settle(settings: Settings, fleet: Fleet) -> float:
    """Wait as long as was said and until the network is quiet; returns how long, from the last start, that was."""
    started = trio.current_time()
    until = trio.current_time() + settings.settle_s
    while (left := until - trio.current_time()) > 0:
        settings.say(f"{fleet.system}, {fleet.plan.nodes} nodes: settling, {left:.0f} s")
        await trio.sleep(min(5.0, left))
    status = await fleet.status()
    if fleet.plan.nodes > 1 and min(node["table"] for node in status) == 0:
        raise BenchmarkFault(f"{fleet.system}: a node has not joined {settings.settle_s:.0f} s after the last started")
    await _until_quiet(settings, fleet)
    return trio.current_time() - started


async def _until_quiet(settings: Settings, fleet: Fleet) -> float:
    """Wait until the traffic no longer falls: two windows alike, or `QUIET_S_MAX`; returns the seconds waited."""
    started, rate = trio.current_time(), float("inf")
    while (waited_s := trio.current_time() - started) < QUIET_S_MAX:
        settings.say(f"{fleet.system}, {fleet.plan.nodes} nodes: until it is quiet, {waited_s:.0f} s")
        before = (await fleet.figures())["messages"]
        await trio.sleep(QUIET_WINDOW_S)
        latest = ((await fleet.figures())["messages"] - before) / QUIET_WINDOW_S
        if latest >= QUIET_SHARE * rate or latest == 0:
            break
        rate = latest
    return trio.current_time() - started


async def _idle_network(settings: Settings, fleet: Fleet) -> dict[str, float]:
    """What the network costs while nobody wants anything."""
    before = await fleet.figures()
    started = trio.current_time()
    settings.say(f"{fleet.system}, {fleet.plan.nodes} nodes: idle, {settings.idle_s:.0f} s")
    await trio.sleep(settings.idle_s)
    after = await fleet.figures()
    took_s = trio.current_time() - started
    cpu_s_per_s = (after["cpu_s"] - before["cpu_s"]) / took_s
    return {
        "cpu_s_per_s": cpu_s_per_s,
        "cpu_percent_per_daemon": 100 * cpu_s_per_s / fleet.plan.nodes,
        "messages_per_s_per_daemon": (after["messages"] - before["messages"]) / took_s / fleet.plan.nodes,
        "dials": after["dials"] - before["dials"],
        "measured_s": took_s,
    }


async def _measured(fleet: Fleet, do: str, keys: list[Operation], at_once: int) -> dict[str, Any]:
    """Do it, and say what each operation took, also in CPU time, messages and bytes of all nodes together."""
    before, started = await fleet.figures(), trio.current_time()
    run = await (fleet.one_after_the_other(do, keys) if at_once == 1 else fleet.at_once(do, keys, at_once))
    took_s, after = trio.current_time() - started, await fleet.figures()
    spent = {name: (after[name] - before[name]) / len(keys) for name in ("cpu_s", "messages", "bytes", "dials")}
    summary = summary_of_announces(run) if do == "announce" else summary_of_lookups(run)
    return summary | {
        "what": do,
        "at_once": at_once,
        "cpu_ms": 1000 * spent["cpu_s"],
        "took_s": took_s,
        "messages": spent["messages"],
        "bytes": spent["bytes"],
        "dials": spent["dials"],
    }


def _take_off_idle_share(report: dict[str, Any]) -> None:
    """What the operations alone cost: less what the network spends anyway, by the lower of two measurements.

    The lower, so that what is left is rather too much than too little. A background that was not steady would make
    even that wrong: less than nothing is then said to be unknown.
    """
    idle = min(report["idle_before"]["cpu_s_per_s"], report["idle_after"]["cpu_s_per_s"])
    for name, part in report.items():
        if name.startswith(("announce", "lookup")):
            net_ms = part["cpu_ms"] - 1000 * idle * part["took_s"] / part["operations"]
            part["cpu_net_ms"] = net_ms if net_ms > 0 else None


async def _memory(fleet: Fleet) -> dict[str, float]:
    """Memory of the processes that is theirs alone, less what they had before the first node, shared out."""
    now, before = await fleet.figures(), {"uss_bytes": sum(part["uss_bytes"] for part in fleet.empty)}
    return {
        "per_daemon": (now["uss_bytes"] - before["uss_bytes"]) / fleet.plan.nodes,
        "process_without_daemons": before["uss_bytes"] / fleet.plan.workers,
    }


async def _many_providers(fleet: Fleet) -> dict[str, Any]:
    """One key, announced by up to 100 nodes, each of a server and a domain of its own; all fetched from 20 nodes."""
    plan = fleet.plan
    count = min(PROVIDERS, plan.nodes - 1)
    subject = media_id(f"{plan.seed}/{plan.nodes}/popular")
    announces = sorted((Operation(node, subject) for node in range(count)), key=lambda o: o.node % plan.workers)
    await fleet.one_after_the_other("announce", announces)
    readers = [Operation(node, subject) for node in range(plan.nodes)][-min(20, plan.nodes) :]
    every = await fleet.one_after_the_other("lookup", readers, providers_max=500)
    few = await fleet.one_after_the_other("lookup", readers, providers_max=16)
    fetched = [result["found"] for result in every["results"]]
    return {
        "announced": count,
        "fetched_min": min(fetched),
        "fetched_max": max(fetched),
        "counted_min": min(result["total"] for result in few["results"]),
        "all_ms": 1000 * mean(result["s"] for result in every["results"]),
        "requests_mean": mean(r["requests"] for r in every["results"] if r["requests"] is not None),
    }


def _spread(status: list[dict[str, Any]]) -> dict[str, float]:
    return {
        "sessions_mean": mean(node["sessions"] for node in status),
        "table_mean": mean(node["table"] for node in status),
        "known_mean": mean(node["known"] for node in status),
    }


# --- Daemons killed -------------------------------------------------------------------------------------------------


async def kills(settings: Settings, system: str, nodes: int, workers: int, how: str, share: float) -> dict[str, Any]:
    """Announce, kill that share of the processes at once, and look up right after, from the nodes that are left.

    Ours one after the other; kademlia's, which wait for fixed timeouts of seconds, 16 at a time.
    """
    plan = Plan(settings.seed, nodes, workers)
    about = f"{system}, {nodes} nodes, {how} {share:.0%}"
    settings.say(f"{about}: joining")
    async with open_fleet(system, plan) as fleet:
        await _settle(settings, fleet)
        settings.say(f"{about}: warming up and announcing")
        await fleet.at_once("lookup", plan.strangers("warm", WARM_KEYS_PER_NODE), AT_ONCE)
        await fleet.ask_all("freeze")
        announced = plan.announces("kills", settings.operations)
        run = await fleet.at_once("announce", announced, AT_ONCE)
        held = await fleet.holders(announced)
        dead = set(fleet.kill(plan.killed_workers(share), signal.Signals[how]))
        living = fleet.living_nodes
        lookups = plan.lookups(f"{how}{share}", announced, settings.operations, living)
        settings.say(f"{about}: looking up")
        if system == "mediadht":
            after = await fleet.one_after_the_other("lookup", lookups)
        else:
            after = await fleet.at_once("lookup", lookups, AT_ONCE)
        settings.say(f"{about}: again, {AT_ONCE} at a time")
        again = await fleet.at_once("lookup", lookups, AT_ONCE)
    kinds = {
        operation.id: _what_is_left(operation, holders - dead, dead)
        for operation, holders in zip(announced, held, strict=True)
    }
    report: dict[str, Any] = {"system": system, "nodes": nodes, "workers": workers, "how": how, "share": share}
    report["killed"] = len(dead)
    report["announce"] = summary_of_announces(run)
    report["keys"] = {kind: sum(k == kind for k in kinds.values()) for kind in ("both", "replica", "none")}
    for kind in ("both", "replica", "none"):
        report[kind] = _found_of(after, [id_ for id_, k in kinds.items() if k == kind])
    report["after"] = summary_of_lookups(after)
    report["first_of_each_node"] = summary_of_lookups(_first_of_each_node(after))
    report["again"] = summary_of_lookups(again)
    missed = report["both"]["lookups"] - report["both"]["found"]
    ours = system == "mediadht"
    report["wrong"] = [f"{about}: {missed} keys with a live replica and provider were not found"] * bool(
        missed and ours
    )
    return report


def _what_is_left(operation: Operation, holders: set[int], dead: set[int]) -> str:
    """`both`: a replica other than the provider lives, and the provider; `replica`: only the former; or `none`."""
    if not holders - {operation.node}:
        return "none"
    return "replica" if operation.node in dead else "both"


def _found_of(run: dict[str, Any], ids: list[str]) -> dict[str, int]:
    chosen = set(ids)
    results = [result for result in run["results"] if result["id"] in chosen]
    return {"lookups": len(results), "found": sum(result["ok"] for result in results)}


def _first_of_each_node(run: dict[str, Any]) -> dict[str, Any]:
    firsts: dict[int, dict[str, Any]] = {}
    for result in sorted(run["results"], key=lambda result: result["at"]):
        firsts.setdefault(result["node"], result)
    return {"results": list(firsts.values()), "s": run["s"]}


# --- A daemon idle --------------------------------------------------------------------------------------------------


async def idle_daemon(settings: Settings, nodes: int, workers: int, idle_s: float) -> dict[str, Any]:
    """A whole `mediadht run`, its HTTP API on, in a network of `nodes`: what it costs to have it."""
    plan = Plan(settings.seed, nodes - 1, workers)
    settings.say(f"idle daemon: joining a network of {nodes}")
    async with open_fleet("mediadht", plan) as fleet:
        first, ports = fleet.bootstrap_port, free_ports(2)
        with tempfile.TemporaryDirectory(prefix="dhtbench-") as folder:
            command = [
                *(sys.executable, "-m", "mediadht", "run", "--data-dir", str(Path(folder) / "data"), "--json"),
                *("--peer-listen", f"127.0.0.1:{ports[0]}", "--peer-url", f"ws://127.0.0.1:{ports[0]}/"),
                *("--bootstrap", f"ws://127.0.0.1:{first}/", "--api-listen", f"127.0.0.1:{ports[1]}"),
                *("--server-name", "idle.test", "--log-level", "error"),
            ]
            process = await trio.lowlevel.open_process(command, stdout=PIPE, env=os.environ)
            try:
                return await _watched(settings, process, nodes, idle_s)
            finally:
                with trio.CancelScope(shield=True):
                    process.kill()
                    await process.wait()


async def _watched(settings: Settings, process: trio.Process, nodes: int, idle_s: float) -> dict[str, Any]:
    assert process.stdout is not None
    with trio.fail_after(30):
        line = await process.stdout.receive_some(1 << 16)
    if not line:
        raise BenchmarkFault("`mediadht run` ended at once")
    settings.say(f"idle daemon: settling, {settings.settle_s:.0f} s")
    await trio.sleep(settings.settle_s)
    settings.say(f"idle daemon: watched for {idle_s:.0f} s")
    before, started = cpu_of(process.pid), trio.current_time()
    await trio.sleep(idle_s)
    cpu_s, took_s = cpu_of(process.pid) - before, trio.current_time() - started
    memory = psutil.Process(process.pid).memory_full_info()
    return {
        "nodes": nodes,
        "settled_s": settings.settle_s,
        "measured_s": took_s,
        "cpu_percent": 100 * cpu_s / took_s,
        "rss_bytes": memory.rss,
        "pss_bytes": memory.pss,
        "uss_bytes": memory.uss,
        "threads": psutil.Process(process.pid).num_threads(),
        "ready": json.loads(line),
        "wrong": [],
    }
