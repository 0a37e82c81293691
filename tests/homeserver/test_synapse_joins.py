"""What the join front rests on: how a stock Synapse joins rooms by ID. If one of these fails, Synapse has changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from mediadht.cli.demo.homeservers import Homeserver
from mediadht.cli.demo.matrix import Refusal, User

pytestmark = pytest.mark.homeserver

NO_SERVERS = "Can't join remote room because no servers that are in the room have been provided."

Cluster = list[Homeserver]
Fresh = Callable[[str], str]


async def users(cluster: Cluster, fresh_name: Fresh) -> tuple[User, User]:
    first, second = cluster
    return await first.register_user(fresh_name("alice")), await second.register_user(fresh_name("bob"))


async def eventually_read(user: User, room_id: str, text: str) -> None:
    with trio.fail_after(30):
        while text not in await user.texts(room_id):
            await trio.sleep(0.05)


@pytest.mark.parametrize("room_version", ["10", "11", "12"])
async def test_a_join_by_bare_room_id_is_refused(cluster: Cluster, fresh_name: Fresh, room_version: str) -> None:
    alice, bob = await users(cluster, fresh_name)
    room_id = await alice.create_room(name="hall", room_version=room_version)
    assert (":" in room_id) == (room_version != "12")
    for by_rooms_path in (False, True):
        with pytest.raises(Refusal) as refusal:
            await bob.join(room_id, by_rooms_path=by_rooms_path)
        assert (refusal.value.status, refusal.value.code, refusal.value.why) == (404, "M_UNKNOWN", NO_SERVERS)
    assert await bob.joined_rooms() == []


@pytest.mark.parametrize("parameter", ["via", "server_name"])
@pytest.mark.parametrize("api_version", ["v3", "r0"])
async def test_the_same_join_with_a_server_succeeds(
    cluster: Cluster, fresh_name: Fresh, parameter: str, api_version: str
) -> None:
    alice, bob = await users(cluster, fresh_name)
    room_id = await alice.create_room(name="hall")
    via = [cluster[0].server_name]
    joined = await bob.join(room_id, via=via, parameter=parameter, api_version=api_version)
    assert joined.room_id == room_id
    assert await bob.joined_rooms() == [room_id]
    await alice.send(room_id, "welcome", transaction="1")
    await eventually_read(bob, room_id, "welcome")


async def test_the_rooms_path_ignores_via(cluster: Cluster, fresh_name: Fresh) -> None:
    alice, bob = await users(cluster, fresh_name)
    room_id = await alice.create_room(name="hall")
    with pytest.raises(Refusal, match="no servers that are in the room"):
        await bob.join(room_id, via=[cluster[0].server_name], by_rooms_path=True)


async def test_a_room_with_a_member_of_the_server_needs_no_via_in_the_end(cluster: Cluster, fresh_name: Fresh) -> None:
    """For about 0.1 s on loopback (minutes for a large room) the server has partial state and still wants a `via`."""
    alice, bob = await users(cluster, fresh_name)
    carol = await cluster[1].register_user(fresh_name("carol"))
    dave = await cluster[1].register_user(fresh_name("dave"))
    room_id = await alice.create_room(name="hall")
    await bob.join(room_id, via=[cluster[0].server_name])
    assert (await carol.join(room_id, via=[cluster[0].server_name])).room_id == room_id
    with trio.fail_after(30):
        while room_id not in await dave.joined_rooms():
            try:
                await dave.join(room_id)
            except Refusal as refusal:
                if refusal.why != NO_SERVERS:
                    raise
                await trio.sleep(0.05)


async def test_a_private_room_stays_closed(cluster: Cluster, fresh_name: Fresh) -> None:
    alice, bob = await users(cluster, fresh_name)
    room_id = await alice.create_room(name="closet", public=False)
    with pytest.raises(Refusal) as refusal:
        await bob.join(room_id, via=[cluster[0].server_name])
    assert refusal.value.status == 403


async def test_media_uploaded_on_one_server_is_served_by_the_other(cluster: Cluster, fresh_name: Fresh) -> None:
    alice, bob = await users(cluster, fresh_name)
    uri = await alice.upload(b"some bytes", content_type="text/plain", filename="some.txt")
    assert await bob.download(uri) == b"some bytes"
    again = await cluster[1].login(bob.user_id.removeprefix("@").partition(":")[0])
    assert again.access_token != bob.access_token
    assert again.user_id == bob.user_id
