"""Sound of real files -> images: what is heard when, whatever container, codec and layout."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from soundfile import clicks, encode_sound, tone

from flowpipe.audio import AudioParams
from flowpipe.audio.images import SoundImages
from flowpipe.errors import DecodeError
from flowpipe.types import VideoFacts
from flowpipe.video import open_video

pytest.importorskip("librosa", reason="images of sound need librosa (extra audio)")

HOP_S = 0.010
VGGISH = AudioParams()
Made = tuple[NDArray[np.float64], NDArray[np.uint8], tuple[str, ...]]


def read_facts(path: Path) -> tuple[VideoFacts, float]:
    with open_video(path, max_damaged=1) as video:
        times = np.concatenate([frames.pts_s for frames in video.windows()])
        return video.facts, float(times[-1])


def read_images(path: Path, params: AudioParams = VGGISH) -> Made:
    """Times, images (N, mels, steps) and notes of the sound of a file."""
    facts, last_s = read_facts(path)
    made = SoundImages(
        "audio", path=str(path), params=params, facts=facts, last_s=last_s, video_stream=None
    )
    planes = list(made)
    times = [p.columns["start_s"] for p in planes]
    images = [p.data[:, 0] for p in planes]
    empty = np.empty((0, params.mels, params.steps), np.uint8)
    return np.concatenate([np.empty(0), *times]), np.concatenate([empty, *images]), made.notes


def heard_s(times: NDArray[np.float64], images: NDArray[np.uint8], loud: int = 60) -> list[float]:
    """Begin of each stretch of loud columns, seconds."""
    columns = {
        round((start_s + HOP_S * j) / HOP_S): image[:, j].mean() > loud
        for start_s, image in zip(times, images, strict=True)
        for j in range(image.shape[1])
    }
    return [k * HOP_S for k in sorted(columns) if columns[k] and not columns.get(k - 1)]


CONTAINERS = [
    ("flac.mkv", {}),
    ("pcm.avi", {"codec": "pcm_s16le", "rate_hz": 44100, "layout": "stereo"}),
    ("eight.avi", {"codec": "pcm_u8", "rate_hz": 8000}),
    ("float.mkv", {"codec": "pcm_f32le", "rate_hz": 96000, "layout": "5.1"}),
    ("aac.mp4", {"codec": "aac", "rate_hz": 48000, "layout": "stereo"}),
    ("opus.webm", {"codec": "libopus", "rate_hz": 48000, "picture": "libvpx"}),
    ("ac3.ts", {"codec": "ac3", "rate_hz": 48000, "layout": "5.1", "picture": "mpeg2video"}),
]


@pytest.mark.parametrize(("name", "options"), CONTAINERS, ids=[name for name, _ in CONTAINERS])
def test_a_click_lies_at_its_step(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    rate_hz = options.get("rate_hz", 16000)
    path = encode_sound(tmp_path / name, [clicks((0.5, 1.25), 2.0, rate_hz)], **options)
    start_s = read_facts(path)[0].start_s
    times, images, _ = read_images(path)
    powers = {
        image_s + HOP_S * j: image[:, j].mean()
        for image_s, image in zip(times, images, strict=True)
        for j in range(image.shape[1])
    }
    for click_s in (start_s + 0.5, start_s + 1.25):
        loudest_s = max((t for t in powers if abs(t - click_s) < 0.2), key=powers.__getitem__)
        # A step weighs the 25 ms from its time on, most of all their middle.
        assert loudest_s + 0.0125 == pytest.approx(click_s, abs=HOP_S / 2 + 0.001)


def test_images_cover_the_sound_and_the_pictures(tmp_path: Path) -> None:
    for length_s, count in ((0.01, 4), (0.96, 4), (2.0, 4), (2.5, 5), (3.5, 7)):
        path = encode_sound(tmp_path / f"{count}-{length_s}.mkv", [tone(440, length_s)])
        times, images, notes = read_images(path)
        assert images.shape == (count, 64, 96)
        np.testing.assert_allclose(times, np.arange(count) * 0.48)
        assert ("audio_short" in notes) == (length_s < 1.9)


def test_power_is_relative_to_a_full_scale_sine(tmp_path: Path) -> None:
    path = encode_sound(tmp_path / "tone.mkv", [tone(1000, 2.0), 0.1 * tone(1000, 2.0)])
    loud, quiet = (read_images(path, AudioParams(track=track))[1] for track in (1, 2))
    rows = np.argmax(loud[0], 0)
    assert len(set(rows)) == 1 and 64 - rows[0] in range(20, 27)  # the highest band is row 0
    decibels = [image[0, rows[0]].mean() * 100 / 255 - 100 for image in (loud, quiet)]
    assert -4 < decibels[0] <= 0 and decibels[0] - decibels[1] == pytest.approx(20, abs=0.4)
    assert read_images(encode_sound(tmp_path / "silent.mkv", [np.zeros(32000)]))[1].max() == 0


def test_a_video_without_sound_has_no_images(tmp_path: Path) -> None:
    _, images, notes = read_images(encode_sound(tmp_path / "none.mp4", []))
    assert len(images) == 0 and notes == ("no_audio",)
    _, images, notes = read_images(encode_sound(tmp_path / "nothing.mkv", [np.empty(0)]))
    assert len(images) == 0 and notes == ("no_audio",)


def test_of_several_tracks_the_default_one_is_decoded_and_noted(tmp_path: Path) -> None:
    path = encode_sound(tmp_path / "two.mkv", [np.zeros(32000), tone(440, 2.0)], default=1)
    _, images, notes = read_images(path)
    assert images.max() > 200 and notes == ("audio_track:2", "audio_tracks:2")
    _, images, notes = read_images(path, AudioParams(track=1))
    assert images.max() == 0 and "audio_track:1" in notes
    with pytest.raises(DecodeError, match="stream 7 is no stream of sound .*: 1, 2") as error:
        read_images(path, AudioParams(track=7))
    assert error.value.reason == "no_track"


def test_sound_that_begins_later_is_silent_before(tmp_path: Path) -> None:
    path = encode_sound(tmp_path / "late.mkv", [clicks((0.25,), 1.0)], first_s=0.7)
    times, images, notes = read_images(path)
    assert times[0] == 0 and "audio_late" in notes
    assert heard_s(times, images) == [pytest.approx(0.95, abs=0.026)]


def test_sound_that_begins_earlier_has_earlier_images(tmp_path: Path) -> None:
    path = encode_sound(tmp_path / "early.mkv", [clicks((0.25,), 2.0)], first_s=-0.2)
    start_s = read_facts(path)[0].start_s
    times, images, _ = read_images(path)
    assert times[0] == pytest.approx(start_s - 0.2, abs=0.002)
    assert heard_s(times, images) == [pytest.approx(start_s + 0.05, abs=0.027)]


def test_a_gap_is_silent_and_what_follows_keeps_its_time(tmp_path: Path) -> None:
    sound = clicks((0.25, 0.95, 1.55), 2.0)
    path = encode_sound(tmp_path / "gap.mkv", [sound], codec="pcm_s16le", gap=(0.7, 0.6))
    times, images, notes = read_images(path)
    assert "audio_gaps" in notes
    assert heard_s(times, images) == [pytest.approx(t, abs=0.026) for t in (0.25, 1.55)]


def test_damaged_packets_are_counted_and_silent(tmp_path: Path) -> None:
    path = encode_sound(tmp_path / "broken.mkv", [tone(440, 2.0)])
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for at in rng.integers(len(content) // 2, len(content) - 2000, 40).tolist():
        content[at] ^= 0xFF
    path.write_bytes(content)
    times, images, notes = read_images(path)
    assert any(note.startswith("audio_damaged") for note in notes)
    assert len(images) >= 4 and images[0].max() > 200


@pytest.mark.skipif(which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_samples_are_those_of_ffmpeg(tmp_path: Path) -> None:
    """Another decoder and resampler gives the same images, to one step of the quantiser."""
    rng = np.random.default_rng(2)
    sound = rng.normal(0, 0.1, 2 * 44100) + 0.3 * tone(700, 2.0, 44100)
    path = encode_sound(tmp_path / "a.mp4", [sound], rate_hz=44100, codec="aac", layout="stereo")
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-af", "pan=mono|c0=0.5*c0+0.5*c1"]
    wav = tmp_path / "a.mkv"
    subprocess.run(
        [*command, "-ar", "16000", "-c:a", "pcm_f32le", "-c:v", "copy", str(wav)], check=True
    )
    one, other = read_images(path)[1], read_images(wav)[1]
    assert one.shape == other.shape
    middle = slice(0, 3)
    difference = np.abs(one[middle].astype(int) - other[middle])
    assert np.percentile(difference, 99) <= 1


def test_geometry_follows_the_params(tmp_path: Path) -> None:
    path = encode_sound(tmp_path / "tone.mkv", [tone(440, 2.0)])
    params = AudioParams(mels=32, steps=48, stride_s=0.24, rate_hz=22050, high_hz=11025)
    times, images, _ = read_images(path, params)
    assert images.shape[1:] == (32, 48) and times[1] == pytest.approx(0.24, abs=1e-4)
    for wrong in (
        {"mels": 0}, {"mels": 200}, {"high_hz": 9000}, {"stride_s": 1.0}, {"floor_db": 0.0},
        {"hop_s": 0.03}, {"rate_hz": 0}, {"steps": 0}, {"track": -1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="must be"):
            replace(AudioParams(), **wrong)
