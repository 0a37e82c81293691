"""Signatures that cost nothing, and constants with other values: what only a simulation may do to the core.

`faking(...)` changes the core's modules for the time of a run, in this process, and puts everything back. Faked
signatures are hashes of the public key and the message: nobody in a simulation forges them, adversaries included,
and a record that was changed on its way is still noticed.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mediadht.core
from mediadht.core import keys as core_keys
from mediadht.core.errors import Code, ConfigurationError, RemoteError
from mediadht.core.keys import KeyPair, node_id_of

__all__ = ["FakeKeyPair", "constant_names", "faking"]


class FakeKeyPair(KeyPair):
    """A key pair whose signatures only `faking(signatures=True)` accepts."""

    __slots__ = ()

    @classmethod
    def from_seed(cls, seed: bytes) -> FakeKeyPair:
        """The key pair of any seed."""
        public_key = hashlib.sha256(b"fake public key" + seed).digest()
        return cls(public_key, node_id_of(public_key), b"")

    def sign(self, message: bytes) -> bytes:
        """64 bytes that depend on the key and the message."""
        return hashlib.blake2b(message, key=self.public_key, digest_size=64).digest()


def constant_names() -> list[str]:
    """The constants of the core that a run may change: numbers, and tuples of numbers."""
    values = vars(importlib.import_module("mediadht.core.constants"))
    return sorted(name for name, value in values.items() if name.isupper() and isinstance(value, int | float | tuple))


@contextmanager
def faking(*, signatures: bool, constants: Mapping[str, Any]) -> Iterator[None]:
    """Run the core with faked signatures and with these constants.

    A constant changes wherever a module of the core uses it by name; what was computed from it when the module was
    loaded stays. Raises ConfigurationError for a name that the core does not have.
    """
    unknown = sorted(set(constants) - set(constant_names()))
    if unknown:
        raise ConfigurationError(f"mediadht.core.constants has no number {unknown[0]}")
    undo: list[tuple[Any, str, Any]] = []

    def change(module: Any, name: str, value: Any) -> None:
        undo.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    modules = [importlib.import_module(f"mediadht.core.{m.name}") for m in pkgutil.iter_modules(mediadht.core.__path__)]
    try:
        for module in modules:
            for name, value in constants.items():
                if hasattr(module, name):
                    change(module, name, value)
        if signatures:
            change(core_keys, "check_signature", _check_fake_signature)
        yield
    finally:
        for module, name, value in reversed(undo):
            setattr(module, name, value)


def _check_fake_signature(public_key: bytes, message: bytes, signature: bytes) -> None:
    if hashlib.blake2b(message, key=public_key, digest_size=64).digest() != signature:
        raise RemoteError(Code.BAD_SIGNATURE, "the signature does not fit its signer")
