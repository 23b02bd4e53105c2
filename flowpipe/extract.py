"""VideoRecord + recipe + Ops -> EncodedPlanes: one video through the stages, one window at a time.

    decode -> resize | gray -> flow -> camera motion -> flow again -> quantise | encode
    --- thread 1 --- | ------------------- thread 2 ------------------------- | caller

Pure: what comes out depends on the video and the recipe only, never on the windows, the threads
or the machine's load. Knows neither HDF5 nor Dask. A window holds a bounded number of frames, so
memory does not grow with the video.
"""

from __future__ import annotations

import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowpipe import codec
from flowpipe.ahead import ahead
from flowpipe.errors import DecodeError, DeviceMemoryError
from flowpipe.extract_recipe import ExtractRecipe
from flowpipe.ops import Ops
from flowpipe.planes import PlaneMaker
from flowpipe.types import Damage, EncodedPlanes, Frames, Planes, Span, VideoFacts
from flowpipe.video import MAX_DAMAGED, open_video
from flowpipe.words import counted

T = TypeVar("T")

WINDOW_BYTES = 32 << 20  # of the frames of a window, decoded or resized


@dataclass(frozen=True)
class Window:
    """What a window of frames became."""

    pts_s: NDArray[np.float64]
    """(T,), one per stored frame."""
    encoded: tuple[EncodedPlanes, ...]


class Extraction:
    """One span on its way through the stages: iterate over it, then read what was found.

    Parameters
    ----------
    span : Span
        The video, or the part of it, to extract.
    recipe : ExtractRecipe
    ops : Ops
        Where pixels are computed.
    max_damaged, stop_at_damage
        What is done about damage, see `open_video`.

    Attributes
    ----------
    damage : tuple of Damage
        Frames that are missing or may be wrong; complete as `facts` are.
    facts : VideoFacts or None
        What decoding showed; complete once the iteration has ended or failed.
    first_crc32, seam_crc32 : int or None
        CRC of the first resized frame, and of the frame after a cut: equal where parts meet.
    seconds : dict
        CPU seconds by stage so far: ``decode``, ``compute`` and ``encode``.
    busy_s : dict
        Seconds that each stage was at work so far, those of a device that it waits for among them,
        but not those in which it waited for the stage before it or behind it.

    Raises
    ------
    TooDamagedError
        While iterating, after all windows.
    DecodeError
        While iterating, after the windows before the damage.
    """

    def __init__(
        self,
        span: Span,
        recipe: ExtractRecipe,
        ops: Ops,
        *,
        max_damaged: float = MAX_DAMAGED,
        stop_at_damage: bool = False,
    ) -> None:
        self.span, self.recipe, self.ops = span, recipe, ops
        self._max_damaged, self._stop_at_damage = max_damaged, stop_at_damage
        self.facts: VideoFacts | None = None
        self.damage: tuple[Damage, ...] = ()
        self.first_crc32: int | None = None
        self.seam_crc32: int | None = None
        self._source_size = 0, 0
        self.seconds = {"decode": 0.0, "compute": 0.0, "encode": 0.0}
        self.busy_s = dict(self.seconds)

    def __iter__(self) -> Iterator[Window]:
        windows = gathered(self._decode(), self.ops.window_frames)
        frames = ahead(self._timed("decode", windows), waited=partial(self._idle, "compute"))
        computed = self._timed("compute", self._compute(frames))
        planes = ahead(computed, waited=partial(self._idle, "encode"))
        return self._timed("encode", self._encode(planes))

    def _idle(self, stage: str, seconds: float) -> None:
        self.busy_s[stage] -= seconds

    def _decode(self) -> Iterator[Frames]:
        """Resized windows."""
        span, size = self.span, self.recipe.size
        target = None
        with open_video(
            span.record.path, self.recipe.video, start_s=span.start_s, stop_s=span.stop_s,
            max_damaged=self._max_damaged, stop_at_damage=self._stop_at_damage,
        ) as video:  # fmt: skip
            try:
                for frames in video.windows(self.ops.window_frames, WINDOW_BYTES):
                    wanted = size.target(*frames.data.shape[1:3])
                    if target not in (None, wanted):
                        raise DecodeError(
                            f"{span.record.path}: the frame size changes at {frames.pts_s[0]:.3f} s"
                            f" and its images would change from {target} to {wanted}; give the "
                            "recipe a fixed size (size: {width: 340, height: 256})",
                            reason="resolution_change",
                        )
                    if target is None:
                        target, self._source_size = wanted, frames.data.shape[1:3]
                    resize = partial(self._resized, target)
                    for resized in halved(resize, frames, span.record.path):
                        self._note_edges(resized)
                        yield resized
            finally:
                self.facts, self.damage = video.facts, video.damage

    def _resized(self, target: tuple[int, int], frames: Frames) -> Frames:
        return Frames(self.ops.resize(frames.data, *target), frames.pts_s)

    def _compute(self, windows: Iterator[Frames]) -> Iterator[tuple[Any, ...]]:
        """Planes of every modality for each window; its first pair reaches back one frame."""
        span, maker = self.span, None
        for frames in windows:
            if maker is None:
                video_id = span.record.video_id
                maker = PlaneMaker(self.recipe, self.ops, video_id, self._source_size)
            yield from halved(partial(self._planes, maker), frames, span.record.path)
        if maker is not None:
            maker.finish()

    def _planes(self, maker: PlaneMaker, frames: Frames) -> tuple[Any, ...]:
        owned = len(frames.data) - self._at_seam(frames)
        return frames.pts_s[:owned], maker.planes(frames.data, owned)

    def _encode(self, windows: Iterator[tuple[Any, ...]]) -> Iterator[Window]:
        for pts_s, planes in windows:
            yield Window(pts_s, tuple(map(self._encoded, planes)))

    def _encoded(self, planes: Planes) -> EncodedPlanes:
        """Here the images come down from the device, while it works on the next window."""
        host = self.ops.to_host
        return EncodedPlanes(
            planes.modality,
            codec.encode(host(planes.data), self.recipe.codecs[planes.modality]),
            height=planes.data.shape[2],
            width=planes.data.shape[3],
            columns={name: host(values) for name, values in planes.columns.items()},
        )

    def _at_seam(self, frames: Frames) -> bool:
        """Whether the last frame of a window belongs to the next part and only closes a pair."""
        stop_s = self.span.stop_s
        return stop_s is not None and bool(frames.pts_s[-1] >= stop_s)

    def _note_edges(self, frames: Frames) -> None:
        """Keep what the parts of a split video must agree on: the frame on both sides of a cut."""
        if self.first_crc32 is None:
            self.first_crc32 = zlib.crc32(frames.data[0])
        if self._at_seam(frames):
            self.seam_crc32 = zlib.crc32(frames.data[-1])

    def _timed(self, stage: str, steps: Iterator[Any]) -> Iterator[Any]:
        """Add the CPU time and the time that this thread spends on each step to the stage's."""
        while True:
            began, began_wall = time.thread_time(), time.monotonic()
            try:
                step = next(steps)
            except StopIteration:
                return
            finally:
                self.seconds[stage] += time.thread_time() - began
                self.busy_s[stage] += time.monotonic() - began_wall
            yield step


