"""`flowpipe export FEATURES.h5`: the files of localisation codes, and their times."""

from __future__ import annotations

import csv
import json
import runpy
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from command import in_process
from feature_making import CLASSES, RECORDS, constant, make_features
from numpy.typing import NDArray

from flowpipe.features import Extent, open_features
from flowpipe.features.layouts import FeatureExportJob, export_features
from flowpipe.features.layouts.bmn import resize_rows
from flowpipe.features.windows import Unit
from flowpipe.types import Interval, VideoRecord

FIRST, SECOND = (record.video_id for record in RECORDS)


def export(path: Path, layout: str, **options) -> Path:
    out = path.parent / layout
    export_features(FeatureExportJob(path=path, out=out, layout=layout, **options))
    return out


def test_actionformer_has_the_rows_the_instances_and_the_grid(tmp_path: Path) -> None:
    made = make_features(tmp_path / "f.h5")
    out = export(tmp_path / "f.h5", "actionformer", streams=("flow", "rgb"))
    for key in (FIRST, SECOND):
        rows = np.load(out / "features" / f"{key}.npy")
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, np.hstack([made["flow", key][0], made["rgb", key][0]]))
    settings = yaml.safe_load((out / "actionformer.yaml").read_text())
    assert (settings["train_split"], settings["val_split"]) == (["validation"], ["test"])
    settings = settings["dataset"]
    assert settings["feat_folder"] == str(out / "features")
    assert (settings["feat_stride"], settings["num_frames"]) == (4, 16)
    assert settings["default_fps"] is None  # the rate of each video is in the annotations
    assert (settings["num_classes"], settings["input_dim"]) == (3, 10)
    database = json.loads((out / "annotations.json").read_text())["database"]
    assert database[FIRST]["subset"] == "validation" and database[FIRST]["frame"] == 40
    assert database[SECOND]["duration"] == pytest.approx(60 / 25)
    assert database[SECOND]["annotations"] == [
        {"label": "hug", "label_id": 1, "segment": [0.2, 0.9]},
        {"label": "kick", "label_id": 2, "segment": [1.0, 1.5]},
    ]
    assert (out / "category_idx.txt").read_text().split() == list(CLASSES)
    with open_features(tmp_path / "f.h5") as file:
        centres = (np.arange(12) * settings["feat_stride"] + settings["num_frames"] / 2) / 25
        np.testing.assert_allclose(file.windows(SECOND).centre_s, centres)


def test_a_stride_in_seconds_becomes_frames_of_a_rate(tmp_path: Path) -> None:
    window, stride = Extent(0.6, "seconds"), Extent(0.4, "seconds")
    make_features(tmp_path / "f.h5", window=window, stride=stride)
    out = export(tmp_path / "f.h5", "actionformer")
    settings = yaml.safe_load((out / "actionformer.yaml").read_text())["dataset"]
    assert (settings["feat_stride"], settings["num_frames"]) == (12, 18)
    database = json.loads((out / "annotations.json").read_text())["database"]
    for video in database.values():
        assert video["fps"] == pytest.approx(30)
        assert video["frame"] / video["duration"] == pytest.approx(30)


def test_class_numbers_are_dense_and_videos_without_instances_are_background(
    tmp_path: Path,
) -> None:
    one = VideoRecord(
        "a", "/a.mp4", labels=(2,), segments=(Interval(2, 0.1, 0.5),), splits=("train1",)
    )
    background = VideoRecord("b", "/b.mp4", labels=(0,), splits=("test2", "val1"))
    make_features(tmp_path / "f.h5", records=(one, background))
    database = json.loads(
        (export(tmp_path / "f.h5", "actionformer") / "annotations.json").read_text()
    )["database"]
    assert database["a"]["annotations"][0]["label_id"] == 0
    assert (database["a"]["subset"], database["b"]["subset"]) == ("training", "validation")
    assert database["b"]["annotations"] == []
    trimmed = (VideoRecord("a", "/a.mp4", labels=(2,)), VideoRecord("b", "/b.mp4", labels=(0,)))
    make_features(tmp_path / "t.h5", records=trimmed)
    out = tmp_path / "trimmed"
    export_features(FeatureExportJob(path=tmp_path / "t.h5", out=out, layout="actionformer"))
    database = json.loads((out / "annotations.json").read_text())["database"]
    assert database["b"]["annotations"][0]["segment"] == pytest.approx([0, 60 / 25])


