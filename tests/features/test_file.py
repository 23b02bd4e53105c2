"""Windows of a video, and the file of features: it returns what was written."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from checkout import ROOT
from feature_making import CLASSES, RECORDS, make_features

from flowpipe.errors import FormatError
from flowpipe.features import Extent, cut_windows, file_format, open_features
from flowpipe.features.file_format import Table

DOCUMENT = (ROOT / "docs/features.md").read_text()

AT_25 = np.arange(100) / 25


def test_windows_in_frames_are_complete_and_a_stride_apart() -> None:
    for count in (5, 16, 17, 31, 32, 100):
        found = cut_windows(AT_25[:count], Extent(16), Extent(5))
        if count < 16:
            assert (found.start_frame.tolist(), found.stop_frame.tolist()) == ([0], [count])
            continue
        wanted = list(range(0, count - 15, 5))
        assert found.start_frame.tolist() == wanted
        assert (found.stop_frame - found.start_frame == 16).all()
        np.testing.assert_allclose(found.start_s, np.array(wanted) / 25, atol=1e-12)
        np.testing.assert_allclose(found.end_s, (np.array(wanted) + 16) / 25, atol=1e-12)
        np.testing.assert_allclose(found.centre_frame, np.array(wanted) + 7.5)
        np.testing.assert_allclose(found.centre_s, (found.centre_frame + 0.5) / 25)


@pytest.mark.parametrize("fps", [24, 25, 29.97, 30])
def test_seconds_that_are_whole_frames_give_the_windows_in_frames(fps: float) -> None:
    pts_s = 3 + np.arange(100) / fps
    frames = cut_windows(pts_s, Extent(16), Extent(4))
    seconds = cut_windows(pts_s, Extent(16 / fps, "seconds"), Extent(4 / fps, "seconds"))
    assert frames.start_frame.tolist() == seconds.start_frame.tolist()
    assert frames.stop_frame.tolist() == seconds.stop_frame.tolist()
    mixed = cut_windows(pts_s, Extent(16), Extent(4 / fps, "seconds"))
    assert mixed.start_frame.tolist() == frames.start_frame.tolist()


def test_a_stride_in_seconds_follows_the_timestamps_and_does_not_drift() -> None:
    rng = np.random.default_rng(3)
    pts_s = np.cumsum(rng.uniform(0.02, 0.08, 400))  # variable frame rate
    found = cut_windows(pts_s, Extent(0.5, "seconds"), Extent(0.3, "seconds"))
    times = pts_s[0] + 0.3 * np.arange(len(found))
    assert (found.start_s <= times + 1e-6).all() and (times - found.start_s < 0.08).all()
    length_s = found.end_s - found.start_s
    assert (abs(length_s - 0.5) < 0.1).all() and len(found) > 50


def test_a_video_of_one_frame_has_one_row() -> None:
    found = cut_windows(np.array([2.5]), Extent(0.5, "seconds"), Extent(1, "seconds"))
    assert (found.start_frame.tolist(), found.stop_frame.tolist()) == ([0], [1])
    assert found.start_s.tolist() == found.end_s.tolist() == [2.5]


@pytest.mark.parametrize(
    "value, unit",
    [
        (0, "frames"),
        (-1, "seconds"),
        (1.5, "frames"),
        (np.nan, "seconds"),
        (np.inf, "seconds"),
        (1e23, "frames"),
        (1e23, "seconds"),
        (1e-9, "seconds"),
    ],  # fmt: skip
)
def test_lengths_that_mean_nothing_are_refused(value: float, unit: str) -> None:
    with pytest.raises(ValueError, match="wanted"):
        Extent(value, unit)


def test_a_file_returns_the_rows_that_were_written(tmp_path: Path) -> None:
    made = make_features(tmp_path / "f.h5", store="here")
    with open_features(tmp_path / "f.h5") as file:
        assert list(file.videos) == [record.video_id for record in RECORDS]
        assert [video.record for video in file.videos.values()] == list(RECORDS)
        assert file.facts["store"] == "here" and file.facts["stride"] == Extent(4).facts
        assert set(file.streams) == {"rgb", "flow"}
        assert file.streams["rgb"].class_names == CLASSES
        assert (file.width("rgb", "features"), file.width("flow", "scores")) == (5, 3)
        for (stream, video_id), (features, scores) in made.items():
            np.testing.assert_array_equal(file.features(stream, video_id), features)
            np.testing.assert_array_equal(file.scores(stream, video_id), scores)
            windows = file.windows(video_id)
            assert len(windows) == len(scores)
            assert windows.start_frame.tolist() == list(range(0, 4 * len(scores), 4))
        video = file.videos["video_test_0000001"]
        assert (video.frames, video.fps, video.status) == (60, 25.0, "done")
        assert video.end_s == pytest.approx(60 / 25)


def test_rows_of_a_video_that_a_stream_leaves_out_are_not_a_number(tmp_path: Path) -> None:
    left_out = {"flow": {"v/1": "no sound"}}  # the first video: widths are those of the second
    made = make_features(tmp_path / "f.h5", left_out=left_out)
    with open_features(tmp_path / "f.h5") as file:
        assert [file.streams[name].left_out for name in ("rgb", "flow")] == [{}, left_out["flow"]]
        for (stream, video_id), arrays in made.items():
            found = file.features(stream, video_id), file.scores(stream, video_id)
            for values, written in zip(found, arrays, strict=True):
                silent = np.full_like(written, np.nan)
                want = silent if video_id in left_out.get(stream, {}) else written
                np.testing.assert_array_equal(values, want)


def test_h5py_alone_reads_times_and_values(tmp_path: Path) -> None:
    made = make_features(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5") as file:
        first, stop = file["videos/row_first"][1:3]
        assert file["videos/video_id"].asstr()[1] == "video_test_0000001"
        rows = file["streams/flow/features"][first:stop]
        np.testing.assert_array_equal(rows, made["flow", "video_test_0000001"][0])
        assert file["rows/centre_frame"][first : first + 2].tolist() == [7.5, 11.5]


def declared() -> dict[str, Table]:
    """Tables of `file_format`, by path."""
    return {
        f"{group}/{table.name}".lstrip("/"): table
        for group, tables in file_format.TABLES.items()
        for table in tables
    }


def test_the_document_lists_the_tables_and_facts_of_the_file() -> None:
    found = {}
    for row in re.findall(r"^\| `(?:facts|\w+/[\w/]+)`.*", DOCUMENT, re.M):
        names, kind = (cell.strip() for cell in row.split("|")[1:3])
        first, *others = re.findall(r"`([\w/]+)`", names)
        group = first.rpartition("/")[0]
        found |= dict.fromkeys([first, *(f"{group}/{name}" for name in others)], kind)
    wanted = {}
    for path, table in declared().items():
        texts = (file_format.TEXT, file_format.JSON)
        dtype = table.dtype if table.dtype in texts else np.dtype(table.dtype).name
        wanted[path] = f"{dtype} ({', '.join(table.shape)})" if table.shape else dtype
    assert found == wanted
    for of, keys in ("the file", file_format.FILE_FACTS), ("a stream", file_format.STREAM_FACTS):
        (row,) = re.findall(rf"^\| {of} \| (.*) \|$", DOCUMENT, re.M)
        assert tuple(re.findall(r"`(\w+)`", row)) == keys
    named = f"`format` = `{file_format.FORMAT}` and `version` = {file_format.VERSION}"
    assert named in DOCUMENT


def test_a_file_has_the_tables_that_are_declared(tmp_path: Path) -> None:
    make_features(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5") as file:
        videos, rows = len(file["videos/video_id"]), len(file["rows/start_frame"])
        lengths = {"V": videos, "V + 1": videos + 1, "R": rows, "D": 5, "C": len(CLASSES)}
        written: list[str] = []
        file.visititems(lambda path, it: written.extend([path] * isinstance(it, h5py.Dataset)))
        wanted = {
            path.replace("NAME", stream): table
            for stream in ("rgb", "flow")
            for path, table in declared().items()
        }
        assert set(written) == set(wanted)
        for path, table in wanted.items():
            assert file[path].shape == tuple(lengths[axis] for axis in table.shape), path
            if table.dtype in (file_format.TEXT, file_format.JSON):
                assert h5py.check_string_dtype(file[path].dtype).encoding == "utf-8"
            else:
                assert file[path].dtype == table.dtype


def damage(path: Path, how: str) -> None:
    if how == "empty":
        path.write_bytes(b"")
    elif how == "other":
        with h5py.File(path, "w") as file:
            file["scores"] = np.zeros(3)
    elif how == "short":
        with h5py.File(path, "r+") as file:
            del file["streams/flow/scores"]
            file["streams/flow/scores"] = np.zeros((2, 3), "f4")
    elif how == "fewer videos":
        with h5py.File(path, "r+") as file:
            ids = file["videos/video_id"][:1]
            del file["videos/video_id"]
            file["videos/video_id"] = ids
    elif how == "no table":
        with h5py.File(path, "r+") as file:
            del file["rows/centre_s"]
    elif how == "no facts":
        with h5py.File(path, "r+") as file:
            del file["facts"]
            file["facts"] = "{}"
    elif how == "version":
        with h5py.File(path, "r+") as file:
            file.attrs["version"] = 2
    else:
        path.unlink()


@pytest.mark.parametrize(
    "how", ["empty", "other", "short", "fewer videos", "no table", "no facts", "version", "gone"]
)
def test_other_files_are_refused_with_their_name(tmp_path: Path, how: str) -> None:
    make_features(tmp_path / "f.h5")
    damage(tmp_path / "f.h5", how)
    with pytest.raises(FormatError, match=r"f\.h5 cannot be read as features"):
        open_features(tmp_path / "f.h5")
