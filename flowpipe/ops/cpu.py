"""Operations on one CPU core: the compiled core (kernels/cpu), and OpenCV for resizing.

The core is one library beside the package. Without it (no compiler when flowpipe was installed)
everything but TV-L1 works. Calls release the GIL, keep no state and may run in any number of
threads.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.distribution import install_command
from flowpipe.errors import BackendError
from flowpipe.ops.checks import check_flow, check_frames, check_gray, check_warp
from flowpipe.ops.cpu_features import CpuFeatures
from flowpipe.ops.feature_protocol import FeatureOps
from flowpipe.ops.host import HostOps
from flowpipe.ops.reference import ReferenceOps
from flowpipe.ops.tables import FIELDS, SAMPLINGS
from flowpipe.ops.tvl1_protocol import TVL1Model
from flowpipe.words import unknown_name

F32 = NDArray[np.float32]
LIBRARY = Path(__file__).resolve().parent.parent / "_core.so"
ABI = 5  # as in kernels/cpu/core.cpp; raised whenever a signature below changes

_P, _L, _F, _D, _I = (
    ctypes.c_void_p, ctypes.c_long, ctypes.c_float, ctypes.c_double, ctypes.c_int,
)  # fmt: skip
SIGNATURES = {  # count and sizes, then arrays, as kernels/cpu/operations.h declares them
    "difference": (None, (_L, _L, _P, _P, _P)),
    "quantise": (None, (_L, _L, _P, _D, _P, _P)),
    "warp_homography": (None, (_L, _L, _L, _P, _P, _P, _L, _P)),
    "match_bits": (None, (_L, _L, _L, _F, _P, _P, _P, _P, _P, _P, _P)),
    "select_corners": (_L, (_L, _L, _P, _P, _L, _D, _P)),
    "homographies": (_L, (_L, _L, _L, _P, _F, _P, _P)),
    "akaze_keypoints": (_L, (_L, _L, _P, _P, _P, _F, _P)),
    "akaze_bits": (None, (_L, _L, _P, _P, _P, _P, _P)),
    "pyramid_down": (None, (_L, _L, _L, _P, _P)),
    "bilinear": (None, (_L, _L, _L, _P, _L, _L, _D, _D, _I, _F, _P)),
    "padded_floats": (_L, (_L, _L)),
    "centered_gradient": (None, (_L, _L, _L, _P, _I, _P)),
    "tvl1_floats": (_L, (_L, _L)),
    "tvl1_start": (None, (_L, _L, _L, _P, _P)),
    "tvl1_warp": (None, (_L, _L, _L, _P, _P, _I, _P, _I, _I, _I, _D, _F, _F, _F, _P, _P)),
    "tvl1_iterate": (None, (_L, _L, _L, _P, _I, _I, _I, _D, _F, _F, _F, _P, _P)),
    "tvl1_fill": (None, (_L, _L, _L, _P, _I, _P)),
    "tvl1_copy": (None, (_L, _L, _L, _P, _I, _L, _P)),
}


CACHE_LINE = 16  # floats; a state begins at a cache line


@dataclass(frozen=True, kw_only=True)
class NativeCore:
    """Compiled core, or the reason why there is none."""

    path: str
    compiled: tuple[str, ...] = ()
    """Instruction sets in the library, slowest first."""
    usable: tuple[str, ...] = ()
    """Compiled instruction sets that this CPU has, slowest first."""
    compiler: str = ""
    reason: str = ""
    """Why the core cannot be used, and what to do; empty if it can."""
    library: Any = None

    @property
    def available(self) -> bool:
        """True if TV-L1 can run here."""
        return not self.reason

    @property
    def chosen(self) -> str:
        """Default instruction set: ``FLOWPIPE_ISA``, else the best of this CPU."""
        return os.environ.get("FLOWPIPE_ISA") or (self.usable[-1] if self.usable else "")


@functools.cache
def native_core(path: str = str(LIBRARY)) -> NativeCore:
    """Open the compiled core and return what it has; never raises.

    Parameters
    ----------
    path : str
        File of the compiled library.

    Returns
    -------
    NativeCore
        The core, or the reason why there is none.
    """
    advice = f"install a C++ compiler (g++ or clang++), then {install_command()}"
    if not Path(path).exists():
        return NativeCore(path=path, reason=f"no compiled core at {path}: {advice}")
    try:
        library = ctypes.CDLL(path)
        library.flowpipe_isas.restype = library.flowpipe_compiler.restype = ctypes.c_char_p
        abi = library.flowpipe_abi()
    except (OSError, AttributeError) as error:
        return NativeCore(
            path=path, reason=f"the core at {path} cannot be loaded ({error}): {advice}"
        )
    if abi != ABI:
        found = f"the core at {path} has interface {abi}, this flowpipe needs {ABI}"
        return NativeCore(path=path, reason=f"{found}: {install_command()}")
    compiled = tuple(library.flowpipe_isas().decode().split())
    usable = tuple(isa for isa in compiled if library.flowpipe_supports(isa.encode()))
    compiler = library.flowpipe_compiler().decode()
    return NativeCore(
        path=path, compiled=compiled, usable=usable, compiler=compiler, library=library
    )


class CpuState:
    """Fields of N pairs at one scale; kernels/cpu/layout.h shows the memory layout.

    Parameters
    ----------
    ops : CpuOps
        Operations that use the state.
    first : float32 (N, H, W)
        First images.
    floats : float32 (N, floats)
        Fields of each pair.
    padded : float32 (N, floats)
        Second image of each pair, padded.
    model : TVL1Model
        Constants of the scale.
    """

    def __init__(self, ops: CpuOps, first: F32, floats: F32, padded: F32, model: TVL1Model) -> None:
        self.first, self.floats, self.padded, self.model = first, floats, padded, model
        self._ops = ops

    def field(self, name: str) -> F32:
        result = np.empty(self.first.shape, np.float32)
        self._ops.copy_field(self, name, result[:, None])
        return result

    def pair(self, k: int) -> CpuState:
        """Return the state of pair k, which shares its memory."""
        one = slice(k, k + 1)
        return CpuState(self._ops, self.first[one], self.floats[one], self.padded[one], self.model)


class CpuOps(HostOps):
    """The operations of `flowpipe.ops.Ops` on one CPU core.

    Parameters
    ----------
    isa : {"baseline", "avx2", "avx512"}, optional
        Instruction set; by default ``FLOWPIPE_ISA``, else the best of this CPU.
    core : NativeCore, optional
        Compiled core; by default the installed one.

    Raises
    ------
    BackendError
        If the instruction set is unknown, not compiled in, or not in this CPU.
    """

    def __init__(self, isa: str | None = None, core: NativeCore | None = None) -> None:
        self.core = core or native_core()
        self.isa = isa or self.core.chosen
        if self.core.available and self.isa not in self.core.usable:
            if self.isa not in self.core.compiled:
                known = self.core.usable
                raise BackendError(unknown_name("instruction set", self.isa, known))
            raise BackendError(
                f"this {platform.machine()} CPU has no {self.isa}; it runs "
                f"{', '.join(self.core.usable)}; choose one of these, or unset FLOWPIPE_ISA"
            )
        self.name = f"cpu-{self.isa}" if self.core.available else "cpu-opencv"
        self._functions = self._bind() if self.core.available else {}
        self._slow = ReferenceOps()
        self.features: FeatureOps = self._slow.features
        if self.core.available:
            self.features = CpuFeatures(self.name, self.call)

    def pairs_at_once(self, height: int, width: int) -> int:
        return 1  # its fields fill the second-level cache

    def resize(self, frames: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        check_frames(frames)
        if frames.shape[1:3] == (height, width):
            return np.ascontiguousarray(frames)
        result = np.empty((len(frames), height, width, 3), np.uint8)
        for out, frame in zip(result, frames, strict=True):
            cv2.resize(frame, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
        return result

    def gray(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        check_frames(frames)
        result = np.empty(frames.shape[:3], np.uint8)
        for out, frame in zip(result, frames, strict=True):
            cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY, dst=out)
        return result

    def difference(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        check_frames(frames)
        if not self._functions or len(frames) < 2:
            return self._slow.difference(frames)
        frames = np.ascontiguousarray(frames)
        n, height, width = len(frames) - 1, *frames.shape[1:3]
        planes, clipped = np.empty((n, 3, height, width), np.uint8), np.empty(n, np.uint32)
        self.call("difference", n, height * width, frames, planes, clipped)
        return planes, clipped

    def quantise(
        self, flow: NDArray[np.float32], bound: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
        check_flow(flow, bound)
        if not self._functions:
            return self._slow.quantise(flow, bound)
        flow = np.ascontiguousarray(flow)
        levels, clipped = np.empty(flow.shape, np.uint8), np.empty(len(flow), np.uint32)
        self.call("quantise", len(flow), flow[:1].size, flow, bound, levels, clipped)
        return levels, clipped

    def warp_homography(
        self,
        gray: NDArray[np.uint8],
        homography: NDArray[np.float64],
        fill: NDArray[np.uint8],
        margin: int = 5,
    ) -> NDArray[np.uint8]:
        check_warp(gray, homography, fill, margin)
        if not self._functions:
            return self._slow.warp_homography(gray, homography, fill, margin)
        gray, fill = np.ascontiguousarray(gray), np.ascontiguousarray(fill)
        homography, result = np.ascontiguousarray(homography), np.empty_like(gray)
        self.call("warp_homography", *gray.shape, gray, homography, fill, margin, result)
        return result

    def pyramid(
        self, gray: NDArray[np.uint8], sizes: Sequence[tuple[int, int]], rule: str, step: float
    ) -> tuple[F32, ...]:
        check_gray(gray)
        levels = [gray.astype(np.float32, order="C")]
        for size in sizes[1:]:
            image = levels[-1]
            level = np.empty((len(gray), *size), np.float32)
            if rule == "pyrdown":
                self.call("pyramid_down", *image.shape, image, level)
            else:
                steps, centred = (1 / step, 1 / step), rule == "centred"
                self.call("bilinear", *image.shape, image, *size, *steps, centred, 1.0, level)
            levels.append(level)
        return tuple(levels)

    def upsample(self, flow: F32, height: int, width: int, factor: float, rule: str) -> F32:
        n, planes, h, w = flow.shape
        result = np.empty((n, planes, height, width), np.float32)
        steps, centred = (h / height, w / width), rule == "centred"
        self.call(
            "bilinear", n * planes, h, w, flow, height, width, *steps, centred, factor, result
        )
        return result

    def empty(self, *shape: int) -> F32:
        return np.empty(shape, np.float32)

    def batch_launches(self) -> AbstractContextManager[None]:
        return nullcontext()

    def tvl1_memory(self, n: int, height: int, width: int) -> F32:
        floats = self.call("tvl1_floats", height, width)
        floats += self.call("padded_floats", height, width)
        raw = np.empty(n * floats + CACHE_LINE, np.float32)
        return raw[-raw.ctypes.data % (4 * CACHE_LINE) // 4 :]

    def tvl1_start(
        self, first: F32, second: F32, flow: F32 | None, model: TVL1Model, memory: F32
    ) -> CpuState:
        n, *size = first.shape
        floats, padded = self.call("tvl1_floats", *size), self.call("padded_floats", *size)
        state = CpuState(
            self,
            first,
            memory[: n * floats].reshape(n, floats),
            memory[n * floats : n * (floats + padded)].reshape(n, padded),
            model,
        )
        zero_outside = model.sampling != "catmull_rom"
        self.call("centered_gradient", *first.shape, second, zero_outside, state.padded)
        self.call("tvl1_start", *first.shape, flow, state.floats)
        return state

    def tvl1_warps(self, state: CpuState, warps: int, n: int) -> NDArray[np.int32]:
        done = np.zeros(len(state.first), np.int32)
        for _ in range(warps):
            done += self._warp(state, n)
        return done

    def _warp(self, state: CpuState, n: int) -> NDArray[np.int32]:
        """Run one warp of every pair, with its iterations; return their number, int32 (N,)."""
        sampling = SAMPLINGS.index(state.model.sampling)
        warp = (state.first, state.padded, sampling)
        if state.model.median == 1:
            return self._iterate("tvl1_warp", state, n, *warp)[0]
        self._iterate("tvl1_warp", state, 0, *warp)
        return np.concatenate(
            [self._iterate_with_median(state.pair(k), n) for k in range(len(state.first))]
        )

    def tvl1_flow(self, state: CpuState, out: F32) -> F32:
        self.copy_field(state, "u", out[:, :1])
        self.copy_field(state, "v", out[:, 1:])
        return out

    def copy_field(self, state: CpuState, name: str, out: F32) -> None:
        """Copy a field of each pair into f32 (N, 1, H, W); each image must be contiguous."""
        apart = out.strides[0] // out.itemsize
        field = FIELDS.index(name)
        self.call("tvl1_copy", *state.first.shape, state.floats, field, apart, out.ctypes.data)

    def _iterate(
        self, name: str, state: CpuState, n: int, *warp: Any
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Run the iterations of each pair; return their number int32 (N,), and the sum of squared
        change at the last convergence check float64 (N,)."""
        m, pairs = state.model, len(state.first)
        done, change = np.empty(pairs, np.int32), np.empty(pairs)
        self.call(
            name, *state.first.shape, *warp, state.floats, n, m.block, m.spaced,
            m.enough(state.first[0].size),
            m.tau, m.tau / m.theta, m.lambda_ * m.theta, done, change,
        )  # fmt: skip
        return done, change

    def _iterate_with_median(self, state: CpuState, n: int) -> NDArray[np.int32]:
        """Run the iterations of one pair, with a median filter every `median_every`."""
        m, done = state.model, np.zeros(1, np.int32)
        while done[0] < n:
            for name in "uv":
                image = cv2.medianBlur(state.field(name)[0], m.median)
                self.call("tvl1_fill", *state.first.shape, state.floats, FIELDS.index(name), image)
            some, change = self._iterate("tvl1_iterate", state, min(m.median_every, n - done[0]))
            done += some
            if change[0] <= m.enough(state.first.size):
                break
        return done

    def _bind(self) -> dict[str, Any]:
        functions = {}
        for name, (result, arguments) in SIGNATURES.items():
            function = self.core.library[f"{name}_{self.isa}"]
            function.restype, function.argtypes = result, arguments
            functions[name] = function
        return functions

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of `SIGNATURES`; BackendError without a core."""
        if not self._functions:
            raise BackendError(
                f"flow tvl1 needs the compiled core: {self.core.reason}; or choose another flow, "
                "such as opencv_tvl1"
            )
        return self._functions[name](*map(_pointer, arguments))


def _pointer(argument: Any) -> Any:
    """Return the address of an array, or the argument itself; ValueError unless C-contiguous."""
    if not isinstance(argument, np.ndarray):
        return argument
    if not argument.flags.c_contiguous:
        raise ValueError(f"wanted a C-contiguous array, got {argument.shape} {argument.strides}")
    return argument.ctypes.data
