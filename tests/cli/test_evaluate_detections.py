"""`flowpipe evaluate` on temporal detections: with a store, with official annotations, mistakes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from command import FAST, draw_noise_clip, in_process
from detection_cases import write_activitynet, write_json, write_text, write_thumos14
from videofile import encode_video

DIVING = [80.42, 80.42, 80.42, 52.5, 35, 35, 25]  # see tests/evaluation/test_detections.py


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of the THUMOS14 videos of detection_cases."""
    store = tmp_path_factory.mktemp("detections") / "store"
    folder = store.with_name("videos")
    folder.mkdir()
    for number in (4, 6, 7, 8):
        encode_video(folder / f"video_test_{number:07}.mp4", draw_noise_clip(number, frames=4))
    write_thumos14(folder)
    options = ("--dataset", "thumos14", "--root", folder, "--out", store)
    chosen = ("--allow-missing", "--modalities", "rgb", "--workers", 1)
    done = in_process("extract", *options, *chosen, *FAST)
    assert done.returncode == 0, done.stderr
    return store


def test_a_store_and_its_annotations_give_the_same_figures(store: Path, tmp_path: Path) -> None:
    with_store = in_process("evaluate", store, write_json(tmp_path / "d.json"), "--json")
    assert with_store.returncode == 0, with_store.stderr
    figures = json.loads(with_store.stdout)["splits"]["test1"]
    assert list(figures) == [f"mAP@0.{k}" for k in range(1, 8)] + ["average"]
    assert figures["mAP@0.4"] == pytest.approx((0.525 + 0.80416667) / 2)
    truth = write_thumos14(tmp_path / "annotations")
    path = write_text(tmp_path / "d.txt", ".mp4")
    for folder in (truth, tmp_path):  # the folder, or one above it
        done = in_process("evaluate", folder, path, "--json", "--per-class")
        assert json.loads(done.stdout)["splits"]["test1"] == figures, done.stderr
    facts = json.loads(done.stdout)
    assert facts["splits"]["test1"] == figures
    assert [100 * v for v in facts["classes"]["test1"]["Diving"].values()] == pytest.approx(
        DIVING, abs=0.01
    )
    assert "detections of 1 video count as false positives" in done.stderr
    table = in_process("evaluate", truth, path, "--per-class").stdout
    assert "66.46" in table and "52.50" in table and "GolfSwing" in table
    own = in_process("evaluate", truth, path, "--tiou", "0.5", "--json").stdout
    assert json.loads(own)["splits"]["test1"] == {"mAP@0.5": figures["mAP@0.5"]}


def test_the_form_of_activitynet(tmp_path: Path) -> None:
    truth = write_activitynet(tmp_path / "truth.json")
    path = write_json(tmp_path / "d.json", prefix="v_")
    facts = json.loads(in_process("evaluate", truth, path, "--json").stdout)
    assert facts["splits"]["val1"]["average"] == pytest.approx(0.32029762)
    chosen = ("--split", "validation", "--protocol", "thumos14-detection-11", "--json")
    facts = json.loads(in_process("evaluate", truth, path, *chosen).stdout)
    assert list(facts["splits"]) == ["val1"] and len(facts["splits"]["val1"]) == 8
    scores = tmp_path / "scores.txt"
    ids = [f"video_test_000000{k}" for k in (4, 6, 7)]
    scores.write_text("".join(f"{key} {k} {k + 1}\n" for k, key in enumerate(ids)))
    of_videos = in_process("evaluate", truth, scores, "--protocol", "accuracy", "--json")
    assert json.loads(of_videos.stdout)["splits"]["val1"]["accuracy"] == 1


