"""The daemon's own configuration: frozen, validated once at the edge, with a message that says what to write.

Only what the DHT itself needs stands here. The homeserver's side has its own sections; the command line composes all
of them from one TOML file and the environment (`mediadht.cli.config`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mediadht.core.constants import (
    CONTACT_CACHE_MAX,
    ENDPOINTS_PER_CONTACT_MAX,
    NETWORK_DEFAULT,
    SESSIONS_MAX,
    STORE_RECORDS_MAX,
)
from mediadht.core.contacts import check_endpoint, endpoint_host, is_private_host
from mediadht.core.errors import CallerError
from mediadht.core.identifiers import check_server_name

__all__ = ["DaemonConfig", "parse_bootstrap", "parse_listen"]

PEER_PORT_DEFAULT = 8471
_NODE_ID_DIGITS = 64


def parse_listen(text: str) -> tuple[str, int]:
    """The host and port of `host:port`, `[v6]:port` or `:port` (all addresses). Port 0 lets the system choose.

    Raises ValueError with what to write instead.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, like [::1]:{PEER_PORT_DEFAULT}")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(
            f"{text!r} is not an address to listen on: write host:port, like 127.0.0.1:{PEER_PORT_DEFAULT}"
        )
    return host, int(port)


def parse_bootstrap(text: str) -> tuple[str, int | None]:
    """The endpoint and the expected node ID of a bootstrap URL, `wss://host/path` or `wss://host/path#<node ID>`."""
    url, hash_sign, node_id = text.partition("#")
    try:
        check_endpoint(url)
    except CallerError as fault:
        raise ValueError(str(fault)) from fault
    if not hash_sign:
        return url, None
    try:
        if len(node_id) != _NODE_ID_DIGITS:
            raise ValueError
        return url, int(node_id, 16)
    except ValueError as fault:
        raise ValueError(f"{text!r}: what follows # is the node ID, 64 hexadecimal digits") from fault


class DaemonConfig(BaseModel):
    """Everything that one daemon is told. See `docs/operating.md` for each option in words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Annotated[Path, Field(description="Folder for the node key and the database; made if missing.")] = Path(
        "/var/lib/mediadht"
    )
    server_name: Annotated[
        str | None, Field(description="The Matrix server name that this node serves; without it nothing is announced.")
    ] = None
    peer_listen: Annotated[
        tuple[str, ...], Field(description="Addresses on which peers are answered, host:port; empty for none.")
    ] = (f"127.0.0.1:{PEER_PORT_DEFAULT}",)
    peer_url: Annotated[
        tuple[str, ...],
        Field(
            description="Public addresses of this node, wss://host/path; without one it only asks, and stores nothing.",
            max_length=ENDPOINTS_PER_CONTACT_MAX,
        ),
    ] = ()
    bootstrap: Annotated[
        tuple[str, ...], Field(description="Nodes to join through at the first start: wss://host/path[#node ID].")
    ] = ()
    network: Annotated[
        str, Field(description="Nodes of other network names are refused.", pattern=r"^[a-z0-9-]{1,32}$")
    ] = NETWORK_DEFAULT
    allow_private_addresses: Annotated[
        bool | None,
        Field(description="Whether peers at loopback and private addresses are dialled; by default if ours is one."),
    ] = None
    tls_certificate: Annotated[
        Path | None, Field(description="PEM chain to answer peers with TLS ourselves, without a reverse proxy.")
    ] = None
    tls_key: Annotated[Path | None, Field(description="PEM key of that certificate.")] = None
    tls_ca: Annotated[
        Path | None, Field(description="PEM file of authorities to trust for wss:// peers instead of the system's.")
    ] = None
    sessions_max: Annotated[int, Field(ge=8, le=16_384, description="Open sessions with peers.")] = SESSIONS_MAX
    contacts_max: Annotated[int, Field(ge=100, le=200_000, description="Contacts remembered.")] = CONTACT_CACHE_MAX
    records_max: Annotated[int, Field(ge=1_000, le=10_000_000, description="Records kept for others.")] = (
        STORE_RECORDS_MAX
    )

    @field_validator("server_name")
    @classmethod
    def _server_name(cls, value: str | None) -> str | None:
        return None if value is None else check_server_name(value)

    @field_validator("peer_listen")
    @classmethod
    def _peer_listen(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parse_listen(text)
        return value

    @field_validator("peer_url")
    @classmethod
    def _peer_url(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            check_endpoint(text)
        return value

    @field_validator("bootstrap")
    @classmethod
    def _bootstrap(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parse_bootstrap(text)
        return value

    @model_validator(mode="after")
    def _tls_pair(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together: name both or neither")
        return self

    @property
    def private_allowed(self) -> bool:
        """Whether loopback and private addresses may be dialled when a peer names them."""
        if self.allow_private_addresses is not None:
            return self.allow_private_addresses
        urls = (*self.peer_url, *(parse_bootstrap(text)[0] for text in self.bootstrap))
        return any(is_private_host(endpoint_host(url)) for url in urls)
