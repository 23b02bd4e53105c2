"""A machine with NVDEC, played by nvdec_stand_in: for this process, or for a command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT, python_path

from flowpipe.video import nvcodec

STAND_IN = Path(__file__).resolve().parent / "nvdec_stand_in"
DRIVER = """
int cuInit(unsigned flags) {{ return {starts}; }}
int cuDeviceGetCount(int *count) {{ *count = {gpus}; return 0; }}
int cuDeviceGet(int *device, int number) {{ *device = number; return 0; }}
int cuDevicePrimaryCtxRetain(void **context, int device) {{ *context = (void *)1; return 0; }}
int cuDriverGetVersion(int *version) {{ *version = 12080; return 0; }}
"""


@contextmanager
def stand_in() -> Iterator[Any]:
    """Replace PyNvVideoCodec, installed or not, by the stand-in with one GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "PyNvVideoCodec", raising=False)
        patch.syspath_prepend(STAND_IN)
        patch.setattr(nvcodec, "visible_gpus", lambda: 1)
        forget()
        try:
            yield nvcodec.library()
        finally:
            del sys.modules["PyNvVideoCodec"]
            forget()


def forget() -> None:
    """Clear what this process has cached about NVDEC."""
    nvcodec.why_no_nvdec.cache_clear()
    nvcodec.capabilities.cache_clear()


def environment(
    folder: Path, gpus: int = 1, library: bool = True, starts: int = 0
) -> dict[str, str]:
    """Return the environment of a command on a machine with so many GPUs, or a broken driver."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs gcc or clang to compile a driver")
    folder.mkdir(exist_ok=True)
    made = ["-shared", "-fPIC", "-x", "c", "-", "-o", str(folder / "libcuda.so.1")]
    subprocess.run(
        [compiler, *made], input=DRIVER.format(gpus=gpus, starts=starts), text=True, check=True
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CUDA_")}
    places = [ROOT, STAND_IN] if library else [ROOT]
    libraries = [str(folder), kept.get("LD_LIBRARY_PATH", "")]
    return {
        **kept,
        "PYTHONPATH": python_path(*places),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
    }
