"""Data set + recipe + options -> ExtractJob: everything that an extraction is told, once."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from flowpipe.datasets import Dataset
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.run.options import RunOptions


@dataclass(frozen=True)
class ExtractJob:
    """One extraction: videos, recipe and run settings; made by `flowpipe.extract_job`.

    Examples
    --------
    >>> from pathlib import Path
    >>> job = ExtractJob(Dataset("list", (), ()), {}, ExtractRecipe(), RunOptions(Path("store")))
    >>> len(job.dataset.records), job.options.workers
    (0, 1)
    """

    dataset: Dataset
    source: dict[str, Any]
    """Data set options as plain values, recorded in the store."""
    recipe: ExtractRecipe
    options: RunOptions
    _: KW_ONLY
    allow_missing: bool = False
    """True if the run continues when videos of the data set are absent."""
    warning: str = ""
    """Warning of a slow replacement that the job uses; usually empty."""
    why_device: str = ""
    """Device and the reason for its choice; empty if the user chose it."""
