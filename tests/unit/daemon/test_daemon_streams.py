"""PromptStream: never blocks, keeps order, is bounded, ends."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from mediadht.daemon.streams import PromptStream

UNSENT_BYTES_MAX = 100_000


def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    one, other = socket.socketpair()
    for each in (one, other):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    return (
        trio.SocketStream(trio.socket.from_stdlib_socket(one)),
        trio.SocketStream(trio.socket.from_stdlib_socket(other)),
    )


@pytest.fixture
async def ends(nursery: trio.Nursery) -> AsyncIterator[tuple[PromptStream, trio.SocketStream]]:
    one, other = socket_pair()
    prompt = PromptStream(one, unsent_bytes_max=UNSENT_BYTES_MAX)
    nursery.start_soon(prompt.flush_task)
    yield prompt, other
    await prompt.aclose()
    await other.aclose()


async def read_exactly(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    with trio.fail_after(10):
        while len(data) < size:
            data += await stream.receive_some()
    return data


async def test_sending_never_waits_for_the_reader(ends: tuple[PromptStream, trio.SocketStream]) -> None:
    prompt, other = ends
    sent = b""
    with trio.CancelScope() as scope:
        scope.cancel()  # whatever would wait ends here
        for number in range(9):
            piece = bytes([number]) * 10_000
            await prompt.send_all(piece)
            sent += piece
    assert not scope.cancelled_caught
    assert await read_exactly(other, len(sent)) == sent
    assert prompt.sent_bytes == len(sent)


async def test_who_does_not_read_is_cut_off_and_costs_a_bounded_amount(
    ends: tuple[PromptStream, trio.SocketStream],
) -> None:
    prompt, _ = ends
    with pytest.raises(trio.BrokenResourceError, match="does not read"):
        await send_for_ever(prompt)
    with pytest.raises(trio.BrokenResourceError):
        await prompt.send_all(bytes(5_000))
    assert UNSENT_BYTES_MAX - 5_000 < len(prompt._unsent) <= UNSENT_BYTES_MAX


async def send_for_ever(stream: trio.abc.SendStream) -> None:
    while True:
        await stream.send_all(bytes(5_000))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=30_000), max_size=12), st.integers(1, 9_000))
def test_order_is_kept_for_any_pieces(pieces: list[bytes], read_bytes: int) -> None:
    async def check() -> None:
        one, other = socket_pair()
        prompt = PromptStream(one, unsent_bytes_max=1 << 20)
        received = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(prompt.flush_task)
            for piece in pieces:
                await prompt.send_all(piece)
            while len(received) < sum(map(len, pieces)):
                received += await other.receive_some(read_bytes)
            await prompt.aclose()
        assert received == b"".join(pieces)
        await other.aclose()

    trio.run(check)


async def test_receiving(ends: tuple[PromptStream, trio.SocketStream]) -> None:
    prompt, other = ends
    await other.send_all(b"abcdef")
    assert await prompt.receive_some(4) == b"abcd"
    assert await prompt.receive_some() == b"ef"
    assert prompt.received_bytes == 6
    assert not prompt.over.cancel_called
    await other.aclose()
    assert await prompt.receive_some() == b""
    assert prompt.over.cancel_called


async def test_sending_to_somebody_who_has_gone(ends: tuple[PromptStream, trio.SocketStream]) -> None:
    prompt, other = ends
    await other.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await prompt.send_all(b"x")


async def test_closing_wakes_everybody(nursery: trio.Nursery) -> None:
    one, other = socket_pair()
    prompt = PromptStream(one, unsent_bytes_max=UNSENT_BYTES_MAX)
    ended: list[str] = []

    async def flush() -> None:
        await prompt.flush_task()
        ended.append("flush")

    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await prompt.receive_some()
        ended.append("receive")

    nursery.start_soon(flush)
    nursery.start_soon(receive)
    await prompt.send_all(bytes(90_000))
    await wait_all_tasks_blocked()
    await prompt.aclose()
    await prompt.aclose()
    await wait_all_tasks_blocked()
    assert sorted(ended) == ["flush", "receive"]
    with pytest.raises(trio.ClosedResourceError):
        await prompt.send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await prompt.receive_some()
    await other.aclose()
