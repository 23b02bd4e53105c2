"""flowpipe export and import, as processes on a store of real files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from command import FAST, Run, images, in_process

from flowpipe import open_store


@pytest.fixture(scope="module")
def store(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exchange") / "store"
    assert in_process("extract", "--videos", clips, "--out", path, *FAST).returncode == 0
    return path


@pytest.mark.parametrize("layout", ["dense_flow", "denseflow", "mmaction2", "webdataset"])
def test_an_export_is_imported_as_the_same_store(
    store: Path, tmp_path: Path, flowpipe: Run, layout: str
) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    done = flowpipe("export", store, out, "--layout", layout, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "8 videos" in done.stdout and "label_map.txt" in done.stdout
    done = flowpipe("import", out, again)
    assert done.returncode == 0, done.stderr
    assert flowpipe("verify", again, "--decode").returncode == 0
    before, after = images(store), images(again)
    colour = {key: content for key, content in before.items() if key[1] == "rgb"}
    assert colour.items() <= after.items()
    one, two = open_store(store), open_store(again)
    for video_id, video in one.videos.items():
        for modality, count in video.images.items():
            np.testing.assert_array_equal(
                one.snippet(video_id, modality, 0, count), two.snippet(video_id, modality, 0, count)
            )
    assert "8 were there" in flowpipe("import", out, again).stdout
    # As any other store: described, shown, not repaired from videos unless it still is theirs.
    assert flowpipe("info", again).returncode == 0
    video_id = next(iter(before))[0]
    shown = flowpipe("show", again, "-o", tmp_path / "x.png", video_id)
    assert shown.returncode == 0, shown.stderr


def test_the_loss_by_jpeg_is_printed(store: Path, tmp_path: Path, flowpipe: Run) -> None:
    done = flowpipe("export", store, tmp_path / "out", "--layout", "dense_flow")
    assert "levels on average" in done.stderr and "--images png" in done.stderr
    again = flowpipe("export", store, tmp_path / "out", "--layout", "dense_flow")
    assert "0 videos, 8 were there" in again.stdout
    other = flowpipe("export", store, tmp_path / "out", "--layout", "dense_flow", "--quality", "50")
    assert other.returncode == 2 and "different: quality" in other.stderr


def test_folders_of_another_tool_are_imported(store: Path, tmp_path: Path, flowpipe: Run) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    assert flowpipe("export", store, out, "--layout", "dense_flow").returncode == 0
    shutil.rmtree(out / ".flowpipe")
    refused = flowpipe("import", out, again)
    assert refused.returncode == 2
    for word in ("--pairing start", "--pairing end", "--bound", "--fps"):
        assert word in refused.stderr
    said = ("--layout", "dense_flow", "--bound", "20", "--fps", "25")
    (out / "class_0" / "clip-0.mp4").rename(out / "x y")
    next((out / "x y").glob("flow_y_*")).unlink()
    names = ("--class-names", out / "label_map.txt")
    listed = ("--list", f"train1={out}/folder_rgb_all.txt")
    done = flowpipe("import", out, again, *said, *listed, *names)
    assert done.returncode == 1, done.stderr
    assert "left out: " in done.stderr and "x y: x and y of flow do not match" in done.stderr
    assert "1 folder not named by any list" in done.stderr
    assert "7 videos, 1 left out" in done.stdout
    assert flowpipe("verify", again, "--decode").returncode == 0
    (shard,) = (again / "shards").glob("*.h5")
    shard.write_bytes(shard.read_bytes()[:-100])
    mended = flowpipe("verify", again, "--repair")
    assert mended.returncode == 2 and "was imported, not extracted" in mended.stderr
