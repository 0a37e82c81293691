"""A scenario: everything that, with a seed, decides a simulation. Checked whole before anything runs.

A minimal one is a name and `[network] nodes = 100`; every other key has a default. Units stand last in the names,
times count from the start of the measured time, shares are in [0, 1]. `mediadht_sim.scenario_file` reads TOML files.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from mediadht.core.constants import CONTACT_CACHE_MAX, SESSIONS_MAX, K
from mediadht_sim.scenario_base import NODES_MAX, YEAR_S, Crowd, Part, Path, Share, Times
from mediadht_sim.scenario_constants import Constants
from mediadht_sim.scenario_events import Adversary, Event, Heal, Partition
from mediadht_sim.scenario_workloads import FlashCrowd, Joins, MassRepublish, Mix, Uploads, Workload, Zipf

__all__ = [
    "Checks",
    "ConstantLatency",
    "Exponential",
    "Latency",
    "Links",
    "Lives",
    "LogNormal",
    "Network",
    "Never",
    "PlanetLabLatency",
    "Scenario",
    "SyntheticLatency",
    "Trace",
    "Weibull",
    "WonderNetworkLatency",
]

_Fault = tuple[tuple[str | int, ...], str]
"""The key, and what is wrong with it."""

_RECORDS_MAX = 10_000_000
_SHARES_SUM_ERROR = 1e-6


class Network(Part):
    """The nodes, and how they come together."""

    nodes: int = Field(default=100, ge=2, le=NODES_MAX, description="Honest nodes at the start.")
    start: Literal["settled", "joined"] = Field(
        default="settled",
        description="`settled` builds the tables that a network up for long would have (quick); `joined` has the "
        "nodes join one after another, as they would in truth.",
    )
    join_every_s: float = Field(
        default=0.1, gt=0.0, le=3_600.0, description="Between two joins, where `start` is `joined`."
    )
    settle_s: Times = Field(default=60.0, description="Warm-up after the start; nothing of it is measured.")
    k: int = Field(default=K, ge=1, le=64, description="Replicas of a record, and contacts in a bucket.")
    contacts_max: int = Field(
        default=CONTACT_CACHE_MAX, ge=1, le=1_000_000, description="Contacts that a node remembers beside its table."
    )
    sessions_max: int = Field(default=SESSIONS_MAX, ge=4, le=100_000, description="Open sessions of one node.")
    unreachable_share: Share = Field(
        default=0.0, description="Nodes that nobody can dial: they ask, and keep no records."
    )
    codec: Literal["reference", "bytes"] = Field(
        default="reference",
        description="`bytes` encodes and decodes every message (slower); `reference` passes the object.",
    )
    signatures: Literal["fake", "real"] = Field(
        default="fake",
        description="`real` signs and checks with Ed25519 (slower); `fake` with a hash that is as exact.",
    )
    keepalive: Literal["assumed", "exchanged"] = Field(
        default="assumed",
        description="`exchanged` sends the pings that keep sessions alive; `assumed` lets the engine end dead sessions "
        "at the time when pings would have found out.",
    )


class _Latency(Part):
    jitter_share: float = Field(
        default=0.05, ge=0.0, le=10.0, description="A message is late by a random share of its latency, with this mean."
    )


class _Stretched(_Latency):
    median_ms: float | None = Field(
        default=None,
        gt=0.0,
        le=60_000.0,
        description="Stretched so that this is the median round-trip time of all pairs; left out, as measured.",
    )


class SyntheticLatency(_Stretched):
    """Round-trip times drawn from a built-in model of the Internet, fitted to PlanetLab's: a median of 140 ms."""

    model: Literal["synthetic"] = "synthetic"


class ConstantLatency(_Latency):
    """The same round-trip time between all nodes."""

    model: Literal["constant"] = "constant"
    median_ms: float = Field(default=100.0, gt=0.0, le=60_000.0, description="The round-trip time.")


class PlanetLabLatency(_Stretched):
    """Round-trip times between PlanetLab's hosts; a node is placed at one of them."""

    model: Literal["planetlab"] = "planetlab"
    file: Path = Field(description="The square matrix of round-trip times in ms, as NetLatency-Data has it.")


