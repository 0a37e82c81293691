"""The node key on disk: one file of 64 hexadecimal digits, readable by its owner only.

Losing it means a new node ID, and announcements that nobody can withdraw before they expire; showing it means that
somebody else can speak as this node. So it is never overwritten, never logged, and refused if others can read it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mediadht.core.errors import EnvironmentFault
from mediadht.core.keys import SEED_BYTES, KeyPair

__all__ = ["KEY_FILE_NAME", "load_or_create_key", "make_data_dir"]

KEY_FILE_NAME = "node.key"


def make_data_dir(data_dir: Path) -> None:
    """Make the data folder if it is missing, for its owner only. Raises EnvironmentFault where that is refused."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise EnvironmentFault(
            f"the data folder {data_dir} cannot be made: {fault.strerror}. "
            "Make it for the user that runs mediadht, or name another with --data-dir"
        ) from fault


def load_or_create_key(data_dir: Path) -> KeyPair:
    """The node's key pair, made at the first call. Raises EnvironmentFault where the file is wrong or unreadable."""
    make_data_dir(data_dir)
    path = data_dir / KEY_FILE_NAME
    try:
        return _load(path)
    except FileNotFoundError:
        return _create(path)
    except OSError as fault:
        raise EnvironmentFault(
            f"the node key {path} cannot be read: {fault.strerror}. It must belong to the user that runs mediadht"
        ) from fault


def _load(path: Path) -> KeyPair:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise EnvironmentFault(
            f"the node key {path} has mode {mode:04o}: others could read it and speak as this node. "
            f"Run: chmod 600 {path}"
        )
    text = path.read_text("ascii", errors="replace").strip()
    try:
        seed = bytes.fromhex(text)
        if len(seed) != SEED_BYTES:
            raise ValueError
    except ValueError:
        raise EnvironmentFault(
            f"the node key {path} does not hold {2 * SEED_BYTES} hexadecimal digits: it is damaged. Restore it from a "
            "backup; or move it away, and a new key is made (announcements of the old one end with their expiry)"
        ) from None
    return KeyPair.from_seed(seed)


def _create(path: Path) -> KeyPair:
    seed = os.urandom(SEED_BYTES)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(seed.hex() + "\n")
                file.flush()
                os.fsync(file.fileno())
            # A link, not a rename: if another process was first, its key stays and is used.
            os.link(temporary, path)
        except FileExistsError:
            return _load(path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as fault:
        raise EnvironmentFault(
            f"the node key {path} cannot be written: {fault.strerror}. "
            "Let the folder belong to the user that runs mediadht, and have space left"
        ) from fault
    return KeyPair.from_seed(seed)
