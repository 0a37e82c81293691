"""What survives a restart: own announcements, records kept for others, contacts. SQLite in WAL mode.

Two promises. *Durable*: `write_announcements` returns when the rows are on disk (synchronous FULL); concurrent calls
share a transaction. *Lazy*: records and contacts are collected and written every few seconds; a crash loses the last
few, which their providers renew. All SQL runs in a worker thread, one transaction at a time. If the disk refuses, a
durable write fails and changes nothing, and lazy ones are kept and tried again.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import trio

from mediadht.core.constants import ID_BYTES
from mediadht.core.contacts import Contact, check_endpoint
from mediadht.core.errors import CallerError, EnvironmentFault, RemoteError
from mediadht.core.identifiers import Kind, Subject, is_server_name
from mediadht.core.records import Offer, Record, parse_record

__all__ = ["Kept", "Storage", "StoredAnnouncement"]

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE announcements (
    kind TEXT NOT NULL, id TEXT NOT NULL, room_id TEXT, offers TEXT NOT NULL, sources TEXT NOT NULL,
    withdrawn_at REAL, sequence INTEGER NOT NULL, replicas INTEGER NOT NULL, stored_at REAL NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE records (
    key BLOB NOT NULL, signer BLOB NOT NULL, body BLOB NOT NULL, signature BLOB NOT NULL, expires INTEGER NOT NULL,
    PRIMARY KEY (key, signer)
) WITHOUT ROWID;
CREATE TABLE contacts (
    public_key BLOB PRIMARY KEY, endpoints TEXT NOT NULL, server_name TEXT, position INTEGER NOT NULL
) WITHOUT ROWID;
"""
_BUSY_S = 5.0


@dataclass(slots=True)
class StoredAnnouncement:
    """A row of own announcements."""

    subject: Subject
    room_id: str | None
    offers: frozenset[Offer]
    sources: frozenset[str]
    sequence: int = 0
    replicas: int = 0
    stored_at_s: float = 0.0
    """Unix time of the latest round that enough replicas acknowledged; 0 for none: then it is due at the start."""
    withdrawn_at_s: float | None = None
    """Unix time; None where it stands."""

    @property
    def withdrawn(self) -> bool:
        """Whether it has been withdrawn, and is told so."""
        return self.withdrawn_at_s is not None


@dataclass(frozen=True, slots=True)
class Kept:
    """What the last run left behind."""

    announcements: list[StoredAnnouncement]
    """All rows, withdrawn ones included."""
    records: list[Record]
    """Those that have not expired."""
    contacts: list[Contact]
    """The most promising first."""


_Work: TypeAlias = Callable[[sqlite3.Connection], None]


@dataclass(slots=True)
class _Batch:
    """Writes that share a transaction, and how it ended."""

    works: list[_Work] = field(default_factory=list)
    durable: bool = False
    done: bool = False
    fault: str | None = None


