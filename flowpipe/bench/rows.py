"""This machine -> every backend of optical flow that a comparison should hold, as rows."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import BackendError
from flowpipe.flow import FlowSolver, make_solver
from flowpipe.flow.opencv import DISParams, FarnebackParams, OpenCVTVL1Params, PairSolver
from flowpipe.flow.tvl1 import VARIANTS, TVL1Params
from flowpipe.ops import DEVICES, get_ops
from flowpipe.ops.cpu import native_core

PEER = "cv2-tvl1"
"""The row that the others are compared to: OpenCV's DualTVL1 without its median filter."""

Image = NDArray[np.uint8]
opencv: Any = cv2  # its type stubs lack the CUDA classes


@dataclass(frozen=True)
class Row:
    """One backend with its parameters."""

    name: str
    backend: str
    """What computes: ``cv2``, ``cpu-avx512``, ``cuda`` ..."""
    parameters: dict[str, Any]
    solver: Callable[[], FlowSolver]
    """Makes the solver; raises where this machine lacks something, and says what."""
    on_cpu: bool = True
    """Whether CPU time is its cost; a GPU is measured by wall time."""


def flow_rows() -> list[Row]:
    """All rows, the peer first; whether one can run here shows when its solver is made."""
    cv2_tvl1 = OpenCVTVL1Params(median_filtering=1), OpenCVTVL1Params()
    core, variant = native_core(), TVL1Params.variant
    return [
        _cv2(PEER, cv2_tvl1[0]),
        _cv2("cv2-tvl1-median5", cv2_tvl1[1]),
        _cv2("cv2-dis", DISParams()),
        _cv2("cv2-farneback", FarnebackParams()),
        Row("skimage-tvl1", "scikit-image", SKIMAGE, _skimage),
        *(_own(f"flowpipe-{v}", v) for v in VARIANTS),
        *(
            _own(f"flowpipe-{variant}-{isa}", variant, isa=isa)
            for isa in reversed(core.compiled)
            if isa != core.chosen
        ),
        Row("cv2-cuda-tvl1", "cv2.cuda", CUDA_TVL1, _cuda_tvl1, on_cpu=False),
        Row("cv2-cuda-nvidia", "cv2.cuda", CUDA_NVIDIA, _cuda_nvidia, on_cpu=False),
        *(
            _own(f"flowpipe-{v}-{device}", v, device)
            for device in DEVICES
            if device not in ("cpu", "reference")
            for v in VARIANTS
        ),
    ]


def _cv2(name: str, params: Any) -> Row:
    return Row(name, "cv2", asdict(params), lambda: make_solver(params, get_ops()))


def _own(name: str, variant: Any, device: str = "cpu", isa: str | None = None) -> Row:
    params, on_cpu = TVL1Params(variant=variant), device == "cpu"
    backend = f"cpu-{isa or native_core().chosen}" if on_cpu else device
    return Row(
        name, backend, asdict(params), lambda: make_solver(params, get_ops(device, isa)), on_cpu
    )


SKIMAGE = {"attachment": 15, "tightness": 0.3, "num_warp": 5, "num_iter": 10, "tol": 1e-4}


def _skimage() -> PairSolver:
    try:
        solve = importlib.import_module("skimage.registration").optical_flow_tvl1
    except ImportError as error:
        raise BackendError(f"no scikit-image ({error}): pip install scikit-image") from error

    def pair(first: Image, second: Image) -> NDArray[np.float32]:
        v, u = solve(first, second, **SKIMAGE)
        return np.stack([u, v], axis=-1)

    return PairSolver(pair)


CUDA_TVL1 = {
    "tau": 0.25, "lambda": 0.15, "theta": 0.3, "nscales": 5, "warps": 5, "epsilon": 0.01,
    "iterations": 300, "scaleStep": 0.8, "gamma": 0.0, "useInitialFlow": False,
}  # fmt: skip
CUDA_NVIDIA = {"perfPreset": 5, "outputGridSize": 1, "hintGridSize": 1}  # slowest and finest


def _cuda_class(name: str) -> Any:
    """A class of cv2.cuda, if there is also a GPU to run it."""
    wanted = "it takes OpenCV built from source with CUDA and its contrib modules; no wheel has it"
    found = getattr(cv2, f"cuda_{name}", None)
    if found is None:
        raise BackendError(f"cv2 {cv2.__version__} has no cuda.{name}: {wanted}")
    if cv2.cuda.getCudaEnabledDeviceCount() < 1:
        raise BackendError(
            f"cv2 {cv2.__version__} finds no CUDA device: it takes an NVIDIA GPU and its driver; "
            f"and {wanted}"
        )
    return found


def _uploaded(pair: Callable[[Any, Any], Any]) -> PairSolver:
    """Images go up and the flow comes down within the pair; `download` waits for the device."""

    def solve(first: Image, second: Image) -> NDArray[np.float32]:
        flow: NDArray[np.float32] = pair(*map(opencv.cuda_GpuMat, (first, second))).download()
        return flow

    return PairSolver(solve)


def _cuda_tvl1() -> PairSolver:
    algorithm = _cuda_class("OpticalFlowDual_TVL1").create(*CUDA_TVL1.values())
    return _uploaded(lambda first, second: algorithm.calc(first, second, None))


def _cuda_nvidia() -> PairSolver:
    create = _cuda_class("NvidiaOpticalFlow_2_0").create
    # A session belongs to one image size and is slow to open.
    session = cache(partial(_nvidia_session, create))

    def pair(first: Any, second: Any) -> Any:
        algorithm = session(first.size())
        return algorithm.convertToFloat(algorithm.calc(first, second, None)[0], None)

    return _uploaded(pair)


def _nvidia_session(create: Any, size: tuple[int, int]) -> Any:
    return create(size, *CUDA_NVIDIA.values(), False, False, False, 0)
