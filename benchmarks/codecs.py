"""Real clips -> bytes per image and CPU milliseconds to encode and decode, by codec and modality.

    python benchmarks/codecs.py [--clips FOLDER ...] [--count 8] [--frames 6] [--repeat 3]

340x256 images of every modality as `flowpipe extract` makes them. The table has
the codecs of CODECS and others for comparison; an error of 0 means lossless. CPU time of this
process, best of `repeat` passes over all images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe import codec
from flowpipe.codec.images import planes_to_images
from flowpipe.extraction.planes import PlaneMaker
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.modality import MODALITIES
from flowpipe.ops import get_ops
from flowpipe.video import open_video

CLIPS = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "clips"


class Candidate(NamedTuple):
    """A way to store an image: (H, W) or (H, W, 3) uint8 -> bytes -> the same."""

    name: str
    encode: Callable[[NDArray[np.uint8]], bytes]
    decode: Callable[[bytes, tuple[int, ...]], NDArray[np.uint8]]


def ours(params: Any) -> Candidate:
    """Return a codec of the table, called through `codec.encode` and `codec.decode`."""

    def decode(payload: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        planes = codec.decode([payload], 3 if len(shape) == 3 else 1, params)[0]
        return planes.transpose(1, 2, 0) if len(shape) == 3 else planes[0]

    def encode(image: NDArray[np.uint8]) -> bytes:
        planes = image.transpose(2, 0, 1) if image.ndim == 3 else image[None]
        return codec.encode(planes[None], params)[0]

    options = ", ".join(str(value) for value in vars(params).values())
    return Candidate(f"{params.name}({options})", encode, decode)


def opencv(name: str, extension: str, options: Sequence[int]) -> Candidate:
    """Return a format of cv2.imencode; colour order affects neither size nor speed."""

    def decode(payload: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        image = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_UNCHANGED)
        return image if image.ndim == len(shape) else image[..., 0]

    return Candidate(name, lambda i: cv2.imencode(extension, i, options)[1].tobytes(), decode)


def others() -> list[Candidate]:
    """Return the other codecs that this machine has."""
    found = [
        opencv("PNG, cv2 default", ".png", []),
        opencv("PNG, cv2 level 6", ".png", [cv2.IMWRITE_PNG_COMPRESSION, 6]),
        opencv("WebP lossless, cv2", ".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
        opencv("JPEG 95, cv2", ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]),
    ]
    try:
        import imagecodecs as ic
    except ImportError:
        print("imagecodecs is not installed: JPEG XL, QOI and zstd are left out")
        return found

    def unpack(payload: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        return np.frombuffer(ic.zstd_decode(payload), np.uint8).reshape(shape)

    return [
        *found,
        Candidate(
            "JPEG XL lossless 1",
            lambda i: ic.jpegxl_encode(i, lossless=True, effort=1, numthreads=1),
            lambda p, _: ic.jpegxl_decode(p, numthreads=1),
        ),
        Candidate("zstd 3", lambda i: ic.zstd_encode(i, level=3), unpack),
    ]


def real_images(folders: Sequence[Path], count: int, frames: int) -> dict[str, list[Any]]:
    """Return images of every modality from consecutive frames of clips, as stored."""
    clips = sorted(p for f in folders for p in f.rglob("*") if p.suffix in (".avi", ".mp4"))
    if not clips:
        raise SystemExit(f"no .avi or .mp4 below {folders}; name folders of clips with --clips")
    ops, recipe = get_ops(), ExtractRecipe(modalities=tuple(MODALITIES))
    images: dict[str, list[Any]] = {name: [] for name in MODALITIES}
    for clip in clips[:: max(1, len(clips) // count)][:count]:
        with open_video(clip) as video:
            window = next(iter(video.windows(max_frames=20 + frames)))
        size = window.data.shape[1:3]
        chosen = ops.resize(window.data[-frames:], recipe.size.height, recipe.size.width)
        maker = PlaneMaker(recipe, ops, clip.stem, size)
        for planes in maker.finish(maker.begin(chosen, len(chosen))):
            images[planes.modality].extend(planes_to_images(planes.data))
    return images


def measure(
    way: Candidate, images: Sequence[Any], repeat: int
) -> tuple[float, float, float, float]:
    """Return mean bytes, CPU ms to encode and decode an image, and mean absolute error."""
    encode_s = decode_s = float("inf")
    for _ in range(repeat):
        began = time.process_time()
        payloads = [way.encode(image) for image in images]
        encode_s = min(encode_s, time.process_time() - began)
        began = time.process_time()
        back = [way.decode(p, i.shape) for p, i in zip(payloads, images, strict=True)]
        decode_s = min(decode_s, time.process_time() - began)
    error = np.mean(
        [np.abs(b.astype(np.int16) - i).mean() for b, i in zip(back, images, strict=True)]
    )
    size = float(np.mean([len(p) for p in payloads]))
    return size, 1000 * encode_s / len(images), 1000 * decode_s / len(images), float(error)


def main() -> None:
    """Print a table per modality."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, nargs="*", default=[CLIPS])
    parser.add_argument("--count", type=int, default=8, help="number of clips")
    parser.add_argument("--frames", type=int, default=6, help="number of frames of each clip")
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    for modality, images in real_images(chosen.clips, chosen.count, chosen.frames).items():
        default = codec.default_params(modality)
        mine = [
            ours(p)
            for p in (default, codec.JpegLsParams(), codec.JpegLsParams(1), codec.RawParams())
        ]
        print(f"\n{modality}: {len(images)} images of {images[0].shape}, default {mine[0].name}")
        print(f"{'codec':24}{'bytes':>9}{'of raw':>8}{'enc ms':>8}{'dec ms':>8}{'error':>8}")
        for way in mine + others():
            size, encode_ms, decode_ms, error = measure(way, images, chosen.repeat)
            print(
                f"{way.name:24}{size:9.0f}{size / images[0].size:8.3f}"
                f"{encode_ms:8.2f}{decode_ms:8.2f}{error:8.3f}"
            )


if __name__ == "__main__":
    main()
