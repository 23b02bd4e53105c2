"""Frames -> tables: change of the flow bytes by rounding alone, and by real faults.

    python benchmarks/rounding.py [--data FOLDER] [--frames 9]

The figures are the share of bytes that differ by more than one level, on every third frame of clips
of 340x256, as in the self test. The first table compares the compiled core with itself without
fused multiply-add (``baseline``), on demo clips and real ones: a sound device may differ by as
much. The second table has, on the self test's own frames, the effect of a tau that is wrong by some
rounding errors, and of faults that a device could have. `flowpipe selftest` allows
`selftest.ROUNDINGS` times the share of the first table on its frames, and at least
`selftest.BEYOND_A_LEVEL`; the second table prints these limits.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets import demo
from flowpipe.diagnose import selftest
from flowpipe.flow.tvl1 import VARIANTS, TVL1Params, TVL1Solver
from flowpipe.ops import Ops, get_ops
from flowpipe.ops.cpu import native_core
from flowpipe.video import open_video

SHARED = Path(os.environ.get("FLOWPIPE_SHARED_DATA", "../shared/data"))
DEMO = sorted({*demo.VIDEO_IDS[::3], selftest.CLIP})
ROUNDED = {
    f"tau {errors} rounding errors off": {"tau": 0.25 * (1 + (-1) ** errors * errors * 2**-23)}
    for errors in range(1, 7)
}
FAULTS: dict[str, dict[str, Any]] = {
    "one warp too few": {"warps": 4},
    "epsilon a fifth too large": {"epsilon": 0.012},
    "tau 1 % too large": {"tau": 0.2525},
    "lambda 1 % too large": {"lambda_": 0.1515},
    "one level too few": {"scales": 4},
}


def clips(data: Path, count: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield names and frames, every third of a clip, as the self test takes them."""
    numbers = range(0, selftest.APART * count, selftest.APART)
    for name in DEMO:
        yield f"demo {name}", np.stack(list(demo.clean_frames(name, numbers=numbers)))
    for path in sorted((data / "clips").rglob("*.*"))[::2]:
        with open_video(path) as video:
            frames = next(iter(video.windows(numbers[-1] + 1, 1 << 30)))
        yield path.stem[:40], frames.data[:: selftest.APART]


def levels(ops: Ops, frames: NDArray[np.uint8], params: TVL1Params) -> NDArray[np.int64]:
    """Return the stored bytes of the flow of consecutive frames."""
    solver = TVL1Solver(params, ops)
    prepared = solver.prepare(ops.gray(frames))
    flow = solver.solve(prepared[:-1], prepared[1:])
    return np.asarray(ops.quantise(flow, selftest.BOUND)[0]).astype(np.int64)


def apart(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> float:
    """Return the share of bytes that differ by more than a level."""
    return float((np.abs(ours - theirs) > 1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--frames", type=int, default=selftest.FRAMES)
    asked = parser.parse_args()
    best, plain = get_ops(), get_ops("cpu", "baseline")
    print(f"% of bytes more than a level apart, {best.name} and {plain.name}\n")
    print(f"{'clip':42}" + "".join(f"{variant:>12}" for variant in VARIANTS))
    worst = dict.fromkeys(VARIANTS, 0.0)
    for name, frames in clips(asked.data, asked.frames):
        frames = best.resize(np.ascontiguousarray(frames), *selftest.SIZE)
        row = []
        for variant in VARIANTS:
            params = TVL1Params(variant=variant)
            row.append(apart(levels(best, frames, params), levels(plain, frames, params)))
            worst[variant] = max(worst[variant], row[-1])
        _print(name, row)
    _print("largest", list(worst.values()))

    numbers = range(0, selftest.APART * asked.frames, selftest.APART)
    frames = best.resize(
        np.stack(list(demo.clean_frames(selftest.CLIP, numbers=numbers))), *selftest.SIZE
    )
    print(f"\n{selftest.CLIP}: sound up to the bar, faulty beyond it\n")
    sound = {v: levels(best, frames, TVL1Params(variant=v)) for v in VARIANTS}
    own = [apart(sound[v], levels(plain, frames, TVL1Params(variant=v))) for v in VARIANTS]
    limits = [max(selftest.BEYOND_A_LEVEL, selftest.ROUNDINGS * share) for share in own]
    _print(plain.name, own)
    for name, changed in {**ROUNDED, "bar": None, **FAULTS}.items():
        if changed is None:
            _print(name, limits)
            continue
        changes = [replace(TVL1Params(variant=v), **changed) for v in VARIANTS]
        _print(name, [apart(levels(best, frames, p), sound[p.variant]) for p in changes])


def _print(name: str, shares: Sequence[float]) -> None:
    print(f"{name:42}" + "".join(f"{100 * share:12.4f}" for share in shares), flush=True)


if __name__ == "__main__":
    if not native_core().available or len(native_core().compiled) < 2:
        raise SystemExit("needs a compiled core with more than one instruction set")
    main()
