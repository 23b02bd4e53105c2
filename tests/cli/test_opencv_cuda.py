"""The commands with OpenCV's CUDA flows: without such a cv2, and on a stand-in of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import fake_cv2_cuda
import numpy as np
import pytest
from checkout import ROOT, python_path
from command import Run
from emulated import cupy_from
from fake_cupy import write_cupy

from flowpipe.diagnose import selftest
from flowpipe.ops.cpu import native_core
from flowpipe.store import open_store

SMALL = "--size", "64x48", "--fps", 3
TVL1 = "--set", "flow.name=opencv_cuda_tvl1"
pytestmark = pytest.mark.skipif(not hasattr(cv2, "optflow"), reason="cv2 has no optflow")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cv2 has the classes of cv2.cuda, in this process and in the workers that it starts."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import fake_cv2_cuda\nimport pytest\nfake_cv2_cuda.install(pytest.MonkeyPatch())\n"
    )
    monkeypatch.setenv("PYTHONPATH", python_path(site, ROOT / "tests" / "support", ROOT))
    fake_cv2_cuda.install(monkeypatch)


@pytest.fixture
def few(clips: Path, tmp_path: Path) -> Path:
    """Two videos."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for clip in sorted(clips.rglob("*.mp4"))[:2]:
        shutil.copy(clip, folder)
    return folder


@pytest.fixture
def without_cupy(tmp_path: Path) -> Iterator[None]:
    """CuPy finds no driver in this process."""
    with cupy_from(write_cupy(tmp_path / "cupy", driver=0)):
        yield


without_gpu = pytest.mark.skipif(
    cv2.cuda.getCudaEnabledDeviceCount() > 0, reason="this cv2 can use a GPU"
)


@without_gpu
@pytest.mark.parametrize("command", ["extract", "plan"])
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_without_such_a_cv2_nothing_is_written(
    command: str, device: str, clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    out = tmp_path / "store"
    done = flowpipe(command, "--videos", clips, "--out", out, "--device", device, *SMALL, *TVL1)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "cuda.OpticalFlowDual_TVL1: it needs" in done.stderr
    assert "docs/opencv-cuda.md" in done.stderr
    assert not out.exists()


@without_gpu
def test_frames_alone_need_no_flow(few: Path, tmp_path: Path, flowpipe: Run) -> None:
    out = tmp_path / "store"
    done = flowpipe(
        "extract", "--videos", few, "--out", out, *SMALL, *TVL1, "--modalities", "rgb",
        "--workers", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "by OpenCV" not in done.stderr
    facts = open_store(out).catalogue.shards
    assert all("flow" not in shard.backend for shard in facts)


@pytest.mark.usefixtures("stand_in")
def test_a_store_says_that_opencv_computed_its_flow_on_a_gpu(
    few: Path, tmp_path: Path, flowpipe: Run
) -> None:
    out = tmp_path / "store"
    common = ("extract", "--videos", few, *SMALL, "--device", "cpu", "--workers", 1)
    done = flowpipe(*common, "--out", out, *TVL1, "--verify")
    assert done.returncode == 0, done.stderr
    assert "device: cpu; but flow opencv_cuda_tvl1 on the GPU, by OpenCV" in done.stderr
    assert "2 done" in done.stderr and "all intact" in done.stderr
    store = open_store(out)
    flow = {shard.backend["flow"] for shard in store.catalogue.shards}
    ops = {shard.backend["ops"] for shard in store.catalogue.shards}
    assert len(flow) == 1 and flow.pop().startswith(f"cv2.cuda {cv2.__version__} on ")
    lines = "".join(p.read_text() for p in (out / "ledger").glob("*.jsonl")).splitlines()
    for line in lines:
        assert json.loads(line)["backend"].startswith(f"{ops.copy().pop()}, flow: cv2.cuda ")
    # The stand-in computes what OpenCV's CPU code does without its median filter.
    peer = tmp_path / "peer"
    settings = ("--set", "flow={name: opencv_tvl1, median_filtering: 1}")
    done = flowpipe(*common, "--out", peer, *settings)
    assert done.returncode == 0, done.stderr
    theirs = open_store(peer)
    assert {s.backend["flow"] for s in theirs.catalogue.shards} == {f"cv2 {cv2.__version__}"}
    for video_id, video in store.videos.items():
        count = video.images["flow"]
        a, b = (s.snippet(video_id, "flow", 0, count) for s in (store, theirs))
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("stand_in", "without_cupy")
def test_auto_prints_what_runs_where(clips: Path, tmp_path: Path, flowpipe: Run) -> None:
    done = flowpipe("plan", "--videos", clips, "--out", tmp_path / "store", *SMALL, *TVL1)
    assert done.returncode == 0, done.stderr
    assert "cpu, because" in done.stdout
    assert "but flow opencv_cuda_tvl1 on the GPU, by OpenCV" in done.stdout


@pytest.mark.usefixtures("stand_in")
def test_the_flow_of_two_images_names_its_device(tmp_path: Path, flowpipe: Run) -> None:
    image = tmp_path / "a.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    done = flowpipe("flow", image, image, "-o", tmp_path / "flow.npy", "--flow",
                    "opencv_cuda_nvidia", "--set", "grid=4")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"opencv_cuda_nvidia on cv2.cuda {cv2.__version__} on " in done.stdout
    assert np.load(tmp_path / "flow.npy").shape == (40, 50, 2)


ROWS = "cv2-cuda-tvl1", "cv2-cuda-brox", "cv2-cuda-farneback", "cv2-cuda-nvidia"
BENCH = "bench", "flow", "--pairs", 1, "--size", "64x48", "--repeat", 1, "--device", "cuda"


@pytest.mark.usefixtures("stand_in", "without_cupy")
def test_the_bench_measures_them_without_cupy(flowpipe: Run) -> None:
    done = flowpipe(*BENCH, "--json", "-")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    for name in ROWS:
        assert rows[name]["backend"] == "cv2.cuda" and rows[name]["clock"] == "wall"
        assert rows[name]["parameters"] and rows[name]["pairs_per_s"] > 0
    assert "reason" in rows["flowpipe-opencv2-cuda"]


@without_gpu
@pytest.mark.usefixtures("without_cupy")
def test_the_bench_explains_why_it_has_no_gpu_row(flowpipe: Run) -> None:
    done = flowpipe(*BENCH)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "cuda.OpticalFlowDual_TVL1: it needs" in done.stderr and "CuPy" in done.stderr


@without_gpu
@pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none")
def test_the_self_test_says_what_it_left_out_and_fails_for_nothing(
    flowpipe: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "FRAMES", 3)
    monkeypatch.setattr(selftest, "LEAK_ROUNDS", 4)
    done = flowpipe("selftest", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stderr.splitlines() if "OpenCV's own CUDA code" in line)
    assert line.split(maxsplit=2)[:2] == ["not", "run"] and "docs/opencv-cuda.md" in line
    assert "all checks passed" in done.stderr
