"""A data set without splits -> the same with splits, from list files or by a share."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flowpipe.datasets.classes import read_class_names
from flowpipe.datasets.dataset import Dataset
from flowpipe.datasets.file_kinds import is_video
from flowpipe.datasets.ids import escape, id_of, without_extension
from flowpipe.datasets.listfile import ReadList, labels_of, read_list
from flowpipe.errors import DatasetError
from flowpipe.remote import PathOrUrl
from flowpipe.splits import kind_of_split, split_names
from flowpipe.types import VideoRecord
from flowpipe.words import agree_verb, count_noun, list_some, nearest_names

_MOST_NAMES = 8
"""Largest number of last path components that are compared to identify a video."""


def split_by_share(dataset: Dataset, share: float) -> Dataset:
    """Put a share of the videos of each class into ``val1`` and the rest into ``train1``.

    The choice depends only on the ids and the share. A class with several videos has at least one
    in each split; videos without a label are in no split.

    Parameters
    ----------
    dataset : Dataset
        Videos with labels.
    share : float
        Share of videos in ``val1``, above 0 and below 1.

    Returns
    -------
    Dataset
        The same videos with splits.

    Raises
    ------
    DatasetError
        If the videos have splits already, or no labels.
    """
    known = split_names(dataset.records)
    if known:
        raise DatasetError(
            f"these videos have the splits {', '.join(known)} already; leave --val-fraction out"
        )
    by_class: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for record in dataset.records:
        if record.labels:
            by_class[record.labels].append(record.video_id)
    if not by_class:
        raise DatasetError(
            "no video has a label, so --val-fraction has no classes to divide; put the videos of "
            "each class into a folder of its own, or give a list of 'path label' lines to --videos"
        )
    held_out: set[str] = set()
    alone = []
    for labels, ids in sorted(by_class.items()):
        ids.sort(key=_draw)
        count = min(max(1, round(share * len(ids))), len(ids) - 1)
        held_out.update(ids[:count])
        if not count:
            alone.append("|".join(dataset.class_names[label] for label in labels))

    def assign(record: VideoRecord) -> VideoRecord:
        if not record.labels:
            return record
        split = "val1" if record.video_id in held_out else "train1"
        return replace(record, splits=(split,))

    total = sum(map(len, by_class.values()))
    lines = [
        f"{len(held_out)} of {count_noun(total, 'labelled video')} are kept for validation (val1), "
        f"{total - len(held_out)} are trained on (train1)"
    ]
    if alone:
        lines.append(
            f"{count_noun(len(alone), 'class has', 'classes have')} one video only, which is "
            f"trained on: {list_some(alone)}"
        )
    if total < len(dataset.records):
        rest = len(dataset.records) - total
        lines.append(
            f"{count_noun(rest, 'video')} without a label {agree_verb(rest, 'is', 'are')} in no "
            "split"
        )
    return _add_notes(replace(dataset, records=tuple(map(assign, dataset.records))), lines)


def split_by_lists(
    dataset: Dataset,
    lists: Sequence[tuple[str, PathOrUrl]],
    base: PathOrUrl,
    class_names: PathOrUrl | None = None,
) -> Dataset:
    """Assign splits from list files, and labels if the videos have none.

    A line identifies a video by the end of its path, with as many components as make it unique; the
    extension may be left out. Labels of the lists are used if fewer than two classes are known, as
    in a folder without subfolders. A listed video without a file becomes absent.

    Parameters
    ----------
    dataset : Dataset
        The videos.
    lists : sequence of (split, file)
        Splits are ``train<k>``, ``val<k>`` or ``test<k>``; the forms of the files are those of
        `flowpipe.datasets.listfile`.
    base : Path or URL
        Folder that relative paths of the lists start at.
    class_names : Path or URL, optional
        File with the class names in the order of the labels.

    Returns
    -------
    Dataset
        The same videos with splits.

    Raises
    ------
    DatasetError
        If a list names no existing video, a video is in the training and the test list of one split
        number, or the labels of a video differ.
    """
    read = [(split, read_list(path, base)) for split, path in lists]
    found = _PathIndex(dataset.records, [one for _, one in read])
    splits: dict[str, list[str]] = defaultdict(list)
    absent: dict[str, list[str]] = defaultdict(list)
    for split, one in read:
        there = 0
        for path in one.there:
            record = found.find(path)
            there += record is not None
            members = absent[id_of(path)] if record is None else splits[record.video_id]
            if split not in members:
                members.append(split)
        if not there:
            raise DatasetError(_describe_no_match(one, dataset))
    for video_id, own in splits.items():
        _refuse_leak(video_id, own)
    labels: dict[str, tuple[int, ...]] = {}
    names, lines = dataset.class_names, []
    if len(dataset.class_names) < 2 and all(one.columns.labels for _, one in read):
        names, labels = _labels([one for _, one in read], found, class_names)
    elif any(one.columns.labels for _, one in read):
        lines.append(
            "labels are those that the videos have without the split lists; labels that the split "
            "lists have too are not used"
        )
    records = tuple(
        replace(
            record,
            splits=tuple(splits.get(record.video_id, ())),
            labels=labels.get(record.video_id, record.labels if not labels else ()),
        )
        for record in dataset.records
    )
    members = [f"{split} {len(one.there)}" for split, one in read]
    lines.append(f"videos by split, as listed: {', '.join(members)}")
    rest = sum(not record.splits for record in records)
    if rest:
        lines.append(
            f"{count_noun(rest, 'video')} {agree_verb(rest, 'is', 'are')} in no list and in no "
            "split"
        )
    gone = tuple(VideoRecord(key, "", splits=tuple(own)) for key, own in absent.items())
    divided = replace(dataset, class_names=names, records=records, absent=(*dataset.absent, *gone))
    return _add_notes(divided, lines)


class _PathIndex:
    """Index of videos by the ends of their paths."""

    def __init__(self, records: Sequence[VideoRecord], lists: Sequence[ReadList]) -> None:
        self._records = records
        listed = {_bare(path) for one in lists for path in one.there}
        own = {_bare(record.path) for record in records}
        for names in range(1, _MOST_NAMES + 1):
            self._names = names
            if all(len({_end(p, names) for p in each}) == len(each) for each in (listed, own)):
                break
        self._ends: dict[int, dict[str, list[VideoRecord]]] = {}

    def find(self, path: str) -> VideoRecord | None:
        """Return the video that a path of a list identifies; None if there is none.

        Raises
        ------
        DatasetError
            If several videos match.
        """
        names = min(self._names, len(_parts(path)))
        ends = self._by_end(names)
        same = ends.get(_end(path, names)) or ends.get(_end(_bare(path), names), [])
        if len(same) > 1:
            paths = " and ".join(record.path for record in same[:2])
            raise DatasetError(
                f"{escape(path)} of a split list may be {paths}; write more of its path"
            )
        return same[0] if same else None

    def _by_end(self, names: int) -> dict[str, list[VideoRecord]]:
        """Return videos by the last `names` path components, with and without extension."""
        if names not in self._ends:
            found = self._ends[names] = defaultdict(list)
            for record in self._records:
                for path in {record.path, _bare(record.path)}:
                    found[_end(path, names)].append(record)
        return self._ends[names]


def _labels(
    lists: Sequence[ReadList], found: _PathIndex, class_names: PathOrUrl | None
) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Return class names and the labels by video id from split lists, which must agree."""
    named = read_class_names(class_names) if class_names is not None else None
    of_lists = [labels_of(one.columns, named) for one in lists]
    names = max((own for own, _ in of_lists), key=len)
    if not all(name.isdecimal() for own, _ in of_lists for name in own) and named is None:
        names = tuple(sorted({name for own, _ in of_lists for name in own}))
    position = {name: k for k, name in enumerate(names)}
    labels: dict[str, tuple[int, ...]] = {}
    for one, (own, index) in zip(lists, of_lists, strict=True):
        for row, (path, text) in enumerate(zip(one.there, one.columns.labels, strict=True)):
            record = found.find(path)
            if record is None:
                continue
            values = tuple(position[own[label]] for label in index[text])
            if labels.setdefault(record.video_id, values) != values:
                raise DatasetError(
                    f"{one.columns.source}:{one.columns.lines[row]} gives {record.video_id} "
                    "another label than an earlier line; keep one of them"
                )
    return names, labels


