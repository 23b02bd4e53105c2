"""Decoding on NVDEC, by its stand-in: FFmpeg's frames, or an explained refusal."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvdec_machine import environment, forget, stand_in
from real_gpu import require_cuda
from videofile import encode_video, good_files, moving_clip

from flowpipe.distribution import install_command
from flowpipe.errors import BackendError, DecodeError
from flowpipe.ops import get_ops
from flowpipe.surfaces import Surfaces
from flowpipe.types import VideoFacts
from flowpipe.video import VideoParams, cut_points, nvcodec, open_video, why_no_nvdec
from flowpipe.video.colour import Converter

Frames = list[tuple[float, int]]

NASTY = [
    "av1_video.mkv", "bt2020_10bit.mp4", "bt601_full_range.mp4", "bt709_full_range.mp4",
    "decord_flipping_a_pancake.mkv", "decord_unordered.mov", "decord_video_90.mov",
    "decord_video_180.mov", "discard_first_keyframe.mp4", "divx.avi", "h264_10bits.mp4",
    "h265_10bits.mp4", "h265_video.mp4", "mpeg4.mp4", "nasa_13013.mp4", "nasa_13013_hdr.mp4",
    "nasa_13013_rotated.mp4", "sample_sorenson.avi", "sine_stereo_mp2.mpg",
    "test_non_zero_start.mp4", "testsrc2_12bit_hdr.mp4", "testsrc2_av1_10bit.mp4",
    "testsrc2_mpeg4.mp4", "testsrc2_odd_height_and_width_mpeg2.mp4",
    "testsrc2_odd_height_and_width_vp9.mp4", "testsrc2_odd_height_and_width_vp9_10bit.mp4",
    "testsrc2_vp8.webm", "testsrc2_vp9.webm",
]  # fmt: skip
CLIPS = [
    "hmdb51/RATRACE_wave_f_nm_np1_fr_goo_37.avi",
    "hmdb51/TrumanShow_wave_f_nm_np1_fr_med_26.avi",
    "kinetics/R6llTwEh07w.mp4",
    "ucf101/Diving/v_Diving_g01_c03.avi",
]
REFUSED = {
    "cinepak.avi": "its coding is cinepak",
    "huffyuv.avi": "its coding is huffyuv",
    "sample_sorenson.mov": "its coding is svq1",
    "testsrc2_444_8bit_hevc.mp4": "its pixels are yuv444p",
    "testsrc2_odd_height_and_width_444_10bit.mp4": "its pixels are yuv444p10le",
}


@pytest.fixture
def nvc() -> Iterator[Any]:
    with stand_in() as library:
        yield library
        if library.open_sessions:
            gc.collect()  # of exceptions, whose frames know the decoder
        assert library.open_sessions == 0, "a session stays open"


def read(
    path: Path, decoder: str, fps: float = 0, span: tuple[float | None, float | None] = (None, None)
) -> tuple[Frames, DecodeError | None, VideoFacts]:
    """(time, checksum) of every frame, the damage after them, the facts but for the decoder."""
    frames: Frames = []
    damage = None
    params = VideoParams(fps=fps, decoder=decoder)
    with open_video(path, params, start_s=span[0], stop_s=span[1]) as reader:
        try:
            for window in reader.windows(7):
                for time, frame in zip(window.pts_s, window.data, strict=True):
                    frames.append((float(time), zlib.crc32(frame.tobytes())))
        except DecodeError as error:
            damage = error
        facts = reader.facts
    return frames, damage, dataclasses.replace(facts, decoder="")


def check_same(path: Path, **how: Any) -> None:
    frames, damage, facts = read(path, "cpu", **how)
    ours, our_damage, our_facts = read(path, "nvdec", **how)
    assert damage is our_damage is None
    assert ours == frames
    # in AVI the timestamps of packets, which are in coded order, are sorted for NVDEC only
    notes = [note for note in our_facts.notes if not note.startswith("pts_reordered")]
    assert dataclasses.replace(our_facts, notes=tuple(notes)) == facts


def reason(path: Path) -> tuple[int, str]:
    frames, damage, _ = read(path, "nvdec")
    assert damage is None or path.name in str(damage)
    return len(frames), damage.reason if damage else ""


@pytest.mark.parametrize("name", NASTY)
def test_an_odd_file_decodes_as_on_the_cpu(name: str, nvc: Any, shared_data: Path) -> None:
    check_same(shared_data / "nasty" / name)


@pytest.mark.parametrize("name", CLIPS)
def test_a_real_clip_decodes_as_on_the_cpu(name: str, nvc: Any, shared_data: Path) -> None:
    check_same(shared_data / "clips" / name)


@pytest.mark.parametrize(
    "name, how",
    [
        ("a.mp4", {"b_frames": 3, "gop": 12}),
        ("b.mkv", {"b_frames": 2, "gop": 12}),
        ("c.ts", {"b_frames": 2, "gop": 12}),
        ("d.avi", {"b_frames": 0, "gop": 12}),
        ("e.avi", {"codec": "mpeg4", "b_frames": 2, "gop": 12}),
        ("f.mp4", {"codec": "mpeg4", "gop": 12}),
        ("g.mkv", {"codec": "libx265", "b_frames": 3, "gop": 12, "pix_fmt": "yuv420p10le"}),
        ("h.webm", {"codec": "libvpx-vp9", "deadline": "realtime", "gop": 12}),
        ("i.mpg", {"codec": "mpeg2video", "b_frames": 2, "gop": 12}),
        ("j.mp4", {"pts_s": np.cumsum(np.arange(1, 41) * 0.004).tolist(), "b_frames": 2}),
        ("k.mp4", {"colorspace": 1, "color_range": 2, "pix_fmt": "yuvj420p"}),
        ("l.mov", {"rotation_deg": 90}),
        ("m.mov", {"rotation_deg": 180, "mirrored": True}),
    ],
)
def test_a_generated_file_decodes_as_on_the_cpu(
    name: str, how: dict[str, Any], nvc: Any, tmp_path: Path
) -> None:
    check_same(encode_video(tmp_path / name, moving_clip(40), **how))


def test_the_decoder_is_recorded(nvc: Any, tmp_path: Path) -> None:
    path = encode_video(tmp_path / "a.mp4", moving_clip(3))
    with open_video(path, VideoParams(decoder="nvdec")) as reader:
        assert sum(len(window.data) for window in reader.windows()) == 3
        assert reader.facts.decoder == "PyNvVideoCodec 2.2.4 nvdec h264"
        assert reader.facts.pixel_format == "yuv420p"
        assert nvc.open_sessions == 1, "one decoder for each open video"


@pytest.mark.parametrize("fps", [3, 25, 60])
def test_a_resampled_video_is_that_of_the_cpu(
    fps: float, nvc: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode_video(tmp_path / "a.mp4", moving_clip(50), b_frames=2)
    check_same(path, fps=fps)
    converted = []
    write = Converter.write
    monkeypatch.setattr(
        Converter, "write", lambda self, *a: (converted.append(1), write(self, *a))[1]
    )
    frames, _, facts = read(path, "nvdec", fps)
    assert len(converted) <= len(frames), "a dropped picture was converted"
    assert facts.frames_decoded == 50


@pytest.mark.parametrize("fps", [0, 10])
@pytest.mark.parametrize(
    "name, how", [("a.mp4", {"b_frames": 2}), ("a.mkv", {"codec": "libx265"}), ("a.ts", {})]
)
def test_parts_of_a_split_video_are_those_of_the_cpu(
    name: str, how: dict[str, Any], fps: float, nvc: Any, tmp_path: Path
) -> None:
    path = encode_video(tmp_path / name, moving_clip(100), gop=10, **how)
    cuts = cut_points(path, 1.0) or (1.2, 2.4)  # a stream without an index is read from its start
    together: Frames = []
    for span in itertools.pairwise([None, *cuts, None]):
        part, damage, _ = read(path, "nvdec", fps, span)
        assert damage is None
        if span[1] is not None and part[-1][0] >= span[1]:
            seam = part.pop()
            assert seam == read(path, "nvdec", fps, (span[1], None))[0][0]
        together += part
    assert together == read(path, "cpu", fps)[0]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return good_files(tmp_path_factory.mktemp("good"))


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "avi", "hevc.mp4"])
def test_a_file_that_was_cut_off_is_noticed(
    kind: str, nvc: Any, good: dict[str, Path], tmp_path: Path
) -> None:
    content = good[kind].read_bytes()
    whole = read(good[kind], "cpu")[0]
    path = tmp_path / good[kind].name
    for share in (0.45, 0.6, 0.85, 0.93):
        path.write_bytes(content[: int(len(content) * share)])
        ours, damage, _ = read(path, "nvdec")
        theirs, their_damage, _ = read(path, "cpu")
        assert damage is not None and their_damage is not None
        assert damage.reason == their_damage.reason == "corrupt"
        assert ours == whole[: len(ours)]
        assert len(ours) == len(theirs)


def test_a_corrupt_file_has_the_reason_of_the_cpu(nvc: Any, shared_data: Path) -> None:
    path = shared_data / "nasty" / "decord_corrupted.mp4"
    frames, damage, _ = read(path, "cpu")
    ours, our_damage, _ = read(path, "nvdec")
    assert ours == frames
    assert damage is not None and our_damage is not None
    assert damage.reason == our_damage.reason == "corrupt"


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "avi", "hevc.mp4", "ts"])
def test_flipped_bits_never_crash(
    kind: str, nvc: Any, good: dict[str, Path], tmp_path: Path, rng: np.random.Generator
) -> None:
    content = good[kind].read_bytes()
    path = tmp_path / good[kind].name
    known = {"", "corrupt", "unreadable", "no_video", "no_frames", "unsupported"}
    for flips in (1, 3, 10, 30, 100, 300):
        broken = bytearray(content)
        for position in rng.integers(0, len(content), flips):
            broken[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            assert reason(path)[1] in known
        except DecodeError as error:
            assert error.reason in known


def test_packets_that_nvdec_swallows_are_damage(
    nvc: Any, good: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = nvc.PyNvDecoder.pictures_of

    def swallow(decoder: Any, packet: Any) -> list[Any]:
        return plain(decoder, packet) if decoder.packets < 60 or not packet.bsl else []

    monkeypatch.setattr(nvc.PyNvDecoder, "pictures_of", swallow)
    count, found = reason(good["mp4"])
    assert found == "corrupt" and count <= 60


def test_a_recording_that_starts_between_keyframes_is_that_of_the_cpu(
    nvc: Any, good: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(good["ts"].read_bytes()[188 * 12 :])
    ours, damage, facts = read(path, "nvdec")
    assert damage is None
    assert ours == read(path, "cpu")[0]
    assert any(note.startswith("undecodable_start:") for note in facts.notes)


@pytest.mark.parametrize("name", REFUSED)
def test_what_nvdec_does_not_know_is_unsupported(name: str, nvc: Any, shared_data: Path) -> None:
    with pytest.raises(DecodeError, match=REFUSED[name]) as caught:
        with open_video(shared_data / "nasty" / name, VideoParams(decoder="nvdec")) as reader:
            list(reader.windows())
    assert caught.value.reason == "unsupported"
    assert name in str(caught.value)
    assert "--decoder cpu can, in a store of its own" in str(caught.value)


def test_what_this_gpu_does_not_know_is_unsupported(
    nvc: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode_video(tmp_path / "a.mkv", moving_clip(5), codec="libx265", pix_fmt="yuv420p10le")
    monkeypatch.setattr(nvc, "SUPPORTED", {("HEVC", 8)})
    _, damage, _ = read(path, "nvdec")
    assert damage is not None and damage.reason == "unsupported"
    assert "this GPU's NVDEC does not support hevc of 10 bits" in str(damage)
    for name, value in {"width_max": 64, "height_min": 100}.items():
        monkeypatch.setattr(nvc, "SUPPORTED", {("HEVC", 10)})
        monkeypatch.setitem(nvc.LIMITS, name, value)
        forget()
        assert "it is 96x64, and this GPU's NVDEC takes" in str(read(path, "nvdec")[1])
        monkeypatch.undo()


@pytest.mark.parametrize("codec, most", [("libx264", 0), ("libvpx-vp9", 0), ("mpeg4", 1)])
def test_another_picture_than_ffmpegs_is_unsupported(
    codec: str, most: int, nvc: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode_video(tmp_path / "a.mkv", moving_clip(10), codec=codec)
    plain = nvc.PyNvDecoder.fill
    for levels in (1, 2):

        def other(self: Any, memory: Any, picture: Any, levels: int = levels) -> Any:
            plain(self, memory, picture)[...] ^= levels
            return memory

        monkeypatch.setattr(nvc.PyNvDecoder, "fill", other)
        frames, damage, _ = read(path, "nvdec")
        if levels <= most:
            assert damage is None and len(frames) == 10
        else:
            assert damage is not None and damage.reason == "unsupported"
            assert "picture of the first keyframe is" in str(damage)
            assert not frames


def test_interlaced_video_is_unsupported(nvc: Any, tmp_path: Path) -> None:
    fields = {"codec": "mpeg2video", "flags": "+ilme+ildct"}
    path = encode_video(tmp_path / "a.mpg", moving_clip(10), **fields)
    assert read(path, "cpu")[2].interlaced
    _, damage, _ = read(path, "nvdec")
    assert damage is not None and damage.reason == "unsupported"
    assert "it is interlaced" in str(damage)


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "libx265"])
@pytest.mark.parametrize("second", [(48, 64), (96, 128)])
def test_a_change_of_size_is_unsupported(
    codec: str, second: tuple[int, int], nvc: Any, tmp_path: Path
) -> None:
    """The library would scale the pictures, or raise, according to which ones are larger."""
    first = encode_video(tmp_path / "a.ts", moving_clip(20, 64, 96), codec=codec, gop=5)
    other = encode_video(tmp_path / "b.ts", moving_clip(20, *second), codec=codec, gop=5)
    both = tmp_path / "c.ts"
    both.write_bytes(first.read_bytes() + other.read_bytes())
    frames, damage, _ = read(both, "nvdec")
    assert damage is not None and damage.reason == "unsupported"
    assert "change on the way" in str(damage)
    assert 15 <= len(frames) <= 20
    # times are not compared: those behind the change run backwards, and move the ones before it
    assert [crc for _, crc in frames] == [crc for _, crc in read(both, "cpu")[0][: len(frames)]]


def test_other_headers_of_the_same_size_are_supported(nvc: Any, tmp_path: Path) -> None:
    first = encode_video(tmp_path / "a.ts", moving_clip(20), gop=5, profile="baseline")
    other = encode_video(tmp_path / "b.ts", moving_clip(20, seed=1), gop=5, profile="high")
    both = tmp_path / "c.ts"
    both.write_bytes(first.read_bytes() + other.read_bytes())
    frames, damage, _ = read(both, "nvdec")
    assert damage is None
    assert [crc for _, crc in frames] == [crc for _, crc in read(both, "cpu")[0]]


def test_failures_of_the_library_are_told_apart(
    nvc: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode_video(tmp_path / "a.mp4", moving_clip(30), gop=10)
    for code, found in {801: "unsupported", 1: "corrupt"}.items():
        monkeypatch.setattr(nvc, "FAIL_AT", {15: code})
        count, got = reason(path)
        # an unsupported video ends there; behind damage decoding goes on at the next keyframe
        assert got == found and 10 <= count <= (15 if found == "unsupported" else 25)
    for code in (719, 802, 807):  # launch failure, fabric not ready, no MPS server
        monkeypatch.setattr(nvc, "FAIL_AT", {15: code})
        with pytest.raises(BackendError, match="check nvidia-smi"):
            reason(path)
    monkeypatch.setattr(nvc, "FAIL_AT", {0: 1})
    count, got = reason(path)
    assert (count, got) == (0, "corrupt")


def test_used_up_sessions_are_reported(
    nvc: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode_video(tmp_path / "a.mp4", moving_clip(5))
    monkeypatch.setattr(nvc, "SESSIONS", 1)
    with open_video(path, VideoParams(decoder="nvdec")) as reader:
        next(iter(reader.windows(1)))
        with pytest.raises(BackendError, match="use fewer --workers per GPU") as caught:
            reason(path)
        assert "a.mp4" in str(caught.value)
    assert reason(path) == (5, "")


def test_files_are_closed(nvc: Any, tmp_path: Path, shared_data: Path) -> None:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("needs /proc")
    path = encode_video(tmp_path / "a.mp4", moving_clip(20), gop=5)

    def use() -> int:
        reason(path)
        with open_video(path, VideoParams(decoder="nvdec"), start_s=0.4) as reader:
            next(iter(reader.windows(2)))
        with pytest.raises(DecodeError):
            open_video(shared_data / "nasty" / "huffyuv.avi", VideoParams(decoder="nvdec"))
        return len(os.listdir(folder))  # noqa: PTH208

    assert use() == use()


@pytest.mark.parametrize(
    "lack, words",
    [
        ("package", f"PyNvVideoCodec is not installed: {install_command('nvdec')}"),
        ("driver", "there is no NVIDIA driver"),
        ("gpu", "sees no GPU (CUDA_VISIBLE_DEVICES is '')"),
        ("load", "does not load (cannot open libnvidia-encode.so.1): update the NVIDIA driver"),
        ("version", "PyNvVideoCodec is 2.0.3, wanted 2.2.4: pip install -U pynvvideocodec"),
    ],
)
def test_a_missing_part_is_reported_with_a_remedy(
    lack: str, words: str, nvc: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("cannot open libnvidia-encode.so.1\n\n=== TROUBLESHOOTING ===")

    path = encode_video(tmp_path / "a.mp4", moving_clip(3))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if lack == "package":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    elif lack == "load":
        monkeypatch.setattr(nvcodec, "library", broken)
    elif lack == "version":
        monkeypatch.setattr(nvc, "__version__", "2.0.3")
    else:
        monkeypatch.setattr(nvcodec, "visible_gpus", lambda: None if lack == "driver" else 0)
    forget()
    with pytest.raises(BackendError) as caught:
        open_video(path, VideoParams(decoder="nvdec"))
    assert words in str(caught.value)
    assert "or use --decoder cpu, in a store of its own" in str(caught.value)
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize(
    ("status", "words"),
    [(802, "does not start (CUDA error 802): see docs/troubleshooting.md"), (100, "sees no GPU")],
)
def test_a_driver_that_does_not_start_is_none_without_gpus(
    status: int, words: str, tmp_path: Path
) -> None:
    machine = environment(tmp_path, gpus=0, starts=status)
    asked = "from flowpipe.video import why_no_nvdec; print(why_no_nvdec())"
    command = [sys.executable, "-c", asked]
    said = subprocess.run(command, env=machine, capture_output=True, text=True, check=True)
    assert words in said.stdout


def test_unknown_decoders_are_refused() -> None:
    with pytest.raises(ValueError, match="decoder must be cpu or nvdec, got gpu"):
        VideoParams(decoder="gpu")


def require_nvdec() -> None:
    """Skip where NVDEC cannot be used; fail where the library is installed and a GPU promised."""
    if lack := why_no_nvdec():
        promised = find_spec("PyNvVideoCodec") and os.environ.get("FLOWPIPE_REQUIRE_CUDA") == "1"
        (pytest.fail if promised else pytest.skip)(f"needs NVDEC: {lack}")


@pytest.mark.cuda
@pytest.mark.parametrize(
    "name, how",
    [
        ("a.mp4", {"b_frames": 3, "gop": 12}),
        ("b.mkv", {"codec": "libx265", "b_frames": 3, "pix_fmt": "yuv420p10le"}),
        ("c.webm", {"codec": "libvpx-vp9", "deadline": "realtime"}),
        ("d.mov", {"rotation_deg": 90}),
        ("e.avi", {"codec": "mpeg4", "b_frames": 2}),
    ],
)
def test_decoding_on_a_gpu_is_that_of_the_cpu(
    name: str, how: dict[str, Any], tmp_path: Path
) -> None:
    """The real library on the real NVDEC."""
    require_nvdec()
    path = encode_video(tmp_path / name, moving_clip(60, 192, 256), **how)
    found = []
    for decoder in ("cpu", "nvdec"):
        with open_video(path, VideoParams(decoder=decoder)) as reader:
            try:
                (window,) = reader.windows(100)
            except DecodeError as error:
                assert "this GPU's NVDEC does not support" in str(error)
                pytest.skip(str(error))
            found.append(window)
    cpu, nvdec = found
    np.testing.assert_array_equal(nvdec.pts_s, cpu.pts_s)
    if name.endswith(".avi"):  # MPEG-4 leaves decoders some freedom
        assert np.abs(nvdec.data.astype(int) - cpu.data).mean() <= 1
    else:
        np.testing.assert_array_equal(nvdec.data, cpu.data)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["nasa_13013.mp4", "decord_video_90.mov", "h265_10bits.mp4"])
def test_pictures_stay_on_a_gpu(name: str, shared_data: Path) -> None:
    """The real library's memory, copied by the real CuPy and converted by the real kernel."""
    require_nvdec()
    require_cuda()
    path, cuda = shared_data / "nasty" / name, get_ops("cuda")
    with (
        open_video(path) as reader,
        open_video(path, VideoParams(decoder="nvdec"), surfaces=cuda.surfaces) as there,
    ):
        for meant, found in zip(reader.windows(7), there.windows(7), strict=True):
            assert isinstance(found.data, Surfaces)
            for size in (meant.data.shape[1:3], (60, 80)):
                images = cuda.resize(found.data, *size)
                np.testing.assert_array_equal(images, get_ops("cpu").resize(meant.data, *size))


@pytest.mark.cuda
def test_real_clips_decoded_on_a_gpu_are_those_of_the_cpu(shared_data: Path) -> None:
    require_nvdec()
    for name in ("nasty/nasa_13013.mp4", "nasty/h265_10bits.mp4", "clips/kinetics/R6llTwEh07w.mp4"):
        check_same(shared_data / name)
