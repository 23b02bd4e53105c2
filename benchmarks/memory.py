"""Peak memory of the process that extracts one video: ten seconds against thirty minutes of it.

    python benchmarks/memory.py

Both videos are the same scene at 320x240 and 25 frames a second, made on the spot; flow is DIS,
whose speed lets the long one finish; windows, threads, writer and the allocator's settings are
those of every run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

from flowpipe.run.cluster_settings import SETTINGS


def make_video(path: Path, seconds: int) -> None:
    """Encode a drifting texture."""
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (80, 200, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.bit_rate = 2_000_000
        for k in range(seconds * 25):
            x, y = (3 * k) % 1200, (2 * k) % 380
            image = np.ascontiguousarray(scene[y : y + 240, x : x + 320])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def extract_one(video: str, store: str) -> None:
    """The work of one worker, in this process; prints frames and peak memory in MB."""
    from flowpipe import recipe
    from flowpipe.extract_recipe import ExtractRecipe
    from flowpipe.run.plan import ShardPlan
    from flowpipe.run.worker import ShardJob, extract_shard
    from flowpipe.types import Span, VideoRecord

    Path(store).mkdir()
    made = recipe.build(ExtractRecipe, {"flow": "dis"})
    shard = ShardPlan("shard-0", (Span(VideoRecord("video", video)),), 0, 0)
    (outcome,) = extract_shard(ShardJob(store, store, shard, made, "cpu", "skip", 300))
    assert outcome.status == "done", outcome.message
    # Not ru_maxrss: that of a child begins with its parent's size at the fork.
    status = Path("/proc/self/status").read_text()
    peak_kb = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    print(outcome.frames, int(peak_kb) / 1024)


def main() -> None:
    if len(sys.argv) == 3:
        extract_one(*sys.argv[1:])
        return
    peaks = {}
    for seconds in (10, 1800):
        with tempfile.TemporaryDirectory() as folder:
            video = Path(folder) / "video.mp4"
            make_video(video, seconds)
            result = subprocess.run(
                [sys.executable, __file__, video, Path(folder) / "store"],
                check=True, capture_output=True, text=True,
                env={**os.environ, **SETTINGS["distributed.nanny.pre-spawn-environ"]},
            )  # fmt: skip
        frames, peak = result.stdout.split()
        peaks[seconds] = float(peak)
        print(f"{seconds:5} s of video, {frames} frames: peak {float(peak):.0f} MB")
    print(f"ratio {peaks[1800] / peaks[10]:.2f}")


if __name__ == "__main__":
    main()
