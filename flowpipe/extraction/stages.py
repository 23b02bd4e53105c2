"""VideoRecord + recipe + Ops -> EncodedPlanes: one video through the stages, one window at a time.

    decode -> resize | gray -> flow    flow again -> quantise | encode
    ---- thread 1 -- | ------- \\ -- thread 2 -- / ----------- | caller
                                camera motion
                                -- thread 3 --

The result depends on the video and the recipe only, never on the windows, the threads or the load
of the machine. The module uses neither HDF5 nor Dask. A window has a bounded number of frames, so
memory does not grow with the video.

The camera motion of one window is found while a GPU computes the flow of the next one. Thread 2
begins or finishes a window, whichever is ready first, and waits only if neither is. On the CPU a
worker has one core, so threads 2 and 3 are one thread.
"""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowpipe import codec
from flowpipe.audio.images import SoundImages
from flowpipe.errors import RETRIED, DecodeError, DeviceMemoryError
from flowpipe.extraction.planes import FrameWindow, PlaneMaker
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.extraction.windows import (
    DECODED_BYTES,
    compute_in_halves,
    gather,
    split_in_halves,
    warn_short_memory,
)
from flowpipe.ops import Ops
from flowpipe.prefetch import END, CallerThread, Prefetcher, WorkerThread, prefetch
from flowpipe.types import Damage, EncodedPlanes, Frames, Planes, Span, VideoFacts
from flowpipe.video import MAX_DAMAGED, open_video

T = TypeVar("T")

WINDOWS_BEGUN = 2  # most windows between begin and finish, whose frames and flow are on the device

Begun = tuple[Frames, FrameWindow]


@dataclass(frozen=True)
class ComputedWindow:
    """Encoded images of one window of frames."""

    pts_s: NDArray[np.float64]
    """Presentation times of the stored frames, (T,), seconds."""
    encoded: tuple[EncodedPlanes, ...]
    """Images by modality."""


