"""Registrable domains, by the public-suffix list that its library carries."""

from __future__ import annotations

from functools import lru_cache

from publicsuffixlist import PublicSuffixList

__all__ = ["registrable_domain"]

_CACHED_MAX = 16_384


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


@lru_cache(maxsize=_CACHED_MAX)
def registrable_domain(host: str) -> str | None:
    """`example.co.uk` of `matrix.example.co.uk`; None for IP literals, public suffixes and single labels."""
    if not host or host[-1].isdigit() or ":" in host or "." not in host:
        return None
    found = _suffixes().privatesuffix(host.lower().rstrip("."))
    return str(found) if found else None