def test_bmn_has_100_rows_of_scores_and_the_covered_frames(tmp_path: Path) -> None:
    made = make_features(tmp_path / "f.h5", frames=(41, 61))
    out = export(tmp_path / "f.h5", "bmn", values="probabilities")
    with (out / "csv_mean_100" / f"{SECOND}.csv").open() as file:
        header, *lines = csv.reader(file)
    assert header == [f"f{k}" for k in range(6)] and len(lines) == 100
    rows = np.array(lines, float)
    np.testing.assert_allclose(rows[:, :3].sum(1), 1, rtol=1e-5)
    scores = np.exp(made["rgb", SECOND][1].astype(float))
    np.testing.assert_allclose(rows[0, :3], scores[0] / scores[0].sum(), rtol=1e-5)
    with h5py.File(out / "csv_mean_100.hdf5") as file:
        np.testing.assert_allclose(file[SECOND][()], rows, rtol=1e-5)
    annotations = json.loads((out / "anet_anno_action.json").read_text())[SECOND]
    assert (annotations["duration_frame"], annotations["feature_frame"]) == (61, 60)
    assert annotations["duration_second"] == pytest.approx(61 / 25)
    with (out / "video_info_new.csv").open() as file:
        assert [row["subset"] for row in csv.DictReader(file)] == ["validation", "test"]


@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_resized_rows_are_linear_in_time(count: int) -> None:
    centre_s = 0.32 + 0.16 * np.arange(count)
    rows = np.stack([3 * centre_s + 1, -centre_s], 1).astype("f4")
    covered_s = float(centre_s[-1] + 0.32)
    found = resize_rows(rows, centre_s, covered_s)
    edges = np.linspace(0, covered_s, 101).clip(centre_s[0], centre_s[-1])
    middle = (edges[1:] + edges[:-1]) / 2
    np.testing.assert_allclose(found, np.stack([3 * middle + 1, -middle], 1), atol=1e-5)


def test_gtad_has_a_row_per_frame_and_the_part_in_each_name(tmp_path: Path) -> None:
    made = make_features(tmp_path / "f.h5", window=Extent(1), stride=Extent(5))
    out = export(tmp_path / "f.h5", "gtad")
    with h5py.File(out / "flow_val.h5") as file:
        assert list(file) == ["val_v"] and list(file["val_v"]) == ["1"]
        rows = file["val_v/1"]
        assert rows.shape == (40, 5)
        np.testing.assert_array_equal(rows[::5], made["flow", FIRST][0])
        np.testing.assert_array_equal(rows[7], made["flow", FIRST][0][1])
        np.testing.assert_array_equal(rows[8], made["flow", FIRST][0][2])
    with h5py.File(out / "rgb_test.h5") as file:
        np.testing.assert_array_equal(file[SECOND][::5], made["rgb", SECOND][0])
    lines = (out / "test_Annotation.csv").read_text().splitlines()
    assert lines[1] == f"{SECOND},hug,2,0.200,0.900,5,22"


def test_video_features_has_files_by_the_name_of_the_video_file(tmp_path: Path) -> None:
    made = make_features(tmp_path / "f.h5")
    out = export(tmp_path / "f.h5", "video_features", only=("test",))
    names = sorted(path.name for path in out.glob("[!.]*"))
    assert names == ["2_flow.npy", "2_fps.npy", "2_rgb.npy", "2_timestamps_ms.npy"]
    np.testing.assert_array_equal(np.load(out / "2_rgb.npy"), made["rgb", SECOND][0])
    times = np.load(out / "2_timestamps_ms.npy")
    np.testing.assert_allclose(times[:2], [15 * 40, 19 * 40])
    same = tuple(VideoRecord(name, f"/{name}/clip.avi") for name in ("x/clip", "y/clip"))
    make_features(tmp_path / "same.h5", records=same)
    out = tmp_path / "same"
    export_features(FeatureExportJob(path=tmp_path / "same.h5", out=out, layout="video_features"))
    assert (out / "x" / "clip_rgb.npy").exists() and (out / "y" / "clip_rgb.npy").exists()


def test_the_command_names_its_lists(tmp_path: Path) -> None:
    make_features(tmp_path / "f.h5")
    done = in_process("export", tmp_path / "f.h5", tmp_path / "o", "--layout", "actionformer")
    assert done.returncode == 0, done.stderr
    assert "2 videos" in done.stdout
    assert "annotations.json, category_idx.txt, actionformer.yaml, opentad.py" in done.stdout


