"""Every command with any OpenCV that pip finds: what needs no contrib module works without one.

Beside a cv2 that has lost its contrib modules there are real wheels: those in the folders that
FLOWPIPE_TEST_OPENCV names (as PATH does; `pip install --no-deps --target FOLDER WHEEL` makes one),
or one that pip fetches.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from checkout import python_path
from command import FAST, Run, images

from flowpipe.flow.features import why_no_detector
from flowpipe.ops.cpu import native_core

STRIP = """
import cv2
for gone in ("optflow", "xfeatures2d", "AKAZE", "AKAZE_create"):
    if hasattr(cv2, gone):
        delattr(cv2, gone)
"""
"""Code that removes what OpenCV 5 has in its contrib modules only."""
STRIP_WORKERS = (
    f"import sys\nif any('multiprocessing' in a for a in sys.orig_argv): exec({STRIP!r})\n"
)
WITHOUT_CV2 = "import sys\nsys.modules['cv2'] = None\n"
HEADLESS = "opencv-python-headless"


def site(folder: Path, code: str) -> dict[str, str]:
    """An environment whose interpreters run some code before all else, workers included."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return {**os.environ, "PYTHONPATH": python_path(folder)}


def has_any(env: dict[str, str], *names: str) -> bool:
    code = f"import cv2; print(any(hasattr(cv2, name) for name in {names}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip() == "True"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with another OpenCV, without contrib, in front of the installed one."""
    named = os.environ.get("FLOWPIPE_TEST_OPENCV", "")
    folder = named.split(os.pathsep)[0]
    if not folder:
        folder = str(tmp_path_factory.mktemp("wheel"))
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary", ":all:",
             "--retries", "1", "--timeout", "20", "--target", folder, HEADLESS],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"needs a wheel of {HEADLESS}: {done.stderr.strip()[-200:]}")
    return {**os.environ, "PYTHONPATH": python_path(folder)}


@pytest.fixture
def stripped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, and those that it starts, have a cv2 that has lost its contrib modules."""
    for gone in ("optflow", "xfeatures2d", "AKAZE", "AKAZE_create"):
        monkeypatch.delattr(cv2, gone, raising=False)
    for name, value in site(tmp_path / "site", STRIP).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def no_core(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process finds no compiled core."""
    monkeypatch.setattr(native_core.__wrapped__, "__defaults__", ("/nowhere/_core.so",))
    native_core.cache_clear()
    yield
    native_core.cache_clear()


@pytest.fixture(params=["stripped", "wheel"])
def bare(request: pytest.FixtureRequest) -> dict[str, dict[str, str]]:
    """Options of `flowpipe` that run it with a cv2 without contrib modules."""
    found = request.getfixturevalue(request.param)
    return {"env": dict(found)} if request.param == "wheel" else {}


def test_the_stand_in_and_the_wheel_lack_contrib(bare: dict[str, dict[str, str]]) -> None:
    env = bare.get("env", dict(os.environ))
    assert not has_any(env, "optflow", "xfeatures2d")


