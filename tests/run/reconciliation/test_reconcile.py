"""A second run after lists or files have changed: the store is what they say now.

All runs share one worker, so that each takes a fraction of a second.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import pytest
from command import draw_noise_clip, images
from distributed import LocalCluster
from videofile import encode_video

from flowpipe import open_store, params
from flowpipe.datasets import Dataset
from flowpipe.datasets.source import load_dataset
from flowpipe.errors import RecipeError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.run import ExtractJob, MissingVideos, Plan, RunOptions, Summary, plan_run, repair, run
from flowpipe.run.cluster.pool import remote_pool
from flowpipe.run.options import WorkerOptions
from flowpipe.run.supersede import supersede
from flowpipe.run.worker.stopping import is_stop_requested
from flowpipe.store import adopt, verify_store
from flowpipe.types import Interval

RECIPE = params.build(
    ExtractRecipe, {"flow": "dis", "size": {"width": 64, "height": 48}}, where="extract"
)
LONG = 5
"""First of the clips that are cut."""
SPLIT_S = 0.3


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five short videos, and two that are cut where ``split_s`` is SPLIT_S."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [folder / f"{seed}.mp4" for seed in range(7)]
    for seed, path in enumerate(paths):
        encode_video(path, draw_noise_clip(seed, frames=6 if seed < LONG else 20), gop=5)
    return paths


@dataclass
class StoreOfVideos:
    """A folder of videos, or a list, and a store of them."""

    root: Path
    scheduler: str
    clips: list[Path]
    edit: Callable[[Dataset], Dataset] = field(default=lambda dataset: dataset)
    """Edit of the data set before it is used."""

    @property
    def videos(self) -> Path:
        return self.root / "videos"

    @property
    def store(self) -> Path:
        return self.root / "store"

    def put(self, name: str, clip: int) -> Path:
        """Put a clip into the folder under a name; an existing file is replaced."""
        path = self.videos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        shutil.copyfile(self.clips[clip], path)
        return path

    def write_list(self, *lines: str, head: str = "path,label,split") -> None:
        (self.root / "list.csv").write_text("\n".join([head, *lines]) + "\n")

    def source(self) -> dict[str, Any]:
        listed = self.root / "list.csv"
        if listed.exists():
            return {"dataset": "list", "root": str(listed), "base": str(self.videos)}
        return {"dataset": "folder", "root": str(self.videos)}

    def dataset(self) -> Dataset:
        return self.edit(load_dataset(self.source()))

    def options(self, **options: Any) -> RunOptions:
        worker = WorkerOptions(on_error=options.pop("on_error", "skip"))
        return RunOptions(self.store, scheduler=self.scheduler, worker=worker, **options)

    def job(self, **options: Any) -> ExtractJob:
        return ExtractJob(self.dataset(), self.source(), RECIPE, self.options(**options))

    def plan(self, **options: Any) -> Plan:
        return plan_run(self.job(**options))

    def extract(self, **options: Any) -> tuple[Plan, Summary]:
        plan = self.plan(**options)
        return plan, run(plan)

    def repair(self) -> Summary:
        damaged = {p.shard for p in verify_store(self.store).problems if p.shard.endswith(".h5")}
        return repair(damaged, self.job())

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the source by video id, as the store has it."""
        return {k: v.meta["source"]["sha256"] for k, v in open_store(self.store).videos.items()}

    def has(self, clips: dict[str, int]) -> None:
        """Assert that the store is intact and holds exactly these clips by id, once each."""
        wanted = {
            k: hashlib.sha256(self.clips[v].read_bytes()).hexdigest() for k, v in clips.items()
        }
        assert self.hashes() == wanted
        table = open_store(self.store).catalogue.table
        assert len(table.ids) == sum(
            video.parts for video in open_store(self.store).videos.values()
        )
        report = verify_store(self.store)
        assert (report.problems, report.notes) == ([], [])


@pytest.fixture
def place(tmp_path: Path, scheduler: str, clips: list[Path]) -> StoreOfVideos:
    return StoreOfVideos(tmp_path, scheduler, clips)


def shard_bytes(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (store / "shards").iterdir()}


