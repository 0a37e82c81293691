"""What people name: IDs, files, and neither."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediadht.cli import subjects
from mediadht.cli.subjects import Named, name_subject
from mediadht.core.errors import CallerError, EnvironmentFault
from mediadht.core.identifiers import media, room

MEDIA = "sha256." + "ab" * 32


def test_ids() -> None:
    assert name_subject(MEDIA) == Named(media(MEDIA))
    assert name_subject("!a:b.example") == Named(room("!a:b.example"))
    assert name_subject(f"!{MEDIA}").subject == media(MEDIA)


def test_an_id_wins_over_a_file_and_a_path_over_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(MEDIA).write_bytes(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    assert name_subject(MEDIA).path is None
    assert name_subject(f"./{MEDIA}") == Named(media(f"sha256.{digest}"), Path(MEDIA), 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(content=st.binary(max_size=40), piece_bytes=st.integers(1, 16))
def test_a_file_is_hashed_whole_whatever_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, piece_bytes: int
) -> None:
    monkeypatch.setattr(subjects, "_PIECE_BYTES", piece_bytes)
    path = tmp_path / "file"
    path.write_bytes(content)
    told: list[tuple[str, int]] = []
    advanced: list[int] = []

    @contextmanager
    def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
        told.append((description, total))
        yield advanced.append

    named = name_subject(str(path), progress)
    assert named == Named(media(f"sha256.{hashlib.sha256(content).hexdigest()}"), path, len(content))
    assert told == [("hashing file", len(content))]
    assert sum(advanced) == len(content)


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    @contextmanager
    def progress(_description: str, _total: int) -> Iterator[Callable[[int], None]]:
        yield lambda _advance: os.truncate(path, 1)

    with pytest.raises(EnvironmentFault, match="changed while it was read: try again"):
        name_subject(str(path), progress)


def test_neither(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match=r"is neither a media ID .*, nor a room ID .*, nor a file"):
        name_subject("nonsense")
    with pytest.raises(CallerError, match="is a folder: name a file"):
        name_subject(str(tmp_path))
