"""Every error the product raises, under one root.

Four kinds, by who has to act: the caller (`CallerError`), a remote peer (`RemoteError`, always with a `Code`),
whoever wrote the configuration (`ConfigurationError`), and the machine we run on (`EnvironmentFault`). Bytes from a
peer can raise only `RemoteError`; the boundary of one connection turns it into an answer or a clean disconnect.
Implements `docs/protocol.md`, section "Error codes".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import StrEnum

__all__ = ["CallerError", "Code", "ConfigurationError", "EnvironmentFault", "MediaDHTError", "RemoteError", "nearest"]

_NEAR_ENOUGH = 0.6
"""difflib's own threshold for "similar"; below it, the known words are listed as well."""


class Code(StrEnum):
    """Why a peer, or a replica, says no. The values travel on the wire; receivers accept unknown ones."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNKNOWN_METHOD = "unknown_method"
    UNKNOWN_KIND = "unknown_kind"
    WRONG_VERSION = "wrong_version"
    WRONG_NETWORK = "wrong_network"
    WRONG_NODE = "wrong_node"
    BAD_SIGNATURE = "bad_signature"
    BAD_FRAME = "bad_frame"
    SELF = "self"
    BUSY = "busy"
    DUPLICATE = "duplicate"
    LEAVING = "leaving"
    IDLE = "idle"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    EXPIRED = "expired"
    CLOCK = "clock"
    STALE = "stale"
    KEY_FULL = "key_full"
    SIGNER_FULL = "signer_full"
    DOMAIN_FULL = "domain_full"
    STORE_FULL = "store_full"
    VOTED = "voted"
    TAKEN = "taken"
    LAPSED = "lapsed"
    NOT_REPLICA = "not_replica"


class MediaDHTError(Exception):
    """The root of all errors of this project."""


class CallerError(MediaDHTError, ValueError):
    """The caller passed something that cannot be right (an ID that is none, a limit out of range)."""


class ConfigurationError(MediaDHTError):
    """The configuration is wrong; the text says which key, why, and what to write instead."""


class EnvironmentFault(MediaDHTError):
    """The machine refuses (a port is taken, a file is unreadable, a database is damaged)."""


class RemoteError(MediaDHTError):
    """A remote peer broke the protocol, or refused.

    `code` is one of `Code` (or an unknown peer's own word, kept as text); `why` is for people.
    """

    def __init__(self, code: Code | str, why: str = "") -> None:
        super().__init__(f"{code}: {why}" if why else str(code))
        self.code = str(code)
        self.why = why


def nearest(word: str, known: Iterable[str]) -> str:
    """What to say of an unknown `word`: the nearest of `known`, and all of them if it is not very near."""
    ordered = sorted(known)
    near = difflib.get_close_matches(word, ordered, n=1, cutoff=_NEAR_ENOUGH)
    if near:
        return f"the nearest known one is {near[0]}"
    nearest_of_all = difflib.get_close_matches(word, ordered, n=1, cutoff=0.0)
    return f"the nearest known one is {nearest_of_all[0]}, of {', '.join(ordered)}" if ordered else "none is known here"