def test_what_needs_no_contrib_is_extracted(
    bare: dict[str, dict[str, str]], clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    """Warped flow, too, where the compiled core finds AKAZE's keypoints."""
    modalities = "rgb,rgb_diff,flow" + ",warped_flow" * native_core().available
    asked = ("--videos", clips, *FAST, "--modalities", modalities, "--workers", 1)
    store = tmp_path / "store"
    done = flowpipe("extract", *asked, "--out", store, "--verify", **bare)
    assert done.returncode == 0, done.stderr
    assert "8 done" in done.stderr and "all intact" in done.stderr
    assert {modality for _, modality in images(store)} == set(modalities.split(","))
    if native_core().available:
        facts = json.loads(flowpipe("info", store, "--json").stdout)
        assert facts["recipe"]["warp"]["detector"] == "akaze"  # no detector but the recipe's


@pytest.mark.usefixtures("stripped", "no_core")
def test_akaze_is_refused_before_the_run_where_neither_the_core_nor_cv2_has_it(
    tmp_path: Path, clips: Path, flowpipe: Run
) -> None:
    store = tmp_path / "store"
    asked = (
        "--videos", clips, *FAST, "--modalities", "warped_flow", "--workers", 1, "--out", store,
    )  # fmt: skip
    for command in ("extract", "plan"):
        done = flowpipe(command, *asked)
        assert done.returncode == 2, done.stderr
        assert "warp.detector akaze needs OpenCV's contrib modules" in done.stderr
        assert "pip install opencv-contrib-python" in done.stderr
        assert "warp.detector=sift" in done.stderr and not store.exists()
    assert not why_no_detector("akaze", "cuda")  # which has kernels for it
    done = flowpipe("extract", *asked, "--set", "warp.detector=sift")
    assert done.returncode == 0, done.stderr
    facts = json.loads(flowpipe("info", store, "--json").stdout)
    assert facts["recipe"]["warp"]["detector"] == "sift"


def test_the_flow_that_needs_contrib_is_refused_before_the_run(
    bare: dict[str, dict[str, str]], clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    store = tmp_path / "store"
    videos = clips / "class 0"
    asked = ("--videos", videos, "--out", store, "--size", "64x48", "--workers", 1)
    tvl1 = ("--set", "flow=opencv_tvl1")
    for command in ("extract", "plan"):
        done = flowpipe(command, *asked, *tvl1, **bare)
        assert done.returncode == 2, done.stderr
        assert "flow opencv_tvl1 needs OpenCV's contrib modules" in done.stderr
        assert not store.exists()
    rgb = flowpipe("extract", *asked, *tvl1, "--modalities", "rgb", **bare)
    assert rgb.returncode == 0, rgb.stderr  # asks for no flow, so nothing is lacking
    assert len({video for video, _ in images(store)}) == 4


def test_doctor_and_bench_report_what_is_missing(
    bare: dict[str, dict[str, str]], flowpipe: Run
) -> None:
    done = flowpipe("doctor", "--json", **bare)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["topic"]: row for row in json.loads(done.stdout)}
    contrib = rows["OpenCV contrib"]
    assert contrib["state"] == "lack" and "flow opencv_tvl1" in contrib["found"]
    assert "pip install opencv-contrib-python" in contrib["cost"]
    few = ("--pairs", 1, "--repeat", 1, "--size", "64x48", "--only", "cv2-dis")
    bench = flowpipe("bench", "flow", *few, **bare)
    assert bench.returncode == 0, bench.stderr
    assert "not run: cv2-tvl1: flow opencv_tvl1 needs" in bench.stdout
    assert "vs flowpipe-opencv2: how many times faster" in bench.stdout


def test_a_worker_without_it_ends_the_run_and_quarantines_no_video(
    tmp_path: Path, clips: Path, flowpipe: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in site(tmp_path / "site", STRIP_WORKERS).items():
        monkeypatch.setenv(name, value)
    store = tmp_path / "store"
    asked = (
        "--videos", clips, *FAST, "--modalities", "flow", "--set", "flow=opencv_tvl1",
        "--workers", 1, "--out", store,
    )  # fmt: skip
    done = flowpipe("extract", *asked)
    assert done.returncode == 2, done.stderr
    assert "flow opencv_tvl1 needs OpenCV's contrib modules" in done.stderr
    assert not list((store / "quarantine").glob("*"))


def test_without_any_cv2_the_message_says_what_to_install(
    tmp_path: Path, clips: Path, flowpipe: Run
) -> None:
    env = site(tmp_path / "site", WITHOUT_CV2)
    for asked in (
        ("extract", "--videos", clips, "--out", tmp_path / "store"),
        ("verify", tmp_path),
    ):
        done = flowpipe(*asked, env=env)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "cv2" in done.stderr and "pip install -U 'opencv-contrib-python" in done.stderr
    doctor = flowpipe("doctor", env=env)
    assert doctor.returncode == 1 and "cv2" in doctor.stdout and "fault" in doctor.stdout
    assert flowpipe("--help", env=env).returncode == 0
