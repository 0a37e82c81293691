"""The join front and the room feed against real Synapse servers; the DHT is a fake that finds, fails or hangs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio
from fake_dht import FakeDHT, provider
from pydantic import SecretStr

from mediadht.cli.demo.homeservers import Homeserver
from mediadht.cli.demo.matrix import Refusal, User
from mediadht.core.errors import RemoteError
from mediadht.core.identifiers import room
from mediadht_bridge.front import FrontConfig, serve_front
from mediadht_bridge.matrix import FeedConfig, run_room_feed

pytestmark = pytest.mark.homeserver

Cluster = list[Homeserver]
Fresh = Callable[[str], str]
DEAD = "localhost:1"
"""Nobody listens there, and connections are refused at once."""


async def alice_and_bob(cluster: Cluster, fresh_name: Fresh) -> tuple[User, User]:
    first, second = cluster
    return await first.register_user(fresh_name("alice")), await second.register_user(fresh_name("bob"))


@asynccontextmanager
async def front_of(homeserver: Homeserver, dht: FakeDHT, lookup_deadline_s: float = 2.0) -> AsyncIterator[str]:
    """The base URL of a front before `homeserver`."""
    config = FrontConfig(
        listen="127.0.0.1:0", homeserver_url=homeserver.client_url, lookup_deadline_s=lookup_deadline_s
    )
    dht.server_name = homeserver.server_name
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(serve_front, dht, config)
        yield f"http://{address.removeprefix('http://').rstrip('/')}"
        nursery.cancel_scope.cancel()


async def plain_join(base_url: str, user: User, room_id: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await client.post(
            f"{base_url}/_matrix/client/v3/join/{room_id}",
            headers={"Authorization": f"Bearer {user.access_token}"},
            json={},
        )


@pytest.mark.parametrize("by_rooms_path", [False, True])
@pytest.mark.parametrize("api_version", ["v3", "r0"])
@pytest.mark.parametrize("room_version", ["11", "12"])
async def test_the_front_makes_the_join_succeed(
    cluster: Cluster, fresh_name: Fresh, by_rooms_path: bool, api_version: str, room_version: str
) -> None:
    alice, bob = await alice_and_bob(cluster, fresh_name)
    room_id = await alice.create_room(name="hall", room_version=room_version)
    dht = FakeDHT(found={room(room_id): [provider(cluster[0].server_name)]})
    async with front_of(cluster[1], dht) as front:
        joined = await bob.join(room_id, base_url=front, by_rooms_path=by_rooms_path, api_version=api_version)
    assert joined.room_id == room_id
    assert await bob.joined_rooms() == [room_id]


async def test_dead_servers_beside_a_living_one_do_no_harm(cluster: Cluster, fresh_name: Fresh) -> None:
    alice, bob = await alice_and_bob(cluster, fresh_name)
    room_id = await alice.create_room(name="hall")
    dead = provider(DEAD, alive_s_ago=None, node_id="cd" * 32)
    dht = FakeDHT(found={room(room_id): [dead, provider(cluster[0].server_name)]})
    async with front_of(cluster[1], dht) as front:
        assert (await bob.join(room_id, base_url=front)).room_id == room_id


async def test_a_second_user_joins_while_the_server_still_has_partial_state(
    cluster: Cluster, fresh_name: Fresh
) -> None:
    alice, bob = await alice_and_bob(cluster, fresh_name)
    carol = await cluster[1].register_user(fresh_name("carol"))
    room_id = await alice.create_room(name="hall")
    dht = FakeDHT(found={room(room_id): [provider(cluster[0].server_name)]})
    async with front_of(cluster[1], dht) as front:
        await bob.join(room_id, base_url=front)
        assert (await carol.join(room_id, base_url=front)).room_id == room_id


def hanging() -> FakeDHT:
    return FakeDHT(hang={"lookup"})


def failing() -> FakeDHT:
    return FakeDHT(fail={"lookup": RemoteError("unreachable", "no replica answers")})


def deaf() -> FakeDHT:
    return FakeDHT(replicas_answered=0)


@pytest.mark.parametrize("broken", [hanging, failing, deaf])
async def test_without_the_dht_a_join_fails_exactly_as_stock(
    cluster: Cluster, fresh_name: Fresh, broken: Callable[[], FakeDHT]
) -> None:
    alice, bob = await alice_and_bob(cluster, fresh_name)
    room_id = await alice.create_room(name="hall")
    stock = await plain_join(cluster[1].client_url, bob, room_id)
    async with front_of(cluster[1], broken(), lookup_deadline_s=0.2) as front:
        through_front = await plain_join(front, bob, room_id)
    assert (through_front.status_code, through_front.content) == (stock.status_code, stock.content)
    assert stock.status_code == 404
    volatile = {"date", "connection", "transfer-encoding"}
    assert _without(through_front.headers, volatile) == _without(stock.headers, volatile)


def _without(headers: httpx.Headers, names: set[str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in names}


@pytest.mark.parametrize("broken", [hanging, failing, deaf])
async def test_without_the_dht_a_join_succeeds_exactly_as_stock(
    cluster: Cluster, fresh_name: Fresh, broken: Callable[[], FakeDHT]
) -> None:
    alice, bob = await alice_and_bob(cluster, fresh_name)
    room_id = await alice.create_room(name="hall")
    async with front_of(cluster[1], broken(), lookup_deadline_s=0.2) as front:
        joined = await bob.join(room_id, via=[cluster[0].server_name], base_url=front)
    assert joined.room_id == room_id


async def test_servers_that_lie_cost_no_join_that_would_have_succeeded(cluster: Cluster, fresh_name: Fresh) -> None:
    """An invited user needs no `via`: Synapse asks the inviting server, after those that were named."""
    alice, bob = await alice_and_bob(cluster, fresh_name)
    room_id = await alice.create_room(name="closet", public=False)
    await _invite(alice, room_id, bob)
    dht = FakeDHT(found={room(room_id): [provider(DEAD)]})
    async with front_of(cluster[1], dht) as front:
        assert (await bob.join(room_id, base_url=front)).room_id == room_id


async def _invite(host: User, room_id: str, guest: User) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.post(
            f"{host.client_url}/_matrix/client/v3/rooms/{room_id}/invite",
            headers={"Authorization": f"Bearer {host.access_token}"},
            json={"user_id": guest.user_id},
        )
    assert answer.status_code == 200, answer.text


async def test_a_private_room_stays_closed_however_it_is_asked_for(cluster: Cluster, fresh_name: Fresh) -> None:
    alice, bob = await alice_and_bob(cluster, fresh_name)
    room_id = await alice.create_room(name="closet", public=False)
    dht = FakeDHT(found={room(room_id): [provider(cluster[0].server_name)]})
    async with front_of(cluster[1], dht) as front:
        with pytest.raises(Refusal) as refusal:
            await bob.join(room_id, base_url=front)
    assert refusal.value.status == 403
    assert await bob.joined_rooms() == []


@asynccontextmanager
async def feed_of(homeserver: Homeserver, admin: User, *, include: Sequence[str] = ()) -> AsyncIterator[FakeDHT]:
    config = FeedConfig(
        homeserver_url=homeserver.client_url, access_token=SecretStr(admin.access_token), include=tuple(include)
    )
    dht = FakeDHT(server_name=homeserver.server_name)
    async with trio.open_nursery() as nursery:
        # Shorter than an operator may set it: a test waits for the next listing.
        await nursery.start(partial(run_room_feed, dht, config.model_copy(update={"interval_s": 0.1})))
        yield dht
        nursery.cancel_scope.cancel()


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not holds():
            await trio.sleep(0.05)


async def test_the_feed_announces_what_is_public_and_withdraws_what_was_left(
    cluster: Cluster, fresh_name: Fresh
) -> None:
    server = cluster[0]
    admin = await server.register_user(fresh_name("admin"), admin=True)
    alice = await server.register_user(fresh_name("alice"))
    hall = room(await alice.create_room(name="hall"))
    unlisted = room(await alice.create_room(name="unlisted", listed=False))
    closet = room(await alice.create_room(name="closet", public=False))
    named = room(await alice.create_room(name="named", public=False))

    async with feed_of(server, admin, include=[named.id]) as dht:

        def stands(subject: object) -> bool:
            return any(found.subject == subject and not found.withdrawn for found in dht.announcements())

        await until(lambda: stands(hall) and stands(unlisted) and stands(named))
        assert not stands(closet)
        later = room(await alice.create_room(name="later"))
        await until(lambda: stands(later))
        assert not stands(closet)
        await alice.leave(hall.id)
        await until(lambda: not stands(hall))
        assert stands(later)
        assert stands(named)
