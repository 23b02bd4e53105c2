"""Parameter type of options with a fixed set of values; it suggests the nearest one."""

from __future__ import annotations

from typing import Any

import click

from flowpipe.words import unknown_name


class Choice(click.Choice[str]):
    """One of some names."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = str(value)
        if name not in self.choices:
            kind = max(param.opts, key=len) if param is not None else self.name
            raise click.UsageError(unknown_name(kind, name, self.choices), ctx)
        return name
