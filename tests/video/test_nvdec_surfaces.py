"""NVDEC's surfaces stay on the device, by both stand-ins: their RGB is that of the CPU."""

from __future__ import annotations

import itertools
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated import emulated_ops, only_new_garbage
from nvdec_machine import stand_in
from videofile import encode_video, moving_clip

from flowpipe.errors import DecodeError, DeviceLostError, DeviceMemoryError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.extraction.stages import Extraction
from flowpipe.ops import get_ops
from flowpipe.ops.cpu import native_core
from flowpipe.params import build
from flowpipe.surfaces import Surfaces
from flowpipe.types import Span, VideoRecord
from flowpipe.video import VideoParams, cut_points, open_video, surfaces, swscale
from flowpipe.video.colour import Converter
from flowpipe.video.demuxer import Demuxer

pytestmark = [
    pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ for the emulated kernels"),
]
SIZE = 30, 44  # what frames are resized to
Read = tuple[list[tuple[float, int]], DecodeError | None]


@pytest.fixture(scope="module")
def cuda() -> Iterator[Any]:
    with only_new_garbage():
        yield emulated_ops()


@pytest.fixture(autouse=True)
def nvc() -> Iterator[Any]:
    with stand_in() as library:
        surfaces.warn_of_difference.cache_clear()
        surfaces.warn_of_short_memory.cache_clear()
        yield library


def read(path: Path, ops: Any, decoder: str, kind: type = Surfaces, **how: Any) -> Read:
    """(time, checksum) of every resized frame, and the damage behind them."""
    frames: list[tuple[float, int]] = []
    params = VideoParams(decoder=decoder, fps=how.pop("fps", 0))
    with open_video(path, params, surfaces=ops.surfaces, **how) as reader:
        try:
            for window in reader.windows(7):
                assert isinstance(window.data, kind)
                images = ops.resize(window.data, *SIZE)
                pairs = zip(window.pts_s, images, strict=True)
                frames += [(float(time_s), zlib.crc32(image)) for time_s, image in pairs]
        except DecodeError as error:
            return frames, error
    return frames, None


def of_cpu(path: Path, **how: Any) -> Read:
    return read(path, get_ops("cpu"), "cpu", np.ndarray, **how)


@pytest.mark.parametrize(
    "name",
    [
        "bt601_full_range.mp4", "decord_video_90.mov", "decord_video_180.mov", "divx.avi",
        "discard_first_keyframe.mp4", "h265_10bits.mp4", "sine_stereo_mp2.mpg",
        "testsrc2_12bit_hdr.mp4", "testsrc2_av1_10bit.mp4",
        "testsrc2_odd_height_and_width_mpeg2.mp4", "testsrc2_odd_height_and_width_vp9_10bit.mp4",
    ],
)  # fmt: skip
def test_an_odd_file_becomes_the_rgb_of_the_cpu(name: str, cuda: Any, shared_data: Path) -> None:
    path = shared_data / "nasty" / name
    assert read(path, cuda, "nvdec") == of_cpu(path)


MADE: list[tuple[str, dict[str, Any]]] = [
    ("a.mp4", {"b_frames": 3, "gop": 12}),
    ("b.mkv", {"codec": "libx265", "b_frames": 3, "gop": 12, "pix_fmt": "yuv420p10le"}),
    ("c.webm", {"codec": "libvpx", "gop": 12}),
    ("d.mp4", {"colorspace": 1, "color_range": 2, "pix_fmt": "yuvj420p"}),
    ("e.mov", {"rotation_deg": 270, "mirrored": True}),
]


@pytest.mark.parametrize("name, how", MADE)
@pytest.mark.parametrize("fps", [0, 10, 60])
def test_a_generated_file_becomes_the_rgb_of_the_cpu(
    fps: float, name: str, how: dict[str, Any], cuda: Any, tmp_path: Path
) -> None:
    """Also where pictures are dropped or shown twice."""
    path = encode_video(tmp_path / name, moving_clip(20), **how)
    assert read(path, cuda, "nvdec", fps=fps) == of_cpu(path, fps=fps)


def test_parts_of_a_split_video_are_the_whole(cuda: Any, tmp_path: Path) -> None:
    path = encode_video(tmp_path / "a.mp4", moving_clip(60), gop=10, b_frames=2)
    together: list[tuple[float, int]] = []
    for start_s, stop_s in itertools.pairwise([None, *cut_points(path, 1.0), None]):
        part, _ = read(path, cuda, "nvdec", start_s=start_s, stop_s=stop_s)
        together += part if stop_s is None else part[:-1]
    assert together == of_cpu(path)[0] and len(together) == 60


