"""Errors of CUDA and of its driver are explained, and no video is blamed for them."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from emulated import emulated_ops

from flowpipe.datasets import demo
from flowpipe.datasets.demo.clipfile import write_clip
from flowpipe.errors import BackendError, DeviceLostError, DeviceMemoryError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.extraction.stages import Extraction
from flowpipe.ops.cpu import native_core
from flowpipe.params import build
from flowpipe.types import Span, VideoRecord

OPENING = {
    2: "other processes hold the GPU's memory",
    46: "--workers equal to --gpus",
    802: "systemctl start nvidia-fabricmanager",
    803: "reboot the machine",
    806: "MPS does not serve this process",
    999: "see whether nvidia-smi works",
}


@pytest.mark.parametrize(("status", "words"), OPENING.items())
def test_a_gpu_that_cannot_be_opened_ends_the_run_with_advice(status, words, monkeypatch):
    monkeypatch.setenv("CUDA_STAND_IN_OPENS", str(status))
    with pytest.raises(BackendError) as told:
        emulated_ops()
    assert not isinstance(told.value, (DeviceLostError, DeviceMemoryError))
    assert told.value.reason == "backend"
    message = str(told.value)
    assert f"the GPU cannot be opened (cudaError {status})" in message and words in message
    assert "--device cpu" in message and "\n" not in message


@pytest.fixture(scope="module")
def span(tmp_path_factory) -> Span:
    path = tmp_path_factory.mktemp("clip") / "bounce_01.mp4"
    write_clip(path, demo.clean_frames("bounce_01", numbers=range(4)))
    return Span(VideoRecord("clip", str(path)))


RECIPE = build(
    ExtractRecipe,
    {
        "modalities": ["rgb", "flow", "warped_flow", "rgb_diff"],
        "size": {"width": 40, "height": 32},
        "flow": {"name": "tvl1", "warps": 1, "iterations": 8},
    },
)


@pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none")
@pytest.mark.parametrize(("status", "kind"), [(700, DeviceLostError), (2, DeviceMemoryError)])
@pytest.mark.filterwarnings("ignore:.*too little device memory")
def test_every_failing_call_of_cuda_becomes_an_error_of_flowpipe(status, kind, span: Span):
    """Whichever of the calls fails, in whichever thread: decoding, computing and encoding."""
    ops = emulated_ops()
    calls = ops.cupy.cuda.failing
    before = calls.calls
    list(Extraction(span, RECIPE, ops))
    count = calls.calls - before
    assert count > 60
    seen = set()
    for after in sorted({*range(1, 9), *range(1, count, 7)}):  # streams are made in the first ones
        ops = emulated_ops()
        failing = ops.cupy.cuda.failing
        failing.at, failing.status = failing.calls + after, status
        with pytest.raises(kind):
            list(Extraction(span, RECIPE, ops))
        seen.add(failing.name)
        failing.at = 0
    assert {"Stream", "memory", "Event.record", "alloc_pinned_memory"} <= seen, seen


def test_too_little_memory_when_the_gpu_is_opened_ends_the_run(monkeypatch):
    monkeypatch.setenv("CUDA_STAND_IN_BYTES", "0")
    with pytest.raises(BackendError, match="cannot be opened .*other processes hold") as told:
        emulated_ops()
    assert type(told.value) is BackendError


def test_exclusive_mode_is_held_by_one_process(tmp_path: Path, monkeypatch):
    lock = tmp_path / "gpu"
    monkeypatch.setenv("CUDA_STAND_IN_EXCLUSIVE", str(lock))
    emulated_ops()  # the first one has it
    with lock.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
