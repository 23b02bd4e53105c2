"""Recipe + Ops -> the writer of a shard, and descriptions of its failures."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from flowpipe import __version__, params
from flowpipe.audio import librosa_version
from flowpipe.errors import UnwritableError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.flow import FLOWS
from flowpipe.modality import FLOOR_DB, quantiser_of
from flowpipe.ops import Ops
from flowpipe.store import ShardWriter, StreamSpec


def open_writer(path: Path, made: ExtractRecipe, ops: Ops) -> ShardWriter:
    """Begin a shard that records its recipe and backend.

    Parameters
    ----------
    path : Path
        Final name of the shard.
    made : ExtractRecipe
        Recipe of the images.
    ops : Ops
        Operations of the device that computes.

    Returns
    -------
    ShardWriter
        Its writer.
    """
    flow = flow_backend(made, ops)
    streams = {
        name: StreamSpec(
            made.codecs[name],
            quantiser_of(name, made.bound, made.audio.floor_db if made.audio else FLOOR_DB),
        )
        for name in made.modalities
    }
    with describe_failure(path):
        return ShardWriter(
            path,
            recipe=params.canonical(made),
            recipe_digest=params.digest(made),
            backend={
                "ops": ops.name,
                **({"flow": flow} if flow else {}),
                "flowpipe": __version__,
                "numpy": np.__version__,
                "opencv": cv2.__version__,
                **({"librosa": librosa_version()} if made.sounds else {}),
                "machine": platform.machine(),
            },
            streams=streams,
        )


def flow_backend(made: ExtractRecipe, ops: Ops) -> str:
    """Return the name of the backend that computes a recipe's flow.

    Parameters
    ----------
    made : ExtractRecipe
        Recipe of the images.
    ops : Ops
        Operations of the device that computes.

    Returns
    -------
    str
        Name; empty without flow.
    """
    if not made.flows:
        return ""
    return FLOWS[made.flow.name].ran_on(ops)


@contextmanager
def describe_failure(path: Path) -> Iterator[None]:
    """Raise UnwritableError, which stops the run, if the block cannot write the shard `path`.

    Parameters
    ----------
    path : Path
        The shard.
    """
    try:
        yield
    except OSError as error:
        raise UnwritableError(
            f"{path} cannot be written on {platform.node()}: {error}; finished shards stay; repair "
            "the disk and run the same command again"
        ) from error
