"""The original RAFT and flowpipe's with the same weights -> the largest difference of their flow.

    python benchmarks/raft_original.py RAFT [--frames A.png B.png ...] [--size 340x256]

RAFT is a checkout of https://github.com/princeton-vl/RAFT. Its model gets random weights, batch
statistics included, and saves them as its training does; flowpipe reads that file. Frames are five
consecutive ones of the checkout, or those of --frames; without --size they keep their size. The
original code pads them to multiples of 8 by repeating their borders and scales them by
2 (x / 255) - 1. flowpipe pads alike, to 128 pixels at least, and scales as torchvision does:
(x / 255 - 0.5) / 0.5. CPU time is that of one thread for one pair, the minimum of several passes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from flowpipe.flow import make_solver
from flowpipe.flow.raft import RAFTParams
from flowpipe.ops import get_ops
from flowpipe.sizes import width_and_height

FRAMES = [f"demo-frames/frame_00{number}.png" for number in range(16, 21)]


def main() -> None:
    """Compare the large and the small model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkout", type=Path, metavar="RAFT")
    parser.add_argument("--frames", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("--size", metavar="WxH", help="size to which frames are resized")
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")  # of meshgrid and autocast, in the original code
    torch.set_num_threads(1)
    paths = chosen.frames or [chosen.checkout / name for name in FRAMES]
    frames = np.concatenate([read(path, chosen.size) for path in paths])
    pairs = len(frames) - 1
    sys.path.insert(0, str(chosen.checkout / "core"))
    height, width = frames.shape[1:3]
    print(f"{len(frames)} frames of {width}x{height}, {chosen.iterations} iterations")
    for model in ("large", "small"):
        network = original(model)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"raft-{model}.pth"
            torch.save(torch.nn.DataParallel(network).state_dict(), path)
            made = RAFTParams(model=model, weights=str(path), iterations=chosen.iterations)
            solver = make_solver(made, get_ops("cpu"))

        def ours(solver: Any = solver) -> NDArray[np.float32]:
            prepared = solver.prepare(frames)
            return np.asarray(solver.solve(prepared[:-1], prepared[1:]))

        def theirs(network: Any = network) -> NDArray[np.float32]:
            return np.concatenate(
                [
                    original_flow(
                        network, frames[k : k + 1], frames[k + 1 : k + 2], chosen.iterations
                    )
                    for k in range(pairs)
                ]
            )

        (meant, their_ms), (found, our_ms) = (time_of(f, chosen.repeat) for f in (theirs, ours))
        difference = np.abs(found - meant)
        print(
            f"raft_{model}: largest difference {difference.max():.2e} px, mean "
            f"{difference.mean():.2e} px, of flow up to {np.abs(meant).max():.1f} px; original "
            f"{their_ms / pairs:.0f} ms a pair, flowpipe {our_ms / pairs:.0f} ms"
        )


def read(path: Path, size: str | None) -> NDArray[np.uint8]:
    """Return an image as RGB, uint8 (1, H, W, 3)."""
    image = cv2.imread(str(path))
    if image is None:
        raise SystemExit(f"{path}: cannot be read as an image")
    if size:
        image = cv2.resize(image, width_and_height(size), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[None, :, :, ::-1])


def original(model: str) -> Any:
    """Return the original model with random weights and statistics."""
    from raft import RAFT

    torch.manual_seed(0)
    small = model == "small"
    network = RAFT(argparse.Namespace(small=small, mixed_precision=False, alternate_corr=False))
    for name, values in network.named_buffers():
        if name.endswith("running_mean"):
            values.normal_(std=0.1)
        elif name.endswith("running_var"):
            values.uniform_(0.5, 2)
    return network.eval()


def original_flow(
    network: Any, first: NDArray[np.uint8], second: NDArray[np.uint8], iterations: int
) -> NDArray[np.float32]:
    """Return the flow as demo.py of the original computes it, float32 (1, 2, H, W)."""
    from utils.utils import InputPadder

    images = [torch.from_numpy(frame).permute(0, 3, 1, 2).float() for frame in (first, second)]
    padder = InputPadder(images[0].shape)
    with torch.no_grad():
        _, flow = network(*padder.pad(*images), iters=iterations, test_mode=True)
    return np.asarray(padder.unpad(flow).numpy())


def time_of(
    compute: Callable[[], NDArray[np.float32]], repeat: int
) -> tuple[NDArray[np.float32], float]:
    """Return a result, and the least CPU time, ms."""
    times = []
    for _ in range(repeat):
        began = time.process_time()
        result = compute()
        times.append(1000 * (time.process_time() - began))
    return result, min(times)


if __name__ == "__main__":
    main()
