"""A node on the bench: its clock is cranked by hand, and its peers answer as the test says."""

from __future__ import annotations

import hashlib
import random

from mediadht.core.contacts import Contact
from mediadht.core.events import (
    ClockSet,
    Effect,
    Event,
    Notice,
    Received,
    Send,
    SessionOpened,
    Start,
    Tell,
    WakeAt,
    Woke,
)
from mediadht.core.identifiers import Subject, media
from mediadht.core.keys import KeyPair
from mediadht.core.messages import (
    Answer,
    Find,
    Found,
    Get,
    Got,
    Ping,
    Pong,
    Put,
    PutDone,
    PutOutcome,
    Query,
    Request,
    Response,
)
from mediadht.core.node import Node
from mediadht.core.records import Payload, Record, sign_record
from mediadht.core.session import Hello
from mediadht.core.state import NodeSettings

EPOCH_S = 1_800_000_000
SUBJECT = media("sha256." + "0" * 64)


def keys(number: int) -> KeyPair:
    return KeyPair.from_seed(hashlib.sha256(str(number).encode()).digest())


def contact(number: int, host: str = "") -> Contact:
    return Contact.of(keys(number).public_key, (f"wss://{host or f'n{number}.org'}/",), f"n{number}.org")


class Bench:
    """A node with a hand-cranked clock. `sent` are its open requests; peers answer as the test says."""

    def __init__(self, **settings: object) -> None:
        self.now = 0.0
        self.node = Node(
            keys(-1),
            Contact.of(keys(-1).public_key, ("wss://own.example/",), "own.example"),
            NodeSettings(**settings),  # type: ignore[arg-type]
            entropy=random.Random(5).randbytes,
            registrable_domain=lambda host: ".".join(host.split(".")[-2:]),
            now=0.0,
        )
        self.effects: list[Effect] = []
        self.notices: list[Notice] = []
        self.sent: list[tuple[int, Query]] = []
        self.wake_s = float("inf")
        self.give(ClockSet(EPOCH_S))
        self.give(Start())

    def give(self, event: Event) -> list[Effect]:
        effects = self.node.handle(event, self.now)
        self.effects += effects
        for effect in effects:
            match effect:
                case WakeAt(at_s):
                    self.wake_s = at_s
                case Tell(notice):
                    self.notices.append(notice)
                case Send(to, Query() as query):
                    self.sent.append((to.node_id, query))
        return effects

    def run_until(self, time_s: float) -> None:
        for _ in range(100_000):
            if self.wake_s > time_s:
                break
            self.now, self.wake_s = max(self.now, self.wake_s), float("inf")
            self.give(Woke())
        else:
            raise AssertionError("the node never sleeps")
        self.now = time_s

    def connect(self, *numbers: int, outbound: bool = True, uptime_s: int = 10_000) -> None:
        for number in numbers:
            hello = Hello(contact(number), bytes(8), uptime_s, int(EPOCH_S + self.now), "peer")
            self.give(SessionOpened(hello, outbound, f"8.8.{number}.8"))

    def answer_all(self, answers: dict[type[Request], Response], limit: int = 1_000) -> list[tuple[int, Request]]:
        """Answer every open request, and those that follow, until none comes or for `limit` of them; returns them."""
        seen: list[tuple[int, Request]] = []
        while self.sent and len(seen) < limit:
            node_id, query = self.sent.pop(0)
            seen.append((node_id, query.request))
            assert len(seen) < 1_000, "it never stops asking"
            response = answers.get(type(query.request))
            if response is not None:
                self.give(Received(node_id, Answer(query.transaction, response)))
        return seen

    def told(self, kind: type[Notice]) -> list[Notice]:
        return [notice for notice in self.notices if isinstance(notice, kind)]


QUIET: dict[type[Request], Response] = {Ping: Pong(), Find: Found(()), Get: Got((), 0), Put: PutDone((PutOutcome(),))}


def connected(count: int, **settings: object) -> Bench:
    bench = Bench(**settings)
    bench.connect(*range(count))
    bench.answer_all(QUIET)
    return bench


def provider(signer: int = 3, *, subject: Subject = SUBJECT, sequence: int = 1, withdrawn: bool = False) -> Record:
    return sign_record(
        keys(signer),
        subject,
        server_name=f"n{signer}.org",
        sequence=sequence,
        expires_s=EPOCH_S + 1_000,
        payload=None if withdrawn else Payload(),
    )


def raw(record: Record) -> tuple[bytes, bytes]:
    return record.body, record.signature
