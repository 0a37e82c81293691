"""Networks of the `kademlia` package at the work that we measure ourselves by: announce, look up, lose nodes, look up.

An announce is `Server.set`, a lookup `Server.get`. The rows are those of `lookups.parquet`, and mean:

- `at_s` counts from the start of the first announce;
- `first_ms` is `end_ms`: the package hands its one value over when the call returns, which is after every node of that
  round answered or timed out, and after a copy was stored at the nearest node without one (its "caching" store);
- `providers` is 0 or 1: a key has one value, a later `set` replaces it, nothing is withdrawn or signed;
- `requests` are datagrams that ask, `hops` answers that led to the value (`datagrams.Operation`), `replicas` values
  heard by a lookup, stores acknowledged to an announce (the announcer's own copy is not counted);
- `complete`: the call returned; `end_ms` is null and the outcome `unfinished` where it did not within the limit;
- `outcome` otherwise as everywhere; a value whose announcer is dead is `stale`, for nobody serves the media any more.

What is modelled: everything in the package and in rpcudp, for their code runs: the 5 s timeout of a request, no
retries, a node forgotten after one timeout, rounds that wait for their slowest answer, alpha 3 and k 20, replication to
newcomers, hourly refresh. Around it: latency, jitter, loss, bandwidth, cuts, nodes that crash without a word. One
kindness is ours: a node whose bootstrap got no answer tries again, as whoever runs it would.

From some hundreds of nodes on, the package can flood its network with stores, without end (docs/research.md has the
mechanism): a run stops at `messages_max`, says so in `flooded_s`, and the operations under way are `unfinished`.

What is not modelled: CPU time; UDP fragmentation and its size limit (the largest datagram of a run is reported, and
stays below any MTU with k = 20); queues that overflow, NATs, ICMP (an unconnected UDP socket does not hear of it).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kademlia.network import Server
from kademlia.utils import digest

from mediadht_sim.baseline.datagrams import OPERATION, DatagramNetwork, Operation, address_of
from mediadht_sim.baseline.loop import VirtualLoop
from mediadht_sim.baseline.pinned import pinned
from mediadht_sim.engine import Engine
from mediadht_sim.links import Links, LinkSettings

__all__ = ["BaselinePhase", "BaselineResult", "LookupRow", "run_baseline"]

LookupRow = tuple[Any, ...]
"""The columns of lookups.parquet: at_s, kind, node, subject, first_ms, end_ms, providers, providers_total, requests,
hops, replicas, complete, outcome."""

Call = tuple[Callable[..., Any], tuple[Any, ...]]

_OPERATION_S_MAX = 600.0
"""A call that has not returned this long after the phase's last one began is `unfinished`: 120 timeouts in a row."""
_BOOTSTRAPS_MAX = 10


@dataclass(frozen=True, slots=True)
class BaselinePhase:
    """A part of the run: joining, warming up, announcing, looking up before and after the crash."""

    name: str
    started_s: float
    ended_s: float
    messages: int
    bytes_sent: int
    """UDP payloads, without the 28 bytes of headers each."""
    rows: list[LookupRow]


@dataclass(frozen=True, slots=True)
class BaselineResult:
    """What a run gave. `trace` digests every datagram and row."""

    seed: int
    trace: str
    phases: dict[str, BaselinePhase]
    crashed: list[int]
    faults: list[str]
    """Exceptions inside the package that nobody took."""
    events: int
    messages: int
    bytes_largest: int
    virtual_s: float
    flooded_s: float | None
    """When `messages_max` was reached, in virtual seconds from the first join; the run ended there."""

    @property
    def lookups(self) -> list[LookupRow]:
        """The rows of all phases, in order."""
        return [row for phase in self.phases.values() for row in phase.rows]


@dataclass(slots=True)
class _Row:
    """An operation under way, then ended."""

    started_s: float
    kind: str
    index: int
    subject: str
    operation: Operation
    end_ms: float | None = None
    providers: int = 0
    replicas: int = 0
    outcome: str = "unfinished"

    def end(self, now: float, outcome: str, *, providers: int = 0, replicas: int) -> None:
        """Its call has returned."""
        self.operation.is_ended = True
        self.end_ms = (now - self.started_s) * 1_000
        self.outcome, self.providers, self.replicas = outcome, providers, replicas

    def values(self, measured_s: float) -> LookupRow:
        """The row, at the end of its phase; measuring began at `measured_s`."""
        is_complete, self.operation.is_ended = self.operation.is_ended, True
        return (
            self.started_s - measured_s,
            self.kind,
            self.index,
            self.subject,
            self.end_ms if self.providers else None,
            self.end_ms,
            self.providers,
            self.providers,
            self.operation.requests,
            self.operation.hops,
            self.replicas,
            is_complete,
            self.outcome,
        )


