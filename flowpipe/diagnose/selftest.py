"""Operations of a device -> checks that compare their results with the CPU's.

The tests of flowpipe run the CUDA kernels on an emulator; this module runs them on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets import demo
from flowpipe.errors import BackendError
from flowpipe.flow import make_solver
from flowpipe.flow.opencv_cuda import OpenCVCudaTVL1Params
from flowpipe.flow.tvl1 import VARIANTS, TVL1Params, TVL1Solver
from flowpipe.ops import Keypoints, Ops, get_ops
from flowpipe.surfaces import RgbConversion, Surfaces

CLIP, FRAMES, APART = "shear_02", 9, 3  # every third frame of a demo clip, for more motion
SIZE = 256, 340
BOUND = 20.0
BEYOND_A_LEVEL, ROUNDINGS = 1e-3, 4
"""Largest share of stored bytes that may differ by more than one level from the CPU's, and the
largest factor over the share that rounding alone causes. The larger limit counts. Rounding is
measured on the CPU on the same frames, with and without fused multiply-add. It changes the
iteration in which a warp ends, and the effect depends on the frames: 0 to 22 % of the bytes of 25
clips (benchmarks/rounding.py). On the frames of the self test it is 0.002 % (``opencv2``) to
0.078 % (``opencv4``); other roundings reach 0.097 %. An epsilon that is a fifth too large, a
missing warp or a missing level gives 0.39 to 0.96 %."""
LEAK_ROUNDS = 20
FEW_ITERATIONS = 8
RULES = {variant.rule: name for name, variant in VARIANTS.items()}
"""Variant by its rule of making pyramid levels."""
OPENCV_PX = 0.02
"""Largest mean endpoint difference between our ``opencv4`` and OpenCV's CUDA code, pixels. Both
have the same formulas and the same stopping rule, so only rounding differs, which can change the
iteration in which a warp ends. On the CPU, on these frames: without fused multiply-add 0.004 px; an
epsilon wrong by a fifth 0.016 to 0.019 px; one warp too few 0.026 px; the other variants 0.07 to
0.10 px. The difference between cv2.cuda and the kernels on a GPU has not been measured yet."""


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str
    passed: bool | None
    """None if the check was not run because something outside the device is missing."""
    found: str
    """Result with figures, or why the check was not run."""


def checks(
    ops: Ops, size: tuple[int, int] | None = None, only: Collection[str] = ()
) -> Iterator[Check]:
    """Run the checks of a device against the CPU; an operation that raises fails its check.

    Parameters
    ----------
    ops : Ops
        Operations of the device.
    size : (height, width), optional
        Size of the images, pixels; default: `SIZE`, for which the limits are set.
    only : collection of str
        Names in `CHECKS` of the checks to run; default: all.
    """
    cpu = get_ops()
    moving = demo.clean_frames(CLIP, numbers=range(0, APART * FRAMES, APART))
    frames = cpu.resize(np.stack(list(moving)), *(size or SIZE))
    for name, attempt in CHECKS.items():
        if only and name not in only:
            continue
        try:
            yield attempt(ops, cpu, frames)
        except Exception as error:  # whatever a driver or a kernel raises
            yield Check(name, False, f"{type(error).__name__}: {error}")


def _exact(name: str, ours: NDArray[Any], meant: NDArray[Any]) -> Check:
    wrong = int(np.count_nonzero(ours != meant)) if ours.shape == meant.shape else meant.size
    return Check(name, wrong == 0, f"{wrong} of {meant.size} values differ from the CPU's")


def _resize(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    return _exact("resize", ops.resize(frames, 120, 161), cpu.resize(frames, 120, 161))


def _surfaces(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    """Compare surfaces of NVDEC, 8 and 10 bits in all orientations, with the NumPy reference."""
    name, (height, width) = "resize of surfaces", (61, 91)
    if ops.surfaces is None:
        return Check(name, None, "no decoder leaves its pictures on this device")
    rng, found = np.random.default_rng(6), list[list[NDArray[np.uint8]]]([[], []])

    def taps(side: int, one: int) -> NDArray[np.int32]:
        near, weight = np.arange(side) // 2, rng.integers(0, one + 1, side)
        far = np.minimum(near + 1, side // 2)
        return np.stack([near, far, one - weight, weight], axis=1).astype(np.int32)

    columns, rows = taps(width, 1 << 14), taps(height, 1 << 12)
    gains = np.array([8192, 9539, 13074, -6660, -3209, 16525], np.int32)
    for bits, turns in product((8, 10), range(4)):
        conversion = RgbConversion(
            height=height,
            width=width,
            bits=bits,
            colour=gains,
            columns=columns,
            rows=rows,
            quarter_turns=turns,
            mirrored=turns % 2 == 1,
        )
        size = (height + (height + 1) // 2) * (width + 1) * (1 if bits == 8 else 2)
        picture = rng.integers(0, 256, size, np.uint8)
        for backend, images in zip((ops, get_ops("reference")), found, strict=True):
            surfaces = Surfaces((backend.to_device(picture),), conversion)
            images.append(backend.resize(surfaces, *conversion.upright).ravel())
    return _exact(name, *map(np.concatenate, found))


def _gray(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    return _exact("gray", ops.to_host(ops.gray(ops.to_device(frames))), cpu.gray(frames))


def _difference(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    return _exact("difference", _join(ops, ops.difference(frames)),
                  _join(cpu, cpu.difference(frames)))  # fmt: skip


def _quantise(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    shape = 3, 2, *frames.shape[1:3]
    flow = np.random.default_rng(1).normal(0, 12, shape).astype(np.float32)
    flow[0, 0, 0, :4] = np.nan, np.inf, -np.inf, BOUND
    return _exact("quantise", _join(ops, ops.quantise(flow, BOUND)),
                  _join(cpu, cpu.quantise(flow, BOUND)))  # fmt: skip


def _warp_homography(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    homography = np.eye(3) + np.random.default_rng(2).normal(0, 1, (FRAMES, 3, 3)) * [
        [0.02, 0.02, 4], [0.02, 0.02, 4], [1e-4, 1e-4, 0],
    ]  # fmt: skip
    gray = cpu.gray(frames)
    ours = ops.to_host(ops.warp_homography(ops.to_device(gray), homography, gray))
    return _exact("warp_homography", ours, cpu.warp_homography(gray, homography, gray))


def _near(name: str, ours: Any, meant: Any, most: float, unit: str) -> Check:
    """Compare floats that may differ by rounding, at most by `most`."""
    apart = float(np.max([np.abs(a - b).max() for a, b in zip(ours, meant, strict=True)]))
    found = f"at most {apart:.2g} {unit} from the CPU's (limit {most:g})"
    return Check(name, apart <= most, found)  # False for NaN


def _pyramid(ops: Ops, cpu: Ops, frames: NDArray[np.uint8], rule: str) -> Check:
    params, gray = TVL1Params(variant=cast(Any, RULES[rule])), cpu.gray(frames)
    ours, meant = (
        [backend.to_host(level) for level in TVL1Solver(params, backend).prepare(gray).levels]
        for backend in (ops, cpu)
    )
    return _near(f"pyramid {rule}", ours, meant, 1e-3, "gray levels")


def _upsample(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    flow = np.random.default_rng(3).normal(0, 3, (3, 2, 64, 85)).astype(np.float32)
    ours, meant = (
        [backend.to_host(backend.upsample(flow, 127, 170, 2.0, rule)) for rule in RULES]
        for backend in (ops, cpu)
    )
    return _near("upsample", ours, meant, 1e-4, "px")


def _take(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    rng = np.random.default_rng(4)
    flow = rng.normal(0, 3, (3, 2, *frames.shape[1:3])).astype(np.float32)
    places = rng.integers(0, flow.size, 1000)
    return _exact("take", ops.take(flow, places), cpu.take(flow, places))


FEATURES_APART, POSITION_PX = 0.01, 0.01
"""Largest share of features that may differ from the CPU's, and the step in pixels to which
positions are rounded before comparison. The kernels compute in the order of OpenCV on CPUs with
fused multiply-add and find the same features. On a CPU without it, 0.15 % of the keypoints differ
(benchmarks/camera_devices.py)."""


def _scene(cpu: Ops) -> NDArray[np.uint8]:
    """Return gray frames (2, H, W) with many features, at any size of the test."""
    blobs = np.random.default_rng(5).integers(0, 256, (2, 48, 60, 3), dtype=np.uint8)
    return cpu.gray(cpu.resize(blobs, 144, 180))


def _alike(name: str, ours: list[Any], meant: list[Any]) -> Check:
    """Compare lists of arrays by the share of rows that have no equal in the other list."""
    apart = most = 0
    for a, b in zip(ours, meant, strict=True):
        both = {row.tobytes() for row in a} & {row.tobytes() for row in b}
        apart += len(a) + len(b) - 2 * len(both)
        most += len(a) + len(b)
    share = apart / most if most else 1.0
    found = f"{100 * share:.2f} % of {most // 2} differ from the CPU's (at most "
    return Check(name, share <= FEATURES_APART, f"{found}{100 * FEATURES_APART:g} %)")


def _corners(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    gray, how = _scene(cpu), (400, 0.01, 3.0)
    ours = ops.features.corners(ops.to_device(gray), *how)
    return _alike("corners", ours, cpu.features.corners(gray, *how))


def _level_ranges(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    gray = cpu.gray(frames)
    places = np.random.default_rng(7).integers(0, gray[0].size, (300, 9))
    ours = ops.features.level_ranges(ops.to_device(gray), places)
    return _exact("level ranges", ours, cpu.features.level_ranges(gray, places))


def _keypoints(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    gray = _scene(cpu)

    def rows(backend: Ops) -> list[Any]:
        found = backend.features.akaze(backend.to_device(gray))
        places = [np.rint(k.points / POSITION_PX).astype(np.int64) for k in found]
        bits = [k.descriptors.view(np.int64) for k in found]
        return list(map(np.hstack, zip(places, bits, strict=True)))

    return _alike("keypoints", rows(ops), rows(cpu))


def _matches(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    rng = np.random.default_rng(6)
    first, second = (
        Keypoints(
            rng.uniform(0, 200, (count, 2)).astype(np.float32),
            rng.integers(0, 2**63, (count, 8), dtype=np.uint64),
        )
        for count in (300, 280)
    )
    pairs = [(first, second), (second, first)]
    ours, meant = (
        np.concatenate(backend.features.match_keypoints(pairs, 25.0)) for backend in (ops, cpu)
    )
    return _exact("keypoint matches", ours, meant)


def _warps(ops: Ops, cpu: Ops, frames: NDArray[np.uint8], variant: Any) -> Check:
    """Compare every field of the state after one warp and a few iterations."""
    model, gray = TVL1Params(variant=variant, epsilon=0.0).model, cpu.gray(frames)
    images = gray.astype(np.float32)
    size = frames.shape[1:3]
    flow = np.full((FRAMES - 1, 2, *size), 0.3, np.float32)

    def fields(backend: Ops) -> list[Any]:
        memory = backend.tvl1_memory(FRAMES - 1, *size)
        state = backend.tvl1_start(images[:-1], images[1:], flow, model, memory)
        backend.to_host(backend.tvl1_warps(state, 1, FEW_ITERATIONS))
        return [state.field(name) for name in ("a", "b", "c", "u", "v", "p11", "p12", "p21", "p22")]

    name = f"tvl1_warps {variant}"
    return _near(name, fields(ops), fields(cpu), 2e-3, "px or gray levels")


def _tvl1(ops: Ops, cpu: Ops, frames: NDArray[np.uint8], variant: Any) -> Check:
    params = TVL1Params(variant=variant)
    ours, meant = (_flow(backend, frames, params) for backend in (ops, cpu))
    beyond = _beyond_a_level(cpu, ours, meant)
    plain = _flow(get_ops("cpu", "baseline"), frames, params)
    most = max(BEYOND_A_LEVEL, ROUNDINGS * _beyond_a_level(cpu, plain, meant))
    found = (
        f"{100 * beyond:.4f} % of the bytes are more than a level from the CPU's (at most "
        f"{100 * most:.4f} %), mean difference {np.abs(ours - meant).mean():.5f} px"
    )
    sound = bool(np.isfinite(ours).all()) and beyond <= most
    return Check(f"tvl1 {variant}", sound, found)


def _beyond_a_level(cpu: Ops, ours: NDArray[np.float32], meant: NDArray[np.float32]) -> float:
    """Return the share of stored bytes of two flows that differ by more than one level."""
    levels, wanted = (cpu.quantise(flow, BOUND)[0].astype(int) for flow in (ours, meant))
    return float((np.abs(levels - wanted) > 1).mean())


OPENCV_CHECK = "tvl1 opencv4 against OpenCV's own CUDA code"


def _opencv(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    try:
        peer = make_solver(OpenCVCudaTVL1Params(), cpu)
    except BackendError as error:
        return Check(OPENCV_CHECK, None, str(error))
    gray = peer.prepare(cpu.gray(frames))
    ours = _flow(ops, frames, TVL1Params(variant="opencv4", strict_stop=True))
    off = np.hypot(*np.moveaxis(ours - peer.solve(gray[:-1], gray[1:]), 1, 0))
    apart = float(off.mean(dtype=np.float64))
    found = f"mean endpoint difference {apart:.4f} px (at most {OPENCV_PX} px)"
    return Check(OPENCV_CHECK, apart <= OPENCV_PX, found)


def _twice(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    first, second = (_flow(ops, frames, TVL1Params()) for _ in range(2))
    wrong = int(np.count_nonzero(first != second))
    return Check("same bytes twice", wrong == 0, f"{wrong} of {first.size} values differ")


def _compare_batch_sizes(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    together = _flow(ops, frames, TVL1Params())
    alone = np.concatenate(
        [_flow(ops, frames[k : k + 2], TVL1Params()) for k in range(len(frames) - 1)]
    )
    wrong = int(np.count_nonzero(together != alone))
    name = "same bytes alone and in a batch"
    return Check(name, wrong == 0, f"{wrong} of {alone.size} values differ")


def _memory(ops: Ops, cpu: Ops, frames: NDArray[np.uint8]) -> Check:
    """Check that allocated memory does not grow after the first rounds."""
    held = []
    for _ in range(LEAK_ROUNDS):
        _flow(ops, frames, TVL1Params(warps=1, iterations=8))
        held.append(ops.allocated_bytes())
    grown = held[-1] - held[LEAK_ROUNDS // 2]
    found = f"{held[-1] / 1e6:.1f} MB held, {grown} bytes more after {LEAK_ROUNDS} rounds than half"
    return Check("memory", grown <= 0, found)


def _flow(ops: Ops, frames: NDArray[np.uint8], params: TVL1Params) -> NDArray[np.float32]:
    solver = TVL1Solver(params, ops)
    prepared = solver.prepare(ops.gray(ops.to_device(frames)))
    return ops.to_host(solver.solve(prepared[:-1], prepared[1:]))


def _join(ops: Ops, planes: tuple[Any, Any]) -> NDArray[Any]:
    return np.concatenate([ops.to_host(part).astype(np.int64).ravel() for part in planes])


CHECKS: dict[str, Callable[[Ops, Ops, NDArray[np.uint8]], Check]] = {
    "resize": _resize,
    "resize of surfaces": _surfaces,
    "gray": _gray,
    "difference": _difference,
    "quantise": _quantise,
    "warp_homography": _warp_homography,
    **{f"pyramid {rule}": partial(_pyramid, rule=rule) for rule in RULES},
    "upsample": _upsample,
    "take": _take,
    "corners": _corners,
    "level ranges": _level_ranges,
    "keypoints": _keypoints,
    "keypoint matches": _matches,
    **{f"tvl1_warps {variant}": partial(_warps, variant=variant) for variant in VARIANTS},
    **{f"tvl1 {variant}": partial(_tvl1, variant=variant) for variant in VARIANTS},
    OPENCV_CHECK: _opencv,
    "same bytes twice": _twice,
    "same bytes alone and in a batch": _compare_batch_sizes,
    "memory": _memory,
}
"""Checks by name: functions of the device's operations, the CPU's, and uint8 (N, H, W, 3)."""
