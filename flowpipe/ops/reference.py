"""Operations in plain NumPy: the definition that the fast backends are tested against.

Everything is float32 and written to be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops.checks import check_flow, check_frames, check_gray, check_warp
from flowpipe.ops.host import HostOps
from flowpipe.ops.reference_features import ReferenceFeatures
from flowpipe.ops.reference_surfaces import rgb_of
from flowpipe.ops.tables import BORDER_PX, FIELDS
from flowpipe.ops.tvl1_protocol import TVL1Model
from flowpipe.surfaces import Surfaces

F32 = NDArray[np.float32]
FLT_EPSILON = np.float32(1.1920929e-7)


class ReferenceState:
    """Fields of N pairs at one scale, one f32 (N, H, W) array each.

    Parameters
    ----------
    first, second : float32 (N, H, W)
        Images.
    flow : float32 (N, 2, H, W) or None
        Flow to begin with, pixels; None for zero.
    model : TVL1Model
        Constants of the scale.
    """

    def __init__(self, first: F32, second: F32, flow: F32 | None, model: TVL1Model) -> None:
        self.first, self.model = first, model
        self.padded = _pad_with_gradient(second, model.sampling)
        self.fields = {name: np.zeros(first.shape, np.float32) for name in FIELDS}
        if flow is not None:
            self.fields["u"][:], self.fields["v"][:] = flow[:, 0], flow[:, 1]

    def field(self, name: str) -> F32:
        return self.fields[name].copy()


class ReferenceOps(HostOps):
    """The operations of `flowpipe.ops.Ops` in NumPy."""

    name = "reference"
    features = ReferenceFeatures()

    def pairs_at_once(self, height: int, width: int) -> int:
        return 8

    def resize(self, frames: Any, height: int, width: int) -> NDArray[np.uint8]:
        if isinstance(frames, Surfaces):
            frames = rgb_of(frames)
        check_frames(frames)
        rows, row_weight = _centred_taps(frames.shape[1], height)
        columns, column_weight = _centred_taps(frames.shape[2], width)
        row_weight, column_weight = row_weight[:, None, None], column_weight[:, None]
        result = np.empty((len(frames), height, width, 3), np.uint8)
        for out, frame in zip(result, frames.astype(np.float64), strict=True):
            tall = frame[rows[0]] * (1 - row_weight) + frame[rows[1]] * row_weight
            wide = tall[:, columns[0]] * (1 - column_weight) + tall[:, columns[1]] * column_weight
            out[:] = np.floor(wide + 0.5)
        return result

    def gray(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        check_frames(frames)
        r, g, b = np.moveaxis(frames.astype(np.int32), -1, 0)
        gray: NDArray[np.int32] = (9798 * r + 19235 * g + 3735 * b + (1 << 14)) >> 15
        return gray.astype(np.uint8)

    def difference(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        check_frames(frames)
        change = np.diff(frames.astype(np.int16), axis=0) + 128
        clipped = ((change < 0) | (change > 255)).sum(axis=(1, 2, 3), dtype=np.uint32)
        planes = np.clip(change, 0, 255).astype(np.uint8).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(planes), clipped

    def quantise(
        self, flow: NDArray[np.float32], bound: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        check_flow(flow, bound)
        v = flow.astype(np.float64)
        inside = np.abs(v) <= bound  # False for NaN
        v = np.where(np.isnan(v), 0.0, np.clip(v, -bound, bound))
        levels = np.rint((v + bound) * 255 / (2 * bound)).astype(np.uint8)
        return levels, (~inside).sum(axis=(1, 2, 3), dtype=np.uint32)

    def warp_homography(
        self,
        gray: NDArray[np.uint8],
        homography: NDArray[np.float64],
        fill: NDArray[np.uint8],
        margin: int = 5,
    ) -> NDArray[np.uint8]:
        check_warp(gray, homography, fill, margin)
        height, width = gray.shape[1:]
        y, x = np.mgrid[:height, :width].astype(np.float64)
        result = fill.copy()
        for out, image, h in zip(result, gray.astype(np.int32), homography, strict=True):
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                scale = 32 / (x * h[2, 0] + y * h[2, 1] + h[2, 2])
                sx = (x * h[0, 0] + y * h[0, 1] + h[0, 2]) * scale
                sy = (x * h[1, 0] + y * h[1, 1] + h[1, 2]) * scale
            far = float(1 << 30)
            sx = np.rint(np.where(np.abs(sx) < far, sx, -far)).astype(np.int64)
            sy = np.rint(np.where(np.abs(sy) < far, sy, -far)).astype(np.int64)
            inside = (sx >> 5 > margin) & (sx >> 5 < width - 1 - margin)
            inside &= (sy >> 5 > margin) & (sy >> 5 < height - 1 - margin)
            sx, sy = sx[inside], sy[inside]
            ix, iy, fx, fy = sx >> 5, sy >> 5, sx & 31, sy & 31
            upper = image[iy, ix] * (32 - fx) + image[iy, ix + 1] * fx
            lower = image[iy + 1, ix] * (32 - fx) + image[iy + 1, ix + 1] * fx
            out[inside] = (upper * (32 - fy) + lower * fy + 512) >> 10
        return result

    def pyramid(
        self, gray: NDArray[np.uint8], sizes: Sequence[tuple[int, int]], rule: str, step: float
    ) -> tuple[F32, ...]:
        check_gray(gray)
        levels = [gray.astype(np.float32)]
        for size in sizes[1:]:
            if rule == "pyrdown":
                levels.append(_halve(levels[-1]))
            else:
                levels.append(_bilinear(levels[-1], size, (1 / step, 1 / step), rule))
        return tuple(levels)

    def upsample(self, flow: F32, height: int, width: int, factor: float, rule: str) -> F32:
        h, w = flow.shape[-2:]
        return np.float32(factor) * _bilinear(flow, (height, width), (h / height, w / width), rule)

    def empty(self, *shape: int) -> F32:
        return np.empty(shape, np.float32)

    def batch_launches(self) -> AbstractContextManager[None]:
        return nullcontext()

    def tvl1_memory(self, n: int, height: int, width: int) -> None:
        return None

    def tvl1_start(
        self, first: F32, second: F32, flow: F32 | None, model: TVL1Model, memory: None
    ) -> ReferenceState:
        return ReferenceState(first, second, flow, model)

    def tvl1_warps(self, state: ReferenceState, warps: int, n: int) -> NDArray[np.int32]:
        done = np.zeros(len(state.first), np.int32)
        for k in range(len(done)):
            fields = {name: values[k] for name, values in state.fields.items()}
            for _ in range(warps):
                _warp_linearise(fields, state.first[k], state.padded[k], state.model.sampling)
                done[k] += _iterate(fields, n, state.model)
        return done

    def tvl1_flow(self, state: ReferenceState, out: F32) -> F32:
        out[:, 0], out[:, 1] = state.fields["u"], state.fields["v"]
        return out


def _warp_linearise(f: dict[str, F32], first: F32, padded: F32, sampling: str) -> None:
    u, v = f["u"], f["v"]
    i1w, a, b = _bicubic(padded, u, v, sampling)
    f["a"][:], f["b"][:] = a, b
    f["c"][:] = i1w - a * u - b * v - first
    f["g"][:] = -1 / np.maximum(a * a + b * b, FLT_EPSILON)


def _iterate(f: dict[str, F32], n: int, model: TVL1Model) -> int:
    """Iterate until convergence, at most n times; return the number of iterations."""
    enough = model.enough(f["u"].size)
    # OpenCV's CUDA code assumes that the change falls by `enough` per iteration, and checks again
    # only when it should be below that.
    expected, converged = 0.0, False
    for done in range(n):
        if model.median > 1 and done % model.median_every == 0:
            for name in "uv":
                f[name][:] = _median(f[name], model.median)
        change = _primal_dual_step(f, model)
        checks = not model.spaced or (done % 2 == 1 and expected < enough)
        expected = change if checks else expected - enough
        converged |= checks and change <= enough
        if converged and (done + 1) % model.block == 0:
            return done + 1
    return n


def _primal_dual_step(f: dict[str, F32], model: TVL1Model) -> float:
    """Run one iteration (Zach, Pock, Bischof 2007, eqs. 13, 15); return its squared change."""
    tau, taut = np.float32(model.tau), np.float32(model.tau / model.theta)
    lt = np.float32(model.lambda_ * model.theta)

    rho = f["a"] * f["u"] + f["b"] * f["v"] + f["c"]
    step = np.clip(rho * f["g"], -lt, lt)  # eq. 15, its three cases in one
    du = step * f["a"] + _divergence(f["p11"], f["p12"])
    dv = step * f["b"] + _divergence(f["p21"], f["p22"])
    f["u"] += du
    f["v"] += dv

    for component, p, q in (("u", "p11", "p12"), ("v", "p21", "p22")):
        gx, gy = _forward_gradient(f[component])
        shrink = 1 / (1 + taut * np.sqrt(gx * gx + gy * gy))
        f[p][:] = (f[p] + tau * gx) * shrink
        f[q][:] = (f[q] + tau * gy) * shrink
    return float(np.sum(np.square(du, dtype=np.float64) + np.square(dv, dtype=np.float64)))


def _divergence(p: F32, q: F32) -> F32:
    result = p + q
    result[:, 1:] -= p[:, :-1]
    result[1:] -= q[:-1]
    return result


def _forward_gradient(u: F32) -> tuple[F32, F32]:
    gx, gy = np.zeros_like(u), np.zeros_like(u)
    gx[:, :-1] = u[:, 1:] - u[:, :-1]
    gy[:-1] = u[1:] - u[:-1]
    return gx, gy


def _pad_with_gradient(image: F32, sampling: str) -> F32:
    """Return I, Ix, Iy of images (N, H, W) with a border B: f32 (N, 3, H + 2 B, W + 2 B)."""
    near = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    ix = np.float32(0.5) * (near[:, 1:-1, 2:] - near[:, 1:-1, :-2])
    iy = np.float32(0.5) * (near[:, 2:, 1:-1] - near[:, :-2, 1:-1])
    border = ((0, 0), (0, 0), (BORDER_PX, BORDER_PX), (BORDER_PX, BORDER_PX))
    planes = np.stack([image, ix, iy], axis=1)
    return np.pad(planes, border, mode="edge" if sampling == "catmull_rom" else "constant")


def _bicubic(padded: F32, u: F32, v: F32, sampling: str) -> F32:
    """Sample one padded image (3, H + 2 B, W + 2 B) at (x + u, y + v), bicubic: (3, H, W)."""
    height, width = u.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    # Two pixels outside all four taps read the border's value: no border needs to be wider.
    x, y = np.clip(x + u, -2, width + 1), np.clip(y + v, -2, height + 1)
    curvature = np.float32(-0.5 if sampling == "catmull_rom" else -0.75)
    if sampling == "thirtyseconds":
        x, y = np.rint(x * 32) / 32, np.rint(y * 32) / 32
    ix, iy = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    wx = _cubic_weights(x - ix.astype(np.float32), curvature)
    wy = _cubic_weights(y - iy.astype(np.float32), curvature)
    result = np.zeros((3, height, width), np.float32)
    for j in range(4):
        for i in range(4):
            taps = padded[:, iy + (BORDER_PX - 1 + j), ix + (BORDER_PX - 1 + i)]
            result += (wy[j] * wx[i]) * taps
    return result


def _cubic_weights(t: F32, a: np.float32) -> list[F32]:
    """Return the weights of the taps at -1, 0, 1, 2 for a point t in [0, 1) past tap 0.

    Keys (1981); a = -1/2 is Catmull and Rom's spline.
    """
    return [
        a * t * (1 - t) ** 2,
        ((a + 2) * t - (a + 3)) * t * t + 1,
        ((a + 2) * (1 - t) - (a + 3)) * (1 - t) ** 2 + 1,
        a * (1 - t) * t * t,
    ]


def _median(image: F32, window: int) -> F32:
    """Filter an image (H, W) by the median of a square window, border pixels replicated."""
    near = np.pad(image, window // 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(near, (window, window))
    median: F32 = np.median(windows, axis=(2, 3))
    return median


def _halve(image: F32) -> F32:
    """Halve images (N, H, W) to (n + 1) // 2 with 1-4-6-4-1 windows at every second pixel."""
    for axis in (1, 2):
        n = image.shape[axis]
        window = np.array([1, 4, 6, 4, 1], np.float32) / 16
        centres = 2 * np.arange((n + 1) // 2)
        taps = [image.take(_mirror(centres + d, n), axis) for d in range(-2, 3)]
        image = np.einsum("k,k...->...", window, np.stack(taps))
    return image


def _mirror(index: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Mirror indices at the border pixels: -1 -> 1, n -> n - 2."""
    period = max(2 * n - 2, 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index) if n > 1 else np.zeros_like(index)


def _bilinear(image: F32, size: tuple[int, int], steps: tuple[float, float], rule: str) -> F32:
    """Sample (..., h, w), reads clamped, at index * step as cv::cuda::resize does, or ``centred``
    at (index + 1/2) * step - 1/2 as cv::resize does."""
    for axis, n, step in ((-2, size[0], steps[0]), (-1, size[1], steps[1])):
        at = np.arange(n, dtype=np.float32) * np.float32(step)
        last = image.shape[axis] - 1
        if rule == "centred":
            at = np.clip((np.arange(n) + 0.5) * step - 0.5, 0, last).astype(np.float32)
        index = np.floor(at).astype(np.intp)
        weight = at - index.astype(np.float32)
        weight = weight[:, None] if axis == -2 else weight
        near = image.take(np.minimum(index, last), axis)
        image = near + weight * (image.take(np.minimum(index + 1, last), axis) - near)
    return image


def _centred_taps(source: int, target: int) -> tuple[tuple[Any, Any], NDArray[np.float64]]:
    at = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    index = np.floor(at).astype(np.intp)
    return (index, np.minimum(index + 1, source - 1)), at - index
