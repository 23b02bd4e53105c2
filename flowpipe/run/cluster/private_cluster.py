"""Workers, GPUs -> a Dask cluster on this machine that no other user can connect to.

Anyone who connects to a Dask scheduler or worker can run code there. The ports of a machine are
open to all its users, so scheduler, workers and nannies listen on 127.0.0.1 only and use TLS only.
Both sides of a connection show a certificate that is made for this cluster. Its key reaches the
workers through the pipe that starts them and is gone when the run ends. The HTTP servers, which
check no client certificates, are not started.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from distributed import LocalCluster, Nanny, Scheduler, Worker

from flowpipe.errors import UsageError
from flowpipe.ops.cuda.devices import shown_gpus
from flowpipe.run.cluster.settings import temporary_security
from flowpipe.words import count_noun


class _WithoutHTTP:
    """Scheduler or worker without an HTTP server."""

    def start_http_server(self, *arguments: Any, **options: Any) -> None:
        """Start no server."""


class QuietScheduler(_WithoutHTTP, Scheduler):
    """Scheduler without an HTTP server."""


class QuietWorker(_WithoutHTTP, Worker):
    """Worker without an HTTP server."""


class _Quiet:
    """LocalCluster whose scheduler is a QuietScheduler."""

    scheduler_spec: dict[str, Any]

    async def _start(self) -> None:
        self.scheduler_spec["cls"] = QuietScheduler
        await super()._start()  # type: ignore[misc]


class QuietCluster(_Quiet, LocalCluster):
    """LocalCluster whose scheduler has no HTTP server."""


class MaskedCluster(QuietCluster):
    """QuietCluster in which each worker sees one GPU; its replacement sees the same one.

    Parameters
    ----------
    gpus : sequence of str
        Values of ``CUDA_VISIBLE_DEVICES``, assigned to the workers in turn.
    n_workers : int
        Number of workers.
    **settings : object
        Arguments of LocalCluster.
    """

    def __init__(self, gpus: Sequence[str], n_workers: int, **settings: Any) -> None:
        self._gpus = gpus
        # A cluster that starts with workers gives all of them one specification.
        super().__init__(n_workers=0, memory_limit=1 / n_workers, **settings)
        self.scale(n_workers)
        try:
            self.sync(self._correct_state)
        except Exception:
            self.close()
            raise

    def new_worker_spec(self) -> dict[int, dict[str, Any]]:
        """Return the number and specification of one more worker, with its GPU."""
        ((number, spec),) = super().new_worker_spec().items()
        env = {"CUDA_VISIBLE_DEVICES": self._gpus[number % len(self._gpus)]}
        return {number: {**spec, "options": {**spec["options"], "env": env}}}


def private_cluster(workers: int, gpus: tuple[str, ...], scratch: str) -> LocalCluster:
    """Start single-threaded worker processes on this machine, and a scheduler in this process.

    Parameters
    ----------
    workers : int
        Number of workers.
    gpus : tuple of str
        Values of ``CUDA_VISIBLE_DEVICES``, shared evenly by the workers; empty to leave the
        variable unchanged.
    scratch : str
        Folder for Dask's temporary files.

    Returns
    -------
    distributed.LocalCluster
        The cluster.

    Raises
    ------
    BackendError
        If a certificate cannot be made: cryptography is not installed.
    RuntimeError
        If a worker process ends while it starts; the others are stopped too.
    """
    cluster = _start(
        workers,
        gpus,
        security=temporary_security(),
        host="127.0.0.1",
        dashboard_address=None,
        scheduler_kwargs={"dashboard": False},
        threads_per_worker=1,
        processes=True,
        local_directory=scratch,
        silence_logs=logging.CRITICAL,
    )
    if len(cluster.scheduler.workers) < workers:  # Dask does not report it if a cluster scales
        cluster.close()
        raise RuntimeError("a worker process ended while it started")
    return cluster


def _start(workers: int, gpus: tuple[str, ...], **settings: Any) -> LocalCluster:
    if workers == len(gpus):  # dask-cuda cannot share a GPU
        try:
            from dask_cuda import LocalCUDACluster
        except ImportError:
            pass
        else:

            class QuietCUDACluster(_Quiet, LocalCUDACluster):
                pass

            # dask-cuda also binds each worker to the cores near its GPU. Workers keep nothing on
            # the GPU between tasks, so it has nothing to spill.
            return QuietCUDACluster(
                ",".join(gpus), n_workers=workers, device_memory_limit=None, protocol="tls://",
                worker_class=QuietWorker, **settings,
            )  # fmt: skip
    settings["worker_class"] = partial(Nanny, worker_class=QuietWorker)
    if gpus:
        return MaskedCluster(gpus, workers, **settings)
    return QuietCluster(n_workers=workers, **settings)


def gpu_ids(workers: int, gpus: int) -> tuple[str, ...]:
    """Assign the first visible GPUs to workers.

    Parameters
    ----------
    workers : int
        Number of workers.
    gpus : int
        Number of GPUs.

    Returns
    -------
    tuple of str
        A value of ``CUDA_VISIBLE_DEVICES`` for each GPU.

    Raises
    ------
    UsageError
        If this process sees fewer GPUs, or the workers cannot share them evenly.
    """
    shown = shown_gpus()
    if shown is not None and gpus > len(shown):
        raise UsageError(
            f"{gpus} GPUs wanted, CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']!r} "
            f"shows {len(shown)}; ask the batch system for {gpus}, or want fewer"
        )
    if gpus and (workers < gpus or workers % gpus):
        sharing = f"{count_noun(workers, 'worker')} cannot share {count_noun(gpus, 'GPU')}"
        raise UsageError(f"{sharing} evenly; take a multiple")
    return tuple(map(str, range(gpus))) if shown is None else shown[:gpus]
