"""ShardJobs -> Dask workers -> outcomes.

The client keeps two tasks per worker in flight and makes all decisions; Dask only runs them. A
worker has one thread, so a worker that dies loses one task, and that task's heartbeat names the
video on which it died.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from multiprocessing import resource_tracker
from typing import Any

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, Status, Worker, WorkerPlugin

from flowpipe.errors import BackendError, UsageError
from flowpipe.logs import get_logger
from flowpipe.run.cluster.log_forwarding import forward_logs
from flowpipe.run.cluster.private_cluster import gpu_ids, private_cluster
from flowpipe.run.cluster.settings import SETTINGS, find_scheduler
from flowpipe.run.options import STALL_S
from flowpipe.run.worker.stopping import ask_to_stop, catch_sigterm, is_working
from flowpipe.scratch import scratch_folder
from flowpipe.words import count_noun

log = get_logger(__name__)

FROZEN_S = 20.0
"""Time without a heartbeat, beyond the stall limit, after which a local worker is replaced, s."""
CONNECT_S = 600.0
"""Time for a worker of this machine to connect, seconds."""
ANSWER_S = 10.0
"""Time for the scheduler of a given address to answer, seconds."""
STARTS = 3
"""Attempts to start a local cluster."""


class WorkerLostError(Exception):
    """The worker process of a task died."""


class PublishBeforeEnd(WorkerPlugin):
    """Makes a worker publish finished videos before SIGTERM or a close ends it."""

    def setup(self, worker: Worker) -> None:
        """Catch SIGTERM in the worker's process.

        Parameters
        ----------
        worker : Worker
            Dask worker that starts.
        """
        catch_sigterm()

    async def teardown(self, worker: Worker) -> None:
        """Wait until the open shard is published; Dask reports the worker gone only after that.

        Parameters
        ----------
        worker : Worker
            Dask worker that ends.
        """
        if worker.status != Status.closing:
            return  # the scheduler's next client replaces this plugin
        ask_to_stop()
        while is_working():
            await asyncio.sleep(0.05)


class Pool:
    """Workers that run one function on one argument at a time.

    Parameters
    ----------
    client : distributed.Client
        Client of the scheduler.
    cluster : distributed.LocalCluster, optional
        Cluster of the workers, if this process has started it.
    """

    def __init__(self, client: Client, cluster: LocalCluster | None = None) -> None:
        self._client, self._cluster = client, cluster
        client.register_plugin(PublishBeforeEnd(), name=_PLUGIN)
        self._finished: queue.Queue[Future[Any]] = queue.Queue()
        self._arguments: dict[Any, tuple[Future[Any], Any]] = {}

    @property
    def size(self) -> int:
        """Number of connected workers, at least 1."""
        try:
            return max(1, len(self._client.nthreads()))
        except OSError as error:
            raise BackendError(_SCHEDULER_GONE) from error

    @property
    def running(self) -> list[Any]:
        """Arguments of the tasks that have not ended."""
        return [argument for _, argument in self._arguments.values()]

    def submit(self, function: Callable[[Any], Any], argument: Any) -> None:
        """Start one task; `next_finished` returns it when it has ended.

        Parameters
        ----------
        function : callable
            Function of one argument that a worker calls.
        argument : object
            Its argument.
        """
        future = self._client.submit(function, argument, pure=False, retries=0)
        self._arguments[future.key] = future, argument
        future.add_done_callback(self._finished.put)

    def cancel(self) -> None:
        """Cancel the tasks that have not returned."""
        self._client.cancel([future for future, _ in self._arguments.values()])
        self._arguments.clear()

    def next_finished(self, timeout_s: float) -> tuple[Any, Any, BaseException | None] | None:
        """Wait for a task to end.

        Parameters
        ----------
        timeout_s : float
            Longest wait, seconds.

        Returns
        -------
        (argument, result, error) or None
            None if no task ends in time. The error is None, WorkerLostError if the worker died, or
            what the function raised.

        Raises
        ------
        BackendError
            If the scheduler is gone, or all local workers have died and cannot be restarted.
        """
        try:
            future = self._finished.get(timeout=timeout_s)
        except queue.Empty:
            nannies = [] if self._cluster is None else self._cluster.workers.values()
            if self._cluster is not None and all(nanny.status in _ENDED for nanny in nannies):
                raise BackendError(_WORKERS_GONE) from None
            return None
        if future.status == "cancelled":  # nobody here cancels
            raise BackendError(_SCHEDULER_GONE)
        _, argument = self._arguments.pop(future.key)
        result: Any = None
        error: BaseException | None = None
        try:
            # One call only: a result that is lost with its worker is computed again and may fail.
            result = future.result()
        except KilledWorker as killed:
            error = WorkerLostError(str(killed))
        except Exception as raised:
            error = raised
        future.release()
        return argument, result, error


_PLUGIN = "flowpipe"
_ENDED = (Status.closing, Status.closed, Status.failed)  # nanny states that restart no worker
_WORKERS_GONE = (
    "the worker processes have died and cannot be restarted: out of memory, or the folder for "
    "temporary files full? Finished shards stay: run the same command again"
)
_SCHEDULER_GONE = (
    "the Dask scheduler is gone; finished shards stay: restart it, then run the same command again"
)


@contextmanager
def local_pool(workers: int, gpus: int = 0, stall_s: float = STALL_S) -> Iterator[Pool]:
    """Start a pool of single-threaded worker processes on this machine; end it with the block.

    Only this process and its workers can connect to them, see `private_cluster`. A worker that
    sends no heartbeat, for example because it is suspended or hangs in a system call, is killed and
    replaced.

    Parameters
    ----------
    workers : int
        Number of worker processes.
    gpus : int
        Number of visible GPUs that the workers share evenly; each worker sees its GPU as the first
        or only one. 0 leaves the environment of the workers unchanged.
    stall_s : float
        Limit of the workers' own watchdog, seconds. A frozen worker is replaced about `FROZEN_S`
        later.

    Yields
    ------
    Pool

    Raises
    ------
    UsageError
        If this process sees fewer GPUs, or they cannot be shared evenly.
    BackendError
        If worker processes end while they start, `STARTS` times in a row.
    """
    ids = gpu_ids(workers, gpus)
    # Native code may hold the GIL, and with it the heartbeat, for as long as stall_s.
    limits = {"distributed.scheduler.worker-ttl": f"{stall_s + FROZEN_S} s"}
    # A local process that does not answer is starved, not gone. Dask's 30 s, or a user's setting
    # for another network, would end a worker that starts on a busy machine.
    limits["distributed.comm.timeouts.connect"] = f"{CONNECT_S} s"
    with (
        dask.config.set(deepcopy(SETTINGS) | limits),
        _quiet(),
        scratch_folder("flowpipe-dask") as scratch,
        ExitStack() as stack,
    ):
        with _defer_signals() as came:
            cluster = stack.enter_context(_start(workers, ids, str(scratch), came))
            client = stack.enter_context(Client(cluster))
        log.info("started %s on this machine", count_noun(workers, "worker"))
        with forward_logs(client):
            yield Pool(client, cluster)


def _start(workers: int, gpus: tuple[str, ...], scratch: str, came: Sequence[int]) -> LocalCluster:
    """Start a cluster; retry if a worker process ends while it starts, unless a signal came."""
    for more in reversed(range(STARTS)):
        try:
            return private_cluster(workers, gpus, scratch)
        except RuntimeError as error:  # Dask's error for this
            if came:
                raise
            if not more:
                raise BackendError(
                    f"worker processes ended while they started, {STARTS} times in a row "
                    f"({error.__cause__ or error}): out of memory? give fewer --workers"
                ) from error
    raise AssertionError


@contextmanager
def _defer_signals() -> Iterator[list[int]]:
    """Defer SIGINT and SIGTERM to the end of the block: a half-started cluster cannot be closed.

    A terminal sends Ctrl-C to every process of a run, but the client stops its workers itself. The
    block therefore runs with SIGINT blocked. The cluster's thread inherits this, and so does every
    worker process, including replacements of dead ones.

    Yields
    ------
    list of int
        Signals that have come so far.
    """
    came: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    signals = (signal.SIGINT, signal.SIGTERM) if main else ()  # others get none
    before = {number: signal.getsignal(number) for number in signals}
    for number in signals:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, lambda number, _: came.append(number))
    resource_tracker.ensure_running()  # its start would unblock SIGINT in the cluster's thread
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield came
    except Exception:
        if came:  # the signal also ended the workers while they started
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number in signals:
            signal.signal(number, before[number])
    if came:
        signal.raise_signal(came[0])


@contextmanager
def remote_pool(scheduler: str | Client) -> Iterator[Pool]:
    """Connect to the workers of a running scheduler; they must see the store and the videos.

    Parameters
    ----------
    scheduler : str or distributed.Client
        Address of the scheduler, the file that ``dask scheduler --scheduler-file`` writes, or a
        client, which stays open.

    Raises
    ------
    UsageError
        If the file does not appear or nothing answers at the address, if TLS keys are missing or
        unreadable, no worker joins within a minute, or workers have several threads.
    """
    with dask.config.set(deepcopy(SETTINGS)), _quiet():
        if isinstance(scheduler, Client):
            with forward_logs(scheduler):
                pool = _pool_of(scheduler)
                try:
                    yield pool
                finally:
                    pool.cancel()
            return
        address, security = find_scheduler(scheduler)
        try:
            client = Client(address, timeout=f"{ANSWER_S} s", security=security)
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(f"no Dask scheduler answers at {address}: {error}") from error
        with client, forward_logs(client):
            yield _pool_of(client)


def _pool_of(client: Client) -> Pool:
    """Wait for the workers of a client and see that each has one thread."""
    address = client.scheduler.address
    try:
        client.wait_for_workers(1, timeout=60)
    except TimeoutError as error:
        raise UsageError(f"the scheduler at {address} has no workers") from error
    if (platform.node(), os.getpid()) in client.run(
        lambda: (platform.node(), os.getpid())
    ).values():
        raise UsageError(
            f"the workers at {address} are threads of this process, which the watchdog would kill "
            "with a stalled video; start processes: LocalCluster(processes=True)"
        )
    if max(client.nthreads().values()) > 1:
        # A death would also end the other threads' tasks, and blame their videos.
        raise UsageError(
            f"the workers at {address} have several threads; start one of a single thread "
            f"per core: dask worker {address} --nworkers auto --nthreads 1"
        )
    log.info("using %s of %s", count_noun(len(client.nthreads()), "worker"), address)
    return Pool(client)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence distributed's log of lost connections; our errors report them once."""
    loggers = map(logging.getLogger, ("distributed", "distributed.client"))
    handlers = list(dict.fromkeys(handler for logger in loggers for handler in logger.handlers))
    before = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in zip(handlers, before, strict=True):
            handler.setLevel(level)
