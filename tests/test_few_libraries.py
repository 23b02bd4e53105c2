"""A GPU machine without decoders, Dask and codecs runs the self test, benchmark and GPU tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT, python_path
from command import command
from emulated import STAND_IN

from flowpipe.ops.cpu import native_core

pytestmark = [
    pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ for the emulated kernels"),
]
MISSING = (
    "av", "dask", "distributed", "dask_cuda", "simplejpeg", "jpeg_ls", "cryptography", "fsspec",
    "scipy", "skimage", "torch", "hypothesis", "psutil", "PyNvVideoCodec",
)  # fmt: skip
REFUSE = "raise ModuleNotFoundError(f'No module named {__name__!r}', name=__name__)\n"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose interpreters have the emulated GPU and refuse to import the others."""
    folder = tmp_path_factory.mktemp("refused")
    for name in MISSING:
        (folder / f"{name}.py").write_text(REFUSE)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return {**kept, "PYTHONPATH": python_path(folder, ROOT, STAND_IN)}


def run(env: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, words)), env=env, cwd=ROOT, capture_output=True, text=True, timeout=280
    )


@pytest.mark.parametrize("name", MISSING)
def test_the_libraries_are_missing_there(name: str, bare: dict[str, str]) -> None:
    done = run(bare, sys.executable, "-c", f"import {name}")
    assert f"No module named '{name}'" in done.stderr


def test_the_self_test_runs(bare: dict[str, str]) -> None:
    chosen = ("--only", "gray", "--only", "upsample")
    done = run(bare, *command("selftest", "--size", "66x34", *chosen, "--json"))
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["device"].startswith("cuda-") and len(report["checks"]) == 2


def test_bench_flow_runs_and_says_what_videos_need(bare: dict[str, str], tmp_path: Path) -> None:
    tiny = ("bench", "flow", "--size", "24x16", "--pairs", 1, "--repeat", 1, "--json", "-")
    done = run(bare, *command(*tiny, "--device", "cuda", "--only", "flowpipe-opencv2-cuda"))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (row,) = [row for row in report["rows"] if row["name"] == "flowpipe-opencv2-cuda"]
    assert row["pairs_per_s"] > 0 and row["ratio"] > 0 and len(report["batches"]) > 1
    (tmp_path / "clip.mp4").write_bytes(b"never opened")
    done = run(bare, *command(*tiny, tmp_path / "clip.mp4"))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "av missing: " in done.stderr and "pip install -U 'av>=17.1'" in done.stderr
    assert "dask" not in done.stderr


def test_the_tests_of_a_gpu_run_and_say_what_they_skip(bare: dict[str, str]) -> None:
    """All of them are collected, by pytest alone; few run, since the emulator takes its time."""
    plugins = ("no:cacheprovider", "no:xdist", "no:hypothesispytest")
    done = run(
        {**bare, "FLOWPIPE_REQUIRE_CUDA": "1"}, sys.executable, "-m", "pytest",
        *(word for plugin in plugins for word in ("-p", plugin)),
        "-o", "addopts=--import-mode=importlib", "-m", "cuda", "-rs", "-k", "gray or real_one",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    whole = [line.split(": ", 1)[1] for line in skipped if "conftest.py" in line]
    # Any file may have property tests beside those for a GPU.
    assert sorted(words for words in whole if not words.endswith("needs hypothesis, missing")) == [
        "tests/cli needs simplejpeg, missing", "tests/video/test_nvdec.py needs av, missing",
    ]  # fmt: skip
