"""`flowpipe recipe list|show|check`: what recipes there are, what one says, whether it is right."""

from __future__ import annotations

import click

from flowpipe import params
from flowpipe.cli import Group
from flowpipe.cli.paths import RECIPE
from flowpipe.cli.screen import print_table, say, write_line
from flowpipe.recipes import known_names, read_recipe

_NAME = click.argument("name", type=RECIPE, metavar="NAME|FILE")
_SETTINGS = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="Change one value, as --set extract.bound=15 or --set train.streams.rgb.dropout=0.5.",
)  # fmt: skip


@click.group(cls=Group)
def recipe() -> None:
    """Recipes say what is extracted and how networks are trained on it."""


@recipe.command("list")
def list_() -> None:
    """List the recipes that come with flowpipe."""
    print_table((name, read_recipe(name).summary) for name in known_names())


@recipe.command()
@_NAME
@_SETTINGS
def show(name: str, settings: tuple[str, ...]) -> None:
    """Print a recipe with every default written out: a file to copy and change."""
    extract, train = read_recipe(name).build(settings)
    sections = {"extract": params.plain(extract)}
    if train is not None:
        sections["train"] = params.plain(train)
    write_line(f"# digest of the extract section: {params.digest(extract)}")
    write_line(params.dump(sections), nl=False)


@recipe.command()
@_NAME
@_SETTINGS
def check(name: str, settings: tuple[str, ...]) -> None:
    """Say every mistake of a recipe, or that there is none. Exit code 2 if there is one."""
    found = read_recipe(name)
    extract, train = found.build(settings)
    sections = "extract" if train is None else "extract and train"
    for name, stream in train.streams.items() if train else ():
        for line in stream.without_effect():
            say(f"warning: train.streams.{name}: {line}")
    write_line(f"{found.path} is right: {sections}; digest of extract {params.digest(extract)}")
