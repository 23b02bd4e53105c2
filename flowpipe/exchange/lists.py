"""Splits and labels of a store <-> the list files that frame loaders read.

    tsn         DATASET_{rgb,flow,...}_{train,val}_split_K.txt     /abs/folder frames label
    mmaction2   DATASET_{train,val}_split_K_rawframes.txt          folder frames label [label ...]
                ..._flow_rawframes.txt                             the same with the count of flow
                ..._instances_rawframes.txt                        folder offset frames label

``mmaction2`` counts rgb and reads no flow beyond. Flow has one image less in most layouts, so each
has its own list. Images of sound have no list of instances, which are given in frames. Without
splits one list has all videos.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from flowpipe.errors import DatasetError
from flowpipe.exchange.layouts import FolderLayout
from flowpipe.modality import MODALITIES
from flowpipe.splits import kind_of_split, validation_split
from flowpipe.store import Store, Video

CLASS_NAMES = "label_map.txt"
"""File of class names, one per line, as mmaction2 calls it."""


def write_class_names(store: Store, out: Path) -> list[Path]:
    """Write the class names of a store, one per line in the order of the labels.

    Parameters
    ----------
    store : Store
        Exported store.
    out : Path
        Folder of the export.

    Returns
    -------
    list of Path
        The file written; empty if the store has no class names.
    """
    names = store.header.class_names
    if not names:
        return []
    path = out / CLASS_NAMES
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return [path]


def write_lists(
    store: Store,
    out: Path,
    layout: FolderLayout,
    modalities: Sequence[str],
    folders: Mapping[str, str],
) -> list[Path]:
    """Write the lists of the exported videos, of each kind that the layout has.

    Parameters
    ----------
    store : Store
        Exported store.
    out : Path
        Folder of the export.
    layout : FolderLayout
        Layout of the export.
    modalities : sequence of str
        Exported modalities.
    folders : mapping
        Folder below `out` by video id.

    Returns
    -------
    list of Path
        The files written.
    """
    written = []
    dataset = re.sub(r"\W", "", str(store.header.dataset.get("dataset") or "")) or "flowpipe"
    for part, ids in _parts(store, folders):
        videos = [store.videos[video_id] for video_id in ids]
        for modality in modalities:
            left_out = layout.count_skipped(modality)
            counts = [video.images[modality] - left_out for video in videos]
            named = zip(videos, (folders[i] for i in ids), counts, strict=True)
            rows = [row for row in named if row[2] > 0]
            row = MODALITIES[modality]
            plain = row.context == 0 and not row.from_sound
            if "tsn" in layout.lists:
                path = out / f"{dataset}_{modality}_{part}.txt"
                written.append(_write(path, _tsn_lines(rows, out)))
            if "mmaction2" in layout.lists:
                which = "" if plain else f"_{modality}"
                path = out / f"{dataset}_{part}{which}_rawframes.txt"
                written.append(_write(path, _mmaction2_lines(rows)))
                if any(video.segments for video in videos) and not row.from_sound:
                    path = out / f"{dataset}_{part}{which}_instances_rawframes.txt"
                    written.append(_write(path, _instance_lines(rows, left_out)))
    return written


def _parts(store: Store, folders: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield (name of a split in file names, ids of its videos)."""
    members: dict[str, list[str]] = {}
    for video_id in folders:
        for split in store.videos[video_id].splits:
            members.setdefault(split, []).append(video_id)
    for split, ids in sorted(members.items()):
        kind = kind_of_split(split)
        # Where there are no val<k>, the test videos are what loaders call validation.
        name = "val" if kind and split == validation_split(members, kind[1]) else split
        yield f"{name.rstrip('0123456789')}_split_{kind[1]}" if kind else split, ids
    if not members:
        yield "all", list(folders)


def _tsn_lines(rows: Iterable[tuple[Video, str, int]], out: Path) -> Iterator[str]:
    """Yield a line for each label of each video, as TSN lists untrimmed videos."""
    for video, folder, count in rows:
        yield from (f"{out.absolute() / folder} {count} {label}" for label in video.labels)


def _mmaction2_lines(rows: Iterable[tuple[Video, str, int]]) -> Iterator[str]:
    for video, folder, count in rows:
        yield " ".join(map(str, (folder, count, *video.labels)))


def _instance_lines(rows: Iterable[tuple[Video, str, int]], left_out: int) -> Iterator[str]:
    """Yield a line for each instance, with those of its frames that have files."""
    for video, folder, count in rows:
        for segment in video.segments:
            first, last = np.searchsorted(video.pts_s, (segment.start_s, segment.end_s))
            first, last = max(0, int(first) - left_out), min(count, int(last) - left_out)
            if first < last:
                yield f"{folder} {first} {last - first} {segment.label}"


def _write(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def read_lists(
    lists: Iterable[tuple[str, Path]],
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[str, ...]]]:
    """Read list files of frame folders.

    Parameters
    ----------
    lists : iterable of (split, file)
        An empty split means none. Lines are ``folder frames label [label ...]``; a folder on
        several lines has the labels of all.

    Returns
    -------
    labels : dict of str to tuple of int
        Labels by folder, as the lists write it.
    splits : dict of str to tuple of str
        Splits by folder, as the lists write it.

    Raises
    ------
    DatasetError
        If a file cannot be read, or a line has another form.
    """
    labels: dict[str, list[int]] = {}
    splits: dict[str, list[str]] = {}
    for split, path in lists:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"list {path} cannot be read: {error}") from error
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            found = re.fullmatch(r"\s*(\S.*?)\s+(\d+)((?:\s+\d+)*)\s*", line)
            if found is None:
                raise DatasetError(
                    f"{path}:{number} must read 'folder frames label', got {line.strip()!r}"
                )
            folder = found[1].rstrip("/")
            own, memberships = labels.setdefault(folder, []), splits.setdefault(folder, [])
            own += [int(label) for label in found[3].split() if int(label) not in own]
            if split and split not in memberships:
                memberships.append(split)
    return (
        {folder: tuple(values) for folder, values in labels.items()},
        {folder: tuple(values) for folder, values in splits.items()},
    )
