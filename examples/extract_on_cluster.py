"""Videos -> a store, extracted from Python on a Dask cluster.

    python examples/extract_on_cluster.py clips store                     # starts a local cluster
    python examples/extract_on_cluster.py clips store tcp://node7:8786    # uses a running cluster

Each worker needs one thread, flowpipe, and access to the folders of the videos and of the store.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

from distributed import Client, LocalCluster

import flowpipe


def show(now: flowpipe.Progress) -> None:
    """Print a line for each video that is finished."""
    if now.outcome is not None:
        left = "" if now.eta_s is None else f", {now.eta_s:.0f} s left"
        print(f"{now.done}/{now.total} videos, {now.outcome.video_id}: {now.outcome.status}{left}")


def main(videos: str, store: str, scheduler: str = "") -> None:
    with ExitStack() as stack:
        where = scheduler or stack.enter_context(
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        )
        client = stack.enter_context(Client(where))
        job = flowpipe.extract_job(
            store, videos=videos, modalities="rgb,flow", device="cpu", scheduler=client
        )
        found = flowpipe.plan(job)
        print(f"to extract: {found.videos}, about {found.frames:.0f} frames")
        summary = flowpipe.extract(job, progress=show)
    print(f"store: {summary.store}, done: {summary.counts['done']}")
    for failure in summary.failures:
        print(f"failed: {failure.video_id}: {failure.reason}: {failure.message}")


if __name__ == "__main__":  # worker processes load this file too
    main(*sys.argv[1:])