@dataclass(slots=True)
class _Run:
    """A network under way."""

    engine: Engine
    loop: VirtualLoop
    network: DatagramNetwork
    k: int
    alpha: int
    messages_max: int
    servers: list[Any] = field(default_factory=list)
    is_up: list[bool] = field(default_factory=list)
    announcers: dict[str, int] = field(default_factory=dict)
    rows: list[_Row] = field(default_factory=list)
    pending: int = 0
    measured_s: float = 0.0
    """When measuring began."""

    def spawn(self, work: Any) -> None:
        """Run a coroutine, and count it as pending until it ends."""
        self.pending += 1
        self.loop.create_task(self._counted(work))

    async def _counted(self, work: Any) -> None:
        try:
            await work
        finally:
            self.pending -= 1

    def join(self) -> None:
        """A further node, which joins through node 0."""
        index = len(self.servers)
        identifier = hashlib.sha1(f"{self.engine.seed}/baseline/node/{index}".encode()).digest()  # noqa: S324
        server = Server(ksize=self.k, alpha=self.alpha, node_id=identifier)
        self.servers.append(server)
        self.is_up.append(True)

        async def join() -> None:
            host, port = address_of(index)
            await server.listen(port, interface=host)
            for _ in range(_BOOTSTRAPS_MAX if index else 0):
                if await server.bootstrap([address_of(0)]):
                    break

        self.spawn(join())

    def crash(self, index: int) -> None:
        """Its timers end, and nothing leaves it or arrives at it any more."""
        self.is_up[index] = False
        self.servers[index].stop()

    async def announce(self, index: int, subject: str) -> None:
        """Set the subject's value; a row."""
        row = self._begin("announce", index, subject)
        self.announcers[subject] = index
        try:
            is_stored = bool(await self.servers[index].set(subject, f"s{index}.example{index}.org"))
        except ValueError:
            # The package takes the maximum of no distances where none of the nodes that it knows answers.
            is_stored = False
        row.end(self.engine.now, "stored" if is_stored else "too_few", replicas=row.operation.stored)

    async def look_up(self, index: int, subject: str) -> None:
        """Get the subject's value; a row."""
        row = self._begin("lookup", index, subject)
        is_live = self.is_up[self.announcers[subject]]
        is_found = await self.servers[index].get(subject) is not None
        outcome = ("found" if is_live else "stale") if is_found else ("missed" if is_live else "absent")
        row.end(self.engine.now, outcome, providers=int(is_found), replicas=row.operation.values)

    def _begin(self, kind: str, index: int, subject: str) -> _Row:
        operation = Operation(digest(subject))
        OPERATION.set(operation)  # in the context of this call's task, and of those that it starts
        row = _Row(self.engine.now, kind, index, subject, operation)
        self.rows.append(row)
        return row

    def phase(self, name: str, calls: Sequence[Call], every_s: float) -> BaselinePhase:
        """Make a call every `every_s` seconds, and wait until all have ended."""
        engine, network = self.engine, self.network
        started_s, messages, bytes_sent = engine.now, network.messages, network.bytes_sent
        self.rows = []
        for number, (call, arguments) in enumerate(calls):
            engine.at(started_s + number * every_s, self._call, call, arguments)
        self.wait(started_s + max(0, len(calls) - 1) * every_s)
        engine.run_while(lambda: self.pending > 0 and not self.is_flooded, _OPERATION_S_MAX)
        rows = [row.values(self.measured_s) for row in self.rows]
        counts = (network.messages - messages, network.bytes_sent - bytes_sent)
        return BaselinePhase(name, started_s, engine.now, *counts, rows)

    @property
    def is_flooded(self) -> bool:
        """Whether it has sent as much as it may."""
        return self.network.messages >= self.messages_max

    def wait(self, until_s: float) -> None:
        """Let time pass until then, or until the network is flooded."""
        self.engine.run_while(lambda: not self.is_flooded, until_s - self.engine.now)

    def _call(self, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        made = call(*arguments)
        if made is not None:
            self.spawn(made)


def run_baseline(
    nodes: int,
    *,
    seed: int,
    latency: Callable[[int, int], float],
    loss: float = 0.0,
    jitter_share: float = 0.0,
    lookups: int,
    announces: int,
    crash_share: float = 0.0,
    k: int = 20,
    alpha: int = 3,
    join_every_s: float = 0.2,
    settle_s: float = 30.0,
    warm_lookups_per_node: int = 0,
    every_s: float = 0.1,
    messages_max: int = 500_000,
) -> BaselineResult:
    """Have `nodes` nodes join one after the other, announce, look up; kill a share of them at once, look up again.

    `latency(a, b)` is the one-way latency in seconds between two node indices; `loss` the share of datagrams that
    vanish. Operations start `every_s` apart, from random nodes; a lookup's is another than the key's announcer, and
    lives. The run ends early once `messages_max` datagrams were sent. Phases: "join", "warm"
    (`warm_lookups_per_node` lookups by every node of keys that nobody announced), "announce", "before" and, with a
    `crash_share`, "after": `lookups` lookups each, the first at the moment of the crash.
    """
    assert nodes >= 2
    engine = Engine(seed)
    loop = VirtualLoop(engine)  # type: ignore[abstract]  # what it lacks raises NotImplementedError, as it shall
    links = Links(engine, latency, LinkSettings(loss=loss, jitter_share=jitter_share))
    run = _Run(engine, loop, DatagramNetwork(engine, loop, links), k, alpha, messages_max)
    choice = engine.stream("baseline/work")
    phases: dict[str, BaselinePhase] = {}

    def phase(name: str, calls: Sequence[Call], apart_s: float = every_s) -> None:
        if not run.is_flooded:
            phases[name] = run.phase(name, calls, apart_s)

    with pinned(engine):
        phase("join", [(run.join, ())] * nodes, join_every_s)
        run.wait(engine.now + settle_s)
        warm = [(turn, node) for turn in range(warm_lookups_per_node) for node in range(nodes)]
        phase("warm", [(run.servers[node].get, (_subject(seed, f"warm/{turn}/{node}"),)) for turn, node in warm])
        run.measured_s = engine.now
        subjects = [_subject(seed, number) for number in range(announces)]
        phase("announce", [(run.announce, (choice.randrange(nodes), subject)) for subject in subjects])
        phase("before", _lookups(run, subjects, lookups, choice))
        crashed = sorted(choice.sample(range(nodes), round(crash_share * nodes)))
        for index in crashed:
            run.crash(index)
        if crashed:
            phase("after", _lookups(run, subjects, lookups, choice))
        ended_s = engine.now
        for server in run.servers:
            server.stop()
        loop.close()
    return BaselineResult(
        seed=seed,
        trace=_trace(run.network.trace, phases),
        phases=phases,
        crashed=crashed,
        faults=loop.faults,
        events=engine.events,
        messages=run.network.messages,
        bytes_largest=run.network.bytes_largest,
        virtual_s=ended_s,
        flooded_s=ended_s if run.is_flooded else None,
    )


def _subject(seed: int, number: object) -> str:
    return "sha256." + hashlib.sha256(f"{seed}/file/{number}".encode()).hexdigest()


def _lookups(run: _Run, subjects: list[str], count: int, choice: random.Random) -> list[Call]:
    """Lookups of announced subjects in random order, each from a random live node that did not announce it."""
    order = [subjects[number % len(subjects)] for number in range(count)]
    choice.shuffle(order)
    living = [index for index, is_up in enumerate(run.is_up) if is_up]
    calls: list[Call] = []
    for subject in order:
        asker = choice.choice([index for index in living if index != run.announcers.get(subject)])
        calls.append((run.look_up, (asker, subject)))
    return calls


def _trace(datagrams: str, phases: dict[str, BaselinePhase]) -> str:
    trace = hashlib.sha256(datagrams.encode())
    for phase in phases.values():
        for row in phase.rows:
            trace.update(repr(row).encode())
    return trace.hexdigest()
