"""Split videos of a store -> those whose parts do not fit together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpipe.store.catalogue import Catalogue


def torn_rows(catalogue: Catalogue) -> NDArray[np.int64]:
    """Rows of the first parts of torn videos: other bytes or another frame on both sides of a cut.

    Returns
    -------
    int64 (n,)
        In the order of the catalogue.
    """
    columns = catalogue.columns
    whole = catalogue.whole.astype(np.int64)
    whole = whole[columns["parts"][whole] > 1]
    parts = columns["parts"][whole].astype(np.int64)
    video = np.repeat(np.arange(len(whole)), parts - 1)
    # The part before each cut: parts of a video follow each other.
    before = whole[video] + _count_up(parts - 1)
    differs = columns["seam_crc32"][before] != columns["first_crc32"][before + 1]
    for name in ("source_bytes", "source_mtime_ns"):
        differs |= columns[name][before] != columns[name][before + 1]
    torn: NDArray[np.int64] = whole[np.unique(video[differs])]
    return torn


def torn_ids(catalogue: Catalogue) -> set[str]:
    """Ids of the torn videos, see `torn_rows`."""
    return {catalogue.ids[row] for row in torn_rows(catalogue).tolist()}


def _count_up(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 ... n - 1 for each length n."""
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - lengths, lengths)
