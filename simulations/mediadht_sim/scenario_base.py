"""What every part of a scenario shares: a frozen pydantic model that refuses unknown keys and wrong types.

Nothing is converted: a number in quotes is a mistake, and so is `true` for a number. A whole number may stand for a
fractional one. Every field has a description, which is its documentation (`docs/simulation.md` is held against it).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Crowd", "Numbers", "Part", "Path", "Share", "Times"]

YEAR_S = 366 * 86_400.0
NODES_MAX = 1_000_000
"""Ten times what one run is meant for; more nodes do not fit a machine's memory."""


class Part(BaseModel):
    """A table of a scenario."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Share = Annotated[float, Field(ge=0.0, le=1.0)]
Times = Annotated[float, Field(ge=0.0, le=YEAR_S)]
Numbers = Annotated[tuple[float, ...], Field(strict=False, min_length=1, max_length=1_000)]
Path = Annotated[str, Field(min_length=1, max_length=4_096)]
"""A file's path; in a scenario file, relative to that file."""


class Crowd(Part):
    """Some of the nodes, chosen by the seed: a share of those that qualify, or a number of them."""

    share: Share | None = Field(default=None, description="This share of the nodes, rounded to the nearest whole node.")
    count: int | None = Field(default=None, ge=1, le=NODES_MAX, description="This many nodes, instead of `share`.")

    def size(self, nodes: int) -> int:
        """How many of `nodes` nodes are meant."""
        if self.count is not None:
            return self.count
        return round((self.share or 0.0) * nodes)
