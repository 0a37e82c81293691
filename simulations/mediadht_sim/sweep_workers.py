"""Where the runs of a sweep are made: in this process, in worker processes of this machine, or on a Dask cluster.

Every way gives the same: an iterator over `(task, files or error)`, in the order in which runs end. Leaving it early
(an interrupt too) ends the workers of this machine at once; those of a cluster are told to forget what is left.
"""

from __future__ import annotations

import logging
import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import dask
import psutil
from distributed import Client, Future, LocalCluster, Worker, WorkerPlugin, as_completed

from mediadht_sim.sweep_points import Measure, Task, measured_files, source_digest

__all__ = ["WORKER_MEMORY_BYTES_MAX", "Outcome", "made_here", "made_on_cluster", "worker_count"]

Outcome: TypeAlias = tuple[Task, dict[str, bytes] | str]

WORKER_MEMORY_BYTES_MAX = 4 << 30
"""What one local worker may use, or its share of the machine's memory if that is less: a run of 10,000 nodes takes
under 2 GiB. A run that takes more ends its worker; it is recorded as failed and the others go on."""

_SETTINGS = {
    # A run computes for minutes without a pause: Dask's complaints that its worker's loop is late are no news.
    "distributed.admin.tick.limit": "1h",
    "distributed.scheduler.worker-ttl": None,
    # A run is deterministic: one that ended its worker would do so again.
    "distributed.scheduler.allowed-failures": 0,
    # Nothing of a run can be moved to disk; it has what it needs, or it ends.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # This process only waits and writes: the workers' profiles are of no use.
    "distributed.worker.profile.enabled": False,
}


class _Quiet(WorkerPlugin):
    """Ctrl-C reaches every process of the terminal: workers leave it to the sweep, which ends them without a word."""

    def setup(self, worker: Worker) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        logging.getLogger("distributed").setLevel(logging.CRITICAL)


@contextmanager
def _errors_only() -> Iterator[None]:
    """Dask warns of what is meant to be: workers that are ended in the middle of a run."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def worker_count(wished: int | None, runs: int) -> int:
    """Worker processes to start: one a core unless told otherwise, and never more than there are runs."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count if wished is None else wished, runs))


def made_here(tasks: Sequence[Task], measure: Measure) -> Iterator[Outcome]:
    """One run after the other, in this process."""
    for task in tasks:
        yield task, _files_or_error(task.scenario.model_dump_json(), task.seed, measure, source_digest())


def made_on_cluster(
    tasks: Sequence[Task], measure: Measure, *, scheduler: str | None, workers: int | None
) -> Iterator[Outcome]:
    """On the cluster whose scheduler is at this address, or in processes of this machine."""
    with ExitStack() as stack:
        stack.enter_context(_errors_only())
        stack.enter_context(dask.config.set(_SETTINGS))
        if scheduler is None:
            count = worker_count(workers, len(tasks))
            cluster = stack.enter_context(
                LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=count,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",  # any free port: None means 8787, and two sweeps cannot share it
                    worker_dashboard_address=None,
                    memory_limit=min(WORKER_MEMORY_BYTES_MAX, psutil.virtual_memory().total // (count + 1)),
                )
            )
            client = stack.enter_context(Client(cluster))  # type: ignore[no-untyped-call]
            client.register_plugin(_Quiet())
        else:
            client = stack.enter_context(Client(scheduler))  # type: ignore[no-untyped-call]
        yield from _gathered(client, tasks, measure)


def _gathered(client: Client, tasks: Sequence[Task], measure: Measure) -> Iterator[Outcome]:
    digest = source_digest()
    open_runs: dict[Future[Any], Task] = {}
    for task in tasks:
        scenario = task.scenario.model_dump_json()
        open_runs[client.submit(_files_or_error, scenario, task.seed, measure, digest, pure=False)] = task
    try:
        for future in as_completed(list(open_runs)):  # type: ignore[no-untyped-call]
            task = open_runs.pop(future)
            trouble = future.exception()
            yield task, future.result() if trouble is None else f"{type(trouble).__name__}: {trouble}"
            future.release()
    finally:
        if open_runs:
            client.cancel(list(open_runs), force=True)  # type: ignore[no-untyped-call]


def _files_or_error(scenario_json: str, seed: int, measure: Measure, digest: str) -> dict[str, bytes] | str:
    """A run's files; if it failed, what went wrong. One failed run must not keep the others from being made."""
    try:
        return measured_files(scenario_json, seed, measure, digest)
    except Exception:  # noqa: BLE001 - the boundary of one run: whatever was wrong in it is recorded, in full
        return traceback.format_exc()
