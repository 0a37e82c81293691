"""The demo's steps, played by fakes: what each tells when it comes out, and what it says when it does not."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from rich.console import Console

from mediadht.cli.demo import run, story, waiting
from mediadht.cli.demo.children import Processes
from mediadht.cli.demo.daemons import Beside, Daemon, Found, Server
from mediadht.cli.demo.matrix import Joined, Refusal
from mediadht.cli.demo.report import DemoReport, StepFailed, Told
from mediadht.cli.demo.run import Teller, run_demo
from mediadht.cli.demo.sample import take_sample
from mediadht.cli.demo.stage import Stage, take_down
from mediadht.core.errors import EnvironmentFault


@dataclass
class FakeNetwork:
    """What all fake daemons see: who announces what, and who is alive."""

    announced: dict[str, list[str]] = field(default_factory=dict)
    alive: set[str] = field(default_factory=set)
    rooms: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class FakeDaemon:
    letter: str
    network: FakeNetwork
    forgets_at_kill: bool = False
    ends_with: int = 0
    log_path: Path = Path("/logs/daemon.log")
    front_url: str = "front"

    @property
    def server_name(self) -> str:
        return f"{self.letter.lower()}.example"

    @property
    def exit_code(self) -> int:
        return self.ends_with

    def _found(self, names: list[str]) -> Found:
        ordered = sorted(names, key=lambda name: name not in self.network.alive)
        return Found(tuple(Server(name, 0.5, time.time() + 48 * 3600) for name in ordered), 4, 0.001)

    async def find_media(self, media_id: str) -> Found:
        await trio.lowlevel.checkpoint()
        return self._found(self.network.announced.get(media_id, []))

    async def via(self, room_id: str) -> Found:
        await trio.lowlevel.checkpoint()
        where = self.network.announced if room_id.startswith("!sha256.") else self.network.rooms
        return self._found(where.get(room_id.removeprefix("!") if where is self.network.announced else room_id, []))

    async def seed(self, media_id: str) -> None:
        self.network.announced.setdefault(media_id, []).append(self.server_name)

    async def seeding(self, media_id: str) -> dict[str, Any] | None:
        announced = self.server_name in self.network.announced.get(media_id, [])
        return {"state": "stored", "replicas": 5} if announced else None

    async def stop_seeding(self, media_id: str) -> None:
        self.network.announced[media_id].remove(self.server_name)

    async def ping(self, server_name: str) -> float | None:
        await trio.lowlevel.checkpoint()
        return 0.4 if server_name in self.network.alive else None

    def kill(self) -> None:
        self.network.alive.remove(self.server_name)
        if self.forgets_at_kill:
            for names in self.network.announced.values():
                names.remove(self.server_name)

    async def start(self) -> float:
        self.network.alive.add(self.server_name)
        return 0.1

    async def wait_ready(self) -> float:
        return 0.2

    async def status(self) -> dict[str, Any]:
        return {"sessions": 4, "known_contacts": 4}

    async def stop(self) -> bool:
        return self.ends_with != -9


@dataclass
class FakeUser:
    user_id: str
    network: FakeNetwork
    texts_sent: list[str]
    stock: Refusal | None = field(
        default_factory=lambda: Refusal(404, "M_UNKNOWN", "Can't join remote room because no servers")
    )
    front: Refusal | None = None

    async def create_room(self, *, name: str) -> str:
        self.network.rooms["!hall"] = ["a.example"]
        return "!hall"

    async def join(self, room_id: str, *, base_url: str | None = None) -> Joined:
        refusal = self.stock if base_url is None else self.front
        if refusal is not None:
            raise refusal
        return Joined(room_id, 0.2)

    async def send(self, room_id: str, text: str, *, transaction: str) -> str:
        self.texts_sent.append(text)
        return "$event"

    async def texts(self, room_id: str) -> list[str]:
        await trio.lowlevel.checkpoint()
        return self.texts_sent


@dataclass
class FakeHomeserver:
    server_name: str

    async def stop(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.fixture
async def stage(tmp_path: Path) -> Stage:
    network = FakeNetwork(alive={f"{letter}.example" for letter in "abcde"})
    texts: list[str] = []
    return Stage(
        homeservers=cast(Any, {letter: FakeHomeserver(f"{letter.lower()}.example") for letter in "AB"}),
        daemons=cast(Any, {letter: FakeDaemon(letter, network) for letter in "ABCDE"}),
        alice=cast(Any, FakeUser("@alice:a.example", network, texts)),
        bob=cast(Any, FakeUser("@bob:b.example", network, texts)),
        sample=await take_sample(None, tmp_path),
    )


async def play(stage: Stage, until: Callable[[Stage], Awaitable[Told]] | None = None) -> list[Told]:
    told = []
    for _, deed in story.STORY:
        told.append(await deed(stage))
        if deed is until:
            break
    return told


async def test_the_whole_story(stage: Stage) -> None:
    told = await play(stage)
    facts = [dict(part.facts) for part in told]
    assert facts[0]["via"] == ["a.example"]
    assert facts[1]["status"] == 404
    assert facts[2]["via"] == ["a.example"]
    assert facts[3]["servers"] == ["c.example", "e.example"]
    assert facts[4]["servers_ranked"] == ["e.example", "c.example"]
    assert facts[4]["dead_record_expires_in_h"] == pytest.approx(48, abs=0.1)
    assert facts[5]["state"] == "stored"
    assert facts[6]["servers"] == ["c.example"]
    json.dumps(facts)
    assert all(part.lines and all("\n" not in line for line in part.lines) for part in told)


async def expect_failure(stage: Stage, *parts: str) -> None:
    with pytest.raises(StepFailed) as failure:
        await play(stage)
    for part in parts:
        assert part in str(failure.value)


async def test_a_feed_that_announces_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def blind(self: FakeDaemon, room_id: str) -> Found:
        await trio.lowlevel.checkpoint()
        return Found((), 4, 0.001)

    monkeypatch.setattr(waiting, "EVENTUALLY_S", 0.01)
    monkeypatch.setattr(FakeDaemon, "via", blind)
    await expect_failure(stage, "daemon B did not learn", "room feed did not announce", "daemon.log", "within 0.01 s")


@pytest.mark.parametrize(
    ("stock", "why"), [(None, "succeeded"), (Refusal(403, "M_FORBIDDEN", "You are not invited"), "403 M_FORBIDDEN")]
)
async def test_a_stock_join_that_does_not_fail_as_known(stage: Stage, stock: Refusal | None, why: str) -> None:
    cast(FakeUser, stage.bob).stock = stock
    await expect_failure(stage, "the stock join", why)


async def test_a_front_that_does_not_help(stage: Stage) -> None:
    cast(FakeUser, stage.bob).front = Refusal(502, "M_UNKNOWN", "Bad gateway")
    await expect_failure(stage, "daemon B's front failed", "502 M_UNKNOWN: Bad gateway", "a.example", "daemon.log")


async def test_a_record_that_dies_with_its_daemon(stage: Stage) -> None:
    cast(FakeDaemon, stage.daemons["C"]).forgets_at_kill = True
    await expect_failure(stage, "D must still find C's record")


async def test_a_daemon_that_forgets_its_announcement(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(self: FakeDaemon, media_id: str) -> None:
        return None

    monkeypatch.setattr(FakeDaemon, "seeding", none)
    await expect_failure(stage, "without its announcement")


async def test_taking_down_names_those_that_ended_badly(stage: Stage) -> None:
    with Processes() as processes:
        assert (await take_down(stage, processes.children)).facts == {"processes_started": 0, "left": 0}
        cast(FakeDaemon, stage.daemons["C"]).ends_with = -9
        cast(FakeDaemon, stage.daemons["E"]).ends_with = 70
        with pytest.raises(StepFailed, match=r"daemon C did not end .* daemon E ended with exit code 70"):
            await take_down(stage, processes.children)


async def test_a_step_is_numbered_timed_printed_and_emitted() -> None:
    out, emitted = io.StringIO(), []
    teller = Teller(Console(file=out, width=60), emitted.append)

    async def deed() -> Told:
        teller.advance("a part [1]")
        return Told(("a long line of text with [brackets] that must not be wrapped, whatever the width is",), {"n": 1})

    await teller.tell("It works [really]", deed, parts=1)
    await teller.tell("And again", deed)
    text = out.getvalue()
    assert "✓ 1. It works [really] (0.0 s)\n     a long line of text with [brackets] that must not be wrapped, " in text
    assert "✓ 2. And again" in text
    assert [step.as_dict()["step"] for step in emitted] == [1, 2]
    assert json.loads(json.dumps(emitted[0].as_dict()))["facts"] == {"n": 1}


async def test_a_step_that_fails_is_named() -> None:
    out = io.StringIO()
    teller = Teller(Console(file=out))

    async def deed() -> Told:
        raise EnvironmentFault("the port is taken: stop the other program")

    with pytest.raises(StepFailed, match=r"step 1 \(Ports\) failed: the port is taken"):
        await teller.tell("Ports", deed)
    assert "✗ 1. Ports" in out.getvalue()


async def test_without_a_file_the_picture_is_a_png_and_always_the_same(tmp_path: Path) -> None:
    sample = await take_sample(None, tmp_path)
    content = sample.path.read_bytes()
    assert sample == await take_sample(sample.path, tmp_path)
    assert sample.size_bytes == len(content)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    position, kinds = 8, []
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        body = content[position + 4 : position + 8 + length]
        kinds.append(body[:4])
        assert struct.unpack_from(">I", content, position + 8 + length) == (zlib.crc32(body),)
        position += 12 + length
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


def quiet() -> Console:
    return Console(file=io.StringIO())


async def test_a_file_that_cannot_be_read_is_told_and_nothing_starts(tmp_path: Path) -> None:
    report = await run_demo(tmp_path / "missing.bin", console=quiet(), folder=tmp_path / "demo")
    assert not report.ok
    assert report.steps == ()
    with pytest.raises(EnvironmentFault, match=r"missing\.bin cannot be read .*No such file"):
        report.raise_for_failure()


async def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    report = await run_demo(None, console=quiet(), folder=tmp_path)
    assert report.failure is not None
    assert "is not empty" in report.failure


def stage_that(deed: Callable[[], Awaitable[Stage]]) -> Callable[..., Awaitable[Stage]]:
    async def set_up(*arguments: object) -> Stage:
        return await deed()

    return set_up


@pytest.fixture
def demo_of(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[DemoReport]]:
    async def ready() -> Stage:
        return stage

    monkeypatch.setattr(run, "require_synapse", lambda: None)
    monkeypatch.setattr(run, "set_up", stage_that(ready))
    return partial(run_demo, None, console=quiet())


async def test_a_run_removes_its_folder_unless_told_to_keep_it(demo_of: Callable[..., Awaitable[DemoReport]]) -> None:
    report = await demo_of()
    assert report.ok
    assert report.folder is None
    assert len(report.steps) == 9
    assert json.loads(json.dumps(report.as_dict()))["ok"] is True


async def test_a_run_that_is_kept(demo_of: Callable[..., Awaitable[DemoReport]], tmp_path: Path) -> None:
    report = await demo_of(folder=tmp_path / "kept")
    assert report.ok
    assert report.folder == tmp_path / "kept"
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["demo.png"]


@pytest.mark.parametrize("deed", ["deadline", "sigterm"])
async def test_a_run_that_hangs_or_is_told_to_end(
    demo_of: Callable[..., Awaitable[DemoReport]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, deed: str
) -> None:
    async def hang() -> Stage:
        if deed == "sigterm":
            os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(run, "DEMO_DEADLINE_S", 0.05 if deed == "deadline" else 60)
    monkeypatch.setattr(run, "set_up", stage_that(hang))
    before = signal.getsignal(signal.SIGTERM)
    report = await demo_of(folder=tmp_path / "demo")
    assert report.failure is not None
    assert ("SIGTERM" if deed == "sigterm" else "not done after 0.05 s") in report.failure
    assert str(tmp_path / "demo") in report.failure
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_daemon_is_told_secrets_by_file_and_the_rest_by_options(tmp_path: Path) -> None:
    with Processes() as processes:
        alone = Daemon.plan("C", "c.example", folder=tmp_path, processes=processes)
        beside = Daemon.plan(
            "A", "a.example", folder=tmp_path, processes=processes, beside=Beside("http://127.0.0.1:8008", 'ses"ame')
        )
    words = beside.command([alone.peer_url])
    assert words[1:4] == ["-m", "mediadht", "run"]
    assert words[-2:] == ["--bootstrap", alone.peer_url]
    assert not any('ses"ame' in word for word in words)
    config = beside.folder / "mediadht.toml"
    assert config.stat().st_mode & 0o077 == 0
    assert 'access_token = "ses\\"ame"' in config.read_text()
    alone.command([])
    assert "[front]" not in (alone.folder / "mediadht.toml").read_text()
