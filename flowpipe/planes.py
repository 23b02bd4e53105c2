"""Frames of one video, window by window -> Planes of every modality the recipe asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import DatasetError
from flowpipe.extract_recipe import ExtractRecipe
from flowpipe.flow import FlowSolver, make_solver
from flowpipe.flow.warped import CameraMotion, Features, load_boxes, warped_flow
from flowpipe.ops import Ops
from flowpipe.types import Planes


class PlaneMaker:
    """Turns windows of frames into images, reaching back one frame so that no pair is lost.

    Parameters
    ----------
    recipe : ExtractRecipe
    ops : Ops
    video_id : str
        Names the video's boxes, where the recipe has some.
    source_size : (int, int)
        (height, width) of the video before resizing: what boxes refer to.
    """

    def __init__(
        self, recipe: ExtractRecipe, ops: Ops, video_id: str, source_size: tuple[int, int]
    ) -> None:
        self.recipe, self.ops = recipe, ops
        self._video_id, self._source_size = video_id, source_size
        self._end: End | None = None

    @cached_property
    def solver(self) -> FlowSolver:
        """Made for the first image that is made of flow: it may need what is not here."""
        return make_solver(self.recipe.flow, self.ops)

    @cached_property
    def camera(self) -> CameraMotion:
        """Made for the first image without the camera's motion: it may need what is not here."""
        boxes = _boxes(self.recipe, self._video_id, self._source_size)
        return CameraMotion(self.recipe.warp, self.ops, boxes)

    def planes(self, frames: NDArray[np.uint8], owned: int) -> list[Planes]:
        """Images of all modalities for the next window.

        Parameters
        ----------
        frames : uint8 (T, H, W, 3)
            They follow the frames of the call before.
        owned : int
            T, or T - 1 where the last frame belongs to the next part of a split video and only
            closes a pair here.
        """
        block = Block(self, frames, owned, self._end)
        made = [PLANES[name](block) for name in self.recipe.modalities]
        self._end = block.end()
        return [planes for planes in made if len(planes.data)]

    def finish(self) -> None:
        """Say so if what was known of the video in advance does not fit it.

        Raises
        ------
        DatasetError
            If its boxes are for another number of frames.
        """
        camera: CameraMotion | None = self.__dict__.get("camera")  # if warped flow was made at all
        if camera is not None and camera.boxes is not None and self._end is not None:
            camera.boxes.check_count(self._end.number + 1)


@dataclass(frozen=True)
class End:
    """What the next window needs of this one. Holds no block, whose flow is tens of megabytes."""

    frame: NDArray[np.uint8]
    """(1, H, W, 3): the last one."""
    number: int
    """Its number in the video."""
    features: list[Features]
    """Its features, where they were asked for."""
    start: Features | None
    """Those of the first frame of the video."""


class Block:
    """A window of frames with what its images share, computed when first asked for.

    Where there was a window before, ``frames`` begins with its last frame, computed anew: that is
    cheap beside a pair's flow, and only the camera's features are worth carrying over.
    """

    def __init__(
        self, maker: PlaneMaker, frames: NDArray[np.uint8], owned: int, before: End | None
    ) -> None:
        self.maker = maker
        self.carried = 0 if before is None else 1
        self.first: int = 0 if before is None else before.number
        """Number in the video of the first frame here."""
        self.frames: NDArray[np.uint8] = (
            frames if before is None else np.concatenate([before.frame, frames])
        )
        self.owned = self.frames[self.carried :][:owned]
        """The new frames that are this part's own."""
        self._carried_features = before.features if before else []
        self.start: Features | None = before.start if before else None
        """Features of the first frame of the video, where warped flow was asked for."""

    def end(self) -> End:
        """What the next window needs; features only if they were computed here."""
        known = self.__dict__.get("features", [])
        number = self.first + len(self.frames) - 1
        return End(self.frames[-1:].copy(), number, known[-1:], self.start)

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

    @cached_property
    def features(self) -> list[Features]:
        known = self._carried_features
        new = self.maker.camera.features(self.gray[len(known) :], self.first + len(known))
        features = [*known, *new]
        if self.start is None:
            self.start = features[0]
        return features


def _rgb(block: Block) -> Planes:
    return Planes("rgb", block.owned.transpose(0, 3, 1, 2))


def _flow(block: Block) -> Planes:
    data, clipped = block.maker.ops.quantise(block.flow, block.maker.recipe.bound)
    return Planes("flow", data, {"clipped": clipped})


def _warped_flow(block: Block) -> Planes:
    maker = block.maker
    warped = warped_flow(
        maker.ops, maker.solver, maker.camera, block.gray, block.prepared, block.flow,
        block.features, block.start,
    )  # fmt: skip
    data, clipped = maker.ops.quantise(warped.flow, maker.recipe.bound)
    columns: dict[str, NDArray[Any]] = {
        "clipped": clipped,
        "homography": warped.homographies,
        "matches": warped.matches,
        "inliers": warped.inliers,
    }
    return Planes("warped_flow", data, columns)


def _rgb_diff(block: Block) -> Planes:
    data, clipped = block.maker.ops.difference(block.pixels)
    return Planes("rgb_diff", data, {"clipped": clipped})


PLANES: dict[str, Callable[[Block], Planes]] = {
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
