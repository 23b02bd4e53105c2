"""Measurements on a GPU beyond flowpipe's commands: its limits, kernels, single operations.

    python benchmarks/gpu/gpu_probes.py solve [--pairs 64] [--size 340x256] [--scales 5]

solves TV-L1 on made-up pairs, for profilers, and prints the seconds of the first and second call.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from folders import Folders, Verdict, last_line, run, say

PAIRS, SIZE = 64, (256, 340)
"""Pairs per call, rows and columns of the profiled work."""
TINY_PAIRS, TINY_SIZE = 2, (24, 32)
APART_PX = 0.01
"""Largest mean endpoint difference between the devices' flows of Middlebury's pairs."""
DEVICE_EVENTS = {"kernel", "gpu_memcpy", "gpu_memset"}
"""Categories of GPU work in torch.profiler's trace."""

MULTIPLY_ADD = r"""
extern "C" __global__ void multiply_add(float* out, int rounds) {
  float b = 1.0f + 1e-7f * threadIdx.x, c = 1e-9f * blockIdx.x, sums[16], total = 0;
  for (int k = 0; k < 16; ++k) sums[k] = b + k;
  for (int i = 0; i < rounds; ++i) {
    #pragma unroll
    for (int k = 0; k < 16; ++k) sums[k] = fmaf(sums[k], b, c);
  }
  for (int k = 0; k < 16; ++k) total += sums[k];
  out[blockIdx.x * blockDim.x + threadIdx.x] = total;
}
"""


def ceilings(folders: Folders) -> Verdict:
    """Measure the limits of the GPU's memory, arithmetic, bus and launches; torch and CuPy."""
    figures: dict[str, float] = {}
    failed = []
    for measure in (_measure_with_torch, _measure_with_cupy):
        try:
            figures |= measure(folders.rehearse)
        except Exception as error:  # the other one still counts
            say(f"{measure.__name__}: {type(error).__name__}: {error}")
            failed.append(f"{measure.__name__[6:]} failed: {last_line(str(error))}")
    for name, value in figures.items():
        say(f"{name:24} {value:.4g}")
    words = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    return Verdict(not failed, "; ".join([words, *failed]), figures)


