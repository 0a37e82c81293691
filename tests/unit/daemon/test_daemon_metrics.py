"""The metrics: their names stay, and none has a label that names a key, a room or a peer."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import generate_latest

from mediadht.daemon import open_daemon
from mediadht.daemon.config import DaemonConfig

NAMES = {
    "mediadht_announcements",
    "mediadht_announcements_pending",
    "mediadht_connections_refused_total",
    "mediadht_dialling",
    "mediadht_dials_total",
    "mediadht_known_contacts",
    "mediadht_live_contacts",
    "mediadht_lookup_requests_total",
    "mediadht_lookup_seconds_total",
    "mediadht_lookups_found_total",
    "mediadht_lookups_incomplete_total",
    "mediadht_lookups_total",
    "mediadht_messages_received_total",
    "mediadht_messages_sent_total",
    "mediadht_network_size_estimate",
    "mediadht_records_held",
    "mediadht_requests_in_flight",
    "mediadht_sessions",
    "mediadht_sessions_opened_total",
    "mediadht_table_contacts",
}


async def test_their_names(tmp_path: Path) -> None:
    async with open_daemon(DaemonConfig(data_dir=tmp_path, peer_listen=("127.0.0.1:0",))) as daemon:
        text = generate_latest(daemon.registry).decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert {line.split(" ")[0] for line in lines} == NAMES
    assert all(float(line.split(" ")[1]) >= 0 for line in lines)
