"""`flowpipe extract` as a user runs it: real videos, real workers, every fault a real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from command import FAST, Run, command, draw_noise_clip, images, in_process, ledger, leftovers
from store_making import RECIPE, Made, add_video, open_writer
from videofile import encode_video

from flowpipe import open_store, params
from flowpipe.cli.extract import next_commands
from flowpipe.store import create_store
from flowpipe.store.shard import seal_shard

pytestmark = pytest.mark.usefixtures("lasting_workers")


def test_a_folder_becomes_a_store_of_all_modalities(
    clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    store = tmp_path / "store"
    done = flowpipe(
        "extract", "--videos", clips, "--out", store, "--workers", 2, *FAST,
        "--modalities", "rgb,flow,warped_flow,rgb_diff",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for word in ("8 done", "contact-sheet.png", "flowpipe verify", "flowpipe show"):
        assert word in done.stderr
    opened = open_store(store)
    assert list(opened.videos) == [f"class {k % 2}/clip-{k}.mp4" for k in (0, 2, 4, 6, 1, 3, 5, 7)]
    for video_id, video in opened.videos.items():
        assert video.frames == 30
        assert video.images == {"rgb": 30, "flow": 29, "warped_flow": 29, "rgb_diff": 29}
        assert opened.snippet(video_id, "flow", 3, 5).shape == (5, 2, 48, 64)
    assert (store / "contact-sheet.png").stat().st_size > 1000
    assert leftovers(store) == []


def test_stored_flow_is_the_motion_of_the_clip(clips: Path, tmp_path: Path, flowpipe: Run) -> None:
    store = tmp_path / "store"
    done = flowpipe("extract", "--videos", clips, "--out", store, "--size", "64x48")
    assert done.returncode == 0, done.stderr
    opened = open_store(store)
    for seed in range(8):
        flow = opened.flow(f"class {seed % 2}/clip-{seed}.mp4", "flow", 0, 29)
        centre = np.median(flow[:, :, 12:-12, 16:-16], axis=(0, 2, 3))
        # The window slides down and right over the scene, so the scene moves up and left.
        assert centre == pytest.approx([-(1 + seed % 2), -1], abs=0.2)


def test_a_second_run_extracts_new_videos_only(clips: Path, tmp_path: Path, flowpipe: Run) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    shutil.copytree(clips, videos)
    arguments = ("extract", "--videos", videos, "--out", store, "--workers", 1, *FAST)
    assert flowpipe(*arguments).returncode == 0
    before = {p.name: p.stat().st_mtime_ns for p in (store / "shards").iterdir()}
    again = flowpipe(*arguments)
    assert again.returncode == 0
    assert "8 done before" in again.stderr
    assert {p.name: p.stat().st_mtime_ns for p in (store / "shards").iterdir()} == before
    encode_video(videos / "new.mp4", draw_noise_clip(99))
    third = flowpipe(*arguments)
    assert third.returncode == 0
    assert "1 done" in third.stderr
    after = {p.name: p.stat().st_mtime_ns for p in (store / "shards").iterdir()}
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()


@pytest.fixture(scope="module")
def reference(
    clips: Path, tmp_path_factory: pytest.TempPathFactory, lasting_workers: None
) -> dict[object, bytes]:
    """Images that one worker without faults makes of the clips."""
    store = tmp_path_factory.mktemp("reference") / "store"
    done = in_process("extract", "--videos", clips, "--out", store, "--workers", 1, *FAST)
    assert done.returncode == 0, done.stderr
    return dict(images(store))


def test_three_workers_store_the_same_bytes(
    clips: Path, tmp_path: Path, flowpipe: Run, reference: dict[object, bytes]
) -> None:
    store = tmp_path / "store"
    done = flowpipe("extract", "--videos", clips, "--out", store, "--workers", 3, *FAST)
    assert done.returncode == 0, done.stderr
    assert images(store) == reference


def test_broken_files_do_not_affect_other_videos(
    clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    shutil.copytree(clips, videos)
    (videos / "empty.mp4").touch()
    (videos / "text.mp4").write_text("this is no video\n" * 100)
    whole = (videos / "class 0" / "clip-0.mp4").read_bytes()
    (videos / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    os.mkfifo(videos / "pipe.mp4")
    arguments = ("extract", "--videos", videos, "--out", store, "--workers", 2, *FAST)
    done = flowpipe(*arguments)
    assert done.returncode == 1
    assert len(open_store(store).videos) == 8
    failures = {str(o["video_id"]): o["reason"] for o in ledger(store) if o["status"] == "failed"}
    assert failures["empty.mp4"] == "empty"
    assert failures["text.mp4"] == "unreadable"
    assert failures["cut.mp4"] in ("unreadable", "corrupt")
    assert "pipe.mp4" not in failures, (
        "a named pipe is no video and would block its reader for ever"
    )
    assert flowpipe("verify", store).returncode == 0
    # They are not tried again on their own, but the run still says that they are missing.
    again = flowpipe(*arguments)
    assert again.returncode == 1
    assert "to extract" in again.stderr and again.stderr.count("\n[failed]") <= 2
    # A corrected file is extracted.
    shutil.copy(videos / "class 0" / "clip-0.mp4", videos / "text.mp4")
    flowpipe(*arguments)
    assert "text.mp4" in open_store(store).videos


def test_partial_keeps_what_came_before_the_damage(
    clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    videos.mkdir()
    encode_video(videos / "whole.avi", draw_noise_clip(1, frames=90), codec="mpeg4")
    content = (videos / "whole.avi").read_bytes()
    (videos / "damaged.avi").write_bytes(content[: int(len(content) * 0.6)])
    arguments = ("extract", "--videos", videos, "--out", store, "--workers", 1, *FAST)
    skip = flowpipe(*arguments)
    assert (skip.returncode, list(open_store(store).videos)) == (1, ["whole.avi"]), skip.stderr
    partial = flowpipe(*arguments, "--on-error", "partial")
    assert partial.returncode == 0, partial.stderr
    video = open_store(store).videos["damaged.avi"]
    assert video.meta["status"] == "partial"
    assert video.meta["reason"] == "corrupt"
    assert 0 < video.frames < 90
    assert video.images["flow"] == video.frames - 1
    assert flowpipe("verify", store).returncode == 0


def test_fail_stops_at_the_first_broken_video(clips: Path, tmp_path: Path, flowpipe: Run) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(clips, videos)
    (videos / "a-text.mp4").write_text("this is no video\n" * 100)
    done = flowpipe(
        "extract", "--videos", videos, "--out", tmp_path / "store", "--workers", 1, *FAST,
        "--on-error", "fail",
    )  # fmt: skip
    assert done.returncode == 1
    assert "a-text.mp4" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_split_video_reads_back_as_one_with_the_same_bytes(tmp_path: Path, flowpipe: Run) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    clip = np.concatenate([draw_noise_clip(seed, frames=60) for seed in range(6)])
    encode_video(videos / "long.mp4", clip, gop=25, b_frames=2)
    everything = ("--modalities", "rgb,flow,warped_flow,rgb_diff")
    whole, split = tmp_path / "whole", tmp_path / "split"
    # Two array jobs, so that the parts lie in two shards.
    for store, split_s, part in ((whole, 0, "1/1"), (split, 3, "1/2"), (split, 3, "2/2")):
        done = flowpipe(
            "extract", "--videos", videos, "--out", store, "--workers", 2, *FAST, *everything,
            "--split", split_s, "--part", part,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert len(list((split / "shards").iterdir())) == 2
    assert open_store(split).videos["long.mp4"].parts == 5
    assert images(split) == images(whole)
    assert open_store(split).videos["long.mp4"].frames == 360
    one, two = (open_store(s).videos["long.mp4"].pts_s for s in (whole, split))
    assert np.array_equal(one, two)
    assert flowpipe("verify", split).returncode == 0


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one sound video and one damaged in the middle, both long enough to be split."""
    folder = tmp_path_factory.mktemp("torn")
    clip = np.concatenate([draw_noise_clip(seed, frames=60) for seed in range(6)])
    for name in ("damaged.mp4", "whole.mp4"):
        encode_video(folder / name, clip, gop=25)
    content = bytearray((folder / "damaged.mp4").read_bytes())
    start, end = int(len(content) * 0.50), int(len(content) * 0.53)
    content[start:end] = bytes(end - start)
    (folder / "damaged.mp4").write_bytes(content)
    return folder


