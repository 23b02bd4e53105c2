"""Timestamps of a video + window + stride -> the windows of its rows, in frames and seconds.

Windows of 4 frames with a stride of 3, in a video of 12 frames::

    frame   0 1 2 3 4 5 6 7 8 9 10 11
    row 0   x x x x
    row 1         x x x x
    row 2               x x x x

Every window is complete: frames 10 and 11 have no row. A video shorter than a window has one row,
whose window is the whole video.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Unit = Literal["frames", "seconds"]
_CLOSE_S = 1e-6
"""Distance at which two times are equal, seconds."""
_RANGES: dict[Unit, tuple[float, float]] = {"frames": (1, 1e9), "seconds": (1e-3, 1e6)}
"""Shortest and longest extent of each unit."""


@dataclass(frozen=True)
class Extent:
    """Length of a window or of a stride."""

    value: float
    """Length; a whole number of frames, or seconds."""
    unit: Unit = "frames"

    def __post_init__(self) -> None:
        if self.unit == "frames" and self.value % 1 != 0:
            raise ValueError(f"wanted a whole number of frames, got {self.value:g}")
        low, high = _RANGES[self.unit]
        if not low <= self.value <= high:
            raise ValueError(f"wanted {low:g} to {high:.0f} {self.unit}, got {self.value:g}")

    def __str__(self) -> str:
        if self.unit == "seconds":
            return f"{self.value:g} s"
        return f"{self.value:g} frame{'' if self.value == 1 else 's'}"

    @property
    def facts(self) -> dict[str, Any]:
        """The length as JSON values: value and unit."""
        whole = self.unit == "frames"
        return {"value": int(self.value) if whole else self.value, "unit": self.unit}


@dataclass(frozen=True)
class Windows:
    """Windows of consecutive rows of one video."""

    start_frame: NDArray[np.int64]
    """First frame of each window, (R,)."""
    stop_frame: NDArray[np.int64]
    """Frame after the last one of each window, (R,)."""
    start_s: NDArray[np.float64]
    """Timestamp of the first frame, seconds, (R,)."""
    end_s: NDArray[np.float64]
    """Timestamp of the last frame plus the duration of a frame, seconds, (R,)."""

    def __len__(self) -> int:
        """Return the number of rows, R."""
        return len(self.start_frame)

    @property
    def centre_s(self) -> NDArray[np.float64]:
        """Centre of each window, seconds, (R,)."""
        return (self.start_s + self.end_s) / 2

    @property
    def centre_frame(self) -> NDArray[np.float64]:
        """Centre of each window, frames; a half between two frames, (R,)."""
        return (self.start_frame + self.stop_frame - 1) / 2


def frame_s(pts_s: NDArray[np.float64]) -> float:
    """Return the mean duration of a frame.

    Parameters
    ----------
    pts_s : float64 (N,)
        Timestamps of the frames, seconds.

    Returns
    -------
    float
        Seconds; 0 for a single frame.
    """
    return float((pts_s[-1] - pts_s[0]) / (len(pts_s) - 1)) if len(pts_s) > 1 else 0.0


def cut_windows(pts_s: NDArray[np.float64], window: Extent, stride: Extent) -> Windows:
    """Return the windows of a video.

    Parameters
    ----------
    pts_s : float64 (N,)
        Timestamps of its frames, seconds, increasing; one at least.
    window : Extent
        Length of a window.
    stride : Extent
        Distance of the starts of two windows. In seconds, a window begins with the frame that is
        shown at its time, so that rounding errors do not accumulate.

    Returns
    -------
    Windows
        One row at least.
    """
    count, duration = len(pts_s), frame_s(pts_s)
    start_s, end_s = float(pts_s[0]), float(pts_s[-1]) + duration
    if stride.unit == "frames":
        starts = np.arange(0, count, int(stride.value))
    else:
        times = np.arange(start_s, end_s - _CLOSE_S, stride.value)
        starts = np.searchsorted(pts_s, times + _CLOSE_S, side="right") - 1
    if window.unit == "frames":
        stops = starts + int(window.value)
        complete = stops <= count
    else:
        ends = pts_s[starts] + window.value
        stops = np.maximum(np.searchsorted(pts_s, ends - _CLOSE_S), starts + 1)
        complete = ends <= end_s + _CLOSE_S
    if not complete.any():
        starts, stops, complete = np.zeros(1, int), np.array([count]), np.ones(1, bool)
    first, stop = starts[complete].astype(np.int64), stops[complete].astype(np.int64)
    return Windows(first, stop, pts_s[first], pts_s[stop - 1] + duration)