def _refuse_leak(video_id: str, splits: Sequence[str]) -> None:
    """Raise DatasetError if a video is in the training and the test list of one split number."""
    kinds: Mapping[int, list[str]] = defaultdict(list)
    for name in splits:
        kind = kind_of_split(name)
        if kind:
            kinds[kind[1]].append(name)
    for names in kinds.values():
        if len(names) > 1 and any(name.startswith("train") for name in names):
            raise DatasetError(
                f"{video_id} is in the lists of {' and '.join(sorted(names))}: a video that is "
                "trained on cannot be tested on; take it out of one of them"
            )


def _describe_no_match(one: ReadList, dataset: Dataset) -> str:
    first = one.there[0]
    hint = nearest_names(first, [record.video_id for record in dataset.records])
    return (
        f"{one.columns.source} names no video that is there; its first is {escape(first)}"
        + (f", and the nearest here {hint[0]}" if hint else "")
        + "; wanted paths below the folder of the videos"
    )


def _add_notes(dataset: Dataset, lines: Sequence[str]) -> Dataset:
    return dataset.with_note("\n".join(filter(None, [dataset.note, *lines])))


def _draw(video_id: str) -> bytes:
    """Return a sort key that shuffles ids in the same order on every machine."""
    return hashlib.sha256(video_id.encode("utf-8", "surrogatepass")).digest()


def _bare(path: str) -> str:
    """Return the path without the extension of a video."""
    return without_extension(path) if is_video(path) else path


def _end(path: str, names: int) -> str:
    """Return the last `names` components of a path."""
    return "/".join(_parts(path)[-names:])


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
