"""Sound of real files -> samples: when each click is heard, in whatever file it lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from soundfile import clicks, encode_sound, tone

from flowpipe.errors import DecodeError
from flowpipe.video import open_video
from flowpipe.video.sound import SoundReader

RATE_HZ = 16000
CLICKS_S = (0.5, 1.25)
MPEG2 = {"picture": "mpeg2video"}


def start_s(path: Path) -> float:
    with open_video(path) as video:
        for _ in video.windows():
            pass
        return video.facts.start_s


def read_sound(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float32], dict[str, int]]:
    """Time of each sample on the clock of the frames, samples, notes."""
    reader = SoundReader(str(path), RATE_HZ)
    sounds = list(reader)
    times = [s.run_s + (s.offset + np.arange(len(s.samples))) / RATE_HZ for s in sounds]
    samples = [s.samples for s in sounds]
    return np.concatenate(times), np.concatenate(samples), +reader.notes


def heard_s(path: Path) -> list[float]:
    """Time of the loudest sample of each click, seconds behind the first frame."""
    times, samples, _ = read_sound(path)
    times = times - start_s(path)
    loud = times[np.abs(samples) > 0.1]
    starts = [t for k, t in enumerate(loud) if k == 0 or t - loud[k - 1] > 0.2]
    near = [np.flatnonzero(np.abs(times - at_s) < 0.1) for at_s in starts]
    return [float(times[k[np.abs(samples[k]).argmax()]]) for k in near]


FILES: list[tuple[str, float, dict[str, Any]]] = [
    ("flac.mkv", 0, {"rate_hz": 16000}),
    ("pcm8.avi", 0, {"codec": "pcm_u8", "rate_hz": 8000}),
    ("pcm24.mov", 0, {"codec": "pcm_s24le", "rate_hz": 96000, "layout": "5.1"}),
    ("float.mkv", 0, {"codec": "pcm_f32le", "rate_hz": 96000, "layout": "7.1"}),
    ("many.mkv", 0, {"codec": "pcm_s16le", "layout": "hexadecagonal"}),
    ("alac.mov", 0, {"codec": "alac", "rate_hz": 44100, "layout": "stereo"}),
    ("aac.mp4", 0, {"codec": "aac", "layout": "stereo"}),
    ("aac.mkv", 0, {"codec": "aac", "layout": "5.1"}),
    ("aac.ts", 0, {"codec": "aac", **MPEG2}),
    ("aac.flv", 0, {"codec": "aac", "rate_hz": 44100, "picture": "flv"}),
    ("mp3.mp4", 0, {"codec": "libmp3lame", "rate_hz": 44100}),
    ("mp3.mkv", 0, {"codec": "libmp3lame", "rate_hz": 22050}),
    ("mp3.ts", 0, {"codec": "libmp3lame", "rate_hz": 44100, **MPEG2}),
    ("mp2.mpg", 0, {"codec": "mp2", "rate_hz": 44100, "picture": "mpeg1video"}),
    ("ac3.mp4", 0, {"codec": "ac3", "layout": "5.1"}),
    ("ac3.ts", 0, {"codec": "ac3", **MPEG2}),
    ("opus.webm", 0, {"codec": "libopus", "picture": "libvpx"}),
    # AVI cannot say how late an encoder is, and nothing in the packets does.
    ("aac.avi", 1024 / 48000, {"codec": "aac"}),
    ("mp3.avi", 1105 / 44100, {"codec": "libmp3lame", "rate_hz": 44100}),
]


@pytest.mark.parametrize(("name", "late_s", "options"), FILES, ids=[name for name, *_ in FILES])
def test_a_click_lies_at_its_time(
    tmp_path: Path, name: str, late_s: float, options: dict[str, Any]
) -> None:
    all_options = {"rate_hz": 48000, **options}
    samples = clicks(CLICKS_S, 2.0, all_options["rate_hz"])
    path = encode_sound(tmp_path / name, [samples], **all_options)
    assert heard_s(path) == [pytest.approx(at_s + late_s, abs=0.003) for at_s in CLICKS_S]


def join(path: Path, *kinds: dict[str, Any]) -> Path:
    """Write files of two seconds of pictures one behind the other."""
    for kind in kinds:
        options = {"rate_hz": 48000, "codec": "aac", "length_s": 2.0, **MPEG2, **kind}
        length_s = options.pop("length_s")
        piece = path.with_name(f"piece-{path.name}")
        encode_sound(piece, [clicks(CLICKS_S, length_s, options["rate_hz"])], **options)
        with path.open("ab") as file:
            file.write(piece.read_bytes())
    return path


JOINED: dict[str, Sequence[dict[str, Any]]] = {
    "aac.ts": ({"layout": "stereo"}, {"rate_hz": 44100}, {"layout": "5.1"}),
    "mp3.ts": [{"codec": "libmp3lame", "rate_hz": rate_hz} for rate_hz in (44100, 48000)],
    "ac3.ts": [{"codec": "ac3", "layout": layout} for layout in ("5.1", "stereo")],
    "mp2.mpg": [{"codec": "mp2", "picture": "mpeg1video"}] * 3,
    "longer.ts": ({"length_s": 2.4}, {"length_s": 1.4}, {}),
    "many.ts": [{}] * 6,
}


@pytest.mark.parametrize("name", JOINED)
def test_joined_files_keep_the_sound_at_its_pictures(tmp_path: Path, name: str) -> None:
    """Sound that changes its rate and layout, and is longer or shorter than its pictures."""
    path = join(tmp_path / name, *JOINED[name])
    expected = [2.0 * piece + at_s for piece in range(len(JOINED[name])) for at_s in CLICKS_S]
    assert heard_s(path) == [pytest.approx(at_s, abs=0.004) for at_s in expected]
    assert read_sound(path)[2]["audio_jumps"] == len(JOINED[name]) - 1


def test_sound_that_jumps_alone_goes_on(tmp_path: Path) -> None:
    """The sound of the second file begins at 0 again, and its pictures follow those before."""
    later_s = [2.0 + number / 25 for number in range(50)]
    path = join(tmp_path / "alone.ts", {}, {"times_s": later_s})
    expected = [piece + at_s for piece in (0.0, 2.0) for at_s in CLICKS_S]
    assert heard_s(path) == [pytest.approx(at_s, abs=0.03) for at_s in expected]
    assert read_sound(path)[2] == {"audio_jumps": 1}


@pytest.mark.parametrize(("name", "codec", "count"), [("a.mkv", "flac", 4), ("a.mp4", "aac", 5)])
def test_sound_whose_first_packets_fail_begins_later(
    tmp_path: Path, name: str, codec: str, count: int
) -> None:
    path = encode_sound(tmp_path / name, [clicks(CLICKS_S, 2.0)], codec=codec)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in [p for p in container.demux(audio=0) if p.size][:count]:
            at = content.index(bytes(packet))
            content[at : at + packet.size] = b"\xff" * packet.size
    path.write_bytes(content)
    assert heard_s(path) == [pytest.approx(at_s, abs=0.003) for at_s in CLICKS_S]
    times, _, notes = read_sound(path)
    assert times[0] > 0.05 and notes == {"audio_damaged": count}


def test_pictures_of_any_kind_leave_the_sound_as_it_is(tmp_path: Path) -> None:
    """A variable frame rate, few pictures, and a cover beside the video."""
    times_s = (0, 0.04, 0.08, 0.4, 0.44, 1.0, 1.92)
    for name, kind in (
        ("variable.mkv", {"times_s": times_s}),
        ("few.mkv", {"frames": 3}),
        ("cover.mp4", {"codec": "aac", "cover": True}),
    ):
        path = encode_sound(tmp_path / name, [clicks(CLICKS_S, 2.0)], **kind)
        assert heard_s(path) == [pytest.approx(at_s, abs=0.003) for at_s in CLICKS_S]
        with open_video(path) as video:
            pts_s = np.concatenate([frames.pts_s for frames in video.windows()])
            # The header of Matroska has the length of the sound.
            assert "shorter_than_declared" not in video.facts.notes
        if name == "variable.mkv":
            assert pts_s == pytest.approx(times_s)


def test_sound_with_a_cover_is_no_video(tmp_path: Path) -> None:
    for cover in (True, False):
        path = encode_sound(
            tmp_path / f"{cover}.mp4", [tone(440, 1.0)], codec="aac", frames=0, cover=cover
        )
        with pytest.raises(DecodeError) as error:
            list(SoundReader(str(path), RATE_HZ))
        assert error.value.reason == "no_video"


def test_values_outside_full_scale_are_clipped(tmp_path: Path) -> None:
    samples = 2 * tone(440, 1.0)
    samples[1000:1010] = np.inf
    samples[3000:3010] = np.nan
    path = encode_sound(tmp_path / "a.mkv", [samples], codec="pcm_f32le")
    _, heard, _ = read_sound(path)
    assert heard.min() == -1 and heard.max() == 1
    np.testing.assert_array_equal(heard[3000:3010], 0)


NASTY = {
    "VID00003-20100701-2204.wmv": 46.656, "decord_flipping_a_pancake.mkv": 10.368,
    "nasa_13013.mp4": 13.056, "sample_sorenson.avi": 4.911, "sample_sorenson.mov": 4.923,
    "sample_sorenson.wmv": 4.911, "sine_stereo_mp2.mpg": 4.023,
}  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
def test_sound_of_the_shared_files_is_whole(shared_data: Path, name: str) -> None:
    """MP2 of 16 kHz in ASF, Opus, two tracks, MP2 of 22 kHz, QDM2, a program stream."""
    times, samples, notes = read_sound(shared_data / "nasty" / name)
    assert len(samples) / RATE_HZ == pytest.approx(NASTY[name], abs=0.002)
    assert notes.get("audio_tracks", 1) == (2 if "nasa" in name else 1)
    assert not {"audio_gaps", "audio_jumps", "audio_damaged"} & set(notes)
    np.testing.assert_allclose(np.diff(times), 1 / RATE_HZ, rtol=1e-4)
    assert 0.05 < np.abs(samples).max() <= 1
