"""Windows are bounded, homogeneous and independent; interlacing and size changes are recorded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from videofile import encode_video, moving_clip

from flowpipe.video import VideoParams, open_video, probe


def test_lossless_video_comes_back_to_the_bit(tmp_path: Path) -> None:
    frames = moving_clip(20, 33, 47)
    path = encode_video(tmp_path / "clip.mkv", frames, fps=30, codec="ffv1")
    with open_video(path) as reader:
        windows = list(reader.windows(max_frames=8))
        facts = reader.facts
        with pytest.raises(RuntimeError, match="once"):
            next(iter(reader.windows()))
    assert [len(w.data) for w in windows] == [8, 8, 4]
    np.testing.assert_array_equal(np.concatenate([w.data for w in windows]), frames)
    times = np.concatenate([w.pts_s for w in windows])
    np.testing.assert_allclose(times, np.arange(20) / 30, atol=0.5e-3)
    assert reader.facts == facts, "facts outlive the file"
    assert facts.frames_decoded == 20
    assert not reader.seam


@pytest.mark.parametrize(("max_frames", "max_bytes", "want"), [
    (100, 3 * 32 * 48 * 7, [7, 7, 6]), (6, 1 << 30, [6, 6, 6, 2]), (1, 0, [1] * 20),
])  # fmt: skip
def test_windows_keep_their_bounds(
    max_frames: int, max_bytes: int, want: list[int], tmp_path: Path
) -> None:
    path = encode_video(tmp_path / "clip.mkv", moving_clip(20, 32, 48), codec="ffv1")
    with open_video(path) as reader:
        windows = list(reader.windows(max_frames, max_bytes))
    assert [len(w.data) for w in windows] == want
    assert len({w.data.ctypes.data for w in windows}) == len(windows), "windows share memory"


def test_threads_do_not_change_frames(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.mp4", moving_clip(60), gop=12, b_frames=2)
    read = []
    for threads in (1, 3):
        with open_video(path, threads=threads) as reader:
            windows = list(reader.windows())
        read.append((windows[0].data.tobytes(), windows[0].pts_s.tobytes(), reader.facts))
    assert read[0] == read[1]


def test_a_change_of_size_starts_a_window(tmp_path: Path) -> None:
    wide = encode_video(tmp_path / "wide.ts", moving_clip(40, 48, 96), gop=5)
    tall = encode_video(tmp_path / "tall.ts", moving_clip(7, 96, 64), gop=5)
    both = tmp_path / "both.ts"
    both.write_bytes(wide.read_bytes() + tall.read_bytes())
    with open_video(both) as reader:
        windows = list(reader.windows(100))
    assert [w.data.shape[:3] for w in windows] == [(40, 48, 96), (7, 96, 64)]
    facts = reader.facts
    assert facts.sizes == ((96, 48), (64, 96))
    assert (facts.width, facts.height) == (96, 48)
    assert "resolution_change" in facts.notes
    assert "pts_jump" in facts.notes  # the second part starts at its own zero
    assert (np.diff(np.concatenate([w.pts_s for w in windows])) > 0).all()


def test_interlaced_frames_are_recorded(tmp_path: Path) -> None:
    options = {"x264-params": "interlaced=1:tff=1"}
    path = encode_video(tmp_path / "fields.mp4", moving_clip(10), **options)
    with open_video(path) as reader:
        assert sum(len(w.data) for w in reader.windows()) == 10
    assert reader.facts.interlaced
    assert "interlaced:10" in reader.facts.notes


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_display_matrix_is_applied(rotation: int, mirrored: bool, tmp_path: Path) -> None:
    frames = moving_clip(3)
    plain = encode_video(tmp_path / "plain.mp4", frames)
    turned = encode_video(tmp_path / "turned.mp4", frames, rotation_deg=rotation, mirrored=mirrored)
    with open_video(plain) as reader:
        before = next(iter(reader.windows())).data
    with open_video(turned) as reader:
        after = next(iter(reader.windows())).data
    want = np.rot90(before, -rotation // 90, axes=(1, 2))
    want = want[:, :, ::-1] if mirrored else want
    np.testing.assert_array_equal(after, want)
    facts = reader.facts
    assert facts.rotation_deg == rotation
    assert ("mirrored" in facts.notes) == mirrored
    assert (facts.height, facts.width) == after.shape[1:3]


def test_a_probe_estimates_frames_and_rate(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.mp4", moving_clip(50), fps=25)
    look = probe(path)
    assert (look.width, look.height, look.frames_estimate) == (96, 64, 50)
    assert look.duration_s == pytest.approx(2.0)
    assert look.fps == 25


@pytest.mark.parametrize("fps", [-1, 1e6, float("nan")])
def test_impossible_rates_are_refused(fps: float) -> None:
    with pytest.raises(ValueError, match="fps must be"):
        VideoParams(fps=fps)


MEASURE = """
import sys
from pathlib import Path
from flowpipe.video import VideoParams, open_video
for fps in (0, 40):
    with open_video(sys.argv[1], VideoParams(fps=fps)) as reader:
        count = sum(len(window.data) for window in reader.windows())
status = Path("/proc/self/status").read_text()
print(count, status.split("VmHWM:")[1].split()[0])
"""


# getrusage would give the peak of this process, if it was higher, to its child
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    peaks = []
    for count in (300, 3000):
        clip = np.resize(moving_clip(100, 96, 128), (count, 96, 128, 3))
        path = encode_video(tmp_path / f"{count}.mp4", clip, preset="ultrafast", gop=50)
        ran = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path)], check=True, capture_output=True, text=True
        )
        frames, peak_kib = map(int, ran.stdout.split())
        assert frames == pytest.approx(count * 40 / 25, abs=2)
        peaks.append(peak_kib)
    # the longer video is 110 MB of frames
    assert peaks[1] - peaks[0] < 8 * 1024
