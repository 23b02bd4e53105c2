"""Videos -> verified, sharded frame stores of RGB, TV-L1 flow, warped flow and differences."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "open_store", "optical_flow"]

if TYPE_CHECKING:
    from flowpipe.flow.pair import optical_flow
    from flowpipe.store import open_store

_HOMES = {"open_store": "flowpipe.store", "optical_flow": "flowpipe.flow.pair"}


def __getattr__(name: str) -> Any:
    # Public names load on first use, so that `import flowpipe` costs nothing and needs nothing.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'flowpipe' has no attribute {name!r}")
