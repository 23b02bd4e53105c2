"""Options and checks of commands that read a store, with few imports for a fast start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from flowpipe.cli.folders import STORE
from flowpipe.errors import UsageError
from flowpipe.store import read_store_header

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

STORE_ARGUMENT = click.argument("store", type=STORE)


def chain(*decorators: Decorator) -> Decorator:
    """Combine decorators into one; the first is the outermost."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def check_output(output: Path, *suffixes: str) -> None:
    """Raise UsageError if an ``-o`` has none of the suffixes or its folder does not exist."""
    if output.suffix.lower() not in suffixes:
        raise UsageError(f"-o {output}: wanted a name that ends in {' or '.join(suffixes)}")
    if not output.resolve().parent.is_dir():
        raise UsageError(f"-o {output}: no folder {output.resolve().parent}")


def stored_dataset(store: Path) -> str:
    """Return the name of the data set in a store."""
    return str(read_store_header(store).dataset.get("dataset", ""))
