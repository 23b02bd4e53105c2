"""`flowpipe evaluate` on a store of real files: splits, missing scores, the official form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import FAST, draw_noise_clip, in_process, run_python
from videofile import encode_video

CLASSES = ("dive", "jump", "run")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos of three classes, each in the test half of one of two splits."""
    folder = tmp_path_factory.mktemp("evaluate")
    rows = ["video_id,path,label,split"]
    for k in range(6):
        encode_video(folder / f"{k}.mp4", draw_noise_clip(k, frames=4))
        rows.append(f"video {k},{k}.mp4,{CLASSES[k % 3]},{'test1 train2' if k < 3 else 'test2'}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    options = ("--videos", folder / "list.csv", "--out", folder / "store", *FAST)
    assert in_process("extract", *options, "--workers", 1).returncode == 0
    return folder / "store"


def scores(path: Path, ids: list[str], right: list[bool]) -> Path:
    """Scores of videos `video k`, of class k % 3, right or not."""
    lines = []
    for video_id, good in zip(ids, right, strict=True):
        label = int(video_id[-1]) % 3
        row = np.eye(3)[label if good else (label + 1) % 3]
        lines.append(" ".join([video_id, *map(str, row)]))
    path.write_text("\n".join(lines) + "\n")
    return path


IDS = [f"video {k}" for k in range(6)]


def test_evaluate_prints_each_split_and_their_mean(store: Path, tmp_path: Path) -> None:
    path = scores(tmp_path / "all.txt", IDS, [True, True, False, True, True, True])
    done = in_process("evaluate", store, path, "--json", "--per-class")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["splits"]["test1"]["mean class accuracy"] == pytest.approx(2 / 3)
    assert facts["splits"]["test2"]["accuracy"] == 1
    assert facts["splits"]["mean"]["accuracy"] == pytest.approx(5 / 6)
    assert facts["classes"]["test1"] == {"dive": 1, "jump": 1, "run": 0}
    shown = in_process("evaluate", store, path, "--per-class").stdout
    assert "66.67" in shown and "83.33" in shown and "jump" in shown
    # A file for each split, in order, and one split alone.
    first = scores(tmp_path / "1.txt", IDS[:3], [True] * 3)
    second = scores(tmp_path / "2.txt", IDS[3:], [False] * 3)
    facts = json.loads(in_process("evaluate", store, first, second, "--json").stdout)
    assert [facts["splits"][k]["accuracy"] for k in ("test1", "test2", "mean")] == [1, 0, 0.5]
    alone = json.loads(in_process("evaluate", store, first, "--split", "test1", "--json").stdout)
    assert list(alone["splits"]) == ["test1"]
    precise = in_process("evaluate", store, path, "--protocol", "tsn-map", "--json")
    assert set(json.loads(precise.stdout)["splits"]["test1"]) == {"mAP", "Hit@3"}


def test_missing_and_unknown_videos_are_reported(store: Path, tmp_path: Path) -> None:
    path = scores(tmp_path / "some.txt", [*IDS[:2], *IDS[3:], "other 0"], [True] * 6)
    refused = in_process("evaluate", store, path)
    assert refused.returncode == 2
    assert "no scores for 1 of 3 videos of test1: video 2" in refused.stderr
    allowed = in_process("evaluate", store, path, "--allow-missing", "--json")
    assert allowed.returncode == 0
    assert "1 id not in the store and ignored: other 0" in allowed.stderr
    assert json.loads(allowed.stdout)["splits"]["mean"]["accuracy"] == 1
    table = in_process("evaluate", store, path, "--allow-missing")
    assert "1 class without test videos left out: run" in table.stderr
    for wrong, message in (
        ((path, path, path), "3 files of scores for 2 splits (test1, test2)"),
        ((path, "--split", "test9"), "split 'test9' is unknown; did you mean test2?"),
        ((store,), f"{store} is a folder; wanted a file"),
    ):
        done = in_process("evaluate", store, *wrong)
        assert done.returncode == 2 and message in done.stderr
    done = in_process("fuse", path, store)
    assert done.returncode == 2 and f"{store} is a folder; wanted a file" in done.stderr


def test_commands_that_extract_nothing_do_not_load_what_extracts() -> None:
    run_python(
        "import sys, flowpipe.cli.evaluate, flowpipe.cli.export, flowpipe.cli.test\n"
        "needless = {'av', 'torch', 'flowpipe.flow', 'flowpipe.run'} & set(sys.modules)\n"
        "assert not needless, needless"
    )


def test_a_folder_that_cannot_be_written_is_no_bug(store: Path) -> None:
    """The kernel refuses new folders in /sys, to root too."""
    done = in_process("export", store, "/sys/flowpipe", "--layout", "denseflow")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "/sys/flowpipe: " in done.stderr and "choose another place" in done.stderr
