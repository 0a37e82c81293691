"""Everything that takes part in the story, and how it is set up and taken down.

Two Synapse servers, A and B, each with a daemon beside it; three daemons, C, D and E, of other servers, of which
nothing but the name exists. All bootstrap through A. Whoever opens the stage owns every process through `Children`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from mediadht.cli.demo.children import Children, Processes
from mediadht.cli.demo.daemons import Beside, Daemon
from mediadht.cli.demo.homeservers import Homeserver, start_homeservers
from mediadht.cli.demo.matrix import User
from mediadht.cli.demo.report import StepFailed, Told
from mediadht.cli.demo.sample import Sample
from mediadht.cli.demo.waiting import all_at_once, eventually

__all__ = ["PROCESSES", "Stage", "set_up", "take_down"]

OTHER_SERVERS: Final = {"C": "media.carol.example", "D": "matrix.dave.test", "E": "erin.invalid"}
"""Of three registrable domains, under top-level names that are reserved (RFC 2606) and so resolve nowhere."""

PROCESSES: Final = 7

Advance = Callable[[str], None]
"""Told each process that is up."""


@dataclass(eq=False)
class Stage:
    """The players. `room_id` is set by the step that makes the room."""

    homeservers: dict[str, Homeserver]
    daemons: dict[str, Daemon]
    alice: User
    bob: User
    sample: Sample
    room_id: str = ""

    def told(self) -> Told:
        """Who takes part."""
        names = {letter: daemon.server_name for letter, daemon in self.daemons.items()}
        beside = [f"{letter} ({names[letter]})" for letter in self.homeservers]
        alone = [f"{letter} ({name})" for letter, name in names.items() if letter not in self.homeservers]
        return Told(
            (
                f"{' and '.join(beside)} are real Synapse servers that federate, each with a daemon beside it",
                f"{', '.join(alone)} are daemons of servers that exist by name only",
            ),
            {"server_names": names, "homeservers": list(self.homeservers)},
        )


async def set_up(processes: Processes, folder: Path, sample: Sample, advance: Advance) -> Stage:
    """Start everything and wait until each daemon is ready and knows all others. Raises EnvironmentFault."""
    first, second = await start_homeservers(processes, 2, folder / "homeservers")
    advance("Synapse A")
    advance("Synapse B")
    homeservers = {"A": first, "B": second}
    daemons = {
        letter: Daemon.plan(
            letter, server.server_name, folder=folder, processes=processes, beside=await _admin_of(server)
        )
        for letter, server in homeservers.items()
    } | {
        letter: Daemon.plan(letter, server_name, folder=folder, processes=processes)
        for letter, server_name in OTHER_SERVERS.items()
    }
    await daemons["A"].start()
    advance("daemon A")
    others = [daemon for letter, daemon in daemons.items() if letter != "A"]
    await all_at_once(*(partial(_join_network, daemon, daemons["A"], advance) for daemon in others))
    await all_at_once(*(partial(_acquaint, daemon, len(others)) for daemon in daemons.values()))
    alice, bob = await first.register_user("alice"), await second.register_user("bob")
    return Stage(homeservers, daemons, alice, bob, sample)


async def _admin_of(homeserver: Homeserver) -> Beside:
    admin = await homeserver.register_user("admin", admin=True)
    return Beside(homeserver.client_url, admin.access_token)


async def _join_network(daemon: Daemon, through: Daemon, advance: Advance) -> None:
    await daemon.start(bootstrap=[through.peer_url])
    advance(f"daemon {daemon.letter}")


async def _acquaint(daemon: Daemon, others: int) -> None:
    await daemon.wait_ready()

    async def look() -> bool | None:
        return True if (await daemon.status())["known_contacts"] >= others else None

    await eventually(look, f"daemon {daemon.letter} did not come to know all {others} others (log: {daemon.log_path})")


async def take_down(stage: Stage, children: Children) -> Told:
    """Stop everything in order. Raises StepFailed if a daemon had to be killed, or ended with a fault."""
    late: list[str] = []

    async def end(daemon: Daemon) -> None:
        if not await daemon.stop():
            late.append(f"daemon {daemon.letter} did not end within its time and was killed: {daemon.log_path}")
        elif daemon.exit_code:
            late.append(f"daemon {daemon.letter} ended with exit code {daemon.exit_code}: {daemon.log_path}")

    await all_at_once(*(partial(end, daemon) for daemon in stage.daemons.values()))
    await all_at_once(*(homeserver.stop for homeserver in stage.homeservers.values()))
    if late:
        raise StepFailed("; ".join(sorted(late)))
    left = [child.name for child in children.running]
    if left:
        raise StepFailed(f"still running: {', '.join(left)}")
    started = len(children.started)
    return Told((f"all {started} processes that were started have ended",), {"processes_started": started, "left": 0})
