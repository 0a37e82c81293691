"""Everything real: the demo as a user starts it, and a join through the front of a daemon whose peers are all dead."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from mediadht.cli.demo import Step, run_demo
from mediadht.cli.demo.children import Processes
from mediadht.cli.demo.daemons import Beside, Daemon
from mediadht.cli.demo.homeservers import Homeserver
from mediadht.cli.demo.matrix import Refusal, User
from mediadht.cli.demo.story import STORY
from mediadht.cli.demo.waiting import all_at_once, eventually

pytestmark = pytest.mark.homeserver

Cluster = list[Homeserver]
Fresh = Callable[[str], str]
LOOKUP_DEADLINE_S = 2.0
"""The front's default: what a DHT that does not answer may cost a join."""


def descendants(of: int | None = None) -> set[int]:
    return {child.pid for child in psutil.Process(of).children(recursive=True)}


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_the_whole_story_with_a_file_of_ones_own(tmp_path: Path) -> None:
    pytest.importorskip("synapse")
    file = tmp_path / "holiday photo.bin"
    file.write_bytes(os.urandom(300_000))
    before = descendants()
    screen, emitted = io.StringIO(), list[Step]()
    report = await run_demo(file, console=Console(file=screen, width=120), emit=emitted.append)
    assert report.ok, f"{report.failure}\n{screen.getvalue()}"
    assert len(report.steps) == len(STORY) + 2 == len(emitted)
    facts = {step.title: step.facts for step in report.steps}
    found = facts["A file announced on C is found from D"]
    assert found["media_id"] == f"sha256.{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert sorted(found["servers"]) == ["erin.invalid", "media.carol.example"]  # type: ignore[call-overload]
    assert facts["The stock join by bare room ID fails"]["status"] == 404
    assert facts["The same join through the front succeeds"]["via"]
    assert "Done in" in screen.getvalue()
    assert descendants() <= before
    assert report.folder is None


@pytest.mark.parametrize("interrupt_after_steps", [0, 3])
def test_ctrl_c_leaves_nothing(tmp_path: Path, interrupt_after_steps: int) -> None:
    pytest.importorskip("synapse")
    with subprocess.Popen(
        [sys.executable, "-m", "mediadht", "demo", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as demo:
        assert demo.stdout is not None
        for _ in range(interrupt_after_steps):
            assert json.loads(demo.stdout.readline())["step"]
        while len(descendants(demo.pid)) < 2:
            time.sleep(0.05)
        started = descendants(demo.pid)
        demo.send_signal(signal.SIGINT)
        _, told = demo.communicate(timeout=60)
    assert demo.returncode == 130, told
    assert told.splitlines()[-1] == "mediadht: interrupted"
    assert not [pid for pid in started if is_alive(pid)]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes() as processes:
        yield processes


async def lonely_front(processes: Processes, homeserver: Homeserver, admin: User, folder: Path, how: int) -> Daemon:
    """A daemon beside `homeserver` that knew two peers, all of which have just been sent the signal `how`."""
    peers = [
        Daemon.plan(letter, f"{letter.lower()}.example", folder=folder, processes=processes) for letter in ("P", "Q")
    ]
    daemon = Daemon.plan(
        "A",
        homeserver.server_name,
        folder=folder,
        processes=processes,
        beside=Beside(homeserver.client_url, admin.access_token),
    )
    await daemon.start()
    await all_at_once(*(partial(peer.start, [daemon.peer_url]) for peer in peers))

    async def both_are_known() -> bool | None:
        return True if (await daemon.status())["sessions"] == 2 else None

    await eventually(both_are_known, "the peers did not come")
    for child in processes.children.running:
        if child.name.startswith(("daemon P", "daemon Q")):
            os.killpg(child.pid, how)
    return daemon


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_with_all_peers_dead_joins_go_as_without_us(
    cluster: Cluster, fresh_name: Fresh, processes: Processes, tmp_path: Path, how: int
) -> None:
    first, second = cluster
    admin = await second.register_user(fresh_name("admin"), admin=True)
    alice = await first.register_user(fresh_name("alice"))
    bob = await second.register_user(fresh_name("bob"))
    room_id = await alice.create_room(name="hall")
    daemon = await lonely_front(processes, second, admin, tmp_path, how)

    with pytest.raises(Refusal) as stock:
        await bob.join(room_id)
    began_s = time.perf_counter()
    with pytest.raises(Refusal) as through_front:
        await bob.join(room_id, base_url=daemon.front_url)
    took_s = time.perf_counter() - began_s
    assert str(through_front.value) == str(stock.value)
    assert took_s < LOOKUP_DEADLINE_S + 2.0

    joined = await bob.join(room_id, via=[first.server_name], base_url=daemon.front_url)
    assert joined.room_id == room_id
    assert joined.duration_s < LOOKUP_DEADLINE_S + 5.0
    assert await bob.joined_rooms() == [room_id]
