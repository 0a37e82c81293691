"""`mediadht run`: composes the daemon, the HTTP API, the join front and the room feed, and stops them in order.

What always holds: the first SIGTERM or SIGINT ends the services and then the daemon, within `SHUTDOWN_S`; a second one
ends the process at once, by the signal's own default (nothing acknowledged is lost: it is on disk before it is
acknowledged). SIGHUP is ignored, with a line in the log: a new configuration takes a restart.
Once everything answers, one `ready` line goes to standard output and READY=1 to systemd.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from mediadht.cli.config import Configuration
from mediadht.cli.notify import notify
from mediadht.cli.watch import watch_status

if TYPE_CHECKING:
    from mediadht.daemon.face import DHT

__all__ = ["SHUTDOWN_S", "Ready", "run_node"]

SHUTDOWN_S: Final = 10.0
"""From the first signal until we end whatever is left: less than the 90 s that systemd, the 30 s that Kubernetes and
the 10 s that `docker stop` wait before they kill (the last one narrowly: what is cut off is on disk)."""

_log = logging.getLogger("mediadht")


@dataclass(frozen=True, slots=True)
class Ready:
    """What the ready line says: where the parts answer, once they all do."""

    node_id: str
    server_name: str | None
    peers: tuple[str, ...]
    api: tuple[str, ...]
    front: tuple[str, ...]

    def as_json(self) -> str:
        """One JSON object on one line."""
        fields = {"event": "ready", "node_id": self.node_id, "server_name": self.server_name}
        return json.dumps(fields | {"peers": self.peers, "api": self.api, "front": self.front})

    def as_text(self) -> str:
        """One line for people and for `grep`."""
        places = [("peers", self.peers), ("api", self.api), ("front", self.front)]
        shown = " ".join(f"{name}={','.join(addresses)}" for name, addresses in places if addresses)
        return f"ready node={self.node_id} {shown}"


async def run_node(configuration: Configuration, *, as_json: bool = False) -> None:
    """Run until a signal ends it. Raises ConfigurationError or EnvironmentFault if something cannot start."""
    from mediadht.daemon import open_daemon

    whole, services = trio.CancelScope(), trio.CancelScope()
    with whole, trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as outer:
            outer.start_soon(_watch_signals, signals, services, whole)
            async with open_daemon(configuration.node) as dht:
                with services:
                    await _serve(dht, configuration, as_json=as_json)
                notify("STOPPING=1")
            outer.cancel_scope.cancel()
    if whole.cancelled_caught:
        _log.warning("the shutdown took too long and was cut short; what was acknowledged is on disk")
    _log.info("stopped")


async def _serve(dht: DHT, configuration: Configuration, *, as_json: bool) -> None:
    from mediadht_bridge.api import serve_api

    async with trio.open_nursery() as nursery:
        api: tuple[str, ...] = await nursery.start(serve_api, dht, configuration.api)
        front: tuple[str, ...] = ()
        if configuration.front is not None:
            from mediadht_bridge.front import serve_front

            front = await nursery.start(serve_front, dht, configuration.front)
        if configuration.feed is not None:
            from mediadht_bridge.matrix import run_room_feed

            await nursery.start(run_room_feed, dht, configuration.feed)
        nursery.start_soon(watch_status, dht.status)
        _tell_ready(dht, api, front, as_json=as_json)


def _tell_ready(dht: DHT, api: tuple[str, ...], front: tuple[str, ...], *, as_json: bool) -> None:
    status = dht.status()
    ready = Ready(status.node_id, status.server_name, status.listening, api, front)
    for what, addresses in (("peers", ready.peers), ("the HTTP API", ready.api), ("the join front", ready.front)):
        for address in addresses:
            _log.info("listening for %s on %s", what, address)
    print(ready.as_json() if as_json else ready.as_text(), flush=True)
    notify("READY=1")


async def _watch_signals(signals: AsyncIterator[int], services: trio.CancelScope, whole: trio.CancelScope) -> None:
    stopping = False
    async for number in signals:
        name = signal.Signals(number).name
        if number == signal.SIGHUP:
            _log.info("SIGHUP is ignored: restart for a new configuration")
        elif stopping:
            _log.warning("%s again: ending at once", name)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        else:
            stopping = True
            _log.info("%s: stopping, at most %g s", name, SHUTDOWN_S)
            services.cancel()
            whole.deadline = trio.current_time() + SHUTDOWN_S
