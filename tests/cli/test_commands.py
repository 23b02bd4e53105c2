"""plan, verify, info, show and doctor, on a real store, as a user runs them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from command import Run, command, run_python

from flowpipe import open_store
from flowpipe.run.planning import resources

pytestmark = pytest.mark.usefixtures("lasting_workers")

FAST = ("--set", "flow=dis", "--size", "64x48", "--modalities", "rgb,flow,warped_flow,rgb_diff")


@pytest.fixture(scope="module")
def made(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the eight clips."""
    store = tmp_path_factory.mktemp("made") / "store"
    subprocess.run(
        command("extract", "--videos", clips, "--out", store, "--workers", 1, *FAST),
        check=True, capture_output=True,
    )  # fmt: skip
    return store


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy of the store that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "store"))


def payloads(store: Path) -> dict[tuple[str, str], list[bytes]]:
    opened = open_store(store)
    return {
        (video_id, modality): [bytes(b) for b in opened.read_payloads(video_id, modality, 0, count)]
        for video_id, video in opened.videos.items()
        for modality, count in video.images.items()
    }


def damage_one_image(store: Path) -> None:
    """Flip a byte in the middle of the first shard's flow."""
    shard = min((store / "shards").iterdir())
    with h5py.File(shard) as file:
        stream = file["streams/flow/bytes"]
        place = stream.id.get_offset() + stream.shape[0] // 2
    with shard.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0xFF]))


