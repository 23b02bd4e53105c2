"""Odd files -> the right number of upright frames, or a refusal with its reason code."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from videofile import encode_video, moving_clip

from flowpipe.errors import DecodeError
from flowpipe.types import VideoFacts
from flowpipe.video import VideoParams, cut_points, open_video, probe

# name -> (frames, width, height, notes that must be there)
NASTY = {
    "VID00003-20100701-2204.wmv": (1399, 480, 352, ()),
    "av1_video.mkv": (125, 640, 360, ()),
    "bt2020_10bit.mp4": (60, 320, 240, ("hdr_not_tone_mapped",)),
    "bt601_full_range.mp4": (60, 320, 240, ()),
    "bt601_limited_range.mp4": (60, 320, 240, ()),
    "bt709_full_range.mp4": (30, 1280, 720, ()),
    "cinepak.avi": (30, 176, 144, ()),
    "decord_flipping_a_pancake.mkv": (310, 426, 240, ()),
    "decord_unordered.mov": (4, 50, 50, ()),
    "decord_video_0.mov": (3, 568, 320, ()),
    "decord_video_90.mov": (3, 320, 568, ()),
    "decord_video_180.mov": (3, 568, 320, ()),
    "decord_video_270.mov": (3, 320, 568, ()),
    "discard_first_keyframe.mp4": (25, 64, 64, ()),
    "divx.avi": (30, 176, 144, ()),
    "h264_10bits.mp4": (30, 200, 200, ()),
    "h265_10bits.mp4": (30, 200, 200, ()),
    "h265_video.mp4": (10, 128, 128, ()),
    "huffyuv.avi": (30, 176, 144, ()),
    "mpeg4.mp4": (30, 176, 144, ()),
    "nasa_13013.mp4": (390, 480, 270, ("video_streams:2", "video_stream:3")),
    "nasa_13013_hdr.mp4": (325, 320, 180, ("hdr_not_tone_mapped",)),
    "nasa_13013_rotated.mp4": (17, 270, 480, ()),
    "qcif_UYVY.avi": (1, 176, 144, ("colour_untagged",)),
    "qcif_Y8.avi": (1, 176, 144, ()),
    "sample_sorenson.avi": (60, 190, 240, ()),
    "sample_sorenson.mov": (60, 190, 240, ()),
    "sample_sorenson.wmv": (60, 190, 240, ()),
    "sine_stereo_mp2.mpg": (100, 128, 128, ()),
    "test_non_zero_start.mp4": (12, 200, 112, ()),
    "testsrc2.mp4": (60, 1280, 720, ("colour_untagged",)),
    "testsrc2_12bit_hdr.mp4": (60, 320, 180, ("hdr_not_tone_mapped",)),
    "testsrc2_444_10bit_hevc.mp4": (25, 321, 241, ()),
    "testsrc2_444_12bit_hevc.mp4": (25, 321, 241, ()),
    "testsrc2_444_8bit_hevc.mp4": (25, 321, 241, ()),
    "testsrc2_av1_10bit.mp4": (25, 320, 240, ()),
    "testsrc2_h265.mp4": (60, 1280, 720, ()),
    "testsrc2_hdr.mp4": (60, 320, 180, ("hdr_not_tone_mapped",)),
    "testsrc2_mpeg4.avi": (30, 1280, 720, ()),
    "testsrc2_mpeg4.mp4": (1, 64, 64, ()),
    "testsrc2_odd_height_444.mp4": (25, 320, 241, ()),
    "testsrc2_odd_height_and_width_444.mp4": (25, 321, 241, ()),
    "testsrc2_odd_height_and_width_444_10bit.mp4": (25, 321, 241, ()),
    "testsrc2_odd_height_and_width_mpeg2.mp4": (10, 121, 81, ()),
    "testsrc2_odd_height_and_width_vp9.mp4": (25, 321, 241, ()),
    "testsrc2_odd_height_and_width_vp9_10bit.mp4": (25, 321, 241, ()),
    "testsrc2_odd_height_vp9.mp4": (25, 320, 241, ()),
    "testsrc2_odd_height_vp9_10bit.mp4": (25, 320, 241, ()),
    "testsrc2_odd_width_444.mp4": (25, 321, 240, ()),
    "testsrc2_odd_width_mpeg2.mp4": (10, 121, 80, ()),
    "testsrc2_odd_width_vp9.mp4": (25, 321, 240, ()),
    "testsrc2_odd_width_vp9_10bit.mp4": (25, 321, 240, ()),
    "testsrc2_vp8.webm": (30, 1280, 720, ()),
    "testsrc2_vp9.webm": (30, 1280, 720, ()),
}
DAMAGE = {
    "lost_frames", "damaged_frames", "concealed_frames", "corrupt_packets", "undecodable_start",
    "shorter_than_declared", "fewer_frames_than_declared",
}  # fmt: skip
"""Notes of damaged or incomplete videos."""
REFUSED = {"sine_mono_s16.wav": "no_video"}
PARTIAL = {"decord_corrupted.mp4": ("corrupt", 29)}

# HMDB51 declares one frame more than there is; OpenCV reads the same numbers
CLIPS = {
    "hmdb51/RATRACE_wave_f_nm_np1_fr_goo_37.avi": 72,
    "hmdb51/SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi": 74,
    "hmdb51/TrumanShow_wave_f_nm_np1_fr_med_26.avi": 48,
    "hmdb51/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": 83,
    "kinetics/R6llTwEh07w.mp4": 303,
    "ucf101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi": 164,
    "ucf101/Diving/v_Diving_g01_c03.avi": 214,
}


def read(path: Path, keep: int = 1) -> tuple[np.ndarray, np.ndarray, VideoFacts]:
    """All times, the first `keep` frames, the facts."""
    times: list[np.ndarray] = []
    frames: list[np.ndarray] = []
    with open_video(path) as reader:
        for window in reader.windows():
            times.append(window.pts_s)
            frames.extend(window.data[: max(0, keep - len(frames))].copy())
        facts = reader.facts
        assert not reader.damage
        assert not DAMAGE & {note.partition(":")[0] for note in facts.notes}
        return np.stack(frames), np.concatenate(times), facts


def read_opencv(path: Path, keep: int) -> tuple[np.ndarray, int]:
    capture = cv2.VideoCapture(str(path))
    frames, count = [], 0
    while True:
        good, frame = capture.read()
        if not good:
            break
        count += 1
        if len(frames) < keep:
            frames.append(frame[..., ::-1])
    capture.release()
    return np.stack(frames), count


def test_the_table_covers_every_file(shared_data: Path) -> None:
    names = {p.name for p in (shared_data / "nasty").iterdir() if p.suffix != ".json"}
    assert names == {*NASTY, *REFUSED, *PARTIAL}


@pytest.mark.parametrize("name", NASTY)
def test_an_odd_file_decodes_to_its_frames(
    name: str, shared_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = shared_data / "nasty" / name
    frames, times, facts = read(path)
    count, width, height, notes = NASTY[name]
    assert (len(times), facts.frames_decoded, facts.frames_dropped) == (count, count, 0)
    assert (facts.width, facts.height) == (width, height)
    assert frames.shape[1:] == (height, width, 3)
    assert facts.sizes == ((width, height),)
    assert set(notes) <= set(facts.notes)
    assert not any(note.startswith("pts_") for note in facts.notes)
    assert (np.diff(times) > 0).all()
    estimate = probe(path)
    assert {estimate.width, estimate.height} == {width, height}
    assert estimate.frames_estimate == pytest.approx(count, rel=0.25, abs=2)
    cut_points(path, 0.5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_without_video_is_refused(name: str, shared_data: Path) -> None:
    for look in (open_video, probe, lambda path: cut_points(path, 1)):
        with pytest.raises(DecodeError, match=name) as caught:
            look(shared_data / "nasty" / name)
        assert caught.value.reason == REFUSED[name]


@pytest.mark.parametrize("name", PARTIAL)
def test_the_good_start_of_a_broken_file_is_kept(
    name: str, shared_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reason, count = PARTIAL[name]
    got = 0
    with open_video(shared_data / "nasty" / name, stop_at_damage=True) as reader:
        with pytest.raises(DecodeError, match="frame 29, 2.900 s.*NAL units") as caught:
            for window in reader.windows():
                got += len(window.data)
    assert (caught.value.reason, got, reader.facts.frames_decoded) == (reason, count, count)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", CLIPS)
def test_a_real_clip_has_the_frames_that_opencv_reads(name: str, shared_data: Path) -> None:
    path = shared_data / "clips" / name
    frames, times, facts = read(path, keep=20)
    theirs, count = read_opencv(path, 20)
    assert len(times) == count == CLIPS[name]
    assert (np.diff(times) > 0).all()
    # OpenCV takes the scaler's fast way: darker by up to one level, chroma repeated
    assert np.abs(frames.astype(int) - theirs).mean() < 2.5
    assert not {"pts_repeated", "pts_missing", "pts_jump"} & {n.split(":")[0] for n in facts.notes}


@pytest.mark.parametrize(
    "name",
    ["nasa_13013_rotated.mp4", "decord_video_90.mov", "decord_video_180.mov",
     "decord_video_270.mov", "decord_video_0.mov", "sample_sorenson.mov"],
)  # fmt: skip
def test_pictures_stand_upright_as_opencv_turns_them(name: str, shared_data: Path) -> None:
    frames, _, _ = read(shared_data / "nasty" / name)
    theirs, _ = read_opencv(shared_data / "nasty" / name, 1)
    assert frames.shape == theirs.shape
    assert np.abs(frames.astype(int) - theirs).mean() < 6  # OpenCV reads BT.709 as BT.601


def test_repaired_times_fill_the_frame_grid(shared_data: Path) -> None:
    """AVI numbers packets; a picture has the number of the packet at which it comes out."""
    path = shared_data / "clips/ucf101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"
    _, times, facts = read(path)
    np.testing.assert_allclose(times, np.arange(1, 165) / 25)
    assert not any(note.startswith("pts_") for note in facts.notes)


@pytest.mark.parametrize(
    "name",
    ["clips/hmdb51/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi",
     "action/utinteraction/set1/0_1_4.avi",
     "clips/ucf101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"],
)  # fmt: skip
def test_times_of_packed_avi_are_those_of_ffprobe(name: str, shared_data: Path) -> None:
    path = shared_data / name
    truth = ffprobe_times(path)
    _, times, facts = read(path)
    known = [k for k, time in enumerate(truth) if time is not None]
    assert len(times) == len(truth)
    assert len(known) >= len(truth) - 1, "ffprobe has no time for what the decoder held back"
    np.testing.assert_allclose(times[known], [truth[k] for k in known], atol=1e-6)
    rate = round(facts.fps_in)
    with open_video(path, VideoParams(fps=rate)) as reader:
        ticks = np.concatenate([window.pts_s for window in reader.windows()])
    np.testing.assert_allclose(ticks, times, atol=1e-6, err_msg="one tick for each frame")


@pytest.mark.parametrize("name", ["nasa_13013.mp4", "nasa_13013_rotated.mp4"])
def test_times_are_those_of_ffprobe(name: str, shared_data: Path) -> None:
    truth = json.loads(
        (shared_data / "nasty" / f"{name}.stream0.all_frames_info.json").read_text("utf-8")
    )
    with open_video(shared_data / "nasty" / name, VideoParams(stream=0)) as reader:
        times = np.concatenate([window.pts_s for window in reader.windows()])
    np.testing.assert_allclose(times, [float(f["pts_time"]) for f in truth], atol=1e-6)


def ffprobe_times(path: Path) -> list[float | None]:
    """ffprobe's best-effort timestamps, None where it has none."""
    if shutil.which("ffprobe") is None:
        pytest.skip("needs ffprobe")
    asked = "frame=best_effort_timestamp_time"
    command = ["ffprobe", "-v", "quiet", "-select_streams", "v:0", "-show_frames"]
    answer = subprocess.run(
        [*command, "-show_entries", asked, "-of", "json", path], capture_output=True, check=True
    )
    frames = json.loads(answer.stdout)["frames"]
    times = [frame.get("best_effort_timestamp_time") for frame in frames]
    return [None if time is None else float(time) for time in times]


