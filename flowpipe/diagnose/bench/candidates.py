"""This machine -> the flow algorithms and backends to compare."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import BackendError
from flowpipe.flow import FLOWS, FlowSolver, make_solver
from flowpipe.flow.opencv import DISParams, FarnebackParams, OpenCVTVL1Params, PairSolver
from flowpipe.flow.opencv_cuda import (
    OpenCVCudaBroxParams,
    OpenCVCudaFarnebackParams,
    OpenCVCudaNvidiaParams,
    OpenCVCudaTVL1Params,
)
from flowpipe.flow.raft import RAFTParams
from flowpipe.flow.raft_weights import WEIGHTS
from flowpipe.flow.tvl1 import VARIANTS, TVL1Params
from flowpipe.ops import DEVICES, Ops, get_ops
from flowpipe.ops.cpu import native_core

PEER = "cv2-tvl1"
"""OpenCV's DualTVL1 without its median filter, which a cv2 without contrib modules lacks."""
OWN = f"flowpipe-{TVL1Params.variant}"
"""flowpipe's TV-L1 on the CPU, as extraction computes it by default."""
REFERENCES = (PEER, OWN)
"""Names of possible references; the first one that can run is used."""

GrayImage = NDArray[np.uint8]
EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class FlowCandidate:
    """One backend with its parameters."""

    name: str
    backend: str
    """Backend that computes the flow: ``cv2``, ``cpu-avx512``, ``cuda`` ..."""
    parameters: dict[str, Any]
    solver: Callable[[], FlowSolver]
    """Returns the solver; raises an error that names what this machine lacks."""
    on_cpu: bool = True
    """True if CPU time is the cost; a GPU is measured by wall time."""


def flow_candidates(raft_weights: Mapping[str, str] = EMPTY) -> list[FlowCandidate]:
    """Return all algorithms; whether one can run here shows when its solver is made.

    Parameters
    ----------
    raft_weights : mapping, optional
        Path of the weights by model of RAFT: ``large``, ``small``.

    Returns
    -------
    list of FlowCandidate
        The algorithms. RAFT without weights cannot run.
    """
    cv2_tvl1 = OpenCVTVL1Params(median_filtering=1), OpenCVTVL1Params()
    core, variant = native_core(), TVL1Params.variant
    return [
        _cv2(PEER, cv2_tvl1[0]),
        _cv2("cv2-tvl1-median5", cv2_tvl1[1]),
        _cv2("cv2-dis", DISParams()),
        _cv2("cv2-farneback", FarnebackParams()),
        FlowCandidate("skimage-tvl1", "scikit-image", SKIMAGE, _skimage),
        *(_own(f"flowpipe-{v}", v) for v in VARIANTS),
        *(
            _own(f"flowpipe-{variant}-{isa}", variant, isa=isa)
            for isa in reversed(core.compiled)
            if isa != core.chosen
        ),
        *(_raft(model, raft_weights, "cpu") for model in WEIGHTS),
        _cv2("cv2-cuda-tvl1", OpenCVCudaTVL1Params()),
        _cv2("cv2-cuda-brox", OpenCVCudaBroxParams()),
        _cv2("cv2-cuda-farneback", OpenCVCudaFarnebackParams()),
        _cv2("cv2-cuda-nvidia", OpenCVCudaNvidiaParams()),
        *(
            _own(f"flowpipe-{v}-{device}", v, device)
            for device in DEVICES
            if device not in ("cpu", "reference")
            for v in VARIANTS
        ),
        *(_raft(model, raft_weights, "cuda") for model in WEIGHTS),
    ]


def _cv2(name: str, params: Any) -> FlowCandidate:
    on_cpu = not FLOWS[params.name].own_gpu
    backend = "cv2" if on_cpu else "cv2.cuda"
    return FlowCandidate(
        name, backend, asdict(params), lambda: make_solver(params, get_ops()), on_cpu
    )


def _own(name: str, variant: Any, device: str = "cpu", isa: str | None = None) -> FlowCandidate:
    params, on_cpu = TVL1Params(variant=variant), device == "cpu"
    backend = f"cpu-{isa or native_core().chosen}" if on_cpu else device

    def solver() -> FlowSolver:
        ops = get_ops(device, isa)
        return _OnHost(make_solver(params, ops), ops)

    return FlowCandidate(name, backend, asdict(params), solver, on_cpu)


def _raft(model: Any, weights: Mapping[str, str], device: str) -> FlowCandidate:
    name = f"raft-{model}"

    def params() -> RAFTParams:
        if model not in weights:
            raise BackendError(f"{name} needs weights; give --{name} FILE (docs/flow.md)")
        return RAFTParams(model=model, weights=weights[model])

    def solver() -> FlowSolver:
        return make_solver(params(), get_ops(device))

    on_cpu = device == "cpu"
    return FlowCandidate(
        name if on_cpu else f"{name}-{device}", f"torchvision-{device}",
        asdict(params()) if model in weights else {}, solver, on_cpu,
    )  # fmt: skip


@dataclass(frozen=True)
class _OnHost:
    """A solver that copies its flow to the host, which also waits for the device."""

    solver: FlowSolver
    ops: Ops

    def prepare(self, gray: GrayImage) -> Any:
        return self.solver.prepare(gray)

    def solve(self, first: Any, second: Any) -> NDArray[np.float32]:
        return self.ops.to_host(self.solver.solve(first, second))


SKIMAGE = {"attachment": 15, "tightness": 0.3, "num_warp": 5, "num_iter": 10, "tol": 1e-4}


def _skimage() -> PairSolver:
    try:
        solve = importlib.import_module("skimage.registration").optical_flow_tvl1
    except ImportError as error:
        raise BackendError(f"no scikit-image ({error}); pip install scikit-image") from error

    def pair(first: GrayImage, second: GrayImage) -> NDArray[np.float32]:
        v, u = solve(first, second, **SKIMAGE)
        return np.stack([u, v], axis=-1)

    return PairSolver(pair)
