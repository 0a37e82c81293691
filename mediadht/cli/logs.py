"""Logging of `mediadht run`: one line an event, to standard error, for people or as JSON.

What always holds: nothing that was looked up is logged. The HTTP client's own request log would do that (a front's
request path holds room IDs), so it is kept at warnings whatever the level.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, TextIO

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["LogConfig", "set_up_logging"]

_QUIET: Final = ("httpx", "httpcore", "hypercorn.access", "trio-websocket")
"""Loggers that write requests, and so IDs, at level info; or every message between nodes, at level debug."""


class LogConfig(BaseModel):
    """What is logged, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="The least level that is logged.")
    ] = "info"
    format: Annotated[Literal["text", "json"], Field(description="Lines for people, or one JSON object a line.")] = (
        "text"
    )


class _TextFormatter(logging.Formatter):
    """`2026-01-31 12:00:00 INFO    mediadht.daemon: what happened`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")


class _JsonFormatter(logging.Formatter):
    """One object a line: `time`, `level`, `logger`, `message`, and `exception` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(config: LogConfig, stream: TextIO | None = None) -> None:
    """Send the process's log to `stream` (standard error) as `config` says, in place of any earlier set-up."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(_JsonFormatter() if config.format == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
