"""Waiting for what other processes do, and doing several things at once: faults come out plain, never in a group."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import httpx
import trio

from mediadht.cli.demo.report import StepFailed
from mediadht.core.errors import MediaDHTError

__all__ = ["EVENTUALLY_S", "EXPECTED_FAULTS", "all_at_once", "eventually"]

EVENTUALLY_S: Final = 30.0
"""How long something may take that happens in the background. It takes a second or two; this is for busy machines."""

POLL_INTERVAL_S: Final = 0.05
EXPECTED_FAULTS: Final = (MediaDHTError, httpx.TransportError)
"""What may go wrong without being a mistake of ours: another process refuses, or does not answer."""

Answer = TypeVar("Answer")


async def eventually(look: Callable[[], Awaitable[Answer | None]], otherwise: str) -> tuple[Answer, float]:
    """What `look` sees once that is not None, and after how many seconds. Raises StepFailed(`otherwise`)."""
    began = time.perf_counter()
    with trio.move_on_after(EVENTUALLY_S):
        while (seen := await look()) is None:  # noqa: ASYNC110 - another process is no trio.Event
            await trio.sleep(POLL_INTERVAL_S)
        return seen, time.perf_counter() - began
    raise StepFailed(f"{otherwise} within {EVENTUALLY_S:g} s")


async def all_at_once(*deeds: Callable[[], Awaitable[object]]) -> None:
    """Do all at once. The first expected fault cancels the others and is raised as it is: people read it."""
    faults: list[Exception] = []

    async def guarded(deed: Callable[[], Awaitable[object]]) -> None:
        try:
            await deed()
        except EXPECTED_FAULTS as fault:
            faults.append(fault)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for deed in deeds:
            nursery.start_soon(guarded, deed)
    if faults:
        raise faults[0]
