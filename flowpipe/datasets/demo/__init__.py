"""A folder -> the built-in demo set: 36 generated short clips with known flow.

Textured patches move over textured backgrounds under a shaking, panning camera. The six classes
differ only in the motion of the patch; textures, shapes, sizes, positions and cameras have the same
distribution in all classes. Nothing is downloaded.

Files on disk::

    root/demo.json                  seed, version, size of every clip; written last
    root/list.csv                   video_id,path,label,split: also an example of a list file
    root/videos/<class>/<id>.mp4    320x240, 25 frames per second, 40 frames
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowpipe import strict
from flowpipe.datasets.dataset import Dataset, DatasetRow
from flowpipe.datasets.demo.motion import CLASS_NAMES, CLIPS_PER_CLASS, TEST_CLIPS
from flowpipe.errors import DatasetError, FormatError
from flowpipe.scratch import scratch_folder
from flowpipe.types import VideoRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from flowpipe.datasets.demo.scene import Scene, SceneGroundTruth

VERSION = 1  # increases with every change that alters a frame
SEED = 20160807
VIDEO_IDS = tuple(f"{name}_{clip:02d}" for name in CLASS_NAMES for clip in range(CLIPS_PER_CLASS))


def load(
    root: Path, *, seed: int = SEED, progress: Callable[[int, int], None] | None = None
) -> Dataset:
    """Find the demo set in `root`, or generate it there (about ten seconds of one core).

    Parameters
    ----------
    root : Path
        Folder of the set. It is generated beside this path and then renamed, so it is complete.
    seed : int
        Seed of textures, shapes and trajectories.
    progress : callable, optional
        Called with (clips done, total clips) while the set is generated.

    Returns
    -------
    Dataset
        The demo set.

    Raises
    ------
    DatasetError
        If `root` contains other files, or the demo set of another seed.
    """
    root = Path(root).absolute()
    if not _is_complete(root, seed):
        _make(root, seed, progress)
    records = tuple(
        VideoRecord(
            video_id,
            str(_clip_path(root, video_id)),
            labels=(CLASS_NAMES.index(_class_of(video_id)),),
            subset="testing" if _is_test(video_id) else "training",
            splits=("test1" if _is_test(video_id) else "train1",),
        )
        for video_id in VIDEO_IDS
    )
    note = (
        f"Made on this machine from seed {seed}; classes differ by motion alone; "
        "flowpipe.datasets.demo.ground_truth(video_id) gives the true flow."
    )
    return Dataset("demo", CLASS_NAMES, records, note=note)


def ground_truth(video_id: str, *, seed: int = SEED) -> SceneGroundTruth:
    """Return true flow, camera homographies and masks of all frame pairs of a clip.

    Parameters
    ----------
    video_id : str
        Id of the clip.
    seed : int
        Seed of the set.

    Returns
    -------
    SceneGroundTruth
        ``homography`` (39, 3, 3) float64, ``flow`` (39, 2, 240, 320) float32, ``foreground`` and
        ``valid`` (39, 240, 320) bool.
    """
    return _scene(video_id, seed).ground_truth()


def clean_frames(
    video_id: str, *, seed: int = SEED, numbers: Iterable[int] | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Render the frames of a clip before coding.

    Parameters
    ----------
    video_id : str
        Id of the clip.
    seed : int
        Seed of the set.
    numbers : iterable of int, optional
        Numbers of the frames to render, from 0; default: all 40.

    Returns
    -------
    iterator of uint8 (240, 320, 3)
        RGB.
    """
    return _scene(video_id, seed).frames(numbers)