@pytest.mark.parametrize(
    "options, words",
    [
        (("--layout", "mmaction2"), ("is for a store", "actionformer, bmn, gtad, video_features")),
        (("--layout", "bmn", "--modalities", "rbg"), ("stream 'rbg' is unknown", "rgb")),
        (("--layout", "bmn", "--only", "train2"), ("subset or split 'train2' is unknown",)),
        (("--layout", "bmn", "--quality", "90"), ("--quality has no effect on layout bmn",)),
        (
            ("--layout", "gtad", "--modalities", "rgb"),
            ("layout gtad takes the streams rgb and flow",),
        ),
        (("--layout", "actionformr"), ("actionformer",)),
    ],
)
def test_wrong_options_are_answered_in_words(
    tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    make_features(tmp_path / "f.h5")
    done = in_process("export", tmp_path / "f.h5", tmp_path / "o", *options)
    assert done.returncode == 2, done.stderr
    for word in words:
        assert word in done.stderr


def phone(frames: int) -> NDArray[np.float64]:
    """Return times at 30 frames per second in good light, and at 10 in dark light after it."""
    return 3.2 + np.cumsum(np.where(np.arange(frames) < 20, 1 / 30, 1 / 10))


def jittered(frames: int) -> NDArray[np.float64]:
    """Return times at 29.97 frames per second, in whole milliseconds."""
    return np.round(np.arange(frames) * 1001 / 30, 0) / 1000


def test_rows_of_a_varying_frame_rate_are_not_taken_for_other_times(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    make_features(path, frames=(60, 90), clock=phone)
    for layout, advice in (("actionformer", "and --stride in seconds"), ("gtad", "--fps 25")):
        done = in_process("export", path, tmp_path / "o", "--layout", layout)
        assert done.returncode == 2 and not (tmp_path / "o").exists()
        assert "the frame rate of v/1 varies: row" in done.stderr and advice in done.stderr


@pytest.mark.parametrize("clock", [constant, jittered, phone])
def test_the_times_that_a_code_computes_are_those_of_the_rows(
    tmp_path: Path, clock: Callable[[int], NDArray[np.float64]]
) -> None:
    seconds = clock is phone
    window, stride = (Extent(0.6, "seconds"), Extent(0.2, "seconds")) if seconds else (
        Extent(16), Extent(1))  # fmt: skip
    make_features(tmp_path / "f.h5", (60, 90), window, stride, clock=clock)
    out = export(tmp_path / "f.h5", "actionformer")
    one = yaml.safe_load((out / "actionformer.yaml").read_text())["dataset"]
    database = json.loads((out / "annotations.json").read_text())["database"]
    bmn = json.loads((export(tmp_path / "f.h5", "bmn") / "anet_anno_action.json").read_text())
    with open_features(tmp_path / "f.h5") as file:
        for key, video in file.videos.items():
            windows, own = file.windows(key), database[key]
            fps = own["fps"]
            starts = np.arange(len(windows)) * one["feat_stride"] / fps
            rows = np.load(out / "features" / f"{key}.npy")
            assert len(rows) == len(windows)
            wrong_s = starts - (windows.start_s - video.start_s)
            assert np.abs(wrong_s).max() <= (0.1 if seconds else 0.002)  # the longest frame
            covered = bmn[key]["feature_frame"] / bmn[key]["duration_frame"] * own["duration"]
            assert covered == pytest.approx(windows.end_s[-1] - video.start_s, abs=0.51 / video.fps)


@pytest.mark.parametrize("unit", ["frames", "seconds"])
def test_the_row_of_a_video_shorter_than_the_window_lies_at_its_centre(
    tmp_path: Path, unit: Unit
) -> None:
    scale = 25 if unit == "seconds" else 1
    window, stride = Extent(16 / scale, unit), Extent(4 / scale, unit)
    make_features(tmp_path / "f.h5", (5, 60), window, stride)
    out = export(tmp_path / "f.h5", "actionformer")
    grid = yaml.safe_load((out / "actionformer.yaml").read_text())["dataset"]
    opentad = runpy.run_path(str(out / "opentad.py"))["feature_settings"]
    assert opentad["offset_frames"] == pytest.approx(grid["num_frames"] / 2, abs=0.5)
    database = json.loads((out / "annotations.json").read_text())["database"]
    for key, centre_s in (FIRST, 2.5 / 25), (SECOND, 8 / 25):
        own = database[key]
        assert grid["num_frames"] / 2 / own["fps"] == pytest.approx(centre_s)
        assert own["frame"] / own["duration"] == pytest.approx(own["fps"])  # OpenTAD's rate


@pytest.mark.parametrize("layout", ["actionformer", "bmn", "gtad", "video_features"])
def test_a_video_of_one_frame_is_exported_with_a_duration(tmp_path: Path, layout: str) -> None:
    make_features(tmp_path / "f.h5", frames=(1, 60))
    out = export(tmp_path / "f.h5", layout)
    if layout == "actionformer":
        own = json.loads((out / "annotations.json").read_text())["database"][FIRST]
        assert own["duration"] > 0 and own["fps"] == own["frame"] / own["duration"]
    elif layout == "bmn":
        own = json.loads((out / "anet_anno_action.json").read_text())[FIRST]
        assert own["duration_second"] > 0 and own["feature_frame"] == own["duration_frame"] == 1
    else:
        assert out.is_dir()


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    make_features(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        file["streams/flow/scores"][3, 1] = np.nan
    done = in_process("export", tmp_path / "f.h5", tmp_path / "o", "--layout", "bmn")
    assert done.returncode == 2 and "scores of flow of video v/1 are not finite" in done.stderr


@pytest.mark.parametrize("layout", ["bmn", "gtad", "video_features"])
def test_zeros_stand_for_a_video_that_a_stream_leaves_out(tmp_path: Path, layout: str) -> None:
    made = make_features(tmp_path / "f.h5", left_out={"flow": {"v/1": "no sound"}})
    done = in_process("export", tmp_path / "f.h5", tmp_path / "o", "--layout", layout)
    assert done.returncode == 0, done.stderr
    assert "has no flow of 1 of 2 videos; zeros stand for it" in done.stderr
    if layout == "video_features":
        rows = np.load(tmp_path / "o" / "1_flow.npy")
        assert rows.shape == made["flow", "v/1"][0].shape and not rows.any()


@pytest.mark.parametrize("name, kind", [("store.json", "store"), ("run.json", "run")])
def test_nothing_is_exported_into_a_store_or_a_run(tmp_path: Path, name: str, kind: str) -> None:
    make_features(tmp_path / "f.h5")
    out = tmp_path / "o"
    out.mkdir()
    (out / name).touch()
    done = in_process("export", tmp_path / "f.h5", out, "--layout", "video_features")
    assert done.returncode == 2 and f"is a {kind}; choose another folder" in done.stderr
    assert [path.name for path in out.iterdir()] == [name]


def test_an_export_of_other_rows_does_not_mix_with_one_that_is_there(tmp_path: Path) -> None:
    made = make_features(tmp_path / "f.h5")
    command = ("export", tmp_path / "f.h5", tmp_path / "o", "--layout", "video_features")
    wrong = ("export", tmp_path / "f.h5", tmp_path / "o", "--layout", "gtad", "--modalities", "rgb")
    assert in_process(*wrong).returncode == 2 and not (tmp_path / "o").exists()
    assert in_process(*command, "--only", "test1").returncode == 0
    (array,) = (tmp_path / "o").rglob("*_rgb.npy")
    array.unlink()
    assert in_process(*command, "--only", "test1").returncode == 0  # the same goes on
    np.testing.assert_array_equal(np.load(array), made["rgb", SECOND][0])
    for options, word in (
        ((), "videos"), (("--only", "test1", "--values", "scores"), "values"),
        (("--only", "test1", "--modalities", "rgb"), "streams"),
    ):  # fmt: skip
        done = in_process(*command, *options)
        assert done.returncode == 2 and f"(different: {word})" in done.stderr
    np.testing.assert_array_equal(np.load(array), made["rgb", SECOND][0])
    make_features(tmp_path / "f.h5", stride=Extent(5))
    done = in_process(*command, "--only", "test1")
    assert done.returncode == 2 and "(different: features)" in done.stderr
    (tmp_path / "o" / ".flowpipe" / "features.json").write_text("[]")
    done = in_process(*command, "--only", "test1")
    assert done.returncode == 2 and "must hold an object, got a list" in done.stderr


def test_files_without_labels_or_of_mixed_units_have_no_grid(tmp_path: Path) -> None:
    make_features(tmp_path / "m.h5", stride=Extent(0.2, "seconds"))
    done = in_process("export", tmp_path / "m.h5", tmp_path / "o", "--layout", "actionformer")
    assert done.returncode == 2 and "both in frames, or both in seconds" in done.stderr
    bare = (VideoRecord("a", "/a.mp4"), VideoRecord("b", "/b.mp4"))
    make_features(tmp_path / "u.h5", records=bare)
    done = in_process("export", tmp_path / "u.h5", tmp_path / "o", "--layout", "actionformer")
    assert done.returncode == 2 and "no chosen video has a label" in done.stderr
    (tmp_path / "store.json").touch()
    done = in_process("export", tmp_path, tmp_path / "o", "--layout", "bmn")
    assert done.returncode == 2 and "layout bmn is for a file of flowpipe features" in done.stderr
