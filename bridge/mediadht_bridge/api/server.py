"""The API on all of its addresses, started together and stopped without breaking off what is under way.

Always holds: every address is listened on, or none is and the error says which, why and what to do. Cancelling
`serve_api` lets requests under way end for `serving.DRAIN_S` seconds; whoever serves the API must therefore close the
daemon only after `serve_api` has returned.
Leaves to others: sockets and Hypercorn (`mediadht_bridge.serving`), requests (`boundary`).
"""

from __future__ import annotations

from functools import partial

import trio

from mediadht.core.errors import EnvironmentFault
from mediadht.daemon.face import DHT
from mediadht_bridge import serving
from mediadht_bridge.api.app import create_app
from mediadht_bridge.api.config import ApiConfig

__all__ = ["serve_api"]


async def serve_api(
    dht: DHT,
    config: ApiConfig,
    *,
    task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the API for `dht` until cancelled.

    Reports the addresses it answers on (`http://127.0.0.1:8470`, `unix:/path`) once all of them do. Raises, before
    that, EnvironmentFault if an address cannot be bound, and ConfigurationError if the token file is not right.
    """
    app = create_app(dht, config)
    refused: EnvironmentFault | None = None
    try:
        async with trio.open_nursery() as nursery:
            addresses: list[str] = []
            try:
                for listen in config.listen:
                    serve = partial(serving.serve, app, listen, what="The HTTP API")
                    addresses += await nursery.start(serve)
            except EnvironmentFault as fault:
                refused = fault
                nursery.cancel_scope.cancel()
            else:
                task_status.started(tuple(addresses))
        if refused is not None:
            raise refused
    finally:
        app.state.metrics.close()
