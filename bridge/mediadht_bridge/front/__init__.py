"""The join front: a reverse proxy that adds servers from the DHT to joins by room ID."""

from mediadht_bridge.front.app import create_front
from mediadht_bridge.front.config import FrontConfig
from mediadht_bridge.front.server import serve_front

__all__ = ["FrontConfig", "create_front", "serve_front"]
