"""Storage: what is durable, what is lazy, what a refusing disk changes, and whose data folder it is."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import trio
from daemon_parts import FullDisk, contact_of, record_of, subject
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediadht.core.errors import EnvironmentFault
from mediadht.core.identifiers import room
from mediadht.core.records import Offer
from mediadht.daemon.storage import Storage, StoredAnnouncement, _Batch

NOW_S = 1_700_000_000.0


def row(name: object, *sources: str, withdrawn: bool = False, **more: object) -> StoredAnnouncement:
    withdrawn_at_s = 7.0 if withdrawn else None
    return StoredAnnouncement(
        subject(name),
        None,
        frozenset(),
        frozenset(sources),
        withdrawn_at_s=withdrawn_at_s,
        **more,  # type: ignore[arg-type]
    )


def reopened(folder: Path) -> list[StoredAnnouncement]:
    """What a second reader sees on disk, whatever the first has in memory."""
    connection = sqlite3.connect(folder / "mediadht.sqlite3")
    try:
        return Storage(folder, connection, -1).load(NOW_S).announcements
    finally:
        connection.close()


rows = st.builds(
    StoredAnnouncement,
    st.one_of(
        st.integers(0, 30).map(subject),
        st.integers(0, 30).map(lambda n: room(f"!r{n}:example.org")),
    ),
    st.one_of(st.none(), st.just("!abc:example.org")),
    st.frozensets(st.sampled_from(Offer)),
    st.frozensets(st.sampled_from(["api", "feed", "cli"])),
    st.integers(0, 2**53),
    st.integers(0, 40),
    st.floats(0, 2e9),
    st.one_of(st.none(), st.floats(0, 2e9)),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(rows, max_size=4, unique_by=lambda r: r.subject), max_size=6))
def test_announcements_come_back_as_the_latest_write_says(
    tmp_path_factory: pytest.TempPathFactory, writes: list[list[StoredAnnouncement]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")

    async def write() -> None:
        with Storage.open(folder) as storage:
            for batch in writes:
                await storage.write_announcements(batch)

    trio.run(write)
    model = {each.subject: each for batch in writes for each in batch}
    with Storage.open(folder) as storage:
        assert {each.subject: each for each in storage.load(NOW_S).announcements} == model


async def test_records_and_contacts_come_back(tmp_path: Path) -> None:
    with Storage.open(tmp_path) as storage:
        for number in range(5):
            storage.keep_record(record_of(number))
        storage.keep_record(record_of(9, expires_s=int(NOW_S)))
        storage.drop_record(record_of(3))
        storage.save_contacts([contact_of(number) for number in (3, 1, 2)])
        assert await storage.flush()
        storage.drop_record(record_of(4))
        storage.save_contacts([contact_of(number) for number in (2, 3)])
        assert await storage.flush()
        assert await storage.flush()  # nothing to do
    with Storage.open(tmp_path) as storage:
        kept = storage.load(NOW_S)
    assert {each.body for each in kept.records} == {record_of(number).body for number in range(3)}
    assert kept.contacts == [contact_of(2), contact_of(3)]


async def test_rows_of_others_that_are_none_are_passed_over(tmp_path: Path) -> None:
    with Storage.open(tmp_path) as storage:
        storage.keep_record(record_of(1))
        storage.save_contacts([contact_of(1)])
        await storage.flush()
        execute = storage._connection.execute
        execute("INSERT INTO records VALUES (x'00', x'00', x'c1', x'00', 9999999999)")
        execute("INSERT INTO contacts VALUES (x'00', '[]', NULL, 5)")
        execute("INSERT INTO contacts VALUES (x'01', 'no json', NULL, 6)")
        execute("INSERT INTO contacts VALUES (x'02', '[\"http://x\"]', NULL, 7)")
    with Storage.open(tmp_path) as storage:
        kept = storage.load(NOW_S)
    assert (len(kept.records), len(kept.contacts)) == (1, 1)


async def test_calls_that_wait_together_share_a_transaction(storage: Storage, tmp_path: Path) -> None:
    transactions: list[int] = []
    real = storage._transaction

    def counted(batch: _Batch) -> None:
        transactions.append(len(batch.works))
        real(batch)

    storage._transaction = counted  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(storage.write_announcements, [row(number, "api")])
    assert sum(transactions) == 50
    assert len(transactions) <= 3
    assert len(reopened(tmp_path)) == 50


async def test_a_disk_that_refuses_changes_nothing_and_says_so(storage: Storage, tmp_path: Path) -> None:
    await storage.write_announcements([row("before", "api")])
    disk = FullDisk(storage)
    failures = 0

    async def fails(number: int) -> None:
        nonlocal failures
        with pytest.raises(EnvironmentFault, match=r"disk is full.*nothing that was acknowledged is lost"):
            await storage.write_announcements([row(number, "api")])
        failures += 1

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(fails, number)
    assert failures == 5
    storage.keep_record(record_of(1))
    storage.note_progress(row("before", "api", replicas=7))
    storage.save_contacts([contact_of(1)])
    assert not await storage.flush()
    assert storage.trouble is not None
    assert "disk is full" in storage.trouble
    storage.save_contacts([contact_of(2)])
    disk.is_full = False
    assert await storage.flush()
    assert storage.trouble is None
    assert reopened(tmp_path) == [row("before", "api", replicas=7)]
    kept = storage.load(NOW_S)
    assert len(kept.records) == 1
    assert kept.contacts == [contact_of(2)]
    await storage.write_announcements([row("after", "api")])
    assert len(reopened(tmp_path)) == 2


async def test_late_progress_never_undoes_a_durable_write(storage: Storage, tmp_path: Path) -> None:
    await storage.write_announcements([row("x", "api"), row("y", "api", withdrawn=True)])
    storage.note_progress(row("x", "api", replicas=5, sequence=3))
    storage.forget_announcement(subject("y"))
    # x is withdrawn and y wished for again before those are written; and progress of the past x comes even later.
    await storage.write_announcements([row("x", withdrawn=True), row("y", "api")])
    storage.note_progress(row("x", "api", replicas=6, sequence=4))
    storage.forget_announcement(subject("y"))
    storage.note_progress(row("z", "api"))
    assert await storage.flush()
    on_disk = {each.subject: each for each in reopened(tmp_path)}
    assert on_disk[subject("x")].withdrawn
    assert on_disk[subject("y")].sources == {"api"}
    assert subject("z") not in on_disk
    storage.note_progress(row("x", withdrawn=True, replicas=9, sequence=8, stored_at_s=5.0))
    await storage.flush()
    assert {each.subject: each for each in reopened(tmp_path)}[subject("x")].replicas == 9
    storage.forget_announcement(subject("x"))
    await storage.flush()
    assert [each.subject for each in reopened(tmp_path)] == [subject("y")]


async def test_a_cancelled_write_is_either_done_or_was_never_begun(storage: Storage, tmp_path: Path) -> None:
    finished: list[int] = []

    async def write(number: int) -> None:
        await storage.write_announcements([row(number, "api")])
        finished.append(number)

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(write, number)
            await trio.lowlevel.checkpoint()
            scope.cancel()
    assert {each.subject for each in reopened(tmp_path)} == {subject(number) for number in finished}


def test_a_data_folder_has_one_owner(tmp_path: Path) -> None:
    with Storage.open(tmp_path), pytest.raises(EnvironmentFault, match="another mediadht runs"):
        Storage.open(tmp_path)
    with Storage.open(tmp_path):
        pass


def test_the_database_is_its_owners_only(tmp_path: Path) -> None:
    with Storage.open(tmp_path):
        assert (tmp_path / "mediadht.sqlite3").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(b"no database at all, but long enough to be looked at" * 100), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(20_000)), "is damaged"),
        (lambda path: sql(path, "PRAGMA user_version = 7"), "written by a newer mediadht: its format is 7"),
        (lambda path: sql(path, "PRAGMA user_version = 0"), "cannot be opened"),
        (lambda path: sql(path, "INSERT INTO announcements VALUES ('x','y',NULL,'[]','[]',0,0,0,0)"), "is damaged"),
        (lambda path: sql(path, "INSERT INTO announcements VALUES ('room','!y',NULL,'[','[]',0,0,0,0)"), "is damaged"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be opened"),
    ],
)
async def test_a_damaged_database_is_refused_and_left_as_it_is(tmp_path: Path, damage, says: str) -> None:
    path = tmp_path / "mediadht.sqlite3"
    with Storage.open(tmp_path) as storage:
        await storage.write_announcements([row(number, "api") for number in range(300)])
    damage(path)
    before = path.read_bytes() if path.is_file() else None
    for _ in range(2):  # the lock is given back
        with pytest.raises(EnvironmentFault, match=says) as caught:
            loaded(tmp_path)
        assert str(path) in str(caught.value)
    assert before is None or path.read_bytes() == before


def loaded(folder: Path) -> object:
    with Storage.open(folder) as storage:
        return storage.load(NOW_S)


def sql(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        Storage.open(tmp_path)
