"""Who watches a simulation: checkers, measurements, a test's own eyes.

Observers see what owners see (notices, lives, wishes) and, if they say so, every message. They never change anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from mediadht.core.events import LookupEnded, Notice, ProviderFound
from mediadht.core.identifiers import Subject
from mediadht.core.messages import Message

if TYPE_CHECKING:
    from mediadht_sim.nodes import SimulatedNode

__all__ = ["LookupResult", "Observer"]


@dataclass(slots=True, eq=False)
class LookupResult:
    """What one lookup gave; it fills while the engine runs. Times are virtual seconds."""

    index: int
    subject: Subject
    started_s: float
    providers: list[ProviderFound] = field(default_factory=list)
    first_s: float | None = None
    """When the first provider was handed on."""
    ended: LookupEnded | None = None
    ended_s: float = 0.0
    is_abandoned: bool = False
    """Its node went down before it ended."""
    then: Callable[[], None] | None = None
    """Called once it has ended by itself."""


class Observer:
    """Does nothing at every occasion; subclasses watch what concerns them."""

    watches_messages: ClassVar[bool] = False
    """Whether `sent` is to be called: it costs time for every message."""

    def told(self, node: SimulatedNode, notice: Notice) -> None:
        """The node told its owner something. Called before a lookup's result takes the notice in."""

    def looked_up(self, node: SimulatedNode, result: LookupResult) -> None:
        """A lookup has ended, or was abandoned with its node."""

    def wished(self, node: SimulatedNode, subject: Subject, announced: bool) -> None:
        """The owner wants `subject` announced from now on, or withdrawn."""

    def life(self, node: SimulatedNode, what: str) -> None:
        """`added`, `crashed`, `left`, `restarted`, `frozen` or `thawed`."""

    def sent(self, sender: SimulatedNode, receiver: SimulatedNode, message: Message) -> None:
        """A message leaves for an open session; it may still get lost."""
