"""Binding an address and serving an ASGI application on it, for every HTTP face of the bridge.

What always holds: the address is bound before `task_status.started`, a refusal is an `EnvironmentFault` that says what
to do, and cancelling `serve` lets requests under way finish for at most `DRAIN_S` before it cuts them off. Hypercorn
adds no headers of its own, so an application decides every header that leaves.
Leaves to others: routing, limits on bodies and on requests at once (the applications know theirs).
"""

from __future__ import annotations

import errno
import logging
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve

from mediadht.core.errors import EnvironmentFault
from mediadht.daemon.config import parse_listen

__all__ = ["DRAIN_S", "bind", "check_listen", "is_loopback", "serve"]

DRAIN_S: Final = 5.0
"""Seconds that requests under way get to finish at shutdown."""

HEADER_BYTES_MAX: Final = 65_536
"""Request line and headers together; four times Synapse's own limit, so that Synapse's is the one that counts."""

KEEP_ALIVE_S: Final = 75.0
"""An idle connection is kept this long: longer than nginx keeps its own (60 s), so the proxy closes first."""

STALLED_PEER_MS: Final = 60_000
"""A peer that takes none of what was sent to it for this long is cut off, where the system can do that (Linux)."""

_BACKLOG: Final = 256
_UNIX: Final = "unix:"
_UNIX_MODE: Final = 0o660


def check_listen(text: str) -> str:
    """`text`, if it is `host:port`, `[v6]:port` or `unix:/path`. Raises ValueError with what to write instead."""
    if not text.startswith(_UNIX):
        parse_listen(text)
    elif not Path(text.removeprefix(_UNIX)).is_absolute():
        raise ValueError(f"{text!r}: write a Unix socket with its full path, like unix:/run/mediadht/front.sock")
    return text


def is_loopback(listen: str) -> bool:
    """Whether only this machine can reach `listen`: a Unix socket, `localhost`, 127.0.0.0/8 or ::1."""
    if listen.startswith(_UNIX):
        return True
    host, _ = parse_listen(listen)
    return host in {"localhost", "::1"} or host.startswith("127.")


async def bind(listen: str, *, what: str) -> list[socket.socket]:
    """Sockets bound to `listen`, not yet listening. `what` names the service in messages (`the join front`).

    Port 0 lets the system choose. A Unix socket that nobody serves any more is replaced; a new one has mode 0660.
    Raises EnvironmentFault if the address is taken, not ours, or not allowed.
    """
    try:
        if listen.startswith(_UNIX):
            return [await _bind_unix(Path(listen.removeprefix(_UNIX)))]
        return await _bind_tcp(*parse_listen(listen))
    except OSError as fault:
        raise EnvironmentFault(f"{what} cannot listen on {listen}: {_explain(fault)}") from fault


async def serve(
    app: Any,
    listen: str,
    *,
    what: str,
    task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the ASGI application `app` on `listen` until cancelled; then drain for at most `DRAIN_S` seconds.

    Reports the addresses it answers on (`http://127.0.0.1:8472`, `unix:/path`) once a client can connect.
    Raises EnvironmentFault, before that, if the address cannot be bound.
    """
    sockets = await bind(listen, what=what)
    addresses = tuple(_address(sock) for sock in sockets)
    config = _hypercorn_config(sockets)
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(_serve_shielded, app, config, stopping)
        task_status.started(addresses)
        try:
            await trio.sleep_forever()
        finally:
            stopping.set()
            if listen.startswith(_UNIX):
                _remove(Path(listen.removeprefix(_UNIX)))


async def _serve_shielded(
    app: Any, config: Config, stopping: trio.Event, *, task_status: trio.TaskStatus[None]
) -> None:
    """Hypercorn, out of reach of the caller's cancellation: `stopping` ends it, within the drain time.

    Start-up itself stays cancellable: until `started`, the caller's scope applies to whoever waits for it.
    """
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(_serve_hypercorn, app, config, stopping)
            task_status.started()


async def _serve_hypercorn(
    app: Any, config: Config, stopping: trio.Event, *, task_status: trio.TaskStatus[list[str]]
) -> None:
    await hypercorn_serve(app, config, shutdown_trigger=stopping.wait, task_status=task_status, mode="asgi")


def _hypercorn_config(sockets: Sequence[socket.socket]) -> Config:
    """Hands the bound sockets over (they are detached: Hypercorn owns and closes them from here on)."""
    logger = logging.getLogger("mediadht_bridge.serving.hypercorn")
    logger.setLevel(logging.WARNING)
    config = Config()
    config.bind = [f"fd://{sock.detach()}" for sock in sockets]
    config.backlog = _BACKLOG
    config.errorlog = logger
    config.accesslog = None
    config.graceful_timeout = DRAIN_S
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.h11_max_incomplete_size = HEADER_BYTES_MAX
    config.include_date_header = False
    config.include_server_header = False
    return config


async def _bind_tcp(host: str, port: int) -> list[socket.socket]:
    found = await trio.socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in found:
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
            except OSError as fault:
                if fault.errno == errno.EAFNOSUPPORT and len(found) > 1:
                    continue
                raise
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_PEER_MS)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], port, *address[2:]))
            port = sock.getsockname()[1]  # where the system chose it, all families get the same
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


async def _bind_unix(path: Path) -> socket.socket:
    if _is_socket(path):
        try:
            stream = await trio.open_unix_socket(str(path))
        except ConnectionRefusedError:
            _remove(path)
        else:
            await stream.aclose()
            raise OSError(errno.EADDRINUSE, "in use")
    return _unix_socket(path)


def _is_socket(path: Path) -> bool:
    """Whether a socket is there. Raises FileExistsError if something else is."""
    if not path.exists():
        return False
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise FileExistsError(errno.EEXIST, "there is a file of that name, and it is not a socket")
    return True


def _unix_socket(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(_UNIX_MODE)  # nobody can connect before it listens, so there is no moment with a wider mode
    except OSError:
        sock.close()
        raise
    return sock


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _explain(fault: OSError) -> str:
    """What stands in the way and what to do about it."""
    match fault.errno:
        case errno.EADDRINUSE:
            return "another process listens there already; stop it, or choose another address"
        case errno.EADDRNOTAVAIL:
            return "that address is not one of this machine's"
        case errno.EACCES:
            return "not permitted; ports below 1024 need a capability, a socket's folder must be writable"
        case errno.ENOENT:
            return "the socket's folder does not exist; make it, or let systemd make it with RuntimeDirectory="
        case _:
            return fault.strerror or str(fault)


def _address(sock: socket.socket) -> str:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"{_UNIX}{name}"
    host, port = cast("tuple[str, int]", name[:2])
    return f"http://[{host}]:{port}" if sock.family == socket.AF_INET6 else f"http://{host}:{port}"
