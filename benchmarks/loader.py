"""Real clips -> training snippets per second of one core: our loader and tsn-pytorch's.

    taskset -c 0 python benchmarks/loader.py [--videos 40] [--frames 100] [--batch 16]

The same frames as a store and as folders of JPEG files, the same snippets, the same crops, mirrored
or not. tsn-pytorch's loader is reproduced: PIL opens, decodes, crops and resizes each image, NumPy
stacks them, torch converts them to float and subtracts the mean. Our loader reads and decodes in
its process; the device crops, resizes and normalises a batch at a time. There are two figures: a
core of the loader if a GPU does the rest, and a core that does everything. Images are 344x256,
whose halves are whole JPEG blocks, so that a flow field has the same pixels in one file as in two.
The outputs of both loaders are compared.

CPU seconds (user and system) of one process, best of several passes; files are in the page cache.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from snippets import CLIPS, STREAMS, files_of, real_planes, write_all
from torch import Tensor

from flowpipe.modality import MODALITIES
from flowpipe.store import open_store
from flowpipe.tsn.data.batches import Batch
from flowpipe.tsn.data.clips import Clips, clips_of
from flowpipe.tsn.data.crops import Crop
from flowpipe.tsn.data.inputs import InputSpec
from flowpipe.tsn.device import keep_freed_memory
from flowpipe.tsn.network.backbones import NETWORKS
from flowpipe.tsn.network.network_input import network_input
from flowpipe.tsn.recipe import AugmentParams, StreamParams

SEGMENTS, PASSES, WIDTH = 3, 5, 344
ROW, STREAM = NETWORKS["bninception"], StreamParams()


@dataclass(frozen=True)
class DrawnSample:
    """Sample that both loaders make."""

    video_id: str
    images: NDArray[np.int64]
    """(S, L)"""
    crop: Crop


def pil_images(folder: Path, sample: DrawnSample, modality: str) -> list[Image.Image]:
    """Open and decode, as tsn-pytorch's data set does."""
    mode = "RGB" if MODALITIES[modality].is_colour else "L"
    return [
        Image.open(folder / sample.video_id / name).convert(mode)
        for name in files_of(modality, sample.images.ravel().tolist())
    ]


def pil_input(images: list[Image.Image], sample: DrawnSample, modality: str) -> Tensor:
    """Crop, resize, mirror, stack, normalise as its transforms do: float (S * channels, H, W)."""
    crop, side, is_flow = sample.crop, ROW.size, MODALITIES[modality].is_flow
    box = (crop.x, crop.y, crop.x + crop.width, crop.y + crop.height)
    made = [image.crop(box).resize((side, side), Image.Resampling.BILINEAR) for image in images]
    if crop.flip:
        made = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in made]
        if is_flow:
            made[::2] = [Image.eval(image, lambda q: 255 - q) for image in made[::2]]
    if is_flow:
        stacked = np.concatenate([np.expand_dims(image, 2) for image in made], axis=2)
    else:
        stacked = np.concatenate([np.array(image)[:, :, ::-1] for image in made], axis=2)
    x = torch.from_numpy(stacked).permute(2, 0, 1).contiguous().float()
    mean = [ROW.pixels.flow_mean] if is_flow else ROW.pixels.mean
    for channel, value in zip(x, list(mean) * len(x), strict=False):
        channel.sub_(value)
    return x


def milliseconds(work: Callable[[], object], snippets: int) -> float:
    """Return the CPU time per snippet of the best pass."""
    best = float("inf")
    for _ in range(PASSES):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return 1000 * best / snippets


def compare(folder: Path, modality: str, batch: int) -> None:
    """Print the table of one modality."""
    store = open_store(folder / "store")
    length = MODALITIES[modality].snippet_length
    input = InputSpec(modality, length, modality)
    clips = Clips(
        [folder / "store"], clips_of(store, "train1", modality, "videos"), input, phase="train",
        segments=SEGMENTS, sampling="tsn_pytorch", augment=AugmentParams(), side=ROW.size, seed=1,
    )  # fmt: skip
    numbers = [(0, k) for k in range(len(clips))]
    batches = [numbers[k : k + batch] for k in range(0, len(numbers), batch)]
    drawn = [
        DrawnSample(clip.video_id, *clips.draw(number))
        for clip, number in zip(clips.videos, numbers, strict=True)
    ]
    root, snippets = folder / "jpeg", len(drawn) * SEGMENTS

    def ours() -> list[Batch]:
        return [Batch([clips.read(some)]) for some in batches]

    def our_input(made: Sequence[Batch]) -> list[Tensor]:
        return [
            network_input(one.images, one.samples, input, ROW, stream=STREAM, device="cpu")
            for one in made
        ]

    def theirs() -> list[Tensor]:
        return [pil_input(pil_images(root, one, modality), one, modality) for one in drawn]

    expected = torch.stack(theirs()).unflatten(1, (SEGMENTS, -1))
    difference = (torch.cat(our_input(ours())) - expected).abs()
    rows = {
        "tsn-pytorch's way, decoded": milliseconds(
            lambda: [pil_images(root, one, modality) for one in drawn], snippets
        ),
        "tsn-pytorch's way, whole": milliseconds(theirs, snippets),
        "ours, the loader": milliseconds(ours, snippets),
        "ours, with the device's part": milliseconds(lambda: our_input(ours()), snippets),
    }
    rival = rows["tsn-pytorch's way, whole"]
    print(
        f"\n{modality}, {length} image(s), {SEGMENTS} snippets a video: values differ by at most "
        f"{difference.max():g} of 255, {100 * (difference == 0).float().mean():.2f} % are equal"
        f"\n{'':32}{'ms/snippet':>11}{'snippets/s':>12}{'ratio':>8}"
    )
    for name, spent in rows.items():
        print(f"{name:32}{spent:11.2f}{1000 / spent:12.0f}{rival / spent:8.1f}")


def main() -> None:
    """Print a table per modality."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--videos", type=int, default=40)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    folder = Path(tempfile.mkdtemp(prefix="loader-"))
    try:
        planes = real_planes(chosen.clips, chosen.videos, chosen.frames, WIDTH)
        write_all(folder, planes, chosen.videos)
        for modality in STREAMS:
            compare(folder, modality, chosen.batch)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