def test_the_library_gets_its_memory_back_once_it_is_copied(
    cuda: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in writes over it, and copies nothing before somebody waits."""
    path = encode_video(tmp_path / "a.mp4", moving_clip(10))
    meant = of_cpu(path)
    assert read(path, cuda, "nvdec") == meant
    monkeypatch.setattr(surfaces.SurfaceCopier, "wait_for_copies", lambda self: None)
    assert read(path, cuda, "nvdec") != meant


def test_another_libswscale_converts_on_the_host_with_one_warning(
    cuda: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode_video(tmp_path / "a.mp4", moving_clip(5))
    red, *others = swscale.GAINS[5]
    monkeypatch.setitem(swscale.GAINS, 5, (red + 200, *others))
    with pytest.warns(RuntimeWarning, match="conversion of yuv420p of bt601, limited") as said:
        for _ in range(2):
            assert read(path, cuda, "nvdec", np.ndarray) == of_cpu(path)
    assert len(said) == 1


def test_another_picture_than_ffmpegs_is_unsupported(
    cuda: Any, nvc: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode_video(tmp_path / "a.mkv", moving_clip(5))
    plain = nvc.PyNvDecoder.fill

    def other(self: Any, memory: Any, picture: Any) -> Any:
        plain(self, memory, picture)[...] ^= 1
        return memory

    monkeypatch.setattr(nvc.PyNvDecoder, "fill", other)
    frames, damage = read(path, cuda, "nvdec")
    assert not frames and damage is not None and damage.reason == "unsupported"
    assert "NVDEC's picture of the first keyframe is 1 levels from FFmpeg's" in str(damage)


@pytest.mark.parametrize("free", [100, 60_000])
def test_where_device_memory_lacks_the_host_converts_with_one_warning(
    free: int, cuda: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No memory for the proof, or for some of the pictures: memory comes back as they go."""
    path = encode_video(tmp_path / "a.mp4", moving_clip(20), b_frames=2)
    meant, memory, on_device = of_cpu(path), cuda.cupy.cuda.memory, []
    monkeypatch.setattr(memory, "total", memory.held() + free)
    with pytest.warns(RuntimeWarning, match="too little device memory to keep") as said:
        with open_video(path, VideoParams(decoder="nvdec"), surfaces=cuda.surfaces) as reader:
            windows = list(reader.windows(7))
    monkeypatch.undo()
    found = []
    for window in windows:
        on_device.append(isinstance(window.data, Surfaces))
        images = cuda.resize(window.data, *SIZE)
        pairs = zip(window.pts_s, images, strict=True)
        found += [(float(time_s), zlib.crc32(image)) for time_s, image in pairs]
    assert found == meant[0] and len(said) == 1
    assert not all(on_device) and any(on_device) == (free > 100)


def test_what_was_opened_is_closed_where_the_gpu_has_failed(
    cuda: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode_video(tmp_path / "a.mp4", moving_clip(5))
    closed, close = [], Demuxer.close
    monkeypatch.setattr(Demuxer, "close", lambda self: (closed.append(self), close(self))[1])
    reader = open_video(path, VideoParams(decoder="nvdec"), surfaces=cuda.surfaces)
    window = next(reader.windows(2))
    closed.clear()

    def lost(self: Any) -> None:
        raise DeviceLostError("the GPU has failed")

    monkeypatch.setattr(surfaces.SurfaceCopier, "wait_for_copies", lost)
    with pytest.raises(DeviceLostError):
        reader.close()
    assert len(window.data) == 2 and len(closed) == 1
    monkeypatch.undo()
    reader.close()


def extract(path: Path, ops: Any, decoder: str) -> tuple[list[Any], int | None]:
    """Stored images by modality and window, and the checksum of the first frame."""
    values = {
        "modalities": ["rgb", "rgb_diff"],
        "size": {"width": 40, "height": 30},
        "video": {"decoder": decoder},
        "codecs": {name: {"name": "raw"} for name in ("rgb", "rgb_diff")},
    }
    extraction = Extraction(
        Span(VideoRecord("a", str(path))), build(ExtractRecipe, values, where="extract"), ops
    )
    images = [
        (e.modality, payload) for w in extraction for e in w.encoded for payload in e.payloads
    ]
    return sorted(images), extraction.first_crc32


def test_extraction_brings_down_only_resized_frames(
    cuda: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode_video(tmp_path / "a.mp4", moving_clip(20), b_frames=2, rotation_deg=0)
    meant = extract(path, get_ops("cpu"), "cpu")
    converted, write = [], Converter.write
    monkeypatch.setattr(
        Converter, "write", lambda self, *a: (converted.append(1), write(self, *a))[1]
    )
    assert extract(path, cuda, "nvdec") == meant
    assert len(converted) == 1, "libswscale has only to prove the conversion"


def test_a_window_too_large_for_the_device_is_resized_in_halves(
    cuda: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode_video(tmp_path / "a.mp4", moving_clip(16))
    meant = extract(path, get_ops("cpu"), "cpu")
    resize, sizes = type(cuda).resize, []

    def small(self: Any, frames: Any, height: int, width: int) -> Any:
        sizes.append(len(frames))
        if len(frames) > 4:
            raise DeviceMemoryError("short")
        return resize(self, frames, height, width)

    monkeypatch.setattr(type(cuda), "resize", small)
    with pytest.warns(RuntimeWarning, match="16 frames at once; continuing with 8"):
        assert extract(path, cuda, "nvdec") == meant
    proof = sizes.index(16)
    assert sizes[proof:][:3] == [16, 8, 4]