def split(videos: Path, store: Path, *more: object) -> tuple[object, ...]:
    return (
        "extract", "--videos", videos, "--out", store, "--workers", 1, *FAST, "--split", 3, *more,
    )  # fmt: skip


def test_skip_leaves_out_a_split_video_with_damage(
    torn: Path, tmp_path: Path, flowpipe: Run
) -> None:
    store = tmp_path / "store"
    done = flowpipe(*split(torn, store))
    assert done.returncode == 1, done.stderr
    assert list(open_store(store).videos) == ["whole.mp4"]
    (failure,) = [o for o in ledger(store) if o["status"] == "failed"]
    assert (failure["video_id"], failure["reason"], failure["parts"]) == (
        "damaged.mp4",
        "corrupt",
        1,
    )
    # Its good parts are there, but a video in quarantine is no fault of the store.
    checked = flowpipe("verify", store)
    assert checked.returncode == 0, checked.stdout
    assert "note: damaged.mp4 failed: only 4 of its 5 parts are stored" in checked.stdout
    again = flowpipe(*split(torn, store))
    assert again.returncode == 1
    assert "0 to extract" in again.stderr and "1 in quarantine" in again.stderr
    # Under the other policy it gets its chance, and out of quarantine.
    partial = flowpipe(*split(torn, store, "--on-error", "partial"))
    assert partial.returncode == 0, partial.stderr
    assert open_store(store).videos["damaged.mp4"].meta["status"] == "partial"
    assert not any((store / "quarantine").iterdir())


