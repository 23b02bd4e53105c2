"""Real clips -> random snippets per second: store, JPEG folders, webdataset tar, same frames.

    python benchmarks/snippets.py [--videos 100] [--frames 100] [--requests 4000] [--cold]

A flow snippet is 5 consecutive fields, an rgb snippet 1 frame, as TSN reads them. A store is
compared with:

- JPEG folders as tsn-pytorch reads them: flow_x_00001.jpg and flow_y_00001.jpg, one open per file,
  with PIL as it does, and with the fastest way there is (os.open, read, simplejpeg);
- a webdataset tar of the store's own payloads, with an index of its members made beforehand and one
  pread over the run of members: as fast as a tar can be read at random.

Warm: every file is in the page cache; CPU seconds (user and system) of one process, best of three.
Cold: the page cache is dropped before each reader (`--cold`, root only); wall seconds.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from flowpipe import codec, params
from flowpipe.exchange.layouts import file_names
from flowpipe.modality import MODALITIES, quantiser_of
from flowpipe.ops import get_ops
from flowpipe.store import ShardWriter, StreamSpec, create_store, open_store
from flowpipe.types import EncodedPlanes, Span, VideoRecord
from flowpipe.video import open_video

CLIPS = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "clips"
STREAMS = ("rgb", "flow")
PARAMS = {name: codec.default_params(name) for name in STREAMS}
DROP = Path("/proc/sys/vm/drop_caches")

Request = tuple[str, str, int, int]
Reader = Callable[[str, str, int, int], Any]


def real_planes(
    folder: Path, videos: int, frames: int, width: int = 340
) -> list[dict[str, NDArray[np.uint8]]]:
    """Return RGB and quantised DIS flow of up to ten clips, repeated to `frames`, 256 px high."""
    clips = sorted(p for p in folder.rglob("*") if p.suffix in (".avi", ".mp4"))
    if not clips:
        raise SystemExit(f"no .avi or .mp4 below {folder}; name a folder of clips with --clips")
    ops, dis, made = get_ops(), cv2.DISOpticalFlow_create(0), []
    for clip in clips[:: max(1, len(clips) // 10)][: min(10, videos)]:
        rgb: list[NDArray[np.uint8]] = []
        with open_video(clip) as video:
            for window in video.windows():
                rgb.extend(ops.resize(window.data, 256, width))
                if len(rgb) >= frames:
                    break
        rgb = (rgb * -(-frames // len(rgb)))[:frames]
        gray = ops.gray(np.stack(rgb))
        fields = [dis.calc(a, b, None) for a, b in zip(gray, gray[1:], strict=False)]
        flow, _ = ops.quantise(np.ascontiguousarray(np.stack(fields).transpose(0, 3, 1, 2)), 20.0)
        made.append({"rgb": np.stack(rgb).transpose(0, 3, 1, 2), "flow": flow})
    return made


def write_all(folder: Path, planes: Sequence[dict[str, NDArray[np.uint8]]], videos: int) -> None:
    """Write the same frames as a store, as folders of JPEG files and as a tar."""
    made_with: dict[str, Any] = {"benchmark": "snippets"}
    text, digest = params.canonical(made_with), params.digest(made_with)
    create_store(
        folder / "store", recipe=text, recipe_digest=digest, dataset={}, class_names=("one",)
    )
    payloads = [{m: codec.encode(p[m], PARAMS[m]) for m in STREAMS} for p in planes]
    halves = [
        [codec.encode(p["flow"][:, axis : axis + 1], PARAMS["flow"]) for axis in (0, 1)]
        for p in planes
    ]
    streams = {m: StreamSpec(PARAMS[m], quantiser_of(m, 20.0)) for m in STREAMS}
    shard = folder / "store" / "shards" / "shard-0.h5"
    tar_path = folder / "frames.tar"
    with (
        ShardWriter(
            shard, recipe=text, recipe_digest=digest, backend={}, streams=streams
        ) as writer,
        tarfile.open(tar_path, "w") as tar,
    ):
        for number in range(videos):
            source, video_id = number % len(planes), f"v{number:04d}"
            writer.begin(Span(VideoRecord(video_id, "", labels=(0,), splits=("train1",))))
            for modality in STREAMS:
                images = payloads[source][modality]
                columns = {
                    c.name: np.zeros((len(images), *c.shape), c.dtype)
                    for c in MODALITIES[modality].columns
                }
                size = planes[source][modality].shape[2:]
                writer.append(EncodedPlanes(modality, images, *size, columns))
                for k, payload in enumerate(images):
                    member = tarfile.TarInfo(f"{video_id}/{modality}.{k:05d}.jpg")
                    member.size = len(payload)
                    tar.addfile(member, io.BytesIO(payload))
            writer.append_pts(np.arange(len(planes[source]["rgb"])) / 25)
            writer.commit({})
            images_of = folder / "jpeg" / video_id
            images_of.mkdir(parents=True)
            for modality, images in zip(
                ("rgb", "flow"), ([payloads[source]["rgb"]], halves[source]), strict=True
            ):
                for stem, of_stem in zip(MODALITIES[modality].files, images, strict=True):
                    for k, payload in enumerate(of_stem, 1):
                        (images_of / f"{stem}_{k:05d}.jpg").write_bytes(payload)
        writer.publish()


def files_of(modality: str, images: Sequence[int]) -> list[str]:
    """Return the file names of images in a JPEG folder, numbered from 1."""
    return [name for k in images for name in file_names(modality, k + 1, ".jpg")]


def folder_readers(folder: Path) -> dict[str, tuple[Reader, Reader | None]]:
    """Return the readers of JPEG folders by name: (without decoding, with decoding)."""
    root = str(folder)

    def files(video_id: str, modality: str, start: int, length: int) -> list[bytes]:
        result = []
        for name in files_of(modality, range(start, start + length)):
            fd = os.open(f"{root}/{video_id}/{name}", os.O_RDONLY)
            result.append(os.read(fd, 1 << 20))
            os.close(fd)
        return result

    def fast(video_id: str, modality: str, start: int, length: int) -> list[Any]:
        colours = "RGB" if MODALITIES[modality].is_colour else "GRAY"
        return [
            simplejpeg.decode_jpeg(payload, colours)
            for payload in files(video_id, modality, start, length)
        ]

    def opencv(video_id: str, modality: str, start: int, length: int) -> list[Any]:
        how = cv2.IMREAD_COLOR if MODALITIES[modality].is_colour else cv2.IMREAD_GRAYSCALE
        return [
            cv2.imread(f"{root}/{video_id}/{name}", how)
            for name in files_of(modality, range(start, start + length))
        ]

    found: dict[str, tuple[Reader, Reader | None]] = {
        "JPEG folders, simplejpeg": (files, fast),
        "JPEG folders, cv2.imread": (files, opencv),
    }
    try:
        from PIL import Image
    except ImportError:
        print("PIL is not installed: JPEG folders as tsn-pytorch reads them are left out")
        return found

    def pil_bytes(video_id: str, modality: str, start: int, length: int) -> list[Any]:
        result = []
        for name in files_of(modality, range(start, start + length)):
            path = Path(root) / video_id / name
            with path.open("rb") as file:
                result.append(file.read())
        return result

    def pil(video_id: str, modality: str, start: int, length: int) -> list[Any]:
        mode = "RGB" if MODALITIES[modality].is_colour else "L"
        return [
            np.asarray(Image.open(f"{root}/{video_id}/{name}").convert(mode))
            for name in files_of(modality, range(start, start + length))
        ]

    return {"JPEG folders, PIL": (pil_bytes, pil), **found}


def tar_readers(path: Path) -> tuple[Reader, Reader]:
    """Return readers of the indexed tar: one pread from the first member to the last."""
    began, index = time.perf_counter(), {}
    with tarfile.open(path) as tar:
        for member in tar:
            index[member.name] = member.offset_data, member.size
    print(f"tar: {len(index)} members indexed in {time.perf_counter() - began:.2f} s")
    fd = os.open(path, os.O_RDONLY)

    def read(video_id: str, modality: str, start: int, length: int) -> list[memoryview]:
        places = [index[f"{video_id}/{modality}.{k:05d}.jpg"] for k in range(start, start + length)]
        first, (last, size) = places[0][0], places[-1]
        block = memoryview(os.pread(fd, last + size - first, first))
        return [block[at - first : at - first + size] for at, size in places]

    def decode(video_id: str, modality: str, start: int, length: int) -> Any:
        payloads = read(video_id, modality, start, length)
        return codec.decode(payloads, MODALITIES[modality].channels, PARAMS[modality])

    return read, decode


def warm_rate(read: Reader, requests: Sequence[Request]) -> float:
    """Return the snippets per CPU second, best of three passes."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        for request in requests:
            read(*request)
        best = min(best, time.process_time() - began)
    return len(requests) / best


