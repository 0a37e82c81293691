"""A daemon killed at any instant, again and again: whatever it acknowledged is there when it comes back."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import dataclass, field
from typing import Any

import trio
from network_support import Network, Process, StartProcess, config_of, free_port, providers_of, subject, until

from mediadht.core.identifiers import media
from mediadht.daemon.config import DaemonConfig
from mediadht.daemon.daemon import Daemon

ROUNDS = 20
SEED = 2
TASKS = 3


@dataclass
class Acknowledged:
    """What the daemon said it had done, over all its lives."""

    announced: set[str] = field(default_factory=set)
    withdrawn: set[str] = field(default_factory=set)

    def note(self, line: dict[str, str]) -> None:
        match line:
            case {"announced": media_id}:
                self.announced.add(media_id)
            case {"withdrawn": media_id}:
                self.withdrawn.add(media_id)

    def check(self, announcements: list[dict[str, Any]]) -> None:
        """What came back is that, and at most one more a task that was on its way."""
        standing = {each["id"] for each in announcements if not each["withdrawn"]}
        lost = self.announced - self.withdrawn - standing
        unsure = {media_id for media_id in lost if any(each["id"] == media_id for each in announcements)}
        assert lost == unsure, f"lost {lost - unsure}, seed {SEED}"
        assert len(unsure) <= TASKS, "withdrawals on their way, each of its own task"
        assert not standing & self.withdrawn, f"came back {standing & self.withdrawn}, seed {SEED}"
        assert all(each["sources"] == ["api"] for each in announcements if not each["withdrawn"])
        # Whatever was on its way when it was killed is settled now.
        self.announced |= standing
        self.withdrawn |= unsure


async def run_and_kill(process: Process, chance: random.Random, life: int, seen: Acknowledged) -> None:
    """Let it announce for a moment, then kill it; note what it acknowledged until then."""
    process.tell(do="endless", tasks=TASKS, name=f"life-{life}")
    seen.note(await process.line())
    with trio.move_on_after(chance.uniform(0.0, 0.25)):
        while True:
            seen.note(await process.line())
    process.kill()
    for line in process.lines_left():
        seen.note(line)


async def test_killed_again_and_again_nothing_acknowledged_is_lost(
    network: Network, start_process: StartProcess
) -> None:
    await network.grow(3)
    chance, seen = random.Random(SEED), Acknowledged()
    config = config_of(network.folder / "victim", free_port(), network.running[0].config.peer_url)
    process = start_process(config)
    await process.ready()
    await until("its contacts are saved", lambda: saved_contacts(config))
    for life in range(ROUNDS):
        await run_and_kill(process, chance, life, seen)
        if life % 4 == 3:  # killed while it starts
            process = start_process(config)
            with trio.move_on_after(chance.uniform(0.0, 1.5)):
                await trio.sleep_forever()
            process.kill()
        # No bootstrap node any more: it finds its way by the contacts it has saved.
        config = config.model_copy(update={"bootstrap": ()})
        process = start_process(config)
        await process.ready()
        seen.check(await process.ask(do="announcements"))
        await until("it has peers again", lambda p=process: has_sessions(p, 1))
    assert len(seen.announced) > 5 * ROUNDS
    assert len(seen.withdrawn) > ROUNDS
    await until("all of them are told", lambda: told(process), within_s=60, every_s=0.3)
    reader = network.daemons[1]
    for media_id in chance.sample(sorted(seen.announced - seen.withdrawn), 20):
        assert await providers_of(reader, media(media_id)) == {config.server_name}
    for media_id in chance.sample(sorted(seen.withdrawn), 20):
        assert not await providers_of(reader, media(media_id))


async def told(process: Process) -> bool:
    return all(each["replicas"] for each in await process.ask(do="announcements"))


async def has_sessions(process: Process, count: int) -> bool:
    return (await process.ask(do="status"))["sessions"] >= count


def saved_contacts(config: DaemonConfig) -> int:
    connection = sqlite3.connect(f"file:{config.data_dir}/mediadht.sqlite3?mode=ro", uri=True)
    try:
        return connection.execute("SELECT count(*) FROM contacts").fetchone()[0]
    finally:
        connection.close()


async def test_a_killed_peer_is_met_again_when_it_restarts(network: Network, start_process: StartProcess) -> None:
    """The session of the dead one ends; it comes back under the same node ID, and there is one session again."""
    await network.grow(2)
    watcher = network.daemons[1]
    config = config_of(network.folder / "victim", free_port(), network.running[0].config.peer_url)
    process = start_process(config)
    await process.ready()
    await process.ask(do="announce", media=[subject("v").id])
    await until("both see it", lambda: all(peer_named(d, config) for d in network.daemons))
    await until("its contacts are saved", lambda: saved_contacts(config))
    process.kill()
    await until("its session is gone", lambda: not any(peer_named(d, config) for d in network.daemons))
    assert await providers_of(watcher, subject("v")) == {config.server_name}
    process = start_process(config.model_copy(update={"bootstrap": ()}))
    await process.ready()
    await until("both see it again", lambda: all(peer_named(d, config) for d in network.daemons), within_s=30)
    assert await until("it answers", lambda: ping(watcher, config)) < 1.0


def peer_named(daemon: Daemon, config: DaemonConfig) -> bool:
    return any(peer.server_name == config.server_name and peer.session for peer in daemon.peers())


async def ping(daemon: Daemon, config: DaemonConfig) -> float:
    assert config.server_name is not None
    return await daemon.ping(config.server_name)
