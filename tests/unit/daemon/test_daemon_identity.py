"""The node key on disk: made once, for its owner only, refused when others could read it or it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediadht.core.errors import EnvironmentFault
from mediadht.daemon.identity import KEY_FILE_NAME, load_or_create_key


def test_it_is_made_once_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    first = load_or_create_key(folder)
    assert load_or_create_key(folder).node_id == first.node_id
    assert (folder / KEY_FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == [KEY_FILE_NAME]
    assert load_or_create_key(tmp_path / "other").node_id != first.node_id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o610])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    load_or_create_key(tmp_path)
    path = tmp_path / KEY_FILE_NAME
    path.chmod(mode)
    with pytest.raises(EnvironmentFault, match=rf"has mode {mode:04o}.*Run: chmod 600 {path}"):
        load_or_create_key(tmp_path)
    path.chmod(0o600)
    load_or_create_key(tmp_path)


@pytest.mark.parametrize("text", ["", "no key", "ab" * 31, "ab" * 33, "äö", "0x" + "ab" * 31, "zz" * 32])
def test_a_damaged_key_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    path = tmp_path / KEY_FILE_NAME
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(EnvironmentFault, match="64 hexadecimal digits: it is damaged") as caught:
        load_or_create_key(tmp_path)
    assert path.read_text() == text
    assert not text.strip() or text not in str(caught.value)


def test_a_key_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE_NAME).mkdir(mode=0o700)
    with pytest.raises(EnvironmentFault, match="cannot be read"):
        load_or_create_key(tmp_path)


def test_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="cannot be made"):
        load_or_create_key(tmp_path / "file")
    with pytest.raises(EnvironmentFault, match="cannot be made"):
        load_or_create_key(tmp_path / "file" / "below")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mediadht.daemon.identity.os.fsync", no_space)
        with pytest.raises(EnvironmentFault, match="cannot be written: No space left"):
            load_or_create_key(tmp_path)
    assert not list(tmp_path.iterdir())
    load_or_create_key(tmp_path)
