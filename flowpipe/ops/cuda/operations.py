"""Operations on one NVIDIA GPU: kernels/cuda through CuPy.

Only bytes are uploaded and downloaded; float images and flow stay on the device. Every host thread
has its own CUDA stream, so uploads, kernels and downloads overlap. Threads belong to one video;
their streams and memory are reused by the threads of the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import RLock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import DeviceMemoryError
from flowpipe.ops.checks import check_flow, check_frames, check_gray, check_warp
from flowpipe.ops.cpu import CpuOps
from flowpipe.ops.cuda.devices import usable_cupy
from flowpipe.ops.cuda.errors import translate_errors, translate_opening_errors
from flowpipe.ops.cuda.features import CudaFeatures, DeviceFunctions
from flowpipe.ops.cuda.kernels import Kernels
from flowpipe.ops.cuda.schedule import (
    Arena,
    ArenaLayout,
    CudaState,
    Iterations,
    LevelSchedule,
    Workspace,
)
from flowpipe.ops.cuda.settings import Settings, window_bytes
from flowpipe.ops.cuda.streams import CudaStream, SharedArray, ThreadLocalPool
from flowpipe.ops.tvl1_protocol import TVL1Model
from flowpipe.ops.waits import WaitTimes
from flowpipe.surfaces import Surfaces

T = TypeVar("T")

MOST_PAIRS = 64  # per call; more would not be faster
FP32_LANES = {"60": 64, "70": 64, "72": 64, "75": 64, "80": 64}
"""FP32 units per multiprocessor by compute capability; 128 in all others since 5.0."""
MEMORY_SHARE = 0.6  # of free memory; the rest is for pyramids, flow and other processes


class CudaOps:
    """The operations of `flowpipe.ops.Ops` on the first GPU that this process sees.

    Attributes
    ----------
    kernels : Kernels
        Kernels of this process.
    features : CudaFeatures
        Corners, keypoints and homographies on this GPU.
    waits : WaitTimes
        Time in which threads waited for the GPU.
    cupy : module
        CuPy, which makes every call of CUDA.

    Raises
    ------
    BackendError
        If there is no CuPy or no usable GPU. The context, a stream, host and device memory and a
        kernel are tried at once, so that no video meets the fault.
    """

    on_cpu = False
    window_frames = MOST_PAIRS

    def __init__(self) -> None:
        self.cupy = cupy = usable_cupy()
        with translate_opening_errors(cupy):
            properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        major, minor = properties["major"], properties["minor"]
        self.name = f"cuda-sm_{major}{minor}"
        self.kernels = Kernels(cupy)
        self._schedule = LevelSchedule(
            cupy,
            self.kernels,
            cache_bytes=int(properties["l2CacheSize"]),
            multiprocessors=int(properties["multiProcessorCount"]),
            settings=Settings.from_environment(),
        )
        self.waits = WaitTimes()
        self._streams = ThreadLocalPool(lambda: CudaStream(cupy, self.waits))
        self._workspaces = ThreadLocalPool(Workspace)
        self._feature_lock = RLock()
        device = DeviceFunctions(
            kernels=self.kernels,
            activate=self._activate,
            upload=self._upload,
            empty=self._empty,
            zeros=self._zeros,
            feature_lock=self._feature_lock,
        )
        self.features = CudaFeatures(self.name, device, CpuOps().features)
        with translate_opening_errors(cupy), self._activate() as stream:
            self.window_bytes = window_bytes(cupy.cuda.runtime.memGetInfo()[0])
            out = self._empty((1,), np.float32)
            self.kernels.over_values("widen", 1, 1, self._upload(np.zeros(1, np.uint8)), out, 1)
            np.asarray(stream.download(out))

    @property
    def settings(self) -> Settings:
        """Settings of TV-L1's schedule; they may be replaced between calls."""
        return self._schedule.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._schedule.settings = settings

    def pairs_together(self, height: int, width: int) -> int:
        """Return the number of pairs of a size that run concurrently."""
        return self._schedule.pairs_together(height, width)

    # ---- between host and device

    def to_device(self, frames: Any) -> Any:
        """Copy a host array to the device, for the operations of this thread."""
        with self._activate():
            return self._upload(frames)

    def to_host(self, array: Any) -> NDArray[Any]:
        """Copy a device array of this thread, or a shared one, to the host."""
        if isinstance(array, self.cupy.ndarray):
            with self._activate() as stream:
                array = stream.download(array)
        return np.asarray(array)

    def share(self, array: Any) -> Any:
        """Return a device array of this thread as one that any thread may use."""
        if not isinstance(array, self.cupy.ndarray):
            return array
        with self._activate():
            return SharedArray(self._streams, array)

    @property
    def surfaces(self) -> CudaOps:
        return self

    def copy_planes(self, planes: Sequence[tuple[int, int]]) -> Any:
        with self._activate() as stream:
            kept = self._empty((sum(size for _, size in planes),), np.uint8)
            stream.copy(planes, kept)
        return kept

    def fetch_planes(self, planes: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
        with self._activate() as stream:
            return np.asarray(stream.fetch(planes))

    def wait_for_copies(self) -> None:
        with self._activate() as stream:
            stream.wait_for_copies()

    # ---- bytes

    def resize(self, frames: Any, height: int, width: int) -> NDArray[np.uint8]:
        if isinstance(frames, Surfaces):
            return self._resize_surfaces(frames, height, width)
        check_frames(frames)
        if frames.shape[1:3] == (height, width):
            return np.ascontiguousarray(frames)
        n, h, w, _ = frames.shape
        with self._activate() as stream:
            source, out = self._upload(frames), self._empty((n, height, width, 3), np.uint8)
            self.kernels.over_images("resize", n, height, width, source, h, w, out, height, width)
            return np.asarray(stream.download(out))

    def _resize_surfaces(self, surfaces: Surfaces, height: int, width: int) -> NDArray[np.uint8]:
        c = surfaces.conversion
        with self._activate() as stream:
            tables = [self._upload(table) for table in (c.colour, c.columns, c.rows)]
            out = self._empty((len(surfaces), height, width, 3), np.uint8)
            for i, picture in enumerate(surfaces.pictures):
                self.kernels.over_images(
                    "resize_surface", 1, height, width, picture, c.bits, c.height, c.width, *tables,
                    c.quarter_turns, c.mirrored, out[i : i + 1], height, width,
                )  # fmt: skip
            return np.asarray(stream.download(out))

    def gray(self, frames: Any) -> Any:
        check_frames(frames)
        with self._activate():
            frames, out = self._upload(frames), self._empty(frames.shape[:3], np.uint8)
            pixels = frames.shape[1] * frames.shape[2]
            self.kernels.over_values("gray", len(frames), pixels, frames, out, pixels)
        return out

    def difference(self, frames: Any) -> tuple[Any, Any]:
        check_frames(frames)
        n = len(frames) - 1
        height, width = frames.shape[1:3]
        if n < 1:
            return np.empty((0, 3, height, width), np.uint8), np.empty(0, np.uint32)
        with self._activate():
            frames, planes = self._upload(frames), self._empty((n, 3, height, width), np.uint8)
            clipped, pixels = self._zeros(n), height * width
            self.kernels.over_values("difference", n, pixels, frames, planes, clipped, pixels)
            return SharedArray(self._streams, planes), SharedArray(self._streams, clipped)

    def quantise(self, flow: Any, bound: float) -> tuple[Any, Any]:
        check_flow(flow, bound)
        with self._activate():
            flow, levels = self._upload(flow), self._empty(flow.shape, np.uint8)
            clipped, values = self._zeros(len(flow)), int(np.prod(flow.shape[1:]))
            self.kernels.over_values(
                "quantise", len(flow), values, flow, levels, clipped, values, bound
            )
            return SharedArray(self._streams, levels), SharedArray(self._streams, clipped)

    def warp_homography(
        self, gray: Any, homography: NDArray[np.float64], fill: Any, margin: int = 5
    ) -> Any:
        check_warp(gray, homography, fill, margin)
        with self._activate():
            gray, fill = self._upload(gray), self._upload(fill)
            out = self._empty(gray.shape, np.uint8)
            n, height, width = gray.shape
            self.kernels.over_images(
                "warp_homography", n, height, width, gray, self._upload(homography), fill, out,
                height, width, margin,
            )  # fmt: skip
        return out

    def take(self, values: Any, places: NDArray[np.int64]) -> NDArray[np.float32]:
        with self._activate() as stream:
            out = self._empty(places.shape, np.float32)
            self.kernels.over_values(
                "take",
                1,
                places.size,
                self._upload(values),
                self._upload(places),
                out,
                places.size,
            )
            return np.asarray(stream.download(out))

    # ---- images

    def pyramid(
        self, gray: Any, sizes: Sequence[tuple[int, int]], rule: str, step: float
    ) -> tuple[Any, ...]:
        check_gray(gray)
        with self._activate():
            gray = self._upload(gray)
            n, pixels = len(gray), gray.shape[1] * gray.shape[2]
            levels = [self._empty(gray.shape, np.float32)]
            self.kernels.over_values("widen", n, pixels, gray, levels[0], pixels)
            for height, width in sizes[1:]:
                image, level = levels[-1], self._empty((n, height, width), np.float32)
                where = (image, *image.shape[1:], level, height, width)
                if rule == "pyrdown":
                    self.kernels.over_images("pyramid_down", n, height, width, *where)
                else:
                    self.kernels.over_images(
                        "bilinear", n, height, width, *where, 1 / step, 1 / step,
                        rule == "centred", 1,
                    )  # fmt: skip
                levels.append(level)
        return tuple(levels)

    def upsample(self, flow: Any, height: int, width: int, factor: float, rule: str) -> Any:
        with self._activate():
            flow = self._upload(flow)
            n, planes, h, w = flow.shape
            out = self._empty((n, planes, height, width), np.float32)
            self.kernels.over_images(
                "bilinear", n * planes, height, width, flow, h, w, out, height, width,
                h / height, w / width, rule == "centred", factor,
            )  # fmt: skip
        return out

    def empty(self, *shape: int) -> Any:
        with self._activate():
            return self._empty(shape, np.float32)

    # ---- TV-L1

    def pairs_at_once(self, height: int, width: int) -> int:
        with self._activate():
            free = self.cupy.cuda.runtime.memGetInfo()[0]
        free += self.cupy.get_default_memory_pool().free_bytes()
        arena = self._workspaces.get().arena
        free += 0 if arena is None else arena.floats.nbytes  # it would be freed
        pair_bytes = 4 * ArenaLayout(1, height, width).floats
        return max(1, min(MOST_PAIRS, int(MEMORY_SHARE * free) // pair_bytes))

    def peak_flops(self) -> float:
        with self._activate():
            attributes = self.cupy.cuda.Device().attributes
        lanes = FP32_LANES.get(self.name.removeprefix("cuda-sm_"), 128)
        rate_hz = 1e3 * attributes["ClockRate"]
        return float(2 * lanes * attributes["MultiProcessorCount"] * rate_hz)

    def allocated_bytes(self) -> int:
        return int(self.cupy.get_default_memory_pool().used_bytes())

    def free_workspace(self) -> None:
        with translate_errors(self.cupy):
            self._workspaces.get().forget()

    @contextmanager
    def batch_launches(self) -> Iterator[None]:
        with self._activate():
            yield

    def tvl1_memory(self, n: int, height: int, width: int) -> Arena:
        with self._activate() as stream:
            stream.launches.flush()
            workspace = self._workspaces.get()
            fits = workspace.arena is not None and workspace.arena.fits(n, height, width)
            if workspace.stream is not None and not (fits and workspace.stream is stream.stream):
                workspace.stream.synchronize()  # a graph that was launched ahead may still run
            workspace.stream = stream.stream
            if not fits:
                workspace.arena = None  # given back before more is asked for
                workspace.arena = self._allocate(lambda: Arena(self.cupy, n, height, width))
            assert workspace.arena is not None
            return workspace.arena

    def tvl1_start(
        self, first: Any, second: Any, flow: Any | None, model: TVL1Model, memory: Arena
    ) -> CudaState:
        with self._activate():
            state = CudaState(memory, model, self._upload(first))
            flow = None if flow is None else self._upload(flow)
            self._schedule.start(state, self._upload(second), flow)
        return state

    def tvl1_warps(self, state: CudaState, warps: int, n: int) -> Any:
        with self._activate() as stream:
            self._schedule.run_warps(state, warps, n, stream)
        return Iterations(self.to_host, state)

    def tvl1_flow(self, state: CudaState, out: Any) -> Any:
        with self._activate():
            s = state
            self.kernels.over_images(
                "tvl1_flow", s.pairs, s.height, s.width, s.arena.progress, s.arrays["state"], out,
                s.height, s.width, s.stride,
            )  # fmt: skip
        return out

    # ---- within

    @contextmanager
    def _activate(self) -> Iterator[CudaStream]:
        """Make this thread's CUDA stream current; on a lack of memory, free its workspace."""
        try:
            with self._streams.get().activate() as stream:
                yield stream
        except DeviceMemoryError:
            self.free_workspace()  # which has most of the memory; the next attempt needs less
            raise

    def _upload(self, array: Any) -> Any:
        """Return an array on the device, C-contiguous, ordered after this thread's earlier work."""
        cupy = self.cupy
        if isinstance(array, SharedArray):
            array = array.on_current_stream()
        if isinstance(array, cupy.ndarray):
            if not array.flags.c_contiguous:
                raise ValueError(f"wanted a C-contiguous array, got {array.shape} {array.strides}")
            return array
        source = np.asarray(array)
        device = self._empty(source.shape, source.dtype)
        self._streams.get().upload(source, device)
        return device

    def _empty(self, shape: Sequence[int], dtype: Any) -> Any:
        return self._allocate(lambda: self.cupy.empty(tuple(shape), dtype))

    def _allocate(self, allocate: Callable[[], T]) -> T:
        """Allocate device memory.

        If there is too little, wait for the thread that finds features, which needs much memory
        for a short time, and try again. Then free this thread's workspace and try once more.
        """
        short = self.cupy.cuda.memory.OutOfMemoryError
        with suppress(short):
            return allocate()
        with self._feature_lock:
            with suppress(short):
                return allocate()
            self._streams.get().launches.flush()  # those that use the workspace
            self._workspaces.get().forget()
            return allocate()

    def _zeros(self, n: int) -> Any:
        counts = self._empty((n,), np.uint32)
        self._streams.get().launches.flush()
        counts.fill(0)
        return counts
