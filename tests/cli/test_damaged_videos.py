"""Damaged videos on the command line: policies, exit codes, and notes in its output."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from command import in_process as flowpipe
from videofile import encode_video, moving_clip

from flowpipe import open_store
from flowpipe.cli.info import video_facts

pytestmark = pytest.mark.usefixtures("lasting_workers")

FRAMES = 60
DAMAGED = ("flipped.avi", "ids.avi", "lost.ts")
WHOLE = ("delimiter.h264", "streams.mkv", "whole.mp4")
SMALL = (32, 48)


@dataclass
class Runs:
    """Runs of one folder of videos, all with ``--stream 0``."""

    fail: subprocess.CompletedProcess[str]
    conceal: subprocess.CompletedProcess[str]
    """In the store of `fail`."""
    tolerant: subprocess.CompletedProcess[str]
    """With ``--max-damage 1``, in a store of its own."""
    store: Path
    tolerant_store: Path


def write_videos(folder: Path) -> None:
    """Three damaged videos and three whole ones, of 60 frames each."""
    rng = np.random.default_rng(0)
    clip = moving_clip(FRAMES)
    mpeg4: dict[str, Any] = {"codec": "mpeg4", "gop": 20, "b_frames": 0, "qmin": 2, "qmax": 4}
    h264: dict[str, Any] = {"gop": 20, "b_frames": 0, "x264-params": "scenecut=0"}

    content = bytearray(encode_video(folder / "flipped.avi", clip, **mpeg4).read_bytes())
    for at in rng.integers(content.index(b"movi") + 4000, content.rindex(b"idx1"), 12):
        content[at] ^= 1 << int(rng.integers(8))
    (folder / "flipped.avi").write_bytes(content)

    content = bytearray(encode_video(folder / "ids.avi", clip, **mpeg4).read_bytes())
    with av.open(str(folder / "ids.avi")) as container:
        places = [p.pos for p in container.demux(video=0) if p.size]
    for number in (9, 24, 47):  # "00dc" and the chunk's size come before its bytes
        assert content[places[number] - 8 :][:4] == b"00dc"
        content[places[number] - 8] ^= 4
    (folder / "ids.avi").write_bytes(content)

    content = bytearray(encode_video(folder / "lost.ts", clip, **h264, qp=10).read_bytes())
    units = len(content) // 188
    for unit in (units // 2, units // 4):
        del content[188 * unit : 188 * (unit + 2)]
    (folder / "lost.ts").write_bytes(content)

    with encode_video(folder / "delimiter.h264", clip, **h264).open("ab") as file:
        file.write(b"\0\0\0\1\x09\xf0")
    encode_video(folder / "whole.mp4", clip, **h264)
    _join(folder / "streams.mkv", clip[:, : SMALL[0], : SMALL[1]], clip)


def _join(path: Path, *clips: np.ndarray) -> None:
    """Write a file with a video stream for each clip."""
    with av.open(str(path), "w") as container:
        streams = []
        for clip in clips:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width = clip.shape[1:3]
            streams.append((stream, clip))
        for index in range(len(clips[0])):
            for stream, clip in streams:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(clip[index])))
        for stream, _ in streams:
            container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    base = tmp_path_factory.mktemp("damaged")
    videos, store, other = base / "videos", base / "store", base / "tolerant"
    videos.mkdir()
    write_videos(videos)
    extract = ("extract", "--videos", videos, "--modalities", "rgb", "--workers", 1)
    size = ("--short-side", 16, "--stream", 0)
    return Runs(
        fail=flowpipe(*extract, "--out", store, *size, "--on-error", "fail"),
        conceal=flowpipe(*extract, "--out", store, *size, "--on-error", "conceal"),
        tolerant=flowpipe(*extract, "--out", other, *size, "--max-damage", 1),
        store=store,
        tolerant_store=other,
    )


def info(*arguments: object) -> dict[str, Any]:
    done = flowpipe("info", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def describe_video(store: Path, name: str) -> dict[str, Any]:
    """Return what `info` prints about a video."""
    return video_facts(open_store(store).videos[name])


def test_fail_stops_at_the_first_damaged_video(runs: Runs) -> None:
    assert runs.fail.returncode == 1
    said = runs.fail.stderr
    assert any(name in said for name in DAMAGED)
    assert "may be wrong" in said
    assert "--on-error conceal" in said


def test_conceal_keeps_all_frames_and_reports_it_in_its_last_lines(runs: Runs) -> None:
    assert runs.conceal.returncode == 0, runs.conceal.stderr
    said = runs.conceal.stderr
    last = said[said.index(" done, ") :]
    assert "3 x corrupt" in last
    assert "x damaged_frames: frames may have wrong pixels" in last
    assert "x lost_frames: frames are missing" in last
    assert "--on-error" not in said, "the policy is chosen"
    assert (runs.store / "contact-sheet.png").exists()


def test_info_of_the_store_counts_videos_with_notes(runs: Runs) -> None:
    notes = info(runs.store)["notes"]
    assert notes["damaged_frames"]["videos"] == 3
    assert notes["fewer_frames_than_declared"]["videos"] >= 1
    assert notes["video_streams"] == {"videos": 1, "example": "streams.mkv"}


def test_info_of_a_video_lists_its_damage(runs: Runs) -> None:
    facts = info(runs.store, "ids.avi")
    lost = [run for run in facts["damage"] if run["what"] == "lost"]
    assert [(run["frame"], run["frames"]) for run in lost] == [(9, 1), (23, 1), (45, 1)]
    assert [round(25 * run["time_s"]) for run in lost] == [10, 25, 48], "the frame behind the gap"


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_recorded_and_frames_keep_their_times(name: str, runs: Runs) -> None:
    facts = describe_video(runs.store, name)
    assert (facts["status"], facts["reason"]) == ("done", "corrupt")
    lost = sum(run["frames"] for run in facts["damage"] if run["what"] == "lost")
    damaged = sum(run["frames"] for run in facts["damage"] if run["what"] == "damaged")
    assert 2 < lost + damaged < FRAMES
    assert facts["frames"] + lost == FRAMES
    assert facts["last_pts_s"] - facts["first_pts_s"] == pytest.approx((FRAMES - 1) / 25)
    assert f"damaged_frames:{damaged}" in facts["facts"]["notes"]
    if name == "ids.avi":
        assert lost == 3


@pytest.mark.parametrize("name", WHOLE)
def test_intact_videos_have_no_damage(name: str, runs: Runs) -> None:
    facts = describe_video(runs.store, name)
    assert (facts["status"], facts["reason"], facts["damage"]) == ("done", "", [])
    assert facts["frames"] == FRAMES
    assert not [note for note in facts["facts"]["notes"] if "frames" in note or "start" in note]


def test_the_chosen_stream_is_decoded(runs: Runs) -> None:
    facts = describe_video(runs.store, "streams.mkv")["facts"]
    assert (facts["height"], facts["width"]) == SMALL
    assert "video_stream:0" in facts["notes"]


def test_tolerated_damage_is_done_with_notes(runs: Runs) -> None:
    assert runs.tolerant.returncode == 0, runs.tolerant.stderr
    assert "x corrupt:" not in runs.tolerant.stderr
    assert "note: 3 x damaged_frames" in runs.tolerant.stderr
    assert describe_video(runs.tolerant_store, "flipped.avi")["reason"] == ""