@pytest.mark.parametrize(("codec", "b_frames"), [("libx264", 2), ("libx264", 0), ("mpeg4", 2)])
def test_times_of_made_avi_are_those_of_ffprobe(codec: str, b_frames: int, tmp_path: Path) -> None:
    path = encode_video(tmp_path / "a.avi", moving_clip(30), codec=codec, b_frames=b_frames)
    _, times, _ = read(path)
    truth = ffprobe_times(path)
    assert len(times) == len(truth) == 30
    for ours, theirs in zip(times, truth, strict=True):
        assert theirs is None or ours == pytest.approx(theirs, abs=1e-6)
    assert truth[0] is not None
    np.testing.assert_allclose(np.diff(times), 1 / 25)


def test_times_stay_those_of_the_file(shared_data: Path) -> None:
    _, times, facts = read(shared_data / "nasty/test_non_zero_start.mp4")
    assert times[0] == facts.start_s == pytest.approx(8.3330078125)
    _, times, facts = read(shared_data / "nasty/sine_stereo_mp2.mpg")
    assert times[0] == facts.start_s == 0.54


def test_facts_describe_how_a_file_was_read(shared_data: Path) -> None:
    _, _, facts = read(shared_data / "nasty/nasa_13013_rotated.mp4")
    assert (facts.container, facts.codec, facts.pixel_format) == ("mov", "h264", "yuv420p")
    assert (facts.rotation_deg, facts.colour_matrix, facts.colour_range) == (
        270,
        "bt709",
        "limited",
    )
    assert facts.fps_in == pytest.approx(30000 / 1001)
    assert facts.fps_out == 0
    assert facts.decoder.startswith("PyAV ") and " libavcodec " in facts.decoder
    _, _, facts = read(shared_data / "nasty/bt2020_10bit.mp4")
    assert (facts.colour_matrix, facts.colour_transfer) == ("bt2020", "pq")
    _, _, facts = read(shared_data / "nasty/qcif_Y8.avi")
    assert (facts.colour_matrix, facts.colour_range, facts.fps_in) == ("gray", "full", 0)