def _measure_with_torch(rehearse: bool) -> dict[str, float]:
    import torch

    device = torch.device("cpu" if rehearse else "cuda")
    torch.set_float32_matmul_precision("highest")

    def seconds(work: Callable[[], Any]) -> float:
        taken = []
        for _ in range(8):
            began = time.perf_counter()
            work()
            if not rehearse:
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken[1:])

    source = torch.rand(1 << (16 if rehearse else 28), device=device)
    target = torch.empty_like(source)
    copy_s = seconds(lambda: target.copy_(source))
    side = 256 if rehearse else 8192
    matrix = torch.rand(side, side, device=device)
    product_s = seconds(lambda: torch.mm(matrix, matrix))
    host = torch.empty(source.shape[0] // 4, pin_memory=not rehearse)
    part = target[: len(host)]
    up_s = seconds(lambda: part.copy_(host, non_blocking=True))
    down_s = seconds(lambda: host.copy_(part, non_blocking=True))
    size = 4 * len(host)
    return {
        "copy_GB/s": 2 * 4 * len(source) / copy_s / 1e9,
        "fp32_matrix_TFLOP/s": 2 * side**3 / product_s / 1e12,
        "upload_GB/s": size / up_s / 1e9,
        "download_GB/s": size / down_s / 1e9,
    }


def _measure_with_cupy(rehearse: bool) -> dict[str, float]:
    if rehearse:
        return {}  # the emulated GPU has no clock
    import cupy

    kernel = cupy.RawKernel(MULTIPLY_ADD, "multiply_add")
    blocks, threads, rounds = 16 * cupy.cuda.Device().attributes["MultiProcessorCount"], 256, 4096
    out = cupy.empty(blocks * threads, cupy.float32)

    def seconds(work: Callable[[], Any]) -> float:
        taken = []
        for _ in range(8):
            begin, done = cupy.cuda.Event(), cupy.cuda.Event()
            begin.record()
            work()
            done.record()
            done.synchronize()
            taken.append(1e-3 * cupy.cuda.get_elapsed_time(begin, done))
        return statistics.median(taken[1:])

    def launch(rounds: int, blocks: int = blocks) -> None:
        kernel((blocks,), (threads,), (out, np.int32(rounds)))

    def empty() -> None:
        for _ in range(1000):
            launch(0, 1)

    def wake_s() -> float:
        """Measure the time from an empty kernel's launch to the return from a blocking event."""
        taken = []
        for _ in range(300):
            event = cupy.cuda.Event(block=True, disable_timing=True)
            began = time.perf_counter()
            launch(0, 1)
            event.record()
            event.synchronize()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    work_s = seconds(lambda: launch(rounds))
    return {
        "multiply_add_TFLOP/s": 2 * 16 * rounds * blocks * threads / work_s / 1e12,
        "launch_us": 1e6 * seconds(empty) / 1000,
        "wake_up_us": 1e6 * wake_s(),
    }


# ---- kernels


def make_solve(
    pairs: int, size: tuple[int, int], clips: list[Path] | None = None, scales: int = 5
) -> Callable[[], Any]:
    """Return a function that computes the flow of some pairs on the GPU, from bytes to bytes."""
    from flowpipe.diagnose.bench import render_pairs, video_pairs
    from flowpipe.flow import make_solver
    from flowpipe.flow.tvl1 import TVL1Params
    from flowpipe.ops import get_ops

    found = video_pairs(clips, pairs, *size) if clips else render_pairs(pairs, *size)
    ops = get_ops("cuda")
    solver = make_solver(TVL1Params(scales=scales), ops)

    def solve() -> Any:
        flow = solver.solve(solver.prepare(found.first), solver.prepare(found.second))
        return ops.to_host(ops.quantise(flow, 20.0)[0])

    return solve


def kernels(folders: Folders) -> Verdict:
    """Trace the kernels of a call with 64 pairs; time the first call with and without a cache."""
    if importlib.util.find_spec("torch") is None:
        return Verdict(None, "PyTorch is not installed, whose profiler this step uses")
    import torch
    from torch.profiler import ProfilerActivity, profile

    pairs, size = (TINY_PAIRS, TINY_SIZE) if folders.rehearse else (PAIRS, SIZE)
    first = _first_calls(folders, size)
    solve = make_solve(pairs, size, None if folders.rehearse else folders.clips())
    solve()
    activity = ProfilerActivity.CPU if folders.rehearse else ProfilerActivity.CUDA
    torch.zeros(1, device="cpu" if folders.rehearse else "cuda")  # opens the GPU for the profiler
    for _ in range(2):  # the first one pays for the start of the tracing
        with profile(activities=[activity]) as traced:
            solve()
            if folders.rehearse:
                _measure_with_torch(rehearse=True)
    path = folders.work / "trace.json"
    traced.export_chrome_trace(str(path))
    wanted = {"cpu_op"} if folders.rehearse else DEVICE_EVENTS
    figures = {"pairs": pairs, "size": [*size[::-1]], **first, **read_trace(path, wanted, pairs)}
    for row in figures["kernels"]:
        say(f"{row['name'][:60]:60} {row['launches']:6} x {row['us_a_launch']:9.2f} us, "
            f"{row['us_a_pair']:9.2f} us a pair")  # fmt: skip
    if not figures["kernels"]:
        return Verdict(False, "the profiler saw no kernel", figures)
    top = ", ".join(f"{row['name'][:24]} {row['us_a_pair']:.1f}" for row in figures["kernels"][:4])
    words = (
        f"us a pair: {top}; the GPU is idle for {figures['idle_share']:.0%} of a call of {pairs} "
        f"pairs; first call {first['first_call_s']:.1f} s, with compiled kernels on disk "
        f"{first['cached_call_s']:.1f} s"
    )
    return Verdict(True, words, figures)


def _first_calls(folders: Folders, size: tuple[int, int]) -> dict[str, float]:
    """Return the seconds of a process's first call without and with compiled kernels on disk."""
    with tempfile.TemporaryDirectory(dir=folders.work) as cache:
        taken = []
        for _ in range(2):
            command = [sys.executable, __file__, "solve", "--pairs", "1", "--size",
                       f"{size[1]}x{size[0]}"]  # fmt: skip
            done = run(command, {**os.environ, "CUPY_CACHE_DIR": cache})
            if done.returncode:
                raise RuntimeError(f"the first call failed: {last_line(done.stderr)}")
            taken.append(json.loads(done.stdout.splitlines()[-1])["first_s"])
    return {"first_call_s": taken[0], "cached_call_s": taken[1]}


def read_trace(path: Path, categories: set[str], pairs: int) -> dict[str, Any]:
    """Read a trace of torch.profiler: time by kernel, most first, and how long the GPU was idle."""
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    work = [e for e in events if e.get("ph") == "X" and e.get("cat") in categories]
    by_name: dict[str, list[float]] = {}
    for event in work:
        by_name.setdefault(event["name"], []).append(float(event["dur"]))
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "launches": len(us),
            "us_a_launch": statistics.fmean(us),
            "us_a_pair": sum(us) / pairs,
        }
        for name, us in by_name.items()
    ]
    rows.sort(key=lambda row: -row["us_a_pair"])
    busy_us = end_us = 0.0
    begin_us = min((float(e["ts"]) for e in work), default=0.0)
    for start, stop in sorted((float(e["ts"]), float(e["ts"]) + float(e["dur"])) for e in work):
        busy_us += max(0.0, stop - max(start, end_us))
        end_us = max(end_us, stop)
    span_us = max(1e-9, end_us - begin_us)
    return {
        "kernels": rows[:20],
        "launches": sum(row["launches"] for row in rows),
        "busy_us_a_pair": busy_us / pairs,
        "span_us_a_pair": span_us / pairs,
        "idle_share": 1 - busy_us / span_us,
    }


