"""What decides for an adversary's node: the real core, with something between it and the network.

A mind has the core's own seam, `handle(event, now) -> effects`. By itself it changes nothing; strategies override
`answer` (what is said to whoever asks), or, where they act of their own accord, `Restless.beat`. An adversary is
bound to what any node can do: it forges no signature, sees no session but its own, and sends nothing but messages.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from mediadht.core.contacts import Contact
from mediadht.core.events import Effect, Event, Received, Send, Start, WakeAt, Woke
from mediadht.core.messages import Answer, Find, Found, Query, Request, Response
from mediadht.core.node import Node
from mediadht.core.replica import answer as honest_answer
from mediadht.core.xor_index import XorIndex
from mediadht_sim.nodes import SimulatedNode

__all__ = ["Company", "Mind", "Restless"]

_NEVER = float("inf")


class Mind:
    """An honest node. `randomness` is this node's own stream."""

    __slots__ = ("body", "randomness")

    def __init__(self, body: SimulatedNode, randomness: random.Random) -> None:
        self.body = body
        self.randomness = randomness

    @property
    def core(self) -> Node:
        """The real node within: another one after each restart."""
        return self.body.node

    def handle(self, event: Event, now: float) -> list[Effect]:
        """See `Node.handle`."""
        if type(event) is not Received or type(event.message) is not Query:
            return self.core.handle(event, now)
        asker, query = event.node_id, event.message
        self.asked(asker, query.request)
        effects: list[Effect] = []
        for effect in self.core.handle(event, now):
            if not _answers(effect, asker, query):
                effects.append(effect)
                continue
            assert isinstance(effect, Send)
            assert isinstance(effect.message, Answer)
            response = self.answer(asker, query.request, effect.message.response)
            if response is not None:
                effects.append(Send(effect.contact, Answer(query.transaction, response)))
        return effects

    def asked(self, asker: int, request: Request) -> None:
        """A peer asks, before the core hears of it."""

    def answer(self, asker: int, request: Request, honest: Response) -> Response | None:
        """What to answer instead of `honest`; None for nothing."""
        return honest

    def contacts_near(self, asker: int, target: int, count: int, known: bytes) -> tuple[Contact, ...]:
        """The contacts that an honest node would name."""
        found = honest_answer(self.core.state, asker, Find(target, count, known))
        return found.contacts if isinstance(found, Found) else ()


class Restless(Mind, ABC):
    """A mind that acts of its own accord, every `beat_s` seconds."""

    __slots__ = ("_beat_at_s", "_core_wake_s", "_told_s", "beat_s")

    def __init__(self, body: SimulatedNode, randomness: random.Random, beat_s: float) -> None:
        super().__init__(body, randomness)
        self.beat_s = beat_s
        self._beat_at_s = float("-inf")
        self._core_wake_s = body.wake_s
        self._told_s = body.wake_s

    @abstractmethod
    def beat(self, now: float) -> Iterable[Effect]:
        """What to do now."""

    def handle(self, event: Event, now: float) -> list[Effect]:
        if type(event) is Start:
            self._core_wake_s = self._told_s = _NEVER
        effects: list[Effect] = []
        if type(event) is not Woke or now >= self._core_wake_s:
            if type(event) is Woke:
                self._core_wake_s = _NEVER
            for effect in super().handle(event, now):
                if type(effect) is WakeAt:
                    self._core_wake_s = effect.at_s
                else:
                    effects.append(effect)
        if now >= self._beat_at_s:
            # The first beat falls at a random time: adversaries are not in step.
            is_first = self._beat_at_s == float("-inf")
            self._beat_at_s = now + (self.randomness.random() if is_first else 1.0) * self.beat_s
            if not is_first:
                effects.extend(self.beat(now))
        wake_s = min(self._core_wake_s, self._beat_at_s)
        if wake_s != self._told_s or type(event) is Woke:
            self._told_s = wake_s
            effects.append(WakeAt(wake_s))
        return effects


class Company:
    """Contacts that liars name: their friends, or nodes that do not exist."""

    __slots__ = ("_by_id", "_index")

    def __init__(self, contacts: Sequence[Contact] = ()) -> None:
        self._by_id: dict[int, Contact] = {}
        self._index = XorIndex()
        for contact in contacts:
            self.add(contact)

    def __contains__(self, node_id: int) -> bool:
        return node_id in self._by_id

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, contact: Contact) -> None:
        """One more."""
        self._by_id[contact.node_id] = contact
        self._index.add(contact.node_id)

    def near(self, target: int, count: int, randomness: random.Random | None = None) -> tuple[Contact, ...]:
        """The `count` nearest to `target`; with `randomness`, so many of the four times as many that are nearest."""
        if randomness is None:
            chosen = self._index.closest(target, count)
        else:
            nearest = self._index.closest(target, 4 * count)
            chosen = sorted(randomness.sample(nearest, min(count, len(nearest))), key=target.__xor__)
        return tuple(self._by_id[node_id] for node_id in chosen)


def _answers(effect: Effect, asker: int, query: Query) -> bool:
    return (
        type(effect) is Send
        and type(effect.message) is Answer
        and effect.message.transaction == query.transaction
        and effect.contact.node_id == asker
    )
