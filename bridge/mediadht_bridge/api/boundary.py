"""The boundary of one request: what is checked before the framework sees it, and what happens when that fails.

Always holds, for every HTTP request: the gate has let it in; no more than `requests_max` are being answered (the
liveness check is always answered); its body is whole, small and JSON; it has an answer, or has been cut off, after
`ANSWER_S_MAX`; one whose caller has left is abandoned, unless it changes something; an unexpected error is logged once,
by route and never by path, and answered with a 500. WebSockets are refused.
Leaves to others: routes (`routes_*`), known errors (`faults`), who may ask (`gate`).
"""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import parse_qsl

import trio
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mediadht_bridge.api.faults import Fault, deadline_fault
from mediadht_bridge.api.gate import LIVE_PATH, Gate
from mediadht_bridge.api.limits import ANSWER_S_MAX, BODY_BYTES_MAX, BODY_S_MAX, LINGER_S
from mediadht_bridge.api.metrics import ApiMetrics

__all__ = ["Boundary"]

_log = logging.getLogger(__name__)
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class _Answer:
    """ASGI's `send`, remembering the status and whether the last message is on its way."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None
        self.ending = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif not message.get("more_body", False):
            self.ending = True
        await self._send(message)


class _Incoming:
    """ASGI's `receive`, remembering whether the body has ended (or the caller has left)."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.ended = True
        return message


class Boundary:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, gate: Gate, metrics: ApiMetrics, requests_max: int) -> None:
        self._app = app
        self._gate = gate
        self._metrics = metrics
        self._requests_max = requests_max
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        match scope["type"]:
            case "http":
                await self._measured(scope, _Incoming(receive), _Answer(send))
            case "websocket":
                await send({"type": "websocket.close", "code": 1008})
            case _:
                await self._app(scope, receive, send)

    async def _measured(self, scope: Scope, receive: _Incoming, answer: _Answer) -> None:
        started_s = trio.current_time()
        self._requests += 1
        self._metrics.in_flight.inc()
        try:
            await self._bounded(scope, receive, answer)
        finally:
            self._requests -= 1
            self._metrics.in_flight.dec()
            self._metrics.observe(
                route=_route(scope),
                method=scope["method"],
                status=answer.status,
                duration_s=trio.current_time() - started_s,
            )

    async def _bounded(self, scope: Scope, receive: _Incoming, answer: _Answer) -> None:
        fault: Fault | None = None
        try:
            with trio.move_on_after(ANSWER_S_MAX) as limit:
                await self._answer(scope, receive, answer)
            if limit.cancelled_caught:
                fault = deadline_fault("the answer")
        except Exception:  # noqa: BLE001 - the boundary of one request
            _log.exception("%s %s failed: please report this", scope["method"], _route(scope))
            fault = Fault(500, "M_UNKNOWN", "something is wrong in mediadht itself: its log says what")
        if fault is not None and answer.status is None:
            await _refuse(fault.response(), receive, answer)

    async def _answer(self, scope: Scope, receive: _Incoming, answer: _Answer) -> None:
        fault = self._gate.check(scope) or self._check_load(scope) or _check_query(scope)
        body = b""
        if fault is None:
            read = await _read_body(scope, receive)
            if read is None:
                return
            body, fault = read
        if fault is not None:
            await _refuse(fault.response(), receive, answer)
            return
        if scope["method"] not in _SAFE_METHODS:
            await self._app(scope, _replay(body), answer)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_left, receive, answer, nursery.cancel_scope)
            await self._app(scope, _replay(body), answer)
            nursery.cancel_scope.cancel()

    def _check_load(self, scope: Scope) -> Fault | None:
        if self._requests <= self._requests_max or scope["path"] == LIVE_PATH:
            return None
        return Fault(
            429,
            "M_LIMIT_EXCEEDED",
            f"{self._requests_max} requests are being answered already: go on without an answer, or ask again",
            headers={"Retry-After": "1"},
            retry_after_ms=1_000,
        )


def _route(scope: Scope) -> str:
    """The route's template, for logs and labels."""
    return str(getattr(scope.get("route"), "path_format", "unknown"))


def _check_query(scope: Scope) -> Fault | None:
    """A parameter given twice is ambiguous: frameworks disagree on which one counts."""
    try:
        names = [name for name, _ in parse_qsl(scope["query_string"], keep_blank_values=True, max_num_fields=32)]
    except ValueError:
        return Fault(400, "M_INVALID_PARAM", "the query string has too many parameters")
    if len(set(names)) < len(names):
        return Fault(400, "M_INVALID_PARAM", "the query string gives a parameter twice")
    return None


async def _read_body(scope: Scope, receive: Receive) -> tuple[bytes, Fault | None] | None:
    """The whole body, and what is wrong with it; None if the caller left."""
    headers: dict[bytes, bytes] = {name.lower(): value for name, value in scope["headers"]}
    too_large = Fault(413, "M_TOO_LARGE", f"a body has {BODY_BYTES_MAX} bytes at most")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length[:20]) > BODY_BYTES_MAX:
        return b"", too_large
    body = bytearray()
    with trio.move_on_after(BODY_S_MAX) as limit:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > BODY_BYTES_MAX:
                return b"", too_large
            if not message.get("more_body", False):
                break
    if limit.cancelled_caught:
        return b"", Fault(408, "M_UNKNOWN", "the body did not arrive in time")
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if body and media_type != b"application/json":
        return b"", Fault(415, "M_NOT_JSON", "send the body as JSON, with Content-Type: application/json")
    return bytes(body), None


def _replay(body: bytes) -> Receive:
    """A `receive` that hands out a body already read, then waits to be cancelled."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await trio.sleep_forever()

    return receive


async def _cancel_when_left(receive: _Incoming, answer: _Answer, scope: trio.CancelScope) -> None:
    """Cancel `scope` when the caller leaves before its answer is whole.

    The server says `disconnect` after a whole answer too, while it makes the connection ready for the next request
    within our last `send`: cancelling that would leave the connection behind.
    """
    while (await receive())["type"] != "http.disconnect":
        pass
    if not answer.ending:
        scope.cancel()


async def _refuse(response: JSONResponse, receive: _Incoming, answer: _Answer) -> None:
    """Send `response` to a request whose body may still be arriving.

    The rest of the body is read meanwhile: the server hands it on through a bounded queue, and would wait for ever on
    a full one; and closing a connection with unread bytes makes many callers see a reset instead of the answer.
    """
    async with trio.open_nursery() as nursery:
        drained = trio.Event()
        nursery.start_soon(_drain, receive, drained)
        await answer({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await answer({"type": "http.response.body", "body": response.body, "more_body": True})
        with trio.move_on_after(LINGER_S):
            await drained.wait()
        await answer({"type": "http.response.body", "body": b"", "more_body": False})
        nursery.cancel_scope.cancel()


async def _drain(receive: _Incoming, drained: trio.Event) -> None:
    while not receive.ended:
        await receive()
    drained.set()
