"""A small real store -> single-bit flips in shard and index: detected, harmless, wrong.

    python benchmarks/flips.py [--flips 2000] [--seed 0]

Each flip keeps the file's modification time, so only the content reveals it. Then everything is
read: ids, metas, counts, timestamps, every column, and every image of every modality, by the Python
reader and by the compiled reader. A flip is detected if a FlowpipeError is raised or the index is
made again, harmless if the values are equal, and wrong if a value differs or another error is
raised. For every fortieth flip `verify` runs too; it must not accept what the reader refused.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np

from flowpipe import codec, params
from flowpipe.codec.images import image_shape
from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.modality import MODALITIES, quantiser_of
from flowpipe.store import ShardWriter, StreamSpec, create_store, open_store, verify_store
from flowpipe.store.index_file import read_index
from flowpipe.types import EncodedPlanes, Interval, Span, VideoRecord

RECIPE = {"modalities": list(MODALITIES)}


def make_store(store: Path, rng: np.random.Generator) -> None:
    """Write two shards of random images of every modality, one video split over both."""
    text, digest = params.canonical(RECIPE), params.digest(RECIPE)
    create_store(store, recipe=text, recipe_digest=digest, dataset={}, class_names=["a", "b"])
    streams = {m: StreamSpec(codec.default_params(m), quantiser_of(m, 20.0)) for m in MODALITIES}
    for number, videos in enumerate(
        ((("a", 9, 0, 1), ("s", 5, 0, 2)), (("b", 6, 0, 1), ("s", 4, 1, 2)))
    ):
        with ShardWriter(
            store / "shards" / f"shard-{number:012x}.h5", recipe=text, recipe_digest=digest,
            backend={"ops": "none"}, streams=streams,
        ) as writer:  # fmt: skip
            for video_id, frames, part, parts in videos:
                record = VideoRecord(
                    video_id, f"/{video_id}.avi", labels=(1,), segments=(Interval(1, 0, 1),)
                )
                writer.begin(Span(record, part, parts))
                for modality, row in MODALITIES.items():
                    count = frames if part < parts - 1 else frames - row.context
                    planes = rng.integers(0, 256, (count, row.channels, 12, 16), np.uint8)
                    columns = {
                        c.name: rng.integers(0, 9, (count, *c.shape)).astype(c.dtype)
                        for c in row.columns
                    }
                    payloads = codec.encode(planes, codec.default_params(modality))
                    writer.append(EncodedPlanes(modality, payloads, 12, 16, columns))
                writer.append_pts((5 * part + np.arange(frames)) / 25)
                writer.commit({})
            writer.publish()


def answers(path: Path) -> list[object]:
    """Return everything that a reader can read."""
    store, said = open_store(path, refresh=False), []
    for video_id, video in store.videos.items():
        said += [
            video_id,
            repr(video.meta),
            video.frames,
            repr(video.images),
            video.pts_s.tobytes(),
        ]
        for modality, count in video.images.items():
            said.append(store.snippet(video_id, modality, 0, count).tobytes())
            said.append(repr((store.quantiser(modality), store.codec(modality))))
            shape = (1, *image_shape(MODALITIES[modality].channels, 12, 16))
            outs = [np.zeros(shape, np.uint8) for _ in range(count)]
            store.read_into([(video_id, modality, k, 1) for k in range(count)], outs)
            said += [out.tobytes() for out in outs]
            for column in MODALITIES[modality].columns:
                said.append(store.column(video_id, modality, column.name).tobytes())
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="flips-") as folder:
        store = Path(folder) / "store"
        make_store(store, rng)
        open_store(store)
        truth = answers(store)
        print(f"{'file':8} {'bytes':>8} {'flips':>7} {'detected':>9} {'harmless':>9} {'wrong':>6}")
        for target in (store / "shards" / "shard-000000000000.h5", store / "index.h5"):
            whole, status = target.read_bytes(), target.stat()
            detected = harmless = wrong = unverified = 0
            for number in range(arguments.flips):
                flipped = bytearray(whole)
                flipped[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
                target.write_bytes(flipped)
                os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
                refused, found = False, truth
                try:
                    if target.name == "index.h5":
                        try:
                            read_index(store)
                        except FormatError:
                            refused = True  # and the index is made again: the answers stay
                    found = answers(store)
                except FlowpipeError:
                    refused = True
                except Exception as error:
                    print(f"another error: {error!r}")
                    found = []
                detected += refused
                wrong += found != truth
                harmless += not refused and found == truth
                if number % 40 == 0 and refused:
                    unverified += verify_store(store).ok
            target.write_bytes(whole)
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
            print(
                f"{target.stem[:5]:8} {len(whole):8d} {arguments.flips:7d} "
                f"{detected:9d} {harmless:9d} {wrong:6d}  called whole by verify: {unverified}"
            )


if __name__ == "__main__":
    main()
