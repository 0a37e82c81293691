"""What the worker processes of every system have in common: lines of JSON in and out, and the process's own figures.

One command at a time: `{"do": name, ...}` is answered with `{"ok": result}` or `{"fault": traceback}`. A worker ends
when its standard input does.
"""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import psutil

__all__ = ["answered", "freeze", "process_figures", "sliced"]


async def answered(line: bytes, commands: dict[str, Callable[..., Awaitable[Any]]]) -> bytes:
    """Run the command in `line`; the reply's line."""
    try:
        command = json.loads(line)
        reply = {"ok": await commands[command.pop("do")](**command)}
    except Exception:  # noqa: BLE001 - the boundary of a worker: the parent shows it and ends the part
        reply = {"fault": traceback.format_exc()}
    return json.dumps(reply).encode() + b"\n"


def freeze() -> None:
    """Take what lives now out of the garbage collector's sight.

    32 nodes in one process make a heap that no node has by itself, and a pass over it takes half a second: what it
    costs is the arrangement's, not the system's. What is allocated from now on is collected as ever.
    """
    gc.collect()
    gc.freeze()


def process_figures() -> dict[str, float]:
    """CPU seconds of all threads since the start, and memory that is this process's alone."""
    memory = psutil.Process().memory_full_info()
    return {"cpu_s": time.process_time(), "uss_bytes": memory.uss, "rss_bytes": memory.rss}


def sliced(operations: list[Any], at_once: int) -> list[list[Any]]:
    """The operations dealt to `at_once` hands."""
    return [operations[start::at_once] for start in range(min(at_once, len(operations)))]
