"""Modules of the original systems, from checkouts that environment variables name."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

import pytest


def tsn_pytorch(module: str) -> ModuleType:
    """Return a module of yjxiong/tsn-pytorch from the checkout in FLOWPIPE_TSN_PYTORCH."""
    checkout = os.environ.get("FLOWPIPE_TSN_PYTORCH")
    pytest.importorskip("torchvision", reason="tsn-pytorch needs torchvision")
    if not checkout:
        pytest.skip("set FLOWPIPE_TSN_PYTORCH to a checkout of yjxiong/tsn-pytorch")
    sys.path.insert(0, checkout)
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(checkout)
