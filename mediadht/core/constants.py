"""Every constant of the protocol, in one place, each with its unit, its reason and its precedent.

Units stand last in the name. Nothing else in `core` holds a number that a second implementation would have to know.
Change one only with a measurement or a simulation that shows why.
"""

from __future__ import annotations

from typing import Final

# --- The key space -----------------------------------------------------------------------------------------------

ID_BITS: Final = 256
"""Node IDs and keys are SHA-256 values: 256 bits, so a key needs no truncation and grinding buys nothing."""

ID_BYTES: Final = ID_BITS // 8

K: Final = 20
"""Replicas per key and contacts per bucket. Kademlia's own choice (Maymounkov and Mazieres 2002), kept by IPFS. Where
half of the network dies at once, 14 lose no key, and 20 are twice as fast (`simulations/experiments/k.py`)."""

ALPHA: Final = 3
"""Requests of one lookup that are in flight and not yet slow. A slow one frees its place (`SLOW_FACTOR`), so a
small value costs no time when peers are dead; the paper's 3 keeps the number of requests low. Settled by
`simulations/experiments/alpha.py` (docs/research.md): from 3 on, lookups are no faster."""

STORE_PARALLELISM: Final = K
"""Requests in flight where every replica must be asked anyway: all of them at once, nothing is gained by waiting."""

# --- Protocol version --------------------------------------------------------------------------------------------

PROTOCOL_VERSIONS: Final = (1,)
"""Versions spoken, best last. A peer that shares none is told `wrong_version` and disconnected."""

NETWORK_DEFAULT: Final = "mediadht"
"""Nodes of different network names refuse one another, so that a test network never mixes with the real one."""

# --- Bounds on what travels --------------------------------------------------------------------------------------

FRAME_BYTES_MAX: Final = 65_536
"""One encrypted frame, its 4-byte length not counted. Larger ends the session (`too_large`)."""

HANDSHAKE_FRAME_BYTES_MAX: Final = 8_192
"""A handshake frame comes from a stranger: four endpoints and a name fit eight times over."""

CONTACTS_PER_ANSWER_MAX: Final = K
PROVIDERS_PER_ANSWER_MAX: Final = 16
"""As many as a homeserver can use as `via`; more are fetched page by page."""

WITHDRAWALS_PER_ANSWER_MAX: Final = 4
"""Latest withdrawals sent along, so that a reader is not misled by a replica that missed them."""

KNOWN_PREFIXES_MAX: Final = 32
"""Contacts that a request may list as already known, so that answers repeat none of them."""

KNOWN_PREFIX_BYTES: Final = 8
"""Of a node ID, in that list: 64 bits do not collide by accident, and a forged collision hides one contact."""

RECORDS_PER_PUT_MAX: Final = 64
"""Records of the largest size that fit one frame, rounded down; a sweep fills its messages to this."""

RECORD_BYTES_MAX: Final = 900
"""A whole record with its signature. 64 of them and their framing stay under `FRAME_BYTES_MAX`."""

PAYLOAD_BYTES_MAX: Final = 512
"""A record's payload before it is sealed: a room ID is 255 bytes at most."""

ENDPOINTS_PER_CONTACT_MAX: Final = 4
ENDPOINT_CHARACTERS_MAX: Final = 255
SERVER_NAME_CHARACTERS_MAX: Final = 230
"""A Matrix server name: user IDs of 255 bytes need room for a localpart."""

ROOM_ID_BYTES_MAX: Final = 255
TEXT_CHARACTERS_MAX: Final = 256
"""Any human-readable text in a message (an error's reason, an agent's name)."""

# --- Records -----------------------------------------------------------------------------------------------------

RECORD_VALIDITY_S: Final = 48 * 3600
"""Life of a provider record, and the most that a replica accepts. IPFS measured that longer lives buy little."""

REPUBLISH_INTERVAL_S: Final = 22 * 3600
"""Providers store again after this, under half the validity, so that one missed round loses nothing (go-libp2p)."""

REPUBLISH_JITTER: Final = 0.1
"""Share of the interval by which each republish is moved earlier, so that a restart does not align a server's keys."""

CLOCK_TOLERANCE_S: Final = 600
"""How far into the future beyond its validity a record may expire: two clocks ten minutes apart still agree."""

CLOCK_WARNING_S: Final = 120
"""A median offset from the peers' clocks beyond this is told to the owner."""

STORE_RECORDS_MAX: Final = 100_000
"""Records a node keeps for others, about 80 MiB when full."""

STORE_RECORDS_PER_KEY_MAX: Final = 500
"""Mainline's number: nobody needs more sources, and one popular key cannot fill a store."""

