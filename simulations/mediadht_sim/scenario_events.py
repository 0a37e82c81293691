"""What goes wrong in a scenario: events at given times, and adversaries.

Times count from the start of the measured time. Nodes are chosen by the seed; an adversary is an additional node
beside the honest ones when it is a `sybil` or `eclipse`, and an honest node that turned otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mediadht_sim.scenario_base import Crowd, Numbers, Part, Share, Times

__all__ = [
    "Adversary",
    "Crash",
    "Drop",
    "Eclipse",
    "Event",
    "Flood",
    "Freeze",
    "Heal",
    "Join",
    "LeaveInOrder",
    "Lie",
    "Partition",
    "Replay",
    "Restart",
    "Slow",
    "Sybil",
    "Thaw",
    "Withhold",
]


class _AtATime(Part):
    at_s: Times = Field(description="When it happens, in seconds of measured time.")


class _AtATimeToSome(Crowd):
    at_s: Times = Field(description="When it happens, in seconds of measured time.")
    over_s: Times = Field(default=0.0, description="Spread evenly over this time; 0 is all at once.")


class Partition(_AtATime):
    """The network falls apart: nothing passes between its parts, until it is healed."""

    kind: Literal["partition"] = "partition"
    groups: int | None = Field(default=None, ge=2, le=100, description="Into this many parts of equal size.")
    share: Share | None = Field(
        default=None, description="Into two parts, instead of `groups`: the smaller has this share."
    )
    shares: Numbers | None = Field(
        default=None, description="Into parts of these sizes, instead of `groups`; they add up to 1."
    )

    def sizes(self) -> tuple[float, ...]:
        """The parts' shares of all nodes; two halves where nothing is said."""
        if self.shares is not None:
            return self.shares
        if self.share is not None:
            return (1.0 - self.share, self.share)
        groups = self.groups or 2
        return (1.0 / groups,) * groups


class Heal(_AtATime):
    """Everything passes again."""

    kind: Literal["heal"] = "heal"


class Crash(_AtATimeToSome):
    """Nodes stop; their peers see the connections break."""

    kind: Literal["crash"] = "crash"


class Freeze(_AtATimeToSome):
    """Nodes neither answer nor close anything any more: a machine that was switched off."""

    kind: Literal["freeze"] = "freeze"


class Thaw(_AtATimeToSome):
    """Frozen nodes go on."""

    kind: Literal["thaw"] = "thaw"


class LeaveInOrder(_AtATimeToSome):
    """Nodes leave gracefully: they hand over their records and say goodbye."""

    kind: Literal["leave"] = "leave"
    deadline_s: float = Field(
        default=5.0, gt=0.0, le=600.0, description="The time that a leaving node has to hand over."
    )


class Restart(_AtATimeToSome):
    """Nodes that are down start again."""

    kind: Literal["restart"] = "restart"
    keep_state: bool = Field(
        default=True, description="Whether they still have the contacts and records they had on disk."
    )


class Join(_AtATimeToSome):
    """New nodes come; `share` is of `network.nodes`."""

    kind: Literal["join"] = "join"


class Slow(_AtATimeToSome):
    """Nodes become slow: all they send and get takes longer."""

    kind: Literal["slow"] = "slow"
    factor: float = Field(default=10.0, ge=1.0, le=1_000.0, description="This many times as long; 1 mends them.")


Event = Annotated[
    Partition | Heal | Crash | Freeze | Thaw | LeaveInOrder | Restart | Join | Slow, Field(discriminator="kind")
]


class _Adversary(Crowd):
    starts_at_s: Times = Field(
        default=0.0, description="From when on they misbehave; until then they are like anybody."
    )
    domains: int = Field(
        default=0, ge=0, le=1_000_000, description="Registrable domains that they share; 0 is a domain for each."
    )
    prefixes: int = Field(
        default=0, ge=0, le=1_000_000, description="IP prefixes (/24) that they share; 0 is a prefix for each."
    )
    target: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Whom it is about: the number of a subject of the workloads, for `eclipse` of a node; from 0.",
    )


class Sybil(_Adversary):
    """Additional nodes whose IDs lie nearest to a subject's key; they take records and never give them."""

    strategy: Literal["sybil"] = "sybil"


class Eclipse(_Adversary):
    """Additional nodes that surround a victim's ID, crowd its tables, and name only one another to it."""

    strategy: Literal["eclipse"] = "eclipse"


class Drop(_Adversary):
    """Nodes that leave requests unanswered."""

    strategy: Literal["drop"] = "drop"
    drop_share: Share = Field(default=1.0, description="The share of requests that they leave unanswered.")


class Lie(_Adversary):
    """Nodes that answer with contacts that lead away: invented ones, or their accomplices."""

    strategy: Literal["lie"] = "lie"


class Withhold(_Adversary):
    """Nodes that acknowledge records and never give them out."""

    strategy: Literal["withhold"] = "withhold"


class Replay(_Adversary):
    """Nodes that give out old records after they were withdrawn."""

    strategy: Literal["replay"] = "replay"


class Flood(_Adversary):
    """Nodes that send requests as fast as they can."""

    strategy: Literal["flood"] = "flood"
    messages_per_s: float = Field(
        default=100.0, gt=0.0, le=100_000.0, description="Requests a second, of each of them."
    )


Adversary = Annotated[Sybil | Eclipse | Drop | Lie | Withhold | Replay | Flood, Field(discriminator="strategy")]
