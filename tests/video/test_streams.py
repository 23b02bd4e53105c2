"""Files with several video streams -> the video, never a thumbnail beside it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from videofile import encode_video, moving_clip

from flowpipe import params
from flowpipe.errors import DecodeError, RecipeError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.types import VideoFacts
from flowpipe.video import VideoParams, cut_points, open_video, probe

Spec = tuple[str, int, int, int]
"""Codec, frames, height, width of one stream."""


def write_streams(path: Path, *specs: Spec, format: str | None = None) -> Path:
    """Encode several video streams into one file, a frame of each in turn."""
    with av.open(str(path), "w", format=format) as container:
        streams: list[tuple[Any, Any, str]] = []
        for codec, count, height, width in specs:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = width, height
            pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.pix_fmt = pixels
            streams.append((stream, moving_clip(count, height, width), pixels))
        for index in range(max(count for _, count, _, _ in specs)):
            for stream, frames, pixels in streams:
                if index < len(frames):
                    frame = av.VideoFrame.from_ndarray(frames[index], format="rgb24")
                    frame = frame.reformat(format=pixels)
                    frame.pts = index
                    container.mux(stream.encode(frame))
        for stream, _, _ in streams:
            container.mux(stream.encode(None))
    return path


def set_enabled(path: Path, *enabled: bool) -> None:
    """Set the flags of an MP4's tracks that FFmpeg reads as the default disposition."""
    content = bytearray(path.read_bytes())
    at = 0
    for flag in enabled:
        at = content.index(b"tkhd", at) + 4
        content[at : at + 4] = struct.pack(">I", 3 if flag else 2)
    path.write_bytes(content)


def read(path: Path, stream: int | None = None) -> tuple[int, VideoFacts]:
    with open_video(path, VideoParams(stream=stream)) as reader:
        return sum(len(w.data) for w in reader.windows()), reader.facts


VIDEO, SMALL = ("libx264", 30, 64, 96), ("libx264", 30, 32, 48)
THUMBNAIL, PREVIEW = ("mjpeg", 1, 120, 160), ("libx264", 8, 128, 192)


CHOSEN = [
    ((THUMBNAIL, VIDEO), 1), ((VIDEO, THUMBNAIL), 0), ((SMALL, VIDEO), 1), ((VIDEO, SMALL), 0),
    ((PREVIEW, VIDEO), 1), ((THUMBNAIL, SMALL, VIDEO), 2), ((VIDEO, VIDEO), 0),
]  # fmt: skip
"""Streams of a file, and the index of the video."""


@pytest.mark.parametrize(
    ("container", "streams", "chosen"),
    [
        (container, streams, chosen)
        for container in ("mp4", "mkv", "mov", "ts")
        for streams, chosen in CHOSEN
        if container != "ts" or THUMBNAIL not in streams  # it carries no MJPEG
    ],
)
def test_the_video_is_chosen(
    container: str, streams: tuple[Spec, ...], chosen: int, tmp_path: Path
) -> None:
    path = write_streams(tmp_path / f"clip.{container}", *streams)
    if container in ("mp4", "mov"):
        set_enabled(path, *(True for _ in streams))
    count, facts = read(path)
    _, frames, height, width = streams[chosen]
    assert (count, facts.height, facts.width) == (frames, height, width)
    assert f"video_stream:{chosen}" in facts.notes
    assert f"video_streams:{len(streams)}" in facts.notes
    estimate = probe(path)
    assert (estimate.height, estimate.width) == (height, width)


def test_the_default_stream_comes_before_the_larger(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "clip.mp4", SMALL, VIDEO)
    set_enabled(path, True, False)
    assert read(path)[1].width == SMALL[3]
    set_enabled(path, False, True)
    assert read(path)[1].width == VIDEO[3]
    path = write_streams(tmp_path / "thumbnail.mp4", THUMBNAIL, VIDEO)
    set_enabled(path, True, False)
    assert read(path)[0] == VIDEO[1], "a thumbnail is not chosen even where it is the default"


def test_the_recipe_chooses_the_stream(tmp_path: Path) -> None:
    path = write_streams(tmp_path / "clip.mkv", SMALL, VIDEO)
    for index, (_, count, height, width) in enumerate((SMALL, VIDEO)):
        got, facts = read(path, stream=index)
        assert (got, facts.height, facts.width) == (count, height, width)
        assert probe(path, stream=index).width == width
        cut_points(path, 0.5, stream=index)
    for look in (
        lambda: read(path, stream=2),
        lambda: probe(path, stream=2),
        lambda: cut_points(path, 1, stream=2),
    ):
        with pytest.raises(DecodeError, match="stream 2 is no video stream.*0, 1") as caught:
            look()
        assert caught.value.reason == "no_video"


def test_a_recipe_without_a_stream_keeps_its_digest() -> None:
    plain = params.plain(ExtractRecipe())
    assert plain["video"] == {"fps": 0.0, "decoder": "cpu"}
    chosen = params.build(ExtractRecipe, {"video": {"stream": 0}})
    assert params.digest(chosen) != params.digest(ExtractRecipe())
    assert params.build(ExtractRecipe, params.plain(chosen)) == chosen
    with pytest.raises(RecipeError, match="stream must be 0 or more"):
        params.build(ExtractRecipe, {"video": {"stream": -1}})


def test_an_avif_sequence_decodes_to_its_frames(tmp_path: Path) -> None:
    if "avif" not in av.formats_available or "libaom-av1" not in av.codecs_available:
        pytest.skip("needs FFmpeg's AVIF writer and an AV1 encoder")
    path = write_streams(tmp_path / "clip.avif", ("libaom-av1", 6, 64, 96), format="avif")
    assert read(path)[0] == 6


def join_recordings(folder: Path, *codecs: str) -> tuple[Path, list[int]]:
    """Recordings of 30, 31 ... frames, one behind the other, each under a PID of its own."""
    content, counts = b"", []
    for number, codec in enumerate(codecs):
        counts.append(30 + number)
        pid = {"mpegts_start_pid": str(256 + 16 * number)}
        part = folder / f"part{number}.ts"
        encode_video(
            part, moving_clip(counts[-1], 48, 64, number), codec=codec, container_options=pid
        )
        content += part.read_bytes()
    path = folder / "joined.ts"
    path.write_bytes(content)
    return path, counts


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_video_that_continues_under_another_pid_is_decoded_whole(
    codec: str, parts: int, tmp_path: Path
) -> None:
    path, counts = join_recordings(tmp_path, *[codec] * parts)
    with open_video(path) as reader:
        frames, times = zip(*((w.data, w.pts_s) for w in reader.windows()), strict=True)
    got, times = np.concatenate(frames), np.concatenate(times)
    assert len(got) == sum(counts)
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1e-6)
    assert f"joined_streams:{parts}" in reader.facts.notes
    assert reader.damage == ()
    alone = []
    for number in range(parts):
        with open_video(tmp_path / f"part{number}.ts") as part:
            alone.extend(w.data for w in part.windows())
    np.testing.assert_array_equal(got, np.concatenate(alone))
    with open_video(path, start_s=float(times[-5])) as reader:
        late = np.concatenate([w.pts_s for w in reader.windows()])
    np.testing.assert_allclose(late, times[-5:])
    assert read(path, stream=1)[0] == counts[1], "the recipe's stream is read alone"


def test_streams_of_other_codecs_are_not_joined(tmp_path: Path) -> None:
    path, counts = join_recordings(tmp_path, "mpeg2video", "libx264")
    count, facts = read(path)
    assert count in counts
    assert "video_streams:2" in facts.notes
    assert not any(note.startswith("joined_streams") for note in facts.notes)
