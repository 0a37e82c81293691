"""The canary: ready means stored and read back; one check at a time; an outcome stands for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from mediadht.core.events import AnnouncementProgress, AnnounceWish, LookupEnded
from mediadht.daemon.readiness import DEADLINE_S, FRESH_S, RETRY_S, Canary


@dataclass
class FakeDHT:
    """Driver and lookups at once: what the DHT would do with the canary's record."""

    sessions: int = 3
    known: int = 3
    is_replica: bool = True
    replicas: int | None = 4
    """Who takes the record; None if nobody ever answers."""
    holding: int | None = 2
    stored: list[AnnounceWish] = field(default_factory=list)
    stopped: int = 0
    canary: Canary | None = None

    @property
    def node(self) -> Any:
        state = SimpleNamespace(
            sessions=range(self.sessions), book=range(self.known), own_id=7, wall_s=1.0, is_replica=self.is_replica
        )
        return SimpleNamespace(state=state)

    async def step(self, event: AnnounceWish) -> None:
        self.stored.append(event)
        if self.replicas is not None:
            notice = AnnouncementProgress(event.subject, False, False, 1, self.replicas, 20, 1, 60.0, None)
            assert self.canary is not None
            assert self.canary.told(notice)
            assert not self.canary.told(AnnouncementProgress(None, False, False, 1, 9, 20, 1, 6.0, None))  # type: ignore[arg-type]

    async def start(self, *_: object) -> tuple[int, Any]:
        outcome = None if self.holding is None else LookupEnded(1, 1, 3, self.holding, 3, 1, True)
        return 1, Running(outcome)

    async def stop(self, _number: int) -> None:
        self.stopped += 1


@dataclass
class Running:
    outcome: LookupEnded | None

    async def __aiter__(self) -> AsyncIterator[object]:
        await trio.lowlevel.checkpoint()
        if self.outcome is None:
            await trio.sleep_forever()
        yield object()


def canary_of(dht: FakeDHT, *, expects_peers: bool = True, can_announce: bool = True) -> Canary:
    dht.canary = Canary(dht, dht, expects_peers=expects_peers, can_announce=can_announce)  # type: ignore[arg-type]
    return dht.canary


@pytest.mark.parametrize(
    ("dht", "expects_peers", "ready", "why"),
    [
        (FakeDHT(), True, True, "stored on 4 nodes and read back from 2"),
        (FakeDHT(sessions=0, known=0), False, True, "a network of one"),
        (FakeDHT(sessions=0, known=0), True, False, "no peer can be reached"),
        (FakeDHT(sessions=0, known=5), False, False, "no peer can be reached"),
        (FakeDHT(replicas=0), True, False, "no peer took a test record: none is near enough"),
        (FakeDHT(replicas=0, is_replica=False), True, False, "no peer took a test record"),
        (FakeDHT(replicas=1, is_replica=False), True, True, "stored on 1 nodes"),
        (FakeDHT(holding=0), True, False, "could not be read back"),
        (FakeDHT(replicas=None), True, False, f"not stored and read back within {DEADLINE_S:.0f} s"),
        (FakeDHT(holding=None), True, False, f"not stored and read back within {DEADLINE_S:.0f} s"),
    ],
)
async def test_what_it_says(
    autojump_clock: trio.testing.MockClock, dht: FakeDHT, expects_peers: bool, ready: bool, why: str
) -> None:
    readiness = await canary_of(dht, expects_peers=expects_peers).check()
    assert readiness.ready is ready
    assert why in readiness.why
    assert readiness.checked_s_ago == 0
    assert dht.stopped == (dht.sessions > 0 and dht.replicas is not None and dht.replicas > dht.is_replica)


async def test_without_a_server_name_peers_are_enough() -> None:
    dht = FakeDHT()
    readiness = await canary_of(dht, can_announce=False).check()
    assert readiness.ready
    assert "stores nothing" in readiness.why
    assert not dht.stored


async def test_many_who_ask_share_one_check_and_it_stands_for_a_while(autojump_clock: trio.testing.MockClock) -> None:
    dht = FakeDHT()
    canary = canary_of(dht)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(canary.check)
    assert len(dht.stored) == 1
    await trio.sleep(FRESH_S - 1)
    assert (await canary.check()).checked_s_ago == pytest.approx(FRESH_S - 1)
    assert len(dht.stored) == 1
    await trio.sleep(2)
    assert (await canary.check()).checked_s_ago == 0
    assert len({wish.subject for wish in dht.stored}) == 2


async def test_a_failure_is_checked_again_soon(autojump_clock: trio.testing.MockClock) -> None:
    dht = FakeDHT(holding=0)
    canary = canary_of(dht)
    assert not (await canary.check()).ready
    dht.holding = 1
    assert not (await canary.check()).ready
    await trio.sleep(RETRY_S + 0.1)
    assert (await canary.check()).ready


async def test_whoever_asks_can_give_up_and_the_next_finds_the_outcome(autojump_clock: trio.testing.MockClock) -> None:
    dht = FakeDHT(replicas=None)
    canary = canary_of(dht)
    with trio.move_on_after(1):
        await canary.check()
    dht.replicas = 4
    assert "not stored and read back" in (await canary.check()).why
    await trio.sleep(RETRY_S + 1)
    assert (await canary.check()).ready
