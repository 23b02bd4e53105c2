"""`flowpipe extract` as a user runs it: real videos, real workers, every fault a real one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from command import Run, command, moving_clip
from videofile import encode_video

from flowpipe import open_store

FAST = ("--set", "flow=dis", "--size", "64x48")
"""DIS flow on tiny frames: these tests are about the run, not about the flow."""


def images(store: Path) -> dict[tuple[str, str], bytes]:
    """Every stored byte of every video, by video and modality."""
    opened = open_store(store)
    return {
        (video_id, modality): b"".join(opened.encoded(video_id, modality, 0, count))
        for video_id, video in opened.videos.items()
        for modality, count in video.images.items()
    }


def ledger(store: Path) -> list[dict[str, object]]:
    lines = [line for f in sorted((store / "ledger").iterdir()) for line in f.open()]
    return [json.loads(line) for line in lines]


def leftovers(store: Path) -> list[str]:
    """Files that only a running extraction may have."""
    names = [p.name for p in (store / "shards").iterdir() if not p.name.startswith("shard-")]
    running = store / "running"
    return names + ([p.name for p in running.iterdir()] if running.exists() else [])


def wait_for(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)


def test_all_modalities_of_a_folder(clips: Path, tmp_path: Path, flowpipe: Run) -> None:
    store = tmp_path / "store"
    done = flowpipe(
        "extract", "--videos", clips, "--out", store, "--workers", 2, *FAST,
        "--modalities", "rgb,flow,warped_flow,rgb_diff",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for word in ("8 done", "contact-sheet.png", "flowpipe verify", "flowpipe show"):
        assert word in done.stderr
    opened = open_store(store)
    assert list(opened.videos) == [f"class {k % 2}/clip-{k}" for k in (0, 2, 4, 6, 1, 3, 5, 7)]
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
        flow = opened.flow(f"class {seed % 2}/clip-{seed}", "flow", 0, 29)
        centre = np.median(flow[:, :, 12:-12, 16:-16], axis=(0, 2, 3))
        # The window slides down and right over the scene, so the scene moves up and left.
        assert centre == pytest.approx([-(1 + seed % 2), -1], abs=0.2)


def test_running_again_does_nothing_and_new_videos_only(
    clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    shutil.copytree(clips, videos)
    arguments = ("extract", "--videos", videos, "--out", store, "--workers", 1, *FAST)
    assert flowpipe(*arguments).returncode == 0
    before = {p.name: p.stat().st_mtime_ns for p in (store / "shards").iterdir()}
    again = flowpipe(*arguments)
    assert again.returncode == 0
    assert "8 done before" in again.stderr
    assert {p.name: p.stat().st_mtime_ns for p in (store / "shards").iterdir()} == before
    encode_video(videos / "new.mp4", moving_clip(99))
    third = flowpipe(*arguments)
    assert third.returncode == 0
    assert "1 done" in third.stderr
    after = {p.name: p.stat().st_mtime_ns for p in (store / "shards").iterdir()}
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()


@pytest.fixture(scope="module")
def reference(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[object, bytes]:
    """What one undisturbed worker makes of the clips."""
    store = tmp_path_factory.mktemp("reference") / "store"
    subprocess.run(
        command("extract", "--videos", clips, "--out", store, "--workers", 1, *FAST),
        check=True, capture_output=True,
    )  # fmt: skip
    return dict(images(store))


def test_three_workers_store_the_same_bytes(
    clips: Path, tmp_path: Path, flowpipe: Run, reference: dict[object, bytes]
) -> None:
    store = tmp_path / "store"
    done = flowpipe("extract", "--videos", clips, "--out", store, "--workers", 3, *FAST)
    assert done.returncode == 0, done.stderr
    assert images(store) == reference


@pytest.fixture
def running() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `flowpipe ...` in a session of its own; what still lives afterwards is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(*arguments),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell that runs the tests in the background makes its children ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()


def slow(clips: Path, store: Path, *more: object) -> tuple[object, ...]:
    """A run long enough to be disturbed: OpenCV's TV-L1, a shard per video or two."""
    return (
        "extract", "--videos", clips, "--out", store, "--workers", 2,
        "--set", "flow=opencv_tvl1", "--size", "80x60", *more,
    )  # fmt: skip