def test_partial_keeps_a_split_video_up_to_the_damage(
    torn: Path, tmp_path: Path, flowpipe: Run
) -> None:
    pieces, whole = tmp_path / "pieces", tmp_path / "whole"
    done = flowpipe(*split(torn, pieces, "--on-error", "partial"))
    assert done.returncode == 0, done.stderr
    video = open_store(pieces).videos["damaged.mp4"]
    assert (video.meta["status"], video.meta["reason"]) == ("partial", "corrupt")
    assert 0 < video.frames < 360
    unsplit = flowpipe(*split(torn, whole, "--on-error", "partial", "--split", 0))
    assert unsplit.returncode == 0, unsplit.stderr
    assert images(pieces) == images(whole)
    assert flowpipe("verify", pieces).returncode == 0


def test_a_split_video_whose_parts_do_not_meet_is_made_in_one_piece_on_resume(
    torn: Path, tmp_path: Path, flowpipe: Run
) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    videos.mkdir()
    shutil.copy(torn / "whole.mp4", videos / "long.mp4")
    assert flowpipe(*split(videos, store)).returncode == 0
    # Another frame on the far side of a cut, as if the run had been killed before it was noticed.
    (shard,) = (store / "shards").iterdir()
    with h5py.File(shard, "r+") as file:
        meta = json.loads(file["videos/meta"][2])
        meta["edges"]["first_crc32"] ^= 1
        file["videos/meta"][2] = json.dumps(meta)
    seal_shard(shard)
    (store / "index.h5").unlink(missing_ok=True)
    again = flowpipe(*split(videos, store))
    assert again.returncode == 0, again.stderr
    assert "1 to extract" in again.stderr
    assert open_store(store).videos["long.mp4"].parts == 1
    third = flowpipe(*split(videos, store))
    assert "0 to extract" in third.stderr


