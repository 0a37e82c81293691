"""Adversaries that sit in one place of the key space: `sybil` around a key, `eclipse` around a node.

Their node IDs were ground (`identities`); in everything that does not concern their target they are honest, so that
others keep them in their tables.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from enum import StrEnum

from mediadht.core.contacts import Contact
from mediadht.core.errors import RemoteError
from mediadht.core.events import Dial, Effect
from mediadht.core.messages import Find, Found, Get, Got, Put, PutDone, PutOutcome, Request, Response
from mediadht.core.records import parse_record
from mediadht_sim.adversaries.answers import named_instead
from mediadht_sim.adversaries.mind import Company, Mind, Restless
from mediadht_sim.nodes import SimulatedNode

__all__ = ["Eclipse", "Sybil", "Treason"]

_REDIAL_S = 10.0


class Treason(StrEnum):
    """What an identity does once it is asked for its target."""

    WITHHOLD = "withhold"
    """It has no records, and names honest contacts."""
    LIE = "lie"
    """It has no records, and names its fellows only."""


class Sybil(Mind):
    """One of many identities near `key`. It acknowledges what it is given and hands out none of it."""

    __slots__ = ("_fellows", "_key", "_treason")

    def __init__(
        self, body: SimulatedNode, randomness: random.Random, key: int, fellows: Company, treason: Treason
    ) -> None:
        super().__init__(body, randomness)
        self._key = key
        self._fellows = fellows
        self._treason = treason

    def answer(self, asker: int, request: Request, honest: Response) -> Response | None:
        if not self._concerns(request):
            return honest
        lies = self._treason is Treason.LIE
        match request, honest:
            case Find(), Found() if lies:
                return named_instead(self._fellows, request, honest)
            case Get(key, _, _, count), Got():
                near = self._fellows.near(key, count) if lies else self.contacts_near(asker, key, count, request.known)
                return Got((), 0, near)
            case Put(records, count), PutDone(_, contacts):
                named = self._fellows.near(self._key, count) if lies and count else contacts
                return PutDone(tuple(PutOutcome() for _ in records), named)
        return honest

    def _concerns(self, request: Request) -> bool:
        match request:
            case Find(target):
                return target == self._key
            case Get(key):
                return key == self._key
            case Put(records):
                return any(_key_of(body, signature) == self._key for body, signature in records)
        return False


class Eclipse(Restless):
    """One of many identities near `victim`. It keeps a session with it, names it fellows only, and serves it nothing.

    To others it does not name the victim.
    """

    __slots__ = ("_fellows", "victim")

    def __init__(self, body: SimulatedNode, randomness: random.Random, victim: Contact, fellows: Company) -> None:
        super().__init__(body, randomness, _REDIAL_S)
        self.victim = victim
        self._fellows = fellows

    def beat(self, now: float) -> Iterable[Effect]:
        if self.victim.node_id not in self.core.state.sessions and self.victim.endpoints:
            yield Dial(self.victim)

    def answer(self, asker: int, request: Request, honest: Response) -> Response | None:
        if asker != self.victim.node_id:
            return self._without_victim(honest)
        match request, honest:
            case Get(key, _, _, count), Got():
                return Got((), 0, self._fellows.near(key, count))
            case Put(records, count), PutDone():
                near = self._fellows.near(self.core.state.own_id, count) if count else ()
                return PutDone(tuple(PutOutcome() for _ in records), near)
        return named_instead(self._fellows, request, honest)

    def _without_victim(self, honest: Response) -> Response:
        match honest:
            case Found(contacts):
                return Found(self._others(contacts))
            case Got(records, total, contacts) if contacts:
                return Got(records, total, self._others(contacts))
            case PutDone(outcomes, contacts) if contacts:
                return PutDone(outcomes, self._others(contacts))
        return honest

    def _others(self, contacts: tuple[Contact, ...]) -> tuple[Contact, ...]:
        return tuple(contact for contact in contacts if contact.node_id != self.victim.node_id)


def _key_of(body: bytes, signature: bytes) -> int | None:
    try:
        return parse_record(body, signature, verify=False).key
    except RemoteError:
        return None
