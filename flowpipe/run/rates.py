"""Recipe + this machine -> Rates: what a frame will cost here, from one measured pair."""

from __future__ import annotations

import contextlib
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context
from typing import Any

import numpy as np

from flowpipe.errors import BackendError, DecodeError
from flowpipe.extraction.planes import PlaneMaker
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.extraction.stages import WINDOWS_BEGUN
from flowpipe.extraction.windows import DECODED_BYTES, frames_per_window
from flowpipe.flow import FLOWS, make_solver
from flowpipe.modality import MODALITIES
from flowpipe.ops import Ops, get_ops, gpu_memory
from flowpipe.run.plan import Rates
from flowpipe.run.sample import Sample
from flowpipe.video import open_video

BYTES_PER_PIXEL = {
    # benchmarks/codecs.py on real clips at 340x256: bytes of one image over its pixels
    ("rgb", "jpeg"): 0.35,
    ("flow", "jpeg"): 0.08,
    ("warped_flow", "jpeg"): 0.08,
    ("rgb_diff", "jpeg"): 0.30,
}
TIMED_PIXELS = 340 * 256
MOST_TIMED = 16  # pairs
LOSSLESS_BYTES_PER_PIXEL = 1.2
DECODE_S_PER_PIXEL = 0.45e-3 / (340 * 256)
"""benchmarks/extract.py: decoding and resizing."""
ENCODE_S_PER_PIXEL = 0.3e-3 / (340 * 256)
"""The same: encoding and writing of one modality."""
COMPUTE_S_PER_PIXEL = 0.35e-3 / (340 * 256)
"""The same: gray images and pyramids, or their way to a GPU and back, differences, quantising."""
REST_BYTES = 128 << 20
"""benchmarks/memory.py: what a worker holds beside its flow and its windows of frames."""
WINDOWS_HELD = 12
"""Windows of frames that a worker with a GPU holds at most, copies and encoded images included."""
CAMERA_S_PER_PIXEL = 2.2e-3 / (340 * 256)
"""docs/camera.md, by benchmarks/camera.py"""
FIT_S_PER_PIXEL = 0.5e-3 / (340 * 256)
"""docs/camera.md: homographies and copies, the share of the cores where a GPU finds features."""


def measure(recipe: ExtractRecipe, device: str, sample: Sample) -> Rates:
    """Time the recipe's flow on one made-up pair and add what the other stages are known to cost.

    Parameters
    ----------
    recipe : ExtractRecipe
    device : str
    sample : Sample
        Its size decides where the recipe keeps the video's size or aspect.

    Raises
    ------
    BackendError
        If the device is not usable.
    """
    ops = get_ops(device)
    height, width = recipe.size.target(sample.height, sample.width)
    pixels = height * width
    flows = max(MODALITIES[name].flows for name in recipe.modalities)
    stages_s = {
        "decode": pixels * DECODE_S_PER_PIXEL,
        "compute": pixels * COMPUTE_S_PER_PIXEL,
        "encode": pixels * ENCODE_S_PER_PIXEL * len(recipe.modalities),
    }
    flow_s = 0.0
    if flows:
        # Timed on a small frame: the cost grows as the pixels do, and a plan should not take long.
        shrink = min(1.0, (TIMED_PIXELS / pixels) ** 0.5)
        timed = max(1, round(height * shrink)), max(1, round(width * shrink))
        flow_s = flows * _pair_s(recipe, ops, *timed) * pixels / (timed[0] * timed[1])
    if flows > 1:
        features_on_gpu = not ops.on_cpu and recipe.warp.detector == "akaze"
        stages_s["camera"] = pixels * (FIT_S_PER_PIXEL if features_on_gpu else CAMERA_S_PER_PIXEL)
    frame_bytes = sum(
        pixels * BYTES_PER_PIXEL.get((name, codec.name), LOSSLESS_BYTES_PER_PIXEL)
        for name, codec in recipe.codecs.items()
    )
    gpu_s = 0.0
    if on_gpu(recipe, ops):
        gpu_s = flow_s
    else:
        stages_s["compute"] += flow_s
    return Rates(sum(stages_s.values()), frame_bytes, gpu_s, stages_s=stages_s)


