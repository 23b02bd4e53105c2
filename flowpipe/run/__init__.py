"""Data set + recipe -> a finished store: planning, workers, faults, resuming, repair."""

from flowpipe.run.extraction import plan_run, run
from flowpipe.run.interrupt import signals_interrupt_once
from flowpipe.run.ledger import Quarantine, policy_shown
from flowpipe.run.options import InterruptedRunError, RunOptions, Summary
from flowpipe.run.plan import ABSENT, Plan
from flowpipe.run.repair import repair
from flowpipe.run.resources import cores_only_s
from flowpipe.run.worker_count import usable_cores

__all__ = [
    "ABSENT", "InterruptedRunError", "Plan", "Quarantine", "RunOptions", "Summary", "cores_only_s",
    "plan_run",
    "policy_shown", "repair", "run", "signals_interrupt_once", "usable_cores",
]  # fmt: skip
