"""The join front: an ASGI application that stands before the homeserver.

What always holds: a request that is no join by room ID reaches the homeserver as it came, and so does a join for which
the DHT has nothing to add; an answer of the homeserver reaches the client as it came; a join that would have succeeded
without us succeeds. For the last, a helped join that fails is sent once more as it came: an invited user's homeserver
asks the inviting server last, after those we named, and one of them may lie. Before that, a join that ends in a quick
502 is tried again with the same servers: one that joined a moment ago cannot help yet.
Joining is idempotent, so trying again is safe; a request that the homeserver left unanswered is never sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio

from mediadht.core.errors import RemoteError
from mediadht.daemon.face import DHT
from mediadht_bridge.front.client import ClientRequest, Receive, Scope, Send
from mediadht_bridge.front.config import (
    JOIN_BODY_BYTES_MAX,
    JOINS_AT_ONCE_MAX,
    KEPT_ANSWER_BYTES_MAX,
    OTHERS_AT_ONCE_MAX,
    RETRY_PAUSE_S,
    RETRY_WITHIN_S,
    FrontConfig,
)
from mediadht_bridge.front.finder import Found, ServerFinder
from mediadht_bridge.front.metrics import FrontMetrics
from mediadht_bridge.front.via import Join, add_servers, body_for_join, parse_join
from mediadht_bridge.matrix.homeserver import Answer, Body, FixedBody, Head, Headers, Homeserver, drop_hop_by_hop

__all__ = ["Front", "create_front"]

_log = logging.getLogger(__name__)

_FINAL_STATUSES = frozenset({401, 413, 429})
"""Refusals that no other choice of servers changes."""


def create_front(dht: DHT, config: FrontConfig, homeserver: Homeserver | None = None) -> Front:
    """The front as an ASGI application. One a daemon: its metrics go into `dht.registry`."""
    return Front(dht, config, homeserver or Homeserver(config.homeserver_url))


@dataclass(frozen=True, slots=True)
class _Kept:
    """An error answer, held back while the join is tried again."""

    status: int
    headers: Headers
    content: bytes


class Front:
    """The application. Made by `create_front`."""

    def __init__(self, dht: DHT, config: FrontConfig, homeserver: Homeserver) -> None:
        self._config = config
        self._homeserver = homeserver
        self._metrics = FrontMetrics(dht.registry)
        self._finder = ServerFinder(dht, config, self._metrics)
        self._joins = trio.CapacityLimiter(JOINS_AT_ONCE_MAX)
        self._others = trio.CapacityLimiter(OTHERS_AT_ONCE_MAX)
        self._homeserver_down = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] == "http":
            await self._http(ClientRequest(scope, receive, send))
        else:  # Matrix has no WebSocket endpoints
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, client: ClientRequest) -> None:
        join = parse_join(client.method, client.path)
        limiter = self._others if join is None else self._joins
        async with client, trio.open_nursery() as nursery:
            nursery.start_soon(client.pump, nursery.cancel_scope)
            with self._metrics.under_way.track_inprogress():
                if limiter.statistics().tasks_waiting >= limiter.total_tokens:
                    self._metrics.refused.inc()
                    await client.respond_error(503, "Too many requests are under way.", retry_after_s=5)
                else:
                    async with limiter:
                        await self._answer(_Forwarding(client, self._homeserver, self._config, nursery), join)
            nursery.cancel_scope.cancel()

    async def _answer(self, forwarding: _Forwarding, join: Join | None) -> None:
        try:
            if join is None:
                self._metrics.passed_through.inc()
                await forwarding.pass_on(forwarding.client)
            else:
                await self._join(forwarding, join)
            self._note_homeserver(None)
        except RemoteError as fault:
            self._metrics.upstream_errors.labels(fault.code).inc()
            self._note_homeserver(fault)
            await forwarding.client.respond_fault(fault)

    async def _join(self, forwarding: _Forwarding, join: Join) -> None:
        client = forwarding.client
        content, complete = await client.read(JOIN_BODY_BYTES_MAX)
        found = await self._finder.find(join)
        target = add_servers(join, client.query, found.servers[: self._config.via_max])
        body = body_for_join(join, content) if complete else None
        fit = body is not None or not join.servers_ignored
        if target is None or not fit:
            outcome = "unfit" if not fit else "known" if found.servers else found.why_none
            self._metrics.joins.labels(outcome).inc()
            await forwarding.pass_on(FixedBody(content) if complete else _Prefixed(content, client))
            return
        self._metrics.joins.labels("helped").inc()
        if body is None:  # longer than we keep: one try
            await forwarding.send(target, _Prefixed(content, client), final=lambda _: True)
            return
        await self._help(_HelpedJoin(join, found, target, body, content), forwarding)

    async def _help(self, helped: _HelpedJoin, forwarding: _Forwarding) -> None:
        """Join through the DHT's servers, then, where that fails, in the other ways that may still succeed."""
        client = forwarding.client
        began_s = trio.current_time()
        final = self._counted("joined", _is_final)
        refused = await forwarding.send(helped.target, FixedBody(helped.body), len(helped.body), final=final)
        if refused is None:
            return
        try:
            if refused.status == 502 and trio.current_time() - began_s <= RETRY_WITHIN_S:
                await trio.sleep(RETRY_PAUSE_S)
                target = add_servers(helped.join, client.query, helped.found.servers) or helped.target
                final = self._counted("joined_on_retry", _is_success)
                again = await forwarding.send(target, FixedBody(helped.body), len(helped.body), final=final)
                if again is None:
                    return
                refused = refused if again.status in _FINAL_STATUSES else again
            final = self._counted("joined_as_it_came", _is_success)
            if await forwarding.send(client.target, FixedBody(helped.content), final=final) is None:
                return
        except RemoteError:
            if client.started:
                return
        self._metrics.answers.labels("refused").inc()
        await client.respond(refused.status, refused.headers, FixedBody(refused.content))

    def _counted(self, outcome: str, final: Callable[[int], bool]) -> Callable[[int], bool]:
        """`final`, counting what becomes of the join where it says yes."""

        def decide(status: int) -> bool:
            if final(status):
                self._metrics.answers.labels(outcome if _is_success(status) else "refused").inc()
                return True
            return False

        return decide

    def _note_homeserver(self, fault: RemoteError | None) -> None:
        if fault is not None and not self._homeserver_down:
            _log.warning("The homeserver at %s does not answer: %s", self._homeserver.url, fault)
        elif fault is None and self._homeserver_down:
            _log.info("The homeserver at %s answers again", self._homeserver.url)
        self._homeserver_down = fault is not None


