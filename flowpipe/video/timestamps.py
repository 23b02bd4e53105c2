"""Raw timestamps -> strictly increasing seconds; seconds -> ticks of a resampled video.

Decoders return frames in display order, so if order and timestamps disagree, the timestamps are
wrong: AVI has none, and FFmpeg numbers its frames in coded order. The repair keeps every frame in
its order, and sorts the timestamps of a few neighbouring frames.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

LOOK_AHEAD = 4
"""Frames held back to sort timestamps; also the number of decoded pictures kept in memory."""
MAX_GAP_S = 3600.0
"""Longest gap between two frames, seconds. A longer one is a wrong timestamp, not a pause, unless
the duration in the header covers it."""
TOLERANCE_S = 0.501e-3
"""Largest delay of a frame behind its tick, seconds. Matroska, WebM, ASF and FLV round timestamps
to milliseconds; without it, resampling 30 frames per second to 30 loses one frame in three."""


class Timeline(Generic[T]):
    """Repairs timestamps: (pts or None, frame) in display order -> (seconds, frame), increasing.

    - A missing timestamp becomes `first_s`, or the previous one plus `step_s`, plus `step_s` for
      each frame that is `missing`: ``pts_missing``.
    - Timestamps out of order within `LOOK_AHEAD` frames are sorted: ``pts_reordered``.
    - A timestamp that still does not increase becomes the previous one plus a quarter of `step_s`:
      ``pts_repeated``.
    - A few timestamps far ahead of both neighbours are spread between these: ``pts_jump``.
    - After a jump, backwards or by more than `MAX_GAP_S` and beyond `declared_end_s`, time
      continues at `step_s` after the previous frame: ``pts_jump``.

    ``notes`` counts each repair.

    Parameters
    ----------
    step_s : float
        Frame interval, seconds.
    declared_end_s : float
        Time up to which gaps of any length are accepted, seconds.
    """

    def __init__(self, step_s: float, declared_end_s: float = -math.inf) -> None:
        self.step_s = step_s
        self.first_s = 0.0
        """Time of the first frame if it has no timestamp, seconds."""
        self._declared_end_s = declared_end_s + step_s
        self.notes: Counter[str] = Counter()
        self.timed = 0
        """Number of frames with a timestamp."""
        self.missing = 0
        """Number of frames missing before the next frame without a timestamp."""
        self.shift_s = 0.0
        """Time minus timestamp since the last jump, seconds."""
        self._back_s = max(1.0, 2 * LOOK_AHEAD * step_s)
        self._newest_s: float | None = None
        self._last_s: float | None = None
        self._frames: deque[tuple[float, T]] = deque()
        self._times: list[float] = []

    def order(self, frames: Iterable[tuple[float | None, T]]) -> Iterator[tuple[float, T]]:
        """Yield every frame with its repaired time; holds at most `LOOK_AHEAD` of them back.

        Parameters
        ----------
        frames : iterable of (float or None, T)
            Timestamp, seconds, and frame, as decoded.

        Yields
        ------
        (float, T)
            Repaired time, seconds, and frame.
        """
        for pts_s, frame in frames:
            time_s = self.place(pts_s)
            self._frames.append((time_s, frame))
            heapq.heappush(self._times, time_s)
            if len(self._frames) > LOOK_AHEAD:
                yield self._next()
        while self._frames:
            yield self._next()

    def place(self, pts_s: float | None) -> float:
        """Repair a missing timestamp, or one behind a jump.

        Parameters
        ----------
        pts_s : float or None
            Timestamp of the next frame, seconds.

        Returns
        -------
        float
            Time of the frame before `order` sorts it, seconds.
        """
        newest = self._newest_s
        if pts_s is None:
            self.notes["pts_missing"] += 1
            time_s = self.first_s if newest is None else newest + self.step_s
            time_s += self.missing * self.step_s
            self.missing = 0
        else:
            self.timed += 1
            time_s = pts_s + self.shift_s
            if newest is not None and not (
                newest - self._back_s <= time_s <= max(newest + MAX_GAP_S, self._declared_end_s)
            ):
                self.notes["pts_jump"] += 1
                if self._spread_outliers(time_s):
                    newest = time_s
                else:
                    time_s = newest + self.step_s
                    self.shift_s = time_s - pts_s
        self._newest_s = time_s if newest is None else max(newest, time_s)
        return time_s

    def _spread_outliers(self, time_s: float) -> bool:
        """Repair the times of the latest frames if they alone are ahead of a frame at `time_s`."""
        times = [own_s for own_s, _ in self._frames]
        kept = sum(own_s < time_s for own_s in times)
        before_s = times[kept - 1] if kept else self._last_s
        is_ahead = kept < len(times) and times == sorted(self._times)
        if not is_ahead or before_s is None or not 0 < time_s - before_s <= self._back_s:
            return False
        late = len(times) - kept
        times[kept:] = [before_s + (time_s - before_s) * (k + 1) / (late + 1) for k in range(late)]
        self._frames = deque(zip(times, (frame for _, frame in self._frames), strict=True))
        self._times = times  # ascending, so a heap
        return True

    def _next(self) -> tuple[float, T]:
        own_s, frame = self._frames.popleft()
        time_s = heapq.heappop(self._times)
        if time_s != own_s:
            self.notes["pts_reordered"] += 1
        if self._last_s is not None and time_s <= self._last_s:
            self.notes["pts_repeated"] += 1
            time_s = self._last_s + self.step_s / 4
        self._last_s = time_s
        return time_s, frame


class Ticks:
    """Ticks ``origin_s + k / fps`` of a resampled video, from `start_s` on.

    Tick k shows the last frame whose time is at most that of the tick plus `TOLERANCE_S`. The last
    tick is not later than the last frame, so a video that already has `fps` keeps every frame.
    Ticks belong to the span that contains their time, ``start_s <= tick < stop_s``.

    Parameters
    ----------
    origin_s : float
        Time of tick 0, seconds.
    fps : float
        Ticks per second.
    start_s : float
        Start of the span, seconds.
    """

    def __init__(self, origin_s: float, fps: float, start_s: float) -> None:
        self.origin_s = origin_s
        self.fps = fps
        self.k = 0
        if start_s > origin_s:
            self.k = max(0, math.floor((start_s - origin_s) * fps) - 1)
            while self.time_s < start_s:
                self.k += 1

    @property
    def time_s(self) -> float:
        """Time of the next tick, seconds."""
        return self._at(self.k)

    def shows(self, frame_s: float, next_frame_s: float) -> bool:
        """Return whether any tick shows a frame.

        Parameters
        ----------
        frame_s : float
            Time of the frame, seconds.
        next_frame_s : float
            Time of the next frame, seconds.

        Returns
        -------
        bool
            True if a tick, in this span or another, shows the frame.
        """
        k = max(0, math.ceil((frame_s - TOLERANCE_S - self.origin_s) * self.fps) - 1)
        while self._at(k) + TOLERANCE_S < frame_s:
            k += 1
        return self._at(k) + TOLERANCE_S < next_frame_s

    def _at(self, k: int) -> float:
        return self.origin_s + k / self.fps

    def due(self, next_frame_s: float) -> Iterator[float]:
        """Advance past the ticks before a frame.

        Parameters
        ----------
        next_frame_s : float
            Time of the frame, seconds.

        Yields
        ------
        float
            Time of each tick, seconds.
        """
        while self.time_s + TOLERANCE_S < next_frame_s:
            yield self.time_s
            self.k += 1
