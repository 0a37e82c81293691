"""The front's Prometheus metrics. No room ID, user or server name ever becomes a label."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["FrontMetrics"]

_LOOKUP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class FrontMetrics:
    """All of them, registered in the daemon's registry. One front a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.joins = Counter(
            "mediadht_front_joins",
            "Joins by room ID, by what the DHT contributed: helped (servers added), known (the client had named all), "
            "nothing (no servers known), deadline, busy, error, or unfit (the request could not be rewritten).",
            ["outcome"],
            registry=registry,
        )
        self.answers = Counter(
            "mediadht_front_helped_answers",
            "What became of helped joins: joined, joined_on_retry, joined_as_it_came, or refused.",
            ["outcome"],
            registry=registry,
        )
        self.lookup_s = Histogram(
            "mediadht_front_lookup_seconds",
            "Time that joins waited for the DHT.",
            registry=registry,
            buckets=_LOOKUP_BUCKETS_S,
        )
        self.passed_through = Counter(
            "mediadht_front_passed_through", "Requests that are no joins by room ID.", registry=registry
        )
        self.upstream_errors = Counter(
            "mediadht_front_upstream_errors",
            "Requests that the homeserver did not answer, by why.",
            ["why"],
            registry=registry,
        )
        self.refused = Counter(
            "mediadht_front_refused", "Requests refused because too many were under way.", registry=registry
        )
        self.under_way = Gauge("mediadht_front_requests_under_way", "Requests under way.", registry=registry)
