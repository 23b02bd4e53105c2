"""Scenes and clips -> a table: alternatives to AKAZE and to the estimator.

    python benchmarks/camera_candidates.py [--clips FOLDER] [--pairs N]

One thread, CPU time, frames of 340x256. Every candidate uses the same corners, flow and matching as
the default; only the keypoints and their binary descriptors differ, and the estimator in one row.
camera_foreground.py has the scenes of docs/camera.md that test the estimator. The first table has
the cost, the error where the motion is known, and the length of the warped flow of real clips. The
second table has scenes whose foreground, a textured disc with its own motion, fills much of the
frame.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "benchmarks")]

from camera import HEIGHT, WIDTH, Clock, read_clips  # noqa: E402
from camera_scene import CameraScene, camera_step, corner_error_px, film  # noqa: E402

from flowpipe.flow import FLOWS, make_solver  # noqa: E402
from flowpipe.flow.background import border_points  # noqa: E402
from flowpipe.flow.camera import CameraMotion, CameraMotionEstimator, WarpParams  # noqa: E402
from flowpipe.flow.features import Detector, Features, make_detector  # noqa: E402
from flowpipe.ops import Keypoints, get_ops  # noqa: E402
from flowpipe.ops.reference_features import opencv_keypoints  # noqa: E402

STEPS_PX = (1.0, 5.0, 12.0, 20.0)
LOST_PX = 20.0  # a camera step that the flow has missed
COVERED = (0.3, 0.5, 0.7)
CAMERA_PX, FOREGROUND_PX = (6.0, 2.0), (-4.0, -3.0)
BORDER_PX = 32
PARAMS, CPU = WarpParams(), get_ops("cpu")
RANSAC = "akaze, estimator ransac"
NOTHING = Keypoints(np.empty((0, 2), np.float32), np.empty((0, 4), np.uint64))


def detect_at_half_size(detector: Detector, gray: np.ndarray, mask: Any = None) -> list[Keypoints]:
    """Detect keypoints in the frames at half their size."""
    small = [cv2.resize(g, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for g in gray]
    return [
        Keypoints(2 * found.points + np.float32(0.5), found.descriptors)
        for found in detector(np.stack(small), None)
    ]


def upright(
    detect: Callable[[np.ndarray], Any], brief: Any, gray: np.ndarray, mask: Any = None
) -> list[Keypoints]:
    """Describe keypoints by 256 bits of BRIEF, which ignores their orientation."""
    frames = []
    for image in gray:
        found, bits = brief.compute(image, detect(image))
        points = np.asarray(cv2.KeyPoint.convert(found), np.float32)
        words = np.ascontiguousarray(bits).view(np.uint64) if len(points) else None
        frames.append(NOTHING if words is None else Keypoints(points, words))
    return frames


def two_scales(detector: Detector, gray: np.ndarray, mask: Any = None) -> list[Keypoints]:
    """Detect keypoints in the frames and in the frames at half their size."""
    return [
        Keypoints(
            np.concatenate([large.points, small.points]),
            np.concatenate([large.descriptors, small.descriptors]),
        )
        for large, small in zip(
            detector(gray, None), detect_at_half_size(detector, gray), strict=True
        )
    ]


def _fast(gray: np.ndarray) -> Any:
    return cv2.FastFeatureDetector.create(threshold=12).detect(gray)


def _corners(gray: np.ndarray) -> Any:
    return cv2.KeyPoint.convert(_good(gray[None])[0], 31.0)


def _good(gray: np.ndarray) -> list[np.ndarray]:
    """Return the default's corners."""
    how = PARAMS.max_corners, PARAMS.quality, PARAMS.min_distance_px
    return CPU.features.corners(gray, *how)


def _opencv_akaze(threshold: float) -> Detector:
    home: Any = cv2 if hasattr(cv2, "AKAZE_create") else cv2.xfeatures2d
    kind = home.AKAZE_DESCRIPTOR_MLDB_UPRIGHT
    made = home.AKAZE_create(descriptor_type=kind, threshold=threshold, nOctaves=1, nOctaveLayers=1)
    return partial(opencv_keypoints, made)