def test_only_what_failed_for_the_given_reason_is_retried(
    torn: Path, clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    videos.mkdir()
    shutil.copy(torn / "damaged.mp4", videos)
    (videos / "text.mp4").write_text("this is no video\n" * 100)
    arguments = ("extract", "--videos", videos, "--out", store, "--workers", 1, *FAST)
    assert flowpipe(*arguments).returncode == 1
    other = flowpipe(*arguments, "--retry", "stalled")
    assert "0 to extract, 0 done before, 2 in quarantine" in other.stderr
    retried = flowpipe(*arguments, "--retry", "corrupt")
    assert retried.returncode == 1
    assert "1 to extract, 0 done before, 1 in quarantine" in retried.stderr
    reasons = sorted(str(o["reason"]) for o in ledger(store))
    assert reasons == ["corrupt", "corrupt", "unreadable"]
    everything = flowpipe(*arguments, "--retry", "all")
    assert "2 to extract" in everything.stderr


def test_the_ledger_has_a_line_for_each_video_with_the_documented_values(
    clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    shutil.copytree(clips / "class 0", videos)
    (videos / "empty.mp4").touch()
    (videos / "text.mp4").write_text("this is no video\n" * 100)
    done = flowpipe("extract", "--videos", videos, "--out", store, "--workers", 2, *FAST)
    assert done.returncode == 1
    lines = ledger(store)
    assert sorted(str(o["video_id"]) for o in lines) == [
        "clip-0.mp4", "clip-2.mp4", "clip-4.mp4", "clip-6.mp4", "empty.mp4", "text.mp4",
    ]  # fmt: skip
    for line in lines:
        if line["status"] == "failed":
            assert line["reason"] in ("empty", "unreadable") and line["message"]
            assert (line["frames"], line["images"], line["shard"]) == (0, {}, "")
            continue
        assert (line["status"], line["reason"]) == ("done", "")
        assert (line["frames"], line["images"]) == (30, {"rgb": 30, "flow": 29})
        seconds = line["seconds"]
        assert isinstance(seconds, dict)
        assert set(seconds) == {"decode", "compute", "camera", "encode", "write", "wall"}
        assert all(value >= 0 for value in seconds.values())
        busy_s = line["busy_s"]
        assert set(busy_s) == {"decode", "compute", "camera", "encode", "write"}
        assert all(0 <= value <= seconds["wall"] for value in busy_s.values())
        assert line["backend"] and line["worker"] and line["path"]
        assert (store / "shards" / f"{line['shard']}.h5").exists()
        assert line["stored_bytes"] > 1000


def test_array_jobs_share_one_store_without_knowing_of_each_other(
    clips: Path, tmp_path: Path, flowpipe: Run, reference: dict[object, bytes]
) -> None:
    store = tmp_path / "store"
    jobs = [
        subprocess.Popen(
            command("extract", "--videos", clips, "--out", store, "--workers", 1, *FAST,
                    "--part", f"{index}/3"),
            stderr=subprocess.PIPE, text=True,
        )
        for index in (1, 2, 3)
    ]  # fmt: skip
    for job in jobs:
        _, stderr = job.communicate(timeout=200)
        assert job.returncode == 0, stderr
    assert images(store) == reference
    assert flowpipe("verify", store).returncode == 0


def test_another_recipe_is_refused_before_anything_is_written(
    clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    store = tmp_path / "store"
    arguments = ("extract", "--videos", clips, "--out", store, "--workers", 1, *FAST)
    assert flowpipe(*arguments).returncode == 0
    before = sorted(p.name for p in store.rglob("*"))
    refused = flowpipe(*arguments, "--set", "bound=15")
    assert refused.returncode == 2
    assert "bound" in refused.stderr
    assert sorted(p.name for p in store.rglob("*")) == before


def test_names_never_escape_the_store(tmp_path: Path, flowpipe: Run) -> None:
    videos, store = tmp_path / "videos", tmp_path / "out" / "store"
    videos.mkdir()
    clip = videos / "a clip; rm -rf $(HOME) 'quoted' [x] ü #!.mp4"
    encode_video(clip, draw_noise_clip(3))
    listed = tmp_path / "list.csv"
    listed.write_text(f'video_id,path\n../../escape,"{clip}"\n/etc/passwd,"{clip}"\n..,"{clip}"\n')
    assert flowpipe("extract", "--videos", videos, "--out", store, *FAST).returncode == 0
    from_list = tmp_path / "out" / "listed"
    assert flowpipe("extract", "--videos", listed, "--out", from_list, *FAST).returncode == 0
    assert set(open_store(from_list).videos) == {"../../escape", "/etc/passwd", ".."}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["list.csv", "out", "videos"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["listed", "store"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((), "--out"),
        (("--out", "s"), "--videos"),
        (("--out", "s", "--videos", "nowhere"), "nowhere"),
        (("--out", "s", "--dataset", "thumos14"), "--root"),
        (("--out", "s", "--dataset", "ucf1O1", "--root", "."), "ucf1O1"),
        (("--out", "../s", "--videos", ".", "--modalities", "rgb,flwo"), "flwo"),
        (("--out", "../s", "--videos", ".", "--set", "flow.wraps=3"), "warps"),
        (("--out", "../s", "--videos", ".", "--set", "bound"), "key=value"),
        (("--out", "../s", "--videos", ".", "--size", "340"), "340x256"),
        (("--out", "../s", "--videos", ".", "--size", "340x256", "--short-side", "256"), "exclude"),
        (("--out", "../s", "--videos", ".", "--part", "3/2"), "--part"),
        (("--out", "../s", "--videos", ".", "--recipe", "nothing"), "nothing"),
        (("--out", "../s", "--videos", ".", "--retry", "bordom"), "--retry"),
        (("--out", "../s", "--videos", ".", "--gpus", "0"), "--gpus"),
        (("--out", "../s", "--videos", ".", "--wrokers", "8"), "--workers"),
    ],
)
def test_wrong_use_is_explained(
    arguments: tuple[str, ...], words: str, tmp_path: Path, flowpipe: Run
) -> None:
    (tmp_path / "here").mkdir()
    done = flowpipe("extract", *arguments, cwd=tmp_path / "here")
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]


@pytest.mark.parametrize(
    ("dataset", "modalities", "trained"),
    [
        ("folder", ["rgb", "flow"], "rgb"),
        ("demo", ["rgb", "flow"], "flow"),
        ("demo_sound", ["rgb", "audio"], "audio"),
        ("ucf101", ["flow"], "flow"),
    ],
)
def test_the_next_command_trains_the_first_stream_of_the_recipe(
    tmp_path: Path, dataset: str, modalities: list[str], trained: str
) -> None:
    """In both demo sets the frames tell nothing about the class."""
    made_with = {**RECIPE, "modalities": modalities}
    create_store(
        tmp_path, recipe=params.canonical(made_with), recipe_digest=params.digest(made_with),
        dataset={"dataset": dataset}, class_names=list("abcd"),
    )  # fmt: skip
    shard = tmp_path / "shards" / "shard-0.h5"
    with open_writer(shard, modalities, made_with=made_with) as writer:
        add_video(writer, Made(tmp_path), "v", 4, np.random.default_rng(0))
        writer.publish()
    *_, command_line = next_commands(open_store(tmp_path), "s")
    assert command_line == f"flowpipe train s --modality {trained} -o runs/{trained}"
