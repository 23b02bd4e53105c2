"""Options and checks of commands that read a store, with few imports for a fast start."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
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


def check_output(output: Path, *suffixes: str, inputs: Iterable[Path] = ()) -> None:
    """Raise UsageError if an ``-o`` cannot be written, before anything is computed.

    Its name must end in one of the suffixes, it must be none of the `inputs`, and its folder must
    exist and be writable.
    """
    if output.suffix.lower() not in suffixes:
        raise UsageError(f"-o {output}: wanted a name that ends in {' or '.join(suffixes)}")
    folder = output.resolve().parent
    if not folder.is_dir():
        raise UsageError(f"-o {output}: no folder {folder}")
    if output.exists() and any(path.exists() and output.samefile(path) for path in inputs):
        raise UsageError(f"-o {output}: this is an input file; choose another name")
    if not output.exists() and not os.access(folder, os.W_OK):  # a finished file needs no writing
        raise UsageError(f"-o {output}: the folder {folder} is not writable")


def stored_dataset(store: Path) -> str:
    """Return the name of the data set in a store."""
    return str(read_store_header(store).dataset.get("dataset", ""))