def _orb(scales: int) -> Detector:
    return partial(opencv_keypoints, cv2.ORB.create(nfeatures=1000, nlevels=scales))


def _brief(detect: Callable[[np.ndarray], Any]) -> Detector:
    return partial(upright, detect, cv2.xfeatures2d.BriefDescriptorExtractor.create(32))


CANDIDATES: dict[str, Callable[[], Detector | None]] = {
    "akaze (the default)": lambda: make_detector("akaze", CPU),
    RANSAC: lambda: make_detector("akaze", CPU),
    "akaze by OpenCV": lambda: _opencv_akaze(2e-4),
    "the same, threshold 1e-3": lambda: _opencv_akaze(1e-3),
    "akaze, half size": lambda: partial(detect_at_half_size, make_detector("akaze", CPU)),
    "orb, 4 scales": lambda: _orb(4),
    "orb, 2 scales": lambda: _orb(2),
    "orb, 1 scale": lambda: _orb(1),
    "FAST + BRIEF": lambda: _brief(_fast),
    "FAST + BRIEF, 2 scales": lambda: partial(two_scales, _brief(_fast)),
    "corners + BRIEF": lambda: _brief(_corners),
    "corners and flow alone": lambda: None,
}


def camera_of(name: str) -> CameraMotionEstimator:
    """Return the default settings with another estimator."""
    return CameraMotionEstimator(WarpParams(estimator="ransac") if name == RANSAC else PARAMS, CPU)


def features(
    camera: CameraMotionEstimator, detector: Detector | None, gray: np.ndarray
) -> Features:
    """Return the default's corners with a candidate's keypoints."""
    [found] = [NOTHING] if detector is None else detector(gray[None], None)
    [corners] = _good(gray[None])
    if camera.params.estimator == "background":
        corners = np.concatenate([corners, *border_points(CPU, gray[None])])
    return Features(found.points, found.descriptors, corners)


def motion(
    camera: CameraMotionEstimator, detector: Detector | None, pair: np.ndarray, flow: np.ndarray
) -> CameraMotion:
    """Estimate the camera motion of a pair by a candidate."""
    first, second = (features(camera, detector, frame) for frame in pair)
    step = flow.ravel()[camera.sample_points(first, second, *flow.shape[1:])]
    return camera.estimate([first, second], [step])[0]


def cost_ms(
    camera: CameraMotionEstimator,
    detector: Detector | None,
    clips: dict[str, np.ndarray],
    flows: dict[str, np.ndarray],
) -> float:
    """Return the median CPU ms per pair: features of one frame, matching and RANSAC."""
    clock = Clock()
    for name, gray in clips.items():
        before = features(camera, detector, gray[0])
        for k in range(1, len(gray)):
            after = clock.least("features", 3, features, camera, detector, gray[k])
            step = flows[name][k - 1].ravel()[camera.sample_points(before, after, *gray.shape[1:])]
            clock.least("estimate", 3, camera.estimate, [before, after], [step])
            before = after
    return clock.median("features") + clock.median("estimate")


