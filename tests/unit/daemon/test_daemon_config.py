"""The daemon's configuration: what is accepted, and that each refusal says what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from mediadht.daemon.config import DaemonConfig, parse_bootstrap, parse_listen
from mediadht.daemon.domains import registrable_domain


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8471", ("127.0.0.1", 8471)),
        ("[::1]:8471", ("::1", 8471)),
        (":0", ("", 0)),
        ("localhost:65535", ("localhost", 65_535)),
    ],
)
def test_addresses_to_listen_on(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("::1:8471", r"write an IPv6 address in brackets, like \[::1\]:8471"),
        ("example.org", "write host:port"),
        ("example.org:", "write host:port"),
        ("example.org:65536", "write host:port"),
        ("example.org:-1", "write host:port"),
        ("example.org:٣", "write host:port"),
        ("", "write host:port"),
    ],
)
def test_addresses_that_are_none(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_listen(text)
    with pytest.raises(ValidationError, match=says):
        DaemonConfig(peer_listen=(text,))


def test_bootstrap_urls_name_a_node_or_not() -> None:
    assert parse_bootstrap("wss://example.org/dht") == ("wss://example.org/dht", None)
    assert parse_bootstrap("wss://example.org/dht#" + "0f" * 32) == ("wss://example.org/dht", int("0f" * 32, 16))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("wss://example.org/#abc", "64 hexadecimal digits"),
        ("wss://example.org/#" + "zz" * 32, "64 hexadecimal digits"),
        ("wss://example.org/#", "64 hexadecimal digits"),
        ("https://example.org/", "write wss://"),
        ("ws://example.org/", "ws:// is for loopback and private addresses; write wss://"),
        ("wss://user@example.org/", "write wss://"),
        ("wss://example.org:0/", "write wss://"),
        ("example.org", "write wss://"),
    ],
)
def test_bootstrap_urls_that_are_none(text: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        DaemonConfig(bootstrap=(text,))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"server_name": "not a name"}, "server name"),
        ({"peer_url": ("http://example.org/",)}, "write wss://"),
        ({"peer_url": ("wss://a.example/",) * 5}, "at most 4"),
        ({"network": "Upper"}, "network"),
        ({"network": ""}, "network"),
        ({"tls_key": Path("key.pem")}, "tls_certificate and tls_key go together"),
        ({"sessions_max": 7}, "greater than or equal to 8"),
        ({"contacts_max": 1}, "greater than or equal to 100"),
        ({"records_max": 1}, "greater than or equal to 1000"),
        ({"bootstraps": ()}, "Extra inputs"),
    ],
)
def test_values_that_cannot_be(values: dict, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        DaemonConfig(**values)


@pytest.mark.parametrize(
    ("values", "allowed"),
    [
        ({}, False),
        ({"peer_url": ("wss://example.org/",), "bootstrap": ("wss://other.example/",)}, False),
        ({"peer_url": ("ws://127.0.0.1:1/",)}, True),
        ({"bootstrap": ("ws://10.0.0.1:1/#" + "00" * 32,)}, True),
        ({"peer_url": ("wss://192.168.1.2/",)}, True),
        ({"peer_url": ("wss://example.org/",), "bootstrap": ("wss://localhost:8443/",)}, True),
        ({"peer_url": ("ws://127.0.0.1:1/",), "allow_private_addresses": False}, False),
        ({"allow_private_addresses": True}, True),
    ],
)
def test_private_addresses_are_dialled_if_ours_is_one_or_as_told(values: dict, allowed: bool) -> None:
    assert DaemonConfig(**values).private_allowed is allowed


def test_it_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DaemonConfig().network = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("matrix.example.co.uk", "example.co.uk"),
        ("EXAMPLE.org", "example.org"),
        ("example.org.", "example.org"),
        ("co.uk", None),
        ("localhost", None),
        ("", None),
        ("127.0.0.1", None),
        ("2001:db8::a", None),
        ("::1", None),
    ],
)
def test_registrable_domains(host: str, domain: str | None) -> None:
    assert registrable_domain(host) == domain
