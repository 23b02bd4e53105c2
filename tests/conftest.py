"""Fixtures shared by all tests: where real data lies, a seeded generator."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


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
def rng() -> np.random.Generator:
    return np.random.default_rng(20160807)
