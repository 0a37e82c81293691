"""Names at their limits: server names, endpoints, and the groups that the diversity caps count."""

from __future__ import annotations

import pytest

from mediadht.core.constants import ENDPOINT_CHARACTERS_MAX, SERVER_NAME_CHARACTERS_MAX
from mediadht.core.contacts import Groups, check_endpoint, groups_of, ip_prefix, is_private_host
from mediadht.core.errors import CallerError
from mediadht.core.identifiers import check_server_name, is_server_name, parse_subject
from mediadht.core.keys import KeyPair, node_id_hex


def two_labels(host: str) -> str | None:
    return ".".join(host.split(".")[-2:]) if "." in host else None


@pytest.mark.parametrize(
    "name",
    [
        "example.org",
        "example.org:1",
        "example.org:65535",
        "EXAMPLE.org",
        "a",
        "1.2.3.4",
        "1.2.3.4:8448",
        "[::1]",
        "[2001:db8::1]:8448",
        "a-b.c-d.org",
        "a" * SERVER_NAME_CHARACTERS_MAX,
    ],
)
def test_a_server_name_of_the_grammar_is_taken(name: str) -> None:
    assert check_server_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "-a.org",
        "a.org-",
        "a.org:",
        "a.org:0",
        "a.org:65536",
        "a.org:123456",
        "a b",
        "a_b.org",
        "\u00e9.org",
        "a.org\n",
        "[::1",
        "::1",
        "[zz]",
        "https://a.org",
        "a.org/",
        "a.org:\u0661",
        "a" * (SERVER_NAME_CHARACTERS_MAX + 1),
    ],
)
def test_any_other_server_name_is_refused(name: str) -> None:
    assert not is_server_name(name)
    with pytest.raises(CallerError, match="server name"):
        check_server_name(name)


def test_what_is_wrong_is_repeated_safely_and_cut() -> None:
    with pytest.raises(CallerError) as caught:
        parse_subject("\x1b[31m" + "x" * 500)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "url",
    [
        "wss://example.org",
        "wss://example.org/",
        "wss://example.org:8448/_mediadht/peer",
        "wss://[2001:db8::1]:1/",
        "wss://1.2.3.4/",
        "ws://127.0.0.1:8000/",
        "ws://localhost/",
        "ws://a.localhost/",
        "ws://10.1.2.3/",
        "ws://[fd00::1]/",
        "wss://e.org/" + "p" * (ENDPOINT_CHARACTERS_MAX - len("wss://e.org/")),
    ],
)
def test_an_endpoint_of_the_form_is_taken(url: str) -> None:
    assert check_endpoint(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "https://example.org/",
        "WSS://example.org/",
        "ws://example.org/",
        "ws://8.8.8.8/",
        "wss://",
        "wss:///x",
        "wss://example.org:0/",
        "wss://example.org:70000/",
        "wss://user@example.org/",
        "wss://example.org/?query",
        "wss://example.org/#fragment",
        "wss://example.org/ space",
        "wss://example.org/\r\nHost: x",
        "wss://ex\u00e4mple.org/",
        "wss://e.org/" + "p" * (ENDPOINT_CHARACTERS_MAX - len("wss://e.org/") + 1),
    ],
)
def test_any_other_endpoint_is_refused(url: str) -> None:
    with pytest.raises(CallerError):
        check_endpoint(url)


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("localhost", True),
        ("x.localhost", True),
        ("127.0.0.1", True),
        ("192.168.0.1", True),
        ("169.254.1.1", True),
        ("::1", True),
        ("fe80::1", True),
        ("0.0.0.0", True),
        ("8.8.8.8", False),
        ("2606:4700::1", False),
        ("example.org", False),
        ("localhost.example.org", False),
    ],
)
def test_loopback_and_private_addresses_are_told_from_public_ones(host: str, private: bool) -> None:
    assert is_private_host(host) == private


@pytest.mark.parametrize(
    ("host", "prefix"),
    [
        ("8.8.8.8", "8.8.8.0/24"),
        ("2606:4700:1:2::5", "2606:4700:1::/48"),
        ("10.0.0.1", None),
        ("::1", None),
        ("example.org", None),
    ],
)
def test_a_public_address_counts_with_its_network(host: str, prefix: str | None) -> None:
    assert ip_prefix(host) == prefix


@pytest.mark.parametrize(
    ("endpoints", "address", "groups"),
    [
        ((), None, Groups(None, None)),
        (("wss://a.example.org/",), None, Groups(None, "example.org")),
        (("wss://a.example.org/",), "8.8.8.8", Groups("8.8.8.0/24", "example.org")),
        (("wss://a.example.org/",), "10.0.0.1", Groups(None, "example.org")),
        (("wss://single/",), None, Groups(None, "single")),
        (("wss://8.8.4.4/",), None, Groups("8.8.4.0/24", None)),
        (("wss://8.8.4.4/",), "8.8.8.8", Groups("8.8.8.0/24", None)),
        (("wss://[2606:4700:1::5]/",), None, Groups("2606:4700:1::/48", None)),
        (("ws://127.0.0.1:1/",), "127.0.0.1", Groups(None, None)),
        (("ws://localhost:1/",), None, Groups(None, None)),
    ],
)
def test_groups_are_the_network_reached_and_the_registrable_domain(
    endpoints: tuple[str, ...], address: str | None, groups: Groups
) -> None:
    assert groups_of(endpoints, address, two_labels) == groups


def test_a_key_pair_never_shows_its_secret() -> None:
    keys = KeyPair.from_seed(bytes([7]) * 32)
    assert (bytes([7]) * 32).hex() not in repr(keys)
    assert "_secret" not in repr(keys)
    assert len(node_id_hex(1)) == 64
    with pytest.raises(CallerError, match="32 bytes"):
        KeyPair.from_seed(b"short")
