"""--device, --gpus, --workers and --scheduler: what is chosen, printed and refused."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from command import FAST, Run, images, run_python
from emulated import cupy_from
from fake_cupy import A100, write_cupy

from flowpipe.experimental import describe_experimental
from flowpipe.run.planning import devices
from flowpipe.run.planning.devices import choose


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes this process see a machine with these GPUs."""
    with ExitStack() as until_the_end:

        def make(*gpus: tuple[str, int, int], **facts: Any) -> None:
            for name in [name for name in os.environ if name.startswith("CUDA_")]:
                monkeypatch.delenv(name)
            place = write_cupy(tmp_path / "site", *gpus, **facts)
            until_the_end.enter_context(cupy_from(place))

        yield make


def test_auto_takes_the_cpu_and_prints_the_reason(
    clips: Path, tmp_path: Path, flowpipe: Run, machine
) -> None:
    machine(driver=0)
    store = tmp_path / "store"
    arguments = ("extract", "--videos", clips, "--out", store, "--workers", 1, *FAST)
    done = flowpipe(*arguments)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("device:")]
    assert "device: cpu, because CuPy is installed but there is no NVIDIA driver" in line
    assert "device:" not in flowpipe(*arguments, "--quiet").stderr
    assert "device:" not in flowpipe(*arguments, "--device", "cpu").stderr
    planned = flowpipe("plan", *arguments[1:])
    assert "cpu, because" in planned.stdout
    facts = json.loads(flowpipe("plan", *arguments[1:], "--json").stdout)
    assert (facts["device"], facts["gpus"], facts["workers"]) == ("cpu", 0, 1)


@pytest.mark.parametrize("asked", [("--device", "cuda"), ("--gpus", "2")])
def test_a_requested_device_is_not_replaced(
    asked: tuple[str, ...], tmp_path: Path, flowpipe: Run, machine
) -> None:
    machine()
    done = flowpipe("extract", "--videos", ".", "--out", "../s", *asked, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{' '.join(asked)}: there is an NVIDIA driver but no GPU" in done.stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "asked, words",
    [
        (("--gpus", "3"), "--gpus 3: this process sees 2 (CUDA_VISIBLE_DEVICES is '1,0')"),
        (("--gpus", "2", "--workers", "3"), "give --workers 2 or 4"),
        (("--gpus", "2", "--workers", "1"), "give --workers 2,"),
        (("--device", "cuda", "--workers", "5"), "give --workers 4 or 6"),
        (("--device", "cpu", "--gpus", "2"), "contradict each other"),
        (("--scheduler", "tcp://nowhere:1", "--gpus", "1"), "give --device cuda"),
        (("--device", "gpu"), "did you mean cpu? known: auto, cuda, cpu"),
    ],
)
def test_wrong_use_of_gpus_is_explained(
    asked: tuple[str, ...], words: str, tmp_path: Path, flowpipe: Run, machine, monkeypatch
) -> None:
    machine(A100, A100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    for name in ("extract", "plan"):
        done = flowpipe(name, "--videos", ".", "--out", "../s", *asked, cwd=tmp_path)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "s").exists()


CORES = len(os.sched_getaffinity(0))
CHOICES = {
    # device, --gpus, --workers, --scheduler -> device, gpus, workers; 0: as many as fill them
    ("auto", None, None, ""): ("cuda", 4, 0),
    ("auto", None, 2, ""): ("cuda", 2, 2),
    ("auto", 3, None, ""): ("cuda", 3, 0),
    ("cuda", None, 8, ""): ("cuda", 4, 8),
    ("cuda", 2, 6, ""): ("cuda", 2, 6),
    ("cpu", None, None, ""): ("cpu", 0, CORES),
    ("auto", None, 7, "tcp://far:1"): ("cpu", 0, 7),
    ("cuda", None, 7, "tcp://far:1"): ("cuda", 0, 7),
}


