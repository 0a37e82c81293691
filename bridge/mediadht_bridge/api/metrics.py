"""The API's own metrics, in the daemon's registry.

Always holds: labels come from fixed sets (a route's template, a known method, a status), never from what a caller
wrote, so that IDs do not leak into a monitoring system and nobody can grow the number of series.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["ApiMetrics"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ApiMetrics:
    """Counters of requests; `close` takes them out of the registry again."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._requests = Counter(
            "mediadht_api_requests", "Requests answered.", ("route", "method", "status"), registry=registry
        )
        self._seconds = Histogram(
            "mediadht_api_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ("route", "method"),
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self.in_flight = Gauge("mediadht_api_requests_in_flight", "Requests being answered.", registry=registry)

    def observe(self, *, route: str, method: str, status: int | None, duration_s: float) -> None:
        """Count one request; `status` None means that the caller left before an answer began."""
        method = method if method in _METHODS else "other"
        self._requests.labels(route, method, "left" if status is None else str(status)).inc()
        self._seconds.labels(route, method).observe(duration_s)

    def close(self) -> None:
        """Unregister, so that the API can be served again from the same daemon."""
        for collector in (self._requests, self._seconds, self.in_flight):
            self._registry.unregister(collector)
