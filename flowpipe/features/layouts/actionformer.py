"""Selection -> .npy per video, annotations in JSON and settings of ActionFormer and OpenTAD.

Both take row k for the time (k * feat_stride + num_frames / 2) / fps, and the rate of each video
from the annotations: ActionFormer from ``fps``, OpenTAD from ``frame`` / ``duration``. A video
shorter than the window has one row, whose window is the whole video. It gets the rate at which it
has `num_frames` frames, so that its row lies at its centre, and not behind its end.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flowpipe.atomic import write_atomic
from flowpipe.errors import UsageError
from flowpipe.features.layouts.selection import Selection, write_array

_ACTIONFORMER = """\
# The dataset section of a configuration of ActionFormer. Subsets of the videos: {subsets}
train_split: {train}
val_split: {val}
dataset: {{
  json_file: {annotations},
  feat_folder: {features},
  file_prefix: ~,
  file_ext: .npy,
  num_classes: {classes},
  input_dim: {columns},
  feat_stride: {stride},
  num_frames: {window},
  default_fps: ~,
  downsample_rate: 1,
}}
"""
_OPENTAD = """\
# Settings of the datasets of a configuration of OpenTAD. Subsets of the videos: {subsets}
annotation_path = {annotations}
class_map = {class_map}
data_path = {features}
feature_settings = dict(
    ann_file=annotation_path,
    class_map=class_map,
    data_path=data_path,
    feature_stride={stride},
    sample_stride=1,
    offset_frames={offset},
)  # of {columns} columns; load them by dict(type="LoadFeats", feat_format="npy")
"""


def write_actionformer(chosen: Selection, out: Path) -> list[Path]:
    """Write the files of ActionFormer and OpenTAD.

    Parameters
    ----------
    chosen : Selection
        Streams and videos.
    out : Path
        Folder to write.

    Returns
    -------
    list of Path
        ``annotations.json``, ``category_idx.txt``, ``actionformer.yaml`` and ``opentad.py``.

    Raises
    ------
    UsageError
        If no chosen video has an instance, window and stride are in different units, or they are in
        frames and the frame rate of a video varies.
    """
    stride, window, fps = chosen.stride_frames()
    if fps is None:
        chosen.check_frame_times("compute the features with --window and --stride in seconds")
    if not chosen.labels:
        raise UsageError(f"{chosen.file.path}: no chosen video has a label or an instance")
    chosen.begin(out)
    names = {label: chosen.class_names[label] for label in chosen.labels}
    numbers = {label: number for number, label in enumerate(names)}
    database: dict[str, dict[str, Any]] = {}
    for video_id in chosen.video_ids:
        write_array(out / "features" / f"{video_id}.npy", chosen.rows(video_id))
        duration_s = chosen.duration_s(video_id)
        frames = chosen.video(video_id).frames if fps is None else fps * duration_s
        frames = max(frames, window)
        database[video_id] = {
            "subset": chosen.subset(video_id),
            "duration": duration_s,
            "fps": frames / duration_s,
            "frame": frames,
            "annotations": [
                {
                    "label": names[one.label],
                    "label_id": numbers[one.label],
                    "segment": [one.start_s, one.end_s],
                }
                for one in chosen.instances(video_id)
            ],
        }
    subsets = sorted({video["subset"] for video in database.values()}, key=_order)
    values = {
        "annotations": json.dumps(str(out / "annotations.json")),
        "class_map": json.dumps(str(out / "category_idx.txt")),
        "features": json.dumps(str(out / "features")),
        "classes": len(names), "columns": chosen.columns, "stride": stride,
        "window": f"{window:g}", "offset": round(window / 2),
        "subsets": ", ".join(subsets) or "none",
        "train": [s.lower() for s in subsets[:1]], "val": [s.lower() for s in subsets[:2][-1:]],
    }  # fmt: skip
    files = {
        "annotations.json": json.dumps({"version": "flowpipe", "database": database}, indent=1),
        "category_idx.txt": "".join(f"{name}\n" for name in names.values()),
        "actionformer.yaml": _ACTIONFORMER.format(**values),
        "opentad.py": _OPENTAD.format(**values),
    }
    for name, text in files.items():
        write_atomic(out / name, text.encode(), "settings")
    return [out / name for name in files]


def _order(subset: str) -> tuple[int, str]:
    """Return the place of a subset: training, validation, test, then others by name."""
    kinds = ("train", "val", "test")
    name = subset.lower()
    return next((k for k, kind in enumerate(kinds) if name.startswith(kind)), len(kinds)), name
