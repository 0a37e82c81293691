"""The `kademlia` package on real loopback sockets: does a network whose buckets are full ever fall silent?

```sh
python simulations/experiments/kademlia_flood.py --nodes 64 --k 2       # full buckets: it does not
python simulations/experiments/kademlia_flood.py --nodes 64 --k 20      # it does
ulimit -n 4096; python simulations/experiments/kademlia_flood.py --nodes 1000 --k 20 --announces 300   # it does not
```

No simulation: what `mediadht_sim.baseline` shows is checked against the package's own sockets and clock. All nodes
share one process and its CPU. docs/research.md has the mechanism.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from typing import Any

import click
from kademlia.network import Server

_PORT_FIRST = 20_000
_SET_S_MAX = 20.0
_WATCHED_S = 2.0


class _Counted:
    """A transport that counts the requests that leave by it, by the first letters of their names."""

    def __init__(self, transport: Any, requests: Counter[str]) -> None:
        self._transport = transport
        self._requests = requests

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def sendto(self, data: bytes, address: Any = None) -> None:
        """Send, and count."""
        if data[:1] == b"\x00":
            self._requests[data[23:27].decode()] += 1
        self._transport.sendto(data, address)


async def watch(nodes: int, k: int, announces: int) -> None:
    """Join, announce, and then do nothing for a while."""
    requests: Counter[str] = Counter()
    servers = []
    for index in range(nodes):
        server = Server(ksize=k, node_id=hashlib.sha1(b"%d" % index).digest())
        await server.listen(_PORT_FIRST + index, interface="127.0.0.1")
        server.protocol.transport = _Counted(server.protocol.transport, requests)
        if index:
            await server.bootstrap([("127.0.0.1", _PORT_FIRST)])
        servers.append(server)
    _say("joined", requests)
    done = 0
    try:
        for done in range(announces):
            await asyncio.wait_for(servers[done % nodes].set(f"key {done}", "value"), _SET_S_MAX)
        done = announces
    except TimeoutError:
        click.echo(f"the announce after {done} did not end in {_SET_S_MAX:g} s")
    _say(f"{done} announces", requests)
    for _ in range(3):
        await asyncio.sleep(_WATCHED_S)
        _say(f"{_WATCHED_S:g} s in which nobody asked for anything", requests)
    for server in servers:
        server.stop()


def _say(what: str, requests: Counter[str]) -> None:
    click.echo(f"{what}: requests {dict(sorted(requests.items()))}")
    requests.clear()


@click.command(help=(__doc__ or "").split("\n", 1)[0])
@click.option("--nodes", type=click.IntRange(2, 10_000), default=64, show_default=True)
@click.option("--k", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option("--announces", type=click.IntRange(1), default=100, show_default=True)
def main(nodes: int, k: int, announces: int) -> None:
    """Run it."""
    logging.disable(logging.CRITICAL)
    asyncio.run(watch(nodes, k, announces))


if __name__ == "__main__":
    main()
