"""Selection -> a row per frame in HDF5, with the annotations of G-TAD for THUMOS14.

G-TAD reads every fifth row of flow and rgb and takes row n for frame n. Row n is therefore the row
whose centre is nearest to frame n: rows with a stride of 5 frames lose nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from flowpipe.atomic import atomic_file, write_atomic
from flowpipe.errors import UsageError
from flowpipe.features.layouts.selection import Selection

_STREAMS = ("flow", "rgb")
_PARTS = ("val", "test")
"""Parts of the data set, in the names of files and videos; G-TAD trains on ``val``."""


def write_gtad(chosen: Selection, out: Path) -> list[Path]:
    """Write the files of G-TAD for THUMOS14.

    Parameters
    ----------
    chosen : Selection
        Streams and videos; the streams must be rgb and flow. The subset of a video, ``test`` or
        ``testing`` or another one, is its part.
    out : Path
        Folder to write.

    Returns
    -------
    list of Path
        ``val_Annotation.csv`` and ``test_Annotation.csv``.

    Raises
    ------
    UsageError
        If the streams are others, or the frame rate of a video varies.
    """
    if set(chosen.streams) != set(_STREAMS):
        raise UsageError(
            "layout gtad takes the streams rgb and flow, and the chosen ones are "
            f"{', '.join(chosen.streams)}"
        )
    chosen.check_frame_times("extract the videos with a constant rate, such as --fps 25")
    parts = {key: _PARTS[chosen.subset(key).startswith("test")] for key in chosen.video_ids}
    # G-TAD looks for the part in the name of a video.
    names = {key: key if part in key else f"{part}_{key}" for key, part in parts.items()}
    chosen.begin(out)
    for stream in _STREAMS:
        for part in _PARTS:
            with atomic_file(out / f"{stream}_{part}.h5", "features") as draft:
                with h5py.File(draft, "w") as file:
                    for video_id in (key for key, own in parts.items() if own == part):
                        _write_rows(file, names[video_id], chosen, stream, video_id)
    for part in _PARTS:
        lines = ["video,type,type_idx,start,end,startFrame,endFrame"]
        for video_id in (key for key, own in parts.items() if own == part):
            fps = chosen.video(video_id).fps
            for one in chosen.instances(video_id):
                first, stop = round(one.start_s * fps), round(one.end_s * fps)
                lines.append(
                    f"{names[video_id]},{chosen.class_names[one.label]},{one.label + 1},"
                    f"{one.start_s:.3f},{one.end_s:.3f},{first},{stop}"
                )
        path = out / f"{part}_Annotation.csv"
        write_atomic(path, ("\n".join(lines) + "\n").encode(), "annotations")
    return [out / f"{part}_Annotation.csv" for part in _PARTS]


def _write_rows(file: Any, name: str, chosen: Selection, stream: str, video_id: str) -> None:
    centres = chosen.file.windows(video_id).centre_frame
    # Centres to the left of each frame's nearest row are nearer to other frames.
    between = (centres[:-1] + centres[1:]) / 2
    nearest = np.searchsorted(between, np.arange(chosen.video(video_id).frames))
    rows = chosen.rows_of(stream, video_id)[nearest]
    chunk = (min(64, len(rows)), rows.shape[1])  # equal rows are compressed
    file.create_dataset(name, data=rows, compression="gzip", chunks=chunk)