def test_mistakes_are_described(store: Path, tmp_path: Path) -> None:
    truth = write_thumos14(tmp_path / "annotations")
    path = write_json(tmp_path / "d.json")
    other = tmp_path / "other.json"
    other.write_text(
        '{"results": {"a": [{"label": "Diving", "score": 1, "segment": [0, 1]}]}}'
    )  # fmt: skip
    scores = tmp_path / "scores.h5"
    scores.write_bytes(b"")
    empty = tmp_path / "empty"
    empty.mkdir()
    lines = tmp_path / "lines.txt"
    lines.write_text("video_test_0000004 0.2 1.1 Diving 0.9\n")
    damaged = {}
    for name, entries in (
        ("one", [{"label": "Diving", "segment": [3]}]),
        ("nan", [{"label": "Diving", "segment": [0, math.nan]}]),
        ("text", "none"),
        ("bare", [{"label": "Diving"}]),
    ):
        damaged[name] = tmp_path / f"{name}.json"
        database = {"a": {"subset": "testing", "annotations": entries}}
        damaged[name].write_text(json.dumps({"database": database}))
    for arguments, message in (
        ((truth, lines), "a line of detections is a video id, start and end in seconds, class num"),
        (
            (damaged["one"], path),
            "one.json, video a: wanted an interval with 0 <= start <= end in "
            "seconds, got [3]; correct the segment",
        ),
        (
            (damaged["nan"], path),
            "video a: wanted an interval with 0 <= start <= end in seconds, got [0, nan]",
        ),
        ((damaged["text"], path), "got other types of values"),
        ((damaged["bare"], path), "got no 'segment'"),
        ((truth, other), "has no detection of a video of test1"),
        ((truth, path, "--protocol", "accuracy"), "has temporal detections, wanted scores"),
        ((truth, scores, "--protocol", "activitynet-detection"), "has scores of videos, wanted"),
        ((truth, path, scores), "evaluate one kind at a time"),
        ((truth, path, "--split", "test2"), "split 'test2' is unknown; did you mean test1?"),
        ((truth, path, path), "2 files of detections for 1 split (test1)"),
        ((truth, path, "--tiou", "50"), "--tiou must be numbers from 0 to below 1"),
        ((truth, path, "--allow-missing"), "--allow-missing is for scores"),
        ((path, path), 'wanted {"database"'),
        ((scores, path), "wanted a store, the folder of THUMOS14's annotations, or a .json file"),
        ((empty, path), "empty"),
    ):
        done = in_process("evaluate", *arguments)
        assert done.returncode == 2 and message in done.stderr, done.stderr


def test_intervals_that_count_against_expectation_are_named(store: Path, tmp_path: Path) -> None:
    segments = {
        "a": [("Diving", [1, 4]), ("Diving", [1, 4]), ("Diving", [3, 3]), ("Diving", [50, 60])],
        "b": [("GolfSwing", [0, 2])],
    }
    database = {
        video_id: {
            "subset": "validation",
            "duration": 30.5,
            "annotations": [{"label": name, "segment": segment} for name, segment in own],
        }
        for video_id, own in segments.items()
    }
    truth, path = tmp_path / "truth.json", tmp_path / "d.json"
    truth.write_text(json.dumps({"database": database}))
    rows = [("Diving", [1, 4]), ("Diving", [1, 4]), ("Diving", [31, 40]), ("Divin", [0, 1]),
            ("Sleeping", [0, 1])]  # fmt: skip
    found = [
        {"label": name, "score": 1 / (k + 1), "segment": segment}
        for k, (name, segment) in enumerate(rows)
    ]
    path.write_text(json.dumps({"results": {"a": found}}))
    done = in_process("evaluate", truth, path, "--tiou", "0.5", "--per-class", "--json")
    assert done.returncode == 0, done.stderr
    precision = json.loads(done.stdout)["classes"]["val1"]
    # two of four instances are found, by the two detections with the same times
    assert precision == {"Diving": {"mAP@0.5": 0.5}, "GolfSwing": {"mAP@0.5": 0}}
    official = "as in the official codes"
    for sentence in (
        f"{truth}: 1 instance without length counts, {official}: a [3, 3]",
        f"{truth}: 1 instance after the end of the video counts, {official}: a [50, 60]",
        f"{truth}: 1 instance with the class, video and times of another counts, {official}: a [1",
        f"{path}: 1 detection after the end of the video counts, {official}: a [31, 40]",
        f"{path}: 1 detection with the class, video and times of another counts, {official}: a [1",
        f"{path}: 2 detections of 2 classes that {truth} lacks left out: Divin, Sleeping; did you "
        "mean Diving?",
        f"{path} has no detections of 1 class, whose average precision is 0: GolfSwing",
    ):
        assert sentence in done.stderr
    of_store = in_process("evaluate", store, write_json(tmp_path / "known.json"))
    assert "instances after the end of the video count" in of_store.stderr  # four frames each
    for changed in ([4, 1], [-1, 4]):
        database["b"]["annotations"] = [{"label": "GolfSwing", "segment": changed}]
        truth.write_text(json.dumps({"database": database}))
        done = in_process("evaluate", truth, path)
        assert done.returncode == 2
        assert f"video b: wanted an interval with 0 <= start <= end in seconds, got {changed}" in (
            done.stderr
        )