# ---- operations and flow


def operations(folders: Folders) -> Verdict:
    """Time each operation on the GPU and on a core by wall clock, transfers included."""
    from flowpipe.datasets import demo
    from flowpipe.flow import make_solver
    from flowpipe.flow.tvl1 import TVL1Params
    from flowpipe.ops import get_ops

    count, size = (3, TINY_SIZE) if folders.rehearse else (65, SIZE)
    drawn = np.stack(list(demo.clean_frames("shear_02", numbers=range(count))))
    frames = get_ops("cpu").resize(drawn, *size)
    gray = get_ops("cpu").gray(frames)
    flow = np.random.default_rng(1).normal(0, 6, (count - 1, 2, *size)).astype(np.float32)
    homography = np.repeat(np.eye(3)[None] * [[1.001], [1], [1]], count, 0)

    def on(ops: Any) -> dict[str, tuple[int, Callable[[], Any]]]:
        solver = make_solver(TVL1Params(), ops)
        up, down = ops.to_device, ops.to_host
        return {
            "resize": (count, lambda: ops.resize(drawn, *size)),
            "gray": (count, lambda: down(ops.gray(up(frames)))),
            "difference": (count - 1, lambda: down(ops.difference(frames)[0])),
            "tvl1": (
                count - 1,
                lambda: down(solver.solve(solver.prepare(gray[:-1]), solver.prepare(gray[1:]))),
            ),
            "quantise": (count - 1, lambda: down(ops.quantise(flow, 20.0)[0])),
            "warp_homography": (
                count,
                lambda: down(ops.warp_homography(up(gray), homography, gray)),
            ),
        }

    rows: dict[str, dict[str, float]] = {}
    failed = []
    for device in ("cuda", "cpu"):
        for name, (n, work) in on(get_ops(device)).items():
            try:
                rows.setdefault(name, {})[device] = 1e3 * _median_s(work, device == "cuda") / n
            except Exception as error:  # the other operations still count
                say(f"{name} on {device}: {type(error).__name__}: {error}")
                failed.append(f"{name} on {device}")
    for name, ms in rows.items():
        say(f"{name:20}" + "".join(f"{device} {value:9.4f} ms  " for device, value in ms.items()))
    words = ", ".join(
        f"{name} {ms['cuda']:.3f} ({ms['cpu'] / ms['cuda']:.0f}x)"
        for name, ms in rows.items()
        if len(ms) == 2
    )
    words = f"ms a frame on the GPU (times faster than a core): {words}"
    return Verdict(not failed, "; FAILED: ".join([words, *failed]), {"frames": count, "ms": rows})


