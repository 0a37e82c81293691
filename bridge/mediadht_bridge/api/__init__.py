"""The HTTP API that a homeserver consults: `docs/api.md` describes it for those who call it."""

from mediadht_bridge.api.app import create_app
from mediadht_bridge.api.config import ApiConfig
from mediadht_bridge.api.server import serve_api

__all__ = ["ApiConfig", "create_app", "serve_api"]
