"""Figures from results: percentiles, shares per operation, and what the machine is."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

__all__ = ["cpu_of", "machine", "percentile", "summary_of_announces", "summary_of_lookups"]

_PACKAGES = ("mediadht", "trio", "trio-websocket", "wsproto", "msgpack", "PyNaCl", "kademlia", "rpcudp")


def percentile(values: list[float], share: float) -> float | None:
    """The smallest value that is not exceeded by `share` of all (nearest rank); None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def _milliseconds(seconds: list[float], share: float) -> float | None:
    found = percentile(seconds, share)
    return None if found is None else 1000 * found


def summary_of_announces(run: dict[str, Any]) -> dict[str, Any]:
    """Times, speed and replicas of a run of announces."""
    results = run["results"]
    took = [r["s"] for r in results if r["ok"]]
    durable = [r["durable_s"] for r in results if r["durable_s"] is not None]
    replicas = [r["replicas"] for r in results if r["replicas"] is not None]
    return {
        "operations": len(results),
        "failed": sum(not r["ok"] for r in results),
        "p50_ms": _milliseconds(took, 0.5),
        "p99_ms": _milliseconds(took, 0.99),
        "durable_p50_ms": _milliseconds(durable, 0.5),
        "per_s": len(results) / run["s"],
        "replicas_min": min(replicas, default=None),
        "replicas_p50": percentile(replicas, 0.5),
    }


def summary_of_lookups(run: dict[str, Any]) -> dict[str, Any]:
    """Times, speed and requests of a run of lookups; `asked_` figures leave out what the node held itself."""
    results = run["results"]
    found = [r for r in results if r["ok"]]
    asked = [r for r in found if not r["own"]]
    requests = [r["requests"] for r in asked if r["requests"] is not None]
    return {
        "operations": len(results),
        "failed": len(results) - len(found),
        "p50_ms": _milliseconds([r["s"] for r in found], 0.5),
        "p99_ms": _milliseconds([r["s"] for r in found], 0.99),
        "first_p50_ms": _milliseconds([r["first_s"] for r in found], 0.5),
        "first_p99_ms": _milliseconds([r["first_s"] for r in found], 0.99),
        "asked": len(asked),
        "asked_p50_ms": _milliseconds([r["s"] for r in asked], 0.5),
        "asked_p99_ms": _milliseconds([r["s"] for r in asked], 0.99),
        "asked_first_p50_ms": _milliseconds([r["first_s"] for r in asked], 0.5),
        "asked_first_p99_ms": _milliseconds([r["first_s"] for r in asked], 0.99),
        "requests_p50": percentile(requests, 0.5),
        "requests_max": max(requests, default=None),
        "per_s": len(results) / run["s"],
    }


def cpu_of(pid: int) -> float:
    """CPU seconds, user and system, of all threads that a process has or had, to the nanosecond (Linux)."""
    return time.clock_gettime((~pid << 3) | 2)


def machine() -> dict[str, Any]:
    """Where and with what this ran."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load": os.getloadavg(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor()


def _commit() -> str | None:
    command = ["git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty"]  # noqa: PTH120
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
