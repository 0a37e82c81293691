"""The figures of a run, from its three tables: what is compared, swept, shown and published.

`METRICS` says of each figure its unit, its meaning and which way is better. What always holds: a figure that nothing
was measured for is None, never 0; sums are exact (`math.fsum`), so that the order of rows and the machine's vector unit
do not show; a percentile is a value that occurred (nearest rank), not one between two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from mediadht_sim.columns import INTERVALS, LOOKUPS, NODES, Table

__all__ = ["METRICS", "METRICS_BY_NAME", "Metric", "gini", "lorenz", "mean", "metrics", "percentile"]

Rows: TypeAlias = Sequence[tuple[Any, ...]] | pa.Table
Columns: TypeAlias = dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Metric:
    """`better` is "lower", "higher" or "" where neither is better in itself."""

    name: str
    words: str
    unit: str
    better: str
    meaning: str


METRICS: tuple[Metric, ...] = (
    Metric("lookups", "lookups", "", "", "lookups that nodes began"),
    Metric(
        "success_share",
        "lookups that found a provider",
        "share",
        "higher",
        "of the lookups for which a live announced provider was there, the share that was told one",
    ),
    Metric("lookups_found", "found", "", "", "lookups that were told a live provider"),
    Metric("lookups_missed", "missed", "", "lower", "lookups that were told none although a live one was there"),
    Metric("lookups_absent", "rightly nothing", "", "", "lookups for what nobody had"),
    Metric(
        "lookups_stale",
        "stale",
        "",
        "lower",
        "lookups that were told only providers that are down, have withdrawn, or are cut off",
    ),
    Metric("lookups_unfinished", "unfinished", "", "", "lookups still going when the run ended; in no other figure"),
    Metric("first_ms_p50", "first provider, median", "ms", "lower", "time to the first provider: half were faster"),
    Metric("first_ms_p95", "first provider, 95 of 100 within", "ms", "lower", "95th percentile of the same"),
    Metric("first_ms_p99", "first provider, 99 of 100 within", "ms", "lower", "99th percentile of the same"),
    Metric(
        "end_ms_p50", "lookup's end, median", "ms", "lower", "time until it ended: enough told, or none left to ask"
    ),
    Metric("end_ms_p99", "lookup's end, 99 of 100 within", "ms", "lower", "99th percentile of the same"),
    Metric("requests_mean", "requests per lookup, mean", "", "lower", "requests that a lookup sent"),
    Metric("requests_p50", "requests per lookup, median", "", "lower", "median of the same"),
    Metric("requests_p99", "requests per lookup, 99 of 100 within", "", "lower", "99th percentile of the same"),
    Metric("hops_mean", "hops per lookup, mean", "", "lower", "steps from the asker to the last node that mattered"),
    Metric("hops_p99", "hops per lookup, 99 of 100 within", "", "lower", "99th percentile of the same"),
    Metric("announces", "announcements", "", "", "announcements that nodes began"),
    Metric(
        "stored_share", "announcements stored", "share", "higher", "share of the ended ones that enough replicas hold"
    ),
    Metric("announce_ms_p50", "announcement, median", "ms", "lower", "time until its round ended"),
    Metric("announce_ms_p99", "announcement, 99 of 100 within", "ms", "lower", "99th percentile of the same"),
    Metric("announce_requests_mean", "requests per announcement, mean", "", "lower", "requests that one sent"),
    Metric("announce_hops_mean", "hops per announcement, mean", "", "lower", "steps to the last node that mattered"),
    Metric("announce_replicas_mean", "replicas per announcement, mean", "", "higher", "replicas that acknowledged"),
    Metric(
        "messages_per_lookup",
        "all messages per lookup",
        "",
        "lower",
        "all messages sent in the measured time, announcements and upkeep included, divided by lookups begun",
    ),
    Metric(
        "messages_per_operation",
        "all messages per operation",
        "",
        "lower",
        "all messages sent in the measured time, upkeep included, divided by lookups, announcements and withdrawals",
    ),
    Metric("messages_per_node_s", "messages per node and second", "1/s", "lower", "sent, over the time nodes were up"),
    Metric("bytes_per_node_s", "bytes per node and second", "B/s", "lower", "sent; only where messages were encoded"),
    Metric(
        "routing_health",
        "routing health, mean",
        "share",
        "higher",
        "of the k nodes truly closest to a node, the share that it knows live; mean of the intervals",
    ),
    Metric("routing_health_min", "routing health, worst interval", "share", "higher", "lowest interval of the same"),
    Metric(
        "load_gini",
        "inequality of load (Gini)",
        "",
        "lower",
        "over honest nodes: 0 when every node receives as many messages, towards 1 when one receives all",
    ),
    Metric("load_max_over_mean", "busiest node over the mean", "", "lower", "messages received, honest nodes"),
)
METRICS_BY_NAME = {metric.name: metric for metric in METRICS}


def metrics(lookups: Rows, intervals: Rows, nodes: Rows) -> dict[str, float | None]:
    """Every figure of `METRICS`, in its order; None where nothing was measured."""
    operations, series, hosts = _columns(LOOKUPS, lookups), _columns(INTERVALS, intervals), _columns(NODES, nodes)
    figures: dict[str, float | None] = {}
    figures |= _of_lookups(operations)
    figures |= _of_announces(operations)
    figures |= _of_network(len(operations["kind"]), figures["lookups"] or 0, series, hosts)
    return {metric.name: figures[metric.name] for metric in METRICS}


def percentile(values: Iterable[float], share: float) -> float | None:
    """The nearest-rank percentile: the smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def lorenz(values: Iterable[float]) -> list[float]:
    """Cumulated shares from the smallest value to the largest, 0 first and 1 last; empty when all is 0."""
    ordered = sorted(values)
    total = math.fsum(ordered)
    if total <= 0:
        return []
    shares, so_far = [0.0], 0.0
    for value in ordered:
        so_far += value
        shares.append(so_far / total)
    return shares


