"""Peak memory of a process that extracts one video: short and long; small, HD and 4K.

    python benchmarks/memory.py

All videos are generated, show the same scene and are stored in their own size. The flow is DIS, so
that the long video does not take hours. Windows, threads, writer and the allocator's settings are
those of every run. The rows "as a GPU" have the windows and threads of a GPU, and flow that takes
neither time nor host memory; features for the camera's motion are found on the host. CUDA's own
host memory is not included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np

from flowpipe.ops import get_ops
from flowpipe.ops.cuda.operations import CudaOps
from flowpipe.ops.cuda.settings import MOST_WINDOW_BYTES
from flowpipe.run.cluster.settings import SETTINGS

MODALITIES = ["rgb", "flow", "warped_flow"]
VIDEOS = [(250, 240, 320), (45000, 240, 320), (160, 1080, 1920), (40, 2160, 3840)]
"""Frames, height and width."""


def make_video(path: Path, frames: int, height: int, width: int) -> None:
    """Encode a drifting texture."""
    rng = np.random.default_rng(0)
    tall, wide = height // 8 + 60, width // 8 + 160
    scene = rng.integers(0, 256, (tall, wide, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 2_000_000
        for k in range(frames):
            x, y = (3 * k) % 1200, (2 * k) % 380
            image = np.ascontiguousarray(scene[y : y + height, x : x + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


class AsGpu:
    """CPU operations with the windows of a GPU; flow takes no memory here."""

    on_cpu = False
    window_frames, window_bytes = CudaOps.window_frames, MOST_WINDOW_BYTES

    def __init__(self) -> None:
        self._ops = get_ops()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def warp_homography(self, gray: Any, *arguments: Any, **named: Any) -> Any:
        return gray

    def quantise(self, flow: Any, bound: float) -> tuple[Any, Any]:
        return np.broadcast_to(np.uint8(128), flow.shape), np.zeros(len(flow), np.uint32)

    def to_host(self, array: Any) -> Any:
        return np.ascontiguousarray(array)


class FlowOfGpu:
    """Solver whose flow is zero."""

    def prepare(self, gray: Any) -> Any:
        return gray

    def solve(self, first: Any, second: Any) -> Any:
        n, height, width = first.shape
        return np.broadcast_to(np.float32(0), (n, 2, height, width))


def extract_one(video: str, store: str, device: str) -> None:
    """Run the work of one worker in this process; print frames and peak memory in MB."""
    from flowpipe import params
    from flowpipe.extraction import planes
    from flowpipe.extraction.recipe import ExtractRecipe
    from flowpipe.run.planning.plan import ShardPlan
    from flowpipe.run.worker import shard_job
    from flowpipe.types import Span, VideoRecord

    if device == "gpu":
        shard_job.cached_ops = lambda device: AsGpu()
        planes.make_solver = lambda params, ops: FlowOfGpu()
    Path(store).mkdir()
    values = {"flow": "dis", "size": {"width": 0, "height": 0}, "modalities": MODALITIES}
    made = params.build(ExtractRecipe, values)
    shard = ShardPlan("shard-0", (Span(VideoRecord("video", video)),), 0, 0)
    job = shard_job.ShardJob(
        store=store,
        heartbeat_folder=store,
        shard=shard,
        recipe=made,
        device="cpu",
    )
    (outcome,) = shard_job.extract_shard(job)
    assert outcome.status == "done", outcome.message
    # Not ru_maxrss: that of a child begins with its parent's size at the fork.
    status = Path("/proc/self/status").read_text()
    peak_kb = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    print(outcome.frames, int(peak_kb) / 1024)


def main() -> None:
    if len(sys.argv) == 4:
        extract_one(*sys.argv[1:])
        return
    for frames, height, width in VIDEOS:
        for device in ("cpu", "gpu"):
            with tempfile.TemporaryDirectory() as folder:
                video = Path(folder) / "video.mp4"
                make_video(video, frames, height, width)
                result = subprocess.run(
                    [sys.executable, __file__, video, Path(folder) / "store", device],
                    check=True, capture_output=True, text=True,
                    env={**os.environ, **SETTINGS["distributed.nanny.pre-spawn-environ"]},
                )  # fmt: skip
            stored, peak = result.stdout.split()
            row = f"{width}x{height}, {frames:6} frames, {'as a GPU' if device == 'gpu' else 'cpu'}"
            print(f"{row:36} peak {float(peak):6.0f} MB")
            assert int(stored) == frames


if __name__ == "__main__":
    main()