def cold_rate(read: Reader, requests: Sequence[Request]) -> float:
    """Return the snippets per wall second with the page cache, inodes and directories dropped."""
    os.sync()
    DROP.write_text("3")
    began = time.perf_counter()
    for request in requests:
        read(*request)
    return len(requests) / (time.perf_counter() - began)


def main() -> None:
    """Print a table per modality."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--folder", type=Path, help="folder to write; default: a temporary folder")
    parser.add_argument("--cold", action="store_true")
    chosen = parser.parse_args()
    cold = chosen.cold and os.access(DROP, os.W_OK)
    if not cold:
        print("cold reads not measured: they need --cold and the right to drop the page cache")
    cv2.setNumThreads(1)
    folder = Path(tempfile.mkdtemp(prefix="snippets-", dir=chosen.folder))
    try:
        write_all(folder, real_planes(chosen.clips, chosen.videos, chosen.frames), chosen.videos)
        began = time.perf_counter()
        store = open_store(folder / "store")
        first_s = time.perf_counter() - began
        began = time.perf_counter()
        store = open_store(folder / "store")
        print(f"store: opened in {1000 * first_s:.1f} ms, with index "
              f"{1000 * (time.perf_counter() - began):.1f} ms")  # fmt: skip
        unchecked = open_store(folder / "store", check=False)
        readers: dict[str, tuple[Reader, Reader | None]] = {
            "store": (store.read_payloads, store.snippet),
            "store, CRC unchecked": (store.read_payloads, unchecked.snippet),
            "tar with own index": tar_readers(folder / "frames.tar"),
            **folder_readers(folder / "jpeg"),
        }
        rng = np.random.default_rng(7)
        for modality in STREAMS:
            row = MODALITIES[modality]
            length, images = row.snippet_length, chosen.frames - row.context
            requests = [
                (f"v{rng.integers(chosen.videos):04d}", modality,
                 int(rng.integers(images - length + 1)), length)
                for _ in range(chosen.requests)
            ]  # fmt: skip
            print(f"\n{modality}, {length} image(s): snippets/s of one core"
                  f"\n{'':28}{'warm, bytes':>13}{'decoded':>10}{'cold, bytes':>13}")  # fmt: skip
            for name, (read, decode) in readers.items():
                bytes_rate = warm_rate(read, requests)
                few = requests[: max(1, chosen.requests // 8)]
                decode_rate = warm_rate(decode, few) if decode else float("nan")
                cold_text = f"{cold_rate(read, requests):13.0f}" if cold else f"{'-':>13}"
                print(f"{name:28}{bytes_rate:13.0f}{decode_rate:10.0f}{cold_text}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
