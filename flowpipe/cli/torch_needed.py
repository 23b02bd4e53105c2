"""A check that torch is installed, with a message that says how to install it."""

from __future__ import annotations

import importlib.util

from flowpipe.distribution import install_command
from flowpipe.errors import BackendError


def torch_or_why() -> None:
    """Raise BackendError, with the command that installs torch, unless it is installed."""
    if importlib.util.find_spec("torch") is None:
        raise BackendError(f"this command needs torch; {install_command('train')}")