class WonderNetworkLatency(_Stretched):
    """Ping times between WonderNetwork's cities; a node is placed in one of them."""

    model: Literal["wondernetwork"] = "wondernetwork"
    file: Path = Field(description="The table of pings in ms: CSV, the cities in the first row and column.")


def _with_model(given: Any) -> Any:
    return {"model": "synthetic", **given} if isinstance(given, dict) else given


Latency = Annotated[
    SyntheticLatency | ConstantLatency | PlanetLabLatency | WonderNetworkLatency,
    Field(discriminator="model"),
    BeforeValidator(_with_model),
]


class Links(Part):
    """What else lies between two nodes."""

    loss: float = Field(default=0.0, ge=0.0, lt=1.0, description="The share of messages that are lost.")
    retransmits: bool = Field(
        default=False,
        description="Whether a lost message comes later, as over TCP; otherwise it never comes (harsher).",
    )
    upload_bps: float = Field(
        default=0.0, ge=0.0, le=1e12, description="Bits a second that a node sends at most; 0: no limit."
    )
    download_bps: float = Field(
        default=0.0, ge=0.0, le=1e12, description="Bits a second that a node gets at most; 0: no limit."
    )
    slow_share: Share = Field(default=0.0, description='The share of slow ("grey") nodes.')
    slow_factor: float = Field(
        default=10.0, ge=1.0, le=1_000.0, description="How many times longer all takes at slow nodes."
    )
    dial_round_trips: int = Field(
        default=4, ge=0, le=20, description="Round trips of a dial: TCP, TLS, WebSocket, handshake."
    )
    clock_skew_s: float = Field(
        default=0.0,
        ge=0.0,
        le=86_400.0,
        description="Every node's clock is wrong by at most this, evenly drawn, either way.",
    )


class Exponential(Part):
    """Memoryless durations."""

    kind: Literal["exponential"] = "exponential"
    mean_s: float = Field(gt=0.0, le=YEAR_S, description="The mean.")


class Weibull(Part):
    """Durations with a heavy tail, where `shape` is less than 1: what measurements of real DHTs show."""

    kind: Literal["weibull"] = "weibull"
    shape: float = Field(ge=0.1, le=10.0, description="1 is exponential; less has more very short and very long ones.")
    scale_s: float = Field(gt=0.0, le=YEAR_S, description="63% of the durations are shorter than this.")


class LogNormal(Part):
    """Durations whose logarithm is normally distributed."""

    kind: Literal["lognormal"] = "lognormal"
    median_s: float = Field(gt=0.0, le=YEAR_S, description="The median.")
    sigma: float = Field(ge=0.0, le=10.0, description="Standard deviation of the natural logarithm.")


class Trace(Part):
    """Durations drawn from a file of observed ones, all nodes' together."""

    kind: Literal["trace"] = "trace"
    file: Path = Field(description="CSV with node,up_s,down_s (or JSON lines); `absence` takes the last.")


class Never(Part):
    """They never end."""

    kind: Literal["never"] = "never"


_Duration = Annotated[Exponential | Weibull | LogNormal | Trace | Never, Field(discriminator="kind")]


class Lives(Part):
    """How nodes come and go (churn)."""

    session: _Duration = Field(default=Never(), description="How long a node is up; `never` is no churn.")
    absence: _Duration = Field(
        default=Exponential(mean_s=600.0),
        description="How long it is away before it comes back; `never` means that another node comes in its place.",
    )
    graceful_share: Share = Field(default=0.5, description="The share of sessions that end in order, not in a crash.")
    keep_state_share: Share = Field(
        default=0.9, description="The share of returns with contacts and records kept on disk."
    )


