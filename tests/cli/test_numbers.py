"""Numbers of the command line: no option of any command takes NaN or infinity."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from flowpipe.cli import cli
from flowpipe.cli.numbers import Number


def options(group: click.Group, name: str = "") -> Iterator[tuple[str, click.Parameter]]:
    """Every option of every command, with the name of both."""
    context = click.Context(group)
    for key in group.list_commands(context):
        command = group.get_command(context, key)
        assert command is not None
        if isinstance(command, click.Group):
            yield from options(command, f"{name}{key} ")
        for parameter in command.params:
            yield f"{name}{key} {parameter.opts[0]}", parameter


def test_every_option_with_a_fraction_refuses_nan_and_infinity() -> None:
    there = [(name, one.type) for name, one in options(cli) if one.type.name.startswith("float")]
    assert len(there) > 10
    for name, kind in there:
        assert isinstance(kind, Number), name
        for text in ("nan", "inf", "1e400"):
            with pytest.raises(click.BadParameter, match="finite number, got|is not in the range"):
                kind.convert(text, None, None)


def test_ranges_are_kept() -> None:
    assert Number(0, 1).convert("0.5", None, None) == 0.5
    for text in ("-1", "2", "inf"):
        with pytest.raises(click.BadParameter, match="is not in the range"):
            Number(0, 1).convert(text, None, None)
