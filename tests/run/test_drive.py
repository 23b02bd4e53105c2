"""Dead and stalled workers: the video at fault is found, and a run stops when it must."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from command import draw_noise_clip
from videofile import encode_video

from flowpipe import open_store, params
from flowpipe.errors import BackendError, FlowpipeError, UnwritableError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.run.cluster.pool import Pool, local_pool
from flowpipe.run.drive import Driver
from flowpipe.run.options import WorkerOptions
from flowpipe.run.planning.plan import ShardPlan, select_spans
from flowpipe.run.planning.spans import shard_name
from flowpipe.run.worker.shard_job import ShardJob
from flowpipe.store import create_store
from flowpipe.types import Outcome, Span, VideoRecord

RECIPE = params.build(
    ExtractRecipe, {"flow": "dis", "size": {"width": 64, "height": 48}}, where="extract"
)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with local_pool(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> ShardPlan:
    """Four short videos to be one shard."""
    folder = tmp_path_factory.mktemp("videos")
    spans = []
    for seed in range(4):
        path = folder / f"v{seed}.mp4"
        encode_video(path, draw_noise_clip(seed, frames=6))
        spans.append(Span(VideoRecord(f"v{seed}", str(path))))
    return ShardPlan(shard_name(s.key for s in spans), tuple(spans), 1.0, 10_000.0)


@pytest.fixture
def job(shard: ShardPlan, tmp_path: Path) -> ShardJob:
    """All four videos, for a new store."""
    store, heartbeat_folder = tmp_path / "store", tmp_path / "heartbeats"
    heartbeat_folder.mkdir()
    create_store(
        store, recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE),
        dataset={}, class_names=(),
    )  # fmt: skip
    return ShardJob(
        store=str(store),
        heartbeat_folder=str(heartbeat_folder),
        shard=shard,
        recipe=RECIPE,
        device="cpu",
        options=WorkerOptions(stall_s=60),
    )


def die(job: ShardJob, position: int, words: str = "") -> None:
    """Leave the files of a worker that dies on the video at this position of the shard."""
    span = job.shard.spans[position] if position >= 0 else None
    job.heartbeat.write(span, 0, position)
    job.heartbeat.trace.write_text(words)


def select_one(job: ShardJob, position: int) -> ShardJob:
    return replace(job, shard=select_spans(job.shard, job.shard.spans[position : position + 1]))


def outcomes(pool: Pool, job: ShardJob) -> dict[str, Outcome]:
    return {o.video_id: o for o in Driver(pool, job, [job.shard], lambda *_: None).outcomes()}


def test_a_video_whose_worker_died_gets_a_shard_of_its_own(pool: Pool, job: ShardJob) -> None:
    die(job, 1)
    found = outcomes(pool, job)
    assert {o.status for o in found.values()} == {"done"}
    assert found["v0"].shard == found["v2"].shard == found["v3"].shard != found["v1"].shard
    assert len(open_store(job.store).videos) == 4
    assert not list(Path(job.heartbeat_folder).iterdir())


def test_a_second_death_on_a_single_video_is_attributed_to_it(pool: Pool, job: ShardJob) -> None:
    die(job, 2)
    die(select_one(job, 2), 0, "Fatal Python error: Segmentation fault\n  in decode")
    found = outcomes(pool, job)
    assert [v for v, o in found.items() if o.status == "failed"] == ["v2"]
    assert found["v2"].reason == "crashed"
    assert "Segmentation fault" in found["v2"].message
    assert set(open_store(job.store).videos) == {"v0", "v1", "v3"}


def test_a_stall_is_reported_as_a_stall(pool: Pool, job: ShardJob) -> None:
    die(job, 0)
    die(select_one(job, 0), 0, "Timeout (0:05:00)!\nThread 0x1\n  in solve")
    assert outcomes(pool, job)["v0"].reason == "stalled"


def test_a_death_while_publishing_is_not_attributed_to_a_video(pool: Pool, job: ShardJob) -> None:
    die(job, -1)
    found = outcomes(pool, job)
    assert {o.status for o in found.values()} == {"done"}
    assert found["v0"].shard == found["v1"].shard != found["v2"].shard == found["v3"].shard


def test_a_video_that_kills_every_publication_is_found_by_halving(
    pool: Pool, job: ShardJob
) -> None:
    die(job, -1)
    die(replace(job, shard=select_spans(job.shard, job.shard.spans[2:])), -1)
    die(select_one(job, 3), -1)
    found = outcomes(pool, job)
    # The heartbeat of v3 alone is gone after its first death, so that its second try succeeds.
    assert {o.status for o in found.values()} == {"done"}
    assert len({o.shard for o in found.values()}) == 3


def test_the_first_failure_ends_the_shard_under_fail(
    pool: Pool, job: ShardJob, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    broken = Span(VideoRecord("text", str(tmp_path / "text.mp4")))
    spans = (job.shard.spans[0], broken, job.shard.spans[1])
    found = outcomes(
        pool,
        replace(
            job,
            options=WorkerOptions(on_error="fail", stall_s=60),
            shard=select_spans(job.shard, spans),
        ),
    )
    assert {v: o.status for v, o in found.items()} == {"v0": "done", "text": "failed"}
    assert list(open_store(job.store).videos) == ["v0"]


def test_a_store_that_cannot_be_written_stops_the_run_and_quarantines_no_video(
    pool: Pool, job: ShardJob
) -> None:
    shards = Path(job.store) / "shards"
    shutil.rmtree(shards)
    shards.write_text("a file where the folder was")
    with pytest.raises(UnwritableError, match="finished shards stay"):
        outcomes(pool, job)


def test_a_worker_that_does_not_see_the_run_folder_is_reported(pool: Pool, job: ShardJob) -> None:
    Path(job.heartbeat_folder).rmdir()
    with pytest.raises(BackendError, match="does not see the store's folder"):
        outcomes(pool, job)


def test_errors_of_a_worker_keep_their_class(pool: Pool, job: ShardJob) -> None:
    with pytest.raises(FlowpipeError) as caught:
        outcomes(pool, replace(job, device="abacus"))
    assert caught.value.reason == "backend"
