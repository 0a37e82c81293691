"""A TCP proxy before each daemon: the network, which a test can take away and give back."""

from __future__ import annotations

import trio


class Proxy:
    """Forwards `port` to `target_port` while the network is there."""

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self._target_port = target_port
        self._flows = trio.Event()
        self._flows.set()
        self._refuses = False
        self._scopes: set[trio.CancelScope] = set()

    async def serve(self) -> None:
        await trio.serve_tcp(self._forward, self.port, host="127.0.0.1")

    def swallow(self) -> None:
        """From now on nothing arrives and nothing is refused, as where a router has died."""
        self._flows = trio.Event()

    def cut(self) -> None:
        """End all connections, and refuse new ones, as where a cable was pulled from this machine."""
        self._refuses = True
        for scope in self._scopes:
            scope.cancel()

    def restore(self) -> None:
        self._refuses = False
        self._flows.set()

    async def _forward(self, client: trio.SocketStream) -> None:
        async with client:
            if self._refuses:
                return
            scope = trio.CancelScope()
            self._scopes.add(scope)
            try:
                with scope:
                    await self._flows.wait()
                    server = await trio.open_tcp_stream("127.0.0.1", self._target_port)
                    async with server, trio.open_nursery() as nursery:
                        nursery.start_soon(self._pump, client, server, nursery)
                        nursery.start_soon(self._pump, server, client, nursery)
            except* OSError:
                pass
            finally:
                self._scopes.discard(scope)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, nursery: trio.Nursery) -> None:
        try:
            while data := await source.receive_some():
                await self._flows.wait()
                await sink.send_all(data)
        except trio.BrokenResourceError:
            pass
        nursery.cancel_scope.cancel()
