"""What the nodes of a scenario are asked to do: announcements, lookups and withdrawals.

Times count from the start of the measured time. Rates are those of the whole network, not of a node; arrivals are
random and independent (Poisson). Which node does what is drawn by the seed from the nodes that are up.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mediadht_sim.scenario_base import NODES_MAX, Part, Share, Times

__all__ = ["FlashCrowd", "Joins", "MassRepublish", "Mix", "Uploads", "Workload", "Zipf"]

_SUBJECTS_MAX = 1_000_000
_Rate = Annotated[float, Field(ge=0.0, le=1_000_000.0)]


class _Workload(Part):
    starts_at_s: Times = Field(default=0.0, description="When it starts, in seconds of measured time.")

    @property
    def lasts_s(self) -> float:
        """From the first to the last thing that it starts, where that does not depend on the measured time."""
        return 0.0


class _Lookups(_Workload):
    providers_max: int = Field(default=16, ge=1, le=1_000, description="A lookup ends once it has this many providers.")
    deadline_s: float = Field(default=15.0, gt=0.0, le=600.0, description="A lookup ends after this, with what it has.")


class _WhileItLasts(_Lookups):
    ends_at_s: Times | None = Field(default=None, description="When it ends; left out, with the measured time.")


class Mix(_WhileItLasts):
    """Everyday life: some nodes announce, some look up what others announced, some withdraw."""

    kind: Literal["mix"] = "mix"
    subjects: int = Field(default=100, ge=1, le=_SUBJECTS_MAX, description="Different subjects, all equally popular.")
    seeded_share: Share = Field(default=1.0, description="The share of subjects that have a provider before it starts.")
    announcers_share: Share = Field(default=0.5, description="The share of nodes that announce at all.")
    announces_per_s: _Rate = Field(default=1.0, description="Announcements a second.")
    lookups_per_s: _Rate = Field(default=10.0, description="Lookups a second.")
    withdraws_per_s: _Rate = Field(default=0.0, description="Withdrawals a second, of what was announced before.")
    absent_share: Share = Field(
        default=0.0, description="The share of lookups for subjects that nobody ever announced."
    )


class FlashCrowd(_Lookups):
    """One subject that suddenly many nodes look up."""

    kind: Literal["flash-crowd"] = "flash-crowd"
    seeders: int = Field(default=1, ge=1, le=10_000, description="Nodes that announced it before.")
    share: Share | None = Field(default=None, description="The share of nodes that look it up, each once.")
    count: int | None = Field(default=None, ge=1, le=NODES_MAX, description="This many nodes instead of `share`.")
    ramp_s: float = Field(default=10.0, gt=0.0, le=86_400.0, description="Within this time they all start.")
    announce_after: bool = Field(default=False, description="Whether each that has found it announces it too.")

    @property
    def lasts_s(self) -> float:
        return self.ramp_s

    def size(self, nodes: int) -> int:
        """How many of `nodes` nodes look it up; half of them where nothing is said."""
        return self.count if self.count is not None else round((0.5 if self.share is None else self.share) * nodes)


class Zipf(_WhileItLasts):
    """Lookups of subjects of unequal popularity: the n-th most popular is asked for in proportion to n^-exponent."""

    kind: Literal["zipf"] = "zipf"
    subjects: int = Field(
        default=1_000, ge=1, le=_SUBJECTS_MAX, description="Different subjects, all announced before."
    )
    exponent: float = Field(
        default=1.0, ge=0.0, le=5.0, description="0 is all alike; 1 is Zipf's law; more is steeper."
    )
    lookups_per_s: _Rate = Field(default=20.0, description="Lookups a second.")
    providers_per_subject: int = Field(default=1, ge=1, le=1_000, description="Nodes that announced each of them.")


class Uploads(_Lookups):
    """The same media uploaded at several servers at nearly the same time: each looks it up, then announces it."""

    kind: Literal["uploads"] = "uploads"
    files: int = Field(default=20, ge=1, le=_SUBJECTS_MAX, description="Different media.")
    servers_per_file: int = Field(default=5, ge=1, le=10_000, description="Servers at which each of them is uploaded.")
    spread_ms: float = Field(
        default=500.0, ge=0.0, le=3_600_000.0, description="Between a medium's first and last upload."
    )
    every_s: float = Field(default=1.0, gt=0.0, le=86_400.0, description="Between one medium and the next.")

    @property
    def lasts_s(self) -> float:
        return (self.files - 1) * self.every_s + self.spread_ms / 1_000


class Joins(_Lookups):
    """Many servers that look up rooms by their ID in order to join: what happens after an invitation went round."""

    kind: Literal["joins"] = "joins"
    rooms: int = Field(default=10, ge=1, le=_SUBJECTS_MAX, description="Different rooms.")
    participants_per_room: int = Field(
        default=5, ge=1, le=10_000, description="Servers that are in a room and announced it."
    )
    joiners_per_room: int = Field(default=20, ge=1, le=NODES_MAX, description="Servers that look a room up.")
    within_s: float = Field(default=30.0, gt=0.0, le=86_400.0, description="Within this time they all start.")
    announce_after: bool = Field(default=True, description="Whether a server that found the room announces it too.")

    @property
    def lasts_s(self) -> float:
        return self.within_s


class MassRepublish(_Workload):
    """Servers with many records that all fall due at once; it shows what a record costs in messages."""

    kind: Literal["mass-republish"] = "mass-republish"
    servers: int = Field(default=1, ge=1, le=10_000, description="Servers that announce.")
    records_per_server: int = Field(default=1_000, ge=1, le=1_000_000, description="Announcements of each of them.")


Workload = Annotated[Mix | FlashCrowd | Zipf | Uploads | Joins | MassRepublish, Field(discriminator="kind")]