STORE_RECORDS_PER_KEY_PER_DOMAIN_MAX: Final = 16
"""Of one registrable domain at one key: a Sybil pays for a domain, not for a key pair."""

STORE_SIGNER_SHARE: Final = 5
STORE_DOMAIN_SHARE: Final = 2
"""One signer may fill a fifth of a store, one registrable domain a half: small networks have few servers, each with
many records, and no single one shall crowd out the rest."""

HANDOVER_REPLICAS: Final = 3
"""Only this many of a key's replicas, the closest, hand a record to a newcomer: twenty copies would be waste."""

HANDOVER_KEYS_MAX: Final = 20_000
HANDOVER_RECORDS_MAX: Final = 20_000
"""Keys queued for all newcomers together, and records handed over when leaving. What does not fit waits for its
provider's next republish."""

# --- Contacts ----------------------------------------------------------------------------------------------------

BUCKET_REPLACEMENTS_MAX: Final = 20
"""Answering contacts that wait for a place in a full bucket."""

CONTACT_FAILURES_MAX: Final = 3
"""Lost answers in a row after which a contact leaves the table. One lost answer says nothing (libtorrent's rule)."""

BUCKET_CONTACTS_PER_PREFIX_MAX: Final = 2
TABLE_CONTACTS_PER_PREFIX_MAX: Final = 10
BUCKET_CONTACTS_PER_DOMAIN_MAX: Final = 2
TABLE_CONTACTS_PER_DOMAIN_MAX: Final = 10
"""Contacts of one /24 (IPv6: /48) or one registrable domain. go-libp2p allows 2 in a bucket and 3 in a table of an
IP group; hosting companies put many Matrix servers in one /24, so the table's number is larger."""

CONTACT_CACHE_MAX: Final = 20_000
"""Contacts remembered beside the table: in most networks that is everybody, and a lookup needs one hop."""

CONTACT_CACHE_PER_GROUP_MAX: Final = 256
"""Of one IP prefix or registrable domain in that cache."""

LOST_CONTACTS_MAX: Final = 1_000
"""Nodes that were reachable once and may come back; after a partition they are the way to the other side."""

LOST_DIALS_PER_TICK: Final = 2
"""Of them, tried in one round of maintenance: a healed partition is noticed in seconds, the dead cost little."""

BUCKET_REFRESH_INTERVAL_S: Final = 3600
"""A bucket in which nothing was looked up for this long is refreshed (the paper's hour)."""

NEIGHBOURHOOD_DELAYS_S: Final = (0.0, 1.0, 4.0, 15.0, 60.0)
"""After joining, the own neighbourhood is looked up again after these times: those who join together learn of one
another only once somebody has verified them."""

NEIGHBOURHOOD_INTERVAL_S: Final = 600.0
"""From then on: a node must know its neighbours, because it holds records together with them."""

NEIGHBOURHOOD_INTERVAL_S_MIN: Final = 10.0
"""The same where somebody believed lost has come back: perhaps a partition has healed, and others come after."""

# --- Requests ----------------------------------------------------------------------------------------------------

REQUEST_TIMEOUT_S: Final = 5.0
"""After which an answer no longer counts. Sent requests that are merely slow are overtaken long before."""

SLOW_FACTOR: Final = 2.0
"""A request is slow once it takes this many times the peer's smoothed round trip plus four deviations. Anything from 1
to 5 is as good (`simulations/experiments/timeouts.py`, docs/research.md)."""

SLOW_S_MIN: Final = 0.005
SLOW_S_MAX: Final = 1.0
"""Bounds of that time: below, the machine's own scheduling decides; above, somebody is waiting."""

SLOW_UNKNOWN_S: Final = 0.4
"""The same for a peer never measured: a dial and an answer at the 95th percentile of PlanetLab's round trips."""

SUSPECT_S: Final = 60.0
"""How long a contact that let a request time out or become slow is asked last."""

REQUESTS_IN_FLIGHT_MAX: Final = 4_096
"""Requests a node has open in all."""

LOOKUP_CANDIDATES_MAX: Final = 256
"""Contacts that one lookup keeps, closest first. A liar's flood pushes out only what is farther."""

LOOKUP_REQUESTS_MAX: Final = 128
"""Requests of one lookup in all: five times what 10,000 nodes need."""

LOOKUP_DEADLINE_S: Final = 15.0
"""After which a lookup ends with what it has."""

LOOKUP_PATIENCE_S: Final = 1.5
LOOKUP_PATIENCE_USEFUL_S: Final = 0.5
"""How long a lookup that has nothing else to do waits for those that are slow, from the moment each was asked; the
shorter time where something useful has been found already. A dial and an answer take four of PlanetLab's 330 ms."""

