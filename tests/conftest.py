"""Shared by all tests: where real data lies, a small disk, PYTHONPATH, a seeded generator."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent

# Tests start hundreds of processes. Without bytecode files each would compile flowpipe: 0.3 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Tests run side by side: more threads of torch would keep cores busy with waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def python_path(*folders: str | Path) -> str:
    """A PYTHONPATH of these folders and, behind them, of what the tests were started with."""
    return os.pathsep.join(filter(None, [*map(str, folders), os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real clips; the test skips where there is none."""
    path = Path(os.environ.get("FLOWPIPE_SHARED_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not (path / "clips").is_dir():
        pytest.skip(f"needs the real clips: no {path}; set FLOWPIPE_SHARED_DATA to their folder")
    return path


@pytest.fixture(scope="session")
def demo_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the demo set, alone in its own; made once, for that takes some seconds."""
    from flowpipe.datasets import demo

    root = tmp_path_factory.mktemp("demo") / "set"
    demo.load(root)
    return root


def require_cuda() -> None:
    """Skip where no GPU can be used; fail instead where FLOWPIPE_REQUIRE_CUDA=1 promises one."""
    from flowpipe.ops.gpus import gpus

    if not gpus().available:
        promised = os.environ.get("FLOWPIPE_REQUIRE_CUDA") == "1"
        (pytest.fail if promised else pytest.skip)(f"needs a GPU: {gpus().reason}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a file system of so many KiB."""
    mounted: list[Path] = []

    def mount(kib: int) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "flowpipe-test", str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"needs the right to mount a small file system: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    if shutil.which("mount") is None:
        pytest.skip("needs the mount command")
    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20160807)
