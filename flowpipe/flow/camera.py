"""Features of two frames + their flow -> CameraMotion: the homography of the camera's motion.

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


@dataclass(frozen=True, kw_only=True)
class WarpParams:
    """Settings of warped flow: the ``warp`` section of a recipe.

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
    """Largest distance of matched keypoints in x and in y, pixels, exclusive."""
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
    """Largest reprojection error of an inlier, pixels."""
    min_matches: int = 50
    """A homography is estimated only from more matches than this."""
    min_inliers: int = 25
    """A homography is accepted only with more inliers than this."""
    margin_px: int = 5
    """Width of the border of the second frame that is not sampled, pixels. The warped frame has
    the pixels of the first frame there, and so no motion."""
    boxes: str = ""
    """People to leave out: a folder with a file per video, or one JSON lines file; see
    `flowpipe.flow.boxes`. Empty for none."""
    missing_boxes: Literal["fail", "unmasked"] = "fail"
    """Handling of videos without boxes: ``fail``, or ``unmasked`` to compute without a mask."""

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
            object.__setattr__(self, "estimator", "ransac")  # dense_flow has no other
        if self.mode == "dense_flow" and self.boxes:
            raise ValueError("mode dense_flow masks no people; leave out boxes, or use mode fixed")

    @property
    def needs_first_frame(self) -> bool:
        """True if every pair also depends on the first frame of its video."""
        return self.mode == "dense_flow"

    @property
    def needs_whole_video(self) -> bool:
        """True if a video must not be split.

        A later part lacks the first frame, and the number of its own first frame in the boxes file.
        """
        return self.needs_first_frame or bool(self.boxes)


@dataclass(frozen=True)
class CameraMotion:
    """Camera motion from the first frame of a pair to the second."""

    homography: NDArray[np.float64]
    """(3, 3), maps pixels (x, y, 1) of the first frame to the second; identity if not accepted."""
    matches: int
    inliers: int
    """Inliers of the homography, accepted or not; 0 if none was found."""
    uncertain: bool = False
    """True if another motion holds nearly as much of the border of the frame, or if too little of
    the border agrees with this one. Only the estimator ``background`` sets it."""


