"""Functions of the original systems -> their outputs on a grid of inputs: tests/tsn/recorded.

    python benchmarks/record_originals.py [--clones FOLDER]

Sampling, crops, mirroring and pixels of tsn-pytorch, of Caffe-TSN (its C++ data layer and its test
script) and of mmaction2, each by its own function at a fixed commit. The repositories are cloned
from GitHub, or taken from FOLDER/<name>, git directories that have the commits. The functions are
cut out of their modules by name and run with stand-ins for what they import but do not need here:
registries, base classes and image files. A C++ driver is compiled around the text of Caffe's
functions. Random functions get seeds or draws that the tests repeat, or run once for every outcome.

Needs git, g++ and torch. ``tests/tsn/recorded/README.md`` describes the file, and
``tests/tsn/test_recorded.py`` compares flowpipe with it.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from originals_code import CONFIGS, ORIGINS, CaffeDriver, Code, eval_net
from originals_code import picture as picture_of
from originals_pixels import flips, pixels

OUT = Path(__file__).parent.parent / "tests" / "tsn" / "recorded" / "originals.npz"
IMAGES = (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 25, 30, 49, 63, 64, 65, 66, 73, 74, 100, 106, 128,
    250, 300, 1000,
)  # fmt: skip
SEGMENTS, LENGTHS = (1, 2, 3, 5, 7, 8, 25), (1, 5, 6)
DENSE_SEGMENTS, DENSE_LENGTHS = (1, 3, 5, 8), (1, 5)
SIZES = (
    (340, 256), (320, 240), (256, 256), (455, 256), (256, 341), (426, 320), (231, 227), (300, 300),
    (343, 257), (224, 224),
)  # fmt: skip
SCALES = ((1, 0.875, 0.75, 0.66), (1, 0.875, 0.75))
AREAS = (((0.08, 1.0), (3 / 4, 4 / 3)), ((0.3, 0.5), (0.5, 2.0)))
SIDE = 224
SNIPPETS = (1, 2, 3, 8, 14, 15, 16, 17, 30, 61, 64, 100, 199, 300)
CROPS_AND_CLASSES, WINDOWS = (3, 4), (1, 2, 3, 4, 5, 8, 16)
Positions = list[int] | None
"""Positions of images from 0, or None where the original fails."""


def sampling(
    sample: Callable[[int, int, int, int], Positions],
    segments: Sequence[int] = SEGMENTS,
    lengths: Sequence[int] = LENGTHS,
) -> dict[str, np.ndarray]:
    """Record one strategy in one phase; `sample` takes images, segments, length and a seed."""
    cases = [(n, s, k) for n in IMAGES for s in segments for k in lengths]
    found = [sample(*case, seed) or [] for seed, case in enumerate(cases)]
    return {
        "cases": np.array(cases, np.int16),
        "counts": np.array([len(frames) for frames in found], np.int16),
        "frames": np.array([k for frames in found for k in frames], np.int16),
    }


def tsn_pytorch_sampling(code: Code) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    dataset = code.pick(
        "tsn_pytorch", "dataset.py", ("TSNDataSet",),
        data=SimpleNamespace(Dataset=object), randint=np.random.randint,
    )["TSNDataSet"]  # fmt: skip

    def sampler(method: str) -> Callable[[int, int, int, int], Positions]:
        def sample(images: int, segments: int, length: int, seed: int) -> Positions:
            one = dataset.__new__(dataset)
            one.num_segments, one.new_length = segments, length
            one._load_image = lambda folder, number: [number]
            one.transform = lambda numbers: numbers
            record = SimpleNamespace(num_frames=images, path="", label=0)
            np.random.seed(seed)  # noqa: NPY002
            try:
                numbers, _ = one.get(record, getattr(one, method)(record))
            except ValueError:
                return None
            return [n - 1 for n in numbers] if min(numbers) > 0 else None  # files count from 1

        return sample

    for phase, method in (
        ("train", "_sample_indices"), ("val", "_get_val_indices"), ("test", "_get_test_indices"),
    ):  # fmt: skip
        yield f"tsn_pytorch/{phase}", sampling(sampler(method))


def caffe_sampling(code: Code, driver: CaffeDriver) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    def sampler(phase: str) -> Callable[[int, int, int, int], Positions]:
        def sample(images: int, segments: int, length: int, seed: int) -> Positions:
            draws = np.random.RandomState(seed).randint(2**31 - 1, size=segments)
            starts = driver.offsets(phase, images, segments, length, draws.tolist())
            frames = [start + k for start in starts for k in range(length)]
            return frames if max(frames) < images else None  # a file that is not there

        return sample

    for phase in ("train", "val"):
        yield f"caffe/{phase}", sampling(sampler(phase))
    frames_of = eval_net(code)
    yield "caffe/test", sampling(
        lambda images, segments, length, seed: [
            k - 1 for k in frames_of(images, segments, "rgb" if length == 1 else "flow")
        ],
        (2, 3, 10, 25), (1, 5),
    )  # fmt: skip


def mmaction2_sampling(code: Code) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    path = "mmaction/datasets/transforms/loading.py"
    classes = code.pick("mmaction2", path, ("SampleFrames", "DenseSampleFrames"))

    def sampler(name: str, test: bool) -> Callable[[int, int, int, int], Positions]:
        def sample(images: int, segments: int, length: int, seed: int) -> Positions:
            one = classes[name](clip_len=length, num_clips=segments, test_mode=test)
            np.random.seed(seed)  # noqa: NPY002
            made = one.transform({"total_frames": images, "start_index": 0})
            return made["frame_inds"].tolist()

        return sample

    for phase in ("train", "test"):
        yield f"mmaction2/{phase}", sampling(sampler("SampleFrames", phase == "test"))
        dense = sampler("DenseSampleFrames", phase == "test")
        yield f"dense/{phase}", sampling(dense, DENSE_SEGMENTS, DENSE_LENGTHS)


def outcomes(namespace: dict[str, Any], call: Callable[[], Any]) -> Iterator[Any]:
    """Return the results of a function for every outcome of its ``random.choice``."""
    path: list[int] = []
    while True:
        bounds: list[int] = []

        def choice(values: Sequence[Any], bounds: list[int] = bounds) -> Any:
            bounds.append(len(values))
            if len(bounds) > len(path):
                path.append(0)
            chosen = values[path[len(bounds) - 1]]
            return list(chosen) if isinstance(chosen, list) else chosen

        namespace["random"] = SimpleNamespace(choice=choice)
        yield call()
        while path and path[-1] + 1 == bounds[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1


def crops(code: Code, driver: CaffeDriver) -> Iterator[tuple[str, np.ndarray]]:
    """Return rows of size, scales, number of positions, and x, y, width, height of a crop."""
    theirs = code.pick(
        "tsn_pytorch", "transforms.py", ("GroupMultiScaleCrop", "GroupOverSample"),
        Image=SimpleNamespace(BILINEAR=2, FLIP_LEFT_RIGHT=0),
    )  # fmt: skip
    processing = "mmaction/datasets/transforms/processing.py"
    names = ("_init_lazy_if_proper", "RandomCrop", "MultiScaleCrop", "CenterCrop", "TenCrop")
    open_mmlab = code.pick("mmaction2", processing, names)
    found: dict[str, list[tuple[int, ...]]] = {"tsn_pytorch": [], "caffe": [], "mmaction2": []}
    for (width, height), scales, count in (
        (size, scales, count) for size in SIZES for scales in SCALES for count in (5, 13)
    ):
        setting = (width, height, len(scales), count)
        crop = theirs["GroupMultiScaleCrop"](SIDE, list(scales), more_fix_crop=count == 13)
        draw = partial(crop._sample_crop_size, (width, height))
        for w, h, x, y in outcomes(theirs, draw):
            found["tsn_pytorch"].append((*setting, x, y, w, h))
        for x, y, w, h in driver.crops(width, height, SIDE, count == 13, scales):
            found["caffe"].append((*setting, x, y, w, h))
        crop = open_mmlab["MultiScaleCrop"](SIDE, scales, num_fixed_crops=count)
        for made in outcomes(open_mmlab, partial(_transform_crop, crop, width, height)):
            left, top, right, bottom = made["crop_bbox"].tolist()
            found["mmaction2"].append((*setting, left, top, right - left, bottom - top))
    for system, rows in found.items():
        yield f"{system}/crops", np.array(rows, np.int16)
    centres = []
    for width, height in SIZES:
        bbox = open_mmlab["CenterCrop"](SIDE).transform({"img_shape": (height, width)})["crop_bbox"]
        centres.append((width, height, *bbox[:2].tolist(), *driver.centre(width, height, SIDE)))
    yield "centres", np.array(centres, np.int16)
    yield "ten_crops", np.array(list(ten_crops(code, theirs, open_mmlab)), np.int16)


def _transform_crop(crop: Any, width: int, height: int) -> Any:
    return crop.transform({"img_shape": (height, width)})


def ten_crops(code: Code, theirs: Any, open_mmlab: Any) -> Iterator[tuple[int, ...]]:
    """Return rows of system, size, and x, y and mirroring of a test crop."""
    ten = open_mmlab["TenCrop"](SIDE)
    oversample = code.pick("caffe", "python/caffe/io.py", ("oversample",))["oversample"]
    for width, height in SIZES:
        y, x = np.mgrid[:height, :width]
        where = np.stack([x, y], 2).astype(np.float32)  # a pixel says where it is
        made = {
            0: [c.box for c in theirs["GroupOverSample"](SIDE)([picture_of(width, height)])],
            2: [_place(c) for c in ten.transform({"imgs": [where]})["imgs"]],
        }
        if (width, height) == (340, 256):  # the only size that its test script knows
            made[1] = [_place(c) for c in oversample([where], (SIDE, SIDE))]
        for system, rows in made.items():
            yield from ((system, width, height, *row) for row in rows)


def _place(crop: np.ndarray) -> tuple[int, int, int]:
    mirrored = crop[0, 0, 0] > crop[0, -1, 0]
    return int(min(crop[0, 0, 0], crop[0, -1, 0])), int(crop[0, 0, 1]), int(mirrored)


def resized_crops(code: Code) -> np.ndarray:
    """Return rows of mmaction2's RandomResizedCrop.

    A row has the number of areas and aspects, seed, size, and x, y, width, height of the crop.
    """
    path, rows = "mmaction/datasets/transforms/processing.py", []
    crop = code.pick("mmaction2", path, ("RandomCrop", "RandomResizedCrop"), random=random)
    for number, (area, aspect) in enumerate(AREAS):
        for seed, (width, height) in enumerate((*SIZES * 8, *((900, 100), (80, 700)) * 10)):
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            box = crop["RandomResizedCrop"].get_crop_bbox((height, width), area, aspect)
            left, top, right, bottom = (int(k) for k in box)
            rows.append((number, seed, width, height, left, top, right - left, bottom - top))
    return np.array(rows, np.int16)


def integration(code: Code) -> Iterator[tuple[str, np.ndarray]]:
    """Return recorded consensus and fusion: crop scores -> video scores, two streams -> sum.

    The scores of case k are ``RandomState(k).normal(size=(snippets, crops, classes))``.
    """
    names = ("default_aggregation_func", "sliding_window_aggregation_func", "default_fusion_func")
    theirs = code.pick("tsn", "pyActionRecog/utils/video_funcs.py", names)
    mean, windows, fusion = (theirs[name] for name in names)
    made: dict[str, list[Any]] = {"mean": [], "windows": [], "window": [], "fusion": []}
    for seed, snippets in enumerate(SNIPPETS):
        scores = np.random.RandomState(seed).normal(size=(snippets, *CROPS_AND_CLASSES))
        made["mean"].append(mean(scores, normalization=False))
        made["windows"].append(windows(scores, norm=False))
        made["window"].append([windows(scores, spans=[n], norm=False) for n in WINDOWS])
        major, minor = scores[:, 0].copy(), scores[:, 1]
        made["fusion"].append(fusion(major, [minor], [1.5], norm=False)[-1])
    yield "integration/snippets", np.array(SNIPPETS, np.int16)
    yield from ((f"integration/{name}", np.array(values)) for name, values in made.items())


def configuration(code: Code, stream: str) -> str:
    """Return the values of mmaction2's configuration that determine a stream's numbers, as JSON."""
    config = code.kinetics400(stream)
    wanted = ("model", "train_pipeline", "val_pipeline", "test_pipeline", "optim_wrapper",
              "param_scheduler", "train_cfg", "auto_scale_lr")  # fmt: skip
    return json.dumps({key: config[key] for key in wanted})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clones", type=Path, help="folder of git directories by name")
    options = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        code = Code(options.clones, Path(folder))
        driver = CaffeDriver(code, Path(folder))
        recorded: dict[str, np.ndarray] = {}
        for rules in (
            tsn_pytorch_sampling(code), caffe_sampling(code, driver), mmaction2_sampling(code)
        ):  # fmt: skip
            for name, values in rules:
                recorded |= {f"sampling/{name}/{key}": value for key, value in values.items()}
        recorded |= dict(crops(code, driver))
        recorded["mmaction2/resized_crops"] = resized_crops(code)
        recorded |= dict(flips(code)) | dict(pixels(code)) | dict(integration(code))
        configs = {stream: configuration(code, stream) for stream in CONFIGS}
        driver.close()
    recorded |= {f"mmaction2/{stream}": np.array(text) for stream, text in configs.items()}
    recorded["origin"] = np.array(json.dumps(ORIGINS, indent=1))
    np.savez_compressed(OUT, **recorded)
    print(f"{OUT}: {len(recorded)} arrays, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
    subprocess.run(["git", "--no-pager", "diff", "--stat", "--", str(OUT)], check=False)