class Checks(Part):
    """What is watched while the simulation runs. Every violation is reported; a run with any has failed."""

    live_found: bool = Field(
        default=True, description="A lookup finds a seeder that announced, is up and can be reached."
    )
    withdrawn_gone: bool = Field(default=True, description="A lookup does not find what was withdrawn.")
    bounds: bool = Field(default=True, description="Every table and queue of every node is within its bound.")
    routing: bool = Field(default=True, description="Nodes know those that are truly closest to them.")
    deadlines: bool = Field(default=True, description="Every lookup ends by its deadline.")
    found_share_min: Share = Field(
        default=0.99, description="`live_found` is violated if a smaller share is found, over the whole run."
    )
    gone_share_min: Share = Field(
        default=0.99, description="`withdrawn_gone` is violated if a smaller share is rightly not found."
    )
    routing_health_min: Share = Field(
        default=0.8,
        description="`routing` is violated if nodes know less than this share of their true closest at the end.",
    )
    settle_s: Times = Field(
        default=60.0, description="For this long after an event, an announcement or a withdrawal, nothing is expected."
    )


class Scenario(Part):
    """See the module's header."""

    name: str = Field(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Its name: letters, digits, dots, dashes and underscores.",
    )
    about: str = Field(
        default="", max_length=4_000, description="What it shows, in words for somebody who was not there."
    )
    seed: int = Field(default=1, ge=0, lt=1 << 63, description="Decides everything random; `--seed` wins over it.")
    duration_s: float = Field(default=600.0, gt=0.0, le=YEAR_S, description="Measured time, after the warm-up.")
    interval_s: float = Field(default=10.0, gt=0.0, le=YEAR_S, description="Length of a row of the table of intervals.")
    network: Network = Field(default=Network(), description="The nodes, and how they come together.")
    latency: Latency = Field(default=SyntheticLatency(), description="Round-trip times.")
    links: Links = Field(default=Links(), description="Loss, bandwidth, slow nodes, dials, clocks.")
    lives: Lives = Field(default=Lives(), description="Churn.")
    events: Annotated[tuple[Event, ...], Field(strict=False, max_length=1_000)] = Field(
        default=(), description="What happens at a given time."
    )
    adversaries: Annotated[tuple[Adversary, ...], Field(strict=False, max_length=100)] = Field(
        default=(), description="Nodes that misbehave."
    )
    workloads: Annotated[tuple[Workload, ...], Field(strict=False, max_length=100)] = Field(
        default=(Mix(),), description="What the nodes are asked to do; left out, one `mix`."
    )
    checks: Checks = Field(default=Checks(), description="What is watched.")
    constants: Constants = Field(default={}, description="Constants of the protocol with other values, by their names.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        faults = list(itertools.chain(self._time_faults(), self._size_faults()))
        if faults:
            raise PydanticCustomError("together", "{text}", {"text": faults[0][1], "faults": faults})
        return self

    def _time_faults(self) -> Iterator[_Fault]:
        if self.interval_s > self.duration_s:
            yield ("interval_s",), f"longer than duration_s = {self.duration_s:g}: write at most that"
        is_cut = False
        for number, event in enumerate(self.events):
            key = ("events", number, "at_s")
            until_s = event.at_s + getattr(event, "over_s", 0.0)
            if until_s > self.duration_s:
                yield key, f"ends at {until_s:g} s, after duration_s = {self.duration_s:g}: it would never happen"
        for number, event in sorted(enumerate(self.events), key=lambda pair: (pair[1].at_s, pair[0])):
            if isinstance(event, Heal) and not is_cut:
                yield ("events", number, "at_s"), "nothing is cut at that time: write a partition before it"
            is_cut = isinstance(event, Partition) or (is_cut and not isinstance(event, Heal))
        for number, adversary in enumerate(self.adversaries):
            if adversary.starts_at_s > self.duration_s:
                yield ("adversaries", number, "starts_at_s"), f"after duration_s = {self.duration_s:g}"
        for number, workload in enumerate(self.workloads):
            ends_at_s = getattr(workload, "ends_at_s", None)
            if workload.starts_at_s >= self.duration_s:
                key = ("workloads", number, "starts_at_s")
                yield key, f"not before duration_s = {self.duration_s:g}: it would never start"
            elif ends_at_s is not None and not workload.starts_at_s < ends_at_s <= self.duration_s:
                allowed = f"write more than starts_at_s = {workload.starts_at_s:g} and at most {self.duration_s:g}"
                yield ("workloads", number, "ends_at_s"), allowed
            elif workload.starts_at_s + workload.lasts_s > self.duration_s:
                text = f"its last start is {workload.lasts_s:g} s later, after duration_s = {self.duration_s:g}"
                yield ("workloads", number, "starts_at_s"), text

    def _size_faults(self) -> Iterator[_Fault]:
        nodes = self.network.nodes
        if self.network.k > nodes and self.network.k != K:
            yield ("network", "k"), f"more than network.nodes = {nodes}: every node would hold everything"
        for number, event in enumerate(self.events):
            yield from _partition_faults(event, nodes, number) if isinstance(event, Partition) else ()
            yield from _crowd_faults(event, nodes, "events", number) if isinstance(event, Crowd) else ()
        for number, adversary in enumerate(self.adversaries):
            yield from _crowd_faults(adversary, nodes, "adversaries", number)
            if adversary.strategy == "eclipse" and adversary.target >= nodes:
                yield (
                    ("adversaries", number, "target"),
                    f"there is no node {adversary.target}: write at most {nodes - 1}",
                )
        for number, workload in enumerate(self.workloads):
            for field, amount in _servers_needed(workload, nodes):
                if amount > nodes:
                    yield ("workloads", number, field), f"more than network.nodes = {nodes}"
            if isinstance(workload, MassRepublish) and workload.servers * workload.records_per_server > _RECORDS_MAX:
                key = ("workloads", number, "records_per_server")
                yield key, f"more than {_RECORDS_MAX:,} records in all do not fit a machine's memory"

    def to_json(self) -> dict[str, Any]:
        """All of it, the defaults included, in JSON's types; `Scenario.model_validate` takes it back."""
        return self.model_dump(mode="json")

    def with_settings(self, settings: Sequence[str]) -> Scenario:
        """A copy with settings (`network.nodes=500`) laid over it, checked. Raises ScenarioError."""
        from mediadht_sim.scenario_file import with_settings  # noqa: PLC0415 - it reads the models

        return with_settings(self, settings)

    def with_values(self, values: Mapping[str, Any]) -> Scenario:
        """The same, of dotted keys and plain values."""
        from mediadht_sim.scenario_file import with_values  # noqa: PLC0415 - it reads the models

        return with_values(self, values)


def _partition_faults(event: Partition, nodes: int, number: int) -> Iterator[_Fault]:
    named = [field for field in ("groups", "share", "shares") if getattr(event, field) is not None]
    if len(named) > 1:
        yield ("events", number, named[1]), f"{named[0]} says it already: write one of groups, share, shares"
    elif abs(sum(event.sizes()) - 1.0) > _SHARES_SUM_ERROR or any(size < 0 for size in event.sizes()):
        yield ("events", number, "shares"), f"they add up to {sum(event.sizes()):g}: write shares that add up to 1"
    elif len(event.sizes()) > nodes:
        yield ("events", number, named[0]), f"more parts than network.nodes = {nodes}"


def _crowd_faults(crowd: Crowd, nodes: int, table: str, number: int) -> Iterator[_Fault]:
    grows = getattr(crowd, "kind", "") == "join" or getattr(crowd, "strategy", "") in {"sybil", "eclipse", "flood"}
    if crowd.share is None and crowd.count is None:
        yield (table, number), "how many? write share = 0.1 (a tenth of the nodes) or count = 10"
    elif crowd.share is not None and crowd.count is not None:
        yield (table, number, "count"), "share says it already: write one of share and count"
    elif crowd.count is not None and crowd.count > nodes and not grows:
        yield (table, number, "count"), f"more than network.nodes = {nodes}"


def _servers_needed(workload: Workload, nodes: int) -> list[tuple[str, int]]:
    match workload:
        case FlashCrowd():
            return [("seeders", workload.seeders), ("count", workload.size(nodes))]
        case Zipf():
            return [("providers_per_subject", workload.providers_per_subject)]
        case Uploads():
            return [("servers_per_file", workload.servers_per_file)]
        case Joins():
            needed = workload.participants_per_room + workload.joiners_per_room
            return [("joiners_per_room", needed)]
        case MassRepublish():
            return [("servers", workload.servers)]
        case _:
            return []
