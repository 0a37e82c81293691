"""Contacts: how a node is reached, and the groups that say whose it is.

A contact is hearsay until the node has proved its key in a handshake at one of the endpoints. Endpoints are URLs of
a transport that the driver knows; `core` checks their form only. `Groups` are what the diversity caps count: the IP
prefix (/24, IPv6 /48) and the registrable domain. Implements `docs/protocol.md`, section "Contacts".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mediadht.core.constants import ENDPOINT_CHARACTERS_MAX, ENDPOINTS_PER_CONTACT_MAX, ID_BYTES
from mediadht.core.errors import CallerError, Code, RemoteError
from mediadht.core.identifiers import is_server_name
from mediadht.core.keys import node_id_of

__all__ = [
    "Contact",
    "Groups",
    "check_endpoint",
    "contact_from_wire",
    "endpoint_host",
    "groups_of",
    "ip_prefix",
    "is_anywhere_private",
    "is_private_host",
]

_ENDPOINT = re.compile(
    r"(wss?)://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::(\d{1,5}))?"
    r"(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?",
    re.ASCII,
)


def check_endpoint(url: str) -> str:
    """`url`, if it is an endpoint: `wss://host[:port][/path]`, or `ws://` for loopback and private networks.

    Raises CallerError if it is not.
    """
    match = _ENDPOINT.fullmatch(url) if len(url) <= ENDPOINT_CHARACTERS_MAX else None
    if match is None or (match[3] is not None and not 0 < int(match[3]) <= 65_535):
        raise CallerError(f"{url[:100]!a} is not a peer's address: write wss://host[:port]/path")
    if match[1] == "ws" and not is_private_host(match[2].strip("[]")):
        raise CallerError(f"{url[:100]!a}: ws:// is for loopback and private addresses; write wss://")
    return url


@lru_cache(maxsize=65_536)
def _endpoint_is_valid(url: str) -> bool:
    try:
        check_endpoint(url)
    except CallerError:
        return False
    return True


@lru_cache(maxsize=65_536)
def endpoint_host(url: str) -> str:
    """The host of a valid endpoint, without brackets or port."""
    match = _ENDPOINT.fullmatch(url)
    assert match is not None, url
    return match[2].strip("[]")


@lru_cache(maxsize=65_536)
def is_private_host(host: str) -> bool:
    """Whether `host` is `localhost` or an IP literal that is not a public one. DNS names are not: resolve them."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


@lru_cache(maxsize=65_536)
def is_anywhere_private(endpoints: tuple[str, ...]) -> bool:
    """Whether one of these valid endpoints has a private host."""
    return any(is_private_host(endpoint_host(endpoint)) for endpoint in endpoints)


@lru_cache(maxsize=65_536)
def ip_prefix(host: str) -> str | None:
    """The /24 (IPv6: /48) of a public IP literal; None for names and for addresses that are not public."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False)) if ip.is_global else None


@dataclass(frozen=True, slots=True)
class Contact:
    """A node and where it says it is. Without endpoints it can ask but not be asked by strangers."""

    node_id: int
    public_key: bytes
    endpoints: tuple[str, ...]
    server_name: str | None

    @classmethod
    def of(cls, public_key: bytes, endpoints: tuple[str, ...] = (), server_name: str | None = None) -> Contact:
        """The contact of a public key; its node ID is computed."""
        return cls(node_id_of(public_key), public_key, endpoints, server_name)

    def to_wire(self) -> list[Any]:
        """`[public key, [endpoint, ...], server name or nil]`."""
        return [self.public_key, self.endpoints, self.server_name]


def contact_from_wire(raw: Any) -> Contact:
    """The contact in a decoded msgpack value; later elements are ignored. Raises RemoteError (`malformed`)."""
    match raw:
        case [bytes(public_key), [*endpoints], None | str() as server_name, *_] if (
            len(public_key) == ID_BYTES
            and len(endpoints) <= ENDPOINTS_PER_CONTACT_MAX
            and all(isinstance(url, str) and _endpoint_is_valid(url) for url in endpoints)
            and (server_name is None or is_server_name(server_name))
        ):
            return Contact(node_id_of(public_key), public_key, tuple(endpoints), server_name)
    raise RemoteError(Code.MALFORMED, "a contact is [32-byte public key, [endpoint, ...], server name or nil]")


@dataclass(frozen=True, slots=True)
class Groups:
    """What a contact shares with others of one owner. None where nothing is known or where it does not count."""

    prefix: str | None
    domain: str | None


@lru_cache(maxsize=65_536)
def groups_of(
    endpoints: tuple[str, ...], address: str | None, registrable_domain: Callable[[str], str | None]
) -> Groups:
    """The groups of a node with `endpoints`, reached at the IP `address` (None before it was).

    Loopback and private addresses are nobody's in particular and get no group; a driver that must not talk to them
    refuses them before. `registrable_domain` maps a DNS name to its registrable domain, by the public-suffix list.
    """
    host = endpoint_host(endpoints[0]) if endpoints else None
    prefix = None if host is None else ip_prefix(host)
    domain = None
    if host is not None and prefix is None and not is_private_host(host):
        domain = registrable_domain(host) or host
    return Groups(prefix if address is None else ip_prefix(address), domain)
