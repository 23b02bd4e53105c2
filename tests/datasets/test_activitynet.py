"""ActivityNet: the database in the official form, ids that begin with a dash, instances."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowpipe.datasets import DATASETS
from flowpipe.datasets.activitynet import OFFICIAL_COUNTS
from flowpipe.datasets.instances import instances
from flowpipe.errors import DatasetError
from flowpipe.types import Interval, VideoRecord

load = DATASETS["activitynet-1.3"].load
JSON = "activity_net.v1-3.min.json"
VIDEOS = {
    "--0edUL8zmA": ("training", [("Class 003", 0.0, 4.5), ("Class 001", 6.0, 9.0)]),
    "_under-scor": ("validation", [("Class 199", 1.0, 2.0)]),
    "3HHAEmr0Q34": ("testing", []),
    "blockedBLCK": ("validation", [("Class 000", 1.0, 2.0)]),
}


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def database(classes: int = 200, **changed: Any) -> dict[str, Any]:
    """The structure of the official file: the classes are the leaves below two more levels."""
    taxonomy = [
        {"nodeId": 0, "nodeName": "Root", "parentId": None, "parentName": None},
        {"nodeId": 1, "nodeName": "Sports", "parentId": 0, "parentName": "Root"},
    ]
    taxonomy += [
        {"nodeId": k, "nodeName": f"Class {k - 2:03}", "parentId": 1, "parentName": "Sports"}
        for k in reversed(range(2, classes + 2))
    ]
    videos = {
        video_id: {
            "duration": 10.0, "subset": subset, "resolution": "320x240",
            "url": f"https://www.youtube.com/watch?v={video_id}",
            "annotations": [{"label": n, "segment": [a, b]} for n, a, b in intervals],
        }
        for video_id, (subset, intervals) in VIDEOS.items()
    }  # fmt: skip
    return {"version": "VERSION 1.3", "taxonomy": taxonomy, "database": videos} | changed


def write(root: Path, content: Any, name: str = JSON) -> Path:
    root.mkdir(exist_ok=True)
    (root / name).write_text(json.dumps(content))
    return root


def test_videos_are_found_under_three_kinds_of_file_names(tmp_path):
    write(tmp_path, database())
    fill(tmp_path, "v_--0edUL8zmA.mp4", "val/_under-scor.webm", "A title-3HHAEmr0Q34.mkv", "x.mp4")
    dataset = load(tmp_path)
    assert [(r.video_id, r.labels, r.subset, r.splits) for r in dataset.records] == [
        ("--0edUL8zmA", (1, 3), "training", ("train1", "train2")),
        ("3HHAEmr0Q34", (), "testing", ("test2",)),
        ("_under-scor", (199,), "validation", ("test1", "train2")),
    ]
    assert dataset.records[0].segments == (
        Interval(3, 0.0, 4.5),
        Interval(1, 6.0, 9.0),
    )
    assert [r.video_id for r in dataset.absent] == ["blockedBLCK"]
    assert dataset.unlisted == (f"{tmp_path}/x.mp4",)
    assert "1 of 10024 training, 1 of 4926 validation, 1 of 5044 testing" in dataset.note
    assert dataset.class_names == tuple(f"Class {k:03}" for k in range(200))


@pytest.mark.parametrize(
    ("name", "text"), [("blocked.json", '["blockedBLCK"]'), ("blocked_ids.txt", "v_blockedBLCK\n")]
)
def test_blocked_videos_are_in_no_split_and_not_reported_as_absent(tmp_path, name, text):
    write(tmp_path, database())
    fill(tmp_path, "v_--0edUL8zmA.mp4")
    (tmp_path / name).write_text(text)
    dataset = load(tmp_path)
    assert [r.video_id for r in dataset.absent] == ["3HHAEmr0Q34", "_under-scor"]
    assert "1 blocked video " in dataset.note
    fill(tmp_path, "v_blockedBLCK.mp4")
    record = load(tmp_path).records[-1]
    assert (record.video_id, record.labels, record.splits) == ("blockedBLCK", (0,), ())


def test_ids_that_begin_with_v_are_found(tmp_path):
    """Two published ids begin with v_ themselves."""
    ids = ("v_UmAH95xls", "v_Vg4a8igc0")
    videos = {video_id: {"subset": "training", "annotations": []} for video_id in ids}
    write(tmp_path, database(database=videos))
    fill(tmp_path, "v_UmAH95xls.mp4", "v_v_Vg4a8igc0.mp4")
    assert tuple(record.video_id for record in load(tmp_path).records) == ids
    for text in ("v_UmAH95xls\r\n", "v_v_UmAH95xls.mp4\n"):
        (tmp_path / "blocked.txt").write_text(text, newline="")
        splits = {record.video_id: record.splits for record in load(tmp_path).records}
        assert splits == {"v_UmAH95xls": (), "v_Vg4a8igc0": ("train1", "train2")}


def test_instances_without_length_keep_their_number(tmp_path):
    """The published database has some; the instances after them keep the names TSN gives them."""
    intervals = ([4.0, 6.0], [0, 0], [1.0, 2.0])  # the official file is not in the order of time
    annotations = [{"label": "Class 003", "segment": interval} for interval in intervals]
    videos = {"H-yBxySDyTw": {"subset": "training", "annotations": annotations}}
    write(tmp_path, database(database=videos))
    fill(tmp_path, "v_H-yBxySDyTw.mp4")
    dataset = load(tmp_path)
    assert "3 instances annotated, 1 of them without length" in dataset.note
    found = [(one.name, one.frames(np.arange(8.0))) for one in instances(dataset.records[0])]
    assert found == [
        ("H-yBxySDyTw_0", (4, 2)), ("H-yBxySDyTw_1", (0, 0)), ("H-yBxySDyTw_2", (1, 1))
    ]  # fmt: skip


def test_youtube_ids_differ_in_case(tmp_path):
    write(tmp_path, database())
    fill(tmp_path, "v_--0edUL8zmA.mp4", "v_3hhaemr0q34.mp4")
    dataset = load(tmp_path)
    assert [r.video_id for r in dataset.records] == ["--0edUL8zmA"]
    assert dataset.unlisted == (f"{tmp_path}/v_3hhaemr0q34.mp4",)


def test_files_unlike_the_official_one_are_refused(tmp_path):
    fill(tmp_path, "v_--0edUL8zmA.mp4")
    with pytest.raises(DatasetError, match="no activity_net.v1-3.min.json .*--annotations"):
        load(tmp_path)
    for content, message in (
        (database(100), "has 100 classes, ActivityNet 1.3 has 200"),
        ({"database": {}}, "taxonomy and database"),
        (database(taxonomy=[{"nodeName": "a"}]), "lacks 'parentName'"),
        (database(database={"--0edUL8zmA": {"subset": "train"}}), "video --0edUL8zmA .*'train'"),
    ):
        with pytest.raises(DatasetError, match=message):
            load(write(tmp_path, content))
    endless = [{"label": "Class 003", "segment": [0.0, float("nan")]}]
    for content, message in (
        (database(version="VERSION 1.2"), "'VERSION 1.2', which is not version 1.3"),
        (
            database(database={"--0edUL8zmA": {"subset": "training", "annotations": endless}}),
            "without a finite start and end",
        ),
    ):
        with pytest.raises(DatasetError, match=message):
            load(write(tmp_path, content))
    (tmp_path / JSON).write_text("{")
    with pytest.raises(DatasetError, match=r"min\.json is not valid JSON"):
        load(tmp_path)
    write(tmp_path, database())
    write(tmp_path, database(), "activity_net.v1-3.json")
    with pytest.raises(DatasetError, match="look like annotations .*name one of them"):
        load(tmp_path)
    assert len(load(tmp_path, annotations=tmp_path / JSON).records) == 1
    fill(tmp_path, "again/--0edUL8zmA.mkv")
    with pytest.raises(DatasetError, match="more than one file"):
        load(tmp_path, annotations=tmp_path / JSON)
    fill(tmp_path / "other", "short.mp4")
    write(tmp_path / "other", database(database={"short": {"subset": "training"}}))
    with pytest.raises(DatasetError, match="'short' is not a YouTube id"):
        load(tmp_path / "other")


def test_every_published_id_of_both_versions_is_found(shared_data, tmp_path):
    """Real ids, and instances named as the published list of clips names them."""
    lists = shared_data / "annotations" / "activitynet"
    rows = (lists / "anet_1.2_untrimmed_train_rgb_list.txt").read_text().splitlines()
    trained = Counter(row.split("/")[-2] for row in rows)
    assert len(trained) == 4819  # the training videos of 1.2, once per instance
    clips = (lists / "anet_v1.3_clip_list.txt").read_text().split()
    names = (lists / "action_name.csv").read_text().splitlines()[1:]
    counts = Counter(clip[:11] for clip in clips)
    official = OFFICIAL_COUNTS["1.3"]
    assert len(counts) == official["training"] + official["validation"]
    videos = {
        video_id: {
            "subset": "training",
            "annotations": [
                {"label": names[k % 200], "segment": [float(k), k + 1.0]} for k in range(count)
            ],
        }
        for video_id, count in counts.items()
    }
    taxonomy = [{"nodeName": name, "parentName": "Root"} for name in sorted(names, reverse=True)]
    write(tmp_path, {"taxonomy": taxonomy, "database": videos})
    fill(tmp_path, *(f"v_{video_id}.mp4" for video_id in counts))
    dataset = load(tmp_path)
    assert not dataset.absent and not dataset.unlisted
    assert dataset.class_names == tuple(sorted(names)) and len(names) == 200
    named = {f"{one.name}.avi" for record in dataset.records for one in instances(record)}
    assert named == set(clips)
    assert any(clip.startswith("-") for clip in named)


def test_an_instance_has_a_name_and_the_frames_of_its_time():
    record = VideoRecord("--abc", "", segments=(Interval(4, 1.0, 2.0), Interval(2, 0.0, 9.0)))
    first, second = instances(record)
    assert (first.name, first.label, second.name, second.label) == ("--abc_0", 4, "--abc_1", 2)
    pts_s = np.arange(50) / 10  # five seconds at ten frames a second
    assert first.frames(pts_s) == (10, 10)
    assert second.frames(pts_s) == (0, 50)
    (beyond,) = instances(VideoRecord("a", "", segments=(Interval(0, 7.0, 9.0),)))
    assert beyond.frames(pts_s) == (50, 0)
