"""Data set + recipe -> a finished store: planning, workers, faults, resuming, repair."""

from flowpipe.run.extraction import run
from flowpipe.run.interrupt import signals_interrupt_once
from flowpipe.run.job import ExtractJob
from flowpipe.run.ledger import Quarantine, policy_shown
from flowpipe.run.options import RunOptions
from flowpipe.run.planning.missing import AbsentVideosError, MissingVideos
from flowpipe.run.planning.plan import Plan
from flowpipe.run.planning.plan_run import plan_run
from flowpipe.run.planning.resources import cores_only_s
from flowpipe.run.planning.worker_count import usable_cores
from flowpipe.run.progress import Listener, Progress
from flowpipe.run.repair import repair
from flowpipe.run.summary import InterruptedRunError, Summary

__all__ = [
    "AbsentVideosError", "ExtractJob", "InterruptedRunError", "Listener", "MissingVideos", "Plan",
    "Progress", "Quarantine", "RunOptions", "Summary", "cores_only_s",
    "plan_run",
    "policy_shown", "repair", "run", "signals_interrupt_once", "usable_cores",
]  # fmt: skip
