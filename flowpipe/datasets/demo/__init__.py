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

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flowpipe.datasets.dataset import Dataset, DatasetRow
from flowpipe.datasets.demo.motion import CLASS_NAMES, CLIPS_PER_CLASS, TEST_CLIPS
from flowpipe.datasets.generated import GeneratedSet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from flowpipe.datasets.demo.scene import Scene, SceneGroundTruth

VERSION = 1  # increases with every change that alters a frame
SEED = 20160807


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
    note = (
        f"Made on this machine from seed {seed}; classes differ by motion alone; "
        "flowpipe.datasets.demo.ground_truth(video_id) gives the true flow."
    )
    return SET.load(root, seed, progress, note)


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


def _write_clip(path: Path, video_id: str, seed: int) -> None:
    from flowpipe.datasets.demo.clipfile import write_clip

    write_clip(path, clean_frames(video_id, seed=seed))


def _scene(video_id: str, seed: int) -> Scene:
    # OpenCV is imported only here: planning a real data set does not need it.
    from flowpipe.datasets.demo.scene import make_scene

    return make_scene(seed, SET.class_of(video_id), SET.clip_of(video_id))


SET = GeneratedSet(
    name="demo", title="the demo set", version=VERSION, class_names=CLASS_NAMES,
    clips_per_class=CLIPS_PER_CLASS, test_clips=TEST_CLIPS, write_clip=_write_clip,
)  # fmt: skip
VIDEO_IDS = SET.video_ids
ROW = DatasetRow("demo", "36 generated clips with known flow; root is created", load, made=True)
