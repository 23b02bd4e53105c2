"""Camera or video file -> the optical flow of its frames, as PNG files.

    python examples/flow_of_camera.py -o flow                 # the first camera
    python examples/flow_of_camera.py clip.mp4 -o flow        # a video file

Hue is direction and saturation is speed. `--device cuda` computes on an NVIDIA GPU.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

import flowpipe
from flowpipe.report.colours import flow_colours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", nargs="?", help="video file  [default: the first camera]")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the PNG files")
    parser.add_argument("--frames", type=int, default=50, help="frames to read")
    parser.add_argument("--width", type=int, default=320, help="width of the flow, pixels")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = parser.parse_args()

    source = cv2.VideoCapture(options.video if options.video else 0)
    if not source.isOpened():
        parser.exit(1, f"cannot open {options.video or 'the first camera'}\n")
    options.out.mkdir(parents=True, exist_ok=True)
    before = None
    for number in range(options.frames):
        is_read, frame = source.read()
        if not is_read:
            break
        height = round(frame.shape[0] * options.width / frame.shape[1])
        small = cv2.resize(frame, (options.width, height), interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        if before is not None:
            flow = flowpipe.optical_flow(before, gray, device=options.device)  # (H, W, 2)
            median = np.median(np.hypot(flow[..., 0], flow[..., 1]))
            image = flow_colours(flow.transpose(2, 0, 1))[..., ::-1]  # RGB -> BGR
            cv2.imwrite(str(options.out / f"{number:05d}.png"), image)
            print(f"frames {number - 1} to {number}: median {median:.2f} px")
        before = gray


if __name__ == "__main__":
    main()
