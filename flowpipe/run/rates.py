"""Recipe + this machine -> Rates: what a frame will cost here, from one measured pair."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import numpy as np

from flowpipe.errors import BackendError
from flowpipe.extract_recipe import ExtractRecipe
from flowpipe.flow import FLOWS, make_solver
from flowpipe.modality import MODALITIES
from flowpipe.ops import Ops, get_ops
from flowpipe.run.plan import Rates, Sample

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
REST_S_PER_PIXEL = 1.5e-3 / (340 * 256)
"""benchmarks/extract.py: decoding, resizing, encoding and writing, all modalities."""
CAMERA_S_PER_PIXEL = 6.5e-3 / (340 * 256)
"""benchmarks/camera.py"""


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
    frame_s = pixels * REST_S_PER_PIXEL
    if flows:
        # Timed on a small frame: the cost grows as the pixels do, and a plan should not take long.
        shrink = min(1.0, (TIMED_PIXELS / pixels) ** 0.5)
        timed = max(1, round(height * shrink)), max(1, round(width * shrink))
        frame_s += flows * _pair_s(recipe, ops, *timed) * pixels / (timed[0] * timed[1])
    if flows > 1:
        frame_s += pixels * CAMERA_S_PER_PIXEL
    frame_bytes = sum(
        pixels * BYTES_PER_PIXEL.get((name, codec.name), LOSSLESS_BYTES_PER_PIXEL)
        for name, codec in recipe.codecs.items()
    )
    return Rates(frame_s, frame_bytes)


def measure_apart(recipe: ExtractRecipe, device: str, sample: Sample) -> Rates:
    """The same in a process of its own, whose end gives the GPU and its memory back.

    Kept in this process, which lives as long as the run, they would be taken from the workers; of a
    GPU in exclusive mode there would be none left.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        try:
            return process.submit(measure, recipe, device, sample).result()
        except BrokenProcessPool as error:
            raise BackendError(f"the process that tried device {device} died: {error}") from error


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

    if ops.on_cpu and not FLOWS[recipe.flow.name].own_gpu:
        clock = time.process_time
    else:
        clock = time.perf_counter
        solve()
    began = clock()
    solve()
    return (clock() - began) / pairs