def on_gpu(recipe: ExtractRecipe, ops: Ops) -> bool:
    """Return whether the flow of a recipe is computed on a GPU."""
    row = FLOWS[recipe.flow.name]
    return row.own_gpu or (not ops.on_cpu and row.ran_on(ops) == ops.name)


def measure_apart(
    recipe: ExtractRecipe, device: str, sample: Sample, *, memory: bool = False
) -> Rates:
    """The same in a process of its own, and with `memory` what a worker of CUDA takes of it.

    The end of the process gives the GPU and its memory back. Kept in this process, which lives as
    long as the run, they would be taken from the workers; of a GPU in exclusive mode there would be
    none left.
    """
    process, beside = (ProcessPoolExecutor(1, get_context("spawn")) for _ in range(2))
    with beside:
        with process:
            try:
                rates = process.submit(measure, recipe, device, sample).result()
                if not memory:
                    return rates
                took = process.submit(_work_through, recipe, device, sample).result()
                rates = replace(rates, worker_bytes=took)
            except BrokenProcessPool as error:
                raise BackendError(
                    f"the process that tried device {device} died: {error}"
                ) from error
            try:
                free_beside = beside.submit(gpu_memory).result()
            except (BackendError, BrokenProcessPool):  # of a GPU that one process may use at a time
                return rates
        free = beside.submit(gpu_memory).result()
    return replace(rates, gpu_workers=max(1, free // max(1, free - free_beside)))


def _work_through(recipe: ExtractRecipe, device: str, sample: Sample) -> int:
    """Compute as many windows as a worker has on its GPU at once, beside a decoder that holds GPU
    memory too; return the memory of a whole worker."""
    ops = get_ops(device)
    if recipe.video.decoder != "cpu" and sample.largest:
        _under_way.append(_decode_window(recipe, ops, sample.largest))
    height, width = recipe.size.target(sample.height, sample.width)
    count = frames_per_window(ops.window_frames, ops.window_bytes, 3 * height * width)
    frames = np.zeros((count, height, width, 3), np.uint8)
    maker = PlaneMaker(
        replace(recipe, warp=replace(recipe.warp, boxes="")), ops, "", (height, width)
    )
    begun = [maker.begin(frames, count) for _ in range(WINDOWS_BEGUN)]
    if recipe.flows > 1:  # while they are there, the flow without the camera's motion is computed
        again = maker.solver.prepare(begun[0].gray)
        ops.to_host(maker.solver.solve(again[:-1], again[1:]))
    took = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return took + REST_BYTES + WINDOWS_HELD * frames.nbytes


_under_way: list[Any] = []
"""Decoders that stay open until this process ends, so that their GPU memory can be measured."""


def _decode_window(recipe: ExtractRecipe, ops: Ops, path: str) -> Any:
    """Decode and resize a window of a video, and return its decoder, which holds memory."""
    reader = open_video(path, recipe.video, surfaces=ops.surfaces)
    windows = reader.windows(ops.window_frames, DECODED_BYTES)
    with contextlib.suppress(DecodeError):  # its worker will say what is wrong with it
        for frames in islice(windows, 1):
            ops.resize(frames.data, *recipe.size.target(*frames.data.shape[1:3]))
    return reader, windows


def _pair_s(recipe: ExtractRecipe, ops: Ops, height: int, width: int) -> float:
    """Seconds for the flow of one pair: smooth texture moving by two pixels. On the CPU, of CPU
    time; on a GPU by the clock, of some pairs together and after what only the first call costs.
    """
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (1, height // 8 + 3, width // 8 + 3, 3), np.uint8)
    image = ops.to_host(ops.gray(ops.resize(coarse, height + 2, width + 2)))[0]
    pairs = min(MOST_TIMED, ops.pairs_at_once(height, width))
    gray = np.stack([image[:-2, :-2], image[1:-1, 2:]] * pairs)
    solver = make_solver(recipe.flow, ops)

    def solve() -> None:
        first, second = solver.prepare(gray[::2]), solver.prepare(gray[1::2])
        ops.to_host(solver.solve(first, second))

    if not on_gpu(recipe, ops):
        clock = time.process_time
    else:
        clock = time.perf_counter
        solve()
    began = clock()
    solve()
    return (clock() - began) / pairs
