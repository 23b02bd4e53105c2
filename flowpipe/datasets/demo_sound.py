"""A folder -> the built-in demo set of sound: 24 generated clips with the same pictures.

The four classes differ in the sound alone: a steady tone, a chirp that rises, bursts of noise, and
a rhythm of short tones. Pitch, loudness, speed and background noise vary within each class. Nothing
is downloaded.

Files on disk::

    root/demo_sound.json            seed, version, size of every clip; written last
    root/<class>/<id>.mp4           160x120, 25 frames per second, 2 s, AAC at 16 kHz
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowpipe import strict
from flowpipe.datasets.dataset import Dataset, DatasetRow
from flowpipe.errors import DatasetError, FormatError
from flowpipe.scratch import scratch_folder
from flowpipe.types import VideoRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 1  # increases with every change that alters a sample
SEED = 20170305
CLASS_NAMES = ("chirp", "noise", "rhythm", "tone")
CLIPS_PER_CLASS = 6
TEST_CLIPS = (1, 4)
VIDEO_IDS = tuple(f"{name}_{clip:02d}" for name in CLASS_NAMES for clip in range(CLIPS_PER_CLASS))
RATE_HZ, LENGTH_S, FPS = 16000, 2.0, 25
_MARKER = "demo_sound.json"


def load(
    root: Path, *, seed: int = SEED, progress: Callable[[int, int], None] | None = None
) -> Dataset:
    """Find the demo set of sound in `root`, or generate it there (some seconds of one core).

    Parameters
    ----------
    root : Path
        Folder of the set. It is generated beside this path and then renamed, so it is complete.
    seed : int
        Seed of the sounds.
    progress : callable, optional
        Called with (clips done, total clips) while the set is generated.

    Returns
    -------
    Dataset
        The demo set of sound.

    Raises
    ------
    DatasetError
        If `root` contains other files.
    """
    root = Path(root).absolute()
    if not _is_complete(root, seed):
        _make(root, seed, progress)
    records = tuple(
        VideoRecord(
            video_id,
            str(_clip_path(root, video_id)),
            labels=(CLASS_NAMES.index(video_id.partition("_")[0]),),
            subset="testing" if _is_test(video_id) else "training",
            splits=("test1" if _is_test(video_id) else "train1",),
        )
        for video_id in VIDEO_IDS
    )
    note = f"Made on this machine from seed {seed}; classes differ by sound alone."
    return Dataset("demo_sound", CLASS_NAMES, records, note=note)


def make_sound(video_id: str, *, seed: int = SEED) -> NDArray[np.float32]:
    """Compute the sound of a clip before coding.

    Parameters
    ----------
    video_id : str
        Id of the clip.
    seed : int
        Seed of the set.

    Returns
    -------
    float32 (32000,)
        Samples at 16 kHz; full scale is 1.
    """
    import numpy as np

    name = video_id.partition("_")[0]
    rng = np.random.default_rng((seed, VIDEO_IDS.index(video_id)))
    time_s = np.arange(round(RATE_HZ * LENGTH_S)) / RATE_HZ
    pitch_hz = 300 * 2 ** rng.uniform(0, 2)
    beats_hz, shift = rng.uniform(4, 7), rng.uniform(0, 1)
    beat = (time_s * beats_hz + shift) % 1
    if name == "chirp":
        sweeps = (time_s * rng.uniform(1, 2) + shift) % 1
        hz = pitch_hz * 2 ** (2 * sweeps)
        sound = np.sin(2 * np.pi * np.cumsum(hz) / RATE_HZ)
    elif name == "noise":
        sound = rng.normal(0, 0.4, len(time_s)) * (beat < 0.5)
    elif name == "rhythm":
        sound = np.sin(2 * np.pi * pitch_hz * time_s) * np.exp(-8 * beat)
    else:
        sound = np.sin(2 * np.pi * pitch_hz * time_s)
    hiss = rng.normal(0, 1, len(time_s)) * 10 ** rng.uniform(-3.5, -2)
    mixed: NDArray[np.float32] = (rng.uniform(0.2, 0.8) * sound + hiss).clip(-1, 1).astype("<f4")
    return mixed


def _write_clip(path: Path, sound: NDArray[np.float32]) -> None:
    """Encode a clip: a gradient that drifts, the same in all clips, and the sound in AAC."""
    import av
    import numpy as np

    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        video: Any = container.add_stream("mpeg4", rate=FPS, options={"threads": "1"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        audio: Any = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        rows, columns = np.mgrid[:120, :160]
        for number in range(round(FPS * LENGTH_S)):
            gray = 128 + 90 * np.sin((columns + rows / 2 + 2 * number) / 20)
            picture = gray.astype(np.uint8)[:, :, None].repeat(3, 2)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for at in range(0, len(sound), 1024):
            samples = av.AudioFrame.from_ndarray(sound[None, at : at + 1024], "fltp", "mono")
            samples.sample_rate, samples.time_base = RATE_HZ, Fraction(1, RATE_HZ)
            samples.pts = at
            container.mux(audio.encode(samples))
        container.mux(audio.encode(None))


def _make(root: Path, seed: int, progress: Callable[[int, int], None] | None) -> None:
    marker = _read_marker(root)
    if root.exists() and (not root.is_dir() or (marker is None and any(root.iterdir()))):
        raise DatasetError(
            f"{root} contains files that are not the demo set of sound; give --root a new or an "
            "empty folder"
        )
    if marker is not None and (marker.get("version"), marker.get("seed")) != (VERSION, seed):
        raise DatasetError(
            f"{root} holds the demo set of sound of seed {marker.get('seed')}, version "
            f"{marker.get('version')}, wanted seed {seed}, version {VERSION}; remove that folder "
            "or give another --root"
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(f".{root.name}.making", root.parent) as made:
        made.chmod(0o755)  # scratch folders are private, but data sets are shared
        sizes = {}
        for count, video_id in enumerate(VIDEO_IDS, 1):
            path = _clip_path(made, video_id)
            path.parent.mkdir(exist_ok=True)
            _write_clip(path, make_sound(video_id, seed=seed))
            sizes[video_id] = path.stat().st_size
            if progress is not None:
                progress(count, len(VIDEO_IDS))
        values = {"version": VERSION, "seed": seed, "clips": sizes}
        (made / _MARKER).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        if _is_complete(root, seed):  # another process was faster
            return
        shutil.rmtree(root, ignore_errors=True)  # a damaged demo set, or an empty folder
        made.replace(root)


def _is_complete(root: Path, seed: int) -> bool:
    marker = _read_marker(root)
    if marker is None or (marker.get("version"), marker.get("seed")) != (VERSION, seed):
        return False
    sizes, paths = marker.get("clips", {}), {key: _clip_path(root, key) for key in VIDEO_IDS}
    return all(p.is_file() and p.stat().st_size == sizes.get(key) for key, p in paths.items())


def _read_marker(root: Path) -> dict[str, Any] | None:
    try:
        marker: dict[str, Any] = strict.read_json(root / _MARKER)
    except (FileNotFoundError, NotADirectoryError, FormatError):
        return None
    return marker


def _clip_path(root: Path, video_id: str) -> Path:
    return root / video_id.partition("_")[0] / f"{video_id}.mp4"


def _is_test(video_id: str) -> bool:
    return int(video_id.partition("_")[2]) in TEST_CLIPS


ROW = DatasetRow(
    "demo_sound", "24 generated clips that differ in sound alone; root is created", load, made=True
)
