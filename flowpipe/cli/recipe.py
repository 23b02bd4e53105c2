"""`flowpipe recipe list|show|check`: names of recipes; one recipe in full; its mistakes."""

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
    help="Change one value: --set extract.bound=15 or --set train.streams.rgb.dropout=0.5.",
)  # fmt: skip


@click.group(cls=Group)
def recipe() -> None:
    """List, show and check recipes: the settings of extraction and training."""


@recipe.command("list")
def list_() -> None:
    """List the recipes that come with flowpipe, such as ucf101.

    \b
    flowpipe recipe list
    """
    print_table((name, read_recipe(name).summary) for name in known_names())


@recipe.command()
@_NAME
@_SETTINGS
def show(name: str, settings: tuple[str, ...]) -> None:
    """Print a recipe with every default written out, ready to copy and change.

    \b
    flowpipe recipe show ucf101 > mine.yaml
    """
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
    """Report every mistake in a recipe. Exit code: 0 if there is none, else 2.

    \b
    flowpipe recipe check mine.yaml
    """
    found = read_recipe(name)
    extract, train = found.build(settings)
    sections = "extract" if train is None else "extract and train"
    for name, stream in train.streams.items() if train else ():
        for line in stream.without_effect():
            say(f"warning: train.streams.{name}: {line}")
    write_line(f"{found.path} is valid: {sections}; digest of extract {params.digest(extract)}")
