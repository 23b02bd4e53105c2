"""THUMOS14 through the command: real videos under official names, with the official annotations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import pytest
from command import Run

from flowpipe import open_store
from flowpipe.datasets.thumos14 import CLASS_NAMES
from flowpipe.types import VideoRecord

# Official names, and the classes of their segments or, of test videos, of the whole.
pytestmark = pytest.mark.usefixtures("lasting_workers")
VIDEOS = {
    "validation/video_validation_0000266": "FrisbeeCatch BaseballPitch",
    "validation/video_validation_0000161": "CliffDiving Diving",
    "validation/video_validation_0000001": "",
    "TH14_test_set_mp4/video_test_0000004": "CricketBowling CricketShot",
    "TH14_test_set_mp4/video_test_0000002": "HorseRace HorseRiding",
}


@pytest.fixture(scope="module")
def tree(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real clips in the layout that the official archives unpack to."""
    root = tmp_path_factory.mktemp("thumos14")
    shutil.copytree(shared_data / "annotations" / "thumos14", root / "annotations")
    clips = sorted((shared_data / "clips").glob("ucf101/Diving/*.avi"))
    for name, clip in zip(VIDEOS, clips, strict=True):
        target = root / f"{name}.mp4"
        target.parent.mkdir(exist_ok=True)
        into_mp4(clip, target)
    return root


def into_mp4(clip: Path, target: Path) -> None:
    """The same packets in another container."""
    with av.open(str(clip)) as source, av.open(str(target), "w") as copy:
        stream = source.streams.video[0]
        written = copy.add_stream_from_template(stream)
        for number, packet in enumerate(p for p in source.demux(stream) if p.size):
            packet.pts = packet.dts = number
            packet.stream = written
            copy.mux(packet)


def read_annotations(root: Path) -> dict[str, set[tuple[str, float, float]]]:
    """(class or Ambiguous, start, end) by video id, read anew from the official files."""
    found: dict[str, set[tuple[str, float, float]]] = {}
    for path in root.glob("annotations/temporal_annotations_*/*.txt"):
        name = path.stem.rsplit("_", 1)[0]
        for line in path.read_text().splitlines():
            if line.split():
                video_id, start, end = line.split()
                found.setdefault(video_id, set()).add((name, float(start), float(end)))
    return found


def test_thumos14_becomes_a_store_with_its_labels(
    tree: Path, tmp_path: Path, flowpipe: Run
) -> None:
    store = tmp_path / "th14"
    options = (
        "--dataset", "thumos14", "--root", tree, "--out", store, "--workers", 1,
        "--set", "flow=dis", "--size", "86x64", "--allow-missing",
    )  # fmt: skip
    done = flowpipe("extract", *options)
    assert done.returncode == 0, done.stderr

    official = read_annotations(tree)
    ids = {Path(name).name: set(classes.split()) for name, classes in VIDEOS.items()}
    opened = open_store(store)
    assert tuple(opened.header.class_names) == CLASS_NAMES
    assert set(opened.videos) == set(ids)
    for video_id, classes in ids.items():
        shown = flowpipe("info", store, video_id, "--json")
        facts = json.loads(shown.stdout)
        record = facts["record"]
        assert {CLASS_NAMES[label] for label in facts["labels"]} == (classes)
        assert record["subset"] == video_id.split("_")[1]
        segments = [(CLASS_NAMES[s["label"]], s["start_s"], s["end_s"]) for s in record["segments"]]
        left_out = [("Ambiguous", *interval) for interval in opened.videos[video_id].ambiguous]
        assert {*segments, *left_out} == official.get(video_id, set())
        assert VideoRecord.from_json(record).ambiguous == opened.videos[video_id].ambiguous
        assert facts["frames"] == facts["images"]["rgb"] == facts["images"]["flow"] + 1

    counts = {"test": 1574, "validation": 1010}
    names = [f"video_{s}_{k + 1:07d}" for s, count in counts.items() for k in range(count)]
    absent = [name for name in names if name not in ids]
    lines = (store / "missing.txt").read_text().splitlines()
    assert lines == [f"absent\t{video_id}" for video_id in absent]
    assert done.stderr.count(f"{len(absent)} videos listed but absent") == 1
    assert "3 of 1010 official validation videos found. 2 of 1574 official test" in done.stderr
    assert absent[5] not in done.stderr  # a line, not a flood
    assert len(done.stderr.splitlines()) < 25

    again = flowpipe("extract", *options)
    assert again.returncode == 0 and "5 done before" in again.stderr
    assert flowpipe("verify", store).returncode == 0
