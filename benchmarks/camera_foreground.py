"""Scenes -> a table: how often a large foreground is mistaken for the camera, or flagged.

    python benchmarks/camera_foreground.py [--clips FOLDER] [--pairs N]

Frames of 340x256, flow by TV-L1. The camera moves by (6, 2) px or stands still, the foreground by
(-4, -3) px. A cell has the median and worst error of the camera's motion over the background in px,
the number of pairs that are wrong by more than 0.5 px, and how many of the wrong and of the correct
pairs are flagged. In the second table the exposure changes between the frames: it has the errors of
the flow and of the camera's motion.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "benchmarks")]

from camera import read_clips  # noqa: E402
from camera_scene import CameraScene, foreground_scene, off_background_px  # noqa: E402

from flowpipe.flow import FLOWS, make_solver  # noqa: E402
from flowpipe.flow.camera import CameraMotion, CameraMotionEstimator, WarpParams  # noqa: E402
from flowpipe.ops import get_ops  # noqa: E402

PAN, STILL = (6.0, 2.0), (0.0, 0.0)
SHARES = (0.3, 0.5, 0.7)
KINDS: dict[str, tuple[str, str, tuple[float, float]]] = {
    "disc, speckle": ("disc", "speckle", PAN),
    "disc, speckle, still camera": ("disc", "speckle", STILL),
    "disc, squares": ("disc", "squares", PAN),
    "disc, weak background": ("disc", "weak", PAN),
    "person": ("person", "speckle", PAN),
    "person, still camera": ("person", "speckle", STILL),
    "two discs": ("two", "speckle", PAN),
    "one side": ("side", "speckle", PAN),
    "disc, frames of real clips": ("disc", "", PAN),
    "disc, the same, still camera": ("disc", "", STILL),
    "person, frames of real clips": ("person", "", PAN),
}
GAINS = (1.0, 1.02, 1.04, 1.08)
WRONG_PX = 0.5
ESTIMATORS = ("ransac", "background")
OPS = get_ops("cpu")


def motions(scene: CameraScene) -> list[CameraMotion]:
    """Estimate the camera motion by each estimator."""
    solver = make_solver(FLOWS["tvl1"].params(), OPS)
    prepared = solver.prepare(scene.frames)
    flow = np.asarray(solver.solve(prepared[:-1], prepared[1:]))[0]
    found = []
    for estimator in ESTIMATORS:
        camera = CameraMotionEstimator(WarpParams(estimator=estimator), OPS)
        features = camera.features(scene.frames, 0)
        step = flow.ravel()[camera.sample_points(*features, *flow.shape[1:])]
        found += camera.estimate(features, [step])
    return found


def flicker(gain: float, pairs: int) -> list[float]:
    """Return mean lengths over the background, px, with 15 % foreground; the second frame is so
    much brighter: error of flow, error of the camera's motion, flow that is left when the motion
    found is undone, and when the true one is."""
    rows = []
    solver = make_solver(FLOWS["tvl1"].params(), OPS)
    camera = CameraMotionEstimator(WarpParams(), OPS)
    for seed in range(pairs):
        scene = foreground_scene(np.random.default_rng(seed), "disc", 0.15, (4.0, 2.9))
        frames, where = scene.frames.copy(), scene.background[0]
        frames[1] = np.clip(np.rint(gain * frames[1].astype(np.float64)), 0, 255)
        prepared = solver.prepare(frames)
        flow = np.asarray(solver.solve(prepared[:-1], prepared[1:]))
        features = camera.features(frames, 0)
        step = flow[0].ravel()[camera.sample_points(*features, *flow.shape[2:])]
        [found] = camera.estimate(features, [step])
        row = [np.hypot(*(flow[0] - scene.true_flow(0)))[where].mean()]
        row.append(off_background_px(found.homography, scene))
        for homography in (found.homography, scene.homographies[0]):
            warped = OPS.warp_homography(frames[1:], homography[None], frames[:1])
            left = np.asarray(solver.solve(prepared[:1], solver.prepare(warped)))[0]
            row.append(np.hypot(*left)[where].mean())
        rows.append(row)
    return list(np.mean(rows, axis=0))


def cell(off: list[float], uncertain: list[bool]) -> str:
    """Return a cell of the table: median and worst error in px, wrong and flagged pairs."""
    wrong = np.array(off) > WRONG_PX
    flagged = np.count_nonzero(wrong & uncertain), np.count_nonzero(~wrong & uncertain)
    errors = f"{np.median(off):.2f} ({max(off):.2f})"
    return f"{errors}, {wrong.sum()} wrong, flagged {flagged[0]} + {flagged[1]}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clips", type=Path, default=ROOT.parent / "shared" / "data" / "clips")
    parser.add_argument("--pairs", type=int, default=12, help="scenes of each kind")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    clips = read_clips(options.clips, most=20, frames=2) if options.clips.is_dir() else {}
    photos = [gray[0].astype(np.float32) for gray in clips.values()]
    print("| scene | estimator |" + "".join(f" {share:.0%} covered |" for share in SHARES))
    for name, (shape, texture, camera_px) in KINDS.items():
        if not (texture or photos):
            continue
        rows = {estimator: f"| {name} | {estimator} |" for estimator in ESTIMATORS}
        for share in SHARES:
            rng = np.random.default_rng([round(100 * share), len(name)])
            scenes = []
            for _ in range(options.pairs):
                chosen = [photos[k] for k in rng.integers(len(photos), size=2)] if photos else []
                pictures = None if texture else tuple(chosen)
                how = {"texture": texture, "pictures": pictures}
                scenes.append(foreground_scene(rng, shape, share, camera_px, **how))
            by_scene = [motions(scene) for scene in scenes]
            for estimator, found in zip(ESTIMATORS, zip(*by_scene, strict=True), strict=True):
                off = [
                    off_background_px(m.homography, s) for m, s in zip(found, scenes, strict=True)
                ]
                rows[estimator] += f" {cell(off, [m.uncertain for m in found])} |"
        print("\n".join(rows.values()), flush=True)
    print(
        "\n| brighter by | error of the flow | error of the camera's motion | warped flow "
        "| warped flow with the true motion |"
    )
    for gain in GAINS:
        row = "".join(f" {value:.2f} |" for value in flicker(gain, options.pairs))
        print(f"| {gain - 1:.0%} |{row}", flush=True)


if __name__ == "__main__":
    main()
