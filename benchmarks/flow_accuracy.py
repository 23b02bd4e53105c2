"""Pairs of known motion -> tables: endpoint errors of our TV-L1 variants and OpenCV's DualTVL1.

    python benchmarks/flow_accuracy.py [--data FOLDER] [--seeds 3] [--pairs 12]

The tables have mean endpoint errors in px:

1. Middlebury's pairs, over the pixels whose flow is known;
2. one large translation of a texture of 340x256, over all pixels, and over those at least 24 px
   from the border;
3. pairs whose frames are evaluated, not interpolated (tests/support/synth.py), with motion of about
   2 or 10 px, without noise and with noise of two gray levels, 24 px from the border;
4. on real clips, the difference between OpenCV's CPU code and our variants that follow it.

A bar is the largest value that a figure may have.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support")]

from synth import warped_pair  # noqa: E402

from flowpipe.diagnose.bench import endpoint_px, video_pairs  # noqa: E402
from flowpipe.flow import make_solver  # noqa: E402
from flowpipe.flow.flo import read_flo  # noqa: E402
from flowpipe.flow.opencv import OpenCVTVL1Params  # noqa: E402
from flowpipe.flow.tvl1 import VARIANTS, TVL1Params  # noqa: E402
from flowpipe.ops import get_ops  # noqa: E402

SHARED = Path(os.environ.get("FLOWPIPE_SHARED_DATA", "../shared/data"))
HEIGHT, WIDTH, BORDER = 256, 340, 24
INTERIOR = np.s_[:, BORDER:-BORDER, BORDER:-BORDER]
FOLLOWERS = tuple(variant for variant in VARIANTS if variant.endswith("_cpu"))
BARS_MIDDLEBURY = {"opencv2": 0.24, "opencv4": 0.225} | dict.fromkeys(FOLLOWERS, 0.202)
BARS_LARGE = {"opencv2": 0.05}
BARS_TO_CV2 = dict.fromkeys(FOLLOWERS, 0.02)
NOISE = 2.0
FLOWS: dict[str, Any] = {
    **{variant: TVL1Params(variant=variant) for variant in VARIANTS},
    "cv2": OpenCVTVL1Params(),
    "cv2, no median": OpenCVTVL1Params(median_filtering=1),
}

Images = NDArray[np.uint8]
MotionField = Callable[[NDArray[Any], NDArray[Any]], tuple[Any, Any]]


def solve(params: Any, first: Images, second: Images) -> NDArray[np.float32]:
    solver = make_solver(params, get_ops())
    flow: NDArray[np.float32] = solver.solve(solver.prepare(first), solver.prepare(second))
    return flow


def beside_bar(figure: float, limits: dict[str, float], name: str) -> str:
    if name not in limits:
        return f"{figure:10.4f}{'-':>10}"
    return f"{figure:10.4f}{limits[name]:10.3f}{' over' if figure > limits[name] else ''}"


def middlebury(folder: Path) -> None:
    scenes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    print(f"\nMiddlebury\n{'':16}{''.join(f'{s:>13}' for s in scenes)}{'mean':>10}{'bar':>10}")
    for name, params in FLOWS.items():
        errors = []
        for scene in scenes:
            truth = read_flo(folder / scene / "flow10.flo").transpose(2, 0, 1)[None]
            first, second = (
                cv2.imread(str(folder / scene / f"frame1{k}.png"), cv2.IMREAD_GRAYSCALE)[None]
                for k in "01"
            )
            known = (np.abs(truth) < 1e9).all(axis=1)
            errors.append(endpoint_px(solve(params, first, second), truth)[known].mean())
        print(f"{name:16}{''.join(f'{e:13.4f}' for e in errors)}"
              f"{beside_bar(np.mean(errors), BARS_MIDDLEBURY, name)}", flush=True)  # fmt: skip


def make_pairs(motion: MotionField, seeds: int, noise: float = 0) -> tuple[Images, Images, Any]:
    """Return (first, second, flow), one texture per seed."""
    pairs = [warped_pair(HEIGHT, WIDTH, motion, seed) for seed in range(1, 1 + seeds)]
    first, second, flow = map(np.stack, zip(*pairs, strict=True))
    if noise:
        rng = np.random.default_rng(seeds)
        first, second = (
            np.clip(np.rint(f + rng.normal(0, noise, f.shape)), 0, 255).astype(np.uint8)
            for f in (first, second)
        )
    return first, second, flow


def large_translation(seeds: int) -> None:
    print(f"\nTranslation by (14, -6) px, {seeds} textures of {WIDTH}x{HEIGHT}")
    print(f"{'':16}{'all':>10}{'interior':>10}{'bar':>10}")
    first, second, truth = make_pairs(lambda x, y: (14, -6), seeds)
    for name, params in FLOWS.items():
        error = endpoint_px(solve(params, first, second), truth)
        print(f"{name:16}{error.mean():10.4f}"
              f"{beside_bar(error[INTERIOR].mean(), BARS_LARGE, name)}", flush=True)  # fmt: skip


LINEAR = {
    # about the middle of the image: a 2x2 matrix, and a shift in units of the image's height
    "translation": ([[0, 0], [0, 0]], (0.8, -0.6)),
    "rotation": ([[0, -1], [1, 0]], (0, 0)),
    "zoom": ([[1, 0], [0, 1]], (0, 0)),
    "affine": ([[0.7, -0.9], [0.2, -0.5]], (0.1, 0.2)),
}


def linear(kind: str, length_px: float) -> MotionField:
    """Return a motion of this kind whose mean length over the image is `length_px`."""
    (a, b), (c, d) = LINEAR[kind][0]
    s, t = (HEIGHT * shift for shift in LINEAR[kind][1])

    def motion(x: NDArray[Any], y: NDArray[Any]) -> tuple[Any, Any]:
        x, y = x - (WIDTH - 1) / 2, y - (HEIGHT - 1) / 2
        u, v = a * x + b * y + s, c * x + d * y + t
        scale = length_px / np.hypot(u, v).mean()
        return scale * u, scale * v

    return motion


def compare_known_motions(seeds: int) -> None:
    print(f"\nKnown motion, {seeds} textures each{''.join(f'{name:>16}' for name in FLOWS)}")
    for length_px in (2, 10):
        for noise in (0, NOISE):
            for kind in LINEAR:
                first, second, truth = make_pairs(linear(kind, length_px), seeds, noise)
                errors = (
                    endpoint_px(solve(params, first, second), truth)[INTERIOR].mean()
                    for params in FLOWS.values()
                )
                print(f"{kind:13}{length_px:3} px{', noise' if noise else '':10}"
                      f"{''.join(f'{e:16.4f}' for e in errors)}", flush=True)  # fmt: skip


def distance_to_cv2(clips: Path, count: int) -> None:
    if not FOLLOWERS:
        print("\nNo variant follows OpenCV's CPU code")
        return
    pairs = video_pairs([clips], count, HEIGHT, WIDTH)
    print(f"\nDistance in px to cv2 {cv2.__version__}, {len(pairs.first)} pairs of {pairs.source}")
    print(f"{'':16}{'median':>8}{'p99':>10}{'mean':>10}{'bar':>10}")
    for window in (5, 1):
        theirs = solve(OpenCVTVL1Params(median_filtering=window), pairs.first, pairs.second)
        for variant in FOLLOWERS:
            params = TVL1Params(variant=variant, median=window)
            apart = endpoint_px(solve(params, pairs.first, pairs.second), theirs)
            beside = beside_bar(apart.mean(), BARS_TO_CV2, variant)
            print(f"{variant:16}{window:8}{np.quantile(apart, 0.99):10.4f}{beside}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED, help="folder with flow/ and clips/")
    parser.add_argument("--seeds", type=int, default=3, help="textures per motion")
    parser.add_argument("--pairs", type=int, default=12, help="real pairs of the last table")
    options = parser.parse_args()
    if not (options.data / "flow" / "middlebury").is_dir():
        raise SystemExit(
            f"no folder flow/middlebury below {options.data}; name its place with --data"
        )
    cv2.setNumThreads(1)
    print(f"OpenCV {cv2.__version__}; ours on {get_ops().name}; mean endpoint errors in px")
    middlebury(options.data / "flow" / "middlebury")
    large_translation(options.seeds)
    compare_known_motions(options.seeds)
    distance_to_cv2(options.data / "clips" / "ucf101", options.pairs)


if __name__ == "__main__":
    main()
