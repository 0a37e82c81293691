"""The `flood` adversary: as many requests as it can, each of them one that any node might send."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable

from mediadht.core.constants import KNOWN_PREFIX_BYTES, PROVIDERS_PER_ANSWER_MAX, RECORD_VALIDITY_S, K
from mediadht.core.events import Effect, Send
from mediadht.core.identifiers import media
from mediadht.core.messages import Find, Get, Put, Query, Request, SignedBytes
from mediadht.core.records import Payload, sign_record
from mediadht_sim.adversaries.mind import Restless
from mediadht_sim.nodes import SimulatedNode

__all__ = ["Flood"]

_BEAT_S = 0.25
_FIRST_TRANSACTION = 1 << 31
"""Far from the core's own numbers, which count up from 1: the answers are nobody's."""
_TRANSACTIONS = 1 << 30
_RECORDS = 64
_RECORDS_PER_PUT = 8


class Flood(Restless):
    """Sends `requests_per_s` to peers that it knows: contacts of random points, providers of random keys, records."""

    __slots__ = ("_count", "_records", "_requests_per_s")

    def __init__(self, body: SimulatedNode, randomness: random.Random, requests_per_s: float) -> None:
        super().__init__(body, randomness, _BEAT_S)
        self._requests_per_s = requests_per_s
        self._count = 0
        self._records: list[SignedBytes] = []

    def beat(self, now: float) -> Iterable[Effect]:
        wanted = self._requests_per_s * self.beat_s
        number = int(wanted) + (self.randomness.random() < wanted - int(wanted))
        book = self.core.state.book
        for _ in range(number):
            for node_id in book.live.closest(self.randomness.getrandbits(256), 1):
                self._count += 1
                transaction = _FIRST_TRANSACTION + self._count % _TRANSACTIONS
                yield Send(book[node_id].contact, Query(transaction, self._request()))

    def _request(self) -> Request:
        point = self.randomness.getrandbits(256)
        match self._count % 3:
            case 0:
                return Put(self._put(), K, b"")
            case 1:
                return Find(point, K, b"")
            case _:
                return Get(point, point, PROVIDERS_PER_ANSWER_MAX, K, None, bytes(KNOWN_PREFIX_BYTES))

    def _put(self) -> tuple[SignedBytes, ...]:
        """Records of its own, signed as they must be: a replica has to look at each."""
        if not self._records:
            self._records = [self._signed(number) for number in range(_RECORDS)]
        return tuple(self.randomness.sample(self._records, _RECORDS_PER_PUT))

    def _signed(self, number: int) -> SignedBytes:
        state = self.core.state
        name = hashlib.sha256(f"flood {state.own_id} {number}".encode()).hexdigest()
        record = sign_record(
            state.keys,
            media(f"sha256.{name}"),
            server_name=state.contact.server_name or "flood.example",
            sequence=int(state.wall_s * 1000),
            expires_s=int(state.wall_s) + RECORD_VALIDITY_S,
            payload=Payload(),
        )
        return record.body, record.signature
