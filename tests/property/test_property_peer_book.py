"""The book of peers: bounded, hearsay first out, the pinned never; against a model."""

from __future__ import annotations

from unittest import mock

import pytest
from core_strategies import point, points, property_settings
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mediadht.core import peer_book
from mediadht.core.constants import CONTACT_CACHE_PER_GROUP_MAX, CONTACT_FAILURES_MAX, SUSPECT_S
from mediadht.core.contacts import Contact, Groups
from mediadht.core.peer_book import PeerBook

NOBODY = Groups(None, None)


def contact(number: int, host: str = "a") -> Contact:
    return Contact(point(f"peer {number}"), b"", (f"wss://{host}{number}.org/",), None)


def peer_id(number: int) -> int:
    return contact(number).node_id


def test_the_book_holds_its_maximum_and_not_one_more() -> None:
    book = PeerBook(0, peers_max=50)
    for n in range(51):
        assert book.heard_of(contact(n), NOBODY)
    assert len(book) == 50
    assert peer_id(0) not in book, "the oldest hearsay goes first"
    assert peer_id(50) in book


def test_hearsay_goes_before_whoever_answered_and_pinned_ones_never_go() -> None:
    book = PeerBook(0, peers_max=4)
    for n in range(4):
        book.heard_of(contact(n), NOBODY)
    book.proved(contact(0), NOBODY)
    book.reached(peer_id(0), 1.0)
    book[peer_id(1)].in_table = True
    book.pin_changed(peer_id(1))
    for n in range(10, 20):
        assert book.heard_of(contact(n), NOBODY)
    assert peer_id(0) in book
    assert peer_id(1) in book
    for n in (20, 21):
        book.proved(contact(n), NOBODY)
        book[peer_id(n)].connected = True
        book.pin_changed(peer_id(n))
    assert peer_id(0) in book, "no hearsay is left, and nothing more was asked in"
    assert book.heard_of(contact(30), NOBODY), "who answered and is not pinned goes for it"
    assert peer_id(0) not in book
    book[peer_id(30)].connected = True
    book.pin_changed(peer_id(30))
    assert not book.heard_of(contact(31), NOBODY), "a book of pinned peers takes no more"
    assert book.proved(contact(31), NOBODY) is None


def test_a_group_has_its_share_of_hearsay_and_not_one_more() -> None:
    book = PeerBook(0)
    group = Groups("203.0.113.0/24", None)
    assert all(book.heard_of(contact(n), group) for n in range(CONTACT_CACHE_PER_GROUP_MAX))
    assert not book.heard_of(contact(-1), group)
    assert book.heard_of(contact(-2), Groups(None, "other.org"))


def test_names_that_nobody_proved_keep_no_real_node_out() -> None:
    book = PeerBook(0)
    group = Groups(None, "victim.org")
    for n in range(CONTACT_CACHE_PER_GROUP_MAX):
        book.heard_of(contact(n), group)
    assert book.proved(contact(-1), group) is not None
    assert peer_id(0) not in book
    assert sum(p.groups.domain == "victim.org" for p in book.values()) == CONTACT_CACHE_PER_GROUP_MAX


def test_a_group_full_of_proved_nodes_takes_no_more_of_it() -> None:
    book = PeerBook(0)
    group = Groups(None, "big.org")
    for n in range(CONTACT_CACHE_PER_GROUP_MAX):
        book.proved(contact(n), group)
        book.reached(peer_id(n), 1.0)
    assert book.proved(contact(-1), group) is None
    before = book.proved(contact(-2), Groups(None, "small.org"))
    assert before is not None
    assert book.proved(contact(-2, "b"), group) is None
    assert book[peer_id(-2)].groups.domain == "small.org", "a refusal changes nothing"
    assert book[peer_id(-2)].contact == contact(-2)


def test_hearsay_replaces_hearsay_but_never_what_a_node_said_itself() -> None:
    book = PeerBook(0)
    book.heard_of(contact(1, "a"), Groups(None, "a.org"))
    book.heard_of(contact(1, "b"), Groups(None, "b.org"))
    assert book[peer_id(1)].contact == contact(1, "b")
    assert book[peer_id(1)].groups.domain == "b.org"
    book.proved(contact(1, "c"), Groups(None, "c.org"))
    book.answered(peer_id(1), 5.0)
    assert book.heard_of(contact(1, "liar"), Groups(None, "liar.org"))
    assert book[peer_id(1)].contact == contact(1, "c")


def test_neither_the_node_itself_nor_who_cannot_be_reached_is_hearsay() -> None:
    book = PeerBook(peer_id(7))
    assert not book.heard_of(contact(7), NOBODY)
    assert not book.heard_of(Contact(point("x"), b"", (), None), NOBODY)


def test_three_lost_answers_in_a_row_and_not_two_end_liveness() -> None:
    book = PeerBook(0)
    book.proved(contact(1), NOBODY)
    book.reached(peer_id(1), 0.0)
    for _ in range(CONTACT_FAILURES_MAX - 1):
        book.failed(peer_id(1), 1.0)
    assert peer_id(1) in book.live
    book.answered(peer_id(1), 2.0)
    for _ in range(CONTACT_FAILURES_MAX - 1):
        book.failed(peer_id(1), 3.0)
    assert peer_id(1) in book.live, "an answer in between makes good"
    book.failed(peer_id(1), 4.0)
    assert peer_id(1) not in book.live
    assert peer_id(1) in book, "it is remembered, and may come back"
    book.answered(peer_id(1), 5.0)
    assert peer_id(1) in book.live


