"""How fast and how cheap the DHT is: networks of real daemons on loopback, and the `kademlia` package on the same work.

    python benchmarks/dht.py                      everything, about half an hour
    python benchmarks/dht.py --quick              everything small, about three minutes
    python benchmarks/dht.py --nodes 64 --only network --no-baseline

What is measured and how to read it: `docs/benchmarks.md`. Ends with 1 if a part failed or found less than it should;
a figure that misses its target is shown as such and is no failure.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from os import getloadavg
from pathlib import Path
from typing import Any

import click
import trio
from dhtbench.figures import machine
from dhtbench.fleet import BenchmarkFault
from dhtbench.parts import Settings, idle_daemon, kills, network
from dhtbench.report import show
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

PARTS = ("network", "kills", "idle")
WORKERS = 4
KILL_WORKERS = 10
KILL_SHARES = (0.2, 0.5)
KILL_SIGNALS = ("SIGKILL", "SIGSTOP")
QUICK = {"nodes": (16,), "kill_nodes": 20, "operations": 50, "settle": 10.0, "idle": 5.0, "idle_daemon": 10.0}
FULL = {"nodes": (16, 64, 128), "kill_nodes": 128, "operations": 500, "settle": 75.0, "idle": 60.0, "idle_daemon": 60.0}
KADEMLIA_SETTLE_S = 5.0
"""It has no timers of its own that join it further."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--nodes", multiple=True, type=click.IntRange(2), help="Network sizes.  [default: 16, 64, 128]")
@click.option("--operations", type=click.IntRange(16), help="Announces and lookups each.  [default: 500]")
@click.option("--seed", default=1, help="Chooses nodes, keys and who is killed.")
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Run these parts.  [default: all]")
@click.option("--workers", default=WORKERS, type=click.IntRange(1, 64), help="Processes that share the daemons.")
@click.option("--kill-nodes", type=click.IntRange(10), help="Network size of the kill runs.  [default: 128]")
@click.option("--settle", type=float, help="Seconds from the last start to the first measurement.  [default: 75]")
@click.option("--quick", is_flag=True, help="Small networks, few operations, short waits.")
@click.option("--baseline/--no-baseline", default=True, help="Run the kademlia package on the same work.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures there.")
def main(quick: bool, json_file: Path | None, **options: Any) -> None:
    """Measure the DHT on loopback."""
    chosen = (QUICK if quick else FULL) | {name: value for name, value in options.items() if value not in (None, ())}
    chosen["systems"] = ("mediadht", "kademlia") if chosen.pop("baseline") else ("mediadht",)
    console = Console(width=None if Console().is_terminal else 220)
    results: dict[str, Any] = {"machine": machine(), "settings": chosen, "networks": [], "kills": []}
    results |= {"idle_daemon": None, "wrong": [], "loads": []}
    jobs = _jobs(chosen, results)
    console.print(_about(chosen, results["machine"]), highlight=False)
    columns = (
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(jobs))
        for job in jobs:
            _run(job, results, lambda text: progress.update(task, description=text))
            progress.advance(task)
    results["machine"]["load_at_end"] = machine()["load"]
    show(console, results)
    console.print(f"load average before and after each part: {results['loads']}", highlight=False)
    if json_file is not None:
        json_file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(1 if results["wrong"] else 0)


Job = Callable[[Callable[[str], None]], Awaitable[None]]


def _run(job: Job, results: dict[str, Any], say: Callable[[str], None]) -> None:
    """Run one part; what goes wrong in it is noted, and the others still run."""
    load = getloadavg()
    try:
        trio.run(job, say)
    except* (BenchmarkFault, trio.TooSlowError, OSError, AssertionError) as faults:
        results["wrong"] += [f"a part failed: {fault!r}" for fault in faults.exceptions]
    results["loads"].append([load[0], getloadavg()[0]])


def _jobs(chosen: dict[str, Any], results: dict[str, Any]) -> list[Job]:
    """The parts as functions, in their order; each leaves its figures in `results`."""
    only = chosen.get("only", PARTS)

    def settings(system: str, say: Callable[[str], None]) -> Settings:
        settle_s = chosen["settle"] if system == "mediadht" else min(KADEMLIA_SETTLE_S, chosen["settle"])
        return Settings(chosen["seed"], chosen["operations"], settle_s, chosen["idle"], say)

    def keep(name: str, part: dict[str, Any]) -> None:
        results["wrong"] += part.pop("wrong")
        results[name].append(part)

    def network_job(system: str, nodes: int) -> Job:
        async def run(say: Callable[[str], None]) -> None:
            workers = min(chosen["workers"], nodes)
            keep("networks", await network(settings(system, say), system, nodes, workers))

        return run

    def kill_job(system: str, how: str, share: float) -> Job:
        async def run(say: Callable[[str], None]) -> None:
            part = await kills(settings(system, say), system, chosen["kill_nodes"], KILL_WORKERS, how, share)
            keep("kills", part)

        return run

    async def idle_job(say: Callable[[str], None]) -> None:
        part = await idle_daemon(settings("mediadht", say), 16, 3, chosen["idle_daemon"])
        results["wrong"] += part.pop("wrong")
        results["idle_daemon"] = part

    jobs: list[Job] = []
    if "idle" in only:
        jobs.append(idle_job)
    if "network" in only:
        jobs += [network_job(system, nodes) for nodes in chosen["nodes"] for system in chosen["systems"]]
    if "kills" in only:
        jobs += [
            kill_job(system, how, share)
            for how in KILL_SIGNALS
            for share in KILL_SHARES
            for system in chosen["systems"]
        ]
    return jobs


def _about(chosen: dict[str, Any], about: dict[str, Any]) -> str:
    return (
        f"{about['cpu']}, {about['cores']} cores, Python {about['python']}, commit {about['commit']}; seed "
        f"{chosen['seed']}; all on loopback; {chosen['workers']} processes for the daemons of a network, "
        f"{KILL_WORKERS} in the kill runs; mediadht measured {chosen['settle']:.0f} s after the last daemon started, "
        f"kademlia {min(KADEMLIA_SETTLE_S, chosen['settle']):.0f} s"
    )


if __name__ == "__main__":
    main()
