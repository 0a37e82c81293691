"""Running the join front beside the daemon."""

from __future__ import annotations

import trio

from mediadht.daemon.face import DHT
from mediadht_bridge import serving
from mediadht_bridge.front.app import create_front
from mediadht_bridge.front.config import FrontConfig

__all__ = ["serve_front"]


async def serve_front(
    dht: DHT,
    config: FrontConfig,
    *,
    task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the front until cancelled, then let joins under way finish for `serving.DRAIN_S` seconds.

    Reports the addresses it answers on. Raises EnvironmentFault, before that, if the address cannot be bound.
    """
    await serving.serve(create_front(dht, config), config.listen, what="The join front", task_status=task_status)
