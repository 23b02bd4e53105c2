"""Videos -> verified, sharded frame stores of RGB, TV-L1 flow, warped flow and differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "open_store"]

if TYPE_CHECKING:
    from flowpipe.store import open_store


def __getattr__(name: str) -> Any:
    # Public names load on first use, so that `import flowpipe` costs nothing and needs nothing.
    if name == "open_store":
        from flowpipe.store import open_store

        return open_store
    raise AttributeError(f"module 'flowpipe' has no attribute {name!r}")
