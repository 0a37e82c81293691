"""`mediadht run`: what it composes, says and does at signals, with a fake daemon and fake services."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import mediadht.daemon
import mediadht_bridge.api
import mediadht_bridge.front
import mediadht_bridge.matrix
from mediadht.cli.config import load_configuration
from mediadht.cli.exit_codes import ExitCode
from mediadht.cli.run import run_node
from mediadht.core.errors import EnvironmentFault

NODE = "0f" * 32
Cli = Callable[..., Any]


@dataclass
class Stage:
    """What happened, in order."""

    events: list[str] = field(default_factory=list)
    ready: trio.Event = field(default_factory=trio.Event)
    shutdown: Callable[[], Any] = trio.lowlevel.checkpoint


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Replaces the daemon and all services with ones that only note what happens to them."""
    stage = Stage()
    status = SimpleNamespace(node_id=NODE, server_name="a.example", listening=("127.0.0.1:1",))

    @asynccontextmanager
    async def open_daemon(_config: object) -> AsyncIterator[Any]:
        stage.events.append("daemon opened")
        yield SimpleNamespace(status=lambda: status)
        await stage.shutdown()
        stage.events.append("daemon closed")

    def service(name: str) -> Callable[..., Any]:
        async def serve(
            _dht: object,
            _config: object,
            *,
            task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
        ) -> None:
            stage.events.append(f"{name} started")
            task_status.started((f"http://{name}",))
            try:
                if name == "feed":
                    stage.ready.set()
                await trio.sleep_forever()
            finally:
                stage.events.append(f"{name} ended")

        return serve

    monkeypatch.setattr(mediadht.daemon, "open_daemon", open_daemon, raising=False)
    monkeypatch.setattr(mediadht_bridge.api, "serve_api", service("api"))
    monkeypatch.setattr(mediadht_bridge.front, "serve_front", service("front"))
    monkeypatch.setattr(mediadht_bridge.matrix, "run_room_feed", service("feed"))
    return stage


ENVIRON = {
    "MEDIADHT_SERVER_NAME": "a.example",
    "MEDIADHT_API_LISTEN": "127.0.0.1:0",
    "MEDIADHT_FRONT_VIA_MAX": "3",
    "MEDIADHT_FEED_HOMESERVER_URL": "http://127.0.0.1:8008",
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_services_then_the_daemon(
    stage: Stage, number: signal.Signals, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_node, load_configuration(environ=ENVIRON))
        await stage.ready.wait()
        await wait_all_tasks_blocked()
        os.kill(os.getpid(), number)
    assert stage.events[:4] == ["daemon opened", "api started", "front started", "feed started"]
    assert sorted(stage.events[4:7]) == ["api ended", "feed ended", "front ended"]
    assert stage.events[7:] == ["daemon closed"]
    assert capsys.readouterr().out == f"ready node={NODE} peers=127.0.0.1:1 api=http://api front=http://front\n"
    messages = [record.getMessage() for record in caplog.records]
    assert "listening for the join front on http://front" in messages
    assert messages[-2:] == [f"{number.name}: stopping, at most 10 s", "stopped"]


async def test_the_ready_line_as_json_and_systemd(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: run_node(load_configuration(environ=ENVIRON), as_json=True))
            await stage.ready.wait()
            await wait_all_tasks_blocked()
            assert manager.recv(100) == b"READY=1"
            os.kill(os.getpid(), signal.SIGTERM)
        assert manager.recv(100) == b"STOPPING=1"
    assert json.loads(capsys.readouterr().out) == {
        "event": "ready",
        "node_id": NODE,
        "server_name": "a.example",
        "peers": ["127.0.0.1:1"],
        "api": ["http://api"],
        "front": ["http://front"],
    }


async def test_sighup_is_ignored(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_node, load_configuration(environ=ENVIRON))
        await stage.ready.wait()
        os.kill(os.getpid(), signal.SIGHUP)
        await wait_all_tasks_blocked(0.01)
        assert "api ended" not in stage.events
        os.kill(os.getpid(), signal.SIGTERM)
    assert "SIGHUP is ignored: restart for a new configuration" in [record.getMessage() for record in caplog.records]


async def test_a_shutdown_that_hangs_is_cut_short(
    stage: Stage, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    stage.shutdown = trio.sleep_forever
    start_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_node, load_configuration(environ=ENVIRON))
        await stage.ready.wait()
        os.kill(os.getpid(), signal.SIGTERM)
    assert 10.0 <= trio.current_time() - start_s < 20.0
    assert "was cut short" in caplog.text


async def test_what_cannot_start_ends_the_rest(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise EnvironmentFault("taken")

    monkeypatch.setattr(mediadht_bridge.front, "serve_front", refuse)
    with pytest.RaisesGroup(EnvironmentFault, flatten_subgroups=True):
        await run_node(load_configuration(environ=ENVIRON))
    assert stage.events == ["daemon opened", "api started", "api ended"]


def test_an_open_token_file_is_known_before_anything_starts(cli: Cli, stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef")
    (tmp_path / "token").chmod(0o644)
    (tmp_path / "x.toml").write_text(f'[api]\ntoken_file = "{tmp_path / "token"}"\n')
    for words in (["run"], ["run", "--check"]):
        told = cli(*words, "--config", tmp_path / "x.toml")
        assert (told.code, told.out) == (ExitCode.CONFIGURATION, "")
        assert "is open to everybody on this machine: chmod o=" in told.err
    assert stage.events == []


_HANGING = """
import sys
from contextlib import asynccontextmanager
from types import SimpleNamespace
import trio
import mediadht.daemon
import mediadht_bridge.api
from mediadht.cli.main import main

@asynccontextmanager
async def open_daemon(config):
    yield SimpleNamespace(status=lambda: SimpleNamespace(node_id="x", server_name=None, listening=()))
    print("closing", flush=True)
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()

async def serve_api(dht, config, *, task_status):
    task_status.started(())
    await trio.sleep_forever()

mediadht.daemon.open_daemon = open_daemon
mediadht_bridge.api.serve_api = serve_api
assert "rich" not in sys.modules
sys.exit(main(["run", "--api-listen", "127.0.0.1:0"]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HANGING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline().startswith("ready ")
        run.send_signal(number)
        assert run.stdout.readline() == "closing\n"
        run.send_signal(number)
        _, err = run.communicate(timeout=30)
    assert run.returncode == -number
    assert f"{number.name} again: ending at once" in err


def test_run_imports_neither_rich_nor_the_demo() -> None:
    script = (
        "import sys; from mediadht.cli.main import main; main(['run', '--check']); "
        "import mediadht.cli.run, mediadht.daemon; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'rich', 'pygments', 'pytest', 'kademlia'}), "
        "'mediadht.cli.demo' in sys.modules)"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MEDIADHT_")}
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environ)
    assert told.stdout.splitlines()[-1] == "[] False"
