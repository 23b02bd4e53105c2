"""Matches, candidate homographies -> the one that the background follows, and whether to trust it.

Two motions compete where a foreground fills much of the frame, and the larger number of matches may
be the foreground's. The background reaches the borders of the frame on all sides. So the border
decides, cell by cell, not the number of matches.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.ops import Ops, Points

COLUMNS, ROWS = 16, 12
"""Cells that the matched part of the frame is divided into."""
RING_VOTES = (50, 20)
"""Votes of a cell at the border, and of one in the ring within; cells further in have one vote."""
LOWER_SHARE = 0.4
"""Factor of those votes at the lower border, which people and things close to the camera cover."""
HELD = 1 / 3
"""Share of a cell's matches; a homography that more of them agree with holds the cell."""
RIVAL = 0.5
"""Share of the chosen motion's votes; another motion with more makes the choice uncertain."""
AGREED = 0.6
"""Share of the votes of all cells with matches; a chosen motion with less is uncertain."""

PITCH = 1 / 24
"""Distance of border points from each other and from the border, as a share of the short side."""
RINGS = 2
PATCH_PX = 9
TEXTURE_LEVELS = 8
"""Least range of gray levels about a border point. Flow is undefined in flat parts of a frame, and
in black bars it is always zero."""
SMALLEST_SIDE = 16


def border_points(ops: Ops, gray: Any, mask: NDArray[np.uint8] | None = None) -> list[Points]:
    """Return points near the border of frames to follow with the flow, evenly spread.

    Corners gather where texture is strong, often on a person; the background may have few of them
    and nevertheless a flow. AKAZE has no keypoints near the border.

    Parameters
    ----------
    ops : Ops
        Backend that holds the frames.
    gray : uint8 (N, H, W)
        Where the backend computes.
    mask : uint8 (N, H, W), optional
        No points where it is 0.

    Returns
    -------
    list of N float32 (C, 2)
        Points x, y in pixels; none in frames under 16 pixels a side, nor where the frame is
        flat.
    """
    if min(gray.shape[1:]) < SMALLEST_SIDE:
        return [np.empty((0, 2), np.float32)] * len(gray)
    points, patches = _lattice(*gray.shape[1:])
    kept = ops.features.level_ranges(gray, patches) >= TEXTURE_LEVELS
    if mask is not None:
        middle = patches[:, PATCH_PX * PATCH_PX // 2]
        kept &= mask.reshape(len(mask), -1)[:, middle] != 0
    return [points[rows] for rows in kept]


@lru_cache(maxsize=8)
def _lattice(height: int, width: int) -> tuple[Points, NDArray[np.int64]]:
    """Return points (C, 2) of the two outer rings, and flat indices (C, 81) of pixels near them."""
    pitch = PITCH * min(height, width)
    x, y = (
        np.unique(np.rint(np.linspace(pitch, size - 1 - pitch, round(size / pitch) - 1)))
        for size in (width, height)
    )
    x, y = x.astype(np.int64), y.astype(np.int64)
    row, column = np.mgrid[: len(y), : len(x)]
    outer = _depth(row, column, len(y), len(x)) < RINGS
    y, x = y[row[outer]], x[column[outer]]
    reach = np.arange(PATCH_PX) - PATCH_PX // 2
    about_y = np.clip(y[:, None, None] + reach[:, None], 0, height - 1)
    about_x = np.clip(x[:, None, None] + reach, 0, width - 1)
    patches = (about_y * width + about_x).reshape(len(x), -1)
    return np.stack([x, y], axis=1).astype(np.float32), patches


def choose_background(
    points: Points,
    homographies: NDArray[np.float64],
    agree: NDArray[np.bool_],
    distinct_px: float,
) -> tuple[int, bool]:
    """Choose the homography that holds the border of the frame.

    Each cell goes to the homography that most of its matches agree with; its votes depend on how
    close it is to the border of the part of the frame that has matches.

    Parameters
    ----------
    points : float32 (M, 2)
        Matches in the first frame.
    homographies : float64 (K, 3, 3)
        At least one.
    agree : bool (K, M)
        True where a match agrees with a homography.
    distinct_px : float
        Homographies that differ by less than this in the mean of the matched part are one motion.

    Returns
    -------
    chosen : int
        Index of the homography.
    uncertain : bool
        True if a distinct motion comes close, or much of the border agrees with none.
    """
    x, y = np.ascontiguousarray(points.T)
    cell = _cells(y, ROWS) * COLUMNS + _cells(x, COLUMNS)
    matches = np.bincount(cell, minlength=ROWS * COLUMNS)
    counts = np.array([np.bincount(cell[marked], minlength=len(matches)) for marked in agree])
    holds = (counts == counts.max(axis=0)) & (counts > HELD * matches)
    # Cells in which equally many matches agree with both homographies count for neither.
    alone = holds & (holds.sum(axis=0) == 1)
    votes = (alone * _votes()).sum(axis=1)
    chosen = int(np.argmax(votes))
    there = _transform_grid(
        homographies, np.linspace(x.min(), x.max(), 8), np.linspace(y.min(), y.max(), 6)
    )
    off = there - there[chosen]
    apart = np.hypot(off[:, 0], off[:, 1]).mean(axis=(1, 2)) > distinct_px
    rival = votes[apart].max(initial=0)
    leader = _votes()[holds[chosen]].sum()
    asked = _votes()[matches > 0].sum()
    return chosen, bool(rival > RIVAL * leader or leader < AGREED * asked)


def _cells(values: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the number of the equal part, of `count`, of the range that each value lies in."""
    low, high = values.min(), values.max()
    scale = np.float32(count) / max(high - low, np.float32(1))
    part: NDArray[np.intp] = ((values - low) * scale).astype(np.intp)
    np.minimum(part, count - 1, out=part)
    return part


@lru_cache(maxsize=1)
def _votes() -> NDArray[np.int64]:
    """Return the votes of each cell, (ROWS * COLUMNS,)."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    depth = _depth(row, column, ROWS, COLUMNS)
    lowest = (ROWS - 1 - row == depth) & (np.minimum(column, COLUMNS - 1 - column) > depth)
    weights = np.array([*RING_VOTES, *[1] * ROWS])[depth]
    return (
        np.where(lowest, np.maximum(np.rint(LOWER_SHARE * weights), 1), weights)
        .astype(np.int64)
        .ravel()
    )


def _depth(
    row: NDArray[np.int64], column: NDArray[np.int64], rows: int, columns: int
) -> NDArray[np.int64]:
    """Return the number of cells between a cell and the nearest side."""
    return np.minimum(np.minimum(row, rows - 1 - row), np.minimum(column, columns - 1 - column))


def _transform_grid(homographies: NDArray[np.float64], x: Any, y: Any) -> NDArray[np.float64]:
    """Return the points of a grid mapped by each homography, (K, 2, Y, X)."""
    h = homographies.reshape(-1, 3, 3, 1, 1)
    u, v, w = (h[:, k, 0] * x + h[:, k, 1] * y[:, None] + h[:, k, 2] for k in range(3))
    return np.stack([u / w, v / w], axis=1)
