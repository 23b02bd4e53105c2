"""gpu_pool.py WORKERS GPUS: what each worker of a pool sees, before and after one was killed.

Prints two JSON objects, CUDA_VISIBLE_DEVICES by process id.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from command import wait_for

from flowpipe.errors import UsageError
from flowpipe.run.cluster import Pool, WorkerLostError, local_pool


def seen(_: int) -> tuple[int, str]:
    time.sleep(0.3)
    return os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"]


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def look(pool: Pool, workers: int) -> dict[int, str]:
    """Ask until every worker has answered; those that replace dead ones take a while to come."""
    found: dict[int, str] = {}

    def all_answered() -> bool:
        for k in range(2 * workers):
            pool.submit(seen, k)
        while pool.running:
            if finished := pool.next_finished(60):
                found.update([finished[1]])
        return len(found) >= workers

    wait_for(all_answered, 60)
    return found


def main(workers: int, gpus: int) -> None:
    with local_pool(workers, gpus) as pool:
        print(json.dumps(look(pool, workers)), flush=True)
        pool.submit(die, 0)
        _, _, error = pool.next_finished(60) or (None, None, None)
        assert isinstance(error, WorkerLostError), error
        print(json.dumps(look(pool, workers)), flush=True)


if __name__ == "__main__":
    try:
        main(*map(int, sys.argv[1:]))
    except UsageError as error:
        sys.exit(str(error))