def test_a_machine_of_four_gpus_gets_the_expected_choices(machine) -> None:
    machine(A100, A100, A100, A100)
    got = [choose(*asked) for asked in CHOICES]
    assert [(one.device, one.gpus, one.workers) for one in got] == list(CHOICES.values())
    assert got[0].why == "cuda, 4 of 4 GPUs (NVIDIA A100)"
    assert got[6].why.startswith("cpu; ")


def test_doctor_lists_gpus(flowpipe: Run, machine) -> None:
    machine(A100, A100)
    found = json.loads(flowpipe("doctor", "--json").stdout)
    rows = {finding["topic"]: finding for finding in found}
    assert rows["CUDA driver"]["found"] == "goes up to CUDA 12.8"
    assert rows["CuPy"]["found"] == "14.2.0, built for CUDA 12.9"
    assert rows["GPU 1"]["found"] == "NVIDIA A100, 42.9 GB, compute capability 8.0"
    assert {rows[name]["state"] for name in ("CUDA driver", "CuPy", "GPU 0", "GPU 1")} == {"ok"}
    assert rows["GPU 0"]["cost"] == rows["GPU 1"]["cost"] == describe_experimental("cuda")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"opening": (46, "cudaErrorDevicesUnavailable: busy or unavailable")}, "MPS"),
        ({"opening": (802, "cudaErrorSystemNotReady: not yet")}, "nvidia-fabricmanager"),
        ({"compiling": OSError(30, "Read-only file system")}, "set CUPY_CACHE_DIR"),
        ({"compiling": RuntimeError('cannot open source file "vector_types.h"')}, "CUDA_PATH"),
        ({"compiling": OSError(2, "No usable temporary directory found in []")}, "set TMPDIR"),
        ({"compiling": OSError("libnvrtc-builtins.so.12: no such file")}, "of one CUDA version"),
        ({"compiling": RuntimeError("NVRTC_ERROR_INVALID_OPTION")}, "of one CUDA version"),
    ],
)
def test_doctor_opens_each_gpu_and_runs_a_kernel(
    fault: dict[str, Any], words: str, flowpipe: Run, machine
) -> None:
    machine(A100, A100, **fault)
    found = json.loads(flowpipe("doctor", "--json").stdout)
    rows = {finding["topic"]: finding for finding in found}
    for name in ("GPU 0", "GPU 1"):
        assert rows[name]["state"] == "lack" and words in rows[name]["cost"]
        assert rows[name]["found"].startswith("NVIDIA A100")


def test_a_store_begun_on_another_device_is_noted(
    clips: Path, tmp_path: Path, flowpipe: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    videos.mkdir()
    shutil.copy(clips / "class 0" / "clip-0.mp4", videos)
    arguments = ("extract", "--videos", videos, "--out", store, "--device", "cpu", *FAST)
    arguments = (*arguments, "--workers", 1)
    with monkeypatch.context() as patch:
        patch.setattr(devices, "choose", lambda *_: devices.Devices("reference", 0, 1, ""))
        assert flowpipe(*arguments).returncode == 0
    before = images(store)
    shutil.copy(clips / "class 1" / "clip-1.mp4", videos)
    done = flowpipe(*arguments)
    assert done.returncode == 0, done.stderr
    assert "started on reference and continues on cpu" in done.stderr
    after = images(store)
    assert len(after) == len(before) + 2 and before.items() <= after.items()
    assert "started on" not in flowpipe(*arguments).stderr  # nothing is left to do


def test_hours_are_estimated_in_a_process_that_ends(tmp_path: Path) -> None:
    found = run_python(
        "import os\n"
        "from flowpipe.extraction.recipe import ExtractRecipe\n"
        "from flowpipe.run.planning import rates\n"
        "from flowpipe.run.planning.sample import HeaderSample\n"
        "sample = HeaderSample(1e-4, 48, 64)\n"
        "print(rates.measure_apart(ExtractRecipe(), 'cpu', sample).frame_s)\n"
        "try:\n"
        "    rates.measure_apart(ExtractRecipe(), 'abacus', sample)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    seconds, refused = found.splitlines()
    assert 0 < float(seconds) < 1
    assert refused.startswith("BackendError device 'abacus' is unknown")
