"""Files that are missing, cut off or broken -> the good frames, then one error with its reason."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from videofile import encode_video, good_files, moving_clip

from flowpipe.errors import DecodeError
from flowpipe.video import cut_points, open_video, probe
from flowpipe.video.truncation import count_missing_bytes


def decode(path: Path) -> tuple[int, str]:
    """Frames that came out, and the reason of the error after them or ``""``."""
    count, last_s = 0, -np.inf
    try:
        with open_video(path) as reader:
            for window in reader.windows(9):
                assert window.pts_s[0] > last_s
                assert (np.diff(window.pts_s) > 0).all()
                count, last_s = count + len(window.data), window.pts_s[-1]
    except DecodeError as error:
        assert path.name in str(error)
        return count, error.reason
    return count, ""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return good_files(tmp_path_factory.mktemp("good"))


def test_files_that_cannot_be_opened_have_a_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    (tmp_path / "zeros.avi").write_bytes(bytes(100_000))
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n")
    for name, reason in {
        "none.mp4": "missing", "": "missing", "a\0b": "missing", "empty.mp4": "empty",
        "text.mp4": "unreadable", "zeros.avi": "unreadable", "list.m3u8": "unreadable",
    }.items():  # fmt: skip
        for look in (open_video, probe, lambda path: cut_points(path, 1)):
            with pytest.raises(DecodeError) as caught:
                look(tmp_path / name)
            assert caught.value.reason == reason, name


def test_a_file_without_permission_to_read_has_a_reason(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "locked.mp4", moving_clip(3))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    assert decode(path) == (0, "missing")


@pytest.mark.parametrize(
    "name",
    ["a:b.mp4", "http:x.mp4", "with space 'and' \"quotes\".mp4", "percent%03d.mp4", "#?&.mp4",
     "日本語.mp4", "-y.mp4", "pipe:0.mp4", "concat:a|b.mp4", os.fsdecode(b"bad\xff\xfe.mp4")],
)  # fmt: skip
def test_a_file_of_any_name_opens(name: str, tmp_path: Path) -> None:
    path = encode_video(tmp_path / "plain.mp4", moving_clip(5)).rename(tmp_path / name)
    assert decode(path)[0] == 5
    assert probe(path).frames_estimate == 5


def test_a_relative_name_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode_video(tmp_path / "clip.mp4", moving_clip(5))
    monkeypatch.chdir(tmp_path)
    assert decode(Path("clip.mp4")) == (5, "")


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "avi", "mjpeg.avi", "hevc.mp4", "flv"])
def test_a_file_that_was_cut_off_is_noticed(
    kind: str, good: dict[str, Path], tmp_path: Path
) -> None:
    content = good[kind].read_bytes()
    assert decode(good[kind]) == (80, "")
    assert count_missing_bytes(good[kind]) == 0
    for share in (0.45, 0.6, 0.85):
        path = tmp_path / good[kind].name
        path.write_bytes(content[: int(len(content) * share)])
        assert count_missing_bytes(path) > 0
        count, reason = decode(path)
        assert reason == "corrupt"
        assert 0 < count < 80


def test_lost_index_alone_is_no_damage(good: dict[str, Path], tmp_path: Path) -> None:
    content = good["avi"].read_bytes()
    path = tmp_path / "a.avi"
    path.write_bytes(content[: content.rindex(b"idx1") + 20])
    assert count_missing_bytes(path) > 0
    assert decode(path) == (80, "")


def test_frames_before_the_damage_are_good(good: dict[str, Path], tmp_path: Path) -> None:
    def frames(path: Path) -> list[bytes]:
        got: list[bytes] = []
        try:
            with open_video(path) as reader:
                for window in reader.windows(5):
                    got.extend(frame.tobytes() for frame in window.data)
        except DecodeError:
            pass
        return got

    for kind in ("mp4", "mkv", "webm", "hevc.mp4", "mjpeg.avi"):
        content = good[kind].read_bytes()
        path = tmp_path / good[kind].name
        whole = frames(good[kind])
        for share in np.linspace(0.4, 0.95, 12):
            path.write_bytes(content[: int(len(content) * share)])
            start = frames(path)
            assert 5 < len(start) < 80
            assert start == whole[: len(start)]


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "avi", "mjpeg.avi", "hevc.mp4", "ts"])
def test_flipped_bits_never_crash(
    kind: str,
    good: dict[str, Path],
    tmp_path: Path,
    rng: np.random.Generator,
    capfd: pytest.CaptureFixture[str],
) -> None:
    content = good[kind].read_bytes()
    path = tmp_path / good[kind].name
    reasons = {"", "corrupt", "unreadable", "no_video", "no_frames", "unsupported"}
    for flips in (1, 3, 10, 30, 100, 300):
        broken = bytearray(content)
        for position in rng.integers(0, len(content), flips):
            broken[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        _, reason = decode(path)
        assert reason in reasons
        for look in (probe, lambda path: cut_points(path, 0.5)):
            try:
                look(path)
            except DecodeError as error:
                assert error.reason in reasons
    assert capfd.readouterr() == ("", ""), "FFmpeg or PyAV wrote to the terminal"


def test_real_clips_that_were_cut_or_broken_are_noticed(
    shared_data: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    for name, total in {
        "clips/ucf101/BenchPress/v_BenchPress_g01_c05.avi": 88,
        "clips/hmdb51/TrumanShow_wave_f_nm_np1_fr_med_26.avi": 48,
    }.items():
        content = (shared_data / name).read_bytes()
        path = tmp_path / Path(name).name
        for position in rng.integers(len(content) // 10, len(content) * 9 // 10, 4):
            path.write_bytes(content[:position])
            count, reason = decode(path)
            assert reason == "corrupt"
            assert 0 < count < total
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes(2000) + content[middle + 2000 :])
        count, reason = decode(path)
        assert count <= total


def test_a_recording_that_starts_between_keyframes_decodes_from_the_first_keyframe(
    good: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "a.ts"
    path.write_bytes(good["ts"].read_bytes()[188 * 12 :])
    with open_video(path) as reader:
        count = sum(len(window.data) for window in reader.windows())
    assert 60 <= count < 80
    assert any(note.startswith("undecodable_start:") for note in reader.facts.notes)


def test_many_packets_without_a_picture_are_damage(good: dict[str, Path], tmp_path: Path) -> None:
    """HEVC units of a reserved type are skipped without complaint."""
    content = bytearray(good["hevc.mp4"].read_bytes())
    with av.open(str(good["hevc.mp4"])) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    for pos, size in places[60:]:
        at = pos
        while at < pos + size:
            content[at + 4] = 41 << 1
            at += 4 + int.from_bytes(content[at : at + 4], "big")
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with open_video(path) as reader:
        with pytest.raises(DecodeError, match=r"only 60 frames came out of 80 packets") as caught:
            list(reader.windows())
    assert caught.value.reason == "corrupt"
    assert reader.facts.frames_decoded == 60


def test_files_are_closed(good: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "a.mp4"
    broken.write_bytes(good["mp4"].read_bytes()[:5000])
    odd = good["mp4"].read_bytes()
    named = tmp_path / os.fsdecode(b"\xff.mp4")
    named.write_bytes(odd)
    decode(good["mp4"])
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0  # noqa: PTH208
    for _ in range(5):
        for path in (good["mp4"], broken, named):
            decode(path)
        with open_video(good["mkv"], start_s=1.0) as reader:
            next(iter(reader.windows(2)))
        probe(good["avi"])
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0  # noqa: PTH208
    assert after == before
