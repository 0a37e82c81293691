"""The configuration of a Synapse server that federates with its neighbours on loopback.

Every setting that is not obvious says why it is there. The file is JSON, which is YAML.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import trustme

__all__ = ["Authority", "SynapsePlan", "write_configuration"]

LOOPBACK: Final = "127.0.0.1"
_GENEROUS: Final = {"per_second": 1000, "burst_count": 1000}
"""Synapse's defaults allow ten remote joins and then one in 100 s; here its users are tests."""


@dataclass(frozen=True, slots=True)
class SynapsePlan:
    """What one server is told."""

    folder: Path
    federation_port: int
    client_port: int
    shared_secret: str = field(repr=False)

    @property
    def server_name(self) -> str:
        """With a port, so that other servers ask no DNS."""
        return f"localhost:{self.federation_port}"

    @property
    def client_url(self) -> str:
        """Base URL of the client API."""
        return f"http://{LOOPBACK}:{self.client_port}"


@dataclass(frozen=True, slots=True)
class Authority:
    """A throw-away certificate authority that the servers, and nobody else, trust."""

    authority: trustme.CA
    certificate_path: Path

    @classmethod
    def create(cls, folder: Path) -> Authority:
        """A new one, its certificate in `folder`; its key stays in memory."""
        import trustme

        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = trustme.CA()
        certificate_path = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(certificate_path))
        return cls(authority, certificate_path)


def write_configuration(plan: SynapsePlan, authority: Authority) -> Path:
    """Make the server's folder with its certificate, keys and configuration; the path of the latter."""
    plan.folder.mkdir(mode=0o700, parents=True)
    certificate = authority.authority.issue_cert("localhost")
    _write_secret(plan.folder / "tls.crt", b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    _write_secret(plan.folder / "tls.key", certificate.private_key_pem.bytes())
    seed = base64.b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    _write_secret(plan.folder / "signing.key", f"ed25519 a_demo {seed}\n".encode())
    _write_secret(plan.folder / "log.yaml", json.dumps(_log_configuration()).encode())
    config_path = plan.folder / "homeserver.yaml"
    _write_secret(config_path, json.dumps(_configuration(plan, authority.certificate_path), indent=1).encode())
    return config_path


def _write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(content)


def _configuration(plan: SynapsePlan, authority_path: Path) -> dict[str, Any]:
    folder = plan.folder
    return {
        "server_name": plan.server_name,
        "public_baseurl": f"{plan.client_url}/",
        "pid_file": str(folder / "homeserver.pid"),
        "log_config": str(folder / "log.yaml"),
        "media_store_path": str(folder / "media"),
        "signing_key_path": str(folder / "signing.key"),
        "tls_certificate_path": str(folder / "tls.crt"),
        "tls_private_key_path": str(folder / "tls.key"),
        "database": {"name": "sqlite3", "args": {"database": str(folder / "homeserver.db")}},
        "registration_shared_secret": plan.shared_secret,
        "macaroon_secret_key": secrets.token_urlsafe(32),
        "form_secret": secrets.token_urlsafe(32),
        "report_stats": False,
        "bcrypt_rounds": 4,
        "presence": {"enabled": False},
        "listeners": [
            _listener(plan.federation_port, ["client", "federation"], tls=True),
            _listener(plan.client_port, ["client"], tls=False),
        ],
        **_federation_settings(authority_path),
        **_limits(),
    }


def _listener(port: int, names: list[str], *, tls: bool) -> dict[str, Any]:
    return {
        "port": port,
        "type": "http",
        "tls": tls,
        "bind_addresses": [LOOPBACK],
        "x_forwarded": not tls,  # the join front stands before the plain one
        "resources": [{"names": names, "compress": False}],
    }


def _federation_settings(authority_path: Path) -> dict[str, Any]:
    return {
        "federation_custom_ca_list": [str(authority_path)],
        # Synapse refuses to federate with loopback and private addresses unless these are empty.
        "ip_range_blacklist": [],
        "federation_ip_range_blacklist": [],
        # No notary: nothing leaves this machine.
        "trusted_key_servers": [],
        "suppress_key_server_warning": True,
        # A server that swallows packets costs 245 s with the defaults, 11 s with these.
        "federation": {"client_timeout": "5s", "max_short_retries": 1},
        "allow_public_rooms_over_federation": True,
        # Since 1.126 nobody may list a room in the directory unless a rule allows it.
        "room_list_publication_rules": [{"action": "allow"}],
    }


def _limits() -> dict[str, Any]:
    return {
        "rc_message": _GENEROUS,
        "rc_registration": _GENEROUS,
        "rc_admin_redaction": _GENEROUS,
        "rc_room_creation": _GENEROUS,
        "rc_login": {"address": _GENEROUS, "account": _GENEROUS, "failed_attempts": _GENEROUS},
        "rc_joins": {"local": _GENEROUS, "remote": _GENEROUS},
        "rc_joins_per_room": _GENEROUS,
        "rc_invites": {"per_room": _GENEROUS, "per_user": _GENEROUS, "per_issuer": _GENEROUS},
        "rc_federation": {
            "window_size": 1000,
            "sleep_limit": 1000,
            "sleep_delay": 1,
            "reject_limit": 10_000,
            "concurrent": 50,
        },
    }


def _log_configuration() -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"output": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stdout"}},
        "root": {"level": "INFO", "handlers": ["output"]},
    }
