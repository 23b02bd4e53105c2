"""The check of tests marked ``cuda`` for a GPU that they can use."""

from __future__ import annotations

import os

import pytest


def require_cuda() -> None:
    """Skip where no GPU can be used; fail instead where FLOWPIPE_REQUIRE_CUDA=1 promises one."""
    from flowpipe.ops.cuda.devices import gpus

    if not gpus().available:
        promised = os.environ.get("FLOWPIPE_REQUIRE_CUDA") == "1"
        (pytest.fail if promised else pytest.skip)(f"needs a GPU: {gpus().reason}")
