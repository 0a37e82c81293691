"""mediadht daemons as real processes, and their HTTP API as a program that is no part of mediadht would use it.

Each daemon is `mediadht run` of this interpreter's environment, told by options what a reader would type, and by a
configuration file only what holds a secret. Its ports are reserved beforehand (`LoopbackPorts`), so that a restart
finds them free.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx

from mediadht.cli.demo.children import LOOPBACK, Child, Children, Processes
from mediadht.cli.demo.matrix import Refusal, request

__all__ = ["Beside", "Daemon", "Found", "Server"]

START_DEADLINE_S: Final = 60.0
STOP_DEADLINE_S: Final = 15.0
REQUEST_DEADLINE_S: Final = 15.0
FEED_INTERVAL_S: Final = 5
"""A homeserver is asked for its rooms this often, the least that may be configured: here people wait for it."""

_WHAT_TO_DO: Final = "Read the whole log; the command that was run is its first line."


@dataclass(frozen=True, slots=True)
class Beside:
    """The real homeserver that a daemon stands beside."""

    homeserver_url: str
    access_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Server:
    """One server that is announced to have some media, or to be in a room."""

    server_name: str
    alive_s_ago: float | None
    expires_s: float

    def __str__(self) -> str:
        heard = "never heard" if self.alive_s_ago is None else f"heard {self.alive_s_ago:.1f} s ago"
        return f"{self.server_name} ({heard})"


@dataclass(frozen=True, slots=True)
class Found:
    """A lookup's answer."""

    servers: tuple[Server, ...]
    replicas_answered: int
    duration_s: float
    """As the caller sees it, the connection to the daemon's API included."""

    def names(self) -> list[str]:
        """The servers' names, in order."""
        return [server.server_name for server in self.servers]

    def get(self, server_name: str) -> Server | None:
        """That server's entry."""
        return next((server for server in self.servers if server.server_name == server_name), None)

    def __str__(self) -> str:
        return ", then ".join(map(str, self.servers)) or "nobody"


