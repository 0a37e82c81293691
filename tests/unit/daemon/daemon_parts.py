"""Parts of the daemon without a network: a driver that remembers what it was told, a storage on a real disk."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

from mediadht.core.contacts import Contact
from mediadht.core.events import Event
from mediadht.core.identifiers import Subject, media
from mediadht.core.keys import KeyPair
from mediadht.core.records import Payload, Record, sign_record
from mediadht.daemon.storage import Storage


class FakeDriver:
    """Takes events and remembers them."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    async def step(self, event: Event) -> None:
        self.events.append(event)


def subject(name: object) -> Subject:
    return media("sha256." + hashlib.sha256(str(name).encode()).hexdigest())


def keys_of(number: int) -> KeyPair:
    return KeyPair.from_seed(number.to_bytes(32, "big"))


def record_of(number: int, *, signer: int = 1, expires_s: int = 2_000_000_000, sequence: int = 1) -> Record:
    return sign_record(
        keys_of(signer),
        subject(number),
        server_name="example.org",
        sequence=sequence,
        expires_s=expires_s,
        payload=Payload(None, frozenset()),
    )


def contact_of(number: int) -> Contact:
    return Contact.of(keys_of(number).public_key, (f"wss://n{number}.example/dht",), f"n{number}.example")


class FullDisk:
    """A connection whose writes fail as a full disk's do, until `is_full` is put back."""

    def __init__(self, storage: Storage) -> None:
        self.is_full = True
        self._real = storage._connection
        self.refused = 0
        storage._connection = self  # type: ignore[assignment]

    def execute(self, sql: str, *values: Any) -> Any:
        if self.is_full and sql.startswith("COMMIT"):
            self.refused += 1
            raise sqlite3.OperationalError("database or disk is full")
        return self._real.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
