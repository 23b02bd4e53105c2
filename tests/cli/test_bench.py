"""`flowpipe bench flow` on the command line, on tiny pairs; no test depends on the speed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import pytest
from command import Run
from emulated import STAND_IN, cupy_from

from flowpipe.diagnose.bench import PEER, find_refusals, flow_candidates, tuning
from flowpipe.ops.cpu import native_core
from flowpipe.ops.cuda.devices import gpus

NAMES = [row.name for row in flow_candidates()]
TINY = ("bench", "flow", "--pairs", 1, "--size", "64x48", "--repeat", 1)
HERE = PEER not in find_refusals(flow_candidates()[:1])
needs_peer = pytest.mark.skipif(not HERE, reason=f"this OpenCV has no {PEER}")


def table(text: str) -> dict[str, list[str]]:
    """Name of a row -> the words behind it."""
    lines = (line.split() for line in text.splitlines())
    return {words[0]: words[1:] for words in lines if words and words[0] in NAMES}


def reasons(text: str) -> dict[str, str]:
    lines = (line.split(": ", 2) for line in text.splitlines() if line.startswith("not run: "))
    return {name: reason for _, name, reason in lines}


@needs_peer
def test_the_table_and_the_json_have_the_same_figures(tmp_path: Path, flowpipe: Run) -> None:
    done = flowpipe(*TINY, "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    assert "1 pair of 64x48 from clips made on the spot" in done.stdout
    report = json.loads((tmp_path / "figures.json").read_text())
    assert report["size"] == [64, 48] and report["pairs"] == 1
    assert report["machine"]["processor"] and report["versions"]["cv2"]
    assert report["reference"] == PEER
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
def test_chosen_rows_are_measured_and_json_alone_is_on_stdout(flowpipe: Run) -> None:
    done = flowpipe(*TINY, "--only", "cv2-dis", "--only", "cv2-farneback", "--json", "-")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert [row["name"] for row in report["rows"]] == [PEER, "cv2-dis", "cv2-farneback"]
    assert list(table(done.stderr)) == [PEER, "cv2-dis", "cv2-farneback"]


@pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none")
def test_without_the_peer_the_cpu_s_own_flow_is_the_reference(
    flowpipe: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(cv2, "optflow", raising=False)
    asked = ("--only", "cv2-dis", "--only", "flowpipe-opencv4", "--json", "-")
    done = flowpipe(*TINY, *asked)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["reference"] == "flowpipe-opencv2"
    rows = {row["name"]: row for row in report["rows"]}
    assert set(rows) == {PEER, "cv2-dis", "flowpipe-opencv2", "flowpipe-opencv4"}
    assert "contrib" in rows.pop(PEER)["reason"]
    own = rows.pop("flowpipe-opencv2")
    assert (own["ratio"], own["difference_px"]) == (1, 0)
    for row in rows.values():
        assert row["ratio"] == pytest.approx(own["ms_cpu"] / row["ms_cpu"])
        assert row["difference_px"] > 0
    printed = table(done.stderr)
    assert next(iter(printed)) == "flowpipe-opencv2" and "vs flowpipe-opencv2" in done.stderr


def test_progress_is_printed_where_there_is_no_terminal(flowpipe: Run) -> None:
    done = flowpipe(*TINY, "--only", "cv2-dis", "--repeat", 2)
    assert done.returncode == 0, done.stderr
    said = [line.strip() for line in done.stderr.splitlines()]
    assert [line for line in said if line.startswith("trying cv2-dis, ")]
    begin = next(k for k, line in enumerate(said) if line.startswith("measuring cv2-dis, "))
    assert said[begin + 1 : begin + 3] == ["pass 1 of at most 2", "pass 2 of at most 2"]


def test_pairs_are_taken_from_the_named_videos(clips: Path, tmp_path: Path, flowpipe: Run) -> None:
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
        (("--size", "8x64"), "sides of at least 16 pixels"),
        (("--pairs", 0), "--pairs"),
        (("--repeat", "often"), "--repeat"),
        (("--only", "tvl1"), f"--only 'tvl1' is unknown; did you mean {PEER}"),
        (("--tune",), "give --device cuda too"),
        (("--tune", "--device", "cuda", "--only", "cv2-dis"), "leave --only out"),
        (("--json", "/nowhere/figures.json"), "no folder /nowhere"),
        (("/nowhere/clip.mp4",), "/nowhere/clip.mp4"),
    ],
)
def test_wrong_use_is_explained(wrong: tuple[object, ...], words: str, flowpipe: Run) -> None:
    done = flowpipe(*TINY, *wrong)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ for the emulated kernels")
def test_the_settings_of_a_gpu_are_measured_and_the_best_is_named(
    flowpipe: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "BATCHES", (2,))
    monkeypatch.setattr(tuning, "STEPS", (4, 8))
    monkeypatch.setattr(tuning, "CACHE_SHARES", (1.0,))
    with cupy_from(STAND_IN):
        wide = ("--size", "70x40")  # more than a tile
        done = flowpipe(*TINY, *wide, "--device", "cuda", "--tune", "--json", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["settings"]
    assert found[0]["settings"] == {
        "steps": 8, "cache_share": 1.0, "least_tiles": 2, "blocks": 1,
    }  # fmt: skip
    assert {row["settings"]["steps"] for row in found} == {4, 8}
    best = max(found, key=lambda row: row["pairs_per_s"])["settings"]
    asked = f"steps={best['steps']},cache_share={best['cache_share']:g}"
    assert f"best: FLOWPIPE_CUDA_SETTINGS={asked}," in done.stderr


def test_tuning_without_a_gpu_is_refused_with_advice(flowpipe: Run) -> None:
    if gpus().available:
        pytest.skip("there is a GPU")
    done = flowpipe(*TINY, "--device", "cuda", "--tune")
    assert done.returncode == 2
    assert "device cuda cannot be used here" in done.stderr and "Traceback" not in done.stderr


def test_a_folder_without_videos_is_wrong_use(tmp_path: Path, flowpipe: Run) -> None:
    done = flowpipe(*TINY, tmp_path)
    assert done.returncode == 2
    assert "no videos below" in done.stderr


def test_without_a_subcommand_the_help_is_shown(flowpipe: Run) -> None:
    done = flowpipe("bench")
    assert done.returncode == 2
    assert "flow" in done.stderr and "Traceback" not in done.stderr
