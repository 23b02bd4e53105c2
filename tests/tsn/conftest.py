"""A store of tiny videos."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="needs torch")
    import tiny

    return tiny.make_store(tmp_path_factory.mktemp("tiny") / "store")
