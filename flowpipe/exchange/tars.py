"""Store <-> tars that webdataset reads: a sample is a video, payloads are copied byte for byte.

    KEY.json                        meta object, timestamps and columns
    KEY.cls                         label, if the video has exactly one
    KEY.rgb.000000.jpg ...          images as they are stored; a flow field has u left of v

A key is the video id. Dots and the characters that `layouts.safe_name` quotes become %XX.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowpipe import codec, strict
from flowpipe.atomic import draft_of, translate_full_disk
from flowpipe.errors import FormatError
from flowpipe.exchange.job import WINDOW, Exported, ExportJob, open_cached
from flowpipe.exchange.layouts import safe_name
from flowpipe.exchange.sidecar import WRONG_VALUES, VideoSidecar
from flowpipe.modality import MODALITIES
from flowpipe.store import Store
from flowpipe.words import count_noun

TAR_NAME = re.compile(r"shard-\d{6}\.tar")
_END_BYTES = 2 * tarfile.BLOCKSIZE
_MEMBER = re.compile(r"(?P<key>[^.]+)\.(?P<modality>\w+)\.(?P<number>\d+)\.\w+")


def group_by_size(
    store: Store, videos: Sequence[str], modalities: Sequence[str], tar_bytes: int
) -> list[list[str]]:
    """Group videos, in order, into tars of about equal size.

    Parameters
    ----------
    store : Store
        Store of the videos.
    videos : sequence of str
        Their ids.
    modalities : sequence of str
        Exported modalities.
    tar_bytes : int
        Wanted size of a tar.

    Returns
    -------
    list of list of str
        Ids of the videos of each tar; at least one.
    """
    rate = _bytes_of_an_image(store, modalities)
    groups: list[list[str]] = []
    left_bytes = 0.0
    for video_id in videos:
        images = store.videos[video_id].images
        size = sum(images[name] * rate[name] for name in modalities)
        if not groups or size > left_bytes:
            groups.append([])
            left_bytes = float(tar_bytes)
        groups[-1].append(video_id)
        left_bytes -= size
    return groups


def write_tar(
    job: ExportJob, modalities: Sequence[str], number: int, videos: Sequence[str]
) -> Exported:
    """Write one tar of videos; an existing one stays.

    Parameters
    ----------
    job : ExportJob
        What to export, and how.
    modalities : sequence of str
        Exported modalities.
    number : int
        Number of the tar.
    videos : sequence of str
        Ids of its videos.

    Returns
    -------
    Exported
        Counts of what was written.
    """
    final = job.out / f"shard-{number:06d}.tar"
    if final.exists():
        return Exported(already=len(videos))
    store, done = open_cached(job.store), Exported()
    with translate_full_disk(final, "tar"), draft_of(final) as draft:
        with tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as tar:
            for video_id in videos:
                for name, content in _members(store, video_id, modalities):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
                    done.files += 1
                done.videos += 1
        done.bytes = draft.stat().st_size
    return done


def _members(store: Store, video_id: str, modalities: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    key, notes = safe_name(video_id, also="."), VideoSidecar.of_video(store, video_id, modalities)
    labels = store.videos[video_id].labels
    yield f"{key}.json", json.dumps(_plain(notes), ensure_ascii=False).encode()
    if len(labels) == 1:
        yield f"{key}.cls", str(labels[0]).encode()
    for modality in modalities:
        count = notes.images[modality]
        extension = codec.CODECS[store.codec(modality)["name"]].extension
        for start in range(0, count, WINDOW):
            window = store.read_payloads(
                video_id, modality, start, min(WINDOW, count - start), check=True
            )
            for k, content in enumerate(window, start):
                yield f"{key}.{modality}.{k:06d}{extension}", bytes(content)


def read_tar(path: Path) -> Iterator[tuple[VideoSidecar, Mapping[str, list[bytes]]]]:
    """Read the videos of a tar that flowpipe wrote.

    Parameters
    ----------
    path : Path
        The tar.

    Yields
    ------
    VideoSidecar
        Facts of the video.
    dict
        Payloads by modality.

    Raises
    ------
    FormatError
        If the tar is damaged, or was not written by flowpipe.
    """
    notes: VideoSidecar | None = None
    key = ""
    payloads: dict[str, list[bytes]] = {}
    try:
        most_bytes = _check_end(path)
        with tarfile.open(path, "r:") as tar:
            for entry in tar:
                if not entry.isreg() or entry.issparse() or entry.size > most_bytes:
                    raise FormatError(f"{path}: {entry.name} is no ordinary file")
                file = tar.extractfile(entry)
                content = file.read() if file else b""
                found = _MEMBER.fullmatch(entry.name)
                if entry.name.endswith(".json"):
                    if notes is not None:
                        yield notes, payloads
                    notes = _parse_notes(strict.parse_json(content, f"{path}: {entry.name}"))
                    key = entry.name.removesuffix(".json")
                    payloads = {name: [] for name in notes.images}
                elif found is not None and found["key"] == key:
                    images = payloads[found["modality"]]
                    if int(found["number"]) != len(images):
                        before = count_noun(len(images), "image")
                        raise FormatError(f"{path}: {entry.name} comes after {before} of its kind")
                    images.append(content)
                elif entry.name != f"{key}.cls":
                    raise FormatError(f"{path}: {entry.name} belongs to no video before it")
    except (tarfile.TarError, OSError, *WRONG_VALUES) as error:
        raise FormatError(f"{path} is no complete tar of flowpipe export: {error!r}") from error
    if notes is not None:
        yield notes, payloads


def _check_end(path: Path) -> int:
    """Return the size of a tar, bytes; ValueError if it has no end marker.

    Python reads a truncated tar without an error.
    """
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _END_BYTES))
        if file.read() != bytes(_END_BYTES):
            raise ValueError("its end is missing")
    return size


def _plain(notes: VideoSidecar) -> dict[str, Any]:
    columns = {
        modality: {name: values.tolist() for name, values in columns.items()}
        for modality, columns in notes.columns.items()
    }
    return {**notes.meta, "images": notes.images, "pts_s": notes.pts_s.tolist(), "columns": columns}


def _parse_notes(values: dict[str, Any]) -> VideoSidecar:
    images, pts_s, columns = values.pop("images"), values.pop("pts_s"), values.pop("columns")
    return VideoSidecar(
        meta=values,
        images=images,
        pts_s=np.array(pts_s, np.float64),
        columns={
            modality: {
                column.name: np.array(columns[modality][column.name], column.dtype).reshape(
                    -1, *column.shape
                )
                for column in MODALITIES[modality].columns
            }
            for modality in images
        },
    )


def _bytes_of_an_image(store: Store, modalities: Sequence[str]) -> dict[str, float]:
    """Estimate the bytes of an image by modality, from the first images of a few videos."""
    videos = list(store.videos.values())
    rates = {}
    for name in modalities:
        sizes = [
            len(payload)
            for video in videos[:: max(1, len(videos) // 16)]
            for payload in store.read_payloads(video.video_id, name, 0, min(8, video.images[name]))
        ]
        rates[name] = sum(sizes) / max(1, len(sizes)) + 1024.0  # tar header and padding
    return rates
