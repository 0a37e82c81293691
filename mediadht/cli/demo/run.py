"""`mediadht demo`: sets the stage, tells the story, takes everything down, and says how it went.

An expected failure ends in a report and not in an exception; the logs are then kept. However the run ends (also by
Ctrl-C, SIGTERM, SIGKILL or a mistake of ours), no process is left.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

import trio
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from mediadht.cli.demo.children import Processes
from mediadht.cli.demo.homeservers import require_synapse
from mediadht.cli.demo.report import DemoReport, Step, StepFailed, Told
from mediadht.cli.demo.sample import Sample, take_sample
from mediadht.cli.demo.stage import PROCESSES, Stage, set_up, take_down
from mediadht.cli.demo.story import STORY
from mediadht.cli.demo.waiting import EXPECTED_FAULTS
from mediadht.core.errors import EnvironmentFault, MediaDHTError

__all__ = ["Teller", "run_demo"]

DEMO_DEADLINE_S: Final = 160.0
"""Three minutes in all, less what stopping may take. A run takes about half a minute."""


class Teller:
    """Runs steps one after the other: numbers and times them, shows progress, prints each as it ends."""

    def __init__(self, console: Console, emit: Callable[[Step], None] | None = None) -> None:
        self._console = console
        self._emit = emit
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self.steps: list[Step] = []

    async def tell(self, title: str, deed: Callable[[], Awaitable[Told]], *, parts: int | None = None) -> None:
        """Do `deed` and print what it tells. Raises StepFailed, with the step's title, if it fails.

        With `parts` a bar is shown, which `advance` moves.
        """
        began = time.perf_counter()
        number = len(self.steps) + 1
        try:
            with Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                *([] if parts is None else [BarColumn()]),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
                disable=not self._console.is_terminal,
            ) as self._progress:
                self._task = self._progress.add_task(f"{number}. {escape(title)}", total=parts)
                told = await deed()
        except EXPECTED_FAULTS as fault:
            self._console.print(f"[red]✗[/] [bold]{number}. {escape(title)}[/]", highlight=False)
            raise StepFailed(f"step {number} ({title}) failed: {fault or type(fault).__name__}") from fault
        step = Step(number, title, told.lines, told.facts, time.perf_counter() - began)
        self.steps.append(step)
        self._show(step)
        if self._emit is not None:
            self._emit(step)

    def advance(self, part: str) -> None:
        """One part of the present step is done."""
        if self._progress is not None:
            self._progress.update(self._task, advance=1, description=f"{len(self.steps) + 1}. {escape(part)} is up")

    def _show(self, step: Step) -> None:
        title = f"[green]✓[/] [bold]{step.number}. {escape(step.title)}[/] [dim]({step.duration_s:.1f} s)[/]"
        self._console.print(title, highlight=False)
        for line in step.lines:
            self._console.print(f"     {escape(line)}", highlight=False, soft_wrap=True)


async def run_demo(
    file: Path | None,
    *,
    console: Console,
    folder: Path | None = None,
    keep: bool = False,
    emit: Callable[[Step], None] | None = None,
) -> DemoReport:
    """Tell the whole story about `file` (None: a picture made on the fly), printing to `console` step by step.

    `folder` (new or empty) takes configuration, databases and logs and is kept; without one a temporary folder is
    used, and removed unless `keep` is true or a step failed. `emit` is given each step as it ends. Expected failures
    are told in the report (`DemoReport.raise_for_failure`), and not raised.
    """
    began = time.perf_counter()
    teller = Teller(console, emit)
    failure: str | None = None
    place: Path | None = None
    try:
        require_synapse()
        place = _make_folder(folder)
        await _play_in_time(teller, place, file)
    except MediaDHTError as fault:
        failure = str(fault) if place is None else f"{fault}\nAll logs are below {place}."
    finally:
        kept = folder is not None or keep or failure is not None
        if place is not None and not kept:
            shutil.rmtree(place, ignore_errors=True)
    duration_s = time.perf_counter() - began
    if failure is None:
        logs = f"; logs are below {place}" if kept else ""
        console.print(
            f"Done in {duration_s:.0f} s, and nothing is left running{logs}.", highlight=False, soft_wrap=True
        )
    return DemoReport(tuple(teller.steps), failure, place if kept else None, duration_s)


def _make_folder(folder: Path | None) -> Path:
    try:
        if folder is None:
            return Path(tempfile.mkdtemp(prefix="mediadht-demo-"))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise EnvironmentFault(f"{folder} is not empty: name a folder that is empty or does not exist")
        return folder.resolve()
    except OSError as refused:
        raise EnvironmentFault(f"no folder for the demo: {refused}: name another") from refused


async def _play_in_time(teller: Teller, place: Path, file: Path | None) -> None:
    with trio.move_on_after(DEMO_DEADLINE_S) as scope, _cancelled_by_sigterm(scope) as terminated:
        with Processes() as processes:
            await _play(teller, processes, place, await take_sample(file, place))
        return
    raise StepFailed(
        "the demo was told to end (SIGTERM)"
        if terminated
        else f"the demo was not done after {DEMO_DEADLINE_S:g} s: the machine is busy, or a process hangs"
    )


async def _play(teller: Teller, processes: Processes, place: Path, sample: Sample) -> None:
    stage: Stage | None = None

    async def start() -> Told:
        nonlocal stage
        stage = await set_up(processes, place, sample, teller.advance)
        return stage.told()

    await teller.tell("Two Synapse servers and five daemons start", start, parts=PROCESSES)
    assert stage is not None
    for title, deed in STORY:
        await teller.tell(title, partial(deed, stage))
    await teller.tell("Everything is stopped", partial(take_down, stage, processes.children))


@contextmanager
def _cancelled_by_sigterm(scope: trio.CancelScope) -> Iterator[list[int]]:
    """SIGTERM cancels `scope`, so that everything is cleaned up; the list then holds the signal."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    token = trio.lowlevel.current_trio_token()

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        token.run_sync_soon(scope.cancel)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)
