"""One flipped bit in the header of any container -> frames or a DecodeError, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from videofile import encode_video, moving_clip

from flowpipe.errors import REASONS, DecodeError
from flowpipe.video import cut_points, open_video, probe

FRAMES = 30
CONTAINERS: dict[str, tuple[str, bytes | None]] = {
    # container -> codec, and where the header ends; None for streams, whose first bytes are taken
    "mp4": ("libx264", b"mdat"),
    "mkv": ("libx264", b"\x1f\x43\xb6\x75"),
    "webm": ("libvpx-vp9", b"\x1f\x43\xb6\x75"),
    "avi": ("mpeg4", b"movi"),
    "ts": ("libx264", None),
    "flv": ("libx264", None),
    "mpg": ("mpeg2video", None),
    "h264": ("libx264", None),
}
STREAM_BYTES = 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("headers")
    for container, (codec, _) in CONTAINERS.items():
        faststart = {"container_options": {"movflags": "+faststart"}} if container == "mp4" else {}
        clip = moving_clip(FRAMES, 32, 48)
        encode_video(folder / f"whole.{container}", clip, codec=codec, gop=10, **faststart)
    return folder


def decode(path: Path) -> int:
    """Frames that come out before the end or an error."""
    count, last_s = 0, -np.inf
    with open_video(path) as reader:
        try:
            for window in reader.windows():
                times = window.pts_s
                assert np.isfinite(times).all()
                assert times[0] > last_s
                assert (np.diff(times) > 0).all()
                count, last_s = count + len(times), times[-1]
        finally:
            assert reader.facts.frames_decoded == count
    return count


def cut(path: Path) -> None:
    points = cut_points(path, 0.3)
    assert list(points) == sorted(set(points))
    assert np.isfinite(points).all()


@pytest.mark.parametrize("container", CONTAINERS)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@example(place=0.0, bit=0)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_flipped_bit_gives_frames_or_a_decode_error(
    container: str, place: float, bit: int, folder: Path
) -> None:
    """What holds of every flip: decoding, probing and cutting come to an end; what they raise is a
    DecodeError with a reason; times rise; no frame is made up.

    What does not: that a flip is noticed. Headers have no checksums, so colours, sizes, times and
    tables of samples may read as others that are legal.
    """
    content = bytearray((folder / f"whole.{container}").read_bytes())
    mark = CONTAINERS[container][1]
    end = content.index(mark) + len(mark) if mark else min(STREAM_BYTES, len(content))
    content[int(place * end)] ^= 1 << bit
    path = folder / f"flipped.{container}"
    path.write_bytes(content)
    looks: list[Callable[[Path], Any]] = [decode, probe, cut]
    for look in looks:
        try:
            count = look(path)
        except DecodeError as error:
            assert error.reason in REASONS
            assert path.name in str(error)
        else:
            assert look is not decode or count <= FRAMES


def test_a_video_without_keyframes_is_not_cut(tmp_path: Path) -> None:
    """No parser knows this codec, so the flags of the container are all there is."""
    path = tmp_path / "a.mkv"
    encode_video(path, moving_clip(FRAMES), codec="msmpeg4", gop=10)
    with av.open(str(path)) as container:
        bodies = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content, at = bytearray(path.read_bytes()), 0
    for body in bodies:
        at = content.index(body, at)
        content[at - 1] &= 0x7F  # flags of a SimpleBlock: no keyframe (RFC 9559, 10.2)
    path.write_bytes(content)
    with av.open(str(path)) as container:
        assert not any(packet.is_keyframe for packet in container.demux(video=0) if packet.size)
    assert cut_points(path, 0.3) == ()
    assert decode(path) == FRAMES