def _median_s(work: Callable[[], Any], often: bool) -> float:
    work()
    taken = []
    for _ in range(7 if often else 2):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def middlebury(folders: Folders) -> Verdict:
    """Compare the flows of both devices on Middlebury's pairs, and each with the ground truth."""
    import cv2

    from flowpipe import optical_flow
    from flowpipe.flow.flo import read_flo
    from flowpipe.flow.tvl1 import VARIANTS

    folder = folders.data / "flow" / "middlebury" if folders.data else None
    if folder is None or not folder.is_dir():
        return Verdict(None, "Middlebury's pairs were not packed")
    variants = list(VARIANTS)[: 1 if folders.rehearse else None]
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for variant in variants:
        for scene in sorted(path for path in folder.iterdir() if path.is_dir()):
            images = [np.asarray(cv2.imread(str(scene / f"frame1{k}.png"), 0)) for k in (0, 1)]
            if folders.rehearse:
                images = [np.ascontiguousarray(image[:24, :32]) for image in images]
            first, second = images
            flows = {d: optical_flow(first, second, variant, device=d) for d in ("cuda", "cpu")}
            row = {"apart_px": _mean_px(flows["cuda"] - flows["cpu"])}
            truths = [
                scene / "flow10.flo",
                *(folders.work / "truth").glob(f"**/{scene.name}/flow10.flo"),
            ]
            truth = next((path for path in truths if path.is_file()), None)
            if truth and not folders.rehearse:
                true = read_flo(truth)
                known = (np.abs(true) < 1e9).all(2)
                row |= {f"{d}_px": _mean_px((flow - true)[known]) for d, flow in flows.items()}
            figures.setdefault(variant, {})[scene.name] = row
            say(f"{variant:12} {scene.name:12} {row}")
    rows = [row for scenes in figures.values() for row in scenes.values()]
    worst = max(row["apart_px"] for row in rows)
    words = (
        f"at most {worst:.5f} px between GPU and CPU, in the mean over a pair (wanted {APART_PX})"
    )
    for variant, scenes in figures.items():
        errors = [row for row in scenes.values() if "cuda_px" in row]
        if errors:
            mean = {d: statistics.fmean(row[f"{d}_px"] for row in errors) for d in ("cuda", "cpu")}
            words += (
                f"; {variant} {mean['cuda']:.4f} px from the truth, on the CPU {mean['cpu']:.4f}"
            )
    return Verdict(worst <= APART_PX, words, figures)


def _mean_px(off: np.ndarray) -> float:
    return float(np.hypot(off[..., 0], off[..., 1]).mean(dtype=np.float64))


def main() -> None:
    """Solve for a profiler; print the seconds of two calls as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["solve"])
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--size", default=f"{SIZE[1]}x{SIZE[0]}")
    parser.add_argument("--scales", type=int, default=5)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    solve = make_solve(options.pairs, (height, width), scales=options.scales)
    began = time.perf_counter()
    solve()
    first_s = time.perf_counter() - began
    began = time.perf_counter()
    solve()
    print(json.dumps({"first_s": first_s, "second_s": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
