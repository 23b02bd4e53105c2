"""`flowpipe selftest` on the command line: some checks, other sizes, JSON, several GPUs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkout import ROOT, python_path
from command import Run
from emulated import STAND_IN

from flowpipe.diagnose import selftest
from flowpipe.ops.cpu import native_core

pytestmark = pytest.mark.skipif(not native_core().available, reason=native_core().reason or "none")


def test_chosen_checks_run_at_another_size_and_print_json(flowpipe: Run) -> None:
    chosen = ("--only", "pyramid centred", "--only", "gray")
    done = flowpipe("selftest", "--device", "cpu", "--size", "66x34", *chosen, "--json")
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["device"].startswith("cpu-") and report["size"] == [66, 34]
    assert report["passed"] is True
    gray, pyramid = report["checks"]
    assert [gray["name"], pyramid["name"]] == ["gray", "pyramid centred"]
    values = selftest.FRAMES * 66 * 34
    assert gray["found"] == f"0 of {values} values differ from the CPU's" and gray["passed"] is True
    assert done.stderr.count("ok      ") == 2 and "all checks passed" in done.stderr


@pytest.mark.parametrize("name", selftest.CHECKS)
def test_a_check_has_the_name_by_which_it_is_chosen(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "LEAK_ROUNDS", 2)
    ops = selftest.get_ops()
    assert [check.name for check in selftest.checks(ops, (34, 66), [name])] == [name]


def test_a_check_that_cannot_run_is_no_pass(flowpipe: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = selftest.Check("take", None, "something is missing")
    monkeypatch.setitem(selftest.CHECKS, "take", lambda *_: left_out)
    done = flowpipe("selftest", "--device", "cpu", "--only", "take", "--json")
    assert done.returncode == 1 and "no check could run" in done.stderr
    assert json.loads(done.stdout)[0]["passed"] is False


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            ("--only", "pyramid centerd"),
            "--only 'pyramid centerd' is unknown; did you mean pyramid centred",
        ),
        (("--only", "gray", "--only", "tvl1"), "--only 'tvl1' is unknown; did you mean tvl1"),
        (("--only", "zzz"), "--only 'zzz' is unknown; known: resize, "),
        (("--gpu", "1"), "--gpu 1 needs --device cuda"),
        (("--size", "340"), "WIDTHxHEIGHT"),
        (("--size", "8x64"), "16 to 4096 pixels"),
        (("--size", "340x99999"), "16 to 4096 pixels"),
    ],
)
def test_wrong_use_is_explained(wrong: tuple[str, ...], words: str, flowpipe: Run) -> None:
    done = flowpipe("selftest", "--device", "cpu", *wrong)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ for the emulated kernels")
def test_every_gpu_has_an_entry_also_one_whose_process_is_killed(
    flowpipe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each GPU is tried by a process of its own, here on the emulator; that of the second dies."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\n"
        "if os.environ.get('CUDA_VISIBLE_DEVICES') == '1':\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.setenv("PYTHONPATH", python_path(tmp_path, ROOT, STAND_IN))
    two = SimpleNamespace(ids=("0", "1"), names=("A", "B"))
    monkeypatch.setattr("flowpipe.cli.selftest.gpus", lambda: two)
    done = flowpipe("selftest", "--size", "66x34", "--only", "gray", "--json")
    assert done.returncode == 1, done.stderr
    good, killed = json.loads(done.stdout)
    assert good["passed"] is True and good["device"].startswith("cuda-")
    assert [check["name"] for check in good["checks"]] == ["gray"]
    assert killed == {"device": "cuda", "gpu": "1", "passed": False, "checks": []}
    assert "GPU 1: the self test ended with exit code -9" in done.stderr