class Storage:
    """The database of one data folder. Open it with `Storage.open`; use it as a context manager."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: int) -> None:
        self._path = path
        self._connection = connection
        self._lock = lock
        self._one = trio.CapacityLimiter(1)
        self._turn = trio.Lock()
        self._batch = _Batch()
        self._lazy_records: dict[tuple[int, int], Record | None] = {}
        self._lazy_progress: dict[Subject, StoredAnnouncement | None] = {}
        self._lazy_contacts: list[Contact] | None = None
        self.trouble: str | None = None
        """Why the latest lazy write failed, for people; None if it did not."""

    @classmethod
    def open(cls, data_dir: Path) -> Self:
        """Open, or make, the database. Raises EnvironmentFault: in use, damaged, newer than this program, refused."""
        path = data_dir / "mediadht.sqlite3"
        lock = _take_lock(data_dir)
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            path.chmod(0o600)
            _prepare(connection, path)
        except (sqlite3.DatabaseError, OSError) as fault:
            if connection is not None:
                connection.close()
            os.close(lock)
            raise _open_fault(path, fault) from fault
        except EnvironmentFault:
            if connection is not None:
                connection.close()
            os.close(lock)
            raise
        return cls(path, connection, lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()
        os.close(self._lock)

    # --- Reading, at the start -----------------------------------------------------------------------------------

    def load(self, now_s: float) -> Kept:
        """Everything that still counts at Unix time `now_s`.

        Records and contacts that are none are passed over, for others have them too. Raises EnvironmentFault if the
        database cannot be read, or an announcement cannot be what was written.
        """
        try:
            return Kept(self._announcements(), list(self._records(now_s)), self._contacts())
        except (sqlite3.DatabaseError, ValueError, TypeError) as fault:
            raise _open_fault(self._path, fault) from fault

    def _announcements(self) -> list[StoredAnnouncement]:
        rows = self._connection.execute(
            "SELECT kind, id, room_id, offers, sources, withdrawn_at, sequence, replicas, stored_at FROM announcements"
        )
        return [_announcement_of(row) for row in rows]

    def _records(self, now_s: float) -> Iterable[Record]:
        rows = self._connection.execute("SELECT body, signature FROM records WHERE expires > ?", (int(now_s),))
        for body, signature in rows:
            try:
                yield parse_record(body, signature, verify=False)
            except RemoteError:
                continue

    def _contacts(self) -> list[Contact]:
        found: list[Contact] = []
        rows = self._connection.execute("SELECT public_key, endpoints, server_name FROM contacts ORDER BY position")
        for public_key, endpoints, server_name in rows:
            try:
                urls = tuple(check_endpoint(url) for url in json.loads(endpoints))
            except (CallerError, ValueError):
                continue
            if len(public_key) == ID_BYTES and (server_name is None or is_server_name(server_name)):
                found.append(Contact.of(public_key, urls, server_name))
        return found

    # --- Writing -------------------------------------------------------------------------------------------------

    async def write_announcements(self, rows: list[StoredAnnouncement]) -> None:
        """Write these rows; returns once they are on disk. Raises EnvironmentFault if the disk refuses."""
        values = [_announcement_values(row) for row in rows]
        for row in rows:
            self._lazy_progress.pop(row.subject, None)
        await self._write(lambda connection: _upsert_announcements(connection, values), durable=True)

    def note_progress(self, row: StoredAnnouncement) -> None:
        """Write how far this announcement has got soon; nothing else of the row, and only while it is what it says."""
        self._lazy_progress[row.subject] = row

    def forget_announcement(self, subject: Subject) -> None:
        """Delete the row of this withdrawn announcement soon."""
        self._lazy_progress[subject] = None

    def keep_record(self, record: Record) -> None:
        """Write this record soon."""
        self._lazy_records[record.key, record.node_id] = record

    def drop_record(self, record: Record) -> None:
        """Delete this record soon."""
        self._lazy_records[record.key, record.node_id] = None

    def save_contacts(self, contacts: list[Contact]) -> None:
        """Replace the saved contacts soon."""
        self._lazy_contacts = contacts

    async def flush(self) -> bool:
        """Write everything lazy now. Returns whether that worked; what did not is kept for the next time."""
        if not (self._lazy_records or self._lazy_progress or self._lazy_contacts is not None):
            return True
        records, self._lazy_records = self._lazy_records, {}
        progress, self._lazy_progress = self._lazy_progress, {}
        contacts, self._lazy_contacts = self._lazy_contacts, None
        statements = _lazy_statements(records, progress, contacts)

        def apply(connection: sqlite3.Connection) -> None:
            for sql, values in statements:
                connection.executemany(sql, values)

        try:
            await self._write(apply, durable=False)
        except EnvironmentFault as fault:
            self.trouble = str(fault)
            self._lazy_records = records | self._lazy_records
            self._lazy_progress = progress | self._lazy_progress
            self._lazy_contacts = contacts if self._lazy_contacts is None else self._lazy_contacts
            return False
        self.trouble = None
        return True

    async def _write(self, work: _Work, *, durable: bool) -> None:
        """Run `work` in a transaction, on disk when this returns if `durable`; calls that wait together share one.

        Not cancelled half-way: whoever calls must learn what the disk now holds.
        """
        batch = self._batch
        batch.works.append(work)
        batch.durable |= durable
        with trio.CancelScope(shield=True):
            async with self._turn:
                if not batch.done:
                    self._batch = _Batch()
                    await self._run_batch(batch)
        if batch.fault is not None:
            raise EnvironmentFault(batch.fault)

    async def _run_batch(self, batch: _Batch) -> None:
        try:
            await trio.to_thread.run_sync(self._transaction, batch, limiter=self._one)
        except (sqlite3.Error, OSError) as problem:
            batch.fault = (
                f"the database {self._path} cannot be written: {problem}. "
                "Free some space, or make the disk writable; nothing that was acknowledged is lost"
            )
        batch.done = True

    def _transaction(self, batch: _Batch) -> None:
        connection = self._connection
        # NORMAL waits for no disk and loses nothing when the process dies; with the power it loses the last few.
        connection.execute(f"PRAGMA synchronous = {'FULL' if batch.durable else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for work in batch.works:
                work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _announcement_of(row: Sequence[Any]) -> StoredAnnouncement:
    kind, identifier, room_id, offers, sources, withdrawn_at, sequence, replicas, stored_at = row
    return StoredAnnouncement(
        Subject(Kind(kind), identifier),
        room_id,
        frozenset(Offer(offer) for offer in json.loads(offers)),
        frozenset(json.loads(sources)),
        sequence,
        replicas,
        stored_at,
        withdrawn_at,
    )


def _announcement_values(row: StoredAnnouncement) -> tuple[object, ...]:
    return (
        str(row.subject.kind),
        row.subject.id,
        row.room_id,
        json.dumps(sorted(row.offers)),
        json.dumps(sorted(row.sources)),
        row.withdrawn_at_s,
        row.sequence,
        row.replicas,
        row.stored_at_s,
    )


def _progress_values(row: StoredAnnouncement) -> tuple[object, ...]:
    kind, identifier, room_id, offers, _, withdrawn_at, sequence, replicas, stored_at_s = _announcement_values(row)
    return sequence, replicas, stored_at_s, kind, identifier, withdrawn_at, room_id, offers


_UPSERT_ANNOUNCEMENT = "INSERT OR REPLACE INTO announcements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
# Lazy writes come late: a row that has been written anew since, durably, is left as it is.
_NOTE_PROGRESS = (
    "UPDATE announcements SET sequence = max(sequence, ?), replicas = ?, stored_at = ? "
    "WHERE kind = ? AND id = ? AND withdrawn_at IS ? AND room_id IS ? AND offers = ?"
)
_FORGET_ANNOUNCEMENT = "DELETE FROM announcements WHERE kind = ? AND id = ? AND withdrawn_at IS NOT NULL"


def _upsert_announcements(connection: sqlite3.Connection, values: list[tuple[object, ...]]) -> None:
    connection.executemany(_UPSERT_ANNOUNCEMENT, values)


def _lazy_statements(
    records: dict[tuple[int, int], Record | None],
    progress: dict[Subject, StoredAnnouncement | None],
    contacts: list[Contact] | None,
) -> list[tuple[str, list[tuple[object, ...]]]]:
    def blob(number: int) -> bytes:
        return number.to_bytes(ID_BYTES, "big")

    statements: list[tuple[str, list[tuple[object, ...]]]] = [
        (
            "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)",
            [(blob(r.key), blob(r.node_id), r.body, r.signature, r.expires_s) for r in records.values() if r],
        ),
        (
            "DELETE FROM records WHERE key = ? AND signer = ?",
            [(blob(key), blob(signer)) for (key, signer), record in records.items() if record is None],
        ),
        (_NOTE_PROGRESS, [_progress_values(row) for row in progress.values() if row is not None]),
        (
            _FORGET_ANNOUNCEMENT,
            [(str(subject.kind), subject.id) for subject, row in progress.items() if row is None],
        ),
    ]
    if contacts is not None:
        statements.append(("DELETE FROM contacts WHERE position >= ?", [(0,)]))
        statements.append(
            (
                "INSERT OR REPLACE INTO contacts VALUES (?, ?, ?, ?)",
                [(c.public_key, json.dumps(c.endpoints), c.server_name, n) for n, c in enumerate(contacts)],
            )
        )
    return [(sql, values) for sql, values in statements if values]


def _take_lock(data_dir: Path) -> int:
    path = data_dir / "lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise EnvironmentFault(
            f"the data folder {data_dir} cannot be written: {fault.strerror}. "
            "Let it belong to the user that runs mediadht"
        ) from fault
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        os.close(lock)
        raise EnvironmentFault(
            f"another mediadht runs with the data folder {data_dir}: two nodes cannot share a key. "
            "Stop it first, or give this one another --data-dir"
        ) from fault
    return lock


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _SCHEMA_VERSION:
        raise EnvironmentFault(
            f"the database {path} was written by a newer mediadht: its format is {version}, this one knows "
            f"{_SCHEMA_VERSION}. Install that version again, or name another --data-dir"
        )
    if version == 0:
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
    problems = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    if problems != ["ok"]:
        raise sqlite3.DatabaseError("; ".join(problems))


def _open_fault(path: Path, fault: Exception) -> EnvironmentFault:
    if isinstance(fault, sqlite3.OperationalError | OSError):
        return EnvironmentFault(
            f"the database {path} cannot be opened: {fault}. Check the disk, and that the file and its folder "
            "belong to the user that runs mediadht"
        )
    return EnvironmentFault(
        f"the database {path} is damaged: {fault}. Restore it from a backup; or move it and its -wal and -shm files "
        "away and start again: the node keeps its key and joins through --bootstrap, and what was announced by hand "
        "must be announced again"
    )
