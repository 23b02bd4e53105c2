"""Catalogue -> the split videos whose parts do not match."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpipe.store.catalogue import Catalogue


def find_mismatched_rows(catalogue: Catalogue) -> NDArray[np.int64]:
    """Return rows of the first parts of complete split videos whose parts do not match.

    Two neighbouring parts do not match if their source files differ in size or modification time,
    or if they decoded different frames at the cut.

    Parameters
    ----------
    catalogue : Catalogue
        Tables of the store.

    Returns
    -------
    int64 (n,)
        Rows in the order of the catalogue.
    """
    columns = catalogue.columns
    whole = catalogue.complete.astype(np.int64)
    whole = whole[columns["parts"][whole] > 1]
    parts = columns["parts"][whole].astype(np.int64)
    video = np.repeat(np.arange(len(whole)), parts - 1)
    # Row of the part before each cut; the parts of a video are consecutive rows.
    before = whole[video] + _count_up(parts - 1)
    differs = columns["seam_crc32"][before] != columns["first_crc32"][before + 1]
    for name in ("source_bytes", "source_mtime_ns"):
        differs |= columns[name][before] != columns[name][before + 1]
    torn: NDArray[np.int64] = whole[np.unique(video[differs])]
    return torn


def find_mismatched_ids(catalogue: Catalogue) -> set[str]:
    """Find the split videos whose parts do not match, see `find_mismatched_rows`.

    Parameters
    ----------
    catalogue : Catalogue
        Tables of the store.

    Returns
    -------
    set of str
        Their ids.
    """
    return {catalogue.ids[row] for row in find_mismatched_rows(catalogue).tolist()}


def _count_up(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0 ... n - 1 for each length n, joined."""
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - lengths, lengths)