def halved(make: Callable[[Frames], T], frames: Frames, path: str) -> Iterator[T]:
    """What is made of a window, or of its halves where the device has too little memory for all of
    it at once."""
    count = len(frames.data)
    try:
        yield make(frames)
        return
    except DeviceMemoryError:
        if count < 2:
            raise
        many = counted(count, "frame")
        words = f"{path}: too little device memory for {many} at once; going on with {count // 2}"
        warnings.warn(words, RuntimeWarning, stacklevel=2)
    # Outside the handler, whose error holds all that was in memory.
    for half in (slice(count // 2), slice(count // 2, count)):
        yield from halved(make, Frames(frames.data[half], frames.pts_s[half]), path)


def gathered(windows: Iterator[Frames], count: int) -> Iterator[Frames]:
    """Windows -> windows of up to `count` frames: of a large video few are decoded at a time, but
    their resized images are small, and a GPU wants many."""
    held: list[Frames] = []
    held_bytes = 0
    damage = None
    try:
        for frames in windows:
            most = min(count * frames.data[0].nbytes, WINDOW_BYTES)
            if held and held_bytes + frames.data.nbytes > most:
                yield joined(held)
                held, held_bytes = [], 0
            held.append(frames)
            held_bytes += frames.data.nbytes
    except DecodeError as error:
        damage = error  # what came before it is good
    if held:
        yield joined(held)
    if damage is not None:
        raise damage


def joined(windows: list[Frames]) -> Frames:
    """Windows of one size as one."""
    if len(windows) == 1:
        return windows[0]
    return Frames(
        np.concatenate([frames.data for frames in windows]),
        np.concatenate([frames.pts_s for frames in windows]),
    )
