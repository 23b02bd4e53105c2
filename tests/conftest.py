"""Shared by all tests: real data, a small disk, what happens without a library."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from checkout import ROOT

if TYPE_CHECKING:
    from flowpipe.run.cluster import pool

# Tests start hundreds of processes. Without bytecode files each would compile flowpipe: 0.3 s.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Tests run side by side: more threads of torch would keep cores busy with waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# CuPy, and what stands for it, makes its folder when it is imported; homes may be read-only.
os.environ.setdefault(
    "CUPY_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"flowpipe-cupy-{os.getuid()}")
)


def pytest_configure(config: pytest.Config) -> None:
    """Let `pytest -m cuda` run on a GPU machine that lacks libraries which its tests do without.

    Any other run fails where one is missing.
    """
    config.option.loadscopereorder = False  # pytest-xdist: keep the order of the files
    if config.getoption("markexpr") == "cuda":
        config.pluginmanager.register(OnlyCuda())


LONGEST = (
    "cli/test_faults.py", "tsn/training/test_resume.py", "cli/test_cuda_run.py",
    "tsn/test_launch.py", "cli/test_failing_storage.py", "run/reconciliation/test_reconcile.py",
    "cli/test_extract.py", "cli/test_any_opencv.py", "slurm/test_jobs.py",
    "diagnose/test_selftest.py", "cli/test_real_files.py", "ops/cuda/test_path.py",
    "cli/test_two_runs.py", "datasets/test_demo.py", "flow/test_tvl1.py", "cli/test_s3.py",
    "ops/test_build.py", "cli/test_changed_sources.py", "extraction/test_demo_store.py",
    "cli/test_commands.py", "tsn/data/test_photometric.py", "run/cluster/test_pool.py",
    "run/cluster/test_gpu_pool.py", "exchange/test_round_trip.py", "store/test_hostile.py",
    "video/test_nvdec.py", "tsn/test_gpus.py", "test_examples.py", "test_reproduce.py",
    "cli/test_official_sets.py", "cli/test_terminal.py", "benchmarks/test_gpu_steps.py",
    "tsn/network/test_transfer.py", "tsn/network/test_backbones.py",
    "tsn/features/test_torchvision.py", "tsn/training/test_train.py",
)  # fmt: skip
"""Test files that take longest, in the order in which they are begun."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin the longest files first: at the end no process waits for another one's last file."""
    begun = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}
    assert all(path.exists() for path in begun), "LONGEST names a file that is gone"
    items.sort(key=lambda item: begun.get(item.path, len(begun)))


OF_TESTS = ("hypothesis",)
"""Libraries that tests import and flowpipe does not require."""


class OnlyCuda(MetaPathFinder):
    """Collects no file but those with tests marked ``cuda``, and skips what imports a library that
    is missing: a required one, or one of the tests."""

    def __init__(self) -> None:
        from flowpipe.diagnose.libraries import find_broken_libraries

        # One that is only older than wanted has been imported.
        faults = [
            fault for fault in find_broken_libraries() if sys.modules.get(fault.topic) is None
        ]
        self._missing = {fault.topic: f"needs {fault.topic}, {fault.found}" for fault in faults}
        for name in OF_TESTS:
            try:
                importlib.import_module(name)
            except ModuleNotFoundError:
                self._missing[name] = f"needs {name}, missing"
        self._collecting = ""
        sys.meta_path.insert(0, self)

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        if collection_path.is_dir():
            files = list(collection_path.rglob("test_*.py"))
        else:
            files = [collection_path] if collection_path.suffix == ".py" else []
        return None if any("mark.cuda" in file.read_text("utf-8") for file in files) else True

    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        self._collecting = f"{collector.nodeid} "

    def pytest_collection_finish(self) -> None:
        self._collecting = ""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in self._missing:
            pytest.skip(f"{self._collecting}{self._missing[name]}", allow_module_level=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real clips; skip the test if there is none."""
    path = Path(os.environ.get("FLOWPIPE_SHARED_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not (path / "clips").is_dir():
        pytest.skip(f"needs the real clips: no {path}; set FLOWPIPE_SHARED_DATA to their folder")
    return path


@pytest.fixture(scope="session")
def demo_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the demo set once, in a folder of its own; return the folder."""
    from flowpipe.datasets import demo

    root = tmp_path_factory.mktemp("demo") / "set"
    demo.load(root)
    return root


@pytest.fixture(scope="module")
def lasting_workers() -> Iterator[None]:
    """Let the runs of a file that are in this process share workers, as those of a scheduler do.

    A start of workers takes two seconds of a core. Those of a run that fails are not used again.
    """
    from flowpipe.run.cluster import pool

    start, kept = pool.local_pool, dict[tuple[object, ...], tuple[ExitStack, pool.Pool]]()

    @contextmanager
    def shared_pool(*settings: Any) -> Iterator[pool.Pool]:
        if settings not in kept:
            stack = ExitStack()
            kept[settings] = stack, stack.enter_context(start(*settings))
        stack, workers = kept[settings]
        try:
            yield workers
            assert not workers.running
        except BaseException:
            kept.pop(settings)
            stack.close()
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "local_pool", shared_pool)
        yield
    for stack, _ in kept.values():
        stack.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return a function that mounts a file system of so many KiB."""
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