def test_hearsay_that_never_answers_is_forgotten() -> None:
    book = PeerBook(0)
    book.heard_of(contact(1), NOBODY)
    for _ in range(CONTACT_FAILURES_MAX):
        book.failed(peer_id(1), 1.0)
    assert peer_id(1) not in book


def test_a_node_that_moved_is_not_live_until_it_was_reached_anew() -> None:
    book = PeerBook(0)
    book.proved(contact(1), NOBODY)
    book.reached(peer_id(1), 0.0)
    book.proved(contact(1, "moved"), NOBODY)
    assert peer_id(1) not in book.live
    book.reached(peer_id(1), 1.0)
    assert peer_id(1) in book.live


def test_a_suspect_is_one_for_a_minute_or_until_it_answers() -> None:
    book = PeerBook(0)
    book.heard_of(contact(1), NOBODY)
    book.suspect(peer_id(1), 10.0)
    assert book[peer_id(1)].suspect_until_s == 10.0 + SUSPECT_S
    book.answered(peer_id(1), 11.0)
    assert book[peer_id(1)].suspect_until_s < 0


def test_round_trips_follow_rfc_6298() -> None:
    peer = peer_book.Peer(contact(1), NOBODY)
    peer.measured(0.1)
    assert (peer.round_trip_s, peer.deviation_s) == (0.1, 0.05)
    peer.measured(0.2)
    assert peer.deviation_s == pytest.approx(0.05 * 3 / 4 + 0.1 / 4)
    assert peer.round_trip_s == pytest.approx(0.1 * 7 / 8 + 0.2 / 8)


@property_settings(60)
@given(st.lists(points.filter(bool), min_size=1, max_size=60, unique=True), st.data())
def test_a_lookup_starts_from_the_closest_live_and_the_closest_of_all(ids: list[int], data: st.DataObject) -> None:
    book = PeerBook(0)
    live = data.draw(st.sets(st.sampled_from(ids)))
    target, count = data.draw(points), data.draw(st.integers(1, 10))
    for node_id in ids:
        known = Contact(node_id, b"", ("wss://a.org/",), None)
        if node_id in live:
            book.proved(known, NOBODY)
            book.reached(node_id, 0.0)
        else:
            book.heard_of(known, NOBODY)
    expected = {*sorted(live, key=target.__xor__)[:count], *sorted(ids, key=target.__xor__)[:count]}
    assert book.closest_ids(target, count) == sorted(expected, key=target.__xor__)


class BookAgainstAModel(RuleBasedStateMachine):
    """The model: who was reached, how many failures in a row, who is pinned. The book: 8 peers, 3 of a group."""

    PEERS_MAX = 8
    GROUP_MAX = 3
    numbers = st.integers(0, 14)
    domains = st.sampled_from([None, "a.org", "b.org"])

    def __init__(self) -> None:
        super().__init__()
        self.patch = mock.patch.object(peer_book, "CONTACT_CACHE_PER_GROUP_MAX", self.GROUP_MAX)
        self.patch.start()
        self.book = PeerBook(0, self.PEERS_MAX)
        self.now = 0.0
        self.pinned: set[int] = set()

    def teardown(self) -> None:
        self.patch.stop()

    @rule(n=numbers, domain=domains)
    def heard_of(self, n: int, domain: str | None) -> None:
        known = peer_id(n) in self.book
        before = self.book.get(peer_id(n)), set(self.hearsay())
        full = len(self.book) >= self.PEERS_MAX
        taken = self.book.heard_of(contact(n), Groups(None, domain))
        assert taken == (peer_id(n) in self.book)
        if known:
            assert self.book[peer_id(n)] is before[0]
        elif taken and full and before[1]:
            assert len(before[1] - set(self.hearsay())) == 1, "one piece of hearsay went for it"

    @rule(n=numbers, domain=domains)
    def proved(self, n: int, domain: str | None) -> None:
        if self.book.proved(contact(n), Groups(None, domain)) is not None:
            assert self.book[peer_id(n)].groups.domain == domain

    @rule(n=numbers)
    def reached(self, n: int) -> None:
        self.now += 1
        self.book.reached(peer_id(n), self.now)

    @rule(n=numbers)
    def failed(self, n: int) -> None:
        self.book.failed(peer_id(n), self.now)

    @rule(n=numbers, pin=st.booleans(), as_member=st.booleans())
    def pin(self, n: int, pin: bool, as_member: bool) -> None:
        peer = self.book.get(peer_id(n))
        if peer is not None:
            if as_member:
                peer.in_table = pin
            else:
                peer.connected = pin
            self.book.pin_changed(peer_id(n))
            (self.pinned.add if peer.in_table or peer.connected else self.pinned.discard)(peer_id(n))

    def hearsay(self) -> list[int]:
        return [p.contact.node_id for p in self.book.values() if not (p.reachable or p.in_table or p.connected)]

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.book) <= self.PEERS_MAX
        for domain in ("a.org", "b.org"):
            assert sum(p.groups.domain == domain for p in self.book.values()) <= self.GROUP_MAX

    @invariant()
    def the_pinned_are_there(self) -> None:
        assert all(node_id in self.book for node_id in self.pinned)

    @invariant()
    def indexes_agree(self) -> None:
        ids = sorted(p.contact.node_id for p in self.book.values())
        failing = {n for n in ids if self.book[n].failures >= CONTACT_FAILURES_MAX}
        assert list(self.book.everybody) == [n for n in ids if n not in failing]
        assert {n for n in ids if self.book.is_lost(n)} == {n for n in failing if not self.book[n].connected}
        assert list(self.book.live) == [n for n in ids if self.book[n].is_live]
        assert len(self.book) == len(ids)


BookAgainstAModel.TestCase.settings = property_settings(80, 50)
TestBookAgainstAModel = BookAgainstAModel.TestCase
