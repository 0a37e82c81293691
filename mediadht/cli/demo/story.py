"""The story's steps, in order. Each does something, looks at what came of it, and tells that, or raises StepFailed.

A step knows the players (`Stage`) and no processes, consoles or folders, so that fakes can play it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

from mediadht.cli.demo.daemons import Daemon, Found
from mediadht.cli.demo.matrix import Refusal
from mediadht.cli.demo.report import StepFailed, Told
from mediadht.cli.demo.stage import Stage
from mediadht.cli.demo.waiting import eventually

__all__ = ["STORY"]


async def room_is_announced(stage: Stage) -> Told:
    """Alice makes a room; daemon B learns from the DHT who is in it."""
    stage.room_id = await stage.alice.create_room(name="The hall")
    server_a, daemon_b = stage.homeservers["A"].server_name, stage.daemons["B"]

    async def look() -> Found | None:
        found = await daemon_b.via(stage.room_id)
        return None if found.get(server_a) is None else found

    found, after_s = await eventually(
        look,
        f"daemon B did not learn that {server_a} is in {stage.room_id}: daemon A's room feed did not announce it "
        f"(log: {stage.daemons['A'].log_path})",
    )
    return Told(
        (
            f"{stage.alice.user_id} made {stage.room_id}",
            f"{after_s:.1f} s later daemon B, asked who is in it, says {found}; nobody announced it by hand",
        ),
        {"room_id": stage.room_id, "via": found.names(), "announced_after_s": round(after_s, 3)},
    )


async def stock_join_fails(stage: Stage) -> Told:
    """Bob joins by the bare room ID, straight at his homeserver."""
    try:
        await stage.bob.join(stage.room_id)
    except Refusal as refusal:
        if refusal.status != 404:
            raise StepFailed(f"the stock join failed otherwise than Synapse is known to: {refusal}") from refusal
        return Told(
            (f"{stage.bob.user_id} asks Synapse B to join it by its ID, and Synapse says:", str(refusal)),
            {"status": refusal.status, "errcode": refusal.code, "error": refusal.why},
        )
    raise StepFailed(
        "the stock join by bare room ID succeeded, so this Synapse needs no help, or its servers met before: "
        "see docs/operating.md"
    )


async def front_join_succeeds(stage: Stage) -> Told:
    """The same request, sent to the front of daemon B; then a message crosses, so the join is a real one."""
    daemon_b = stage.daemons["B"]
    via = (await daemon_b.via(stage.room_id)).names()
    try:
        joined = await stage.bob.join(stage.room_id, base_url=daemon_b.front_url)
    except Refusal as refusal:
        raise StepFailed(
            f"the join through daemon B's front failed ({refusal}) although the DHT knew {', '.join(via) or 'nobody'}: "
            f"see {daemon_b.log_path}"
        ) from refusal
    text = "Welcome, from the other server"
    await stage.alice.send(stage.room_id, text, transaction="welcome")

    async def look() -> bool | None:
        return True if text in await stage.bob.texts(stage.room_id) else None

    _, after_s = await eventually(look, "bob is in the room, but alice's message did not reach him")
    return Told(
        (
            f"the same request to daemon B's front: joined in {joined.duration_s * 1000:.0f} ms, via {', '.join(via)}",
            f"what alice says there, bob reads {after_s * 1000:.0f} ms later",
        ),
        {"via": via, "join_ms": round(joined.duration_s * 1000, 1), "message_ms": round(after_s * 1000, 1)},
    )


async def file_is_found(stage: Stage) -> Told:
    """C announces the file, D finds it; then E announces it too."""
    sample, c, d, e = stage.sample, stage.daemons["C"], stage.daemons["D"], stage.daemons["E"]
    media_id = sample.subject.id
    before = await d.find_media(media_id)
    if before.servers:
        raise StepFailed(f"{media_id} was known before anybody announced it: {before}")
    await c.seed(media_id)
    _, after_s = await eventually(_found(d, media_id, c), f"D did not find C's announcement (log: {c.log_path})")
    found = await d.find_media(media_id)
    await e.seed(media_id)
    both, _ = await eventually(_found(d, media_id, c, e), f"D did not find both C and E (log: {e.log_path})")
    return Told(
        (
            f"{sample.path.name}, {sample.size_bytes:,} bytes, is {media_id}",
            f"C announces it; D finds it {after_s * 1000:.0f} ms later: at {', '.join(found.names())}, "
            f"asked and answered in {found.duration_s * 1000:.1f} ms",
            f"E announces it too; D then finds {both}",
        ),
        {
            "file": str(sample.path),
            "size_bytes": sample.size_bytes,
            "media_id": media_id,
            "found_after_ms": round(after_s * 1000, 1),
            "lookup_ms": round(found.duration_s * 1000, 1),
            "servers": both.names(),
        },
    )


def _found(where: Daemon, media_id: str, *seeders: Daemon) -> Callable[[], Awaitable[Found | None]]:
    async def look() -> Found | None:
        found = await where.find_media(media_id)
        return found if {seeder.server_name for seeder in seeders} <= set(found.names()) else None

    return look


async def announcer_is_killed(stage: Stage) -> Told:
    """`kill -9` daemon C: its record remains until it expires, and the living are named before it."""
    c, d, e = stage.daemons["C"], stage.daemons["D"], stage.daemons["E"]
    media_id = stage.sample.subject.id
    c.kill()
    found = await d.find_media(media_id)
    dead = found.get(c.server_name)
    if dead is None or found.get(e.server_name) is None:
        raise StepFailed(f"after the kill of C, D must still find C's record and E's; it finds {found}")
    c_ms, e_ms = await d.ping(c.server_name), await d.ping(e.server_name)
    if c_ms is not None or e_ms is None:
        raise StepFailed(f"C must not answer a ping any more, and E must; milliseconds are {c_ms} and {e_ms}")
    ranked = await d.via(f"!{media_id}")
    if ranked.names()[:1] != [e.server_name]:
        raise StepFailed(f"D should name E, which lives, before C, which does not; it names {ranked}")
    left_h = (dead.expires_s - time.time()) / 3600
    return Told(
        (
            f"kill -9 of daemon C; D, asked at once, answers in {found.duration_s * 1000:.1f} ms: "
            f"{found.replicas_answered} replicas still name {', '.join(found.names())}",
            f"D pings both: E answers in {e_ms:.1f} ms, C does not; asked for the best, D names {ranked}",
            f"C's record stays until it ends, in {left_h:.1f} h: nobody can know whether C is gone for good",
        ),
        {
            "lookup_ms": round(found.duration_s * 1000, 1),
            "replicas_answered": found.replicas_answered,
            "servers_ranked": ranked.names(),
            "dead_record_expires_in_h": round(left_h, 2),
        },
    )


async def announcer_comes_back(stage: Stage) -> Told:
    """C starts again from its folder, without a bootstrap node."""
    c, d = stage.daemons["C"], stage.daemons["D"]
    media_id = stage.sample.subject.id
    start_s = await c.start()
    ready_s = await c.wait_ready()
    seeding = await c.seeding(media_id)
    if seeding is None or seeding["state"] == "withdrawing":
        raise StepFailed(f"C came back without its announcement (log: {c.log_path})")

    async def look() -> float | None:
        return await d.ping(c.server_name)

    ping_ms, _ = await eventually(look, f"C came back, but D cannot reach it (log: {c.log_path})")
    peers = (await c.status())["sessions"]
    return Told(
        (
            f"daemon C, started again from its folder without a bootstrap node, answers after {start_s:.1f} s and is "
            f"ready {ready_s:.1f} s later, with sessions to {peers} peers; D's ping takes {ping_ms:.1f} ms",
            f"its announcement is still there: {seeding['state']}, at {seeding['replicas']} replicas",
        ),
        {
            "start_s": round(start_s, 3),
            "ready_s": round(ready_s, 3),
            "sessions": peers,
            "state": seeding["state"],
            "replicas": seeding["replicas"],
        },
    )


async def withdrawal_ends_it(stage: Stage) -> Told:
    """E withdraws: nobody is told of E any more."""
    d, e = stage.daemons["D"], stage.daemons["E"]
    media_id = stage.sample.subject.id
    await e.stop_seeding(media_id)

    async def look() -> Found | None:
        found = await d.find_media(media_id)
        return None if found.get(e.server_name) is not None else found

    found, after_s = await eventually(look, f"D still finds E, which withdrew (log: {e.log_path})")
    if found.get(stage.daemons["C"].server_name) is None:
        raise StepFailed(f"with E's announcement C's went too: D finds {found}")
    return Told(
        (f"E withdraws; {after_s * 1000:.0f} ms later D finds {found}",),
        {"withdrawn_after_ms": round(after_s * 1000, 1), "servers": found.names()},
    )


STORY: Final[tuple[tuple[str, Callable[[Stage], Awaitable[Told]]], ...]] = (
    ("A room on A announces itself", room_is_announced),
    ("The stock join by bare room ID fails", stock_join_fails),
    ("The same join through the front succeeds", front_join_succeeds),
    ("A file announced on C is found from D", file_is_found),
    ("Daemon C is killed", announcer_is_killed),
    ("Daemon C comes back", announcer_comes_back),
    ("E withdraws", withdrawal_ends_it),
)
"""Title and deed of each step between setting up and taking down."""