class Extraction:
    """Extraction of one span: iterate over its ComputedWindows, then read the attributes.

    Parameters
    ----------
    span : Span
        Video, or part of a video, to extract.
    recipe : ExtractRecipe
        What to make.
    ops : Ops
        Operations of the device that computes.
    max_damaged : float
        Largest share of damaged frames, see `open_video`.
    stop_at_damage : bool
        End before the first damaged frame, see `open_video`.

    Attributes
    ----------
    damage : tuple of Damage
        Frames that are missing or may be wrong; complete when the iteration has ended or failed.
    facts : VideoFacts or None
        Facts from decoding; complete when the iteration has ended or failed. A note counts the
        pairs whose camera motion is uncertain.
    first_crc32, seam_crc32 : int or None
        CRC of the first resized frame, and of the frame after a cut, by which parts are matched.
    seconds : dict
        CPU seconds by stage so far: ``decode``, ``compute``, ``camera``, ``encode``, ``sound``.
    busy_s : dict
        Busy seconds of each stage so far, without its waits for other stages or a GPU; and with a
        GPU, ``gpu``: the seconds in which a stage waited for it.

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
        self._facts: VideoFacts | None = None
        self._maker: PlaneMaker | None = None
        self.damage: tuple[Damage, ...] = ()
        self.first_crc32: int | None = None
        self.seam_crc32: int | None = None
        self._source_size = 0, 0
        self._none_begun = Event()  # set while the device computes no window
        self._sound_notes: tuple[str, ...] = ()
        stages = ("decode", "compute", "camera", "encode", *(["sound"] if recipe.sounds else []))
        self.seconds = dict.fromkeys(stages, 0.0)
        gpu = {} if ops.on_cpu else {"gpu": 0.0}
        self.busy_s = {"decode": 0.0, **gpu, **self.seconds}
        self._gpu_waited_s = ops.waits.any_thread_s

    def __iter__(self) -> Iterator[ComputedWindow]:
        steps = self._frame_windows()
        return self._with_sound(steps) if self.recipe.sounds else steps

    def _frame_windows(self) -> Iterator[ComputedWindow]:
        windows = gather(self._decode(), self.ops.window_frames, self.ops.window_bytes)
        computed = self._measure_steps(
            "compute", self._compute(self._measure_steps("decode", windows))
        )
        planes = prefetch(computed, 1, waited=partial(self._idle, "encode"))
        return self._measure_steps("encode", self._encode_windows(planes))

    def _with_sound(self, windows: Iterator[ComputedWindow]) -> Iterator[ComputedWindow]:
        """Yield the windows of frames, then those of the sound, also if the frames are damaged."""
        failure, last_s = None, None
        try:
            for window in windows:
                last_s = float(window.pts_s[-1]) if len(window.pts_s) else last_s
                yield window
        except DecodeError as error:
            failure = error
        # The last part of a split video has all of the sound, which is decoded only once.
        is_last = self.span.stop_s is None
        if is_last and last_s is not None and (failure is None or failure.reason not in RETRIED):
            yield from self._measure_steps("sound", self._sound_windows(last_s))
        if failure is not None:
            raise failure

    def _sound_windows(self, last_s: float) -> Iterator[ComputedWindow]:
        """Yield the images of the sound, in windows without frames."""
        params, facts = self.recipe.audio, self._facts
        assert params is not None and facts is not None
        for modality in self.recipe.sounds:
            sound = SoundImages(
                modality, path=self.span.record.path, params=params, facts=facts, last_s=last_s,
                video_stream=self.recipe.video.stream,
            )  # fmt: skip
            for planes in sound:
                yield ComputedWindow(np.empty(0), (self._encode_images(planes),))
            self._sound_notes += sound.notes

    @property
    def facts(self) -> VideoFacts | None:
        """Facts from decoding, with notes on the sound and on pairs of uncertain camera motion."""
        pairs = 0 if self._maker is None else self._maker.uncertain_pairs
        notes = self._sound_notes + ((f"camera_uncertain:{pairs}",) if pairs else ())
        if self._facts is None or not notes:
            return self._facts
        return replace(self._facts, notes=(*self._facts.notes, *notes))

    def _idle(self, stage: str, seconds: float) -> None:
        self.busy_s[stage] -= seconds

    def _decode(self) -> Iterator[Frames]:
        """Yield windows of resized frames."""
        span, size = self.span, self.recipe.size
        target = None
        with open_video(
            span.record.path, self.recipe.video, start_s=span.start_s, stop_s=span.stop_s,
            max_damaged=self._max_damaged, stop_at_damage=self._stop_at_damage,
            surfaces=self.ops.surfaces,
        ) as video:  # fmt: skip
            try:
                for frames in video.windows(self.ops.window_frames, DECODED_BYTES):
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
                    resize = partial(self._resize, target)
                    for resized in compute_in_halves(resize, frames, span.record.path):
                        self._note_edges(resized)
                        yield resized
            finally:
                self._facts, self.damage = video.facts, video.damage

    def _resize(self, target: tuple[int, int], frames: Frames) -> Frames:
        """Resize frames. A single one, if memory is short, waits for the windows under way."""
        while True:
            was_alone = self._none_begun.is_set()
            try:
                return Frames(self.ops.resize(frames.data, *target), frames.pts_s)
            except DeviceMemoryError:
                if len(frames.data) > 1 or (was_alone and self._none_begun.is_set()):
                    raise
            self._none_begun.wait()

    def _compute(self, decoded: Iterator[Frames]) -> Iterator[tuple[Any, ...]]:
        """Yield times and Planes of every modality for each window."""
        cameras = CallerThread() if self.ops.on_cpu else WorkerThread("camera")
        with Prefetcher(decoded, 1) as windows, cameras:
            try:
                yield from self._planes(windows, partial(cameras.submit, self._find_camera))
            finally:
                self._none_begun.set()  # the thread that decodes may wait for it

    def _planes(
        self, windows: Prefetcher[Frames], submit: Callable[..., Future[Any]]
    ) -> Iterator[tuple[Any, ...]]:
        """Begin and finish windows, whichever is ready first."""
        record, failure = self.span.record, None
        waiting, begun = deque[Frames](), deque[Begun]()
        more, is_short, most = True, False, 1 if self.ops.on_cpu else WINDOWS_BEGUN
        while more or waiting or begun:
            if not begun:
                self._none_begun.set()
            if begun and (
                is_short
                or len(begun) == most
                or not (more or waiting)
                or not (waiting or self._is_next_begun(begun[0][1], windows))
            ):
                is_short = yield from self._finish(waiting, begun)
            elif waiting:
                if self._maker is None:
                    size = self._source_size
                    self._maker = PlaneMaker(self.recipe, self.ops, record.video_id, size, submit)
                is_short = not self._begin(self._maker, waiting, begun)
            else:
                try:
                    step = self._wait_for(windows.take)
                except Exception as error:  # the windows before it are good
                    failure, step = error, END
                more = step is not END
                if more:
                    waiting.append(step)
        if failure is not None:
            raise failure
        if self._maker is not None:
            self._maker.check_end()

    def _begin(self, maker: PlaneMaker, waiting: deque[Frames], begun: deque[Begun]) -> bool:
        """Begin the first waiting window. Return False if the device lacks memory for it.

        If no other window is begun, and memory is short even so, the window is split in halves
        instead.
        """
        frames = waiting[0]
        owned = len(frames.data) - self._at_seam(frames)
        self._none_begun.clear()
        try:
            begun.append((frames, maker.begin(frames.data, owned)))
        except DeviceMemoryError:
            if begun:
                return False
            parts = split_in_halves(frames)
            if not parts:
                raise
            warn_short_memory(self.span.record.path, len(frames.data))
            waiting.popleft()
            waiting.extendleft(reversed(parts))
        else:
            waiting.popleft()
        return True

    def _is_next_begun(self, window: FrameWindow, windows: Prefetcher[Frames]) -> bool:
        """Wait for the next window or the camera motion of `window`.

        Return whether the next window has come. It is begun first, so that the camera's thread
        always has work.
        """
        if window.motions is None:
            return False
        either = window.motions, windows.upcoming
        self._wait_for(partial(wait, either, return_when=FIRST_COMPLETED))
        return windows.upcoming.done()

    def _finish(
        self, waiting: deque[Frames], begun: deque[Begun]
    ) -> Generator[tuple[Any, ...], None, bool]:
        """Finish the oldest begun window and yield its images. Return True if memory is short.

        In that case the windows after it, or else its own halves, go back to `waiting`.
        """
        frames, window = begun[0]
        if window.motions is not None:
            self._wait_for(partial(wait, [window.motions]))
        try:
            made = window.maker.finish(window)
        except DeviceMemoryError:
            self.ops.free_workspace()  # the thread of the camera, if it was short, could not
            parts = [later for later, _ in begun][1:] or split_in_halves(frames)
            if not parts:
                raise
            if len(begun) == 1:
                warn_short_memory(self.span.record.path, len(frames.data))
            kept = 1 if len(begun) > 1 else 0
            while len(begun) > kept:
                window.maker.begin_anew(begun.pop()[1])
            waiting.extendleft(reversed(parts))
            return True
        begun.popleft()
        yield frames.pts_s[: len(window.owned)], made
        return False

    def _find_camera(self, call: Callable[..., T], *arguments: Any) -> T:
        """Make a call of the camera stage and measure its time."""
        with self._at_work("camera", within="compute" if self.ops.on_cpu else ""):
            return call(*arguments)

    def _encode_windows(self, windows: Iterator[tuple[Any, ...]]) -> Iterator[ComputedWindow]:
        for pts_s, planes in windows:
            yield ComputedWindow(pts_s, tuple(map(self._encode_images, planes)))

    def _encode_images(self, planes: Planes) -> EncodedPlanes:
        """Copy images from the device, while it computes the next window, and encode them."""
        host = self.ops.to_host
        return EncodedPlanes(
            planes.modality,
            codec.encode(host(planes.data), self.recipe.codecs[planes.modality]),
            height=planes.data.shape[2],
            width=planes.data.shape[3],
            columns={name: host(values) for name, values in planes.columns.items()},
        )

    def _at_seam(self, frames: Frames) -> bool:
        """Return whether the last frame of a window belongs to the next part of a split video.

        Such a frame only closes a pair.
        """
        stop_s = self.span.stop_s
        return stop_s is not None and bool(frames.pts_s[-1] >= stop_s)

    def _note_edges(self, frames: Frames) -> None:
        """Keep the CRCs of the frames at the edges, by which parts of a split video are matched."""
        if self.first_crc32 is None:
            self.first_crc32 = zlib.crc32(frames.data[0])
        if self._at_seam(frames):
            self.seam_crc32 = zlib.crc32(frames.data[-1])

    def _measure_steps(self, stage: str, steps: Iterator[T]) -> Iterator[T]:
        """Yield steps, and add the CPU time and busy time of each to a stage."""
        while True:
            with self._at_work(stage):
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step

    @contextmanager
    def _at_work(self, stage: str, within: str = "") -> Iterator[None]:
        """Add the time of the block to a stage, and subtract it from the stage `within`."""
        waits = self.ops.waits
        began, began_wall, waited_s = time.thread_time(), time.monotonic(), waits.this_thread_s
        try:
            yield
        finally:
            cpu_s, wall_s = time.thread_time() - began, time.monotonic() - began_wall
            wall_s -= waits.this_thread_s - waited_s
            if not self.ops.on_cpu:
                self.busy_s["gpu"] = waits.any_thread_s - self._gpu_waited_s
            self.seconds[stage] += cpu_s
            self.busy_s[stage] += wall_s
            if within:
                self.seconds[within] -= cpu_s
                self.busy_s[within] -= wall_s

    def _wait_for(self, call: Callable[[], T]) -> T:
        """Make a call that waits for another stage, and subtract its time from ``compute``."""
        began = time.monotonic()
        try:
            return call()
        finally:
            self._idle("compute", time.monotonic() - began)
