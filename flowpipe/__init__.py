"""Videos -> verified, sharded frame stores of RGB, TV-L1 flow, warped flow and differences."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from flowpipe.logs import LIBRARY

__version__ = "0.1.0"
__all__ = [
    "ExtractJob", "Progress", "SnippetDataset", "SnippetStream", "__version__", "extract",
    "extract_job", "open_store", "optical_flow", "plan",
]  # fmt: skip

logging.getLogger(LIBRARY).addHandler(logging.NullHandler())  # silent unless configured

if TYPE_CHECKING:
    from flowpipe.flow.pair import optical_flow
    from flowpipe.job import ExtractJob, Progress, extract, extract_job, plan
    from flowpipe.store import open_store
    from flowpipe.tsn.data.snippets import SnippetDataset, SnippetStream

_HOMES = {
    **dict.fromkeys(("ExtractJob", "Progress", "extract", "extract_job", "plan"), "flowpipe.job"),
    "SnippetDataset": "flowpipe.tsn.data.snippets",
    "SnippetStream": "flowpipe.tsn.data.snippets",
    "open_store": "flowpipe.store",
    "optical_flow": "flowpipe.flow.pair",
}


def __getattr__(name: str) -> Any:
    # Public names load on first use, so that `import flowpipe` costs nothing and needs nothing.
    if name not in _HOMES:
        raise AttributeError(f"module 'flowpipe' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from flowpipe.distribution import install_command

        words = f"flowpipe.{name} needs torch; {install_command('train')}"
        raise ModuleNotFoundError(words, name="torch") from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
