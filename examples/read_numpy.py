"""Store -> the mean motion of each class, with NumPy only.

    flowpipe extract --dataset demo --out demo-store
    python examples/read_numpy.py demo-store

A program that takes NumPy arrays, such as one in JAX or scikit-learn, can read a store in this way.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import numpy as np

import flowpipe


def main(path: str) -> None:
    store = flowpipe.open_store(path)
    speeds = defaultdict(list)
    for video_id, video in store.videos.items():
        count = min(video.images["flow"], 20)
        if not count:
            continue
        flow = store.flow(video_id, "flow", start=0, length=count)  # float32 (count, 2, H, W)
        speed = np.hypot(flow[:, 0], flow[:, 1]).mean()  # pixels per frame
        for label in video.labels:
            speeds[store.header.class_names[label]].append(float(speed))
    for name, values in sorted(speeds.items()):
        print(f"{name}: {np.mean(values):.2f} px per frame in {len(values)} videos")


if __name__ == "__main__":
    main(*sys.argv[1:])
