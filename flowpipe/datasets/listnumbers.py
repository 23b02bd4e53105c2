"""Whole numbers after the paths of a list -> frame counts and labels.

Programs write different lists: ``num_frames label`` (tsn-pytorch), ``label label ...`` and
``num_frames label label ...`` (mmaction2, several classes a video), ``offset num_frames label ...``
(mmaction2, frame folders). The meaning of the numbers is decided once for the whole list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from statistics import median

from flowpipe.errors import FlowpipeError

FORMS = ("label ...", "num_frames label ...", "offset num_frames label ...")
"""Form of a line, indexed by how many numbers precede the labels."""

_PROBED = 8
_NEAR = 0.1
"""Relative difference up to which a listed count matches the frame count of the video."""
_FAR = 4
"""Factor of difference from the frame count of the video above which a number is no count."""


def numbers_before_labels(numbers: Sequence[str], full_path: Callable[[int], str]) -> int:
    """Return how many numbers precede the labels: an index of `FORMS`.

    Parameters
    ----------
    numbers : sequence of str
        Numbers of each line, separated by spaces.
    full_path : callable
        Function of the position of a line that returns its path on disk.

    Returns
    -------
    int
        Number of them.
    """
    least = most = numbers[0].count(" ") + 1
    distinct = [True, True, True]
    above = [True, True, True]
    largest = [0, 0, 0]
    counts = [1 << 62, 1 << 62, 1 << 62]
    for text in set(numbers):
        values = list(map(int, text.split()))
        least, most = min(least, len(values)), max(most, len(values))
        for before in range(min(3, len(values))):
            labels = values[before:]
            distinct[before] &= len(set(labels)) == len(labels)
            largest[before] = max(largest[before], *labels)
            if before:
                counts[before] = min(counts[before], values[before - 1])
        if len(values) > 2:
            above[2] &= values[0] <= values[1]
    if most == 1:
        return 0
    above[1], above[2] = counts[1] > largest[1], above[2] and counts[2] > largest[2]
    possible = [before for before in (1, 2) if least > before and distinct[before]]
    real = _real_frames(numbers, full_path)
    for before in possible:
        if real and median(_off(numbers[k], before, frames) for k, frames in real) <= 1 + _NEAR:
            return before
    if least == most == 2 and distinct[1]:
        far = [_off(numbers[k], 1, frames) > _FAR for k, frames in real]
        if not distinct[0] or above[1] or not real or sum(far) * 2 < len(far):
            return 1
    for before in possible:
        if above[before]:
            return before
    return 0 if distinct[0] or not possible else possible[0]


def _real_frames(numbers: Sequence[str], full_path: Callable[[int], str]) -> list[tuple[int, int]]:
    """Return positions and frame counts, from file headers, of the first few existing videos."""
    from flowpipe.video import probe  # it imports PyAV

    found = []
    for position in islice(range(len(numbers)), _PROBED):
        try:
            frames = probe(full_path(position)).frames_estimate
        except (FlowpipeError, OSError, ValueError):
            continue
        if frames:
            found.append((position, frames))
    return found


def _off(text: str, before: int, frames: int) -> float:
    """Return the factor, at least 1, between a listed and a real frame count."""
    listed = int(text.split()[before - 1])
    if abs(listed - frames) <= 1:
        return 1.0
    return max(listed, frames) / max(1, min(listed, frames))
