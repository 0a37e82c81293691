"""The columns of the three tables that a run leaves, as data: name, type, unit, meaning, and the words they may hold.

Writing, reading, the report and the documentation all go by these; `measure.py` gives its rows in this order. Times are
virtual seconds since measuring began, after the warm-up; counts cover the measured time only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

__all__ = ["ARROW_TYPES", "INTERVALS", "LOOKUPS", "NODES", "TABLES", "Column", "Table"]

ARROW_TYPES: dict[str, pa.DataType] = {
    "f8": pa.float64(),
    "i4": pa.int32(),
    "i8": pa.int64(),
    "str": pa.string(),
    "bool": pa.bool_(),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `kind` is "f8", "i4", "i8", "str" or "bool"; `words`, where given, are all that it may hold."""

    name: str
    kind: str
    unit: str
    meaning: str
    nullable: bool = False
    words: tuple[str, ...] = ()

    def field(self) -> pa.Field:
        """The column as Parquet has it, unit and meaning within."""
        return pa.field(self.name, ARROW_TYPES[self.kind], self.nullable, {"unit": self.unit, "meaning": self.meaning})


@dataclass(frozen=True, slots=True)
class Table:
    """A table's name (its file is `<name>.parquet`), what a row is, and the columns in order."""

    name: str
    row: str
    columns: tuple[Column, ...]

    def schema(self, metadata: Mapping[str, str] | None = None) -> pa.Schema:
        """The Parquet schema with what is the same in every run left to `metadata`."""
        return pa.schema([column.field() for column in self.columns], dict(metadata or {}))


KINDS = ("lookup", "announce", "withdraw")
OUTCOMES = ("found", "missed", "absent", "stale", "unfinished", "stored", "too_few", "untold")

LOOKUPS = Table(
    "lookups",
    "an operation that a node was told to do: a lookup, an announcement or its withdrawal",
    (
        Column("at_s", "f8", "s", "when it began, in virtual time since measuring began"),
        Column("kind", "str", "", "lookup, announce or withdraw", words=KINDS),
        Column("node", "i4", "", "index of the node that did it"),
        Column("subject", "str", "", "what was looked up or announced"),
        Column("first_ms", "f8", "ms", "until the first provider was told; null where there was none", nullable=True),
        Column("end_ms", "f8", "ms", "until it ended; null where it had not when the run did", nullable=True),
        Column("providers", "i4", "", "providers told to the caller"),
        Column("providers_total", "i4", "", "providers that replicas said they hold"),
        Column("requests", "i4", "", "requests sent for it, repeats included"),
        Column("hops", "i4", "", "steps from the asker to the last node that mattered"),
        Column("replicas", "i4", "", "replicas that answered a lookup, or acknowledged an announcement"),
        Column("complete", "bool", "", "whether it ended by its own rule, not by its deadline"),
        Column(
            "outcome",
            "str",
            "",
            "lookups: found; missed: a live announced provider was there and was not found; absent: rightly nothing; "
            "stale: only ones that are down, have withdrawn, or are cut off from the asker. Announcements: stored; "
            "too_few replicas; untold: the owner heard nothing. Both: unfinished when the run ended",
            words=OUTCOMES,
        ),
    ),
)
INTERVALS = Table(
    "intervals",
    "the network over one interval of virtual time",
    (
        Column("at_s", "f8", "s", "when the interval ended, in virtual time since measuring began"),
        Column("nodes_up", "i4", "", "nodes up at its end"),
        Column("messages", "i8", "", "messages sent in it"),
        Column("bytes", "i8", "bytes", "bytes sent in it"),
        Column("dials", "i8", "", "connections that nodes tried to open in it"),
        Column("lookups", "i4", "", "lookups that ended in it"),
        Column("found", "i4", "", "of these, found"),
        Column("missed", "i4", "", "of these, missed though a live provider was there"),
        Column("announces", "i4", "", "announcements that ended in it"),
        Column(
            "first_ms_p50", "f8", "ms", "median time to the first provider; null where none was told", nullable=True
        ),
        Column("first_ms_p95", "f8", "ms", "95th percentile of the same", nullable=True),
        Column("routing_health", "f8", "share", "of the k nodes truly closest to a node, the share that it knows live"),
        Column("table_mean", "f8", "", "contacts in a routing table, mean of the nodes up"),
        Column("sessions_mean", "f8", "", "open sessions of a node, mean of the nodes up"),
        Column("records", "i8", "", "records held by all nodes up"),
        Column("violations", "i4", "", "times that a checker fired in it"),
    ),
)
NODES = Table(
    "nodes",
    "a node over the whole measured time",
    (
        Column("node", "i4", "", "its index"),
        Column("honest", "bool", "", "false for adversaries"),
        Column("reachable", "bool", "", "whether others can dial it"),
        Column("up_s", "f8", "s", "virtual time that it was up"),
        Column("messages_in", "i8", "", "messages it received"),
        Column("messages_out", "i8", "", "messages it sent"),
        Column("bytes_in", "i8", "bytes", "bytes it received"),
        Column("bytes_out", "i8", "bytes", "bytes it sent"),
        Column("records", "i4", "", "records it held at the end"),
        Column("table", "i4", "", "contacts in its routing table at the end"),
        Column("contacts", "i4", "", "contacts in its address book at the end"),
        Column("sessions", "i4", "", "sessions open at the end"),
        Column("load_share", "f8", "share", "of all messages that nodes received, the share that it received"),
    ),
)
TABLES = (LOOKUPS, INTERVALS, NODES)
