"""Measured CPU costs + a GPU's pairs per second -> frames per second of a node, by model.

    python benchmarks/gpu_node.py [--pairs-per-s 4300] [--clips 3] [--runs 3] [-o docs/gpu-node.md]

The program measures the CPU time of a frame by stage, in one worker's task that is pinned to one
core. It times separately what a GPU would compute instead (resizing, gray, pyramids, TV-L1,
warping, quantising) and the features for the camera's motion. The pairs per second of the GPU are
an option, not measured; the GPU's time for features is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flowpipe import params
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.flow.warped import CameraMotionEstimator
from flowpipe.modality import MODALITIES
from flowpipe.ops import get_ops
from flowpipe.run.cluster.settings import SETTINGS
from flowpipe.run.options import WorkerOptions
from flowpipe.run.planning.plan import ShardPlan
from flowpipe.run.worker import shard_job
from flowpipe.types import Span, VideoRecord

SHARED = Path(os.environ.get("FLOWPIPE_SHARED_DATA", "../shared/data"))
SETS = {"rgb+flow": ("rgb", "flow"), "all four": ("rgb", "flow", "warped_flow", "rgb_diff")}
ON_DEVICE = (
    "resize", "gray", "difference", "quantise", "warp_homography", "take", "pyramid", "upsample",
    "empty", "tvl1_memory", "tvl1_start", "tvl1_warps", "tvl1_flow",
)  # fmt: skip
FEATURES = ("akaze", "corners", "level_ranges", "match_keypoints")
COPIED_BYTES = {"rgb+flow": 340 * 256 * (3 + 2), "all four": 340 * 256 * (3 + 2 + 2 + 3 + 1)}
"""Bytes per stored frame that are copied through pinned memory in both directions."""
SCORING_MS = 0.14
"""Time to draw hypotheses of a pair and count inliers, by `benchmarks/ransac.py`."""
COPY_BYTES_PER_S = 5e9  # of one core, from memory to memory


class FrameCost(NamedTuple):
    """CPU time of a frame by stage, milliseconds."""

    decode: float
    features: float
    """Keypoints, corners and matches for camera motion, which a GPU can compute."""
    camera: float
    """Homographies, which stay on the CPU."""
    encode: float
    rest: float
    """Writing, hashing, publishing, handover between threads."""
    device: float
    """Operations that a GPU computes instead."""


NODES = ((1, 4), (1, 8), (1, 16), (8, 64), (8, 128))
"""Number of GPUs and cores."""
FAST_PAIRS_PER_S = 5700  # the higher figure of docs/gpu-roofline.md for an H100
ENOUGH_CORES = 8
"""Cores per GPU of a realistic node, at which the gain of nvJPEG is judged."""


class TimedOps:
    """Wrapper of operations that adds up the CPU time of those that a GPU would compute."""

    def __init__(self, ops: Any, names: Sequence[str]) -> None:
        self._ops, self._names, self.seconds = ops, names, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._ops, name)
        if name not in self._names:
            return method

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return method(*arguments, **named)
            finally:
                self.seconds[name] += time.thread_time() - began

        return timed


def inside(clips: Sequence[Path], modalities: Sequence[str]) -> None:
    """Run the task of one worker on a shard of unsplit clips in this process; print JSON."""
    made = params.build(ExtractRecipe, {"modalities": list(modalities)})
    camera_s = 0.0

    def timed(name: str) -> None:
        method = getattr(CameraMotionEstimator, name)

        def measured(*arguments: Any, **named: Any) -> Any:
            nonlocal camera_s
            began = time.thread_time()
            try:
                return method(*arguments, **named)
            finally:
                camera_s += time.thread_time() - began

        setattr(CameraMotionEstimator, name, measured)

    for name in ("features", "estimate"):
        timed(name)
    for some in (clips[:1], clips):  # the first warms up
        ops, camera_s = TimedOps(get_ops("cpu"), ON_DEVICE), 0.0
        ops.features = features = TimedOps(get_ops("cpu").features, FEATURES)
        shard_job.cached_ops = lambda device, ops=ops: ops
        spans = tuple(Span(VideoRecord(clip.stem, str(clip))) for clip in some)
        with tempfile.TemporaryDirectory() as folder:
            shard = ShardPlan("shard-0", spans, 0, 0)
            began = time.process_time()
            outcomes = shard_job.extract_shard(
                shard_job.ShardJob(
                    store=folder,
                    heartbeat_folder=folder,
                    shard=shard,
                    recipe=made,
                    device="cpu",
                    options=WorkerOptions(on_error="fail"),
                )
            )
            whole_s = time.process_time() - began
    seconds: Counter[str] = Counter()
    for outcome in outcomes:
        seconds.update(outcome.seconds)
    frames = sum(outcome.frames for outcome in outcomes)
    named = {
        "decode": seconds["decode"] - ops.seconds["resize"],
        "features": features.seconds.total(),
        "camera": camera_s - features.seconds.total() - ops.seconds["take"],
        "encode": seconds["encode"],
        "device": ops.seconds.total(),
    }
    named["rest"] = whole_s - sum(named.values())
    print(json.dumps({name: 1e3 * value / frames for name, value in named.items()}))


def measure(clips: Sequence[Path], modalities: Sequence[str], runs: int) -> FrameCost:
    """Return the least cost of several runs by stage, each in a process of its own on one core."""
    environment = {**os.environ, **SETTINGS["distributed.nanny.pre-spawn-environ"]}
    core = sorted(os.sched_getaffinity(0))[-1]
    found: list[dict[str, float]] = []
    for _ in range(runs):
        told = subprocess.run(
            [sys.executable, __file__, "--inside", *modalities, "--of", *clips],
            check=True, stdout=subprocess.PIPE, env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )  # fmt: skip
        found.append(json.loads(told.stdout))
    return FrameCost(**{name: min(run[name] for run in found) for name in FrameCost._fields})


def host_ms(cost: FrameCost, name: str) -> float:
    """Return the CPU milliseconds of a frame if a GPU computes the rest."""
    copies = 1e3 * COPIED_BYTES[name] / COPY_BYTES_PER_S
    return sum(cost) - cost.device + copies


def predict_per_core(
    cost: FrameCost, name: str, gpus: int, cores: int, pairs_per_s: float
) -> tuple[float, str]:
    """Return the frames per second with one worker per core, and the limiting resource."""
    by_cores = 1e3 * cores / host_ms(cost, name)
    by_gpus = gpus * pairs_per_s / flows(name)
    return (by_cores, "cores") if by_cores < by_gpus else (by_gpus, "GPUs")


def predict_per_gpu(cost: FrameCost, name: str, gpus: int, pairs_per_s: float) -> float:
    """Return the frames per second with one worker per GPU, bounded by its slowest thread."""
    slowest_ms = max(cost.decode, cost.features + cost.camera, cost.encode + cost.rest)
    return gpus * min(1e3 / slowest_ms, pairs_per_s / flows(name))


def flows(name: str) -> int:
    """Return the number of flow fields per frame."""
    return max(MODALITIES[modality].flows for modality in SETS[name])


def report(costs: dict[str, FrameCost], pairs_per_s: float) -> str:
    """Return the page."""
    lines = [
        "# What a node with GPUs extracts: a model",
        "",
        "This page predicts the frames/s of nodes with GPUs. **No GPU was measured.** "
        "`python benchmarks/gpu_node.py` writes it.",
        "The CPU costs were measured on UCF101 clips at 340x256. The model assumes that a GPU "
        f"computes {pairs_per_s:,.0f} pairs/s",
        "(`--pairs-per-s`; [gpu-roofline.md](gpu-roofline.md) predicts it).",
        "",
        "The table has the CPU time of a frame by stage, ms. *Device* is the work that a GPU "
        "takes over: resizing, gray, pyramids,",
        "TV-L1, warping, quantising. *Features* are keypoints, corners and matches for the "
        "camera's motion. *Camera* is the rest of",
        "that estimate: homographies. *Rest* is writing, hashing and publishing.",
        "",
        "| | decode | features | camera | encode | rest | device |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, cost in costs.items():
        lines.append(f"| {name} | " + " | ".join(f"{ms:.2f}" for ms in cost) + " |")
    lines += [
        "",
        "The columns of the second table are, in frames/s:",
        "",
        "- *Cores alone*: `--device cpu`.",
        "- *One worker* for each GPU, features on the cores: no faster than the slowest of its "
        "threads. Earlier versions of `--gpus N` did this.",
        "- *Filled*: a worker for each core, as `--gpus N` starts by default; with features on the "
        "cores, and on the GPU (the default).",
        "- *One more*: gain by one more core, and by one more GPU.",
        "- *nvJPEG*: gain if encoding cost neither cores nor GPU anything, an upper bound.",
        "",
        "| node | images | cores alone | one worker | filled, features on cores | filled "
        "| bound by | one more core, GPU | nvJPEG |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for gpus, cores in NODES:
        for name, cost in costs.items():
            ours = cost._replace(features=0.0)
            rate, bound = predict_per_core(ours, name, gpus, cores, pairs_per_s)
            gains = [
                100 * (predict_per_core(*how, pairs_per_s)[0] / rate - 1)
                for how in (
                    (ours, name, gpus, cores + 1),
                    (ours, name, gpus + 1, cores),
                    (ours._replace(encode=0.0), name, gpus, cores),
                )
            ]
            core, gpu, encoding = (f"{gain:+.0f} %" for gain in gains)
            per_gpu = predict_per_gpu(cost, name, gpus, pairs_per_s)
            per_core = predict_per_core(cost, name, gpus, cores, pairs_per_s)[0]
            lines.append(
                f"| {gpus} GPU{'s' * (gpus > 1)}, {cores} cores | {name} | "
                f"{1e3 * cores / sum(cost):,.0f} | {per_gpu:,.0f} "
                f"| {per_core:,.0f} | {rate:,.0f} | {bound} "
                f"| {core}, {gpu} | {encoding} |"
            )
    lines += [
        "",
        f"The cores encode JPEG. With {ENOUGH_CORES} cores for each GPU or more, nvJPEG "
        f"would gain at most {most_gain(costs, pairs_per_s):.0f} %,",
        "and bytes would then depend on the device. Nodes with fewer cores would gain more, and so "
        "would faster GPUs:",
        f"at {FAST_PAIRS_PER_S:,} pairs/s {most_gain(costs, FAST_PAIRS_PER_S):.0f} %, if nvJPEG "
        "took no time of the GPU. Only a measurement on a GPU can decide.",
        "",
        *describe_scoring(costs["all four"], pairs_per_s),
    ]
    return "\n".join(lines) + "\n"


def describe_scoring(cost: FrameCost, pairs_per_s: float) -> list[str]:
    """Describe the gain if a GPU drew and counted the hypotheses of RANSAC."""
    ours = cost._replace(features=0.0)
    less = ours._replace(camera=ours.camera - SCORING_MS)
    gains = []
    for gpus, cores in NODES:
        node = "all four", gpus, cores, pairs_per_s
        gain = 100 * (predict_per_core(less, *node)[0] / predict_per_core(ours, *node)[0] - 1)
        if gain >= 0.5:
            gains.append(f"{gpus} GPU{'s' * (gpus > 1)} with {cores} cores {gain:+.0f} %")
    return [
        f"RANSAC stays on the cores. Of the {ours.camera:.2f} ms of *camera*, drawing hypotheses",
        f"and counting the matches that agree with them take {SCORING_MS:.2f} ms",
        "(`benchmarks/ransac.py`; polishing and fitting, 0.1 ms with AVX-512 and 0.4 with AVX2,",
        "would stay). If a GPU did it at no cost, these nodes would gain:",
        f"{', '.join(gains) or 'none'}.",
        "It would take a kernel that draws and counts 1024 hypotheses of each pair of a window,",
        "since the search can stop after every 64th, twice for each window, and a search that goes",
        "from the host to the GPU and back for all pairs together.",
        "Where GPUs bound a node it would cost time, so RANSAC stays on the cores.",
    ]


def most_gain(costs: dict[str, FrameCost], pairs_per_s: float) -> float:
    """Return the largest possible gain by nvJPEG with enough cores, percent."""
    gains = [0.0]
    for name, cost in costs.items():
        ours = cost._replace(features=0.0)
        how = name, 1, ENOUGH_CORES, pairs_per_s
        gains.append(
            predict_per_core(ours._replace(encode=0.0), *how)[0] / predict_per_core(ours, *how)[0]
            - 1
        )
    return 100 * max(gains)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pairs-per-s", type=float, default=4300, help="pairs/s of one GPU at 340x256"
    )
    parser.add_argument("--videos", type=Path, default=SHARED / "clips" / "ucf101")
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("-o", type=Path, help="Markdown file to write")
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--of", nargs="+", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        inside(chosen.of, chosen.inside)
        return
    found = sorted(p for p in chosen.videos.rglob("*") if p.suffix in (".avi", ".mp4"))
    if not found:
        raise SystemExit(f"no .avi or .mp4 below {chosen.videos}; name a folder with --videos")
    count = min(chosen.clips, len(found))
    clips = [found[k * len(found) // count] for k in range(count)]
    costs = {name: measure(clips, images, chosen.runs) for name, images in SETS.items()}
    text = report(costs, chosen.pairs_per_s)
    if chosen.o:
        chosen.o.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
