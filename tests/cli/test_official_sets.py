"""Real clips in the official layouts become stores with the labels of the official lists."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from command import Run

from flowpipe import open_store

pytestmark = pytest.mark.usefixtures("lasting_workers")
QUICK = ("--set", "flow=dis", "--size", "86x64", "--workers", 1, "--allow-missing")


def clips_of(shared_data: Path, pattern: str) -> list[Path]:
    return sorted((shared_data / "clips").glob(pattern))


def extract(flowpipe: Run, root: Path, lists: Path, name: str, *options: object) -> str:
    """Extract beside the root; what was said."""
    store = root.parent / "store"
    done = flowpipe(
        "extract", "--dataset", name, "--root", root, "--annotations", lists, "--out", store,
        *QUICK, *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert flowpipe("verify", store).returncode == 0
    return done.stderr


def test_ucf101_is_extracted_with_its_labels(
    shared_data: Path, tmp_path: Path, flowpipe: Run
) -> None:
    lists = shared_data / "annotations" / "ucf101_splits"
    clips = clips_of(shared_data, "ucf101/*/*.avi")
    for clip in clips:
        (tmp_path / "root" / "UCF-101" / clip.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, tmp_path / "root" / "UCF-101" / clip.parent.name)
    said = extract(flowpipe, tmp_path / "root", lists, "ucf101")
    assert f"{13320 - len(clips)} videos listed but absent" in said
    store = open_store(tmp_path / "store")
    assert set(store.videos) == {clip.stem for clip in clips}
    official = {
        Path(line.split()[0]).stem: (path.stem.replace("list0", ""), line.split("/")[0])
        for path in sorted(lists.glob("*list01.txt"))
        for line in path.read_text().splitlines()
        if line.strip()
    }
    for video_id, video in store.videos.items():
        split, class_name = official[video_id]
        assert split in video.splits and len(video.splits) == 3
        assert store.header.class_names[video.labels[0]] == class_name


def test_one_split_of_hmdb51_is_extracted(shared_data: Path, tmp_path: Path, flowpipe: Run) -> None:
    lists = shared_data / "annotations" / "hmdb51_splits"
    rows = {
        line.split()[0]: (class_file.name.partition("_test_split")[0], line.split()[1])
        for class_file in lists.glob("*_test_split1.txt")
        for line in class_file.read_text().splitlines()
        if line.strip()
    }
    clips = clips_of(shared_data, "hmdb51/*.avi")
    targets = {}
    for clip in clips:
        name = clip.name.removeprefix("hmdb51_")
        targets[name] = tmp_path / "root" / rows[name][0] / name
    # A real clip under the strangest name of the set: nothing between here and the store splits it.
    strange = max(rows, key=lambda name: sum(char in "!()#[]&+;~@" for char in name))
    targets[strange] = tmp_path / "root" / rows[strange][0] / strange
    for clip, target in zip([*clips, clips[0]], targets.values(), strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, target)
    extract(flowpipe, tmp_path / "root", lists, "hmdb51", "--only", "train1,test1")
    store = open_store(tmp_path / "store")
    chosen = {name for name in targets if rows[name][1] in "12"}
    assert {f"{video_id}.avi" for video_id in store.videos} == chosen
    for video_id, video in store.videos.items():
        class_name, code = rows[f"{video_id}.avi"]
        assert store.header.class_names[video.labels[0]] == class_name
        assert {"1": "train1", "2": "test1"}[code] in video.splits


def test_kinetics400_is_extracted_with_its_labels(
    shared_data: Path, tmp_path: Path, flowpipe: Run
) -> None:
    lists = shared_data / "annotations" / "kinetics"
    rows = [
        line.split(",") for line in (lists / "kinetics-400_val.csv").read_text().split("\n")[1:3]
    ]
    for clip, (class_name, youtube_id, start, end, *_) in zip(
        clips_of(shared_data, "kinetics/*.mp4")[:2], rows, strict=False
    ):
        folder = tmp_path / "root" / "val" / class_name.replace("_", " ")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, folder / f"{youtube_id}_{int(start):06d}_{int(end):06d}.mp4")
    extract(flowpipe, tmp_path / "root", lists, "kinetics400", "--fps", "5")
    store = open_store(tmp_path / "store")
    found = {key[:11]: store.header.class_names[v.labels[0]] for key, v in store.videos.items()}
    assert found == {row[1]: row[0].replace(" ", "_") for row in rows}
    assert {v.subset for v in store.videos.values()} == {"validation"}


@pytest.fixture
def activitynet(shared_data: Path, tmp_path: Path) -> Path:
    """Two clips under published ids, one with a dash first, and a database of version 1.2."""
    lines = (shared_data / "annotations/activitynet/anet_1.2_untrimmed_train_rgb_list.txt").open()
    ids = sorted({line.split("/")[-2] for line in lines})[:3]
    assert ids[0].startswith("-")
    clips = clips_of(shared_data, "ucf101/Diving/*.avi")
    for clip, video_id in zip(clips, ids[:2], strict=False):
        target = tmp_path / "root" / "train" / f"v_{video_id}.avi"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, target)
    taxonomy = [{"nodeName": f"class {k:02}", "parentName": "Root"} for k in range(100)]
    segments = [
        {"label": "class 07", "segment": [0.5, 1.5]},
        {"label": "class 03", "segment": [0, 9]},
    ]
    videos = {key: {"subset": "training", "annotations": segments} for key in ids}
    text = json.dumps({"version": "VERSION 1.2", "taxonomy": taxonomy, "database": videos})
    (tmp_path / "root" / "activity_net.v1-2.min.json").write_text(text)
    return tmp_path / "root"


def test_activitynet_is_extracted_with_its_labels(activitynet: Path, flowpipe: Run) -> None:
    said = extract(flowpipe, activitynet, activitynet, "activitynet-1.2")
    assert "2 of 4819 training" in said and "1 video listed but absent" in said
    store = open_store(activitynet.parent / "store")
    dashed = next(iter(store.videos))
    assert dashed.startswith("-")
    video = store.videos[dashed]
    assert video.labels == (3, 7) and video.splits == ("train1", "train2")
    assert [(s.label, s.start_s, s.end_s) for s in video.segments] == [(7, 0.5, 1.5), (3, 0.0, 9.0)]
    # What the command says to do next has to work although the id looks like an option.
    (line,) = (line for line in said.splitlines() if "flowpipe show" in line)
    assert dashed in line
    sheet = activitynet.parent / "sheet.png"
    words = [str(sheet) if word == "sheet.png" else word for word in shlex.split(line)[1:]]
    assert flowpipe(*words).returncode == 0 and sheet.stat().st_size
    shown = flowpipe("info", "--json", activitynet.parent / "store", "--", dashed)
    assert json.loads(shown.stdout)["video_id"] == dashed
