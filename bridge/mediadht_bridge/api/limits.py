"""Every bound of the HTTP API that no operator needs to change, each with unit and reason."""

from __future__ import annotations

from typing import Final

BODY_BYTES_MAX: Final = 16_384
"""A request's body. The largest honest one, a room ID and two offers, has under 1 KiB."""

BODY_S_MAX: Final = 10.0
"""Time for a caller to send its body."""

LINGER_S: Final = 1.0
"""How long a refused body is still read, so that the caller sees the refusal and not a reset connection."""

DEADLINE_S_MAX: Final = 30.0
"""The longest deadline that a caller may ask for."""

DEADLINE_MS_MAX: Final = 30_000

GRACE_S: Final = 0.25
"""What the DHT may overrun its deadline by before the API answers without it."""

ANSWER_S_MAX: Final = DEADLINE_S_MAX + BODY_S_MAX + 2.0
"""After which any answer is cut off, whatever it waits for."""

PROVIDERS_MAX: Final = 500
"""Providers in one answer: as many as a replica keeps of one key."""

PROVIDERS_DEFAULT: Final = 16

VIA_MAX: Final = 50
VIA_DEFAULT: Final = 10
"""Servers in a `via` list. Homeservers try them in order, so more than a few only cost."""

PAGE_MAX: Final = 500
PAGE_DEFAULT: Final = 100

PEERS_MAX: Final = 1_000
PEERS_DEFAULT: Final = 100

PEER_CHARACTERS_MAX: Final = 512
"""What `ping` accepts as a peer: an endpoint has 255 characters at most."""

ERROR_DETAILS_MAX: Final = 3
"""Faults of one request that its error text lists."""
