"""The demo set: true ground truth, repeatable frames, and classes that differ in motion only."""

from __future__ import annotations

import hashlib
import json
import shutil
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from flowpipe.datasets import DATASETS, demo
from flowpipe.datasets.demo.motion import (
    CLASS_NAMES,
    FRAMES,
    HEIGHT,
    WIDTH,
    draw_trajectory,
)
from flowpipe.errors import DatasetError

CLIPS = ("bounce_00", "circle_01", "pulse_02", "shear_03", "slide_04", "turn_05")


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


def decode_one(path: Path, number: int) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(islice(container.decode(video=0), number, None)).to_ndarray(format="rgb24")


def gray(frames: np.ndarray) -> list[np.ndarray]:
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]


def residual(first: np.ndarray, second: np.ndarray, flow: np.ndarray) -> np.ndarray:
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    u, v = flow
    back = cv2.remap(
        second, (x + u).astype(np.float32), (y + v).astype(np.float32), cv2.INTER_CUBIC
    )
    return np.abs(back.astype(np.float64) - first)


def test_the_set_has_36_clips_of_six_classes_and_two_splits(demo_set):
    dataset = demo.load(demo_set)
    assert dataset.class_names == CLASS_NAMES
    assert len(dataset.records) == 36
    assert len({record.video_id for record in dataset.records}) == 36
    for label in range(6):
        splits = [record.splits for record in dataset.records if record.labels == (label,)]
        assert splits.count(("train1",)) == 4
        assert splits.count(("test1",)) == 2
    assert list(demo_set.parent.iterdir()) == [demo_set]  # nothing half-made is left
    with av.open(dataset.records[0].path) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (WIDTH, HEIGHT, 25)
        keyframes = [packet.pts for packet in container.demux(stream) if packet.is_keyframe]
    assert len(keyframes) >= 3  # long enough a clip to be cut in time


def test_the_list_file_of_the_set_reads_as_the_same_videos(demo_set):
    by_list = DATASETS["list"].load(demo_set / "list.csv")
    made = demo.load(demo_set)
    assert by_list.class_names == made.class_names
    for one, other in zip(by_list.records, made.records, strict=True):
        assert (one.video_id, one.path, one.labels) == (other.video_id, other.path, other.labels)
        assert one.splits == other.splits
    by_folder = DATASETS["folder"].load(demo_set)
    assert by_folder.class_names == made.class_names
    assert [r.labels for r in by_folder.records] == [r.labels for r in made.records]


@pytest.mark.parametrize("video_id", CLIPS)
def test_true_flow_carries_each_frame_onto_the_next(demo_set, video_id):
    truth = demo.ground_truth(video_id)
    clean = gray(np.stack(list(demo.clean_frames(video_id))))
    coded = gray(decode(demo_set / "videos" / video_id[:-3] / f"{video_id}.mp4"))
    assert len(coded) == len(clean) == FRAMES
    assert truth.flow.shape == (FRAMES - 1, 2, HEIGHT, WIDTH)
    assert truth.flow.dtype == np.float32
    assert truth.valid.mean() > 0.9
    for k in (0, 20, 38):
        on_patch = truth.foreground[k] & truth.valid[k]
        assert 500 < on_patch.sum() < 12000
        for where in (on_patch, ~truth.foreground[k] & truth.valid[k]):
            error = residual(clean[k], clean[k + 1], truth.flow[k])[where].mean()
            astray = residual(clean[k], clean[k + 1], truth.flow[k] + 0.25)[where].mean()
            assert error < 1.2  # of 255: rounding to bytes and sampling, no more
            assert astray > 2 * error  # so a quarter of a pixel would have shown
            assert residual(coded[k], coded[k + 1], truth.flow[k])[where].mean() < 3.5


def test_background_moves_by_the_homography_alone():
    truth = demo.ground_truth("slide_01")
    x, y = np.meshgrid(np.arange(WIDTH, dtype=float), np.arange(HEIGHT, dtype=float))
    points = np.stack((x, y, np.ones_like(x)))
    for k in (0, 17, 38):
        moved = np.einsum("ij,jhw->ihw", truth.homography[k], points)
        background = ~truth.foreground[k]
        error = moved[:2] / moved[2] - points[:2] - truth.flow[k]
        assert np.abs(error[:, background]).max() < 1e-4
        assert np.abs(error[:, truth.foreground[k]]).max() > 0.5


@pytest.mark.parametrize("name", ["pulse", "turn"])
def test_static_pan_and_handheld_cameras_are_all_there(name):
    static, pan, handheld = (demo.ground_truth(f"{name}_{clip:02d}") for clip in (0, 1, 2))
    np.testing.assert_allclose(static.homography, np.broadcast_to(np.eye(3), (39, 3, 3)), atol=1e-9)
    speed = [np.abs(np.median(t.flow[:, 0, ::8, ::8], axis=(1, 2)).mean()) for t in (pan, handheld)]
    assert speed[0] > 2.5 > 1.5 > speed[1]
    assert np.abs(static.flow[static.foreground[:, None].repeat(2, 1)]).max() > 0.5


