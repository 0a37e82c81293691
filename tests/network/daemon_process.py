"""Daemons in a process of their own, for tests that kill it. Commands come as JSON lines, answers go as JSON lines.

`announce` with `endless` announces one ID after the other, as fast as it can, and writes each down once it is
acknowledged; every third of them it withdraws again, and writes that down too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import trio

from mediadht.core.errors import MediaDHTError
from mediadht.core.identifiers import media
from mediadht.daemon import open_daemon
from mediadht.daemon.config import DaemonConfig
from mediadht.daemon.daemon import Daemon
from mediadht.daemon.face import Announce


def say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def obey(daemons: list[Daemon], command: dict[str, Any], nursery: trio.Nursery) -> None:
    daemon = daemons[command.get("node", 0)]
    subjects = [media(each) for each in command.get("media", ())]
    match command["do"]:
        case "announce":
            shown = await daemon.announce([Announce(each, "api") for each in subjects])
            say([each.replicas for each in shown])
        case "withdraw":
            say([each.id for each in await daemon.withdraw(subjects)])
        case "endless":
            for seed in range(command["tasks"]):
                nursery.start_soon(endless, daemon, f"{command['name']}-{seed}")
        case "announcements":
            say(
                [
                    {"id": a.subject.id, "withdrawn": a.withdrawn, "replicas": a.replicas, "sources": sorted(a.sources)}
                    for a in daemon.announcements()
                ]
            )
        case "status":
            status = daemon.status()
            say(
                {
                    "sessions": status.sessions,
                    "table": status.table_contacts,
                    "warnings": status.warnings,
                    "clock_offset_s": status.clock_offset_s,
                    "troubles": [a.trouble for a in daemon.announcements()],
                }
            )
        case "lookup":
            found = {}
            for each in subjects:
                async with daemon.lookup(each) as lookup:
                    found[each.id] = [provider.server_name async for provider in lookup]
            say(found)


async def endless(daemon: Daemon, name: str) -> None:
    """Announce for ever; what is written out was acknowledged before."""
    number = 0
    while True:
        number += 1
        each = media("sha256." + hashlib.sha256(f"{name}-{number}".encode()).hexdigest())
        await daemon.announce([Announce(each, "api")])
        say({"announced": each.id})
        if number % 3 == 0:
            await daemon.withdraw([each])
            say({"withdrawn": each.id})


async def read_commands(daemons: list[Daemon]) -> None:
    buffer = b""
    async with trio.open_nursery() as nursery:
        stream = trio.lowlevel.FdStream(0)
        while piece := await stream.receive_some():
            buffer += piece
            while b"\n" in buffer:
                line, _, buffer = buffer.partition(b"\n")
                await obey(daemons, json.loads(line), nursery)
        nursery.cancel_scope.cancel()


async def main() -> None:
    told = json.loads(sys.argv[1])
    if told["clock_offset_s"]:
        real, offset_s = time.time, told["clock_offset_s"]
        time.time = lambda: real() + offset_s
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    async with AsyncExitStack() as stack:
        daemons = [await stack.enter_async_context(open_daemon(DaemonConfig(**c))) for c in told["configs"]]
        say({"ready": True})
        await read_commands(daemons)


if __name__ == "__main__":
    try:
        trio.run(main)
    except* MediaDHTError as faults:
        sys.exit(str(faults.exceptions[0]))
