"""Recipe + this machine -> Rates: costs of a frame, from one measured pair."""

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
from flowpipe.run.planning.costs import Rates
from flowpipe.run.planning.sample import HeaderSample
from flowpipe.video import open_video

TIMED_PIXELS = 340 * 256
"""Largest size at which flow is timed, pixels."""
MOST_TIMED = 16
"""Largest number of pairs that are timed together."""
LOSSLESS_BYTES_PER_PIXEL = 1.2
"""Stored bytes per pixel with another codec than the default one of the modality."""
DECODE_S_PER_PIXEL = 0.45e-3 / (340 * 256)
"""CPU seconds of decoding and resizing, from benchmarks/extract.py."""
ENCODE_S_PER_PIXEL = 0.3e-3 / (340 * 256)
"""CPU seconds of encoding and writing one modality, from benchmarks/extract.py."""
COMPUTE_S_PER_PIXEL = 0.35e-3 / (340 * 256)
"""CPU seconds of gray images, pyramids or copies to a GPU, differences and quantisation, from
benchmarks/extract.py."""
AUDIO_S_PER_S = 0.015
"""CPU seconds of decoding a second of sound and computing its images, on one core."""
ASSUMED_FPS = 25.0
"""Frame rate that tells how much sound belongs to a frame, for estimates."""
REST_BYTES = 128 << 20
"""Memory of a worker without its flow and windows of frames, from benchmarks/memory.py."""
WINDOWS_HELD = 12
"""Largest number of windows that a worker with a GPU holds, with copies and encoded images."""
CAMERA_S_PER_PIXEL = 2.2e-3 / (340 * 256)
"""CPU seconds of camera motion, from benchmarks/camera.py, see docs/camera.md."""
FIT_S_PER_PIXEL = 0.5e-3 / (340 * 256)
"""CPU seconds of homographies and copies if a GPU finds the features, see docs/camera.md."""


def measure(recipe: ExtractRecipe, device: str, sample: HeaderSample) -> Rates:
    """Time the recipe's flow on a synthetic pair and add the known costs of the other stages.

    Parameters
    ----------
    recipe : ExtractRecipe
        What is stored.
    device : str
        Device that computes.
    sample : HeaderSample
        Source of the frame size if the recipe keeps the video's size or aspect ratio.

    Returns
    -------
    Rates
        Costs of a frame.

    Raises
    ------
    BackendError
        If the device is not usable.
    """
    ops = get_ops(device)
    height, width = recipe.size.target(sample.height, sample.width)
    pixels = height * width
    flows = recipe.flows
    stages_s = {
        "decode": pixels * DECODE_S_PER_PIXEL,
        "compute": pixels * COMPUTE_S_PER_PIXEL,
        "encode": pixels * ENCODE_S_PER_PIXEL * (len(recipe.modalities) - len(recipe.sounds)),
    }
    frame_s = 1 / (recipe.video.fps or ASSUMED_FPS)
    if recipe.sounds:
        stages_s["sound"] = AUDIO_S_PER_S * frame_s
    flow_s = 0.0
    if flows:
        # Timed on a small frame, for speed: the cost is proportional to the number of pixels.
        shrink = min(1.0, (TIMED_PIXELS / pixels) ** 0.5)
        timed = max(1, round(height * shrink)), max(1, round(width * shrink))
        flow_s = flows * _pair_s(recipe, ops, *timed) * pixels / (timed[0] * timed[1])
    if flows > 1:
        features_on_gpu = not ops.on_cpu and recipe.warp.detector == "akaze"
        stages_s["camera"] = pixels * (FIT_S_PER_PIXEL if features_on_gpu else CAMERA_S_PER_PIXEL)
    frame_bytes = 0.0
    for name, codec in recipe.codecs.items():
        row, stored = MODALITIES[name], float(pixels)
        if row.from_sound and recipe.audio is not None:
            stored = recipe.audio.mels * recipe.audio.steps * frame_s / recipe.audio.stride_s
        is_default = codec.name == row.codec
        frame_bytes += stored * (row.bytes_per_pixel if is_default else LOSSLESS_BYTES_PER_PIXEL)
    gpu_s = 0.0
    if on_gpu(recipe, ops):
        gpu_s = flow_s
    else:
        stages_s["compute"] += flow_s
    return Rates(
        frame_s=sum(stages_s.values()), frame_bytes=frame_bytes, gpu_s=gpu_s, stages_s=stages_s
    )


