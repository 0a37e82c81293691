"""The tasks behind the sessions: listening, dialling, probing, bootstrapping.

Each connection has a nursery of its own; whatever goes wrong in it ends that connection only, and is logged once.
Strangers are bounded: so many handshakes at a time, each with a deadline; so many dials of ours at a time.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import trio

from mediadht.core.constants import SESSIONS_MAX
from mediadht.core.contacts import Contact
from mediadht.core.errors import Code, EnvironmentFault, RemoteError
from mediadht.daemon.config import parse_bootstrap, parse_listen
from mediadht.daemon.connections import HANDSHAKE_S, Connection, Credentials, accept, dial, explain, shake_hands
from mediadht.daemon.driver import Driver

__all__ = ["Peering", "bind"]

logger = logging.getLogger(__name__)

HANDSHAKES_MAX = 128
DIALS_MAX = 64
_BACKLOG = 256
_BOOTSTRAP_REPEAT_S = 5.0
_BOOTSTRAP_REPEAT_S_MAX = 20.0
_LOG_EVERY_S = 60.0
_OUR_COMPLAINTS = frozenset({Code.MALFORMED, Code.TOO_LARGE, Code.BAD_FRAME})


async def bind(addresses: Sequence[str]) -> list[trio.SocketListener]:
    """Listen on each `host:port`. Raises EnvironmentFault, with nothing left open, if one cannot be had."""
    listeners: list[trio.SocketListener] = []
    for text in addresses:
        host, port = parse_listen(text)
        try:
            listeners += await trio.open_tcp_listeners(port, host=host or None, backlog=_BACKLOG)
        except OSError as fault:
            for listener in listeners:
                await listener.aclose()
            raise EnvironmentFault(
                f"peers cannot be answered on {text}: {fault.strerror or fault}. "
                "Stop whatever listens there, or choose another address with --peer-listen"
            ) from fault
    return listeners


_Opener: TypeAlias = Callable[[trio.Nursery], Awaitable[tuple[Connection, list[bytes]]]]
"""Opens a connection whose tasks run in the nursery; returns what came right behind the handshake too."""


class Peering:
    """Opens and keeps the connections of one driver, in the nursery given."""

    def __init__(
        self,
        nursery: trio.Nursery,
        credentials: Credentials,
        *,
        bootstrap: Sequence[str],
        private_allowed: bool,
        tls_client: ssl.SSLContext,
        tls_server: ssl.SSLContext | None,
        connections_max: int = SESSIONS_MAX,
    ) -> None:
        self._nursery = nursery
        self._credentials = credentials
        self._bootstrap = [parse_bootstrap(text) for text in bootstrap]
        self._private_allowed = private_allowed
        self._tls_client = tls_client
        self._tls_server = tls_server
        self._accepting = 0
        self._connections_max = 2 * connections_max + HANDSHAKES_MAX
        self._open = 0
        self._attended: dict[Connection, None] = {}
        self._one_closed = trio.Event()
        self._dials = trio.CapacityLimiter(DIALS_MAX)
        self._bootstrapping: set[str] = set()
        self._bootstrap_next: dict[str, tuple[float, float]] = {}
        self._logged: dict[str, float] = {}
        self.driver: Driver | None = None
        self.bootstrap_trouble: str | None = None
        """Why the latest bootstrap attempt failed, for people; None if it did not."""

    # --- Called by the driver: start a task, return at once --------------------------------------------------------

    def dial(self, contact: Contact) -> None:
        """Open a session with this contact; the driver hears how it ended."""
        self._nursery.start_soon(self._dial_task, contact)

    def probe(self, contact: Contact) -> None:
        """See whether this contact answers at its endpoints; the driver hears."""
        self._nursery.start_soon(self._probe_task, contact)

    def bootstrap(self) -> None:
        """Try the configured bootstrap nodes, unless that was done a moment ago."""
        now = trio.current_time()
        for url, node_id in self._bootstrap:
            if url not in self._bootstrapping and self._bootstrap_next.get(url, (0.0, 0.0))[0] <= now:
                self._bootstrapping.add(url)
                self._nursery.start_soon(self._bootstrap_task, url, node_id)

    async def hang_up_all(self, code: str) -> None:
        """Close every session, giving this reason, those that only drain too; returns once all are closed.

        Once the driver is stopping, new ones are refused; who is still shaking hands is not waited for.
        """
        for connection in self._attended:
            connection.hang_up(code)
        while self._attended:
            self._one_closed = trio.Event()
            await self._one_closed.wait()

    # --- Tasks ---------------------------------------------------------------------------------------------------

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Answer peers until cancelled."""
        await trio.serve_listeners(self._accept_task, listeners, handler_nursery=self._nursery)

    async def _accept_task(self, stream: trio.SocketStream) -> None:
        is_full = self._accepting >= HANDSHAKES_MAX or self._open >= self._connections_max
        if is_full or self._the_driver.is_stopping:
            self._the_driver.traffic.refused += 1
            await trio.aclose_forcefully(stream)
            return

        async def open_connection(nursery: trio.Nursery) -> tuple[Connection, list[bytes]]:
            self._accepting += 1
            try:
                with trio.fail_after(HANDSHAKE_S):
                    connection = await accept(stream, self._tls_server, self._credentials, nursery)
                    return connection, await shake_hands(connection)
            finally:
                self._accepting -= 1

        try:
            await self._run_connection(open_connection)
        except RemoteError as fault:
            self._the_driver.traffic.refused += 1
            self._log_rarely("inbound", "a peer that dialled in was refused: %s", fault)
        finally:
            await trio.aclose_forcefully(stream)

    async def _dial_task(self, contact: Contact) -> None:
        fault = RemoteError(Code.UNREACHABLE, "it has no address")
        for endpoint in contact.endpoints:
            try:
                await self._session(endpoint, contact.node_id)
            except RemoteError as problem:
                fault = problem
                logger.debug("dialling %s failed: %s", endpoint, problem)
            else:
                return
        await self._the_driver.dial_failed(contact.node_id, fault.code)

    async def _session(self, endpoint: str, node_id: int | None) -> None:
        """Open a session and stay with it to its end. Raises RemoteError if it does not come to one."""

        async def open_connection(nursery: trio.Nursery) -> tuple[Connection, list[bytes]]:
            async with self._dials:
                connection = await dial(
                    endpoint,
                    self._credentials,
                    nursery,
                    tls=self._tls_client,
                    private_allowed=self._private_allowed,
                    expected_node_id=node_id,
                )
            return connection, []

        await self._run_connection(open_connection)

    async def _probe_task(self, contact: Contact) -> None:
        address: str | None = None
        reached: str | None = None
        for endpoint in contact.endpoints:
            try:
                async with self._dials, trio.open_nursery() as nursery:
                    connection = await dial(
                        endpoint,
                        self._credentials,
                        nursery,
                        tls=self._tls_client,
                        private_allowed=self._private_allowed,
                        expected_node_id=contact.node_id,
                        probe=True,
                    )
                    address, reached = connection.address, endpoint
                    await connection.close(Code.IDLE)
                    nursery.cancel_scope.cancel()
            except* RemoteError as faults:
                logger.debug("probing %s failed: %s", endpoint, faults.exceptions[0])
            except* Exception as faults:
                logger.debug("probing %s failed", endpoint, exc_info=faults)
            if address is not None:
                break
        await self._the_driver.probe_ended(contact.node_id, address, reached)

    async def _bootstrap_task(self, url: str, node_id: int | None) -> None:
        try:
            opened_s = trio.current_time()
            await self._session(url, node_id)
            if trio.current_time() - opened_s > _BOOTSTRAP_REPEAT_S_MAX:
                self._bootstrap_next.pop(url, None)
        except RemoteError as fault:
            if fault.code == Code.SELF:
                self._bootstrap_next[url] = (float("inf"), 0.0)
                return
            self.bootstrap_trouble = f"the bootstrap node {url} cannot be reached: {fault.why or fault.code}"
            self._log_rarely(url, "%s; trying again", self.bootstrap_trouble)
        finally:
            self._bootstrapping.discard(url)
            wait_s = min(_BOOTSTRAP_REPEAT_S_MAX, 2 * self._bootstrap_next.get(url, (0.0, _BOOTSTRAP_REPEAT_S / 2))[1])
            if self._bootstrap_next.get(url, (0.0, 0.0))[0] != float("inf"):
                self._bootstrap_next[url] = (trio.current_time() + wait_s, wait_s)

    async def _run_connection(self, open_connection: _Opener) -> None:
        """One connection from its opening to its end, in a nursery of its own.

        Raises RemoteError if it could not be opened; whatever happens later only ends it.
        """
        opened = False
        failed: RemoteError | None = None
        self._open += 1
        try:
            async with trio.open_nursery() as nursery:
                try:
                    connection, messages = await open_connection(nursery)
                except RemoteError as fault:
                    failed = fault
                else:
                    opened = True
                    await self._attend(connection, messages)
                nursery.cancel_scope.cancel()
        except* Exception as faults:  # noqa: BLE001  (the boundary of one connection)
            if opened:
                self._log_rarely("error", "a connection ended with an error", cause=faults)
            elif failed is None:
                failed = RemoteError(Code.UNREACHABLE, explain(faults))
        finally:
            self._open -= 1
        if failed is not None:
            raise failed

    async def _attend(self, connection: Connection, messages: list[bytes]) -> None:
        """Stay with an open session to its end."""
        driver = self._the_driver
        if connection.peer.probe and not connection.outbound:
            await _await_hangup(connection)
            return
        self.bootstrap_trouble = None
        code: str = Code.UNREACHABLE
        self._attended[connection] = None
        if driver.is_stopping:
            connection.hang_up(Code.LEAVING)
        try:
            if not driver.is_stopping:
                await driver.opened(connection)
            with connection.scope:
                code = await driver.read_task(connection, messages)
                if code in _OUR_COMPLAINTS:
                    connection.close_code = code
                    self._log_rarely(
                        "complaint", "a peer was disconnected: it sent what the protocol forbids (%s)", code
                    )
        finally:
            with trio.CancelScope(shield=True):
                await driver.closed(connection, code)
                await connection.close(connection.close_code)
                del self._attended[connection]
                self._one_closed.set()

    @property
    def _the_driver(self) -> Driver:
        assert self.driver is not None
        return self.driver

    def _log_rarely(self, about: str, text: str, *values: object, cause: BaseException | None = None) -> None:
        """Warn, at most once in `_LOG_EVERY_S` about the same thing."""
        now = time.monotonic()
        if now - self._logged.get(about, float("-inf")) >= _LOG_EVERY_S:
            self._logged[about] = now
            logger.warning(text, *values, exc_info=cause)


async def _await_hangup(connection: Connection) -> None:
    """A peer that only wanted to know whether we are here hangs up by itself."""
    with trio.move_on_after(HANDSHAKE_S):
        try:
            while True:
                await connection.receive()
        except RemoteError:
            return
