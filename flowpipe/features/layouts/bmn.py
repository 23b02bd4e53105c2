"""Selection -> 100 rows per video in csv and HDF5, with the annotations of BSN, BMN and G-TAD."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from flowpipe.atomic import atomic_file, write_atomic
from flowpipe.features.layouts.selection import Selection, make_folder

ROWS = 100
"""Rows of a video of any length."""
_SAMPLES = 3
_FEATURES, _ANNOTATIONS = f"csv_mean_{ROWS}", "anet_anno_action.json"
_VIDEOS = "video_info_new.csv"


def resize_rows(
    rows: NDArray[np.float32], centre_s: NDArray[np.float64], covered_s: float, count: int = ROWS
) -> NDArray[np.float64]:
    """Interpolate the rows of a video linearly in time, as BSN does.

    The time that rows cover is divided into bins of equal length. A new row is the mean of the
    values at the start, the centre and the end of its bin. Before the centre of the first row, and
    after that of the last one, their values continue; BSN has zeros in bins there.

    Parameters
    ----------
    rows : float32 (R, D)
        Rows of the video.
    centre_s : float64 (R,)
        Centre of each row, seconds after the start of the video.
    covered_s : float
        End of the last window, seconds after the start of the video.
    count : int
        Number of new rows.

    Returns
    -------
    float64 (count, D)
        The new rows.
    """
    edges = np.linspace(0, covered_s, count + 1).clip(centre_s[0], centre_s[-1])
    times = np.linspace(edges[:-1], edges[1:], _SAMPLES, axis=1).reshape(-1)
    right = np.searchsorted(centre_s, times).clip(1, max(1, len(rows) - 1))
    left = right - 1
    right = np.minimum(right, len(rows) - 1)
    gaps = centre_s[right] - centre_s[left]
    weight = np.where(gaps > 0, (times - centre_s[left]) / np.where(gaps > 0, gaps, 1), 0)[:, None]
    values = rows[left] * (1 - weight) + rows[right] * weight
    made: NDArray[np.float64] = values.reshape(count, _SAMPLES, -1).mean(1)
    return made


def write_bmn(chosen: Selection, out: Path) -> list[Path]:
    """Write the files of BSN and BMN, csv, and of G-TAD, HDF5.

    Parameters
    ----------
    chosen : Selection
        Streams and videos.
    out : Path
        Folder to write.

    Returns
    -------
    list of Path
        ``anet_anno_action.json`` and ``video_info_new.csv``.
    """
    chosen.begin(out)
    videos, annotations = ["video,numFrame,seconds,fps,rfps,subset,featureFrame"], {}
    with (
        atomic_file(out / f"{_FEATURES}.hdf5", "features") as draft,
        h5py.File(draft, "w") as file,
    ):
        for video_id in chosen.video_ids:
            file[video_id] = _write_rows(chosen, video_id, out / _FEATURES / f"{video_id}.csv")
    for video_id in chosen.video_ids:
        video, windows = chosen.video(video_id), chosen.file.windows(video_id)
        duration_s = chosen.duration_s(video_id)
        # The codes take feature_frame / duration_frame for the share of the duration with rows.
        covered_s = float(windows.end_s[-1]) - video.start_s
        covered = round(covered_s / duration_s * video.frames) or video.frames  # of a single frame
        annotations[video_id] = {
            "duration_second": duration_s,
            "duration_frame": video.frames,
            "annotations": [
                {"segment": [one.start_s, one.end_s], "label": chosen.class_names[one.label]}
                for one in chosen.instances(video_id)
            ],
            "feature_frame": covered,
        }
        subset = chosen.subset(video_id)
        videos.append(
            f"{video_id},{video.frames},{duration_s:.6f},{video.fps:.6f},{video.fps:.6f},{subset},"
            f"{covered}"
        )
    write_atomic(out / _ANNOTATIONS, json.dumps(annotations, indent=1).encode(), "annotations")
    write_atomic(out / _VIDEOS, ("\n".join(videos) + "\n").encode(), "annotations")
    return [out / _ANNOTATIONS, out / _VIDEOS]


def _write_rows(chosen: Selection, video_id: str, path: Path) -> NDArray[np.float32]:
    """Write the rows of a video as csv, and return them, float32 (100, D)."""
    windows, start_s = chosen.file.windows(video_id), chosen.video(video_id).start_s
    covered_s = float(windows.end_s[-1]) - start_s
    rows = resize_rows(chosen.rows(video_id), windows.centre_s - start_s, covered_s)
    lines = [",".join(f"f{k}" for k in range(rows.shape[1]))]
    lines += [",".join(f"{value:.7g}" for value in row) for row in rows]
    make_folder(path.parent)
    write_atomic(path, ("\n".join(lines) + "\n").encode(), "features")
    made: NDArray[np.float32] = rows.astype(np.float32)
    return made
