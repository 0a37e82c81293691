"""Real Synapse servers that federate on loopback, for `mediadht demo` and `tests/homeserver`.

Each server has a folder of its own with its configuration, keys, database and log; nothing secret is anywhere else,
and folder and files are readable by their owner only. Server names are `localhost:<port of the TLS listener>`, which
need no DNS, well-known or SRV record. What the configuration needs, and what was tried, stands in `synapse_config`.
No server outlives the context that started it (`mediadht.cli.demo.children`).
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import httpx

from mediadht.cli.demo.children import Child, Children, Processes
from mediadht.cli.demo.matrix import Refusal, User, log_in, register, request
from mediadht.cli.demo.synapse_config import Authority, SynapsePlan, write_configuration
from mediadht.cli.demo.waiting import all_at_once
from mediadht.core.errors import EnvironmentFault

__all__ = ["Homeserver", "homeserver_cluster", "require_synapse", "start_homeservers"]

START_DEADLINE_S: Final = 60.0
"""A start takes 2 s on an idle machine; the rest is for two cores that others use as well."""

STOP_DEADLINE_S: Final = 10.0
PROBE_DEADLINE_S: Final = 2.0

_WHAT_TO_DO: Final = (
    "Read the whole log; if it does not help, try the extra anew: pip install -U 'mediadht[homeserver]'."
)


@dataclass(eq=False)
class Homeserver:
    """One Synapse server. Requests go straight to it; a proxy in front is named by the caller (`User.join`)."""

    plan: SynapsePlan
    children: Children
    config_path: Path
    _child: Child | None = field(default=None, init=False)
    _passwords: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    @property
    def server_name(self) -> str:
        """Its Matrix server name, `localhost:<port>`."""
        return self.plan.server_name

    @property
    def client_url(self) -> str:
        """Base URL of its client API: plain HTTP on loopback."""
        return self.plan.client_url

    @property
    def log_path(self) -> Path:
        """Everything that it prints."""
        return self.plan.folder / "homeserver.log"

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._child is not None and self._child.running

    async def start(self) -> float:
        """Start it and wait until it answers; the seconds that took. Raises EnvironmentFault if it does not."""
        assert not self.running, f"{self.server_name} runs already"
        command = [sys.executable, "-m", "synapse.app.homeserver", "-c", str(self.config_path)]
        self._child = self.children.start(f"Synapse {self.server_name}", command, self.log_path)
        return await self._child.wait_until(self._answers, deadline_s=START_DEADLINE_S, what_to_do=_WHAT_TO_DO)

    async def _answers(self) -> bool:
        try:
            await request("GET", f"{self.client_url}/_matrix/client/versions", deadline_s=PROBE_DEADLINE_S)
        except (httpx.TransportError, Refusal):
            return False
        return True

    def kill(self) -> None:
        """SIGKILL: the server is gone without a word."""
        if self._child is not None:
            self._child.kill()

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after a deadline."""
        if self._child is not None:
            await self._child.stop(STOP_DEADLINE_S)

    async def register_user(self, localpart: str, *, admin: bool = False) -> User:
        """Make a user with a random password and log it in."""
        self._passwords[localpart] = secrets.token_urlsafe(16)
        return await register(
            self.client_url, self.plan.shared_secret, localpart, self._passwords[localpart], admin=admin
        )

    async def login(self, localpart: str) -> User:
        """Log in, once more, a user that `register_user` made."""
        return await log_in(self.client_url, localpart, self._passwords[localpart])


def require_synapse() -> None:
    """Raises EnvironmentFault, saying what to install, unless real homeservers can be started here."""
    missing = [name for name in ("synapse", "trustme") if find_spec(name) is None]
    if missing:
        raise EnvironmentFault(
            f"{' and '.join(missing)} cannot be imported, so no real homeserver can be started: "
            "install with pip install 'mediadht[homeserver]'"
        )


async def start_homeservers(processes: Processes, count: int, folder: Path) -> list[Homeserver]:
    """Start `count` servers at once, each in a folder of its own under `folder`, and wait until all answer.

    They are stopped by whoever owns `processes`. Raises EnvironmentFault if one does not start.
    """
    require_synapse()
    authority = Authority.create(folder)
    servers = []
    for number in range(count):
        plan = SynapsePlan(
            folder=folder / f"synapse-{number + 1}",
            federation_port=processes.ports.reserve(),
            client_port=processes.ports.reserve(),
            shared_secret=secrets.token_urlsafe(32),
        )
        servers.append(Homeserver(plan, processes.children, write_configuration(plan, authority)))
    await all_at_once(*(server.start for server in servers))
    return servers


@asynccontextmanager
async def homeserver_cluster(count: int, folder: Path) -> AsyncIterator[list[Homeserver]]:
    """`count` Synapse servers that federate with one another; stopped, or killed after a fault, at the end."""
    with Processes() as processes:
        servers = await start_homeservers(processes, count, folder)
        yield servers
        await all_at_once(*(server.stop for server in servers))