LIKELY_TO_STORE: Final = 1.5
LIKELY_TO_HOLD: Final = 0.75
"""Within this many times the expected distance of the k-th closest node, a node is taken for a replica before the
lookup has shown it: records are stored there at once (a withdrawal reaches copies too many: `WITHDRAWAL_SPREAD`), or it
is asked in the order of round-trip times rather than of distances (a node too far costs a request)."""

WITHDRAWAL_SPREAD: Final = 2
"""A withdrawal goes to this many times k nodes: what it withdraws may lie where a copy too many was stored, or where
replicas have been before nearer nodes joined."""

LOOKUPS_MAX: Final = 256
LOOKUPS_WAITING_MAX: Final = 4_096
"""Lookups under way, and such as wait for their turn; further ones end at once, incomplete."""

ANSWERS_ENOUGH: Final = 3
"""Replicas holding providers that must have answered before a lookup for providers ends early."""

# --- Sessions ----------------------------------------------------------------------------------------------------

SESSIONS_MAX: Final = 256
"""Open sessions of one node, about 60 KiB each. The least recently used is closed for a new one."""

SESSIONS_SOUGHT_SHARE: Final = 0.75
"""Of them, up to which a node dials members of its table by itself; the rest is for lookups and for those who dial it.
Without that, a simulated network of 10,000 nodes, whose tables have 200 members each, closed and dialled sessions all
the time: every node was full, and each newcomer cost somebody else a session."""

SESSION_IDLE_PING_S: Final = 45.0
"""A session on which nothing arrived for this long is pinged: a dead network is noticed within a minute."""

SESSION_IDLE_CLOSE_S: Final = 900.0
"""A session that carried no request for this long is closed, unless its peer is in the routing table."""

REQUESTS_PER_SESSION_IN_FLIGHT_MAX: Final = 256
"""Unanswered requests that a peer may have with us, and messages that may wait for one peer."""

RECONNECT_S_MIN: Final = 1.0
RECONNECT_S_MAX: Final = 20.0
"""Back-off of a lost session that is worth keeping: short enough that a healed network is whole in a minute."""

TICK_S: Final = 5.0
"""Between two rounds of maintenance: pings, reconnections, expiry, refresh."""

BOOTSTRAP_INTERVAL_S: Final = 3600
"""After which the bootstrap nodes are dialled although there are sessions: two parts of a network whose nodes have all
restarted while they were cut off from each other know nothing of each other any more, and each is content."""

DIALS_PER_TICK_MAX: Final = 16
"""Connections that one round of maintenance starts."""

ISOLATED_DIALS: Final = 8
"""Of them, contacts outside the table that are tried where no session is left at all."""

NEWCOMER_UPTIME_S: Final = 600
"""A node up for less than this, and less long than we are, is handed the records that it is now closest to."""

PROBES_MAX: Final = 4
"""Dial-backs under way, which check that a peer that dialled us is reachable before it enters the table."""

# --- Publishing --------------------------------------------------------------------------------------------------

SWEEP_REGIONS_MAX: Final = 4
"""Regions of the key space that a sweep works on at once."""

SWEEP_KEYS_PER_REGION_MAX: Final = 256
"""Keys placed with the knowledge of one lookup."""

SWEEP_KEYS_SCANNED_MAX: Final = 4_096
"""Own keys of a region that are looked at for one walk, so that one new key does not cost a pass over a million."""

SWEEP_AHEAD_SHARE: Final = 0.15
"""A sweep takes along what falls due within this share of the interval in the same region: one walk, not many."""

PUBLISH_RETRY_S_MIN: Final = 5.0
PUBLISH_RETRY_S_MAX: Final = 600.0
"""Back-off of an announcement that no replica took."""

NETWORK_GREW: Final = 1.5
"""An announcement is stored again once this many times the nodes are to be seen that were when it was stored: in a part
of the network that was cut off, or right after the cut had healed, its k closest were others. The safety search lost
every tenth such key from sight for 22 hours; an estimate of the size alone errs by less."""

REPLICAS_ENOUGH: Final = 7
"""An announcement that fewer of the known replicas acknowledged is tried again at `PUBLISH_RETRY_S_MAX`."""

# --- Claims and rooms --------------------------------------------------------------------------------------------

CLAIM_LEASE_S: Final = 60.0
"""How long a replica keeps its vote for a claim: creating a room takes seconds, and a claimant that dies delays others
no longer than this. It is not renewed: who holds a vote may ask again, and is told what is left of it."""

RECEIPT_S: Final = 600.0
"""Life of a receipt for a room that has no certificate yet: a claimant that dies before it has a quorum, or lies about
its room, keeps a key from others no longer. Receipts for a certified room live for `ROOM_VALIDITY_S`."""