def with_ids(name: Callable[[str], str]) -> Callable[[Dataset], Dataset]:
    """Return an edit that renames the videos of a data set."""

    def edit(dataset: Dataset) -> Dataset:
        records = [replace(r, video_id=name(r.video_id)) for r in dataset.records]
        return replace(dataset, records=records)

    return edit


def with_segments(start_s: float) -> Callable[[Dataset], Dataset]:
    """Return an edit that gives each video a segment and an ambiguous interval."""

    def edit(dataset: Dataset) -> Dataset:
        segments, ambiguous = (Interval(0, start_s, 9.0),), ((start_s, start_s + 1),)
        records = [replace(r, segments=segments, ambiguous=ambiguous) for r in dataset.records]
        return replace(dataset, records=records)

    return edit


def test_changes_of_a_list_are_stored_without_decoding(place: StoreOfVideos) -> None:
    place.put("a.mp4", 0), place.put("b.mp4", 1)
    place.write_list("a.mp4,0,train1", "b.mp4,1,test1")
    place.extract()
    before = shard_bytes(place.store)
    place.write_list("a.mp4,1,train1", "b.mp4,1,train1 test2")
    place.edit = with_segments(2.0)
    plan, _ = place.extract()
    assert (plan.spans, plan.done) == (0, 2)
    assert plan.changes.kinds == {"labels": 1, "splits": 1, "segments": 2, "ambiguous": 2}
    assert "1 done before have other labels now" in plan.changes.lines()[0]
    videos = open_store(place.store).videos
    assert [videos[k].labels for k in ("a.mp4", "b.mp4")] == [(1,), (1,)]
    assert videos["b.mp4"].splits == ("train1", "test2")
    assert videos["a.mp4"].segments == (Interval(0, 2.0, 9.0),)
    place.edit = with_segments(3.0)
    assert place.extract()[0].changes.kinds == {"segments": 2, "ambiguous": 2}
    assert open_store(place.store).videos["b.mp4"].ambiguous == ((3.0, 4.0),)
    assert place.plan().changes.lines() == []
    assert shard_bytes(place.store) == before
    place.has({"a.mp4": 0, "b.mp4": 1})


def test_a_class_list_may_grow_but_not_change_its_order(place: StoreOfVideos) -> None:
    place.put("a.mp4", 0), place.put("b.mp4", 1), place.put("c.mp4", 2)
    place.write_list("a.mp4,0,train1", "b.mp4,1,train1")
    place.extract()
    place.write_list("a.mp4,0,train1", "b.mp4,1,train1", "c.mp4,2,train1")
    plan, _ = place.extract()
    assert (plan.spans, plan.done, plan.changes.kinds) == (1, 2, {})
    assert open_store(place.store).header.class_names == ("0", "1", "2")
    place.write_list("a.mp4,0,train1")  # fewer classes, and the label means the same
    assert place.plan().changes.lines() == ["2 videos of the store not listed here; no change"]
    assert open_store(place.store).header.class_names == ("0", "1", "2")
    place.write_list("a.mp4,run,train1", "b.mp4,walk,train1")
    with pytest.raises(RecipeError, match="class 0 is '0' there and 'run' here"):
        place.plan()
    place.has({"a.mp4": 0, "b.mp4": 1, "c.mp4": 2})


def test_a_replaced_file_replaces_its_video(place: StoreOfVideos) -> None:
    for k, name in enumerate(("a.mp4", "b.mp4", "c.mp4")):
        place.put(name, k)
    place.extract()
    for clip in (3, 4):  # whichever shard comes first by name
        place.put("b.mp4", clip)
        plan, _ = place.extract()
        assert plan.changes.lines() == [
            "1 done before have other bytes now: they are extracted again"
        ]
        place.has({"a.mp4": 0, "b.mp4": clip, "c.mp4": 2})
    other = replace(place, root=place.root / "other")
    for k, name in ((0, "a.mp4"), (4, "b.mp4"), (2, "c.mp4")):
        other.put(name, k)
    other.extract()
    assert images(place.store) == images(other.store)
    assert (place.plan().spans, place.plan().done) == (0, 3)


