"""Shard jobs of one worker process reuse kernels and graphs, on the emulated GPU."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from emulated import STAND_IN, cupy_from
from videofile import encode_video, moving_clip

from flowpipe import params
from flowpipe.errors import BackendError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.ops import cached_ops
from flowpipe.ops.cpu import native_core
from flowpipe.ops.cuda import process
from flowpipe.ops.cuda.devices import gpus
from flowpipe.run.options import WorkerOptions
from flowpipe.run.planning.plan import ShardPlan
from flowpipe.run.planning.spans import shard_name
from flowpipe.run.worker.shard_job import ShardJob, extract_shard
from flowpipe.store import create_store
from flowpipe.types import Span, VideoRecord

pytestmark = [
    pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ for the emulated kernels"),
]
RECIPE = params.build(
    ExtractRecipe,
    {
        "modalities": ["flow"],
        "size": {"width": 70, "height": 48},  # more than a tile: a graph is recorded
        "flow": {"name": "tvl1", "warps": 1, "iterations": 8, "scales": 1},
    },
    where="test",
)


def extract(video: str, path: Path, folder: Path) -> bytes:
    """Extract one video into a store of its own; return its images."""
    store, heartbeat_folder = folder / f"store-{video}", folder / f"heartbeats-{video}"
    heartbeat_folder.mkdir()
    create_store(
        store, recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE),
        dataset={}, class_names=(),
    )  # fmt: skip
    span = Span(VideoRecord(video, str(path)))
    shard = ShardPlan(shard_name([span.key]), (span,), 1.0, 1)
    (outcome,) = extract_shard(
        ShardJob(
            store=str(store),
            heartbeat_folder=str(heartbeat_folder),
            shard=shard,
            recipe=RECIPE,
            device="cuda",
            options=WorkerOptions(stall_s=60),
        )
    )
    assert outcome.status == "done", outcome
    (written,) = (store / "shards").glob("*.h5")
    return written.read_bytes()


def test_a_second_job_compiles_and_records_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = encode_video(tmp_path / "clip.mp4", moving_clip(4))
    with cupy_from(STAND_IN):
        import cupy

        extract("one", clip, tmp_path)
        kept = cupy.cuda.memory.held()

        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("a second job must not do this")

        monkeypatch.setattr(cupy, "RawModule", refuse)
        monkeypatch.setattr(cupy.cuda.Stream, "begin_capture", refuse)
        monkeypatch.setattr(cupy.cuda.Stream, "__init__", refuse)
        extract("two", clip, tmp_path)
        assert cupy.cuda.memory.held() == kept


def test_threads_that_come_together_get_the_same_operations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[object] = []

    class Slow(process.CudaOps):
        def __init__(self) -> None:
            made.append(self)
            time.sleep(0.2)  # the others come meanwhile

    monkeypatch.setattr(process, "CudaOps", Slow)
    with cupy_from(STAND_IN), ThreadPoolExecutor(4) as threads:
        found = list(threads.map(cached_ops, ["cuda"] * 4))
    assert len(made) == 1 and all(ops is made[0] for ops in found)


def test_operations_of_a_gpu_are_kept_and_a_failure_to_open_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with cupy_from(STAND_IN):
        monkeypatch.setenv("CUDA_STAND_IN_OPENS", "46")
        with pytest.raises(BackendError, match="another process has the GPU"):
            cached_ops("cuda")
        monkeypatch.delenv("CUDA_STAND_IN_OPENS")
        first = cached_ops("cuda")
        assert cached_ops("cuda") is first
    if not gpus().available:
        with pytest.raises(BackendError):
            cached_ops("cuda")
    assert cached_ops("cpu").name.startswith("cpu")
