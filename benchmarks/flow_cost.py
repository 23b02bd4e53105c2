"""One clip -> tables: cost of a pair by size, iterations and processes, and its memory.

    python benchmarks/flow_cost.py [--clips FOLDER] [--repeat 3] [--all]

Size
    CPU time of one pinned thread, fastest pass, for the same pair of a real clip at every size.
    OpenCV's DualTVL1 gets one pass from 1280x720 on, and beyond that only with ``--all``. The
    motion grows with the image: larger images also take more iterations.
Iterations
    The same at 340x256 with epsilon 0, so that every warp runs all its iterations: nanoseconds per
    iteration and pixel of all levels; and nanoseconds that an iteration adds to the row above,
    which leave out the fixed cost of a warp.
Processes
    Pairs per second by the wall clock of two processes, each pinned to its own core and started
    together at a barrier, over those of one process alone on the faster of the two cores. Other
    load on a core lowers the figure.
Memory
    A new process with a worker's environment solves pairs of 340x256, one after the other or, as a
    worker does, in windows of frames that share their pyramids and are quantised at the end. It
    loads all libraries and the frames, makes the solver, and resets the peak of its resident memory
    (``/proc/self/clear_refs``). The figure is the peak at the end minus the memory at the reset. A
    window holds the pyramids and flows of all its frames.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.diagnose.bench import Pairs, time_passes, use_one_core, video_pairs
from flowpipe.flow import make_solver
from flowpipe.flow.opencv import DISParams, OpenCVTVL1Params
from flowpipe.flow.tvl1 import TVL1Params
from flowpipe.ops import get_ops
from flowpipe.run.cluster.settings import SETTINGS

SHARED = Path(os.environ.get("FLOWPIPE_SHARED_DATA", "../shared/data"))
SIZES = ((160, 120), (340, 256), (640, 480), (1280, 720), (1920, 1080), (3840, 2160))
CV2_ONCE = CV2_LARGEST = 1280 * 720  # pixels
ITERATIONS = (1, 3, 10, 30, 100, 300)
OWN = {variant: TVL1Params(variant=variant) for variant in ("opencv2", "opencv4")}
PEERS = {"cv2 DualTVL1": OpenCVTVL1Params(median_filtering=1), "cv2 DIS": DISParams()}
BAR_PROCESSES, BAR_MEMORY_MB = 1.9, 64

Images = NDArray[np.uint8]


def work(params: Any, first: Images, second: Images) -> Callable[[], Any]:
    """Return a function that computes the flow of these pairs."""
    solver = make_solver(params, get_ops())
    return lambda: solver.solve(solver.prepare(first), solver.prepare(second))


def cpu_ms(params: Any, pairs: Pairs, repeat: int) -> float:
    """Return the CPU milliseconds per pair of the fastest pass."""
    return (
        1000
        * min(time_passes(work(params, pairs.first, pairs.second), repeat)[0])
        / len(pairs.first)
    )


def print_by_size(clip: Path, repeat: int, everything: bool) -> None:
    print("\nSize: CPU ms per pair, and ns per pixel")
    print(f"{'':12}{''.join(f'{name:>23}' for name in (*OWN, *PEERS))}")
    for width, height in SIZES:
        pixels = width * height
        pair = video_pairs([clip], 1, height, width)
        print(f"{width}x{height:<{11 - len(str(width))}}", end="")
        for params in (*OWN.values(), *PEERS.values()):
            slow = isinstance(params, OpenCVTVL1Params)
            if slow and pixels > CV2_LARGEST and not everything:
                print(f"{'--all':>23}", end="")
                continue
            ms = cpu_ms(params, pair, 1 if slow and pixels >= CV2_ONCE else repeat)
            print(f"{ms:13.2f}{1e6 * ms / pixels:10.0f}", end="", flush=True)
        print()


def print_by_iterations(clip: Path, repeat: int) -> None:
    width, height = 340, 256
    pairs = video_pairs([clip], 2, height, width)
    print(f"\nIterations a warp, {width}x{height}, epsilon 0: CPU ms per pair; "
          "ns per pixel and iteration, all and added")  # fmt: skip
    print(f"{'':12}{''.join(f'{name:>31}' for name in OWN)}")
    before: dict[str, tuple[float, float]] = {}
    for count in ITERATIONS:
        print(f"{count:<12}", end="")
        for name, params in OWN.items():
            ms = cpu_ms(replace(params, epsilon=0, iterations=count), pairs, repeat)
            steps = count * params.warps * sum(h * w for h, w in params.sizes(height, width))
            added = "-"
            if name in before:
                added = f"{1e6 * (ms - before[name][0]) / (steps - before[name][1]):.3f}"
            before[name] = ms, steps
            print(f"{ms:13.2f}{1e6 * ms / steps:9.3f}{added:>9}", end="", flush=True)
        print()


def print_by_processes(clip: Path, repeat: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    print("\nProcesses: pairs per second of 340x256 by the wall clock")
    if len(cores) < 2:
        print(f"not run: it needs two cores, and this process may use core {cores[0]} only")
        return
    pairs = video_pairs([clip], 4, 256, 340)
    for name, params in OWN.items():
        alone, together = [], []
        for _ in range(repeat):
            alone += [rate(params, pairs, [core]) for core in cores[-2:]]
            together.append(rate(params, pairs, cores[-2:]))
        one, two = max(alone), max(together)
        over = "" if two / one >= BAR_PROCESSES else " under"
        print(f"{name:12} one {one:7.1f}, two {two:7.1f}: {two / one:.2f} times, "
              f"bar {BAR_PROCESSES}{over}", flush=True)  # fmt: skip


def rate(params: Any, pairs: Pairs, cores: list[int]) -> float:
    """Return the total pairs per second of one process on each of the cores."""
    spawn = multiprocessing.get_context("spawn")
    barrier, rates = spawn.Barrier(len(cores)), spawn.SimpleQueue()
    processes = [
        spawn.Process(target=solve_on, args=(core, params, pairs, barrier, rates)) for core in cores
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a process of the table ended with code {process.exitcode}")
    return sum(rates.get() for _ in cores)


def solve_on(core: int, params: Any, pairs: Pairs, barrier: Any, rates: Any) -> None:
    """Solve for about two seconds in a process of its own; all processes start together."""
    os.sched_setaffinity(0, {core})
    solve = work(params, pairs.first, pairs.second)
    solve()
    began = time.perf_counter()
    solve()
    count = max(1, round(2 / (time.perf_counter() - began)))
    barrier.wait()
    began = time.perf_counter()
    for _ in range(count):
        solve()
    rates.put(count * len(pairs.first) / (time.perf_counter() - began))


def memory(clip: Path) -> None:
    print("\nMemory: MB at the peak over the same process before the first pair, 340x256")
    pairs = video_pairs([clip], 8, 256, 340)
    environment = {**os.environ, **SETTINGS["distributed.nanny.pre-spawn-environ"]}
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "frames.npy"
        np.save(frames, np.stack([pairs.first, pairs.second]))
        for name in OWN:
            for how in HOW:
                found = subprocess.run(
                    [sys.executable, __file__, "--inside", name, how, frames],
                    check=True, stdout=subprocess.PIPE, text=True, env=environment,
                ).stdout  # fmt: skip
                before, peak = map(float, found.split())
                over = " over" if peak - before > BAR_MEMORY_MB else ""
                print(f"{name:12}{how:10}{peak - before:7.1f} (of {peak:.0f}), "
                      f"bar {BAR_MEMORY_MB}{over}", flush=True)  # fmt: skip


def pair_by_pair(solver: Any, first: Images, second: Images) -> None:
    for _ in range(20):
        for k in range(len(first)):
            solver.solve(solver.prepare(first[k : k + 1]), solver.prepare(second[k : k + 1]))


def print_by_window(solver: Any, first: Images, second: Images) -> None:
    frames = get_ops().window_frames
    window = np.concatenate([first, second] * frames)[: frames + 1]
    for _ in range(5):
        solve_window(solver, window)


def solve_window(solver: Any, window: Images) -> None:
    prepared = solver.prepare(window)
    get_ops().quantise(solver.solve(prepared[:-1], prepared[1:]), 20)


HOW = {"one by one": pair_by_pair, "windows": print_by_window}


def inside(variant: str, how: str, frames: str) -> None:
    """Run the measured process; print its memory before and its peak, MB."""
    first, second = np.load(frames)
    solver = make_solver(OWN[variant], get_ops())
    Path("/proc/self/clear_refs").write_text("5")
    before = status_mb("VmRSS")
    HOW[how](solver, first, second)
    print(before, status_mb("VmHWM"))


def status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name))) / 1024


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, default=SHARED / "clips" / "ucf101",
                        help="folder; its first clip is measured")  # fmt: skip
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--all", action="store_true", help="OpenCV's DualTVL1 at every size")
    parser.add_argument("--inside", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(*options.inside)
        return
    clip = min(options.clips.rglob("*.avi"), default=None)
    if clip is None:
        raise SystemExit(f"no .avi below {options.clips}; name a folder of clips with --clips")
    with use_one_core() as where:
        print(f"{clip.name}; OpenCV {cv2.__version__}, ours on {get_ops().name}; {where}")
        print_by_size(clip, options.repeat, options.all)
        print_by_iterations(clip, options.repeat)
    print_by_processes(clip, options.repeat)
    memory(clip)


if __name__ == "__main__":
    main()
