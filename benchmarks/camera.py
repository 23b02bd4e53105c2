"""Scenes and clips -> tables: cost and accuracy of the camera's motion.

    python benchmarks/camera.py [--clips FOLDER] [--device cpu]

Times are CPU time of one thread (not wall time), on frames of 340x256. The tables are:

1. the cost of each step, and of one TV-L1 of the same pair;
2. the cost of keypoints, corners and matches in NumPy and OpenCV, and in the compiled core, whose
   results must be equal;
3. the error of the homography where the motion is known, with flows that follow large motion and
   with one that fails (tvl1 of variant opencv4);
4. the length of the warped flow of real clips.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from camera_scene import CameraScene, camera_step, corner_error_px, film  # noqa: E402

from flowpipe.flow import FLOWS, make_solver  # noqa: E402
from flowpipe.flow.camera import CameraMotionEstimator, WarpParams  # noqa: E402
from flowpipe.flow.features import DETECTORS, Features, make_detector  # noqa: E402
from flowpipe.flow.warped import find_motions, subtract_motion  # noqa: E402
from flowpipe.ops import get_ops  # noqa: E402
from flowpipe.video import open_video  # noqa: E402

HEIGHT, WIDTH = 256, 340
STEPS_PX = (0.0, 1.0, 5.0, 12.0, 20.0)


class Clock:
    """Milliseconds of CPU time by name; `of` gives the median."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = defaultdict(list)

    def time(self, name: str, call: Callable[..., Any], *arguments: Any, share: int = 1) -> Any:
        began = time.process_time()
        result = call(*arguments)
        self.spent[name].append(1000 * (time.process_time() - began) / share)
        return result

    def least(self, name: str, repeats: int, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call several times; record the least time."""
        for _ in range(repeats):
            result = self.time(name, call, *arguments)
        times = self.spent[name]
        times[-repeats:] = [min(times[-repeats:])]
        return result

    def median(self, name: str) -> float:
        return float(np.median(self.spent[name]))


def read_clips(folder: Path, most: int, frames: int) -> dict[str, np.ndarray]:
    """Return gray frames by clip name, uint8 (T, 256, 340) gray; `frames` of the middle of each."""
    ops = get_ops("reference")
    paths = [p for p in sorted(folder.rglob("*")) if p.suffix in (".avi", ".mp4")]
    clips = {}
    for path in paths[:: max(1, len(paths) // most)]:
        try:
            with open_video(str(path)) as video:
                windows = list(video.windows(max_frames=frames))
        except Exception as error:
            print(f"left out {path.name}: {error}")
            continue
        data = windows[len(windows) // 2].data
        if len(data) == frames:
            clips[path.name] = ops.gray(ops.resize(data, HEIGHT, WIDTH))
    return clips


def cost(clips: dict[str, np.ndarray], ops: Any) -> None:
    """Print CPU time per frame of each piece, by detector, over all clips."""
    solver = make_solver(FLOWS["tvl1"].params(), ops)
    clock = Clock()
    flows = {}
    for name, gray in clips.items():
        prepared = solver.prepare(gray)
        flows[name] = clock.time(
            "tvl1", solver.solve, prepared[:-1], prepared[1:], share=len(gray) - 1
        )
    print(f"\nCPU ms per frame, median; TV-L1 ({ops.name}): {clock.median('tvl1'):.1f} per pair")
    print(f"{'detector':10}{'keypoints':>11}{'corners':>9}{'matches':>9}{'RANSAC':>8}"
          f"{'all':>8}{'/ TV-L1':>9}{'points':>8}{'inliers':>9}"
          f"{'accepted':>10}")  # fmt: skip
    for detector in DETECTORS:
        params = WarpParams(detector=detector)
        camera, detect = CameraMotionEstimator(params, ops), make_detector(detector, ops)
        points, inliers, accepted = [], [], []
        for name, gray in clips.items():
            before: Features | None = None
            for k in range(len(gray)):
                d, frame = detector, gray[k : k + 1]
                clock.time(d + "keypoints", detect, frame, None)
                clock.time(d + "corners", ops.features.corners, frame, params.max_corners,
                           params.quality, params.min_distance_px)  # fmt: skip
                [features] = clock.time(d + "features", camera.features, frame, k)
                points.append(len(features.points))
                if before is not None:
                    places = camera.sample_points(before, features, *gray.shape[1:])
                    step = flows[name][k - 1].ravel()[places]
                    pair = [before, features], [step]
                    [matches] = clock.time(d + "matches", camera.matches, *pair)
                    motion = clock.time(d + "fit", camera.fit, *matches)
                    inliers.append(motion.inliers / max(motion.matches, 1))
                    accepted.append((motion.homography != np.eye(3)).any())
                before = features
        whole = sum(clock.median(d + piece) for piece in ("features", "matches", "fit"))
        print(f"{d:10}{clock.median(d + 'keypoints'):11.2f}{clock.median(d + 'corners'):9.2f}"
              f"{clock.median(d + 'matches'):9.2f}{clock.median(d + 'fit'):8.2f}"
              f"{whole:8.2f}"
              f"{whole / clock.median('tvl1'):9.2f}{np.mean(points):8.0f}{np.mean(inliers):9.2f}"
              f"{np.mean(accepted):10.2f}")  # fmt: skip
    print("all = keypoints + corners + matches + RANSAC")


def core(clips: dict[str, np.ndarray], repeats: int = 5) -> None:
    """Print the CPU time of features and matches, with and without the compiled core in turn."""
    params, clock = WarpParams(), Clock()
    makers = {"NumPy, OpenCV": get_ops("reference").features, "compiled core": get_ops().features}
    how = params.max_corners, params.quality, params.min_distance_px
    pieces = "akaze", "corners", "matches"
    for gray in clips.values():
        [before] = makers["compiled core"].akaze(gray[:1])
        for k in range(1, len(gray)):
            frame = gray[k : k + 1]
            results = []
            for name, ops in makers.items():
                [points] = clock.least(name + "akaze", repeats, ops.akaze, frame)
                [corners] = clock.least(name + "corners", repeats, ops.corners, frame, *how)
                pairs = [(before, points)], params.window_px
                [match] = clock.least(name + "matches", repeats, ops.match_keypoints, *pairs)
                found = points.points, points.descriptors, corners, match
                results.append([array.tobytes() for array in found])
            assert results[0] == results[1], "the compiled core gives other features"
            before = points
    print(f"\nCPU ms, median over frames, minimum of {repeats} runs each")
    print(f"{'':16}" + "".join(f"{piece:>9}" for piece in pieces))
    for name in makers:
        print(f"{name:16}" + "".join(f"{clock.median(name + piece):9.3f}" for piece in pieces))


def accuracy(pairs: int, ops: Any) -> None:
    """Print corner errors on scenes whose motion is known, a quarter of them covered by a patch."""
    rng = np.random.default_rng(0)
    scenes: list[list[CameraScene]] = [
        [
            film(
                rng,
                [camera_step(HEIGHT, WIDTH, step, rng) if step else np.eye(3)],
                patch_px=165,
                noise=2.0,
            )  # fmt: skip
            for _ in range(pairs)
        ]
        for step in STEPS_PX
    ]
    kinds = {
        "dis": FLOWS["dis"].params(),
        "tvl1 opencv2": FLOWS["tvl1"].params(variant="opencv2"),
        "tvl1 opencv4": FLOWS["tvl1"].params(variant="opencv4"),
    }
    flows = {}
    for name, params in kinds.items():
        solver = make_solver(params, ops)
        flows[name] = [
            [
                solver.solve(solver.prepare(s.frames[:1]), solver.prepare(s.frames[1:]))[0]
                for s in group
            ]
            for group in scenes
        ]
    print("\ncorner error in px by camera step: median (worst) of", pairs, "scenes")
    steps = "".join(f"{step:6.0f} px       " for step in STEPS_PX)
    print(f"{'detector':10}{'estimator':11}{'flow':13}{steps}")
    for detector in DETECTORS:
        for estimator in ("background", "ransac", "magsac"):
            camera = CameraMotionEstimator(WarpParams(detector=detector, estimator=estimator), ops)
            for flow_name, fields in flows.items():
                row = ""
                for group, flow_group in zip(scenes, fields, strict=True):
                    errors = [_error(camera, *pair) for pair in zip(group, flow_group, strict=True)]
                    row += f"{np.median(errors):6.2f} ({max(errors):5.2f}) "
                print(f"{detector:10}{estimator:11}{flow_name:13}{row}")


def _error(camera: CameraMotionEstimator, scene: CameraScene, flow: np.ndarray) -> float:
    features = camera.features(scene.frames, 0)
    step = flow.ravel()[camera.sample_points(*features, *flow.shape[1:])]
    [found] = camera.estimate(features, [step])
    return corner_error_px(found.homography, scene.homographies[0], (HEIGHT, WIDTH))


def residual(clips: dict[str, np.ndarray], ops: Any, flow_name: str) -> None:
    """Print the median length of plain and warped flow of every clip, for both modes."""
    solver = make_solver(FLOWS[flow_name].params(), ops)
    print(f"\nmedian flow in px per frame ({flow_name}), and share of pairs with a motion removed")
    print(f"{'clip':44}{'plain':>7}{'fixed':>8}{'removed':>9}{'dense_flow':>12}{'removed':>9}")
    for name, gray in clips.items():
        prepared = solver.prepare(gray)
        flow = solver.solve(prepared[:-1], prepared[1:])
        row = f"{name[:42]:44}{_median_length(flow):7.2f}"
        for mode, width in (("fixed", 8), ("dense_flow", 12)):
            camera = CameraMotionEstimator(WarpParams(mode=mode), ops)
            features = camera.features(gray, 0)
            motions = find_motions(ops, camera, flow, features, features[0])
            warped = subtract_motion(
                motions,
                ops,
                solver,
                camera.params.margin_px,
                frames=gray,
                prepared=prepared,
                flow=flow,
            )
            removed = (motions.homographies != np.eye(3)).any(axis=(1, 2)).mean()
            row += f"{_median_length(warped):{width}.2f}{removed:9.2f}"
        print(row)


def _median_length(flow: np.ndarray) -> float:
    return float(np.median(np.hypot(flow[:, 0], flow[:, 1])))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clips", type=Path, default=ROOT.parent / "shared" / "data" / "clips")
    parser.add_argument("--device", default="cpu", help="device of TV-L1: cpu or reference")
    parser.add_argument("--flow", default="tvl1", help="flow of the third table")
    parser.add_argument("--pairs", type=int, default=8, help="scenes per camera step")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    ops = get_ops(options.device)
    print(f"OpenCV {cv2.__version__}, NumPy {np.__version__}, {WIDTH}x{HEIGHT}")
    clips = read_clips(options.clips, most=10, frames=7) if options.clips.is_dir() else {}
    if not clips:
        rng = np.random.default_rng(1)
        steps = [camera_step(HEIGHT, WIDTH, 5.0, rng) for _ in range(6)]
        clips = {"synthetic scene": film(rng, steps).frames}
    cost(clips, ops)
    core(clips)
    accuracy(options.pairs, ops)
    residual(clips, ops, options.flow)


if __name__ == "__main__":
    main()
