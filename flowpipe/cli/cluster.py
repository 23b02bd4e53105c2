"""`flowpipe cluster scripts|config`: job scripts of Slurm, settings and TLS keys of Dask."""

from __future__ import annotations

from pathlib import Path

import click

from flowpipe.cli import Group
from flowpipe.cli.paths import FOLDER
from flowpipe.cli.screen import write_line
from flowpipe.recipes import pipelines_folder
from flowpipe.run.cluster.settings import write_settings


@click.group(cls=Group)
def cluster() -> None:
    """Run on many machines: job scripts for Slurm, settings for a Dask cluster."""


@cluster.command()
def scripts() -> None:
    """Print the folder of the Slurm job scripts: array.sh and dask.sh (extract), train.sh (train).

    \b
    cp $(flowpipe cluster scripts)/*.sh .
    """
    write_line(str(pipelines_folder() / "slurm"))


@cluster.command()
@click.argument("folder", type=FOLDER)
def config(folder: Path) -> None:
    """Write Dask settings and TLS keys to a new FOLDER.

    \b
    flowpipe cluster config ~/dask-config

    All nodes of the cluster must share FOLDER; only you can read it. Start the scheduler, the
    workers and `flowpipe extract --scheduler` with DASK_CONFIG=FOLDER/dask.yaml: they then use TLS
    only, and no other user can connect to them.
    """
    write_settings(folder)