def _make(root: Path, seed: int, progress: Callable[[int, int], None] | None) -> None:
    from flowpipe.datasets.demo.clipfile import write_clip

    _refuse_foreign(root, seed)
    root.parent.mkdir(parents=True, exist_ok=True)
    whole = _whole_clips(root, seed)
    with scratch_folder(f".{root.name}.making", root.parent) as made:
        made.chmod(0o755)  # scratch folders are private, but data sets are shared
        sizes = {}
        for count, video_id in enumerate(VIDEO_IDS):
            path = _clip_path(made, video_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            if video_id in whole:
                shutil.copy2(_clip_path(root, video_id), path)
            else:
                write_clip(path, clean_frames(video_id, seed=seed))
            sizes[video_id] = path.stat().st_size
            if progress is not None:
                progress(count + 1, len(VIDEO_IDS))
        _write_list(made)
        marker = {"version": VERSION, "seed": seed, "clips": sizes}
        (made / "demo.json").write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
        _install(made, root, seed)


def _install(made: Path, root: Path, seed: int) -> None:
    if _is_complete(root, seed):  # another process was faster
        return
    old = made.with_name(f"{made.name}.old")
    if root.exists():  # a damaged demo set or an empty folder, see `_refuse_foreign`
        root.replace(old)
    try:
        made.replace(root)
    except OSError:
        if not _is_complete(root, seed):
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _refuse_foreign(root: Path, seed: int) -> None:
    if not root.exists():
        return
    if not root.is_dir():
        raise DatasetError(
            f"the demo set needs a folder, but {root} is a file; give another --root"
        )
    marker = _read_marker(root)
    if marker is None and any(root.iterdir()):
        raise DatasetError(
            f"{root} contains files that are not the demo set; give --root a new or an empty folder"
        )
    if marker is not None and (marker.get("version"), marker.get("seed")) != (VERSION, seed):
        raise DatasetError(
            f"{root} holds the demo set of seed {marker.get('seed')}, version "
            f"{marker.get('version')}, wanted seed {seed}, version {VERSION}; "
            "remove that folder or give another --root"
        )


def _is_complete(root: Path, seed: int) -> bool:
    return len(_whole_clips(root, seed)) == len(VIDEO_IDS)


def _whole_clips(root: Path, seed: int) -> set[str]:
    """Return the ids of the clips whose file has the size in demo.json."""
    marker = _read_marker(root)
    if marker is None or (marker.get("version"), marker.get("seed")) != (VERSION, seed):
        return set()
    sizes = marker.get("clips", {})
    paths = {video_id: _clip_path(root, video_id) for video_id in VIDEO_IDS}
    return {i for i, p in paths.items() if p.is_file() and p.stat().st_size == sizes.get(i)}


def _read_marker(root: Path) -> dict[str, Any] | None:
    try:
        marker: dict[str, Any] = strict.read_json(root / "demo.json")
    except (FileNotFoundError, FormatError):
        return None
    return marker


def _write_list(root: Path) -> None:
    with (root / "list.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(("video_id", "path", "label", "split"))
        for video_id in VIDEO_IDS:
            path = _clip_path(root, video_id).relative_to(root).as_posix()
            split = "test1" if _is_test(video_id) else "train1"
            lines.writerow((video_id, path, _class_of(video_id), split))


def _scene(video_id: str, seed: int) -> Scene:
    # OpenCV is imported only here: planning a real data set does not need it.
    from flowpipe.datasets.demo.scene import make_scene

    return make_scene(seed, _class_of(video_id), _clip_of(video_id))


def _clip_path(root: Path, video_id: str) -> Path:
    return root / "videos" / _class_of(video_id) / f"{video_id}.mp4"


def _is_test(video_id: str) -> bool:
    return _clip_of(video_id) in TEST_CLIPS


def _class_of(video_id: str) -> str:
    if video_id not in VIDEO_IDS:
        raise DatasetError(
            f"the demo set has no clip {video_id!r}; it has {VIDEO_IDS[0]} and so on"
        )
    return video_id.split("_")[0]


def _clip_of(video_id: str) -> int:
    _class_of(video_id)
    return int(video_id.split("_")[1])


ROW = DatasetRow("demo", "36 generated clips with known flow; root is created", load, made=True)
