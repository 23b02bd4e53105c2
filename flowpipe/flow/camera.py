"""Features of two frames + their flow -> Motion: the homography that the camera's motion makes.

Improved trajectories (Wang and Schmid 2013) as TSN uses them: descriptor matches and flow matches
together, RANSAC at 1 pixel, no motion at all unless enough matches agree. Where two motions compete
the border of the frame tells the camera's from the foreground's (`flowpipe.flow.background`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.flow.background import border_points, choose_background
from flowpipe.flow.boxes import Boxes
from flowpipe.flow.features import Features, make_detector, match_in_window
from flowpipe.ops import Ops, Points

ESTIMATORS = {"ransac": cv2.RANSAC, "magsac": cv2.USAC_MAGSAC}
MOTIONS = 2  # that compete: the camera's, and the largest of the foreground


@dataclass(frozen=True)
class WarpParams:
    """How warped flow is made: the ``warp`` section of a recipe.

    The numbers are those of improved trajectories and of dense_flow. Their SURF is not in OpenCV's
    packages; ``benchmarks/camera_candidates.py`` compares what can take its place.
    """

    mode: Literal["fixed", "dense_flow"] = "fixed"
    """``fixed`` matches points as improved trajectories does. ``dense_flow`` reproduces the bugs of
    the tool that TSN used: keypoints are matched with those of the *first frame of the video*,
    corners of the second frame are taken for points of the first, and the vertical flow at (x, y)
    is read at (y, y). On real clips 1.2 to 3 times as much of the camera's motion stays."""
    detector: Literal["akaze", "sift", "orb"] = "akaze"
    window_px: int = 25
    """Keypoints are compared if they are less than this apart, in x and in y."""
    max_corners: int = 1000
    quality: float = 0.001
    """Weakest corner, as a share of the strongest."""
    min_distance_px: float = 3.0
    estimator: Literal["background", "ransac", "magsac"] = "background"
    """Rule that chooses the camera's homography. ``background`` finds the two that most matches
    agree with and takes the one that holds the border of the frame. ``ransac`` and ``magsac`` take
    OpenCV's estimate of the one that most matches agree with; where a foreground fills half of the
    frame, that is the foreground's."""
    threshold_px: float = 1.0
    """Largest error of a match that agrees with a homography."""
    min_matches: int = 50
    """More than this are needed to look for a homography at all."""
    min_inliers: int = 25
    """More than this must agree with it."""
    margin_px: int = 5
    """Pixels that come from closer than this to the border of the second frame, or from outside,
    are taken from the first frame: no motion there."""
    boxes: str = ""
    """People to leave out: a folder with a file per video, or one JSON lines file; see
    `flowpipe.flow.boxes`. Empty for none."""
    missing_boxes: Literal["fail", "unmasked"] = "fail"
    """What a video without boxes gets, where others have them."""

    def __post_init__(self) -> None:
        for name, least in (("window_px", 1), ("max_corners", 1), ("min_matches", 3),
                            ("min_inliers", 3), ("margin_px", 0)):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.quality <= 1:
            raise ValueError(f"quality must be in (0, 1], got {self.quality}")
        if self.min_distance_px < 0 or not self.threshold_px > 0:
            raise ValueError("min_distance_px must not be negative and threshold_px be above 0")
        if self.mode == "dense_flow" and self.estimator == "background":
            object.__setattr__(self, "estimator", "ransac")  # that tool knows no other
        if self.mode == "dense_flow" and self.boxes:
            raise ValueError("mode dense_flow masks nobody: leave out boxes, or use mode fixed")

    @property
    def needs_first_frame(self) -> bool:
        """Whether a pair depends on the first frame of its video too."""
        return self.mode == "dense_flow"

    @property
    def whole_video(self) -> bool:
        """Whether a video must not be split: a later part knows neither its first frame nor which
        line of a boxes file its own first frame has."""
        return self.needs_first_frame or bool(self.boxes)


@dataclass(frozen=True)
class Motion:
    """How the camera moved from the first frame of a pair to the second."""

    homography: NDArray[np.float64]
    """(3, 3), takes pixels (x, y, 1) of the first frame to the second; the identity if none was
    accepted."""
    matches: int
    inliers: int
    """Matches that agreed with the homography found, accepted or not; 0 where none was found."""
    accepted: bool
    uncertain: bool = False
    """True if another motion holds nearly as much of the border of the frame, or if too little of
    the border agrees with this one. Only the estimator ``background`` sets it."""