def test_kill_9_in_the_middle_then_resume_gives_the_same_bytes(
    clips: Path, tmp_path: Path, flowpipe: Run, running: Callable[..., subprocess.Popen[str]]
) -> None:
    undisturbed, store = tmp_path / "undisturbed", tmp_path / "store"
    assert flowpipe(*slow(clips, undisturbed)).returncode == 0
    process = running(*slow(clips, store))
    wait_for(lambda: any(store.glob("shards/shard-*.h5")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not _alive_in_session(process.pid))
    finished = len(open_store(store).videos)
    assert 0 < finished < 8
    again = flowpipe(*slow(clips, store))
    assert again.returncode == 0, again.stderr
    assert f"{finished} done before" in again.stderr
    assert images(store) == images(undisturbed)
    assert leftovers(store) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_leave_a_resumable_store(
    number: signal.Signals,
    clips: Path,
    tmp_path: Path,
    flowpipe: Run,
    running: Callable[..., subprocess.Popen[str]],
) -> None:
    store = tmp_path / "store"
    process = running(*slow(clips, store))
    wait_for(lambda: any(store.glob("shards/shard-*.h5")))
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "run the same command to go on" in stderr
    assert "Traceback" not in stderr
    wait_for(lambda: not _alive_in_session(process.pid))
    assert leftovers(store) == []
    assert flowpipe("verify", store).returncode == 0
    assert flowpipe(*slow(clips, store)).returncode == 0
    assert len(open_store(store).videos) == 8


def _alive_in_session(session: int) -> bool:
    """Whether any process of a session still runs."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                return True
    return False


def test_broken_files_cost_nothing_but_themselves(
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
    assert failures["empty"] == "empty"
    assert failures["text"] == "unreadable"
    assert failures["cut"] in ("unreadable", "corrupt")
    assert "pipe" not in failures, "a named pipe is no video and would block its reader for ever"
    assert flowpipe("verify", store).returncode == 0
    # They are not tried again on their own, but the run still says that they are missing.
    again = flowpipe(*arguments)
    assert again.returncode == 1
    assert "to extract" in again.stderr and again.stderr.count("\n[failed]") <= 2
    # A mended file is taken up.
    shutil.copy(videos / "class 0" / "clip-0.mp4", videos / "text.mp4")
    flowpipe(*arguments)
    assert "text" in open_store(store).videos


def test_a_video_that_stalls_is_killed_tried_alone_and_put_aside(
    clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    shutil.copytree(clips, videos)
    # Minutes of OpenCV's TV-L1 in a window that has three seconds: a real stall in native code.
    encode_video(videos / "huge.mp4", moving_clip(5, frames=24, height=1080, width=1920))
    done = flowpipe(
        "extract", "--videos", videos, "--out", store, "--workers", 2, "--stall", 4,
        "--set", "flow=opencv_tvl1", "--set", "size={width: 0, height: 0}",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert len(open_store(store).videos) == 8
    (failure,) = [o for o in ledger(store) if o["status"] == "failed"]
    assert (failure["video_id"], failure["reason"]) == ("huge", "stalled")
    assert "Timeout" in str(failure["message"]), "the worker's last words say where it hung"
    assert leftovers(store) == []


def test_a_worker_killed_from_outside_costs_no_video(
    clips: Path, tmp_path: Path, running: Callable[..., subprocess.Popen[str]]
) -> None:
    store = tmp_path / "store"
    process = running(*slow(clips, store))
    crumbs = store / "running"
    killed: list[int] = []

    def kill_one() -> bool:
        for path in crumbs.glob("*/*.json"):
            try:
                pid = json.loads(path.read_text())["pid"]
            except (OSError, ValueError):
                continue
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            return True
        return False

    wait_for(kill_one)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    assert len(open_store(store).videos) == 8
    assert "Traceback" not in stderr
    assert len(stderr.splitlines()) < 40, "one death must not flood the screen"


def test_partial_keeps_what_came_before_the_damage(
    clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    videos.mkdir()
    encode_video(videos / "whole.avi", moving_clip(1, frames=90), codec="mpeg4")
    content = (videos / "whole.avi").read_bytes()
    (videos / "damaged.avi").write_bytes(content[: int(len(content) * 0.6)])
    arguments = ("extract", "--videos", videos, "--out", store, "--workers", 1, *FAST)
    skip = flowpipe(*arguments)
    assert (skip.returncode, list(open_store(store).videos)) == (1, ["whole"]), skip.stderr
    partial = flowpipe(*arguments, "--on-error", "partial")
    assert partial.returncode == 0, partial.stderr
    video = open_store(store).videos["damaged"]
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
    clip = np.concatenate([moving_clip(seed, frames=60) for seed in range(6)])
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
    assert open_store(split).videos["long"].parts == 5
    assert images(split) == images(whole)
    assert open_store(split).videos["long"].frames == 360
    one, two = (open_store(s).videos["long"].pts_s for s in (whole, split))
    assert np.array_equal(one, two)
    assert flowpipe("verify", split).returncode == 0


def test_array_jobs_share_one_store_without_knowing_of_each_other(
    clips: Path, tmp_path: Path, reference: dict[object, bytes]
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
    encode_video(clip, moving_clip(3))
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
        (("--out", "s", "--videos", ".", "--modalities", "rgb,flwo"), "flwo"),
        (("--out", "s", "--videos", ".", "--set", "flow.wraps=3"), "warps"),
        (("--out", "s", "--videos", ".", "--set", "bound"), "key=value"),
        (("--out", "s", "--videos", ".", "--size", "340"), "340x256"),
        (("--out", "s", "--videos", ".", "--size", "340x256", "--short-side", "256"), "exclude"),
        (("--out", "s", "--videos", ".", "--part", "3/2"), "--part"),
        (("--out", "s", "--videos", ".", "--recipe", "nothing"), "nothing"),
        (("--out", "s", "--videos", ".", "--retry", "bordom"), "--retry"),
        (("--out", "s", "--videos", ".", "--gpus", "8"), "--gpus 8"),
        (("--out", "s", "--videos", ".", "--wrokers", "8"), "--workers"),
    ],
)
def test_wrong_use_is_said_in_words(
    arguments: tuple[str, ...], words: str, tmp_path: Path, flowpipe: Run
) -> None:
    done = flowpipe("extract", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
