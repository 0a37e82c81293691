"""Adversaries that answer wrongly: `drop`, `lie`, `withhold`, `replay`. Everything else they do as any node does."""

from __future__ import annotations

import random

from mediadht.core.errors import RemoteError
from mediadht.core.messages import Find, Found, Get, Got, Put, PutDone, PutOutcome, Request, Response, SignedBytes
from mediadht.core.records import parse_record
from mediadht_sim.adversaries.mind import Company, Mind
from mediadht_sim.nodes import SimulatedNode

__all__ = ["Drop", "Lie", "Replay", "Withhold"]

_VERSIONS_MAX = 8
_KEYS_REMEMBERED_MAX = 20_000


class Drop(Mind):
    """Answers nothing, or leaves out this share of its answers (a grey node)."""

    __slots__ = ("_share",)

    def __init__(self, body: SimulatedNode, randomness: random.Random, share: float = 1.0) -> None:
        super().__init__(body, randomness)
        self._share = share

    def answer(self, asker: int, request: Request, honest: Response) -> Response | None:
        return None if self._share >= 1.0 or self.randomness.random() < self._share else honest


class Lie(Mind):
    """Names nodes of its `company` in place of those it knows: friends only, or such as do not exist.

    It hands out the records that it holds. `is_varied`: each answer names others, so that several liars do not say
    the same.
    """

    __slots__ = ("_company", "_is_varied")

    def __init__(
        self, body: SimulatedNode, randomness: random.Random, company: Company, *, is_varied: bool = False
    ) -> None:
        super().__init__(body, randomness)
        self._company = company
        self._is_varied = is_varied

    def answer(self, asker: int, request: Request, honest: Response) -> Response | None:
        randomness = self.randomness if self._is_varied else None
        return named_instead(self._company, request, honest, randomness)


class Withhold(Mind):
    """Acknowledges every record and says that it has none; with `key`, of this key only."""

    __slots__ = ("_key",)

    def __init__(self, body: SimulatedNode, randomness: random.Random, key: int | None = None) -> None:
        super().__init__(body, randomness)
        self._key = key

    def answer(self, asker: int, request: Request, honest: Response) -> Response | None:
        match request, honest:
            case Get(key), Got() if self._key in (None, key):
                return Got((), 0, self.contacts_near(asker, key, request.contacts_max, request.known))
            case Put(records), PutDone(_, contacts):
                return PutDone(tuple(PutOutcome() for _ in records), contacts)
        return honest


class Replay(Mind):
    """Hands out the oldest record of each signer that it ever saw and that has not expired, withdrawn or not.

    Where all of a signer's have expired it hands out the oldest of these.
    """

    __slots__ = ("_seen",)

    def __init__(self, body: SimulatedNode, randomness: random.Random) -> None:
        super().__init__(body, randomness)
        self._seen: dict[int, dict[int, list[tuple[int, int, SignedBytes]]]] = {}
        """By key and signer: sequence, expiry, and the record, oldest first."""

    def asked(self, asker: int, request: Request) -> None:
        if isinstance(request, Put):
            for body, signature in request.records:
                self._remember(body, signature)

    def answer(self, asker: int, request: Request, honest: Response) -> Response | None:
        if not isinstance(request, Get) or not isinstance(honest, Got) or request.key not in self._seen:
            return honest
        signers = self._seen[request.key]
        floor = -1 if request.after is None else request.after ^ request.sample
        chosen = sorted((s for s in signers if s ^ request.sample > floor), key=request.sample.__xor__)
        records = tuple(self._oldest(signers[s]) for s in chosen[: request.providers_max])
        return Got(records, len(signers)) if records else honest

    def _remember(self, body: bytes, signature: bytes) -> None:
        try:
            record = parse_record(body, signature, verify=False)
        except RemoteError:
            return
        if record.withdrawn or (record.key not in self._seen and len(self._seen) >= _KEYS_REMEMBERED_MAX):
            return
        versions = self._seen.setdefault(record.key, {}).setdefault(record.node_id, [])
        version = (record.sequence, record.expires_s, (body, signature))
        if len(versions) < _VERSIONS_MAX and version not in versions:
            versions.append(version)
            versions.sort()

    def _oldest(self, versions: list[tuple[int, int, SignedBytes]]) -> SignedBytes:
        wall_s = self.core.state.wall_s
        return next((raw for _, expires_s, raw in versions if expires_s > wall_s), versions[0][2])


def named_instead(
    company: Company, request: Request, honest: Response, randomness: random.Random | None = None
) -> Response:
    """The honest response, but for the contacts: nobody outside of `company` is named."""
    match request, honest:
        case Find(target, count), Found():
            return Found(company.near(target, count, randomness))
        case Get(key), Got(records, total) if request.contacts_max:
            return Got(records, total, () if records else company.near(key, request.contacts_max, randomness))
        case Put(records, count), PutDone(outcomes, contacts) if contacts and count:
            return PutDone(outcomes, company.near(_first_key(records), count, randomness))
    return honest


def _first_key(records: tuple[SignedBytes, ...]) -> int:
    try:
        return parse_record(*records[0], verify=False).key
    except RemoteError:
        return 0
