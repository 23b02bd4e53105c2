"""Training batches -> shared memory and open files, for crops and for whole images.

    python benchmarks/loader_memory.py [--workers 8] [--batch 128] [--segments 3] [--steps 50]
        [--modality rgb]

Two stores of the same real clips: images of 340x256, and with a short side of 256, so that videos
differ in size. A real loader with worker processes reads each modality on a CPU under a limit of
1024 open files, one pass of `--steps` batches; the network is left out. Shared memory is the
largest increase of the space used in /dev/shm, read every 5 ms. The memory of whole images, which
flowpipe sent until November 2026, is computed from their sizes. The last column is the free space
that `flowpipe train` requires before it starts, for the worst case.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from flowpipe.modality import MODALITIES
from flowpipe.store import open_store
from flowpipe.tsn.data.batches import BatchSampler
from flowpipe.tsn.data.clips import Clips, clips_of
from flowpipe.tsn.data.inputs import input_spec
from flowpipe.tsn.data.limits import SHARED
from flowpipe.tsn.data.loading import Loader
from flowpipe.tsn.recipe import AugmentParams

DATA = Path(os.environ.get("FLOWPIPE_SHARED_DATA", "../shared/data"))
SIZES = {"340x256": ("--size", "340x256"), "short side 256": ("--short-side", "256")}
STREAMS = ("rgb", "flow", "rgb_diff")
FILES = 1024
HEADINGS = ["MB", "whole images", "crops", "chunk, at most", "/dev/shm used", "open files",
            "wanted before", "batches"]  # fmt: skip


def extract(clips: Path, out: Path, size: tuple[str, str]) -> Path:
    """Extract rgb and flow of the clips, all of class ``one`` and split ``train1``."""
    listed = out / "clips.csv"
    out.mkdir()
    lines = [f"{path},one,train1" for path in sorted(clips.resolve().rglob("*.avi"))]
    if not lines:
        raise SystemExit(f"no .avi below {clips}; name a folder of clips with --clips")
    listed.write_text("\n".join(["path,label,split", *lines]) + "\n")
    subprocess.run(
        [
            sys.executable, "-m", "flowpipe", "extract", "--videos", listed, "--out", out / "store",
            "--modalities", "rgb,flow", "--set", "flow.name=dis", "--fps", "8", *size,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return out / "store"


class PeakMonitor:
    """Monitor of the largest use of /dev/shm and of file descriptors while a block runs."""

    def __enter__(self) -> PeakMonitor:
        self.shared_bytes = self.files = 0
        self._before, self._ended = shutil.disk_usage(SHARED).used, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            used = shutil.disk_usage(SHARED).used - self._before
            self.shared_bytes = max(self.shared_bytes, used)
            self.files = max(self.files, len(list(Path("/proc/self/fd").iterdir())))


def row(store: Path, modality: str, chosen: argparse.Namespace) -> str:
    """Read batches; return a row with the resources they used."""
    opened = open_store(store)
    input = input_spec(modality, MODALITIES[modality].snippet_length, opened.modalities)
    videos = clips_of(opened, "train1", input.stored, "videos")
    count = chosen.steps * chosen.batch
    videos = (videos * (count // len(videos) + 1))[:count]
    clips = Clips(
        [store], videos, input, phase="train", segments=chosen.segments, sampling="tsn_pytorch",
        augment=AugmentParams(scales=(1.0, 0.875, 0.75)), side=224, seed=1,
    )  # fmt: skip
    batches = BatchSampler(len(videos), chosen.batch, seed=1, shuffle=True, rank=0, world=1)
    images = chosen.segments * input.read * MODALITIES[input.stored].channels
    whole = chosen.batch * images * float(np.mean([h * w for h, w in (v.size for v in videos)]))
    began = time.monotonic()
    with PeakMonitor() as watch:
        loader = Loader(clips, batches, chosen.workers, "cpu")
        sizes = [sum(part.nbytes for part in batch.images) for batch in loader]
    spent = time.monotonic() - began
    assert len(sizes) == chosen.steps
    need = loader.need
    assert need is not None
    megabytes = [whole, np.mean(sizes), need.chunk_bytes, watch.shared_bytes, need.shared_bytes]
    cells = [f"{count / 1e6:.0f}" for count in megabytes]
    cells.insert(4, str(watch.files))
    return table_row([modality, *cells, f"{len(sizes)} in {spent:.0f} s"])


def table_row(cells: list[str]) -> str:
    """Return cells in columns."""
    return f"{cells[0]:10}" + "".join(f"{cell:>15}" for cell in cells[1:])


def main() -> None:
    """Print a table for each store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=Path, default=DATA / "clips")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--segments", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--modality", choices=STREAMS, help="Modality to measure instead of all.")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more than the cores
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
    with tempfile.TemporaryDirectory(prefix="loader-memory-") as folder:
        for number, (name, size) in enumerate(SIZES.items()):
            store = extract(chosen.clips, Path(folder) / str(number), size)
            print(
                f"\n{name}: batches of {chosen.batch} videos, {chosen.segments} segments, "
                f"{chosen.workers} workers, at most {FILES} open files"
            )
            print(table_row(HEADINGS))
            for modality in [chosen.modality] if chosen.modality else STREAMS:
                print(row(store, modality, chosen), flush=True)


if __name__ == "__main__":
    main()