def test_plan_prints_the_work_and_writes_nothing(
    clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    store = tmp_path / "store"
    arguments = ("plan", "--videos", clips, "--out", store, *FAST)
    words = flowpipe(*arguments)
    assert words.returncode == 0, words.stderr
    for word in ("frames", "of one core", "GB", "inodes", "free disk"):
        assert word in words.stdout
    facts = json.loads(flowpipe(*arguments, "--json").stdout)
    assert facts["spans_to_extract"] == 8
    assert facts["frames"] == pytest.approx(240, rel=0.2)
    assert facts["core_hours"] > 0 and facts["gpu_hours"] == facts["hours_without_gpus"] == 0
    assert facts["bound_by"] in ("cores", "longest_shard")
    assert facts["fits"]
    assert facts["disk_bytes_per_s"] > 0 and "onto the disk" in words.stdout
    assert not store.exists()
    assert not list(tmp_path.iterdir()), "what was written to measure the disk has no name"


def test_plan_leaves_out_finished_videos(clips: Path, store: Path, flowpipe: Run) -> None:
    facts = json.loads(flowpipe("plan", "--videos", clips, "--out", store, *FAST, "--json").stdout)
    assert (facts["videos_done"], facts["spans_to_extract"], facts["frames"]) == (8, 0, 0)


@pytest.mark.parametrize("words", [("plan", "--json"), ("extract",)], ids=["plan", "extract"])
def test_nothing_is_measured_for_a_finished_store(
    clips: Path,
    store: Path,
    flowpipe: Run,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    def measure(*_: Any, **__: Any) -> None:
        raise AssertionError("measured for nothing")

    monkeypatch.setattr(resources.rates, "measure", measure)
    monkeypatch.setattr(sys.modules["flowpipe.cli.plan"], "write_rate", measure)
    done = flowpipe(*words, "--videos", clips, "--out", store, *FAST)
    assert done.returncode == 0, done.stderr
    if words[0] == "plan":
        facts = json.loads(done.stdout)
        assert facts["disk_bytes_per_s"] is None and facts["core_hours"] == 0


def test_verify_passes_an_intact_store(store: Path, flowpipe: Run) -> None:
    done = flowpipe("verify", store, "--decode")
    assert done.returncode == 0, done.stdout
    assert "the store is intact" in done.stdout
    report = json.loads(flowpipe("verify", store, "--json").stdout)
    assert report["ok"] and sum(row["videos"] for row in report["shards"]) == 8


def test_verify_detects_and_repair_restores_a_flipped_byte(store: Path, flowpipe: Run) -> None:
    before = payloads(store)
    damage_one_image(store)
    found = flowpipe("verify", store)
    assert found.returncode == 1
    assert "1 problem" in found.stdout and "CRC" in found.stdout
    mended = flowpipe("verify", store, "--repair")
    assert mended.returncode == 0, mended.stderr + mended.stdout
    assert "1 video extracted again" in mended.stderr
    assert payloads(store) == before
    assert not (store / "damaged").exists()


def test_repair_restores_a_shard_cut_in_half(store: Path, flowpipe: Run) -> None:
    before = payloads(store)
    shard = min((store / "shards").iterdir())
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    assert flowpipe("verify", store).returncode == 1
    mended = flowpipe("verify", store, "--repair")
    assert mended.returncode == 0, mended.stderr + mended.stdout
    assert payloads(store) == before


def test_repair_keeps_the_damaged_file_when_a_source_is_gone(
    clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    shutil.copytree(clips, videos)
    assert flowpipe("extract", "--videos", videos, "--out", store, *FAST).returncode == 0
    damage_one_image(store)
    problems = json.loads(flowpipe("verify", store, "--json").stdout)["problems"]
    (broken,) = {problem["video_id"] for problem in problems}
    (videos / broken).unlink()
    mended = flowpipe("verify", store, "--repair")
    assert mended.returncode == 1
    assert broken in mended.stderr
    assert len(list((store / "damaged").iterdir())) == 1
    assert len(open_store(store).videos) == 7


def test_info_describes_a_store_and_a_video(store: Path, flowpipe: Run) -> None:
    words = flowpipe("info", store)
    assert words.returncode == 0, words.stderr
    assert "rgb 240" in words.stdout and "flow 232" in words.stdout
    facts = json.loads(flowpipe("info", store, "--json").stdout)
    assert (facts["videos"], facts["frames"]) == (8, 240)
    assert facts["images"]["warped_flow"] == 232
    video = json.loads(flowpipe("info", store, "class 0/clip-2.mp4", "--json").stdout)
    assert video["frames"] == 30
    assert video["facts"]["codec"] == "h264"
    assert video["fps"] == pytest.approx(25, rel=0.01)
    assert len(video["source"]["sha256"]) == 64


def test_an_unknown_video_is_answered_with_near_names(store: Path, flowpipe: Run) -> None:
    for asked in (("info", store, "clip-2"), ("show", store, "clip-2", "-o", "x.png")):
        done = flowpipe(*asked)
        assert done.returncode == 2
        assert "class 0/clip-2.mp4" in done.stderr


def test_show_draws_a_picture(store: Path, tmp_path: Path, flowpipe: Run) -> None:
    picture = tmp_path / "sheet.png"
    done = flowpipe("show", store, "class 1/clip-1.mp4", "-o", picture)
    assert done.returncode == 0, done.stderr
    image = cv2.imread(str(picture))
    assert image.shape[0] > 4 * 48 and image.shape[1] > 6 * 64
    assert np.std(image) > 10
    assert flowpipe("show", store, "class 1/clip-1.mp4", "-o", tmp_path / "x.bmp").returncode == 2
    assert flowpipe("show", store, "class 1/clip-1.mp4", "-o", "/nowhere/x.png").returncode == 2


def test_commands_refuse_a_folder_that_is_no_store(tmp_path: Path, flowpipe: Run) -> None:
    for asked in (("verify", tmp_path), ("info", tmp_path), ("show", tmp_path, "v", "-o", "x.png")):
        done = flowpipe(*asked)
        assert done.returncode == 2
        assert "store.json" in done.stderr and "Traceback" not in done.stderr


def test_doctor_lists_the_parts_of_this_machine(flowpipe: Run) -> None:
    done = flowpipe("doctor")
    assert done.returncode == 0, done.stdout
    for word in ("processor", "compiled core", "CUDA", "OpenCV", "decoder", "disk"):
        assert word in done.stdout
    findings = json.loads(flowpipe("doctor", "--json").stdout)
    assert {finding["state"] for finding in findings} <= {"ok", "lack", "fault"}
    assert all(finding["cost"] for finding in findings if finding["state"] != "ok")


def test_help_lists_the_commands_in_the_order_of_the_work(flowpipe: Run) -> None:
    text = flowpipe("--help").stdout
    places = [text.index(f"\n  {name} ") for name in
              ("extract", "plan", "verify", "info", "show", "flow", "doctor", "selftest",
               "bench")]  # fmt: skip
    assert places == sorted(places)


def test_help_imports_nothing_heavy_and_commands_no_dask() -> None:
    code = (
        "import sys\n"
        "from flowpipe.cli import COMMANDS, cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "assert not {'numpy', 'cv2', 'h5py', 'dask', 'av'} & set(sys.modules), sys.modules\n"
        "for name in sorted(COMMANDS, key='cluster'.__eq__):\n"
        "    assert cli.get_command(None, name).name == name\n"
        "    assert 'distributed' not in sys.modules or name == 'cluster', name\n"
    )
    assert re.search(r"\n  flow +Compute the flow of two images", run_python(code))


def test_repair_extracts_the_videos_of_a_lost_shard(store: Path, flowpipe: Run) -> None:
    before = payloads(store)
    shards = sorted((store / "shards").glob("*.h5"))
    shards[0].unlink()
    found = flowpipe("verify", store)
    assert found.returncode == 1 and "S28" in found.stdout and "intact" not in found.stdout
    mended = flowpipe("verify", store, "--repair")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert payloads(store) == before
    assert flowpipe("verify", store).returncode == 0


def test_a_lost_shard_without_its_source_stays_a_problem(
    store: Path, flowpipe: Run, tmp_path: Path
) -> None:
    source = json.loads((store / "store.json").read_text())["dataset"]["root"]
    clips = sorted(Path(source).rglob("*"))
    (store / "index.h5").unlink(missing_ok=True)
    for shard in (store / "shards").glob("*.h5"):
        shard.unlink()
    gone = next(clip for clip in clips if clip.is_file())
    hidden = gone.rename(tmp_path / "hidden")
    try:
        mended = flowpipe("verify", store, "--repair")
        assert mended.returncode == 1 and "S28" in mended.stdout
        assert gone.name in mended.stdout + mended.stderr
    finally:
        hidden.rename(gone)
    assert flowpipe("verify", store, "--repair").returncode == 0
