"""The steps of a run on a GPU machine, in the order of their value; and one of them, run alone.

    python benchmarks/gpu/steps.py STEP ...     as on_gpu.py starts it, which see

A step's process prints its log, writes its result as JSON and exits with 0 if what it proves is so,
1 if not, 77 if it does not apply to this machine.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import checks
import contents
import decoders
import gpu_probes
import setting_up
import stores
import tools
import training
from folders import NOT_HERE, Folders, Verdict, say, write_verdict


@dataclass(frozen=True)
class GpuStep:
    """One check or measurement."""

    name: str
    limit_s: int
    least_s: int
    """The step is skipped if less time is left."""
    work: Callable[[Folders], Verdict]
    proves: str


RGB_FLOW, ALL_FOUR = "rgb,flow", "rgb,flow,warped_flow,rgb_diff"


def _extraction(
    name: str, limit_s: int, modalities: str, workers: int | None, copies: int, proves: str = ""
) -> GpuStep:
    work = partial(stores.extraction, name=name, modalities=modalities, workers=workers,
                   copies=copies)  # fmt: skip
    return GpuStep(name, limit_s, 15, work, proves or "frames/s, share of each stage, GPU busy")


def _sanitize(tool: str) -> Callable[[Folders], Verdict]:
    return partial(tools.sanitize, tool=tool)


def _train(modality: str, amp: str, heavy: bool = False) -> Callable[[Folders], Verdict]:
    return partial(training.train, modality=modality, amp=amp, heavy=heavy)


SETUP = GpuStep("setup", 120, 1, setting_up.setup, "packages load, the core is there")
STEPS = (
    GpuStep("machine", 25, 5, checks.machine, "GPU, driver, tools, packages"),
    GpuStep("doctor", 30, 5, checks.doctor, "what flowpipe lacks here"),
    GpuStep("selftest", 80, 15, checks.selftest, "every operation against the CPU's"),
    GpuStep("parity", 110, 20, checks.parity, "the tests marked cuda"),
    GpuStep("ceilings", 25, 5, gpu_probes.ceilings, "bandwidths, TFLOP/s, cost of a launch"),
    GpuStep("flow", 60, 20, checks.flow, "pairs/s by batch, share of the peak"),
    GpuStep("kernels", 45, 20, gpu_probes.kernels, "us a pair by kernel, idle time, compile time"),
    GpuStep("tune", 60, 30, checks.tune, "pairs/s by the settings of the schedule"),
    GpuStep("operations", 30, 10, gpu_probes.operations, "ms a frame by operation, GPU beside CPU"),
    GpuStep("against-cpu", 60, 25, contents.against_cpu, "rgb equal to the CPU's, flow to a level"),
    GpuStep("middlebury", 25, 10, gpu_probes.middlebury, "endpoint errors of both devices"),
    _extraction("extract:fill", 50, RGB_FLOW, None, 12, "workers chosen by flowpipe; plan"),
    _extraction("extract:16", 40, RGB_FLOW, 16, 12),
    _extraction("extract:1", 30, RGB_FLOW, 1, 1),
    GpuStep("mps", 60, 25, stores.mps, "extract:16 again with MPS"),
    _extraction("extract4:fill", 50, ALL_FOUR, None, 6, "all four modalities, the same"),
    _extraction("extract:4", 35, RGB_FLOW, 4, 4),
    GpuStep("same-bytes", 30, 10, contents.same_bytes, "one worker's bytes are those of many"),
    GpuStep("sanitize:memcheck", 60, 25, _sanitize("memcheck"), "no access outside of arrays"),
    GpuStep("profile", 50, 20, tools.profile, "Nsight Compute on TV-L1's kernels"),
    GpuStep("demo", 50, 20, training.demo_store, "the demo set, 8 workers, verified"),
    GpuStep("train:bf16", 50, 25, _train("flow", "bf16"), "the loss falls, tensors on the GPU"),
    GpuStep("sanitize:racecheck", 60, 25, _sanitize("racecheck"), "no race in shared memory"),
    GpuStep("nvdec", 80, 30, decoders.nvdec, "pictures equal to FFmpeg's; frames/s"),
    GpuStep("train:fp16", 40, 25, _train("flow", "fp16"), "the loss falls, tensors on the GPU"),
    GpuStep("verify", 30, 10, contents.verify, "every store is whole"),
    _extraction("extract4:1", 35, ALL_FOUR, 1, 1),
    _extraction("extract:8", 35, RGB_FLOW, 8, 8),
    _extraction("extract4:16", 45, ALL_FOUR, 16, 6),
    _extraction("extract4:8", 40, ALL_FOUR, 8, 4),
    _extraction("extract4:4", 40, ALL_FOUR, 4, 2),
    GpuStep(
        "train:heavy", 40, 25, _train("rgb", "bf16", heavy=True), "the loader feeds BN-Inception"
    ),
    GpuStep("train:step", 40, 25, training.step_cost, "a step beside a plain PyTorch loop's"),
    GpuStep("sanitize:initcheck", 45, 25, _sanitize("initcheck"), "no uninitialised read"),
    GpuStep("sanitize:synccheck", 45, 25, _sanitize("synccheck"), "no misuse of barriers"),
)


def main() -> int:
    """Run one step; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("step", choices=[step.name for step in (SETUP, *STEPS)])
    parser.add_argument("--packed", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--rehearse", action="store_true")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    folders = Folders(options.packed, options.work, options.rehearse, deadline)
    step = next(step for step in (SETUP, *STEPS) if step.name == options.step)
    try:
        found = step.work(folders)
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        found = Verdict(False, f"{type(error).__name__}: {error}")
    say(found.words)
    write_verdict(options.result, found)
    return {True: 0, False: 1, None: NOT_HERE}[found.ok]


if __name__ == "__main__":
    sys.exit(main())
