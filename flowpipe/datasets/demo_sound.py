"""A folder -> the built-in demo set of sound: 24 generated clips with the same pictures.

The four classes differ in the sound alone: a steady tone, a chirp that rises, bursts of noise, and
a rhythm of short tones. Pitch, loudness, speed and background noise vary within each class. Nothing
is downloaded.

Files on disk::

    root/demo_sound.json            seed, version, size of every clip; written last
    root/list.csv                   video_id,path,label,split
    root/videos/<class>/<id>.mp4    160x120, 25 frames per second, 2 s, AAC at 16 kHz
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowpipe.datasets.dataset import Dataset, DatasetRow
from flowpipe.datasets.generated import GeneratedSet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 1  # increases with every change that alters a sample
SEED = 20170305
CLASS_NAMES = ("chirp", "noise", "rhythm", "tone")
RATE_HZ, LENGTH_S, FPS = 16000, 2.0, 25


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
        If `root` contains other files, or the set of another seed.
    """
    note = f"Made on this machine from seed {seed}; classes differ by sound alone."
    return SET.load(root, seed, progress, note)


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


def _write_clip(path: Path, video_id: str, seed: int) -> None:
    """Encode a clip: a gradient that drifts, the same in all clips, and the sound in AAC."""
    import av
    import numpy as np

    sound = make_sound(video_id, seed=seed)
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


SET = GeneratedSet(
    name="demo_sound", title="the demo set of sound", version=VERSION, class_names=CLASS_NAMES,
    clips_per_class=6, test_clips=(1, 4), write_clip=_write_clip,
)  # fmt: skip
VIDEO_IDS = SET.video_ids
ROW = DatasetRow(
    "demo_sound", "24 generated clips that differ in sound alone; root is created", load, made=True
)
