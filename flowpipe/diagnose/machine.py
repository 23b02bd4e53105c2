"""This machine -> findings: what flowpipe can use, and what each missing part costs."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2

from flowpipe.diagnose.hardware import hardware
from flowpipe.diagnose.libraries import Finding, find_owner
from flowpipe.distribution import install_command, owners
from flowpipe.experimental import describe_experimental
from flowpipe.flow import FLOWS
from flowpipe.flow.contrib import replace_opencv
from flowpipe.flow.features import DETECTORS, why_no_detector
from flowpipe.ops.cpu import native_core
from flowpipe.ops.cuda.process import why_no_gpu
from flowpipe.store import free_bytes
from flowpipe.store.compiled_reader import snippet_reader
from flowpipe.video import decoder_library, nvdec_library, why_no_nvdec
from flowpipe.words import byte_size


def examine(folder: Path) -> list[Finding]:
    """Return findings on processor, compiled core, CUDA, OpenCV, FFmpeg, libraries and disks.

    Parameters
    ----------
    folder : Path
        Folder for stores, whose free disk space is reported.

    Returns
    -------
    list of Finding
        Findings, in the order of the report.
    """
    return [
        find_owner(),
        *_open_gpus(hardware()),
        _core(),
        _snippet_reader(),
        _opencv(),
        _opencv_contrib(),
        Finding("video decoder", "ok", decoder_library()),
        _nvdec(),
        _torch(),
        _dask_cuda(),
        _memory(),
        _disk(folder),
        _scratch(),
    ]


def _open_gpus(findings: list[Finding]) -> Iterator[Finding]:
    """Open each usable GPU, which shows if it is full or in exclusive use by another process."""
    for row in findings:
        number = row.topic.removeprefix("GPU ")
        if number.isdecimal() and row.state == "ok":
            lack = why_no_gpu(int(number))
            cost = lack or describe_experimental("cuda")
            yield replace(row, state="lack" if lack else "ok", cost=cost)
        else:
            yield row


def _core() -> Finding:
    core = native_core()
    if core.available:
        slow = core.chosen == "baseline" and platform.machine() == "x86_64"
        return Finding(
            "compiled core",
            "lack" if slow else "ok",
            f"uses {core.chosen} (compiled in: {', '.join(core.compiled)}; {core.compiler})",
            "without AVX2 the flow is several times slower" if slow else "",
        )
    return Finding(
        "compiled core",
        "lack",
        core.reason,
        "flow falls back to OpenCV's TV-L1, about 50 times slower",
    )


def _snippet_reader() -> Finding:
    reader = snippet_reader()
    if reader.library is not None:
        return Finding("snippet reader", "ok", "compiled, with libjpeg-turbo")
    cost = "training reads stores image by image, somewhat slower"
    return Finding("snippet reader", "lack", reader.reason, cost)


def _opencv() -> Finding:
    build = cv2.getBuildInformation()
    cuda = any("NVIDIA CUDA" in line and "YES" in line for line in build.splitlines())
    found = f"{cv2.__version__}, {'with' if cuda else 'without'} CUDA"
    packages = owners("cv2")
    if len(packages) > 1:
        return Finding(
            "OpenCV", "lack", f"{found}; {len(packages)} packages share its folder",
            f"{', '.join(packages)} overwrite each other; keep one: {replace_opencv(packages)}",
        )  # fmt: skip
    return Finding(
        "OpenCV", "ok", found,
        describe_experimental("opencv_cuda_*") if cuda
        else "no flow opencv_cuda_*; flowpipe does not need it (docs/opencv-cuda.md)",
    )  # fmt: skip


def _opencv_contrib() -> Finding:
    rows = {
        f"flow {name}": row.why_not()
        for name, row in FLOWS.items()
        if row.library == "OpenCV" and not row.own_gpu
    }
    rows |= {f"warp.detector {name}": why_no_detector(name, "cpu") for name in DETECTORS}
    lacks = {name: words for name, words in rows.items() if words}
    if not lacks:
        return Finding("OpenCV contrib", "ok", "present")
    found = f"missing: {', '.join(lacks)} cannot be used"
    return Finding("OpenCV contrib", "lack", found, "; ".join(lacks.values()))


def _nvdec() -> Finding:
    lack = why_no_nvdec()
    if not lack:
        return Finding("NVDEC", "ok", nvdec_library(), describe_experimental("nvdec"))
    return Finding("NVDEC", "lack", "cannot be used", f"videos are decoded on the cores; {lack}")


def _torch() -> Finding:
    if importlib.util.find_spec("torch") is not None:
        return Finding("torch", "ok", "present")
    why = f"only needed to train and test networks, and for flow raft; {install_command('train')}"
    return Finding("torch", "lack", "missing", why)


def _dask_cuda() -> Finding:
    why = f"not needed; ties workers to cores near GPUs; {install_command('cluster')}"
    try:
        importlib.import_module("dask_cuda")
    except ImportError as error:  # without its extra cu12, CUDA bindings are missing
        missing = isinstance(error, ModuleNotFoundError) and error.name == "dask_cuda"
        found = "missing" if missing else f"cannot be loaded: {error}"
        return Finding("dask_cuda", "lack", found, why)
    return Finding("dask_cuda", "ok", "present")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Finding("memory", "ok", byte_size(total))


def _disk(folder: Path) -> Finding:
    free = free_bytes(folder)
    low = free < 10e9
    return Finding(
        "disk for stores", "lack" if low else "ok",
        f"{byte_size(free)} free at {folder.resolve()}",
        "an hour of 340x256 video at 25 frames/s takes about 3.5 GB (rgb and flow)" if low else "",
    )  # fmt: skip


def _scratch() -> Finding:
    folder = tempfile.gettempdir()
    free = free_bytes(Path(folder))
    low = free < 1e9
    return Finding(
        "disk for scratch", "lack" if low else "ok", f"{byte_size(free)} free at {folder}",
        "workers keep small files there; point TMPDIR to a disk with free space" if low else "",
    )  # fmt: skip
