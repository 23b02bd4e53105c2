"""Frames of one video, window by window -> Planes of every modality the recipe asks for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import DatasetError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.flow import FlowSolver, make_solver
from flowpipe.flow.warped import (
    CameraMotion,
    Features,
    Motions,
    find_motions,
    flow_without,
    load_boxes,
)
from flowpipe.ops import Ops
from flowpipe.prefetch import CallerThread
from flowpipe.types import Planes


class PlaneMaker:
    """Makes images of windows of frames; a window's first pair begins with the frame before it.

    A window takes two steps, `begin` and `finish`; between them its camera motion is found, in
    another thread if there is one, and the next window may begin.

    Parameters
    ----------
    recipe : ExtractRecipe
    ops : Ops
    video_id : str
        Names the video's boxes, where the recipe has some.
    source_size : (int, int)
        (height, width) of the video before resizing: what boxes refer to.
    submit : callable
        Called with a function that finds camera motion, and its arguments; returns the future of
        its result. Such calls are made one after the other. Default: at once, in this thread.
    """

    def __init__(
        self,
        recipe: ExtractRecipe,
        ops: Ops,
        video_id: str,
        source_size: tuple[int, int],
        submit: Callable[..., Future[Any]] | None = None,
    ) -> None:
        self.recipe, self.ops = recipe, ops
        self._video_id, self._source_size = video_id, source_size
        self._submit = submit or CallerThread().submit
        self._end: WindowEnd | None = None
        self._known: tuple[int, Features] | None = None  # number and features of a last frame
        self._start: Features | None = None
        self.uncertain_pairs = 0
        """Finished pairs whose camera motion may be the foreground's."""

    @cached_property
    def solver(self) -> FlowSolver:
        """Made at first use: recipes without flow must not fail for a library that it needs."""
        return make_solver(self.recipe.flow, self.ops)

    @cached_property
    def camera(self) -> CameraMotion:
        """Made at first use: recipes without warped flow must not fail for a library or boxes that
        it needs."""
        boxes = _boxes(self.recipe, self._video_id, self._source_size)
        return CameraMotion(self.recipe.warp, self.ops, boxes)

    def begin(self, frames: NDArray[np.uint8], owned: int) -> FrameWindow:
        """Compute the flow of the next window, and have its camera motion found.

        Parameters
        ----------
        frames : uint8 (T, H, W, 3)
            They follow the frames of the call before.
        owned : int
            T, or T - 1 where the last frame belongs to the next part of a split video and only
            closes a pair here.
        """
        window = FrameWindow.after(self._end, self, frames, owned)
        if self.recipe.flows > 1:
            self.find_motions(window)
        elif self.recipe.flows:
            _ = window.flow
        self._end = window.end()
        return window

    def begin_anew(self, window: FrameWindow) -> None:
        """Forget a window and those begun after it, so that they can be begun again."""
        self._end = window.before

    def find_motions(self, window: FrameWindow) -> None:
        """Submit the search for the camera motion of a window."""
        shared = self.ops.share
        features = self._submit(self._features, shared(window.gray), window.first)
        window.motions = self._submit(self._motions, features, shared(window.flow))

    def finish(self, window: FrameWindow) -> list[Planes]:
        """Return the images of all modalities of a window; waits for its camera motion."""
        made = [PLANES[name](window) for name in self.recipe.modalities]
        if window.motions is not None:
            self.uncertain_pairs += int(np.count_nonzero(window.motions.result().uncertain))
        return [planes for planes in made if len(planes.data)]

    def check_end(self) -> None:
        """Say so if what was known of the video in advance does not fit it.

        Raises
        ------
        DatasetError
            If its boxes are for another number of frames.
        """
        camera: CameraMotion | None = self.__dict__.get("camera")  # if warped flow was made at all
        if camera is not None and camera.boxes is not None and self._end is not None:
            camera.boxes.check_count(self._end.number + 1)

    def _features(self, gray: Any, first: int) -> list[Features]:
        """Features of the frames of a window, those of its first frame kept from the window before.

        `first` is that frame's number in the video.
        """
        known = [self._known[1]] if self._known and self._known[0] == first else []
        new = self.camera.features(gray[len(known) :], first + len(known))
        features = [*known, *new]
        self._known = first + len(features) - 1, features[-1]
        if self._start is None:
            self._start = features[0]
        return features

    def _motions(self, features: Future[list[Features]], flow: Any) -> Motions:
        # Features are found before, in this thread.
        return find_motions(self.ops, self.camera, flow, features.result(), self._start)


