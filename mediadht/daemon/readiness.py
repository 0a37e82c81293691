"""Ready means: a record was stored in the DHT and read back from other nodes, not that a port is open.

A canary is a record under a key of this node's own making that lives a few minutes. It is stored and looked up at the
start, then every few minutes while somebody asks; the answer stands until the next one. A node without peers, and
without a place to look for any, is a network of one and ready when its own store works.
"""

from __future__ import annotations

import hashlib

import trio

from mediadht.core.events import AnnouncementProgress, AnnounceWish
from mediadht.core.identifiers import Subject, media
from mediadht.core.keys import node_id_hex
from mediadht.core.records import Payload
from mediadht.daemon.driver import Driver
from mediadht.daemon.face import Readiness
from mediadht.daemon.lookups import Lookups

__all__ = ["Canary"]

LIFETIME_S = 600
FRESH_S = 120.0
"""An outcome this old is still given; a failure for `RETRY_S` only."""
RETRY_S = 5.0
DEADLINE_S = 4.0
"""Less than the HTTP API gives an answer by default."""


class Canary:
    """Checks readiness on demand; one check at a time, however many ask."""

    def __init__(self, driver: Driver, lookups: Lookups, *, expects_peers: bool, can_announce: bool) -> None:
        self._driver = driver
        self._lookups = lookups
        self._expects_peers = expects_peers
        self._can_announce = can_announce
        self._turn = trio.Lock()
        self._latest: tuple[float, bool, str] | None = None
        self._stored = trio.Event()
        self._outcome: tuple[int, str | None] = (0, None)
        self._subject: Subject | None = None
        self._count = 0

    def told(self, notice: AnnouncementProgress) -> bool:
        """Take the progress of the canary's own record; False if it is about something else."""
        if self._subject is None or notice.subject != self._subject:
            return False
        self._outcome = notice.replicas, notice.trouble
        self._stored.set()
        return True

    async def check(self) -> Readiness:
        """The latest outcome, or a new one if that is too old."""
        async with self._turn:
            now = trio.current_time()
            latest = self._latest
            if latest is None or now - latest[0] > (FRESH_S if latest[1] else RETRY_S):
                with trio.CancelScope(shield=True):  # whoever asked may give up; the next finds the outcome
                    ready, why = await self._run()
                latest = self._latest = (trio.current_time(), ready, why)
        return Readiness(latest[1], latest[2], trio.current_time() - latest[0])

    async def _run(self) -> tuple[bool, str]:
        state = self._driver.node.state
        if not state.sessions:
            if self._expects_peers or len(state.book):
                return False, "no peer can be reached: check the network, and the addresses given with --bootstrap"
            return True, "a network of one: no peers are configured, and none have come"
        if not self._can_announce:
            return True, f"{len(state.sessions)} peers; this node has no server name, so it stores nothing"
        outcome = False, f"a test record was not stored and read back within {DEADLINE_S:.0f} s"
        with trio.move_on_after(DEADLINE_S):
            outcome = await self._store_and_read()
        return outcome

    async def _store_and_read(self) -> tuple[bool, str]:
        state = self._driver.node.state
        self._count += 1
        name = f"mediadht/1/canary/{node_id_hex(state.own_id)}/{state.wall_s:.3f}/{self._count}"
        self._subject = media("sha256." + hashlib.sha256(name.encode()).hexdigest())
        self._stored = trio.Event()
        await self._driver.step(AnnounceWish(self._subject, Payload(), lifetime_s=LIFETIME_S))
        await self._stored.wait()
        replicas, trouble = self._outcome
        if not replicas:
            return False, f"no peer took a test record: {trouble or 'none is near enough'}"
        number, running = await self._lookups.start(self._subject, 16, DEADLINE_S)
        try:
            async for _ in running:
                continue
            outcome = running.outcome
        finally:
            await self._lookups.stop(number)
        if outcome is None or not outcome.replicas_holding:
            return False, f"a test record that {replicas} nodes took could not be read back"
        return True, f"a test record was stored on {replicas} nodes and read back from {outcome.replicas_holding}"