class CameraMotionEstimator:
    """Estimate the camera motion between frames of one video.

    It holds no frames: `estimate` depends on its arguments only, so windows may start anywhere.

    Parameters
    ----------
    params : WarpParams
        Settings.
    ops : Ops
        Device that finds and matches features.
    boxes : Boxes, optional
        People in this video; no features are detected inside the boxes.

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
            Index of the first of these frames in the video, from 0; selects the boxes.

        Returns
        -------
        list of N Features
            Features of each frame.

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

    def sample_points(
        self, first: Features, second: Features, height: int, width: int
    ) -> NDArray[np.int64]:
        """Return where `estimate` needs the flow of a pair.

        Parameters
        ----------
        first, second : Features
            Features of the frames of the pair.
        height, width : int
            Size of the frames, pixels.

        Returns
        -------
        int64 (C, 2)
            Flat indices of the flow (2, H, W).
        """
        misread = self.params.mode == "dense_flow"
        return flow_sample_points(
            (second if misread else first).corners, height, width, misread=misread
        )

    def estimate(
        self,
        features: Sequence[Features],
        steps: Sequence[NDArray[np.float32]],
        start: Features | None = None,
    ) -> list[CameraMotion]:
        """Find the homography of every pair of consecutive frames.

        Parameters
        ----------
        features : sequence of N + 1 Features
            Features of consecutive frames.
        steps : sequence of N float32 (C, 2)
            Flow of each pair at its `sample_points`.
        start : Features, optional
            Features of the first frame of the video, where `WarpParams.needs_first_frame`.

        Returns
        -------
        list of N CameraMotion
            Motion of each pair.
        """
        return [self.fit(*points) for points in self.matches(features, steps, start)]

    def matches(
        self,
        features: Sequence[Features],
        steps: Sequence[NDArray[np.float32]],
        start: Features | None = None,
    ) -> list[tuple[Points, Points]]:
        """Match the points of every pair.

        Parameters
        ----------
        features : sequence of N + 1 Features
            Features of consecutive frames.
        steps : sequence of N float32 (C, 2)
            Flow of each pair at its `sample_points`.
        start : Features, optional
            Features of the first frame of the video, where `WarpParams.needs_first_frame`.

        Returns
        -------
        list of N (in_first, in_second)
            Matched points of both frames, float32 (M, 2) each, pixels.
        """
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
            in_first, in_second = zip(match_along_flow(frame.corners, step), keypoints, strict=True)
            matches.append((np.concatenate(in_first), np.concatenate(in_second)))
        return matches

    def fit(self, in_first: Points, in_second: Points) -> CameraMotion:
        """Fit the camera's homography to matches.

        Parameters
        ----------
        in_first, in_second : float32 (M, 2)
            Matched points of both frames, pixels.

        Returns
        -------
        CameraMotion
            Homography; the identity if none is accepted.
        """
        if len(in_first) <= self.params.min_matches:
            return CameraMotion(np.eye(3), len(in_first), 0)
        if self.params.estimator == "background":
            return self._fit_background(in_first, in_second)
        return self._fit_most(in_first, in_second)

    def _fit_background(self, in_first: Points, in_second: Points) -> CameraMotion:
        p = self.params
        found, agree = self._ops.features.homographies(
            in_first, in_second, p.threshold_px, MOTIONS, p.min_inliers
        )
        if not len(found):
            return CameraMotion(np.eye(3), len(in_first), 0)
        chosen, uncertain = choose_background(in_first, found, agree, p.threshold_px)
        inliers = int(np.count_nonzero(agree[chosen]))
        if inliers <= p.min_inliers:  # fewer than before the last fit
            return CameraMotion(np.eye(3), len(in_first), inliers)
        return CameraMotion(found[chosen], len(in_first), inliers, uncertain)

    def _fit_most(self, in_first: Points, in_second: Points) -> CameraMotion:
        # OpenCV's estimators seed their generator anew in every call: same matches, same result.
        p = self.params
        homography, agree = cv2.findHomography(
            in_first, in_second, ESTIMATORS[p.estimator], p.threshold_px
        )
        inliers = 0 if homography is None else int(np.count_nonzero(agree))
        if homography is None or inliers <= p.min_inliers or not np.isfinite(homography).all():
            return CameraMotion(np.eye(3), len(in_first), inliers)
        return CameraMotion(np.asarray(homography, np.float64), len(in_first), inliers)


def flow_sample_points(
    corners: Points, height: int, width: int, *, misread: bool = False
) -> NDArray[np.int64]:
    """Return the flat indices of the flow (2, H, W) at the pixels nearest to corners.

    Parameters
    ----------
    corners : float32 (C, 2)
        Positions x, y in pixels.
    height, width : int
        Size of the flow, pixels.
    misread : bool
        Read the vertical component at column y instead of x, as dense_flow does. An index beyond
        the end of a row continues in the following rows.

    Returns
    -------
    int64 (C, 2)
        Indices of u and of v.
    """
    x = np.clip(np.rint(corners[:, 0]), 0, width - 1).astype(np.int64)
    y = np.clip(np.rint(corners[:, 1]), 0, height - 1).astype(np.int64)
    u = y * width + x
    v = np.minimum(y * width + y, height * width - 1) if misread else u
    return np.stack([u, v + height * width], axis=1)


def match_along_flow(corners: Points, step: NDArray[np.float32]) -> tuple[Points, Points]:
    """Match corners to the points that their flow leads to.

    Parameters
    ----------
    corners, step : float32 (C, 2)
        Positions and flow, pixels. Corners with flow that is not finite are dropped.

    Returns
    -------
    from_ : float32 (M, 2)
        Corners, pixels.
    to : float32 (M, 2)
        Points that they move to, pixels.
    """
    to = corners + step
    sound = np.isfinite(step[:, 0]) & np.isfinite(step[:, 1])
    return (corners, to) if sound.all() else (corners[sound], to[sound])
