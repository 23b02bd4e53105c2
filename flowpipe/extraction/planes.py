"""Windows of frames of one video -> Planes of each modality of the recipe."""

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
from flowpipe.flow import FLOWS, FlowSolver, make_solver
from flowpipe.flow.warped import (
    CameraMotionEstimator,
    CameraMotions,
    Features,
    find_motions,
    load_boxes,
    subtract_motion,
)
from flowpipe.modality import CLIPPED, HOMOGRAPHY, INLIERS, MATCHES, MODALITIES
from flowpipe.ops import Ops
from flowpipe.prefetch import CallerThread
from flowpipe.types import Planes


class PlaneMaker:
    """Makes the images of one video; a window's first pair starts with the frame before it.

    A window takes two steps, `begin` and `finish`. Between them its camera motion is found, in
    another thread if there is one, and the next window may begin.

    Parameters
    ----------
    recipe : ExtractRecipe
        What to make.
    ops : Ops
        Operations of the device that computes.
    video_id : str
        Id under which the recipe's boxes list the video.
    source_size : (int, int)
        (height, width) of the video before resizing, pixels: the scale of the boxes.
    submit : callable, optional
        Called with a function that finds camera motion, and its arguments; returns the future of
        its result. The calls run one after the other. Default: immediately, in this thread.
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
        """Number of finished pairs whose camera motion may be that of the foreground."""

    @cached_property
    def solver(self) -> FlowSolver:
        """Flow solver; made at first use, as only recipes with flow need its library."""
        return make_solver(self.recipe.flow, self.ops)

    @cached_property
    def camera(self) -> CameraMotionEstimator:
        """Estimator of camera motion; made at first use, as only warped flow needs its library."""
        boxes = _boxes(self.recipe, self._video_id, self._source_size)
        return CameraMotionEstimator(self.recipe.warp, self.ops, boxes)

    def begin(self, frames: NDArray[np.uint8], owned: int) -> FrameWindow:
        """Compute the flow of the next window and submit the search for its camera motion.

        Parameters
        ----------
        frames : uint8 (T, H, W, 3)
            Frames that follow those of the previous call.
        owned : int
            T, or T - 1 if the last frame belongs to the next part of a split video and only closes
            a pair here.

        Returns
        -------
        FrameWindow
            The window, for `finish`.

        Raises
        ------
        DeviceMemoryError
            If the device lacks memory for the window.
        """
        window = FrameWindow.after(self._end, self, frames, owned)
        if self.recipe.flows > 1:
            self.find_motions(window)
        elif self.recipe.flows:
            _ = window.flow
        self._end = window.end()
        return window

    def begin_anew(self, window: FrameWindow) -> None:
        """Drop a window and those begun after it, so that they can be begun again.

        Parameters
        ----------
        window : FrameWindow
            First window to drop.
        """
        self._end = window.before

    def find_motions(self, window: FrameWindow) -> None:
        """Submit the search for the camera motion of a window.

        Parameters
        ----------
        window : FrameWindow
            Window whose flow is computed.
        """
        shared = self.ops.share
        features = self._submit(self._features, shared(window.gray), window.first)
        window.motions = self._submit(self._motions, features, shared(window.flow))

    def finish(self, window: FrameWindow) -> list[Planes]:
        """Wait for the camera motion of a window and make its images.

        Parameters
        ----------
        window : FrameWindow
            Window of `begin`.

        Returns
        -------
        list of Planes
            Images of each modality of the recipe that is made from frames.
        """
        made = [
            Planes(name, *MAKERS[MODALITIES[name].maker](window))
            for name in self.recipe.modalities
            if not MODALITIES[name].from_sound
        ]
        if window.motions is not None:
            self.uncertain_pairs += int(np.count_nonzero(window.motions.result().uncertain))
        return [planes for planes in made if len(planes.data)]

    def check_end(self) -> None:
        """Check at the end of the video that its boxes fit it.

        Raises
        ------
        DatasetError
            If the boxes are for another number of frames.
        """
        camera: CameraMotionEstimator | None = self.__dict__.get(
            "camera"
        )  # if warped flow was made at all
        if camera is not None and camera.boxes is not None and self._end is not None:
            camera.boxes.check_count(self._end.number + 1)

    def _features(self, gray: Any, first: int) -> list[Features]:
        """Return the features of a window's frames; reuse those of a frame that is already known.

        `first` is the number of the first frame in the video.
        """
        known = [self._known[1]] if self._known and self._known[0] == first else []
        new = self.camera.features(gray[len(known) :], first + len(known))
        features = [*known, *new]
        self._known = first + len(features) - 1, features[-1]
        if self._start is None:
            self._start = features[0]
        return features

    def _motions(self, features: Future[list[Features]], flow: Any) -> CameraMotions:
        # The features are ready: this thread has found them before.
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
    """Window of frames, and the arrays that its images share, computed at first use.

    Parameters
    ----------
    maker : PlaneMaker
        Maker of the video's images.
    frames : uint8 (T, H, W, 3)
        Frames, which start with the last one of the previous window. It is processed again, which
        is cheap beside the flow of a pair; only its camera features are reused.
    carried : int
        Number of frames from the previous window, 0 or 1.
    owned : int
        Number of frames after them that belong to this part of the video.
    first : int
        Number of the first frame in the video.
    """

    def __init__(
        self, maker: PlaneMaker, frames: NDArray[np.uint8], carried: int, owned: int, first: int
    ) -> None:
        self.maker, self.frames, self.carried, self.first = maker, frames, carried, first
        self.owned = frames[carried : carried + owned]
        self.before: WindowEnd | None = None
        """End of the previous window; None for the first one."""
        self.motions: Future[CameraMotions] | None = None
        """Camera motion; None without warped flow."""

    @classmethod
    def after(
        cls, before: WindowEnd | None, maker: PlaneMaker, frames: NDArray[np.uint8], owned: int
    ) -> FrameWindow:
        """Make the next window.

        Parameters
        ----------
        before : WindowEnd or None
            End of the window before; None for the first window.
        maker : PlaneMaker
            Maker of the video's images.
        frames : uint8 (T, H, W, 3)
            Frames that follow the window before.
        owned : int
            Number of them that belong to this part of the video.

        Returns
        -------
        FrameWindow
            The window.
        """
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
        """Frames on the device, uint8 (T, H, W, 3)."""
        return self.maker.ops.to_device(self.frames)

    @cached_property
    def gray(self) -> Any:
        """Gray frames on the device, (T, H, W)."""
        return self.maker.ops.gray(self.pixels)

    @property
    def flow_frames(self) -> Any:
        """Frames that the flow is computed from, on the device: gray, or RGB."""
        takes_colour = FLOWS[self.maker.recipe.flow.name].takes_colour
        return self.pixels if takes_colour else self.gray

    @cached_property
    def prepared(self) -> Any:
        """Frames as the flow solver prepares them, T in number."""
        return self.maker.solver.prepare(self.flow_frames)

    @cached_property
    def flow(self) -> Any:
        """Flow of consecutive frames on the device, (T - 1, 2, H, W), pixels."""
        return self.maker.solver.solve(self.prepared[:-1], self.prepared[1:])


Made = tuple[Any, dict[str, Any]]
"""Images, uint8 (T, C, H, W), on the host or on the device, and the columns of the modality."""


def _frames(window: FrameWindow) -> Made:
    return window.owned.transpose(0, 3, 1, 2), {}


def _flow(window: FrameWindow) -> Made:
    data, clipped = window.maker.ops.quantise(window.flow, window.maker.recipe.bound)
    return data, {CLIPPED.name: clipped}


def _warped_flow(window: FrameWindow) -> Made:
    maker = window.maker
    assert window.motions is not None
    motions = window.motions.result()
    warped = subtract_motion(
        motions,
        maker.ops,
        maker.solver,
        maker.recipe.warp.margin_px,
        frames=window.flow_frames,
        prepared=window.prepared,
        flow=window.flow,
    )
    data, clipped = maker.ops.quantise(warped, maker.recipe.bound)
    return data, {
        CLIPPED.name: clipped,
        HOMOGRAPHY.name: motions.homographies,
        MATCHES.name: motions.matches,
        INLIERS.name: motions.inliers,
    }


def _differences(window: FrameWindow) -> Made:
    data, clipped = window.maker.ops.difference(window.pixels)
    return data, {CLIPPED.name: clipped}


MAKERS: dict[str, Callable[[FrameWindow], Made]] = {
    "frames": _frames,
    "flow": _flow,
    "warped flow": _warped_flow,
    "differences": _differences,
}
"""Functions that make the images of a window, by the ``maker`` of a modality's row."""


def _boxes(recipe: ExtractRecipe, video_id: str, source_size: tuple[int, int]) -> Any:
    """Return the video's boxes; None if the recipe masks no people.

    Raises
    ------
    DatasetError
        If the file has no boxes for the video and ``warp.missing_boxes`` is ``fail``.
    """
    if not recipe.warp.boxes:
        return None
    boxes = load_boxes(recipe.warp.boxes, video_id, *source_size)
    if boxes is None and recipe.warp.missing_boxes == "fail":
        raise DatasetError(
            f"{recipe.warp.boxes} has no boxes for video {video_id}; add them, or give "
            "--set warp.missing_boxes=unmasked"
        )
    return boxes
