"""Training steps per second: ours and a plain PyTorch loop of the same network.

    taskset -c 0 python benchmarks/train_step.py [--modality rgb] [--backbone efficientnet_lite0]
        [--videos 4] [--steps 3] [--passes 3] [--device cpu] [--amp off] [--compile]

The plain loop starts from finished inputs on the device and runs forward, loss, backward and SGD
only. Ours starts from stored bytes: it also cuts, resizes and normalises them, clips the gradient
and measures loss, top-1, top-5 and the norm of the gradient. Both read the loss at the end only.
Images are noise of 340x256, weights are random. Best of several passes, which alternate: CPU time
of the process on a CPU, wall-clock time on a GPU.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from torch.nn import functional

from flowpipe.modality import MODALITIES
from flowpipe.tsn.data.batches import Batch, Chunk, Sample
from flowpipe.tsn.data.crops import random_crop
from flowpipe.tsn.data.inputs import InputSpec
from flowpipe.tsn.data.reading import PackedImages
from flowpipe.tsn.device import choose_kernels, describe, keep_freed_memory, peak_memory_mb
from flowpipe.tsn.distributed import Processes
from flowpipe.tsn.network.backbones import build
from flowpipe.tsn.network.model import make_model
from flowpipe.tsn.network.network_input import network_input
from flowpipe.tsn.recipe import AugmentParams, ScheduleParams, StreamParams
from flowpipe.tsn.training.learner import AMP, Learner

CLASSES, HEIGHT, WIDTH = 101, 256, 340


def seconds(work: Callable[[], object], device: str) -> float:
    """Return the time of a function, the device's work included."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    began = clock()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - began


def make_batch(
    input: InputSpec, stream: StreamParams, videos: int, side: int, device: str
) -> Batch:
    """Return a batch of noise as the loader makes them."""
    rng = np.random.default_rng(1)
    stored = MODALITIES[input.stored]
    shape = (stream.segments * input.read, stored.channels, HEIGHT, WIDTH)
    whole, size = (0, HEIGHT, 0, WIDTH), (HEIGHT, WIDTH)
    samples = [
        Sample(random_crop(stream.augment, WIDTH, HEIGHT, side, rng), whole, size, (label,))
        for label in rng.integers(CLASSES, size=videos).tolist()
    ]
    memory = torch.from_numpy(rng.integers(0, 256, videos * math.prod(shape), np.uint8))
    packed = PackedImages(memory, (shape,) * videos, interleaved=stored.is_colour)
    return Batch([Chunk(packed, tuple(samples)).to(device)])


def main() -> None:
    """Print steps per second of both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--modality", choices=MODALITIES, default="rgb")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--amp", choices=AMP, default="off")
    parser.add_argument("--compile", action="store_true")
    chosen = parser.parse_args()
    row = MODALITIES[chosen.modality]
    length = row.snippet_length
    stream = StreamParams(
        backbone=chosen.backbone, init="random", partial_bn=False, snippet_length=length,
        schedule=ScheduleParams(lr=1e-4, batch_size=chosen.videos), augment=AugmentParams(),
    )  # fmt: skip
    device = "cuda:0" if chosen.device == "cuda" else "cpu"
    choose_kernels(chosen.device, deterministic=False)
    if device == "cpu":
        torch.set_num_threads(1)
        keep_freed_memory()
    input = InputSpec(chosen.modality, length, row.difference_of or chosen.modality)

    backbone, network = build(stream.backbone, "random")
    model = make_model(backbone, network, CLASSES, input.channels, stream)
    learner = Learner(
        model, input, network, stream, Processes(device=device), amp=chosen.amp,
        compile=chosen.compile,
    )  # fmt: skip
    batch = make_batch(input, stream, chosen.videos, network.size, device)
    x = network_input(batch.images, batch.samples, input, network, stream=stream, device=device)
    labels = batch.labels[:, 0].to(device)
    plain = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=1e-4)

    def plain_steps() -> float:
        for _ in range(chosen.steps):
            plain.zero_grad(set_to_none=True)
            kind, dtype = device.partition(":")[0], AMP[chosen.amp]
            with torch.autocast(kind, dtype) if dtype else nullcontext():
                loss = functional.cross_entropy(model(x).float(), labels)
            loss.backward()
            plain.step()
        return float(loss.detach())

    def our_steps() -> float:
        for _ in range(chosen.steps):
            figures = learner.step(batch, chosen.videos)
        return float(figures[0])

    ways: dict[str, Callable[[], float]] = {"plain loop": plain_steps, "ours": our_steps}
    best = dict.fromkeys(ways, float("inf"))
    for work in ways.values():
        work()
    for _ in range(chosen.passes):
        for name, work in ways.items():
            best[name] = min(best[name], seconds(work, device) / chosen.steps)
    snippets = chosen.videos * stream.segments
    print(
        f"{describe(device)}: {chosen.modality}, {chosen.backbone}, {chosen.videos} videos of "
        f"{stream.segments} snippets, amp {chosen.amp}, peak memory {peak_memory_mb(device):.0f} MB"
        f"\n{'':12}{'ms/step':>9}{'steps/s':>9}{'snippets/s':>12}{'time':>7}"
    )
    for name, spent in best.items():
        share = spent / best["plain loop"]
        print(f"{name:12}{1000 * spent:9.0f}{1 / spent:9.2f}{snippets / spent:12.1f}{share:6.2f}x")


if __name__ == "__main__":
    main()
