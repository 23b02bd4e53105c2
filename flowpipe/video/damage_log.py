"""Pictures with the damage around them -> the ranges of damaged frames of a video."""

from __future__ import annotations

from dataclasses import replace

from flowpipe.types import Damage
from flowpipe.video.damage import DecodedPicture

RUNS_KEPT = 1000
"""Largest number of ranges of damaged frames that are recorded for a video."""


class DamageLog:
    """Collects the damaged and lost frames of one span as ranges.

    Attributes
    ----------
    stored : int
        Number of frames stored so far.
    """

    def __init__(self) -> None:
        self.stored = 0
        self._runs: list[Damage] = []
        self._open = False

    @property
    def runs(self) -> tuple[Damage, ...]:
        """The `RUNS_KEPT` longest ranges, in the order of the frames."""
        longest = sorted(self._runs, key=lambda run: -run.frames)[:RUNS_KEPT]
        return tuple(sorted(longest, key=lambda r: (r.frame, r.time_s, r.what != "lost")))

    def add(self, time_s: float, shown: DecodedPicture) -> None:
        """Take the next frame, which will be stored as number `stored`.

        Parameters
        ----------
        time_s : float
            Time of the frame, seconds.
        shown : DecodedPicture
            The frame, and the damage before it.
        """
        self._lose(shown.lost, time_s)
        if not shown.damaged:
            self._open = False
        elif not self._open:
            self._runs.append(Damage("damaged", self.stored, time_s, 1))
            self._open = True
        else:
            self._runs[-1] = replace(self._runs[-1], frames=self._runs[-1].frames + 1)

    def end(self, lost: int, time_s: float) -> None:
        """Record frames that are missing after the last one.

        Parameters
        ----------
        lost : int
            Number of missing frames.
        time_s : float
            Time of the last frame, seconds.
        """
        self._lose(lost, time_s)

    def _lose(self, lost: int, time_s: float) -> None:
        if lost:
            self._runs.append(Damage("lost", self.stored, time_s, lost))
            self._open = False