def displacement(homography: np.ndarray) -> np.ndarray:
    """Return how far a homography moves each pixel, (2, H, W)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    moved = np.tensordot(homography, np.stack([x, y, np.ones_like(x)]), axes=1)
    return moved[:2] / moved[2] - np.stack([x, y])


def residual_px(found: CameraMotion, flow: np.ndarray) -> tuple[float, float]:
    """Return the median length of the flow without a motion: in the frame, near its border."""
    left = np.hypot(*(flow - displacement(found.homography)))
    border = np.ones_like(left, bool)
    border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    return float(np.median(left)), float(np.median(left[border]))


def make_covered_scene(rng: np.random.Generator, share: float) -> CameraScene:
    """Make a pair whose foreground fills a share of the frame."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(x - WIDTH // 2, y - HEIGHT // 2)
    step = np.eye(3)
    step[:2, 2] = CAMERA_PX
    patch = round(2 * float(np.quantile(distance, share)))
    return film(rng, [step], patch_px=patch, patch_step=FOREGROUND_PX, noise=2.0)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clips", type=Path, default=ROOT.parent / "shared" / "data" / "clips")
    parser.add_argument("--pairs", type=int, default=8, help="scenes of each kind")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    solver = make_solver(FLOWS["tvl1"].params(), get_ops("cpu"))
    rng = np.random.default_rng(0)

    def flow_of(gray: np.ndarray) -> np.ndarray:
        prepared = solver.prepare(gray)
        return np.asarray(solver.solve(prepared[:-1], prepared[1:]))

    clips = read_clips(options.clips, most=10, frames=7)
    if not clips:
        sys.exit(f"needs clips, found none in {options.clips}: --clips FOLDER")
    flows = {name: flow_of(gray) for name, gray in clips.items()}
    known = {
        step: [
            film(rng, [camera_step(HEIGHT, WIDTH, step, rng)], patch_px=165, noise=2.0)
            for _ in range(options.pairs)
        ]
        for step in STEPS_PX
    }
    covered = {
        share: [make_covered_scene(rng, share) for _ in range(options.pairs)] for share in COVERED
    }
    scenes = [scene for group in (known, covered) for kind in group.values() for scene in kind]
    scene_flows = {id(scene): flow_of(scene.frames)[0] for scene in scenes}
    fast = [film(rng, [camera_step(HEIGHT, WIDTH, LOST_PX, rng)]) for _ in range(options.pairs)]
    lost = rng.uniform(-4, 4, (2, HEIGHT, WIDTH)).astype(np.float32)

    print(f"OpenCV {cv2.__version__}; {len(clips)} clips, {options.pairs} scenes of each kind")
    plain = np.mean([np.median(np.hypot(*f)) for group in flows.values() for f in group])
    print(f"\nreal clips: median length of the flow {plain:.2f} px (mean over pairs)")
    print(f"{'':25}{'ms a pair':>10}{'points':>8}{'inliers':>9}{'warped':>9}{'border':>8}"
          "   corner error in px by camera step, median (worst)")  # fmt: skip
    steps = "".join(f"{step:6.0f} px      " for step in STEPS_PX)
    print(" " * 69 + steps + f"{LOST_PX:6.0f} px, flow lost")
    for name, make in CANDIDATES.items():
        camera, detector = camera_of(name), make()
        row = f"{name:25}{cost_ms(camera, detector, clips, flows):10.2f}"
        points = [len(features(camera, detector, gray[0]).points) for gray in clips.values()]
        pairs = [
            (motion(camera, detector, gray[k : k + 2], flows[clip][k]), flows[clip][k])
            for clip, gray in clips.items()
            for k in range(len(gray) - 1)
        ]
        inliers = np.mean([m.inliers / max(m.matches, 1) for m, _ in pairs])
        left, border = np.mean([residual_px(*p) for p in pairs], axis=0)
        row += f"{np.mean(points):8.0f}{inliers:9.2f}{left:9.3f}{border:8.3f}"
        groups = [[(scene, scene_flows[id(scene)]) for scene in group] for group in known.values()]
        for group in (*groups, [(scene, lost) for scene in fast]):
            errors = []
            for scene, flow in group:
                found = motion(camera, detector, scene.frames, flow).homography
                errors.append(corner_error_px(found, scene.homographies[0], (HEIGHT, WIDTH)))
            row += f"{np.median(errors):7.2f} ({max(errors):5.2f})"
        print(row, flush=True)

    print(f"\ncamera {CAMERA_PX} px, foreground {FOREGROUND_PX} px: error of the camera's motion "
          "over the background in px, median (worst), and scenes with more than 1 px")  # fmt: skip
    print(" " * 25 + "".join(f"{f'{share:.0%} covered':>20}    " for share in COVERED))
    for name, make in CANDIDATES.items():
        camera, detector, row = camera_of(name), make(), f"{name:25}"
        for group in covered.values():
            errors = []
            for scene in group:
                found = motion(camera, detector, scene.frames, scene_flows[id(scene)])
                off = displacement(found.homography) - scene.true_flow(0)
                errors.append(float(np.hypot(*off)[scene.background[0]].mean()))
            wrong = sum(error > 1 for error in errors)
            row += f"{np.median(errors):9.2f} ({max(errors):5.2f}) {wrong:2d}/{len(errors)} "
        print(row, flush=True)


if __name__ == "__main__":
    main()
