"""Binding an address and serving an ASGI application on it, for every HTTP face of the bridge.

What always holds: the address is bound before `task_status.started`, a refusal is an `EnvironmentFault` that says what
to do, and cancelling `serve`, at any moment, lets requests under way finish for at most `DRAIN_S` before it cuts them
off, whether or not their callers take what is sent. Hypercorn adds no headers of its own, so an application decides
every header that leaves.
Leaves to others: routing, limits on bodies and on requests at once (the applications know theirs).
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import stat
from pathlib import Path
from typing import Any, Final, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from mediadht.core.errors import EnvironmentFault
from mediadht.daemon.config import parse_listen

__all__ = ["DRAIN_S", "bind", "check_listen", "is_loopback", "is_loopback_host", "serve"]

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

_log = logging.getLogger(__name__)


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
    return is_loopback_host(parse_listen(listen)[0])


def is_loopback_host(host: str) -> bool:
    """Whether `host`, a name or an IP literal without brackets, can only be this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
    connections = _Connections(app)
    try:
        async with trio.open_nursery() as nursery:
            # Shielded: a task that is cancelled before it has started would stay with whoever starts it, for ever.
            with trio.CancelScope(shield=True):
                handlers = await nursery.start(connections.hold)
            try:
                listeners = [_listen(sock) for sock in sockets]
                task_status.started(tuple(_address(sock) for sock in sockets))
                await trio.serve_listeners(connections.answer, listeners, handler_nursery=handlers)
            finally:
                connections.stopping.set()
    finally:
        for sock in sockets:
            sock.close()
        if listen.startswith(_UNIX):
            _remove(Path(listen.removeprefix(_UNIX)))


class _Connections:
    """Every open connection of one server, out of reach of the caller's cancellation: `stopping` ends them in order.

    Hypercorn's own server is not used but only its connections: it knows no way to end one that is stuck in sending
    to a caller that does not read (it sends inside a shield).
    """

    def __init__(self, app: Any) -> None:
        self._app = ASGIWrapper(app)
        self._config = _hypercorn_config()
        self._context = WorkerContext(None)
        self._streams: set[trio.SocketStream] = set()
        self._all_ended = trio.Event()
        self.stopping = trio.Event()

    async def hold(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """Own the connections' tasks; return once `stopping` is set and all have ended, by themselves or by force."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as handlers:
                task_status.started(handlers)
                await self.stopping.wait()
                await self._context.terminated.set()
                if self._streams:
                    with trio.move_on_after(DRAIN_S):
                        await self._all_ended.wait()
                handlers.cancel_scope.cancel()
                for stream in list(self._streams):  # the cancelled ones, and those stuck in sending
                    _close_at_once(stream)

    async def answer(self, stream: trio.SocketStream) -> None:
        """One connection, to its end. A mistake of ours ends this one alone."""
        self._streams.add(stream)
        try:
            await TCPServer(self._app, self._config, self._context, ConnectionState({}), cast("Any", stream))
        except Exception:  # noqa: BLE001 - the boundary of one connection
            _log.exception("a connection ended with an error")
        finally:
            self._streams.discard(stream)
            _close_at_once(stream)
            if self.stopping.is_set() and not self._streams:
                self._all_ended.set()


def _close_at_once(stream: trio.SocketStream) -> None:
    """Close it, without a checkpoint; whoever is sending through it is told."""
    stream.socket.close()


def _listen(sock: socket.socket) -> trio.SocketListener:
    sock.listen(_BACKLOG)
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def _hypercorn_config() -> Config:
    logger = logging.getLogger("mediadht_bridge.serving.hypercorn")
    logger.setLevel(logging.WARNING)
    config = Config()
    config.errorlog = logger
    config.accesslog = None
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
