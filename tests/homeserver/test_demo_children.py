"""No process outlives its owner, and what goes wrong with one is said with its log."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import trio

from mediadht.cli.demo.children import Child, Children, LoopbackPorts, tail_of
from mediadht.cli.demo.homeservers import homeserver_cluster, require_synapse
from mediadht.core.errors import EnvironmentFault

SLEEPER = [sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('awake', flush=True); time.sleep(600)",
]


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def wait_awake(child: Child) -> None:
    async def awake() -> bool:
        return "awake" in child.log_path.read_text()

    await child.wait_until(awake, deadline_s=30, what_to_do="")


async def test_leaving_the_block_kills_whatever_runs(tmp_path: Path) -> None:
    with Children() as children:
        first = children.start("first", SLEEPER, tmp_path / "first.log")
        second = children.start("second", STUBBORN, tmp_path / "second.log")
        assert children.running == [first, second]
    assert not children.running
    assert not is_alive(first.pid)
    assert not is_alive(second.pid)


async def test_cancellation_kills_too(tmp_path: Path) -> None:
    with trio.CancelScope() as scope, Children() as children:
        child = children.start("sleeper", SLEEPER, tmp_path / "log")
        await wait_awake(child)
        scope.cancel()
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not is_alive(child.pid)


async def test_stop_asks_first_and_then_insists(tmp_path: Path) -> None:
    with Children() as children:
        polite = children.start("polite", SLEEPER, tmp_path / "polite.log")
        stubborn = children.start("stubborn", STUBBORN, tmp_path / "stubborn.log")
        await wait_awake(polite)
        await wait_awake(stubborn)
        assert await polite.stop(30)
        assert polite.exit_code == -signal.SIGTERM
        assert not await stubborn.stop(0.1)
        assert stubborn.exit_code == -signal.SIGKILL
        assert await stubborn.stop(0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG exists on Linux only")
def test_children_die_with_an_owner_that_was_killed(tmp_path: Path) -> None:
    owner = f"""
import pathlib, sys, time
from mediadht.cli.demo.children import Children
with Children() as children:
    print(children.start("orphan", {SLEEPER!r}, pathlib.Path({str(tmp_path / "log")!r})).pid, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        orphan = int(process.stdout.readline())
        assert is_alive(orphan)
        process.kill()
    deadline = time.monotonic() + 10
    while is_alive(orphan):
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_a_process_that_ends_early_is_reported_with_its_log(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    with Children() as children:
        broken = children.start(
            "broken", [sys.executable, "-c", "raise SystemExit('the disk is on fire')"], tmp_path / "log"
        )
        with pytest.raises(EnvironmentFault) as fault:
            await broken.wait_until(never, deadline_s=30, what_to_do="Call the fire brigade.")
        slow = children.start("slow", SLEEPER, tmp_path / "slow.log")
        with pytest.raises(EnvironmentFault, match=r"slow did not answer within 0\.05 s"):
            await slow.wait_until(never, deadline_s=0.05, what_to_do="")
    for part in ("broken ended with exit code 1", "the disk is on fire", str(tmp_path / "log"), "fire brigade"):
        assert part in str(fault.value)


async def test_a_command_that_is_not_there_is_an_environment_fault(tmp_path: Path) -> None:
    with Children() as children, pytest.raises(EnvironmentFault, match="could not be started"):
        children.start("nothing", SLEEPER, tmp_path / "no" / "such" / "folder")


async def test_settings_of_the_callers_own_daemon_do_not_reach_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDIADHT_SERVER_NAME", "mine.example")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    show = "import os; print('awake', sorted(k for k in os.environ if 'MEDIADHT' in k or 'PROXY' in k.upper()))"
    with Children() as children:
        child = children.start("shows", [sys.executable, "-c", show], tmp_path / "log")
        with trio.fail_after(30):
            while child.running:
                await trio.sleep(0.01)
    assert child.log_path.read_text() == "awake []\n"


def test_a_reserved_port_is_ours_alone() -> None:
    with LoopbackPorts() as ports:
        port = ports.reserve()
        assert port != ports.reserve()
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port))
        for _ in range(2):  # a child that listens, is killed, and listens again
            with socket.create_server(("127.0.0.1", port)) as listener:
                with socket.create_connection(("127.0.0.1", port)), listener.accept()[0] as accepted:
                    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert "No such file" in tail_of(log)
    log.write_text("")
    assert tail_of(log) == "    (it is empty)"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert tail_of(log, 2) == "    line 9998\n    line 9999"


def test_without_synapse_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediadht.cli.demo.homeservers.find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'mediadht\[homeserver\]'"):
        require_synapse()


@pytest.mark.homeserver
async def test_a_homeserver_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("synapse", reason="matrix-synapse is not installed: pip install -e '.[homeserver]'")
    monkeypatch.setattr("mediadht.cli.demo.synapse_config._limits", lambda: {"max_upload_size": "as fast as light"})
    before = {child.pid for child in psutil.Process(os.getpid()).children()}
    with pytest.raises(EnvironmentFault) as fault:
        async with homeserver_cluster(2, tmp_path / "cluster"):
            pytest.fail("it started")
    for part in ("Synapse localhost:", "ended with exit code", "as fast as light", "homeserver.log"):
        assert part in str(fault.value)
    assert {child.pid for child in psutil.Process(os.getpid()).children()} <= before


@pytest.mark.homeserver
async def test_a_homeserver_comes_back_after_a_kill(tmp_path: Path) -> None:
    pytest.importorskip("synapse", reason="matrix-synapse is not installed: pip install -e '.[homeserver]'")
    async with homeserver_cluster(1, tmp_path / "cluster") as (server,):
        user = await server.register_user("alice", admin=True)
        room_id = await user.create_room(name="hall")
        server.kill()
        assert not server.running
        await server.start()
        assert await user.joined_rooms() == [room_id]
        folder_modes = [path.stat().st_mode & 0o077 for path in (server.plan.folder, server.config_path)]
        assert folder_modes == [0, 0]
    assert not server.running
