"""VideoRecord + recipe + Ops -> EncodedPlanes: one video through the stages, one window at a time.

    decode -> resize | gray -> flow -> camera motion -> flow again -> quantise | encode
    --- thread 1 --- | ------------------- thread 2 ------------------------- | caller

Pure: what comes out depends on the video and the recipe only, never on the windows, the threads
or the machine's load. Knows neither HDF5 nor Dask. A window holds a bounded number of frames, so
memory does not grow with the video.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe import codec
from flowpipe.ahead import ahead
from flowpipe.errors import DecodeError
from flowpipe.extract_recipe import ExtractRecipe
from flowpipe.ops import Ops
from flowpipe.planes import PlaneMaker
from flowpipe.types import EncodedPlanes, Frames, Planes, Span, VideoFacts
from flowpipe.video import open_video


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

    Attributes
    ----------
    facts : VideoFacts or None
        What decoding showed; complete once the iteration has ended or failed.
    first_crc32, seam_crc32 : int or None
        CRC of the first resized frame, and of the frame after a cut: equal where parts meet.
    seconds : dict
        CPU seconds by stage so far: ``decode``, ``compute`` and ``encode``.

    Raises
    ------
    DecodeError
        While iterating; every window before it is good.
    """

    def __init__(self, span: Span, recipe: ExtractRecipe, ops: Ops) -> None:
        self.span, self.recipe, self.ops = span, recipe, ops
        self.facts: VideoFacts | None = None
        self.first_crc32: int | None = None
        self.seam_crc32: int | None = None
        self.seconds = {"decode": 0.0, "compute": 0.0, "encode": 0.0}

    def __iter__(self) -> Iterator[Window]:
        frames = ahead(self._timed("decode", self._decode()))
        planes = ahead(self._timed("compute", self._compute(frames)))
        return self._timed("encode", self._encode(planes))

    def _decode(self) -> Iterator[tuple[Frames, bool, tuple[int, int]]]:
        """Resized windows, whether the last frame only closes a pair, and the size before."""
        span, size = self.span, self.recipe.size
        target = None
        with open_video(
            span.record.path, self.recipe.video, start_s=span.start_s, stop_s=span.stop_s
        ) as video:
            try:
                for frames in video.windows(max_frames=self.ops.window_frames):
                    wanted = size.target(*frames.data.shape[1:3])
                    if target not in (None, wanted):
                        raise DecodeError(
                            f"{span.record.path}: the frame size changes at {frames.pts_s[0]:.3f} s"
                            f" and its images would change from {target} to {wanted}; give the "
                            "recipe a fixed size (size: {width: 340, height: 256})",
                            reason="resolution_change",
                        )
                    target = wanted
                    resized = self.ops.resize(frames.data, *target)
                    seam = span.stop_s is not None and bool(frames.pts_s[-1] >= span.stop_s)
                    self._note_edges(resized, seam)
                    yield Frames(resized, frames.pts_s), seam, frames.data.shape[1:3]
            finally:
                self.facts = video.facts

    def _compute(self, windows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Planes of every modality for each window; its first pair reaches back one frame."""
        maker = None
        for frames, seam, source_size in windows:
            if maker is None:
                video_id = self.span.record.video_id
                maker = PlaneMaker(self.recipe, self.ops, video_id, source_size)
            owned = len(frames.data) - seam
            yield frames.pts_s[:owned], maker.planes(frames.data, owned)
        if maker is not None:
            maker.finish()

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

    def _note_edges(self, frames: NDArray[np.uint8], seam: bool) -> None:
        """Keep what the parts of a split video must agree on: the frame on both sides of a cut."""
        if self.first_crc32 is None:
            self.first_crc32 = zlib.crc32(frames[0])
        if seam:
            self.seam_crc32 = zlib.crc32(frames[-1])

    def _timed(self, stage: str, steps: Iterator[Any]) -> Iterator[Any]:
        """Add the CPU time that this thread spends on each step to the stage's account."""
        while True:
            began = time.thread_time()
            try:
                step = next(steps)
            except StopIteration:
                return
            finally:
                self.seconds[stage] += time.thread_time() - began
            yield step
