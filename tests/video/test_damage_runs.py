"""Damaged files -> the frames that are missing or may be wrong, compared with whole ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from videofile import encode_video, moving_clip

from flowpipe.errors import DecodeError, TooDamagedError
from flowpipe.types import Damage
from flowpipe.video import VideoParams, open_video
from flowpipe.video.frame_num import FrameNumbers
from flowpipe.video.nal import NalReader

FRAMES, GOP = 60, 20
LOST = 26
"""A P picture in the middle of the second group."""
CONTAINERS = ("mp4", "mkv", "ts", "flv", "h264", "avi")


class Read:
    """One file, decoded to its end."""

    def __init__(self, path: Path, **how: Any) -> None:
        self.error: DecodeError | None = None
        self.frames: list[NDArray[np.uint8]] = []
        times: list[float] = []
        with open_video(path, **how) as reader:
            try:
                for window in reader.windows(9):
                    self.frames.extend(window.data)
                    times.extend(window.pts_s)
            except DecodeError as error:
                self.error = error
        self.damage: tuple[Damage, ...] = reader.damage
        self.notes = dict(f"{note}:1".split(":")[:2] for note in reader.facts.notes)
        self.places = np.rint((np.array(times) - times[0]) * 25).astype(int) if times else []


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "clip.mp4"
    fixed = {"x264-params": "scenecut=0"}
    return encode_video(path, moving_clip(FRAMES), gop=GOP, b_frames=0, **fixed)


def remux(source: Path, path: Path, without: range = range(0)) -> Path:
    """Copy the packets of the video, but for some, into another container."""
    raw = path.suffix in (".h264", ".avi")
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        stream = read.streams.video[0]
        added = written.add_stream_from_template(stream)
        to_annex_b = av.BitStreamFilterContext("h264_mp4toannexb", stream, added) if raw else None
        for number, packet in enumerate(p for p in read.demux(stream) if p.size):
            if number in without:
                continue
            for part in to_annex_b.filter(packet) if to_annex_b else [packet]:
                part.stream = added
                written.mux(part)
    return path


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_lost_packet_is_noticed_in_every_container(
    container: str, good: Path, tmp_path: Path
) -> None:
    whole = Read(good)
    hurt = Read(remux(good, tmp_path / f"a.{container}", range(LOST, LOST + 1)), max_damaged=1)
    assert len(hurt.frames) == FRAMES - 1
    assert [run.what for run in hurt.damage] == ["lost", "damaged"]
    assert [run.frame for run in hurt.damage] == [LOST, LOST]
    assert [run.frames for run in hurt.damage] == [1, 2 * GOP - LOST - 1]
    assert list(hurt.places) == [k for k in range(FRAMES) if k != LOST], "times stay"
    for k, frame in zip(hurt.places, hurt.frames, strict=True):
        if not LOST <= k < 2 * GOP:
            assert (frame == whole.frames[k]).all(), k
    assert isinstance(Read(tmp_path / f"a.{container}").error, TooDamagedError)
    before = Read(tmp_path / f"a.{container}", stop_at_damage=True)
    assert len(before.frames) == LOST


def test_no_damage_at_all_can_be_demanded(good: Path, tmp_path: Path) -> None:
    """One lost picture, the last of its group, counts for a share of 0 alone."""
    path = remux(good, tmp_path / "a.mkv", range(2 * GOP - 2, 2 * GOP - 1))
    assert len(Read(path).damage) == 2
    assert Read(path).error is None
    assert isinstance(Read(path, max_damaged=0).error, TooDamagedError)
    assert Read(good, max_damaged=0).error is None


@pytest.mark.parametrize("fps", [10, 50])
def test_runs_of_a_resampled_video_point_at_stored_frames(
    fps: float, good: Path, tmp_path: Path
) -> None:
    path = remux(good, tmp_path / "a.mkv", range(LOST, LOST + 1))
    with open_video(path, VideoParams(fps=fps), max_damaged=1) as reader:
        times = np.concatenate([window.pts_s for window in reader.windows()])
    assert [run.what for run in reader.damage] == ["lost", "damaged"]
    for run in reader.damage:
        assert times[run.frame - 1] < run.time_s <= times[run.frame]


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_whole_file_has_no_damage(container: str, good: Path, tmp_path: Path) -> None:
    read = Read(remux(good, tmp_path / f"a.{container}"))
    assert (len(read.frames), read.error, read.damage) == (FRAMES, None, ())


@pytest.mark.parametrize("container", ["mkv", "ts", "h264"])
def test_lost_groups_of_pictures_hurt_nothing_behind_them(
    container: str, good: Path, tmp_path: Path
) -> None:
    """As where a recording was cut: decoding begins anew at a keyframe."""
    read = Read(remux(good, tmp_path / f"a.{container}", range(GOP, 2 * GOP)))
    assert (len(read.frames), read.error, read.damage) == (FRAMES - GOP, None, ())


def test_overwritten_packets_of_a_raw_stream_are_noticed(good: Path, tmp_path: Path) -> None:
    """Start codes are gone too, so the demuxer sees fewer packets and nothing odd."""
    path = remux(good, tmp_path / "a.h264")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        bodies = [bytes(p) for p in container.demux(video=0) if p.size]
    at = content.index(bodies[LOST]) - 2
    content[at : content.index(bodies[LOST + 2]) - 2] = bytes(
        len(bodies[LOST]) + len(bodies[LOST + 1])
    )
    path.write_bytes(content)
    read = Read(path, max_damaged=1)
    assert len(read.frames) == FRAMES - 2
    assert sum(run.frames for run in read.damage if run.what == "lost") == 2
    assert read.places[-1] == FRAMES - 1, "times stay"


def test_a_raw_stream_may_end_in_a_delimiter(good: Path, tmp_path: Path) -> None:
    path = remux(good, tmp_path / "a.h264")
    with path.open("ab") as file:
        file.write(b"\0\0\0\1\x09\xf0")
    read = Read(path)
    assert (len(read.frames), read.error, read.damage) == (FRAMES, None, ())
    assert not {"lost_frames", "undecodable_start"} & read.notes.keys()


@pytest.mark.parametrize("options", ["open-gop=1:bframes=3", "bframes=3:b-pyramid=strict:ref=4"])
def test_whole_files_of_other_structures_have_no_damage(options: str, tmp_path: Path) -> None:
    path = tmp_path / "a.h264"
    encode_video(path, moving_clip(FRAMES), gop=GOP, **{"x264-params": options})
    path.write_bytes(2 * path.read_bytes())  # two recordings, joined
    read = Read(path)
    assert (len(read.frames), read.error, read.damage) == (2 * FRAMES, None, ())


def count_on(content: bytes, by: int) -> bytes:
    """Add to the continuity counters of a transport stream."""
    units = [bytearray(content[at : at + 188]) for at in range(0, len(content), 188)]
    for unit in units:
        unit[3] = unit[3] & 0xF0 | (unit[3] + by) & 0x0F
    return b"".join(units)


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "libx265"])
def test_joined_transport_streams_have_no_damage(codec: str, tmp_path: Path) -> None:
    path = encode_video(tmp_path / "a.ts", moving_clip(FRAMES), codec=codec, gop=GOP)
    content, marked = path.read_bytes(), 0
    for by in (0, 5):  # one of the two jumps
        path.write_bytes(content + count_on(content, by))
        with av.open(str(path)) as container:
            marked += any(packet.is_corrupt for packet in container.demux(video=0))
        read = Read(path)
        assert (len(read.frames), read.error, read.damage) == (2 * FRAMES, None, ())
        assert "corrupt_packets" not in read.notes
    assert marked


def test_a_recording_that_refreshes_by_and_by_may_start_anywhere(tmp_path: Path) -> None:
    """Without IDR pictures the decoder shows nothing until all of a picture has been refreshed."""
    path = tmp_path / "a.h264"
    refresh = {"x264-params": "intra-refresh=1:keyint=20:bframes=0"}
    encode_video(path, moving_clip(100), **refresh)
    with av.open(str(path)) as container:
        bodies = [bytes(p) for p in container.demux(video=0) if p.size]
    content = path.read_bytes()
    parameters = bodies[0][: bodies[0].index(b"\0\0\1\x06")]
    path.write_bytes(parameters + content[content.index(bodies[33]) :])
    read = Read(path)
    assert read.error is None
    assert read.damage == ()
    assert 20 < len(read.frames) < 67
    assert len(read.frames) + int(read.notes["undecodable_start"]) == 67


def flip_bits(path: Path, count: int) -> None:
    """Flip bits of the pictures of an AVI file, chunk headers among them."""
    content, rng = bytearray(path.read_bytes()), np.random.default_rng(3)
    for at in rng.integers(content.index(b"movi") + 9000, content.rindex(b"idx1"), count):
        content[at] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def flip_chunk_ids(path: Path) -> None:
    """Make three chunks of an AVI file those of a stream that it does not have."""
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [packet.pos - 8 for packet in container.demux(video=0) if packet.size]
    for number in (14, 33, 71):
        content[places[number]] ^= 4
    path.write_bytes(content)


def lose_units(path: Path) -> None:
    """Remove units of a transport stream at two places."""
    content = path.read_bytes()
    units = [content[at : at + 188] for at in range(0, len(content), 188)]
    for at in (len(units) * 2 // 3, len(units) // 3):
        del units[at : at + 3]
    path.write_bytes(b"".join(units))


@pytest.mark.parametrize(
    ("name", "codec", "b_frames", "hurt"),
    [
        ("a.avi", "mpeg4", 0, lambda path: flip_bits(path, 60)),
        ("b.avi", "mpeg4", 0, flip_chunk_ids),
        ("c.avi", "mpeg4", 2, flip_chunk_ids),
        ("a.ts", "libx264", 0, lose_units),
        ("b.ts", "libx264", 2, lose_units),
        ("c.ts", "mpeg2video", 2, lose_units),
    ],
)
def test_wrong_frames_are_in_the_runs_and_times_stay(
    name: str, codec: str, b_frames: int, hurt: Callable[[Path], None], tmp_path: Path
) -> None:
    path, count = tmp_path / name, 96
    quality = {"qp": 12} if codec == "libx264" else {"qmin": 2, "qmax": 3}
    clip = moving_clip(count, 96, 128)
    encode_video(path, clip, codec=codec, gop=16, b_frames=b_frames, **quality)
    whole = Read(path)
    assert (len(whole.frames), whole.error, whole.damage) == (count, None, ())
    hurt(path)
    read = Read(path, max_damaged=1)
    assert read.error is None
    assert isinstance(Read(path).error, TooDamagedError)
    lost = sum(run.frames for run in read.damage if run.what == "lost")
    assert len(read.frames) + lost == count
    assert read.places[-1] == count - 1
    marked = {
        frame
        for run in read.damage
        if run.what == "damaged"
        for frame in range(run.frame, run.frame + run.frames)
    }
    wrong = {
        number
        for number, (place, frame) in enumerate(zip(read.places, read.frames, strict=True))
        if (np.abs(frame.astype(int) - whole.frames[place]) > 48).any(axis=2).mean() > 0.01
    }
    assert marked
    # a few wrong bits decode to legal pictures
    assert len(wrong - marked) <= 2


@given(st.binary(max_size=60), st.integers(0, 255), st.booleans())
@settings(deadline=None)
def test_files_of_any_bytes_are_read_without_a_crash(
    content: bytes, first: int, is_key: bool
) -> None:
    numbers = FrameNumbers()
    for kind in (7, 8):
        numbers.learn(bytes([kind]) + content)
    assert numbers.count_missing(bytes([first]) + content, is_key=is_key) >= 0
    for extradata in (content, b"\1" + content, b"\0\0\1\x67" + content):
        shows, missing = NalReader("h264", extradata).read(content, is_key=is_key)
        assert isinstance(shows, bool)
        assert missing >= 0
