"""gpu_pool.py WORKERS GPUS [open]: print the GPUs of each worker of a pool.

It prints two JSON objects, CUDA_VISIBLE_DEVICES by process id, before and after a worker was
killed. With ``open`` it prints a JSON list: what each worker gets when it opens its GPU while the
others hold theirs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from command import wait_for

from flowpipe.errors import BackendError, UsageError
from flowpipe.ops import get_ops
from flowpipe.run.cluster.pool import Pool, WorkerLostError, local_pool


def report_gpu(_: int) -> tuple[int, str]:
    time.sleep(0.3)
    return os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"]


def open_gpu(_: int) -> str:
    try:
        ops = get_ops("cuda")
    except BackendError as error:
        return str(error)
    time.sleep(1)
    return ops.name


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def look(pool: Pool, workers: int) -> dict[int, str]:
    """Ask until every worker has answered; those that replace dead ones take a while to come."""
    found: dict[int, str] = {}

    def have_all_answered() -> bool:
        for k in range(2 * workers):
            pool.submit(report_gpu, k)
        while pool.running:
            if finished := pool.next_finished(60):
                found.update([finished[1]])
        return len(found) >= workers

    wait_for(have_all_answered, 60)
    return found


def open_together(workers: int, gpus: int) -> None:
    with local_pool(workers, gpus) as pool:
        look(pool, workers)  # all of them are there
        for k in range(workers):
            pool.submit(open_gpu, k)
        print(json.dumps([(pool.next_finished(60) or ())[1] for _ in range(workers)]))


def main(workers: int, gpus: int) -> None:
    with local_pool(workers, gpus) as pool:
        print(json.dumps(look(pool, workers)), flush=True)
        pool.submit(die, 0)
        _, _, error = pool.next_finished(60) or (None, None, None)
        assert isinstance(error, WorkerLostError), error
        print(json.dumps(look(pool, workers)), flush=True)


if __name__ == "__main__":
    try:
        (open_together if "open" in sys.argv else main)(*map(int, sys.argv[1:3]))
    except UsageError as error:
        sys.exit(str(error))
