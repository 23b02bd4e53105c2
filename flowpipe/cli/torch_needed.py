"""Commands that need torch say so in words where it is not installed."""

from __future__ import annotations

import importlib.util

from flowpipe.distribution import install_command
from flowpipe.errors import BackendError


def torch_or_why() -> None:
    """Raise BackendError, with the way out, unless torch is installed."""
    if importlib.util.find_spec("torch") is None:
        raise BackendError(f"this command needs torch: {install_command('train')}")
