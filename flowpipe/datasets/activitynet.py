"""Files of ActivityNet 1.2 or 1.3 -> VideoRecords with the instances as segments.

These files may lie in any folders below the root::

    activity_net.v1-3.min.json      taxonomy and database of the version; its name begins like this
    v_--0edUL8zmA.mp4               the videos: v_ and the YouTube id, the id alone, or any title
                                    that ends in it, as youtube-dl writes it
    blocked.json, blocked.txt       ids that the official evaluation leaves out, if there

Ids have 11 characters and may begin with a dash. Labels follow the alphabetical order of the leaves
of the taxonomy, as in TSN. Instances keep their published order and times, because TSN names them
by their number. A few instances of 1.3 have zero length; the note counts them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from flowpipe import strict
from flowpipe.datasets.dataset import Dataset, DatasetRow, PublishedTest
from flowpipe.datasets.lists import ListFile, Lists
from flowpipe.datasets.match import match, nothing_found_error, stem
from flowpipe.datasets.tree import FileTree
from flowpipe.errors import DatasetError
from flowpipe.remote import PathOrUrl, parse_path_or_url
from flowpipe.types import Interval, VideoRecord
from flowpipe.words import count_noun

CLASSES = {"1.2": 100, "1.3": 200}
OFFICIAL_COUNTS = {
    "1.2": {"training": 4819, "validation": 2383, "testing": 2480},
    "1.3": {"training": 10024, "validation": 4926, "testing": 5044},
}
SPLITS = {
    "training": ("train1", "train2"),
    "validation": ("test1", "train2"),
    "testing": ("test2",),
}
"""Splits of each subset as in TSN: split 1 tests on validation, split 2 also trains on it."""

_YOUTUBE_ID = re.compile(r"[\w-]{11}", re.ASCII)


def load(root: PathOrUrl, version: str, *, annotations: PathOrUrl | None = None) -> Dataset:
    """Find the videos of one version.

    Parameters
    ----------
    root : Path or URL
        Any folder above the videos.
    version : {"1.2", "1.3"}
    annotations : Path or URL, optional
        The JSON file or its folder; by default the file is searched for below `root`.

    Returns
    -------
    Dataset
        One record per video of the database; its id is the YouTube id. ``segments`` keep the order
        of the file; ``labels`` are their classes. Blocked videos are in no split, and are not
        reported as absent.

    Raises
    ------
    DatasetError
        If there is no video or no annotation file, if the annotation file is unreadable or of
        another version, or if two files have the same id.
    """
    tree = FileTree.read(parse_path_or_url(root))
    lists = Lists.from_path(tree, annotations)
    name = f"activitynet-{version}"
    one = _annotation(lists, version)
    content = _json(one, version)
    class_names = _class_names(one, content, version)
    label = {class_name: k for k, class_name in enumerate(class_names)}
    blocked = _read_blocked(lists)
    database = content["database"]
    paths, unlisted = match(tree, database, _id_of)
    if not any(paths.values()):
        raise nothing_found_error(tree, "ActivityNet", "v_--0edUL8zmA.mp4")
    listed = [
        _record(one, video_id, facts, label, path=paths[video_id], blocked=video_id in blocked)
        for video_id, facts in sorted(database.items())
        if paths[video_id] or video_id not in blocked
    ]
    dataset = Dataset.from_listed(name, class_names, listed, unlisted)
    return dataset.with_note(_note(dataset, version, blocked & set(database)))


def _id_of(name: str) -> str:
    """Return the YouTube id in a file name or list entry; some ids themselves begin with v_."""
    return stem(name)[-11:]


def _annotation(lists: Lists, version: str) -> ListFile:
    pattern = rf"activity_net\.v{version.replace('.', '-')}.*\.json"
    found = lists.require(pattern, f"activity_net.v{version.replace('.', '-')}.min.json")
    if len(found) > 1:
        raise DatasetError(
            f"{' and '.join(one.path for one in found)} look like annotations of "
            f"ActivityNet {version}; name one of them with --annotations"
        )
    return found[0]


def _json(one: ListFile, version: str) -> dict[str, Any]:
    content = strict.parse_json(one.text, one.path, error=DatasetError)
    try:
        if not isinstance(content["taxonomy"], list) or not isinstance(content["database"], dict):
            raise TypeError("taxonomy must be a list and database an object")
        if not str(content.get("version", version)).endswith(version):
            raise ValueError(f"{content['version']!r}, which is not version {version}")
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{one.path} differs from the official file: wanted a JSON object with taxonomy and "
            f"database, got {error!r}"
        ) from error
    return dict(content)


def _class_names(one: ListFile, content: Mapping[str, Any], version: str) -> tuple[str, ...]:
    """Return the names of the leaves of the taxonomy, sorted."""
    try:
        nodes = {str(node["nodeName"]) for node in content["taxonomy"]}
        parents = {str(node["parentName"]) for node in content["taxonomy"]}
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{one.path}: a node of the taxonomy lacks {error}") from error
    leaves = tuple(sorted(nodes - parents))
    if len(leaves) != CLASSES[version]:
        raise DatasetError(
            f"{one.path} has {count_noun(len(leaves), 'class', 'classes')}, ActivityNet {version} "
            f"has {CLASSES[version]}; "
            "is it the file of another version?"
        )
    return leaves


def _read_blocked(lists: Lists) -> set[str]:
    ids: set[str] = set()
    for one in lists.find(r"blocked.*\.(json|txt)"):
        names = one.text.split()
        if one.name.endswith(".json"):
            names = strict.parse_json(one.text, one.path, kind=list, error=DatasetError)
        ids |= {_id_of(str(name)) for name in names}
    return ids


def _record(
    one: ListFile,
    video_id: str,
    facts: Mapping[str, Any],
    label: Mapping[str, int],
    *,
    path: str,
    blocked: bool,
) -> VideoRecord:
    try:
        if not _YOUTUBE_ID.fullmatch(video_id):
            raise ValueError(f"{video_id!r} is not a YouTube id")
        subset = str(facts["subset"])
        splits = () if blocked else SPLITS[subset]
        segments = tuple(
            Interval(label[entry["label"]], float(entry["segment"][0]), float(entry["segment"][1]))
            for entry in facts.get("annotations", ())
        )
        if not all(math.isfinite(s.start_s) and math.isfinite(s.end_s) for s in segments):
            raise ValueError("a segment without a finite start and end")
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise DatasetError(
            f"{one.path}: video {video_id} differs from the official format: {error!r}"
        ) from error
    labels = tuple(sorted({segment.label for segment in segments}))
    return VideoRecord(
        video_id, path, labels=labels, subset=subset, splits=splits, segments=segments
    )


def _note(dataset: Dataset, version: str, blocked: set[str]) -> str:
    counts = [
        f"{sum(record.subset == subset for record in dataset.records)} of {count} {subset}"
        for subset, count in OFFICIAL_COUNTS[version].items()
    ]
    everything = (*dataset.records, *dataset.absent)
    segments = [segment for record in everything for segment in record.segments]
    no_length = sum(s.end_s <= s.start_s for s in segments)
    notes = [
        f"{', '.join(counts)} videos found.",
        f"{count_noun(len(segments), 'instance')} annotated"
        + (f", {no_length} of them without length." if no_length else "."),
    ]
    if blocked:
        notes.append(f"{count_noun(len(blocked), 'blocked video')} in no split.")
    return " ".join(notes)


ROWS = tuple(
    DatasetRow(
        f"activitynet-{version}",
        count_noun(sum(counts.values()), "untrimmed video"),
        partial(load, version=version),
        options=("annotations",),
        test=PublishedTest("activitynet", videos={"test1": counts["validation"]}),
    )
    for version, counts in OFFICIAL_COUNTS.items()
)
