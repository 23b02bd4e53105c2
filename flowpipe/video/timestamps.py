"""Timestamps as files have them -> strictly increasing seconds, and the clock that resamples them.

Decoders put frames out in the order they are to be shown, so where order and timestamps disagree it
is the timestamps that are wrong: AVI has none, and FFmpeg then numbers frames in coded order. The
repair keeps every frame and its place, and hands the timestamps of a few neighbouring frames out in
ascending order.
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
"""A longer silence between two frames is taken for a broken timestamp, not for a pause, unless the
header declares a duration that covers it."""
TOLERANCE_S = 0.501e-3
"""A frame may be this late for a tick and still count: Matroska, WebM, ASF and FLV round timestamps
to milliseconds, and without it 30 frames per second resampled to 30 lose one frame in three."""


class Timeline(Generic[T]):
    """Turns (pts or None, frame) in showing order into (seconds, frame), strictly increasing.

    - A missing timestamp becomes `first_s` or the previous one plus `step_s`, and as much again for
      each frame that is `missing`: ``pts_missing``.
    - Timestamps out of order within `LOOK_AHEAD` frames are sorted: ``pts_reordered``.
    - One that still does not increase follows its predecessor by a quarter of `step_s`:
      ``pts_repeated``.
    - A few that are far ahead of their neighbours on both sides are wrong; they are spread between
      these: ``pts_jump``.
    - After a jump, backwards or by more than `MAX_GAP_S` and beyond `declared_end_s`, time goes on
      from where it was with `step_s`: ``pts_jump``.

    ``notes`` counts each of them.

    Parameters
    ----------
    step_s : float
        Frame interval, seconds.
    declared_end_s : float
        Time up to which the container's header supports silences of any length, seconds.
    """

    def __init__(self, step_s: float, declared_end_s: float = -math.inf) -> None:
        self.step_s = step_s
        self.first_s = 0.0
        """Time of the first frame if it has no timestamp, seconds."""
        self._declared_end_s = declared_end_s + step_s
        self.notes: Counter[str] = Counter()
        self.timed = 0
        """Frames that came with a timestamp."""
        self.missing = 0
        """Frames known to be missing before the next one that has no timestamp."""
        self._back_s = max(1.0, 2 * LOOK_AHEAD * step_s)
        self._shift_s = 0.0
        self._newest_s: float | None = None
        self._last_s: float | None = None
        self._frames: deque[tuple[float, T]] = deque()
        self._times: list[float] = []

    def order(self, frames: Iterable[tuple[float | None, T]]) -> Iterator[tuple[float, T]]:
        """Yield every frame with its repaired time; holds at most `LOOK_AHEAD` of them back."""
        for pts_s, frame in frames:
            time_s = self._place(pts_s)
            self._frames.append((time_s, frame))
            heapq.heappush(self._times, time_s)
            if len(self._frames) > LOOK_AHEAD:
                yield self._next()
        while self._frames:
            yield self._next()

    def _place(self, pts_s: float | None) -> float:
        newest = self._newest_s
        if pts_s is None:
            self.notes["pts_missing"] += 1
            time_s = self.first_s if newest is None else newest + self.step_s
            time_s += self.missing * self.step_s
            self.missing = 0
        else:
            self.timed += 1
            time_s = pts_s + self._shift_s
            if newest is not None and not (
                newest - self._back_s <= time_s <= max(newest + MAX_GAP_S, self._declared_end_s)
            ):
                self.notes["pts_jump"] += 1
                if self._spread_outliers(time_s):
                    newest = time_s
                else:
                    time_s = newest + self.step_s
                    self._shift_s = time_s - pts_s
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
    """The even grid ``origin_s + k / fps`` of a resampled video, restricted to one span.

    Tick k shows the last frame whose time is at most the tick's (plus `TOLERANCE_S`). The grid ends
    with the last tick that is not later than the last frame, so frames at `fps` themselves come out
    one to one. Ticks belong to the span that holds their time, ``start_s <= tick < stop_s``.
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
        """Time of the next tick."""
        return self._at(self.k)

    def shows(self, frame_s: float, next_frame_s: float) -> bool:
        """Tell whether any tick of the whole grid shows a frame, in this span or another."""
        k = max(0, math.ceil((frame_s - TOLERANCE_S - self.origin_s) * self.fps) - 1)
        while self._at(k) + TOLERANCE_S < frame_s:
            k += 1
        return self._at(k) + TOLERANCE_S < next_frame_s

    def _at(self, k: int) -> float:
        return self.origin_s + k / self.fps

    def due(self, next_frame_s: float) -> Iterator[float]:
        """Yield, and pass, the ticks that come before a frame at `next_frame_s`."""
        while self.time_s + TOLERANCE_S < next_frame_s:
            yield self.time_s
            self.k += 1
