"""Lookups behind a deadline: collected into one answer, or streamed line by line.

Always holds: whatever the DHT does, the answer is there `GRACE_S` after the deadline, with what is known by then.
A lookup lives within one request: when that is cancelled, the lookup is abandoned.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mediadht.core.identifiers import Subject
from mediadht.daemon.face import DHT, Lookup, LookupSummary, Provider
from mediadht_bridge.api.limits import GRACE_S
from mediadht_bridge.api.models import ProviderAnswer, ProviderLine, SummaryAnswer, SummaryLine

__all__ = ["NDJSON", "LookupStream", "collect"]

NDJSON = "application/x-ndjson"


async def collect(
    dht: DHT, subject: Subject, *, providers_max: int, deadline_s: float
) -> tuple[list[Provider], SummaryAnswer]:
    """The providers that `deadline_s` seconds find, in the order of their finding, and how it ended."""
    providers: list[Provider] = []

    async def keep(provider: Provider) -> None:
        providers.append(provider)

    summary = await _run(dht, subject, keep, providers_max=providers_max, deadline_s=deadline_s)
    return providers, summary


class LookupStream(Response):
    """An NDJSON answer: a line for each provider as it is found, then one with the summary."""

    media_type = NDJSON

    def __init__(self, dht: DHT, subject: Subject, *, providers_max: int, deadline_s: float) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._dht = dht
        self._subject = subject
        self._providers_max = providers_max
        self._deadline_s = deadline_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look up and answer; the headers go out before the lookup begins."""

        async def line(model: BaseModel, *, last: bool = False) -> None:
            body = model.model_dump_json().encode() + b"\n"
            await send({"type": "http.response.body", "body": body, "more_body": not last})

        async def provider_line(provider: Provider) -> None:
            await line(ProviderLine(provider=ProviderAnswer.model_validate(provider)))

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        summary = await _run(
            self._dht,
            self._subject,
            provider_line,
            providers_max=self._providers_max,
            deadline_s=self._deadline_s,
        )
        await line(SummaryLine(summary=summary), last=True)


@asynccontextmanager
async def _closing(found: AsyncIterator[Provider]) -> AsyncIterator[AsyncIterator[Provider]]:
    """An async generator left half-way is closed here and now, not by the garbage collector."""
    try:
        yield found
    finally:
        if isinstance(found, AsyncGenerator):
            await found.aclose()


async def _run(
    dht: DHT,
    subject: Subject,
    on_provider: Callable[[Provider], Awaitable[None]],
    *,
    providers_max: int,
    deadline_s: float,
) -> SummaryAnswer:
    lookup: Lookup | None = None
    handed_out = 0
    started_s = trio.current_time()
    with trio.move_on_after(deadline_s + GRACE_S) as limit:
        async with (
            dht.lookup(subject, providers_max=providers_max, deadline_s=deadline_s) as lookup,
            _closing(aiter(lookup)) as found,
        ):
            async for provider in found:
                await on_provider(provider)
                handed_out += 1
    if lookup is None:
        summary = LookupSummary(
            providers_total=0,
            replicas_answered=0,
            requests=0,
            complete=False,
            first_provider_s=None,
            duration_s=trio.current_time() - started_s,
        )
    else:
        summary = lookup.summary
    return SummaryAnswer.of(summary, handed_out=handed_out, cut_off=limit.cancelled_caught)
