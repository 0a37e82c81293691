"""Matrix itself: talking to the homeserver beside this daemon."""

from mediadht_bridge.matrix.feed_config import FeedConfig
from mediadht_bridge.matrix.homeserver import Homeserver
from mediadht_bridge.matrix.room_feed import run_room_feed

__all__ = ["FeedConfig", "Homeserver", "run_room_feed"]
