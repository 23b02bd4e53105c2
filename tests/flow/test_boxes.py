"""Boxes of people: both layouts, scaling to the frame, and errors of wrong files."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from flowpipe.errors import DatasetError
from flowpipe.flow.boxes import Boxes, load_boxes
from flowpipe.flow.camera import CameraMotionEstimator, WarpParams
from flowpipe.ops import get_ops

LINES = "1 10 20 30.5 40 0.9 50 60 70 80 0.5\n2\n3 0 0 5 5 1\n"
FRAMES = [[[10, 20, 30.5, 40, 0.9], [50, 60, 70, 80, 0.5]], [], [[0, 0, 5, 5, 1]]]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "boxes").mkdir()
    (tmp_path / "boxes" / "clip.txt").write_text(LINES)
    return tmp_path / "boxes"


def json_lines(path, **videos):
    lines = [json.dumps({"video_id": name, "frames": frames}) for name, frames in videos.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_both_layouts_give_equal_boxes(folder, tmp_path):
    file = json_lines(tmp_path / "all.jsonl", other=[[]], clip=FRAMES)
    for boxes in (load_boxes(folder, "clip", 100, 100), load_boxes(file, "clip", 100, 100)):
        assert [len(frame) for frame in boxes.frames] == [2, 0, 1]
        assert boxes.frames[0].tolist() == [[10, 20, 30.5, 40], [50, 60, 70, 80]]
        boxes.check_count(3)
    assert load_boxes(folder, "unknown", 100, 100) is None
    assert load_boxes(file, "unknown", 100, 100) is None


def test_mask_includes_both_ends_and_rounds_inwards(folder):
    mask = load_boxes(folder, "clip", 100, 100).mask(0, 100, 100)
    expected = np.full((100, 100), 255, np.uint8)
    expected[20:41, 10:31] = 0
    expected[60:81, 50:71] = 0
    assert np.array_equal(mask, expected)


def test_mask_is_scaled_to_the_resized_frame():
    # A pixel of the small frame covers 4x2 of the source; its centre is at 4x + 1.5, 2y + 0.5.
    boxes = Boxes("x", (np.array([[7.0, 3, 16, 9]]),), 100, 200)
    masked = np.argwhere(boxes.mask(0, 50, 50) == 0)
    assert masked.min(axis=0).tolist() == [2, 2] and masked.max(axis=0).tolist() == [4, 3]


def test_boxes_beyond_the_border_are_cut():
    far = np.array([[-50.0, -50, -1, -1], [90, 90, 400, 400], [-5, 30, 500, 31]])
    mask = Boxes("x", (far,), 100, 100).mask(0, 100, 100)
    expected = np.full((100, 100), 255, np.uint8)
    expected[90:, 90:] = 0
    expected[30:32] = 0
    assert np.array_equal(mask, expected)


def test_nothing_is_found_inside_boxes(rng):
    frame = rng.integers(0, 256, (128, 160), dtype=np.uint8)
    boxes = Boxes("x", (np.array([[40.0, 30, 110, 90]]),), 128, 160)
    [features] = CameraMotionEstimator(WarpParams(), get_ops(), boxes).features(frame[None], 0)
    for points in (features.points, features.corners):
        x, y = np.rint(points).T
        assert len(points) and not ((x >= 40) & (x <= 110) & (y >= 30) & (y <= 90)).any()
    everything = Boxes("x", (np.array([[0.0, 0, 200, 200]]),), 128, 160)
    [features] = CameraMotionEstimator(WarpParams(), get_ops(), everything).features(frame[None], 0)
    assert len(features.points) == len(features.corners) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1 2 3\n", r"clip.txt line 1: wanted 5 numbers per box"),
        ("0\n1 a b c d e\n", r"clip.txt line 2: wanted a frame number"),
        ("0\n2\n", r"clip.txt line 2: wanted frame 1, got 2"),
        ("0 5 5 2 9 1\n", r"clip.txt line 1: wanted x1 <= x2"),
        ("0 nan 5 2 9 1\n", r"clip.txt line 1: coordinates must be finite"),
        ("0.5\n", r"clip.txt line 1: the frame number must be whole"),
        ("nan\n", r"clip.txt line 1: the frame number must be whole"),
    ],
)
def test_wrong_text_files_are_named_with_their_line(folder, text, message):
    (folder / "clip.txt").write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_boxes(folder, "clip", 100, 100)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "all.jsonl line 1 is not valid JSON.*: wanted"),
        ('\n{"video_id": "clip"}', "all.jsonl line 2: wanted"),
        ("[1]", "all.jsonl line 1 must hold an object.*: wanted"),
        ('{"video_id": "clip", "frames": 3}', "all.jsonl line 1: 'frames' must be a list"),
        ('{"video_id": "clip", "frames": [[], [[1, 2]]]}', "line 1, frame 1: wanted a list"),
        ('{"video_id": "clip", "frames": [[["a", 1, 2, 3]]]}', "line 1, frame 0: coordinates"),
        ('{"video_id": "clip", "frames": []}\n' * 2, "line 2: 'clip' has boxes on line 1 already"),
    ],
)
def test_wrong_json_lines_are_named_with_their_line(tmp_path, text, message):
    (tmp_path / "all.jsonl").write_text(text)
    with pytest.raises(DatasetError, match=message):
        load_boxes(tmp_path / "all.jsonl", "clip", 100, 100)


def test_a_changed_file_is_read_again(tmp_path):
    file = json_lines(tmp_path / "all.jsonl", clip=[[]])
    assert len(load_boxes(file, "clip", 10, 10).frames) == 1
    json_lines(file, clip=[[], []])
    os.utime(file, ns=(1, 1))
    assert len(load_boxes(file, "clip", 10, 10).frames) == 2


def test_a_count_that_differs_is_an_error(folder):
    boxes = load_boxes(folder, "clip", 100, 100)
    for frames in (2, 4):
        with pytest.raises(DatasetError, match=f"3 frames, but the video has {frames}"):
            boxes.check_count(frames)
    with pytest.raises(DatasetError, match="clip.txt has boxes for 3 frames, but .* has more"):
        boxes.mask(3, 10, 10)


def test_a_video_id_does_not_lead_out_of_the_folder(folder):
    (folder.parent / "secret.txt").write_text("0\n")
    (folder / "class").mkdir()
    (folder / "class" / "clip.txt").write_text("0\n")
    assert load_boxes(folder, "../secret", 10, 10) is None
    assert load_boxes(folder, str(folder.parent / "secret"), 10, 10) is None
    assert load_boxes(folder, "a\0b", 10, 10) is None
    assert load_boxes(folder, "x" * 300, 10, 10) is None
    assert load_boxes(folder, "class/clip", 10, 10) is not None


def test_a_path_without_boxes_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no boxes at .*nowhere"):
        load_boxes(tmp_path / "nowhere", "clip", 10, 10)
