"""Throughput of an extraction whose stages take a set time, and of its slowest stage alone.

    python benchmarks/overlap.py

The operations are the CPU's on tiny frames. One operation of each of four stages sleeps, to imitate
the time of a decoder, of the camera's motion, of a GPU and of an encoder. The GPU's time is divided
between the flow of a window and its warped flow. Each stage is the slowest in turn, then all take
the same time. "alone" is the time of an extraction in which no other stage sleeps. "ratio" is the
time of the whole extraction over it: at 1 no stage waits for another without need.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from flowpipe import params
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.extraction.stages import Extraction
from flowpipe.ops import get_ops
from flowpipe.types import Span, VideoRecord

WINDOWS, FRAMES = 40, 2
SLOW_S, OTHER_S = 0.08, 0.04
SLEEPERS = {
    "decode": {"resize": 1.0},
    "camera": {"take": 1.0},
    "gpu": {"gray": 0.5, "warp_homography": 0.5},
    "encode": {"to_host": 1.0},
}
"""Operations that sleep, by stage, and their share of its time."""


class SlowedOps:
    """CPU operations, some with an added delay."""

    on_cpu = False
    window_frames, window_bytes = FRAMES, 1 << 20

    def __init__(self, pauses_s: dict[str, float]) -> None:
        self._ops, self._pauses_s = get_ops(), pauses_s

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._ops, name)
        pause_s = self._pauses_s.get(name)
        if pause_s is None:
            return value

        def paused(*arguments: Any, **named: Any) -> Any:
            # Of what comes down from the device only the images to be encoded count.
            if name != "to_host" or arguments[0].ndim == 4:
                time.sleep(pause_s)
            return value(*arguments, **named)

        return paused


def make_video(path: Path) -> None:
    """Encode tiny frames of drifting noise."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 200, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(WINDOWS * FRAMES):
            image = np.ascontiguousarray(noise[:, k : k + 64])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def time_extraction(path: Path, stages_s: dict[str, float]) -> tuple[float, dict[str, float]]:
    """Return the seconds of an extraction with these stage times, and the busy seconds by stage."""
    pauses_s = {
        operation: share * stages_s[stage]
        for stage, operations in SLEEPERS.items()
        for operation, share in operations.items()
    }
    values = {"flow": "dis", "size": {"width": 32, "height": 24}, "modalities": ["warped_flow"]}
    recipe = params.build(ExtractRecipe, values, where="extract")
    extraction = Extraction(Span(VideoRecord("video", str(path))), recipe, SlowedOps(pauses_s))
    began = time.monotonic()
    windows = sum(1 for _ in extraction)
    assert windows == WINDOWS
    return time.monotonic() - began, extraction.busy_s


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        make_video(path)
        print(f"{WINDOWS} windows; the slow stage takes {1e3 * SLOW_S:.0f} ms a window, "
              f"the others {1e3 * OTHER_S:.0f}")  # fmt: skip
        print(
            f"{'slow stage':<12}{'alone, s':>10}{'whole, s':>10}{'ratio':>8}  busy, % of the time"
        )
        alone_s: dict[str, float] = {}
        for slow in (*SLEEPERS, "all"):
            if slow in SLEEPERS:
                alone_s[slow] = time_extraction(path, {s: SLOW_S * (s == slow) for s in SLEEPERS})[
                    0
                ]
            stages_s = {s: SLOW_S if slow in (s, "all") else OTHER_S for s in SLEEPERS}
            whole_s, busy_s = time_extraction(path, stages_s)
            least_s = alone_s.get(slow, max(alone_s.values()))
            busy = ", ".join(f"{name} {100 * s / whole_s:.0f}" for name, s in busy_s.items())
            print(f"{slow:<12}{least_s:>10.2f}{whole_s:>10.2f}{whole_s / least_s:>8.2f}  {busy}")


if __name__ == "__main__":
    main()
