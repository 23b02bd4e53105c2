"""A VideoRecord with segments -> its instances, the training samples of untrimmed sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowpipe.types import VideoRecord


@dataclass(frozen=True, slots=True)
class Instance:
    """Annotated time interval of a video, used as one training sample."""

    name: str
    """``<video id>_<k>``, k counting the segments of the record from 0, as TSN names them."""
    video_id: str
    label: int
    start_s: float
    end_s: float

    def frames(self, pts_s: NDArray[np.float64]) -> tuple[int, int]:
        """Return the frames with a time in [start_s, end_s).

        Parameters
        ----------
        pts_s : float64 (T,)
            Timestamps of the video's frames, increasing. A segment that reaches beyond the video
            is cut to it; count is 0 where nothing is left.

        Returns
        -------
        first : int
            Number of the first frame.
        count : int
            Number of frames.
        """
        first, end = np.searchsorted(pts_s, (self.start_s, self.end_s), side="left")
        return int(first), max(0, int(end - first))


def instances(record: VideoRecord) -> tuple[Instance, ...]:
    """Return the instances of a video.

    Parameters
    ----------
    record : VideoRecord
        The video.

    Returns
    -------
    tuple of Instance
        Instances, in the order of the segments.
    """
    return tuple(
        Instance(f"{record.video_id}_{k}", record.video_id, s.label, s.start_s, s.end_s)
        for k, s in enumerate(record.segments)
    )
