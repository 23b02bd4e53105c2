"""Shards that are gone, swapped, unknown or unreadable: verify and the reader report them."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys

import pytest
from checkout import ROOT

from flowpipe.errors import FlowpipeWarning
from flowpipe.store import (
    adopt,
    forget_lost,
    lost_shards,
    open_store,
    restore_manifest,
    verify_store,
)
from flowpipe.store.manifest import log_records, manifest_files, read_manifest
from flowpipe.store.shard import read_shard
from flowpipe.types import VideoRecord


def clauses(store) -> list[tuple[str, str]]:
    return [(p.shard, p.clause) for p in verify_store(store).problems]


@pytest.mark.parametrize("with_index", [True, False])
def test_a_lost_shard_is_a_problem(make_store, with_index):
    made = make_store([("a", 7), ("b", 3)], [("c", 4)])
    open_store(made.path)
    made.shards[0].unlink()
    if not with_index:
        (made.path / "index.h5").unlink()
    (problem,) = verify_store(made.path).problems
    assert (problem.shard, problem.clause) == (made.shards[0].name, "S28")
    assert "2 videos (a, b" in problem.message
    with pytest.warns(FlowpipeWarning, match="1 published shard gone"):
        store = open_store(made.path)
    assert list(store.videos) == ["c"] and store.lost == (made.shards[0].name,)
    assert set(lost_shards(made.path)) == {made.shards[0].name}


def test_a_lost_shard_whose_videos_are_elsewhere_is_a_note(make_store):
    made = make_store([("a", 7)], [("a", 7), ("b", 3)])
    made.shards[0].unlink()
    report = verify_store(made.path)
    assert report.ok and "is gone" in report.notes[0]
    forget_lost(made.path, lost_shards(made.path))
    assert not lost_shards(made.path) and not verify_store(made.path).notes


def test_swapped_shards_are_a_problem(make_store):
    made = make_store([("a", 7)], [("b", 7)])
    first, second = made.shards
    spare = made.path / "spare"
    first.rename(spare), second.rename(first), spare.rename(second)
    assert clauses(made.path) == [(first.name, "S28"), (second.name, "S28")]


def test_a_shard_copied_over_another_is_a_problem(make_store):
    made = make_store([("a", 7)], [("b", 7)])
    shutil.copy(made.shards[0], made.shards[1])
    assert clauses(made.path) == [(made.shards[1].name, "S28")]


def test_unknown_shards_are_added_to_the_manifest(make_store):
    made = make_store([("a", 7)], [("b", 7)])
    for name in manifest_files(made.path):
        path = made.path / "manifest" / name
        path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    report = verify_store(made.path)
    assert report.ok and "1 shard not in the manifest" in report.notes[0]
    assert adopt(made.path) == 1 and adopt(made.path) == 0
    (one,) = read_manifest(made.path).published[made.shards[1].name]
    assert one.keys == (("b", 0, 1),) and not verify_store(made.path).notes


def test_a_manifest_that_is_gone_or_damaged_is_a_problem(make_store):
    made = make_store([("a", 7)], [("b", 7)])
    (name,) = manifest_files(made.path)
    path = made.path / "manifest" / name
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    assert ("manifest", "S27") in clauses(made.path)
    restore_manifest(made.path)
    assert not clauses(made.path) and len(read_manifest(made.path).published) == 2
    shutil.rmtree(made.path / "manifest")
    assert clauses(made.path) == [("manifest", "S27")]
    restore_manifest(made.path)
    assert not clauses(made.path)


def test_new_records_are_read_and_survive_a_new_index(make_store):
    made = make_store([("a", 7), ("s", 5, 0, 2)], [("s", 4, 1, 2)])
    before = open_store(made.path).videos["a"]
    assert before.labels == (3, 1)
    seals = {shard.name: read_shard(shard).attrs["seal"] for shard in made.shards}
    for label in (0, 2):
        changed = [
            VideoRecord(v, "/new.avi", labels=(label,), splits=("test2",)) for v in ("a", "s")
        ]
        log_records(made.path, {(name, seal): changed for name, seal in seals.items()})
        for _ in range(2):
            store = open_store(made.path)
            for video_id in ("a", "s"):
                video = store.videos[video_id]
                assert video.labels == (label,) and video.splits == ("test2",)
                assert all(m["record"]["path"] == "/new.avi" for m in video.part_metas)
            assert store.videos["a"].meta["clipped_share"] == before.meta["clipped_share"]
            (made.path / "index.h5").unlink()
    assert not clauses(made.path)


@pytest.mark.parametrize("kind", ["dangling link", "pipe", "folder"])
def test_a_shard_that_cannot_be_checked_is_a_problem(make_store, kind):
    made = make_store([("a", 7)])
    odd = made.path / "shards" / "odd.h5"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "folder":
        odd.mkdir()
    else:
        odd.symlink_to("nowhere")
    (problem,) = [p for p in verify_store(made.path, timeout_s=20).problems]
    assert problem.shard == "odd.h5"
    with pytest.warns(FlowpipeWarning, match="odd.h5"):
        assert list(open_store(made.path, skip_broken=True).videos) == ["a"]


def test_a_shard_that_vanishes_during_verify_is_a_problem(make_store):
    made = make_store([("a", 7)], [("b", 7)], [("c", 7)])

    def remove(row) -> None:
        for shard in made.shards[1:]:
            if shard.name != row.shard:
                shard.unlink(missing_ok=True)

    report = verify_store(made.path, on_shard=remove)
    assert {row.shard for row in report.shards} == {shard.name for shard in made.shards}
    assert not report.ok


def test_verify_without_descriptors_never_reports_a_whole_store(make_store):
    made = make_store(*[[(f"v{k}", 3)] for k in range(6)])
    (made.path / "index.h5").unlink(missing_ok=True)
    code = (
        "import resource, sys; from flowpipe.store import verify_store\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[2])))\n"
        "report = verify_store(sys.argv[1], workers=8)\n"
        "print(report.ok, len(report.shards))\n"
    )
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft > 64
    for limit in ("12", "18", "24"):
        found = subprocess.run(
            [sys.executable, "-c", code, str(made.path), limit],
            capture_output=True, text=True, cwd=ROOT, timeout=120,
        )  # fmt: skip
        said = found.stdout.split()
        assert found.returncode != 0 or said == ["False", "6"] or said == ["True", "6"], said
        if said == ["True", "6"]:
            assert limit != "12"
