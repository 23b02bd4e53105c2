"""What flowpipe reports of GPUs, driver and CuPy in every state of a machine."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT, python_path
from fake_cupy import A100, GTX_860M, TITAN_X, V100, write_cupy

from flowpipe.distribution import install_command

ASK = """
import dataclasses, json, sys
{before}
from flowpipe.ops.cuda.devices import gpus
found = gpus()
print(json.dumps(dict(dataclasses.asdict(found), available=found.available)))
"""


def ask(place: Path | None = None, before: str = "", **environment: str) -> dict[str, Any]:
    """The answer of `gpus()` in a process of its own that finds this CuPy."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CUDA_")}
    places = [place, ROOT] if place else [ROOT]
    done = subprocess.run(
        [sys.executable, "-c", ASK.format(before=before)], capture_output=True, text=True,
        env={**kept, "PYTHONPATH": python_path(*places), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def says(found: dict[str, Any], *words: str) -> None:
    assert not found["available"]
    for word in words:
        assert word in found["reason"]
    assert found["reason"].count("\n") == 0


def test_usable_gpus_are_listed_with_their_facts(tmp_path: Path) -> None:
    found = ask(write_cupy(tmp_path, A100, TITAN_X))
    assert found["available"] and found["reason"] == ""
    assert found["ids"] == ["0", "1"]
    assert found["names"] == ["NVIDIA A100", "NVIDIA TITAN X"]
    assert found["capabilities"] == [[8, 0], [5, 2]]
    assert found["memory_bytes"] == [40 << 30] * 2
    assert (found["driver"], found["runtime"], found["cupy"]) == ("12.8", "12.9", "14.2.0")


@pytest.mark.parametrize(
    "shown, ids",
    [
        ("1", ["1"]),
        ("1,0", ["1", "0"]),
        ("GPU-1,GPU-0", ["GPU-1", "GPU-0"]),
        ("0,-1,1", ["0"]),
        ("1,7", ["1"]),  # the machine has no eighth
        ("MIG-a,MIG-b", ["MIG-a", "MIG-b"]),  # CUDA counts one
    ],
)
def test_ids_are_what_the_batch_system_gave(shown: str, ids: list[str], tmp_path: Path) -> None:
    assert ask(write_cupy(tmp_path, A100, A100), CUDA_VISIBLE_DEVICES=shown)["ids"] == ids


def test_real_cupy_without_a_driver_gets_advice() -> None:
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("needs CuPy")
    found = ask()
    if found["driver"]:
        pytest.skip("there is a driver")
    says(found, "CuPy is installed", "no NVIDIA driver", "libcuda.so.1", "nvidia-smi")
    assert found["cupy"] and found["runtime"]


NO_CUPY = "sys.modules['cupy'] = None"


def test_a_machine_without_cupy_and_driver_gets_advice() -> None:
    found = ask(before=NO_CUPY)
    if found["driver"]:
        pytest.skip("there is a driver")
    says(found, "CuPy is not installed", "no NVIDIA driver either", install_command("cuda"))


@pytest.mark.parametrize(
    "version, words",
    [
        (12080, f"{install_command('cuda')}, which is cupy-cuda12x"),
        (13000, "pip install 'cupy-cuda13x[ctk]'"),
        (11040, "up to CUDA 11.4 only; update it"),
    ],
)
def test_driver_without_cupy_names_its_wheel(version: int, words: str, tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler, to make a libcuda.so.1")
    source = f"int cuDriverGetVersion(int *version) {{ *version = {version}; return 0; }}"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", "-x", "c", "-"],
        input=source, text=True, check=True,
    )  # fmt: skip
    found = ask(before=NO_CUPY, LD_LIBRARY_PATH=str(tmp_path))
    says(found, "CuPy is not installed", words)
    assert found["driver"] == f"{version // 1000}.{version % 1000 // 10}"


def test_cupy_for_a_newer_cuda_than_the_driver_gets_advice(tmp_path: Path) -> None:
    found = ask(write_cupy(tmp_path, A100, driver=12080, runtime=13000))
    says(found, "CUDA 13.0", "CUDA 12.8", "pip uninstall cupy-cuda13x", "cupy-cuda12x")
    old = ask(write_cupy(tmp_path / "old", A100, driver=11040))
    says(old, "CUDA 12.9", "CUDA 11.4", "update the driver")


@pytest.mark.parametrize("shown", ["", "-1", "NoDevFiles", "5"])
def test_hidden_gpus_are_explained_by_the_environment(shown: str, tmp_path: Path) -> None:
    found = ask(write_cupy(tmp_path, A100), CUDA_VISIBLE_DEVICES=shown)
    says(found, f"CUDA_VISIBLE_DEVICES={shown!r}", "unset it", "--gres=gpu:1")


def test_a_driver_without_gpu_is_reported(tmp_path: Path) -> None:
    says(ask(write_cupy(tmp_path)), "no GPU", "nvidia-smi")


def test_a_driver_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    found = ask(write_cupy(tmp_path, A100, error=(999, "cudaErrorUnknown: unknown error")))
    says(found, "does not answer", "cudaErrorUnknown", "nvidia-smi")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (802, "systemctl start nvidia-fabricmanager"),
        (803, "reboot the machine"),
        (804, "cuda/compat out of LD_LIBRARY_PATH"),
        (101, "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_an_error_of_the_driver_gets_its_own_remedy(
    status: int, words: str, tmp_path: Path
) -> None:
    found = ask(write_cupy(tmp_path, A100, error=(status, "cudaErrorOfThisKind: something")))
    says(found, "does not answer", "cudaErrorOfThisKind", words)
    assert "dmesg" not in found["reason"]


def test_mig_without_a_device_gets_advice(tmp_path: Path) -> None:
    says(ask(write_cupy(tmp_path)), "nvidia-smi -L", "MIG device")


def test_missing_headers_of_cuda_get_advice(tmp_path: Path) -> None:
    """Since CuPy 14 no kernel compiles without them."""
    found = ask(write_cupy(tmp_path, A100, headers=False))
    says(found, "headers of CUDA", "pip install nvidia-cuda-runtime-cu12,", "CUDA_PATH")
    newer = ask(write_cupy(tmp_path / "13", A100, driver=13000, runtime=13000, headers=False))
    says(newer, "pip install nvidia-cuda-runtime,")


@pytest.mark.parametrize("setting", ["HOME", "CUPY_CACHE_DIR"])
def test_a_cache_folder_that_cannot_be_made_gets_advice(setting: str, tmp_path: Path) -> None:
    """As that of a read-only home: `import cupy` makes it, and raises."""
    place, no_folder = write_cupy(tmp_path, A100), tmp_path / "file"
    no_folder.touch()
    environment = {"CUPY_CACHE_DIR": "", setting: str(no_folder / "kernels")}
    found = ask(place, **environment)
    says(found, "CuPy keeps compiled kernels in", str(no_folder), "set CUPY_CACHE_DIR")
    assert "uninstall" not in found["reason"]


def test_a_cache_folder_that_cannot_be_written_gets_advice(tmp_path: Path) -> None:
    """CuPy finds out after it has compiled; a folder that has kernels may have all of them."""
    place = write_cupy(tmp_path, A100)
    here = {"CUPY_CACHE_DIR": "/proc/self"}  # a folder in which even root makes no file
    says(ask(place, **here), "in /proc/self and cannot write there", "set CUPY_CACHE_DIR")
    assert ask(place, **here, CUPY_CACHE_IN_MEMORY="1")["available"]
    assert ask(place, CUPY_CACHE_DIR=str(tmp_path / "new" / "one"))["available"]


def test_a_gpu_that_is_too_old_is_refused(tmp_path: Path) -> None:
    found = ask(write_cupy(tmp_path, A100, GTX_860M))
    says(found, "GPU 1, GTX 860M", "5.0", "5.2 and later", "CUDA_VISIBLE_DEVICES")
    shown = ask(write_cupy(tmp_path / "a", A100, GTX_860M), CUDA_VISIBLE_DEVICES="0")
    assert shown["available"]


def test_a_gpu_that_cuda_13_no_longer_supports_is_refused(tmp_path: Path) -> None:
    found = ask(write_cupy(tmp_path, V100, driver=13000, runtime=13000, nvrtc=13))
    says(found, "Tesla V100", "7.0", "CUDA 13", "7.5 and later", "CuPy for CUDA 12")


def test_a_missing_nvrtc_gets_advice(tmp_path: Path) -> None:
    found = ask(write_cupy(tmp_path, A100, nvrtc=None))
    says(found, "NVRTC", "libnvrtc.so.12", "pip install nvidia-cuda-nvrtc-cu12")


def test_a_broken_cupy_is_reported(tmp_path: Path) -> None:
    place = write_cupy(tmp_path, A100)
    (place / "cupy" / "__init__.py").write_text(
        "raise ImportError('====\\nFailed to import CuPy.\\nOriginal error:\\n  no libfoo\\n====')"
    )
    says(
        ask(place),
        "does not work (no libfoo)",
        "uninstall every cupy package",
        install_command("cuda"),
    )


def test_gpus_are_counted_as_nvidia_smi_does(tmp_path: Path) -> None:
    place = write_cupy(tmp_path, A100)
    order = "import os; from flowpipe.ops.cuda.devices import gpus; gpus(); "
    order += "assert os.environ['CUDA_DEVICE_ORDER'] == {!r}"
    ask(place, before=order.format("PCI_BUS_ID"))
    ask(place, before=order.format("FASTEST_FIRST"), CUDA_DEVICE_ORDER="FASTEST_FIRST")