def test_a_split_video_is_replaced_as_a_whole(place: StoreOfVideos) -> None:
    place.put("a.mp4", LONG), place.put("b.mp4", 0)
    place.extract(split_s=SPLIT_S)
    assert open_store(place.store).videos["a.mp4"].parts > 1
    place.put("a.mp4", LONG + 1)
    plan, _ = place.extract(split_s=SPLIT_S)
    assert (plan.spans, plan.done) == (1, 1)
    place.has({"a.mp4": LONG + 1, "b.mp4": 0})
    assert place.plan(split_s=SPLIT_S).done == 2


def test_a_replacement_that_fails_leaves_the_stored_video(place: StoreOfVideos) -> None:
    place.put("a.mp4", 0), place.put("b.mp4", 1)
    place.extract()
    before = images(place.store)
    content = place.clips[2].read_bytes()
    (place.videos / "a.mp4").write_bytes(content[:500])
    _, summary = place.extract()
    assert summary.failed == 1
    assert images(place.store) == before
    assert place.plan().quarantined == 1
    place.put("a.mp4", 2)
    place.extract()
    place.has({"a.mp4": 2, "b.mp4": 1})


@pytest.mark.parametrize("split_s", [0.0, SPLIT_S])
@pytest.mark.parametrize("name", ["shard-000000000000.h5", "shard-ffffffffffff.h5"])
def test_a_run_killed_before_it_removes_the_older_video_is_finished_by_the_next(
    name: str, split_s: float, place: StoreOfVideos
) -> None:
    place.put("a.mp4", LONG), place.put("b.mp4", 0)
    place.extract(split_s=split_s)
    other = replace(place, root=place.root / "other")
    shutil.copy2(place.put("a.mp4", LONG + 1), other.put("a.mp4", 0))
    other.extract()
    (shard,) = (other.store / "shards").iterdir()
    shutil.copyfile(shard, place.store / "shards" / name)  # published, and then no more happened
    between = open_store(place.store)
    assert list(between.videos) == ["a.mp4", "b.mp4"]
    assert verify_store(place.store).ok
    plan, _ = place.extract(split_s=split_s)
    assert (plan.spans, plan.done) == (0, 2)
    place.has({"a.mp4": LONG + 1, "b.mp4": 0})


def test_an_older_shard_that_was_copied_is_removed_by_the_next_run(place: StoreOfVideos) -> None:
    for k, name in enumerate(("a.mp4", "b.mp4", "c.mp4")):
        place.put(name, k)
    place.extract()
    (old,) = (place.store / "shards").iterdir()
    kept = old.read_bytes()
    place.put("b.mp4", 3)
    place.extract()
    old.write_bytes(kept)  # killed between the copy without b and the removal
    assert list(open_store(place.store).videos) == ["a.mp4", "b.mp4", "c.mp4"]
    assert place.extract()[0].spans == 0
    place.has({"a.mp4": 0, "b.mp4": 3, "c.mp4": 2})


def test_a_file_with_a_new_modification_time_is_hashed_once(place: StoreOfVideos) -> None:
    path = place.put("a.mp4", 0)
    place.extract()
    os.utime(path, ns=(1, 10**18))
    assert len(place.plan().changes.hashed) == 1
    place.extract()
    assert place.plan().changes.hashed == {}
    place.put("a.mp4", 1)
    place.extract()
    os.utime(place.put("a.mp4", 0), ns=(1, 10**18))  # the first content and its time come back
    assert place.extract()[0].spans == 1
    place.has({"a.mp4": 0})


@pytest.mark.parametrize("now", ["c.mp4", "sub/a.mp4"])
def test_a_moved_file_keeps_its_id(now: str, place: StoreOfVideos) -> None:
    path = place.put("a.mp4", 0)
    place.put("b.mp4", 1)
    place.extract()
    (place.videos / now).parent.mkdir(exist_ok=True)
    path.rename(place.videos / now)
    plan, _ = place.extract()
    assert (plan.spans, plan.done, plan.unusable) == (0, 2, ())
    assert MissingVideos.from_plan(plan).absent == ()
    place.has({"a.mp4": 0, "b.mp4": 1})
    assert open_store(place.store).videos["a.mp4"].record.path == str(place.videos / now)
    assert place.plan().changes.lines() == []
    place.put("a.mp4", 2)  # another video under the old name
    place.extract()
    place.has({"a.mp4": 2, "b.mp4": 1, now: 0})


