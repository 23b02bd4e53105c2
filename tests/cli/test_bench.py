"""`flowpipe bench flow` as a user runs it, on tiny pairs; nothing here depends on the speed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command import Run

from flowpipe.bench import PEER, flow_rows, refusals

NAMES = [row.name for row in flow_rows()]
TINY = ("bench", "flow", "--pairs", 1, "--size", "64x48", "--repeat", 1)
HERE = PEER not in refusals(flow_rows()[:1])
needs_peer = pytest.mark.skipif(not HERE, reason=f"this OpenCV has no {PEER}")


def table(text: str) -> dict[str, list[str]]:
    """Name of a row -> the words behind it."""
    lines = (line.split() for line in text.splitlines())
    return {words[0]: words[1:] for words in lines if words and words[0] in NAMES}


def reasons(text: str) -> dict[str, str]:
    lines = (line.split(": ", 2) for line in text.splitlines() if line.startswith("not run: "))
    return {name: reason for _, name, reason in lines}


@needs_peer
def test_the_table_and_the_json_say_the_same(tmp_path: Path, flowpipe: Run) -> None:
    done = flowpipe(*TINY, "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    assert "1 pair of 64x48 from clips made on the spot" in done.stdout
    report = json.loads((tmp_path / "figures.json").read_text())
    assert report["size"] == [64, 48] and report["pairs"] == 1
    assert report["machine"]["processor"] and report["versions"]["cv2"]
    assert [row["name"] for row in report["rows"]] == NAMES
    printed, refused = table(done.stdout), reasons(done.stdout)
    for row in report["rows"]:
        name = row["name"]
        assert (name in printed) != (name in refused)
        if name in refused:
            assert row["reason"] == refused[name]
            continue
        ms = row["ms_cpu"] if row["clock"] == "cpu" else row["ms_wall"]
        words = [row["backend"], f"{ms:.2f}", row["clock"], f"{row['pairs_per_s']:.1f}",
                 f"{row['ratio']:.2f}x", "-", f"{row['difference_px']:.3f}", "px"]  # fmt: skip
        assert printed[name] == words
        assert row["parameters"] and row["passes"] == 1
    assert printed[PEER][4:] == ["1.00x", "-", "0.000", "px"]


@needs_peer
def test_only_some_rows_and_json_alone_on_stdout(flowpipe: Run) -> None:
    done = flowpipe(*TINY, "--only", "cv2-dis", "--only", "cv2-farneback", "--json", "-")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert [row["name"] for row in report["rows"]] == [PEER, "cv2-dis", "cv2-farneback"]
    assert list(table(done.stderr)) == [PEER, "cv2-dis", "cv2-farneback"]


def test_pairs_of_named_videos(clips: Path, tmp_path: Path, flowpipe: Run) -> None:
    clip = next(clips.rglob("*.mp4"))
    few = ("--pairs", 3, "--only", "cv2-dis")
    done = flowpipe(*TINY, clip, *few)
    assert done.returncode == 0, done.stderr
    assert f"3 pairs of 64x48 from 1 video of {clip};" in done.stdout
    shutil.copy2(clip, tmp_path / "good.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    done = flowpipe(*TINY, tmp_path, *few)
    assert done.returncode == 0, done.stderr
    assert "from 1 video of" in done.stdout
    assert "left out:" in done.stderr and "broken.mp4" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--size", "340"), "WIDTHxHEIGHT"),
        (("--size", "8x64"), "at least 16 pixels"),
        (("--pairs", 0), "--pairs"),
        (("--repeat", "often"), "--repeat"),
        (("--only", "tvl1"), f"no such row; did you mean {PEER}"),
        (("--json", "/nowhere/figures.json"), "no folder /nowhere"),
        (("/nowhere/clip.mp4",), "/nowhere/clip.mp4"),
    ],
)
def test_wrong_use_is_answered_in_words(
    wrong: tuple[object, ...], words: str, flowpipe: Run
) -> None:
    done = flowpipe(*TINY, *wrong)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr


def test_a_folder_without_videos_is_wrong_use(tmp_path: Path, flowpipe: Run) -> None:
    done = flowpipe(*TINY, tmp_path)
    assert done.returncode == 2
    assert "no videos below" in done.stderr


def test_without_a_subcommand_the_help_is_shown(flowpipe: Run) -> None:
    done = flowpipe("bench")
    assert done.returncode == 2
    assert "flow" in done.stderr and "Traceback" not in done.stderr