@dataclass(frozen=True, slots=True)
class _HelpedJoin:
    join: Join
    found: Found
    target: bytes
    """With our servers."""
    body: bytes
    """Fit for `/join/{room ID}`."""
    content: bytes
    """The body as it came."""


class _Forwarding:
    """Sends one client's request to the homeserver, as often as it takes, and the answer back, once."""

    def __init__(
        self, client: ClientRequest, homeserver: Homeserver, config: FrontConfig, nursery: trio.Nursery
    ) -> None:
        self.client = client
        self._homeserver = homeserver
        self._timeout_s = config.upstream_timeout_s
        self._nursery = nursery

    async def pass_on(self, body: Body) -> None:
        """Send the request as it came, and the answer back whatever it is. Raises RemoteError if there is none."""
        await self.send(self.client.target, body, final=lambda _: True)

    async def send(
        self, target: bytes, body: Body, length: int | None = None, *, final: Callable[[int], bool]
    ) -> _Kept | None:
        """Send the request to `target`. None if the answer has gone to the client, else the answer, for later.

        It goes to the client if its status is `final`, or if it is too long to keep. `length` is that of a body that
        is not the client's own. Raises RemoteError if there is no answer.
        """
        headers = self._headers(length)
        if not any(name == b"content-length" for name, _ in headers):
            first = await body.receive()
            if first:
                headers.append((b"transfer-encoding", b"chunked"))
            body = _Prefixed(first, body)
        head = Head(self.client.method.encode("ascii"), target, headers)
        async with self._homeserver.exchange(head, body, timeout_s=self._timeout_s, nursery=self._nursery) as answer:
            if final(answer.status):
                await self.client.respond(answer.status, answer.headers, answer)
                return None
            return await self._keep(answer)

    async def _keep(self, answer: Answer) -> _Kept | None:
        content = b""
        while piece := await answer.receive():
            content += piece
            if len(content) > KEPT_ANSWER_BYTES_MAX:
                await self.client.respond(answer.status, answer.headers, _Prefixed(content, answer))
                return None
        return _Kept(answer.status, answer.headers, content)

    def _headers(self, length: int | None) -> Headers:
        dropped = {b"expect"} if length is None else {b"expect", b"content-length"}
        headers = [header for header in drop_hop_by_hop(self.client.headers) if header[0].lower() not in dropped]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        if self.client.address is not None:
            _append_forwarded_for(headers, self.client.address.encode("ascii"))
        if not any(name.lower() == b"host" for name, _ in headers):  # HTTP/1.0
            headers.insert(0, (b"host", self._homeserver.authority))
        headers.append((b"connection", b"close"))
        return headers


class _Prefixed:
    """A body of which the first piece has been read already."""

    def __init__(self, prefix: bytes, rest: Body) -> None:
        self._prefix = prefix
        self._rest = rest

    async def receive(self) -> bytes:
        if self._prefix:
            prefix, self._prefix = self._prefix, b""
            return prefix
        return await self._rest.receive()


def _append_forwarded_for(headers: Headers, address: bytes) -> None:
    """Add the client's address to the last X-Forwarded-For, which we trust: only a reverse proxy reaches us."""
    for index in range(len(headers) - 1, -1, -1):
        name, value = headers[index]
        if name.lower() == b"x-forwarded-for":
            headers[index] = (name, value + b", " + address if value.strip() else address)
            return
    headers.append((b"x-forwarded-for", address))


def _is_success(status: int) -> bool:
    return status < 400


def _is_final(status: int) -> bool:
    return status < 400 or status in _FINAL_STATUSES
