"""How far a run is: a bar on a terminal, otherwise a line every ten seconds, both on standard error.

The clock here is the machine's, and only for people: nothing of it reaches the simulation.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["RunProgress", "Telling"]

_LINE_EVERY_S: Final = 10.0
_RATE_OVER_S: Final = 0.5
"""A rate is taken over at least this time, so that it can be read."""


class Telling(Protocol):
    """What a run calls now and then: virtual seconds done and in all, the phase, and the messages so far."""

    def __call__(self, virtual_s: float, total_s: float, phase: str, messages: int | None = None) -> None: ...


class RunProgress:
    """A context manager; it is a `Telling` itself. Nothing is shown if `is_quiet`."""

    def __init__(self, title: str, *, is_quiet: bool) -> None:
        self._title = title
        self._is_quiet = is_quiet
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._started_s = self._line_s = self._rated_s = time.monotonic()
        self._rated_virtual_s = 0.0
        self._rated_messages = 0
        self._rate = ""

    def __enter__(self) -> Self:
        if not self._is_quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._title, total=None, rate="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, virtual_s: float, total_s: float, phase: str, messages: int | None = None) -> None:
        if self._is_quiet:
            return
        now_s = time.monotonic()
        self._take_rate(now_s, virtual_s, messages)
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                description=f"{self._title}: {phase}",
                completed=virtual_s,
                total=total_s,
                rate=self._rate,
            )
        elif now_s - self._line_s >= _LINE_EVERY_S:
            self._line_s = now_s
            print(self._line(now_s, virtual_s, total_s, phase), file=sys.stderr, flush=True)

    def _take_rate(self, now_s: float, virtual_s: float, messages: int | None) -> None:
        elapsed_s = now_s - self._rated_s
        if elapsed_s < _RATE_OVER_S:
            return
        self._rate = f"{max(0.0, virtual_s - self._rated_virtual_s) / elapsed_s:.3g} virtual s/s"
        if messages is not None:
            self._rate = f"{max(0, messages - self._rated_messages) / elapsed_s:,.0f} messages/s, {self._rate}"
            self._rated_messages = messages
        self._rated_s, self._rated_virtual_s = now_s, virtual_s

    def _line(self, now_s: float, virtual_s: float, total_s: float, phase: str) -> str:
        share = min(1.0, virtual_s / total_s) if total_s > 0 else 0.0
        left = f", about {(now_s - self._started_s) * (1 - share) / share:.0f} s left" if share > 0 else ""
        rate = f", {self._rate}" if self._rate else ""
        return f"{self._title}: {phase}, {virtual_s:.0f} of {total_s:.0f} s ({share:.0%}){rate}{left}"
