"""Upload races in a simulated network: several nodes claim one key at once, and do as they are told.

A racer that is told to create makes its room after a while and establishes it; one that is told to join announces the
room that it joined; one that is told to wait asks again. What comes out is who made a room, what each believes in the
end, and which rooms have a quorum's receipts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mediadht.core.events import ClaimDecided, Decision, EstablishRoom, Notice, RoomEstablished, StartClaim
from mediadht.core.identifiers import Subject
from mediadht_sim.engine import Engine
from mediadht_sim.network import SimulatedNetwork
from mediadht_sim.nodes import SimulatedNode
from mediadht_sim.observers import Observer

__all__ = ["Race", "Racer", "certified_rooms", "race"]

_OPERATIONS_FROM = 1_000_000


@dataclass(slots=True)
class Racer:
    """One server in a race."""

    index: int
    asked_s: float
    operation: int = 0
    decisions: list[ClaimDecided] = field(default_factory=list)
    decided_s: float | None = None
    """When it was told to create or to join, first."""
    made: str | None = None
    """The room that it made."""
    established: RoomEstablished | None = None
    room_id: str | None = None
    """The room that it ended in."""
    dies: bool = False
    """It creates nothing, whatever it is told."""


@dataclass(slots=True, eq=False)
class Race(Observer):
    """One key and those who upload its file."""

    network: SimulatedNetwork
    subject: Subject
    racers: list[Racer]
    create_s: Callable[[int], float]
    deadline_s: float

    @property
    def is_over(self) -> bool:
        """Whether every racer has ended in a room, or is dead."""
        return all(racer.dies or racer.room_id is not None for racer in self.racers)

    def told(self, node: SimulatedNode, notice: Notice) -> None:
        """A node told its owner something."""
        for racer in self.racers:
            if racer.index != node.index or getattr(notice, "operation", None) != racer.operation:
                continue
            match notice:
                case ClaimDecided():
                    self._decided(racer, notice)
                case RoomEstablished():
                    racer.established = notice
                    racer.room_id = notice.canonical_room_id

    def ask(self, racer: Racer) -> None:
        """Have the racer's node ask for a claim."""
        self.network.handle(racer.index, StartClaim(racer.operation, self.subject, self.deadline_s))

    def _decided(self, racer: Racer, decided: ClaimDecided) -> None:
        engine = self.network.engine
        racer.decisions.append(decided)
        if decided.decision is Decision.WAIT:
            engine.after(decided.retry_s, lambda: self.ask(racer))
            return
        racer.decided_s = engine.now if racer.decided_s is None else racer.decided_s
        if decided.decision is Decision.JOIN:
            racer.room_id = decided.room_id
        elif not racer.dies:
            racer.made = f"!made{racer.index}:s{racer.index}.org"
            establish = EstablishRoom(racer.operation, self.subject, racer.made, 15.0)
            engine.after(self.create_s(racer.index), lambda: self.network.handle(racer.index, establish))


def race(
    network: SimulatedNetwork,
    subject: Subject,
    indices: Sequence[int],
    *,
    within_s: float = 0.05,
    create_s: Callable[[int], float] = lambda _: 1.0,
    deadline_s: float = 10.0,
    dead: Sequence[int] = (),
) -> Race:
    """Start a race of these nodes for `subject`; it runs as the engine does. `dead` ones claim and create nothing."""
    engine: Engine = network.engine
    draws: random.Random = engine.stream(f"race/{subject}")
    racers = [
        Racer(index, engine.now, _OPERATIONS_FROM + number, dies=index in dead) for number, index in enumerate(indices)
    ]
    made = Race(network, subject, racers, create_s, deadline_s)
    network.watch(made)
    for racer in racers:
        engine.after(draws.random() * within_s, lambda r=racer: made.ask(r))
    return made


def certified_rooms(network: SimulatedNetwork, key: int) -> set[bytes]:
    """The digests of rooms that any node that is up holds certified."""
    found: set[bytes] = set()
    for simulated in network.nodes:
        state = simulated.node.state
        if simulated.is_up:
            held = state.rooms.of_key(key, state.wall_s)
            found |= {h.room.digest for h in held if h.is_certified(state.wall_s)}
    return found
