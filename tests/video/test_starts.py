"""Streams that begin between two keyframes -> the frames that decode, and a count of the rest."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from videofile import encode_video, moving_clip

from flowpipe.video import open_video

CODINGS = {
    "h264": ("libx264", {"b_frames": 2, "gop": 12}),
    "h264_open": ("libx264", {"b_frames": 2, "gop": 12, "x264-params": "open-gop=1"}),
    "h264_refresh": ("libx264", {"gop": 12, "x264-params": "intra-refresh=1"}),
    "hevc": ("libx265", {"x265-params": "keyint=12:bframes=2"}),
    "mpeg2": ("mpeg2video", {"b_frames": 2, "gop": 12}),
    "mpeg4": ("mpeg4", {"b_frames": 2, "gop": 12}),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    frames = moving_clip(44, height=48, width=64)
    return {
        name: encode_video(folder / f"{name}.ts", frames, codec=codec, **options)
        for name, (codec, options) in CODINGS.items()
    }


def cut(clip: Path, path: Path, packets: int) -> Path:
    """Copy a stream without its first packets."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        kept = [packet for packet in source.demux(video=0) if packet.size][packets:]
        for packet in kept:
            packet.stream = stream
            target.mux(packet)
    return path


def count_decoded(path: Path) -> tuple[int, int]:
    """Packets, and frames that FFmpeg decodes one packet at a time."""
    packets = frames = 0
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        for packet in container.demux(video=0):
            packets += bool(packet.size)
            try:
                frames += len(packet.decode())
            except av.error.InvalidDataError:
                continue
    return packets, frames


@pytest.mark.parametrize("skipped", [0, 1, 3, 17])
@pytest.mark.parametrize("name", CODINGS)
def test_a_stream_cut_between_keyframes_decodes_from_the_next_one(
    name: str, skipped: int, clips: dict[str, Path], tmp_path: Path
) -> None:
    for suffix in ("ts", "mkv"):
        path = cut(clips[name], tmp_path / f"cut.{suffix}", skipped)
        packets, frames = count_decoded(path)
        with open_video(path) as reader:
            got = sum(len(window.data) for window in reader.windows())
        notes = dict(note.partition(":")[::2] for note in reader.facts.notes)
        said = int(notes.get("undecodable_start") or 1) if "undecodable_start" in notes else 0
        assert (got, said) == (frames, max(0, packets - frames))
        assert not {"lost_frames", "damaged_frames", "concealed_frames"} & set(notes)
        assert reader.damage == ()


def test_damage_behind_a_gradual_refresh_counts(clips: dict[str, Path], tmp_path: Path) -> None:
    path = cut(clips["h264_refresh"], tmp_path / "cut.ts", 3)
    content = bytearray(path.read_bytes())
    first = len(content) * 8 // 10 // 188 * 188
    for at in range(first, first + 8 * 188, 188):
        content[at + 20 : at + 180] = bytes(160)
    path.write_bytes(content)
    with open_video(path, max_damaged=1) as reader:
        list(reader.windows())
    assert {"damaged_frames", "lost_frames"} & {n.partition(":")[0] for n in reader.facts.notes}


@pytest.mark.parametrize("b_frames", [0, 2])
def test_times_of_asf_are_its_decoding_times(b_frames: int, tmp_path: Path) -> None:
    """ASF stores when a packet is sent; FFmpeg's guess of when it is shown is in coded order."""
    path = encode_video(
        tmp_path / "clip.asf", moving_clip(20), container_format="asf", b_frames=b_frames, gop=8
    )
    with av.open(str(path)) as container:
        sent = [float(p.dts * p.time_base) for p in container.demux(video=0) if p.size]
    with open_video(path) as reader:
        times = np.concatenate([window.pts_s for window in reader.windows()])
    delay = int(np.argmin(np.abs(np.asarray(sent) - times[0])))
    assert delay == (0 if not b_frames else 2)
    np.testing.assert_allclose(times[: 20 - delay], sent[delay:], atol=1e-9)
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1.1e-3)
    assert not any(note.startswith("pts_") for note in reader.facts.notes)