def test_same_seed_same_files_other_seed_other_frames(demo_set, tmp_path):
    from flowpipe.datasets.demo.clipfile import write_clip

    again = tmp_path / "again.mp4"
    write_clip(again, demo.clean_frames("turn_02"))
    made = demo_set / "videos" / "turn" / "turn_02.mp4"
    assert again.read_bytes() == made.read_bytes()
    one = next(demo.clean_frames("turn_02", seed=1))
    two = next(demo.clean_frames("turn_02", seed=2))
    assert np.abs(one.astype(int) - two).mean() > 10


def test_a_clip_has_the_motion_of_its_class_only():
    for name in CLASS_NAMES:
        patch = draw_trajectory(np.random.default_rng(3), name, "handheld").patch
        linear, place = patch[:, :2, :2], patch[:, :2, 2]
        scale = np.sqrt(np.linalg.det(linear))
        runs = {
            "x": np.ptp(place[:, 0]) > 1,
            "y": np.ptp(place[:, 1]) > 1,
            "scale": np.ptp(scale) > 0.1,
            "shape": np.ptp(linear / scale[:, None, None], axis=0).max() > 0.1,
        }
        want = {
            "slide": {"x"}, "bounce": {"y"}, "circle": {"x", "y"}, "pulse": {"scale"},
            "turn": {"shape"}, "shear": {"shape"},
        }[name]  # fmt: skip
        assert {key for key, value in runs.items() if value} == want


def test_one_frame_of_the_motion_says_nothing_of_the_class():
    # 200 draws of each class; place and shape at one random time, nearest class mean and nearest
    # neighbour: 1/6 is chance, its standard deviation with 1200 draws 0.011.
    rng = np.random.default_rng(0)
    poses, labels = [], []
    for label, name in enumerate(CLASS_NAMES):
        for _ in range(200):
            patch = draw_trajectory(rng, name, "handheld").patch[rng.integers(FRAMES)]
            poses.append(patch[:2].ravel())
            labels.append(label)
    features = np.array(poses)
    features = (features - features.mean(0)) / features.std(0)
    assert leave_one_out_accuracy(features, np.array(labels)) < 1 / 6 + 0.05
    assert neighbour_accuracy(features, np.array(labels)) < 1 / 6 + 0.05


def test_single_frames_do_not_tell_the_classes_apart(demo_set):
    # 36 clips: chance 6 of 36, standard deviation 2.2; 13 would be three of them above.
    thumbnails, colours, labels = [], [], []
    for record in demo.load(demo_set).records:
        frame = decode_one(Path(record.path), 20)
        thumbnails.append(cv2.resize(frame, (16, 12), interpolation=cv2.INTER_AREA).ravel())
        colours.append(cv2.calcHist([frame], [0, 1, 2], None, [4] * 3, [0, 256] * 3).ravel())
        labels.append(record.labels[0])
    for features in (thumbnails, colours):
        hits = leave_one_out_accuracy(np.array(features, float), np.array(labels)) * 36
        assert hits <= 12


def leave_one_out_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Nearest class mean, each sample judged by the others."""
    hits = 0
    for k, (sample, label) in enumerate(zip(features, labels, strict=True)):
        rest = np.arange(len(labels)) != k
        means = [features[rest & (labels == c)].mean(0) for c in range(6)]
        hits += int(np.argmin([np.sum((sample - mean) ** 2) for mean in means]) == label)
    return hits / len(labels)


def neighbour_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    distance = ((features[:, None] - features[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    return float((labels[distance.argmin(1)] == labels).mean())


# -- what lies there already


def touch_set(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*.mp4")}


def test_a_complete_set_is_used_again(demo_set):
    before = touch_set(demo_set)
    demo.load(demo_set)
    assert touch_set(demo_set) == before


def test_a_damaged_set_is_mended(demo_set, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(demo_set, copy)
    damaged = copy / "videos" / "slide" / "slide_03.mp4"
    good = hashlib.sha256(damaged.read_bytes()).digest()
    damaged.write_bytes(b"cut")
    made: list[int] = []
    demo.load(copy, progress=lambda count, total: made.append(count))
    assert made[-1] == 36
    assert hashlib.sha256(damaged.read_bytes()).digest() == good
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_interrupted_making_leaves_nothing(tmp_path):
    class Stop(Exception):
        pass

    def stop(count: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        demo.load(tmp_path / "deep" / "set", progress=stop)
    assert list((tmp_path / "deep").iterdir()) == []


def test_foreign_files_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(DatasetError, match="new or an empty folder"):
        demo.load(tmp_path)
    with pytest.raises(DatasetError, match="is a file"):
        demo.load(tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"


def test_the_set_of_another_seed_is_refused(tmp_path):
    marker = {"version": demo.VERSION, "seed": 7, "clips": {}}
    (tmp_path / "demo.json").write_text(json.dumps(marker))
    with pytest.raises(DatasetError, match="seed 7"):
        demo.load(tmp_path)


def test_unknown_clips_are_refused():
    with pytest.raises(DatasetError, match="no clip 'jump_00'"):
        demo.ground_truth("jump_00")