class CameraMotion:
    """Finds the motion of the camera between frames of one video.

    Holds no frames: `estimate` depends on its arguments only, so windows may be cut anywhere.

    Parameters
    ----------
    params : WarpParams
    ops : Ops
        Device that finds and matches features.
    boxes : Boxes, optional
        Where people are in this video; nothing is looked for there.

    Raises
    ------
    BackendError
        If the installed OpenCV lacks the detector.
    """

    def __init__(self, params: WarpParams, ops: Ops, boxes: Boxes | None = None) -> None:
        self.params, self.boxes = params, boxes
        self._ops, self._detector = ops, make_detector(params.detector, ops)

    def features(self, gray: Any, number: int) -> list[Features]:
        """Find keypoints and corners of frames.

        Parameters
        ----------
        gray : uint8 (N, H, W)
            Consecutive frames, where the backend computes.
        number : int
            Number in the video of the first of them, from 0; picks the boxes.

        Raises
        ------
        DatasetError
            If the boxes file ends before these frames.
        """
        p, mask = self.params, None
        if self.boxes is not None:
            numbers = range(number, number + len(gray))
            mask = np.stack([self.boxes.mask(k, *gray.shape[1:]) for k in numbers])
        how = p.max_corners, p.quality, p.min_distance_px
        corners = self._ops.features.corners(gray, *how, mask)
        if p.estimator == "background":
            border = border_points(self._ops, gray, mask)
            corners = [np.concatenate(both) for both in zip(corners, border, strict=True)]
        return [
            Features(found.points, found.descriptors, good)
            for found, good in zip(self._detector(gray, mask), corners, strict=True)
        ]

    def places(
        self, first: Features, second: Features, height: int, width: int
    ) -> NDArray[np.int64]:
        """(C, 2): where in a pair's flow (2, H, W), in flat order, `estimate` wants to know it."""
        misread = self.params.mode == "dense_flow"
        return flow_places((second if misread else first).corners, height, width, misread=misread)

    def estimate(
        self,
        features: Sequence[Features],
        steps: Sequence[NDArray[np.float32]],
        start: Features | None = None,
    ) -> list[Motion]:
        """Find the homography of every pair of consecutive frames.

        Parameters
        ----------
        features : sequence of N + 1 Features
        steps : sequence of N float32 (C, 2)
            Flow of each pair at its `places`.
        start : Features, optional
            Features of the first frame of the video, where `WarpParams.needs_first_frame`.
        """
        return [self.fit(*points) for points in self.matches(features, steps, start)]

    def matches(
        self,
        features: Sequence[Features],
        steps: Sequence[NDArray[np.float32]],
        start: Features | None = None,
    ) -> list[tuple[Points, Points]]:
        """Return what `estimate` fits homographies to: points of both frames, float32 (M, 2) each,
        of every pair."""
        firsts, seconds = features[:-1], features[1:]
        compared, followed = firsts, firsts
        if self.params.mode == "dense_flow":
            if start is None:
                raise ValueError("mode dense_flow needs the features of the video's first frame")
            compared, followed = [start] * len(seconds), seconds
        pairs = list(zip(compared, seconds, strict=True))
        described = match_in_window(self._ops, pairs, self.params.window_px)
        matches = []
        for frame, step, keypoints in zip(followed, steps, described, strict=True):
            in_first, in_second = zip(follow(frame.corners, step), keypoints, strict=True)
            matches.append((np.concatenate(in_first), np.concatenate(in_second)))
        return matches

    def fit(self, in_first: Points, in_second: Points) -> Motion:
        """Find the homography of the camera among matches (M, 2), or none."""
        if len(in_first) <= self.params.min_matches:
            return Motion(np.eye(3), len(in_first), 0, False)
        if self.params.estimator == "background":
            return self._fit_background(in_first, in_second)
        return self._fit_most(in_first, in_second)

    def _fit_background(self, in_first: Points, in_second: Points) -> Motion:
        p = self.params
        found, agree = self._ops.features.homographies(
            in_first, in_second, p.threshold_px, MOTIONS, p.min_inliers
        )
        if not len(found):
            return Motion(np.eye(3), len(in_first), 0, False)
        chosen, uncertain = choose_background(in_first, found, agree, p.threshold_px)
        inliers = int(np.count_nonzero(agree[chosen]))
        if inliers <= p.min_inliers:  # fewer than before the last fit
            return Motion(np.eye(3), len(in_first), inliers, False)
        return Motion(found[chosen], len(in_first), inliers, True, uncertain)

    def _fit_most(self, in_first: Points, in_second: Points) -> Motion:
        # OpenCV's estimators seed their generator anew in every call: same matches, same result.
        p = self.params
        homography, agree = cv2.findHomography(
            in_first, in_second, ESTIMATORS[p.estimator], p.threshold_px
        )
        inliers = 0 if homography is None else int(np.count_nonzero(agree))
        if homography is None or inliers <= p.min_inliers or not np.isfinite(homography).all():
            return Motion(np.eye(3), len(in_first), inliers, False)
        return Motion(np.asarray(homography, np.float64), len(in_first), inliers, True)


def flow_places(
    corners: Points, height: int, width: int, *, misread: bool = False
) -> NDArray[np.int64]:
    """Where the flow (2, H, W) at the pixels nearest to corners lies in its flat order.

    Parameters
    ----------
    corners : float32 (C, 2)
    height, width : int
    misread : bool
        Read the vertical component at column y instead of x, as dense_flow does; beyond the end of
        a row this runs on into the next ones.

    Returns
    -------
    int64 (C, 2)
        Of u and of v.
    """
    x = np.clip(np.rint(corners[:, 0]), 0, width - 1).astype(np.int64)
    y = np.clip(np.rint(corners[:, 1]), 0, height - 1).astype(np.int64)
    u = y * width + x
    v = np.minimum(y * width + y, height * width - 1) if misread else u
    return np.stack([u, v + height * width], axis=1)


def follow(corners: Points, step: NDArray[np.float32]) -> tuple[Points, Points]:
    """Corners and where their flow takes them.

    Parameters
    ----------
    corners, step : float32 (C, 2)
        Corners whose flow is not finite are left out.

    Returns
    -------
    from_, to : float32 (M, 2)
    """
    to = corners + step
    sound = np.isfinite(step[:, 0]) & np.isfinite(step[:, 1])
    return (corners, to) if sound.all() else (corners[sound], to[sound])