@dataclass(frozen=True)
class WindowEnd:
    """Last frame of a window, which begins the next one's first pair.

    Holds no window, whose flow is tens of megabytes.
    """

    frame: NDArray[np.uint8]
    """Last frame, (1, H, W, 3)."""
    number: int
    """Number of that frame in the video."""


class FrameWindow:
    """A window of frames with what its images share, computed when first asked for.

    Parameters
    ----------
    maker : PlaneMaker
    frames : uint8 (T, H, W, 3)
        Where there was a window before, they begin with its last frame, computed anew: that is
        cheap beside a pair's flow, and only the camera's features are worth carrying over.
    carried : int
        Frames that are the last window's, 0 or 1.
    owned : int
        Frames after it that are this part's own.
    first : int
        Number in the video of the first frame here.
    """

    def __init__(
        self, maker: PlaneMaker, frames: NDArray[np.uint8], carried: int, owned: int, first: int
    ) -> None:
        self.maker, self.frames, self.carried, self.first = maker, frames, carried, first
        self.owned = frames[carried : carried + owned]
        self.before: WindowEnd | None = None
        """End of the previous window; None for the first one."""
        self.motions: Future[Motions] | None = None
        """The camera's motion, where warped flow was asked for."""

    @classmethod
    def after(
        cls, before: WindowEnd | None, maker: PlaneMaker, frames: NDArray[np.uint8], owned: int
    ) -> FrameWindow:
        """Return the block of the frames that follow a window."""
        if before is None:
            return cls(maker, frames, 0, owned, 0)
        window = cls(maker, np.concatenate([before.frame, frames]), 1, owned, before.number)
        window.before = before
        return window

    def end(self) -> WindowEnd:
        """Return the end of this window, for the next one."""
        return WindowEnd(self.frames[-1:].copy(), self.first + len(self.frames) - 1)

    @cached_property
    def pixels(self) -> Any:
        """The frames where the backend computes."""
        return self.maker.ops.to_device(self.frames)

    @cached_property
    def gray(self) -> Any:
        return self.maker.ops.gray(self.pixels)

    @cached_property
    def prepared(self) -> Any:
        return self.maker.solver.prepare(self.gray)

    @cached_property
    def flow(self) -> Any:
        """(T - 1, 2, H, W)"""
        return self.maker.solver.solve(self.prepared[:-1], self.prepared[1:])


def _rgb(window: FrameWindow) -> Planes:
    return Planes("rgb", window.owned.transpose(0, 3, 1, 2))


def _flow(window: FrameWindow) -> Planes:
    data, clipped = window.maker.ops.quantise(window.flow, window.maker.recipe.bound)
    return Planes("flow", data, {"clipped": clipped})


def _warped_flow(window: FrameWindow) -> Planes:
    maker = window.maker
    assert window.motions is not None
    motions = window.motions.result()
    warped = flow_without(
        motions, maker.ops, maker.solver, maker.recipe.warp.margin_px, window.gray, window.prepared,
        window.flow,
    )  # fmt: skip
    data, clipped = maker.ops.quantise(warped, maker.recipe.bound)
    columns: dict[str, NDArray[Any]] = {
        "clipped": clipped,
        "homography": motions.homographies,
        "matches": motions.matches,
        "inliers": motions.inliers,
    }
    return Planes("warped_flow", data, columns)


def _rgb_diff(window: FrameWindow) -> Planes:
    data, clipped = window.maker.ops.difference(window.pixels)
    return Planes("rgb_diff", data, {"clipped": clipped})


PLANES: dict[str, Callable[[FrameWindow], Planes]] = {
    "rgb": _rgb,
    "flow": _flow,
    "warped_flow": _warped_flow,
    "rgb_diff": _rgb_diff,
}
"""How a block becomes images, by modality."""


def _boxes(recipe: ExtractRecipe, video_id: str, source_size: tuple[int, int]) -> Any:
    """The video's boxes, or None where the recipe masks nobody."""
    if not recipe.warp.boxes:
        return None
    boxes = load_boxes(recipe.warp.boxes, video_id, *source_size)
    if boxes is None and recipe.warp.missing_boxes == "fail":
        raise DatasetError(
            f"{recipe.warp.boxes} has no boxes for video {video_id}; add them, or say "
            "--set warp.missing_boxes=unmasked"
        )
    return boxes
