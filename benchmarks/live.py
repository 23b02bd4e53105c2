"""`flowpipe predict --live` on a clip -> frames per second by stage, for two backbones.

    python benchmarks/live.py CLIP [--threads 2] [--backbones efficientnet_lite0,bninception]

RGB and RGB differences of 5 frames at 224 pixels, one crop, 2 snippets a second (the default) and
5, at which the differences cover every frame of a 25 fps stream. Weights are random, which does not
change the speed. The rows are decoding and resizing alone, then the networks in float32, in
bfloat16 and compiled by torch.compile, with the CPU time of all threads in brackets. The first pass
over the clip warms up and is not counted; the fastest of the others is printed. The paper reports
340 frames per second for this pair of modalities with BN-Inception on its GPU, for 25 snippets of a
video, which is not comparable.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from flowpipe.ops import get_ops
from flowpipe.tsn.network.backbones import build
from flowpipe.tsn.network.model import make_model
from flowpipe.tsn.recipe import StreamParams, TestParams
from flowpipe.tsn.run_folder import LAST, RunFacts, save
from flowpipe.tsn.testing.live import LiveClassifier
from flowpipe.tsn.testing.scorer import SnippetScorer
from flowpipe.video import VideoParams
from flowpipe.video.live import live_frames

CLASSES = tuple(f"class {k}" for k in range(101))
LENGTHS = {"rgb": 1, "rgb_diff": 5}
HEIGHT, WIDTH = 256, 340
RATES_HZ = (2.0, 5.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backbones", default="efficientnet_lite0,bninception")
    parser.add_argument("--passes", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    frames = list(live_frames(str(chosen.clip), VideoParams()))
    decode_s = min(decode(chosen.clip) for _ in range(chosen.passes))
    ops = get_ops()
    began = time.perf_counter()
    images = [(ops.resize(one.pixels[None], HEIGHT, WIDTH)[0], one.time_s) for one in frames]
    resize_s = time.perf_counter() - began
    height, width = frames[0].pixels.shape[:2]
    print(
        f"{len(frames)} frames of {width}x{height}, {chosen.threads} threads, "
        f"torch {torch.__version__}"
    )
    print(
        f"decode {len(frames) / decode_s:.0f} frames/s, "
        f"resize {len(frames) / resize_s:.0f} frames/s"
    )
    print(
        f"{'network':20} {'arithmetic':10} "
        + " ".join(f"{f'{rate:g} snippets/s':>36}" for rate in RATES_HZ)
    )
    with tempfile.TemporaryDirectory() as folder:
        for backbone in chosen.backbones.split(","):
            runs = [make_run(Path(folder) / backbone, backbone, name) for name in LENGTHS]
            for arithmetic in ("float32", "bfloat16", "compiled"):
                networks = [
                    SnippetScorer(run, LAST, "cpu", "bf16" if arithmetic == "bfloat16" else "off")
                    for run in runs
                ]
                if arithmetic == "compiled":
                    for network in networks:
                        network.compile()
                cells = []
                for rate_hz in RATES_HZ:
                    took = [classify(networks, images, rate_hz) for _ in range(chosen.passes + 1)]
                    network_s, cpu_s = map(min, zip(*took[1:], strict=True))
                    whole = len(frames) / (decode_s + resize_s + network_s)
                    cells.append(
                        f"{1e3 * network_s / len(frames):5.2f} ({1e3 * cpu_s / len(frames):5.2f}) "
                        f"ms/frame, {whole:5.1f} frames/s"
                    )
                print(f"{backbone:20} {arithmetic:10} " + " ".join(f"{c:>36}" for c in cells))


def decode(clip: Path) -> float:
    """Return the seconds that decoding takes."""
    began = time.perf_counter()
    for _ in live_frames(str(clip), VideoParams()):
        pass
    return time.perf_counter() - began


def make_run(folder: Path, backbone: str, modality: str) -> Path:
    """Write a run with random weights and return its folder."""
    torch.manual_seed(1)
    stream = StreamParams(
        backbone=backbone, snippet_length=LENGTHS[modality], init="random", partial_bn=False
    )
    run = folder / modality
    RunFacts(
        modality=modality,
        split=1,
        stored="rgb",
        stream=stream,
        test=TestParams(),
        seed=1,
        class_names=CLASSES,
        dataset="list",
        recipe_digest="",
        extraction={},
    ).write(run)
    network, row = build(backbone, "random", stream.pixels, stream.input_size)
    channels = 3 * LENGTHS[modality]
    model = make_model(network, row, len(CLASSES), channels, stream)
    save(run / LAST, {"model": model.state_dict()})
    return run


def classify(networks: list[SnippetScorer], images: list, rate_hz: float) -> tuple[float, float]:
    """Return the seconds that the networks take for the frames: elapsed, and of all threads."""
    classifier = LiveClassifier(networks, [1.0] * len(networks), rate_hz=rate_hz)
    began, cpu_began = time.perf_counter(), time.process_time()
    for pixels, time_s in images:
        classifier.add(pixels, time_s)
    classifier.end()
    return time.perf_counter() - began, time.process_time() - cpu_began


if __name__ == "__main__":
    main()
