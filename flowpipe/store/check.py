"""Shard -> its faults, by clause of FORMAT.md.

Run as a module it is the child process of verify, with a line of JSON in and a line of JSON out. A
file that crashes or hangs HDF5 then ends only the child.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flowpipe import codec
from flowpipe.errors import FormatError
from flowpipe.modality import MODALITIES, START_S
from flowpipe.store import layout
from flowpipe.store.header import read_store_header
from flowpipe.store.index import make_catalogue, open_catalogue
from flowpipe.store.index_file import read_index
from flowpipe.store.layout import BrokenClauseError, Entry
from flowpipe.store.payloads import bad_payloads
from flowpipe.store.rows import parse_meta
from flowpipe.store.shard import Shard, ShardStream, read_shard

Fault = tuple[str, str, str]
"""(video_id or empty, clause, message)"""


def check_shard(path: Path, digest: str, decode: bool) -> dict[str, Any]:
    """Check everything that FORMAT.md demands of one shard.

    Parameters
    ----------
    path : Path
        File of the shard.
    digest : str
        Digest of the store's recipe.
    decode : bool
        Decode every image instead of the first and last of each video.

    Returns
    -------
    dict
        ``videos, frames, images, bytes``; ``faults``; ``spans``: (video_id, part, parts, status,
        first and last timestamp) of each entry; ``modalities``; ``seal``.
    """
    result: dict[str, Any] = {
        "videos": 0, "frames": 0, "images": 0, "bytes": 0, "spans": [], "modalities": [],
        "seal": "",
    }  # fmt: skip
    try:
        shard = read_shard(path)
        result |= {"bytes": path.stat().st_size, "seal": shard.attrs[layout.ATTR_SEAL]}
        faults = [*_root(shard, digest), *_videos(shard)]
        for modality, stream in shard.streams.items():
            faults += _stream_tables(shard, modality, stream)
        if not faults:  # payloads are found through the tables
            faults += _payloads(shard, decode)
        spans = [
            (*e.key, e.status, float(shard.pts_s[e.frame_first]),
             float(shard.pts_s[e.frame_first + e.frames - 1]))
            for e in shard.entries if 0 < e.frames <= len(shard.pts_s) - e.frame_first
        ]  # fmt: skip
        result |= {
            "videos": len(shard.entries), "frames": len(shard.pts_s), "spans": spans,
            "images": sum(len(s.crc32) for s in shard.streams.values()),
            "modalities": list(shard.streams),
        }  # fmt: skip
    except BrokenClauseError as error:
        faults = [("", error.clause, str(error))]
    except Exception as error:  # damage makes HDF5 and codecs raise any error
        faults = [("", "S09", f"{type(error).__name__}: {error}")]
    return result | {"faults": faults}


def check_index(store: Path) -> list[Fault]:
    """Compare index.h5 with the shards and the manifest.

    Parameters
    ----------
    store : Path
        Folder of the store.

    Returns
    -------
    list of Fault
        Faults found; a missing index is none.
    """
    if not (store / layout.INDEX_FILE).exists():
        return []
    try:
        read_index(store)
    except FormatError as error:
        return [("", "S06", f"{error}: delete it")]
    digest = read_store_header(store).recipe_digest
    known = open_catalogue(store, digest, refresh=False, skip_broken=True)
    wanted = make_catalogue(store, digest)
    one, other = known.catalogue, wanted.catalogue
    names = set(one.columns) | set(other.columns)
    different = [
        name for name in sorted(names - {"meta_block", "meta_slot"})
        if not np.array_equal(one.columns.get(name, ()), other.columns.get(name, ()))
    ]  # fmt: skip
    if one.ids.unpack_all() != other.ids.unpack_all():
        different.append("ids")
    elif any(one.meta(row) != other.meta(row) for row in range(len(one.columns["part"]))):
        different.append("metas")
    if not np.array_equal(one.complete, other.complete) or one.incomplete != other.incomplete:
        different.append("whole")
    if known.sources.lost != wanted.sources.lost:
        different.append("lost shards")
    if not different:
        return []
    return [("", "S06", f"index.h5 disagrees with the shards in {', '.join(different)}: delete it")]


def _root(shard: Shard, digest: str) -> Iterator[Fault]:
    recipe = shard.attrs[layout.ATTR_RECIPE]
    if hashlib.sha256(recipe.encode()).hexdigest() != shard.attrs[layout.ATTR_DIGEST]:
        yield "", "S02", "the recipe does not have its digest"
    if shard.attrs[layout.ATTR_DIGEST] != digest:
        there = shard.attrs[layout.ATTR_DIGEST]
        yield "", "S04", f"made with another recipe than the store: {there}"


def _videos(shard: Shard) -> Iterator[Fault]:
    if not shard.entries:
        yield "", "S10", "the shard holds no video"
    seen: set[tuple[str, int]] = set()
    frame = 0
    for e in shard.entries:
        try:
            layout.check_video_id(e.video_id)
        except ValueError as error:
            yield e.video_id, "S10", str(error)
        if (e.video_id, e.part) in seen or e.part >= e.parts:
            yield e.video_id, "S11", f"part {e.part} of {e.parts} is there twice or impossible"
        seen.add((e.video_id, e.part))
        if e.frame_first != frame or not e.frames:
            yield e.video_id, "S12", f"frames {e.frame_first} + {e.frames} do not follow {frame}"
        frame = e.frame_first + e.frames
        pts = shard.pts_s[e.frame_first : frame]
        if not np.all(np.isfinite(pts)) or np.any(np.diff(pts) <= 0):
            yield e.video_id, "S13", "timestamps are not finite and strictly increasing"
        yield from _meta(e)
    if frame != len(shard.pts_s):
        yield "", "S12", f"videos have {frame} frames, the shard has {len(shard.pts_s)} timestamps"


def _meta(e: Entry) -> Iterator[Fault]:
    try:
        meta = parse_meta(e.meta, e.video_id)
        missing = [key for key in layout.META_KEYS if key not in meta]
        if missing or meta["record"]["video_id"] != e.video_id or meta["status"] != e.status:
            yield e.video_id, "S14", f"meta lacks {missing} or names another video or status"
        if e.status not in layout.STATUSES:
            yield e.video_id, "S14", f"status must be one of {layout.STATUSES}, got {e.status!r}"
    except FormatError as error:
        yield e.video_id, "S14", f"meta is not the JSON object wanted: {error}"


def _stream_tables(shard: Shard, modality: str, stream: ShardStream) -> Iterator[Fault]:
    if stream.codec.get("name") not in codec.CODECS:
        yield "", "S15", f"{modality} has the unknown codec {stream.codec}"
    wanted = layout.stream_attributes(modality, stream.codec, stream.quantiser)
    for name in (layout.ATTR_CHANNELS, layout.ATTR_CONTEXT):
        if stream.attrs[name] != wanted[name]:
            yield "", "S15", f"{modality} has {name} {stream.attrs[name]}, not {wanted[name]}"
    if not isinstance(stream.attrs[layout.ATTR_ALIGNMENT], str):
        yield "", "S15", f"{modality} has no {layout.ATTR_ALIGNMENT}"
    images, offset = len(stream.crc32), stream.offset
    end = int(offset[-1]) + stream.at[layout.BYTES.name]
    if int(offset[0]) or np.any(offset[1:] <= offset[:-1]) or end > shard.path.stat().st_size:
        yield "", "S16", f"{modality} offsets are not 0 at first, increasing and inside the file"
    first = 0
    for e in shard.entries:
        count = e.images[modality]
        if e.first[modality] != first:
            yield e.video_id, "S19", f"{modality} images begin at {e.first[modality]}, not {first}"
        first += count
        want = layout.expected_images(e.frames, modality, e.part, e.parts)
        if want is None:
            if not layout.are_times(stream.columns[START_S.name][e.first[modality] :][:count]):
                yield e.video_id, "S30", f"times of {modality} are not finite and increasing"
        elif count != want:
            yield (
                e.video_id,
                "S20",
                f"{e.frames} frames want {want} images of {modality}, not {count}",
            )
        if (count > 0) != (min(e.size[modality]) > 0):
            yield e.video_id, "S21", f"{modality} images have the size {e.size[modality]}"
    if first != images:
        yield "", "S19", f"videos have {first} images of {modality}, the shard has {images}"


def _payloads(shard: Shard, decode: bool) -> Iterator[Fault]:
    fd = os.open(shard.path, os.O_RDONLY)
    try:
        for modality, stream in shard.streams.items():
            bad = list(bad_payloads(fd, stream, stream.crc32))
            firsts = np.array([e.first[modality] for e in shard.entries])
            for image in bad:
                e = shard.entries[int(np.searchsorted(firsts, image, "right")) - 1]
                number = image - e.first[modality]
                yield e.video_id, "S17", f"image {number} of {modality} does not have its CRC"
            for e in shard.entries:
                yield from _decodes(fd, stream, modality, e, bad=set(bad), every=decode)
    finally:
        os.close(fd)


def _decodes(
    fd: int, stream: ShardStream, modality: str, e: Entry, *, bad: set[int], every: bool
) -> Iterator[Fault]:
    first, count = e.first[modality], e.images[modality]
    images = (
        range(first, first + count)
        if every
        else sorted({first, first + count - 1} if count else ())
    )
    channels, (height, width) = MODALITIES[modality].channels, e.size[modality]
    for image in images:
        if image in bad:
            continue
        start, stop = stream.offset[image : image + 2].tolist()
        payload = os.pread(fd, stop - start, stream.at[layout.BYTES.name] + start)
        try:
            size = codec.CODECS[stream.codec["name"]].read_size(payload)
            if math.prod(size) != channels * height * width:
                raise FormatError(f"its size is {size}, wanted {(height, width)} x {channels}")
            shape = codec.decode([payload], channels, stream.codec["name"]).shape
            if shape != (1, channels, height, width):
                raise FormatError(f"it decodes to {shape[1:]}, not {(channels, height, width)}")
        except FormatError as error:
            yield e.video_id, "S18", f"image {image - first} of {modality}: {error}"


def _main() -> None:
    for line in sys.stdin:
        task = json.loads(line)
        if task["check"] == "index":
            try:
                answer: dict[str, Any] = {"faults": check_index(Path(task["path"]))}
            except Exception as error:
                answer = {"faults": [("", "S06", f"index.h5 cannot be compared: {error}")]}
        else:
            answer = check_shard(Path(task["path"]), task["digest"], task["decode"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
