"""The trio daemon: drives the core with sockets, a clock and a disk. Its public face is `face`."""

from mediadht.daemon.daemon import open_daemon

__all__ = ["open_daemon"]