@dataclass(eq=False)
class Daemon:
    """One daemon. `letter` is its name in the story."""

    letter: str
    server_name: str
    folder: Path
    children: Children
    peer_port: int
    api_port: int
    front_port: int
    """Used only beside a homeserver."""
    beside: Beside | None
    _child: Child | None = field(default=None, init=False)

    @classmethod
    def plan(
        cls, letter: str, server_name: str, *, folder: Path, processes: Processes, beside: Beside | None = None
    ) -> Daemon:
        """A daemon that has not been started, in its own folder below `folder`; with a front if beside a homeserver."""
        own_folder = folder / f"daemon-{letter.lower()}"
        own_folder.mkdir(mode=0o700)
        reserve = processes.ports.reserve
        return cls(letter, server_name, own_folder, processes.children, reserve(), reserve(), reserve(), beside)

    @property
    def peer_url(self) -> str:
        """Where other daemons reach it."""
        return f"ws://{LOOPBACK}:{self.peer_port}/"

    @property
    def api_url(self) -> str:
        """Base URL of its HTTP API."""
        return f"http://{LOOPBACK}:{self.api_port}"

    @property
    def front_url(self) -> str:
        """Base URL of its join front."""
        assert self.beside is not None, self.letter
        return f"http://{LOOPBACK}:{self.front_port}"

    @property
    def log_path(self) -> Path:
        """Everything that it prints."""
        return self.folder / "daemon.log"

    @property
    def exit_code(self) -> int | None:
        """Of its latest process; None while it runs."""
        return None if self._child is None else self._child.exit_code

    def command(self, bootstrap: Sequence[str]) -> list[str]:
        """What is run."""
        words = [sys.executable, "-m", "mediadht", "run"]
        words += ["--data-dir", str(self.folder / "data"), "--server-name", self.server_name]
        words += ["--peer-listen", f"{LOOPBACK}:{self.peer_port}", "--peer-url", self.peer_url]
        words += ["--api-listen", f"{LOOPBACK}:{self.api_port}", "--config", str(self._write_config())]
        for url in bootstrap:
            words += ["--bootstrap", url]
        return words

    def _write_config(self) -> Path:
        path = self.folder / "mediadht.toml"
        path.touch(mode=0o600)
        lines = [f"# {self.letter}: options give the rest", 'network = "mediadht-demo"']
        if self.beside is not None:
            homeserver = f"homeserver_url = {json.dumps(self.beside.homeserver_url)}"  # JSON strings are TOML strings
            lines += ["[front]", f'listen = "{LOOPBACK}:{self.front_port}"', homeserver]
            lines += ["[feed]", homeserver, f"access_token = {json.dumps(self.beside.access_token)}"]
            lines += [f"interval_s = {FEED_INTERVAL_S}"]
        path.write_text("\n".join(lines) + "\n")
        return path

    async def start(self, bootstrap: Sequence[str] = ()) -> float:
        """Run it and wait until its API answers; the seconds that took. Raises EnvironmentFault if it does not."""
        command = self.command(bootstrap)
        with self.log_path.open("a") as log:
            log.write(f"$ {' '.join(command)}\n")
        self._child = self.children.start(f"daemon {self.letter} ({self.server_name})", command, self.log_path)
        return await self._child.wait_until(self._is_live, deadline_s=START_DEADLINE_S, what_to_do=_WHAT_TO_DO)

    async def wait_ready(self) -> float:
        """Wait until it stored a record in the DHT and read it back; raises EnvironmentFault if it does not."""
        assert self._child is not None
        return await self._child.wait_until(self._is_ready, deadline_s=START_DEADLINE_S, what_to_do=_WHAT_TO_DO)

    def kill(self) -> None:
        """SIGKILL."""
        if self._child is not None:
            self._child.kill()

    async def stop(self) -> bool:
        """SIGTERM; whether it ended by itself in time."""
        return self._child is None or await self._child.stop(STOP_DEADLINE_S)

    async def _is_live(self) -> bool:
        return await self._says_yes("/health/live")

    async def _is_ready(self) -> bool:
        return await self._says_yes("/health/ready")

    async def _says_yes(self, path: str) -> bool:
        try:
            await request("GET", self.api_url + path, deadline_s=REQUEST_DEADLINE_S)
        except (httpx.TransportError, Refusal):
            return False
        return True

    async def _call(self, method: str, path: str, json: object = None) -> tuple[Any, float]:
        answer = await request(method, self.api_url + path, json=json, deadline_s=REQUEST_DEADLINE_S)
        return (answer.json() if answer.content else None), answer.elapsed.total_seconds()

    async def status(self) -> dict[str, Any]:
        """`GET /v1/status`."""
        body, _ = await self._call("GET", "/v1/status")
        return dict(body)

    async def find_media(self, media_id: str) -> Found:
        """Who seeds it, in the order in which they were found."""
        return self._found(*await self._call("GET", f"/v1/media/{media_id}"), "providers")

    async def via(self, room_id: str) -> Found:
        """Servers in the room, or seeding a media room (`!sha256.<hex>`): the best first, this one left out."""
        return self._found(*await self._call("GET", f"/v1/rooms/{quote(room_id, safe='')}/via"), "servers")

    @staticmethod
    def _found(body: Any, duration_s: float, key: str) -> Found:
        servers = tuple(
            Server(server["server_name"], server["alive_s_ago"], server["expires_s"]) for server in body[key]
        )
        return Found(servers, body["summary"]["replicas_answered"], duration_s)

    async def seed(self, media_id: str) -> None:
        """Announce this daemon's server as a holder of the bytes."""
        await self._call("PUT", f"/v1/media/{media_id}/seeding", {"offers": ["bytes"]})

    async def seeding(self, media_id: str) -> dict[str, Any] | None:
        """This daemon's own announcement, and how far it has got; None if there is none."""
        try:
            body, _ = await self._call("GET", f"/v1/media/{media_id}/seeding")
        except Refusal as refusal:
            if refusal.status == httpx.codes.NOT_FOUND:
                return None
            raise
        return dict(body)

    async def stop_seeding(self, media_id: str) -> None:
        """Withdraw it."""
        await self._call("DELETE", f"/v1/media/{media_id}/seeding")

    async def ping(self, server_name: str) -> float | None:
        """Milliseconds to that server's daemon and back; None if it does not answer."""
        try:
            body, _ = await self._call("POST", "/v1/ping", {"peer": server_name})
        except Refusal as refusal:
            if refusal.status in {httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT}:
                return None
            raise
        return float(body["round_trip_ms"])