def on_gpu(recipe: ExtractRecipe, ops: Ops) -> bool:
    """Return whether the flow of a recipe is computed on a GPU.

    Parameters
    ----------
    recipe : ExtractRecipe
        What is stored.
    ops : Ops
        Operations of the device.

    Returns
    -------
    bool
        True for a GPU.
    """
    row = FLOWS[recipe.flow.name]
    return row.own_gpu or (not ops.on_cpu and row.ran_on(ops).endswith(ops.name))


def measure_apart(
    recipe: ExtractRecipe, device: str, sample: HeaderSample, *, memory: bool = False
) -> Rates:
    """Run `measure` in a process of its own and, with `memory`, measure the memory of a worker.

    The end of the process frees the GPU and its memory. This process lives as long as the run and
    would keep them from the workers; a GPU in exclusive mode would be unusable for them.

    Parameters
    ----------
    recipe : ExtractRecipe
        See `measure`.
    device : str
        See `measure`.
    sample : HeaderSample
        See `measure`.
    memory : bool
        True to also measure `Rates.worker_bytes` and `Rates.gpu_workers`.

    Returns
    -------
    Rates
        Costs of a frame.

    Raises
    ------
    BackendError
        If the device is not usable, or the process dies.
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
                    f"the process that measured device {device} died: {error}"
                ) from error
            try:
                free_beside = beside.submit(gpu_memory).result()
            except (BackendError, BrokenProcessPool):  # the GPU allows one process at a time
                return rates
        free = beside.submit(gpu_memory).result()
    return replace(rates, gpu_workers=max(1, free // max(1, free - free_beside)))


def _work_through(recipe: ExtractRecipe, device: str, sample: HeaderSample) -> int:
    """Compute as many windows as a worker has on its GPU at once, and return a worker's memory.

    A decoder stays open meanwhile, since it holds GPU memory too.
    """
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
    if recipe.flows > 1:  # warped flow is computed while all windows are in memory
        again = maker.solver.prepare(begun[0].flow_frames)
        ops.to_host(maker.solver.solve(again[:-1], again[1:]))
    took = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return took + REST_BYTES + WINDOWS_HELD * frames.nbytes


_under_way: list[Any] = []
"""Decoders that stay open until this process ends, so that their GPU memory can be measured."""


def _decode_window(recipe: ExtractRecipe, ops: Ops, path: str) -> Any:
    """Decode and resize a window of a video, and return its decoder, which holds GPU memory."""
    reader = open_video(path, recipe.video, surfaces=ops.surfaces)
    windows = reader.windows(ops.window_frames, DECODED_BYTES)
    with contextlib.suppress(DecodeError):  # the video's worker will report it
        for frames in islice(windows, 1):
            ops.resize(frames.data, *recipe.size.target(*frames.data.shape[1:3]))
    return reader, windows


def _pair_s(recipe: ExtractRecipe, ops: Ops, height: int, width: int) -> float:
    """Return the seconds that the flow of one pair takes: smooth texture that moves by two pixels.

    CPU time is measured on the CPU. On a GPU, wall time of several pairs is measured, after a
    warm-up call.
    """
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (1, height // 8 + 3, width // 8 + 3, 3), np.uint8)
    coloured = ops.resize(coarse, height + 2, width + 2)
    takes_colour = FLOWS[recipe.flow.name].takes_colour
    image = ops.to_host(coloured if takes_colour else ops.gray(coloured))[0]
    pairs = min(MOST_TIMED, ops.pairs_at_once(height, width))
    frames = np.stack([image[:-2, :-2], image[1:-1, 2:]] * pairs)
    solver = make_solver(recipe.flow, ops)

    def solve() -> None:
        first, second = solver.prepare(frames[::2]), solver.prepare(frames[1::2])
        ops.to_host(solver.solve(first, second))

    if not on_gpu(recipe, ops):
        clock = time.process_time
    else:
        clock = time.perf_counter
        solve()
    began = clock()
    solve()
    return (clock() - began) / pairs