def gini(values: Iterable[float]) -> float | None:
    """Gini's coefficient of values that are not negative: 0 for all equal, (n - 1) / n when one has all."""
    ordered = sorted(values)
    total = math.fsum(ordered)
    if total <= 0:
        return None
    count = len(ordered)
    return math.fsum((2 * rank - count - 1) * value for rank, value in enumerate(ordered, 1)) / (count * total)


def _columns(table: Table, rows: Rows) -> Columns:
    names = [column.name for column in table.columns]
    if isinstance(rows, pa.Table):
        return {name: rows.column(name).to_pylist() for name in names}
    columns: Columns = {name: [] for name in names}
    for row in rows:
        for name, value in zip(names, row, strict=True):
            columns[name].append(value)
    return columns


def _pick(columns: Columns, name: str, wanted: Callable[[str, str], bool]) -> list[Any]:
    """The column's values in rows whose (kind, outcome) is wanted; nulls are left out."""
    rows = zip(columns[name], columns["kind"], columns["outcome"], strict=True)
    return [value for value, kind, outcome in rows if value is not None and wanted(kind, outcome)]


def mean(values: Sequence[float]) -> float | None:
    """The mean, of an exact sum; None of nothing."""
    return math.fsum(values) / len(values) if values else None


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _of_lookups(columns: Columns) -> dict[str, float | None]:
    outcomes = _pick(columns, "outcome", lambda kind, outcome: kind == "lookup")
    count = {word: outcomes.count(word) for word in ("found", "missed", "absent", "stale", "unfinished")}

    def ended(kind: str, outcome: str) -> bool:
        return kind == "lookup" and outcome != "unfinished"

    first_ms, end_ms = _pick(columns, "first_ms", ended), _pick(columns, "end_ms", ended)
    requests, hops = _pick(columns, "requests", ended), _pick(columns, "hops", ended)
    return {
        "lookups": len(outcomes),
        "success_share": _ratio(count["found"], count["found"] + count["missed"]),
        **{f"lookups_{word}": number for word, number in count.items()},
        "first_ms_p50": percentile(first_ms, 0.50),
        "first_ms_p95": percentile(first_ms, 0.95),
        "first_ms_p99": percentile(first_ms, 0.99),
        "end_ms_p50": percentile(end_ms, 0.50),
        "end_ms_p99": percentile(end_ms, 0.99),
        "requests_mean": mean(requests),
        "requests_p50": percentile(requests, 0.50),
        "requests_p99": percentile(requests, 0.99),
        "hops_mean": mean(hops),
        "hops_p99": percentile(hops, 0.99),
    }


def _of_announces(columns: Columns) -> dict[str, float | None]:
    begun = _pick(columns, "outcome", lambda kind, outcome: kind == "announce")

    def ended(kind: str, outcome: str) -> bool:
        return kind == "announce" and outcome != "unfinished"

    def told(kind: str, outcome: str) -> bool:
        return ended(kind, outcome) and outcome != "untold"

    outcomes, end_ms = _pick(columns, "outcome", ended), _pick(columns, "end_ms", told)
    return {
        "announces": len(begun),
        "stored_share": _ratio(outcomes.count("stored"), len(outcomes)),
        "announce_ms_p50": percentile(end_ms, 0.50),
        "announce_ms_p99": percentile(end_ms, 0.99),
        "announce_requests_mean": mean(_pick(columns, "requests", told)),
        "announce_hops_mean": mean(_pick(columns, "hops", told)),
        "announce_replicas_mean": mean(_pick(columns, "replicas", told)),
    }


def _of_network(operations: int, lookups: float, series: Columns, hosts: Columns) -> dict[str, float | None]:
    sent, up_s = sum(series["messages"]), math.fsum(hosts["up_s"])
    rows = zip(hosts["messages_in"], hosts["honest"], hosts["up_s"], strict=True)
    load = [received for received, honest, alive_s in rows if honest and alive_s > 0]
    mean_load = mean(load)
    return {
        "messages_per_lookup": _ratio(sent, lookups),
        "messages_per_operation": _ratio(sent, operations),
        "messages_per_node_s": _ratio(sum(hosts["messages_out"]), up_s),
        "bytes_per_node_s": _ratio(sum(hosts["bytes_out"]), up_s) or None,
        "routing_health": mean(series["routing_health"]),
        "routing_health_min": min(series["routing_health"], default=None),
        "load_gini": gini(load),
        "load_max_over_mean": max(load) / mean_load if mean_load else None,
    }