def test_a_list_that_follows_a_move_keeps_the_id(place: StoreOfVideos) -> None:
    path = place.put("a.mp4", 0)
    place.write_list("a.mp4,0,train1")
    place.extract()
    (place.videos / "sub").mkdir()
    path.rename(place.videos / "sub" / "a.mp4")
    place.write_list("sub/a.mp4,0,train1")
    assert place.extract()[0].spans == 0
    place.has({"a.mp4": 0})


def test_a_copy_is_a_video_of_its_own(place: StoreOfVideos) -> None:
    place.put("a.mp4", 0)
    place.extract()
    place.put("b.mp4", 0)
    assert place.extract()[0].spans == 1
    place.has({"a.mp4": 0, "b.mp4": 0})


def test_a_source_that_is_gone_stays_stored_and_is_no_missing_video(place: StoreOfVideos) -> None:
    path = place.put("a.mp4", 0)
    place.put("b.mp4", 1)
    place.write_list("a.mp4,0,train1", "b.mp4,1,train1")
    place.extract()
    path.unlink()
    place.write_list("a.mp4,1,train1", "b.mp4,1,train1")
    plan, _ = place.extract()
    assert (plan.spans, plan.done) == (0, 2)
    assert [line for line in plan.changes.lines() if "no source" in line] == [
        "1 done before have no source that can be reached; they stay"
    ]
    assert MissingVideos.from_plan(plan).absent == ()
    assert open_store(place.store).videos["a.mp4"].labels == (1,)
    place.has({"a.mp4": 0, "b.mp4": 1})


def test_ids_do_not_depend_on_neighbours(place: StoreOfVideos) -> None:
    place.put("a.mp4", 0)
    place.extract()
    place.put("a.mkv", 1), place.put("a", 2), place.put("a.mp4.mp4", 3)
    plan, _ = place.extract()
    assert (plan.spans, plan.done) == (3, 1)
    place.has({"a": 2, "a.mkv": 1, "a.mp4": 0, "a.mp4.mp4": 3})


def test_ids_of_an_older_store_stay(place: StoreOfVideos) -> None:
    place.put("a.mp4", 0), place.put("b.mp4", 1)
    place.edit = with_ids(lambda name: name.partition(".")[0])
    place.extract()
    place.edit = lambda dataset: dataset
    place.put("a.mkv", 2), place.put("b.mp4", 3)
    plan, _ = place.extract()
    assert sorted(plan.changes.replaced) == ["b"]
    place.has({"a": 0, "a.mkv": 2, "b": 3})


def old_store(place: StoreOfVideos) -> None:
    """Make a store of a.mp4, b.mp4 and c.mkv, a shard each, with ids as older versions had."""
    place.edit = with_ids(lambda name: name.partition(".")[0])
    for k, name in enumerate(("a.mp4", "b.mp4", "c.mkv")):
        place.put(name, k)
        place.extract()
    place.edit = lambda dataset: dataset


def shard_of(place: StoreOfVideos, video_id: str) -> Path:
    (name,) = open_store(place.store).videos[video_id].shards
    return place.store / "shards" / name


@pytest.mark.parametrize(
    "how, known_by", [("gone", "index"), ("payload", "ledger"), ("table", "nothing")]
)
def test_a_repair_keeps_older_ids(how: str, known_by: str, place: StoreOfVideos) -> None:
    old_store(place)
    if known_by != "nothing":
        place.put("a.mkv", 3)  # whose id without extension is that of another
    shard = shard_of(place, "a")
    if how == "gone":
        shard.unlink()
    else:
        content = bytearray(shard.read_bytes())
        with h5py.File(shard, locking=False) as file:
            images = file["streams/rgb/bytes" if how == "payload" else "frames/pts_s"]
            content[images.id.get_offset() + 20] ^= 1
        shard.write_bytes(content)
    if known_by != "index":
        (place.store / "index.h5").unlink()
    if known_by == "nothing":
        shutil.rmtree(place.store / "ledger")
    assert not verify_store(place.store).ok
    assert place.repair().failed == 0
    place.has({"a": 0, "b": 1, "c": 2})


