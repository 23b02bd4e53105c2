"""Scenes and clips -> a table: camera motion from features of the GPU compared with the CPU's.

    python benchmarks/camera_devices.py [--clips FOLDER] [--pairs N]

Frames are 340x256. Features of the GPU (or of the tests' emulator if there is none) and of a CPU
without fused multiply-add (OpenCV without AVX2 and FMA3) are compared with those of this CPU. The
columns are the share of keypoints that both have, equal to the byte and up to 0.01 px in position;
the share of corners that both have; the largest distance of the homographies at the corners of the
frame; on real clips the share of inliers and the length of the warped flow; and on synthetic pairs
the error of the homography at the corners.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support"), str(ROOT / "benchmarks")]

from camera import HEIGHT, WIDTH, read_clips  # noqa: E402
from camera_candidates import residual_px  # noqa: E402
from camera_scene import CameraScene, camera_step, corner_error_px, film  # noqa: E402
from emulated import emulated_ops  # noqa: E402

from flowpipe.flow import FLOWS, make_solver  # noqa: E402
from flowpipe.flow.camera import CameraMotion, CameraMotionEstimator, WarpParams  # noqa: E402
from flowpipe.flow.features import Features  # noqa: E402
from flowpipe.ops import get_ops  # noqa: E402
from flowpipe.ops.cuda.devices import gpus  # noqa: E402

STEPS_PX = (1.0, 5.0, 12.0, 20.0)
PARAMS = WarpParams()
PLAIN = {"OPENCV_CPU_DISABLE": "AVX2,FMA3", "FLOWPIPE_ISA": "baseline"}


def frames_of(clips: Path, pairs: int) -> tuple[list[np.ndarray], list[CameraScene]]:
    """Return pairs of real clips and of scenes, gray uint8 (2, 256, 340)."""
    rng = np.random.default_rng(0)
    scenes = [
        film(rng, [camera_step(HEIGHT, WIDTH, step, rng)], patch_px=165, noise=2.0)
        for step in STEPS_PX
        for _ in range(pairs)
    ]
    return list(read_clips(clips, most=10, frames=2).values()), scenes


def features(ops: Any, stacks: list[np.ndarray]) -> list[list[Features]]:
    """Return the features of the frames of every pair."""
    camera = CameraMotionEstimator(PARAMS, ops)
    return [camera.features(stack, 0) for stack in stacks]


def compute_without_fma(options: argparse.Namespace) -> list[list[Features]]:
    """Compute the features in a process whose OpenCV has no fused multiply-add."""
    with tempfile.NamedTemporaryFile() as file:
        asked = ["--clips", str(options.clips), "--pairs", str(options.pairs), "--into", file.name]
        subprocess.run([sys.executable, __file__, *asked], env={**os.environ, **PLAIN}, check=True)
        return pickle.loads(Path(file.name).read_bytes())  # noqa: S301 - our own


def share_in_both(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """Return the share of rows that both lists have."""
    same = most = 0
    for a, b in zip(ours, theirs, strict=True):
        rows, others = ({row.tobytes() for row in part} for part in (a, b))
        same, most = same + len(rows & others), most + len(rows | others)
    return same / most


def pack_keypoints(frames: list[list[Features]], step_px: float = 0.0) -> list[np.ndarray]:
    """Return positions and bits of keypoints as bytes; positions are rounded to `step_px`."""
    rows = []
    for f in (f for pair in frames for f in pair):
        points = np.rint(f.points / step_px).astype(np.int32) if step_px else f.points
        rows.append(np.hstack([points.view(np.uint8), f.descriptors.view(np.uint8)]))
    return rows


def motions(ops: Any, frames: list[list[Features]], flows: list[np.ndarray]) -> list[CameraMotion]:
    """Estimate the camera motion of every pair; `ops` match the keypoints."""
    camera = CameraMotionEstimator(PARAMS, ops)
    found = []
    for pair, flow in zip(frames, flows, strict=True):
        step = flow.ravel()[camera.sample_points(*pair, *flow.shape[1:])]
        found += camera.estimate(pair, [step])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clips", type=Path, default=ROOT.parent / "shared" / "data" / "clips")
    parser.add_argument("--pairs", type=int, default=3, help="scenes of each camera step")
    parser.add_argument(
        "--into", type=Path, help="file for this CPU's features; nothing else is done"
    )
    options = parser.parse_args()
    cpu = get_ops("cpu")
    clips, scenes = frames_of(options.clips, options.pairs)
    stacks = [*clips, *(scene.frames for scene in scenes)]
    meant = features(cpu, stacks)
    if options.into:
        options.into.write_bytes(pickle.dumps(meant))
        return
    solver = make_solver(FLOWS["tvl1"].params(), cpu)
    flows = [solver.solve(solver.prepare(s[:1]), solver.prepare(s[1:]))[0] for s in stacks]
    gpu = get_ops("cuda") if gpus().available else emulated_ops()
    rows = {
        f"CPU ({cpu.name})": (cpu, meant),
        "GPU" if gpus().available else "GPU (emulator)": (gpu, features(gpu, stacks)),
        "CPU without fused multiply-add": (cpu, compute_without_fma(options)),
    }
    base = motions(cpu, meant, flows)
    count = len(clips)
    print(f"{count} pairs of real clips, {len(scenes)} synthetic ones")
    for name, (ops, found) in rows.items():
        moved = motions(ops, found, flows)
        apart = [
            corner_error_px(m.homography, b.homography, (HEIGHT, WIDTH))
            for m, b in zip(moved, base, strict=True)
        ]
        corners = [[f.corners for pair in frames for f in pair] for frames in (found, meant)]
        inliers = np.mean([m.inliers / max(1, m.matches) for m in moved[:count]])
        left = np.mean(
            [residual_px(m, f) for m, f in zip(moved[:count], flows[:count], strict=True)]
        )
        errors = [
            corner_error_px(m.homography, s.homographies[0], (HEIGHT, WIDTH))
            for m, s in zip(moved[count:], scenes, strict=True)
        ]
        same, near = (
            100 * share_in_both(pack_keypoints(found, *step), pack_keypoints(meant, *step))
            for step in ((), (0.01,))
        )
        print(
            f"{name:32} keypoints {same:.2f} %, {near:.2f} %  "
            f"corners {100 * share_in_both(*corners):.2f} %  "
            f"homographies {max(apart):.4f} px at most  "
            f"inliers {inliers:.3f}  left {left:.4f} px  "
            f"error {np.median(errors):.3f} ({max(errors):.3f}) px"
        )


if __name__ == "__main__":
    main()
