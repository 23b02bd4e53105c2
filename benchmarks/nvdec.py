"""A generated HD clip -> CPU ms per frame that a worker spends on NVDEC's pictures, on host or GPU.

    python benchmarks/nvdec.py [--size 1920x1080] [--frames 40] [--bits 8]

From a packet to a frame of 340x256, three ways: FFmpeg decodes and the CPU converts and resizes;
NVDEC's pictures are copied to the host, converted by the CPU and copied back to be resized; NVDEC's
pictures stay in device memory. No GPU is needed and none is measured: tests/support/nvdec_stand_in
and tests/support/cuda_stand_in replace it, and the time that they spend for NVDEC, kernels and
device memory is left out. The figures of the first way include FFmpeg's decoding. The first window
includes the costs that a video has once: FFmpeg decodes its first keyframe, and the conversion is
checked.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from emulated import STAND_IN, cupy_from  # noqa: E402
from nvdec_machine import stand_in  # noqa: E402

from flowpipe.ops import get_ops  # noqa: E402
from flowpipe.video import VideoParams, open_video  # noqa: E402

TARGET = 256, 340
PIXELS = {8: "yuv420p", 10: "yuv420p10le"}


def make_clip(path: Path, width: int, height: int, frames: int, bits: int) -> Path:
    """Encode moving noise of low resolution as H.264, or HEVC of 10 bits."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height // 40 + 2, width // 40 + 2, 3), np.uint8)
    large = cv2.resize(noise, (width + 2 * frames, height + 2 * frames))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264" if bits == 8 else "libx265", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, PIXELS[bits]
        stream.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
        for t in range(frames):
            image = np.ascontiguousarray(large[2 * t : 2 * t + height, t : t + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


class DeviceTime:
    """CPU seconds of this thread that a real device would spend; the stand-ins run on the CPU."""

    seconds = 0.0
    _is_counting = False

    def calls(self, owner: Any, *names: str) -> None:
        """Exclude the time of these functions."""
        for name in names:
            setattr(owner, name, self._exclude(getattr(owner, name)))

    def _exclude(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            if self._is_counting:
                return function(*arguments, **named)
            self._is_counting, began = True, time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                self._is_counting = False
                self.seconds += time.thread_time() - began

        return timed


def free_device(free: DeviceTime, nvc: Any, ops: Any) -> None:
    """Exclude the stand-ins' device work from the measurement; copies to pinned memory count."""
    import cupy

    cuda = cupy.cuda
    free.calls(nvc.PyNvDecoder, "Decode")
    free.calls(cuda, "alloc_pinned_memory")
    free.calls(cuda.Event, "run_up_to")
    free.calls(cuda.Stream, "synchronize")
    free.calls(cupy, "empty")
    free.calls(type(ops.kernels.function("resize")), "__call__")


def windows(path: Path, ops: Any, decoder: str, surfaces: Any) -> Iterator[Any]:
    with open_video(path, VideoParams(decoder=decoder), surfaces=surfaces) as video:
        for window in video.windows(ops.window_frames, 32 << 20):
            yield ops.resize(window.data, *TARGET)


def cost(free: DeviceTime, steps: Iterator[Any]) -> tuple[float, float]:
    """Return the CPU ms of the first window, and of a frame of the others."""
    spent, frames = [], 0
    while True:
        began, before = time.thread_time(), free.seconds
        images = next(steps, None)
        spent.append(time.thread_time() - began - (free.seconds - before))
        if images is None:
            break
        frames += len(images) if len(spent) > 1 else 0
    if not frames:
        raise SystemExit("all frames are in the first window: give a larger --frames")
    return 1e3 * spent[0], 1e3 * sum(spent[1:]) / frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--bits", type=int, choices=PIXELS, default=8)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    cv2.setNumThreads(1)
    cpu = get_ops("cpu")
    with tempfile.TemporaryDirectory() as folder, stand_in() as nvc, cupy_from(STAND_IN):
        path = make_clip(Path(folder, "a.mp4"), width, height, options.frames, options.bits)
        cuda, free = get_ops("cuda"), DeviceTime()
        ways = {
            "decoder cpu, with its decoding": (cpu, "cpu", None),
            "decoder nvdec, by way of the host": (cuda, "nvdec", None),
            "decoder nvdec, pictures stay on the device": (cuda, "nvdec", cuda.surfaces),
        }
        for ops, decoder, surfaces in ways.values():  # what is made once for a process
            list(windows(path, ops, decoder, surfaces))
        free_device(free, nvc, cuda)
        print(f"{options.size}, {options.bits} bits, {options.frames} frames; CPU ms")
        print(f"{'':44}{'a frame':>9}{'first window':>14}")
        for name, (ops, decoder, surfaces) in ways.items():
            found = [cost(free, windows(path, ops, decoder, surfaces)) for _ in range(3)]
            first, frame = (min(values) for values in zip(*found, strict=True))
            print(f"{name:44}{frame:9.3f}{first:14.1f}")


if __name__ == "__main__":
    main()