def test_a_repair_finds_videos_under_older_ids(place: StoreOfVideos) -> None:
    old_store(place)
    shard_of(place, "a").unlink()
    place.edit = with_ids(lambda name: name.replace("a.mp4", "new"))
    shutil.rmtree(place.store / "ledger")
    place.extract()
    place.edit = lambda dataset: dataset
    assert place.repair().failed == 0
    hashes = place.hashes()
    assert len(hashes) == len(set(hashes.values())) == 3


def test_extract_makes_a_lost_video_under_its_older_id(place: StoreOfVideos) -> None:
    old_store(place)
    shard_of(place, "b").unlink()
    assert place.extract()[0].spans == 1
    assert place.repair().failed == 0
    place.has({"a": 0, "b": 1, "c": 2})


def test_array_jobs_share_what_has_changed(place: StoreOfVideos) -> None:
    names = [f"{k}.mp4" for k in range(6)]
    for name in names:
        place.put(name, 0)
    place.write_list(*(f"{name},0,train1" for name in names))
    place.extract()  # one shard, from which every job will remove some
    for name in names:
        place.put(name, 1)
    place.write_list(*(f"{name},{k % 2},train1" for k, name in enumerate(names)))
    jobs = [(1, 3), (2, 3), (3, 3)]
    plans = [place.plan(part=job) for job in jobs]
    assert [plan.spans + plan.done for plan in plans] == [
        len(plan.changes.replaced) for plan in plans
    ]
    assert sorted(name for plan in plans for name in plan.changes.replaced) == names
    assert max(len(plan.changes.replaced) for plan in plans) < len(names)
    for job in jobs:
        place.extract(part=job)
    place.has(dict.fromkeys(names, 1))
    assert [v.labels[0] for v in open_store(place.store).videos.values()] == [0, 1] * 3


def test_jobs_that_end_together_remove_from_one_shard_in_turn(place: StoreOfVideos) -> None:
    names = [f"{k}.mp4" for k in range(6)]
    for name in names:
        place.put(name, 0)
    place.extract()
    other = replace(place, root=place.root / "other")
    for name in names:
        shutil.copy2(place.put(name, 1), other.put(name, 1))
    other.extract()
    (shard,) = (other.store / "shards").iterdir()
    shutil.copyfile(shard, place.store / "shards" / "shard-000000000000.h5")
    stale = place.plan().changes.stale
    jobs = [
        threading.Thread(target=supersede, args=(place.store, {name: stale[name]}))
        for name in names
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    adopt(place.store)
    place.has(dict.fromkeys(names, 1))


def test_retry_reaches_partial_videos(place: StoreOfVideos) -> None:
    place.put("a.mp4", 0)
    cut = encode_video(place.videos / "b.mkv", draw_noise_clip(9), gop=5)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    place.extract(on_error="partial")
    assert open_store(place.store).videos["b.mkv"].status == "partial"
    before = images(place.store)
    plan, _ = place.extract(on_error="partial", retry="all")
    assert plan.changes.lines() == ["1 stored in part are retried; if they fail they stay"]
    assert (plan.spans, plan.done) == (1, 1)
    assert len(open_store(place.store).catalogue.table.ids) == 2
    plan, summary = place.extract(on_error="skip", retry="corrupt")
    assert (plan.spans, plan.done, summary.failed) == (1, 1, 1)
    assert images(place.store) == before
    assert place.plan(retry="too_small").changes.lines() == []


def test_a_run_leaves_the_workers_of_a_scheduler_unchanged(scheduler: str) -> None:
    found = []
    for _ in range(2):
        with remote_pool(scheduler) as pool:
            pool.submit(lambda _: (os.getpid(), is_stop_requested()), None)
            finished = pool.next_finished(60)
            assert finished is not None and finished[2] is None
            found.append(finished[1])
    assert found[0] == found[1] and not found[0][1]