ROOM_VALIDITY_S: Final = 7 * 24 * 3600
"""Life of a room record, and of a receipt for a certified room: long, because each has a message of its own, where
provider records travel 64 together; and short enough that a room from which everybody has gone frees its key."""

ROOM_RENEW_S: Final = 3 * 24 * 3600
"""Whoever established a room does so again after this, under half the validity."""

WITNESSES: Final = 3
"""Replicas that must show a provisional room before it keeps a claimant with a quorum of votes from creating."""

LEASE_MARGIN: Final = 0.1
"""Share of a lease that a claimant gives up, besides counting from before it asked: clocks' rates differ by less."""

CLAIM_RETRY_S_MIN: Final = 0.1
CLAIM_RETRY_S_MAX: Final = 0.4
"""When the lowest-ranked of several claimants asks again: the others need one round trip to give their votes back."""

CLAIM_POLL_S_MIN: Final = 0.7
CLAIM_POLL_S_MAX: Final = 1.5
"""When a claimant that waits for another looks again: a room is made within seconds."""

CLAIM_SWEEPS_UNHEARD_MAX: Final = 2
"""Sweeps in a row in which too few replicas were heard, after which the claim is won provisionally: nobody waits for
replicas that are not there."""

CLAIM_WAIT_S_MAX: Final = 75.0
"""How long a claimant waits for others at one key, however often it is asked: one lease, and time to notice its end.
After that it creates, provisionally."""

CLAIM_DEADLINE_S_MAX: Final = 120.0
"""The longest deadline of a claim."""

CLAIMANTS_MAX: Final = 4_096
"""Own claims under way or held; further ones are answered at once, provisionally."""

CLAIM_LAPSES_FREE: Final = 3
CLAIM_BACKOFF_S_MAX: Final = 3_600.0
"""Leases that a claimant may let lapse within the longer time before it is refused for one lease, then for twice as
long with each further one. At the key where it let a lease lapse it is refused for one lease in any case."""

VOTES_MAX: Final = 20_000
VOTES_PER_SIGNER_MAX: Final = 512
VOTES_PER_DOMAIN_MAX: Final = 2_048
LAPSES_REMEMBERED_MAX: Final = 8_192
"""Votes that a replica has given and that are not over, and lapses it remembers. A server that uploads ten files a
second holds 600 votes of twenty replicas each, spread over all nodes."""

ROOMS_MAX: Final = 50_000
"""Room records that a node keeps, about 120 MiB when full."""

ROOM_RECORDS_PER_KEY_MAX: Final = 8
ROOM_RECORDS_PER_KEY_PER_DOMAIN_MAX: Final = 2
"""A key has one room, or a few after a partition. The worst-ranked goes first."""

ROOMS_PER_ANSWER_MAX: Final = 3
"""Room records in one answer, best first: each may have `RECEIPTS_MAX` receipts, and a frame must hold them."""

RECEIPTS_MAX: Final = K
"""Receipts that a room record carries: of each replica one."""

RECEIPTS_PER_GROUP_MAX: Final = 6
"""Of one IP prefix or registrable domain in a certificate: as many as may lie without harm to the quorum."""

LIKELY_TO_CERTIFY: Final = 3.0
"""Within this many times the expected distance a receipt's signer may have been a replica: estimates of distance err,
and replicas die. Nodes that near can be had by grinding only at this rate: a third of k times more of them."""

PROVIDERS_PER_VOTE_MAX: Final = 4
"""Provider records that come with a vote, so that a claimant that finds a room has somebody to join it through."""

REPLICAS_SPARE: Final = 4
"""A node that knows this many live nodes beyond k nearer to a key does not vote there: it is no replica."""

ROOM_PREFIX_BYTES: Final = 8
"""Of a room's digest, in an answer to `put`: enough to notice that it is another's."""

ABNORMAL_SHARE: Final = 0.6
SIZE_HALF_LIFE_S: Final = 12 * 3600.0
"""A network that seems smaller than this share of the largest remembered size is perhaps a part of it. The memory
fades: what was cut off for two days is the whole network now."""

LOST_COUNTED_S: Final = 3_600.0
"""For this long a node that was lost counts as a replica where a small network counts them: it may be alive on the
other side of a partition."""

HEALING_CHECKS_MAX: Final = 4
HEALING_WAITING_MAX: Final = 4_096
"""Own rooms that are established anew at once, and such as wait for it; the rest is seen to in the next round."""

ROOM_HANDOVER_MAX: Final = 4_096
ROOM_HANDOVER_IN_FLIGHT_MAX: Final = 8
"""Votes and keys with rooms that are handed to one node, and requests of these that are open at once."""

ROOMS_EXPIRE_EVERY_S: Final = 300.0
"""How often expired room records are dropped; they are never handed out anyway."""
