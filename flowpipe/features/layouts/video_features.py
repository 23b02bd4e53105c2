"""Selection -> .npy files with the names of video_features: VIDEO_rgb.npy, VIDEO_flow.npy ..."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowpipe.features.file_format import FeatureVideo
from flowpipe.features.layouts.selection import Selection, file_names, write_array


def write_video_features(chosen: Selection, out: Path) -> list[Path]:
    """Write the files of video_features.

    A video has a file for each stream, ``fps``, and ``timestamps_ms``, which are the times of the
    last frame of each row, as those of I3D.

    Parameters
    ----------
    chosen : Selection
        Streams and videos.
    out : Path
        Folder to write.

    Returns
    -------
    list of Path
        Empty: there are no lists.
    """
    chosen.begin(out)
    paths = [chosen.video(video_id).record.path for video_id in chosen.video_ids]
    for name, video_id in zip(file_names(paths, chosen.video_ids), chosen.video_ids, strict=True):
        video, windows = chosen.video(video_id), chosen.file.windows(video_id)
        for stream in chosen.streams:
            write_array(out / f"{name}_{stream}.npy", chosen.rows_of(stream, video_id))
        write_array(out / f"{name}_fps.npy", np.array(video.fps))
        last_s = windows.end_s - _frame_s(video)
        write_array(out / f"{name}_timestamps_ms.npy", 1000 * last_s)
    return []


def _frame_s(video: FeatureVideo) -> float:
    return 1 / video.fps if video.fps else 0.0
