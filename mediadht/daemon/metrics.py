"""The daemon's Prometheus metrics, read from its state when they are asked for: nothing is paid in between.

No label names a key, an ID, a room or a peer.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mediadht.daemon.announcing import Announcer
from mediadht.daemon.driver import Driver
from mediadht.daemon.lookups import Lookups

__all__ = ["DaemonCollector"]


class DaemonCollector(Collector):
    """Register it with a registry."""

    def __init__(self, driver: Driver, lookups: Lookups, announcer: Announcer) -> None:
        self._driver = driver
        self._lookups = lookups
        self._announcer = announcer

    def collect(self) -> Iterator[Metric]:
        state = self._driver.node.state
        gauges: dict[str, tuple[float, str]] = {
            "sessions": (len(state.sessions), "Open sessions with peers"),
            "dialling": (self._driver.dialling, "Peers being dialled"),
            "table_contacts": (len(state.table), "Contacts in the routing table"),
            "known_contacts": (len(state.book), "Contacts remembered"),
            "live_contacts": (len(state.book.live), "Contacts that answered at their address and do not fail now"),
            "network_size_estimate": (state.network_size(), "Nodes in the network, estimated from distances"),
            "records_held": (len(state.store), "Records kept for others"),
            "requests_in_flight": (len(state.requests), "Requests to peers without an answer yet"),
            "announcements": (self._announcer.standing, "Own announcements that stand"),
            "announcements_pending": (self._announcer.pending, "Own announcements that no replica holds yet"),
        }
        for name, (value, text) in gauges.items():
            yield GaugeMetricFamily(f"mediadht_{name}", text, value=value)
        traffic, stats = self._driver.traffic, self._lookups.stats
        counters: dict[str, tuple[float, str]] = {
            "messages_sent": (traffic.messages_sent, "Messages sent to peers"),
            "messages_received": (traffic.messages_received, "Messages received from peers"),
            "sessions_opened": (traffic.sessions_opened, "Sessions opened, either way"),
            "dials": (traffic.dials, "Peers dialled"),
            "connections_refused": (traffic.refused, "Connections of strangers that came to no session"),
            "lookups": (stats.ended, "Lookups for providers that ended"),
            "lookups_found": (stats.found, "Lookups that found a provider"),
            "lookups_incomplete": (stats.incomplete, "Lookups that their deadline ended"),
            "lookup_requests": (stats.requests, "Requests of those lookups"),
            "lookup_seconds": (stats.seconds, "Time that those lookups took"),
        }
        for name, (value, text) in counters.items():
            yield CounterMetricFamily(f"mediadht_{name}", text, value=value)
