"""Official annotations without videos (ActivityNet's JSON, THUMOS14's folder) -> VideoRecords."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowpipe import strict
from flowpipe.datasets import thumos14
from flowpipe.datasets.dataset import Dataset
from flowpipe.datasets.lists import Lists
from flowpipe.datasets.tree import FileTree
from flowpipe.errors import DatasetError
from flowpipe.splits import split_name
from flowpipe.types import Interval, VideoRecord, read_interval

_WANTED = '{"database": {video_id: {"subset", "annotations": [{"label", "segment"}]}}}'


def read_annotations(path: Path) -> Dataset:
    """Read the annotations of a data set.

    Parameters
    ----------
    path : Path
        A JSON file in the form of ActivityNet's annotations, as other data sets have it too; or a
        folder with THUMOS14's ``<Class>_test.txt`` or ``<Class>_val.txt``.

    Returns
    -------
    Dataset
        One record per video, all of them absent; their split is that of their subset, such as
        ``test1``, ``val1`` or ``train1``. Videos that a ``blocked.json`` beside the JSON file lists
        are in no split. Labels follow the alphabetical order of the classes, for THUMOS14 the
        official numbers.

    Raises
    ------
    DatasetError
        If there are no annotations, they differ from these forms, or an interval is not 0 <= start
        <= end.
    """
    return _from_folder(path) if path.is_dir() else _from_json(path)


def _from_folder(folder: Path) -> Dataset:
    records = thumos14.read_records(Lists(FileTree.read(folder)))
    if not any(record.segments for record in records):
        raise DatasetError(
            f"{folder} is no store and has no annotations: wanted THUMOS14's <Class>_test.txt or "
            "<Class>_val.txt in it, or the path of a JSON file in the form of ActivityNet's"
        )
    return Dataset("thumos14", thumos14.CLASS_NAMES, (), absent=records)


def _from_json(path: Path) -> Dataset:
    content = strict.read_json(path, error=DatasetError)
    database = content.get("database")
    if not isinstance(database, dict):
        keys = ", ".join(map(str, content)) or "none"
        raise DatasetError(f"{path}: wanted {_WANTED}, got an object with the keys {keys}")
    blocked = _read_blocked(path)
    label = {name: k for k, name in enumerate(_class_names(path, content, database))}
    records = tuple(
        _record(path, video_id, facts, label, video_id in blocked)
        for video_id, facts in database.items()
    )
    durations_s = {
        video_id: float(facts["duration"])
        for video_id, facts in database.items()
        if isinstance(facts.get("duration"), (int, float))
    }
    return Dataset("activitynet", tuple(label), (), absent=records, durations_s=durations_s)


def _class_names(path: Path, content: Mapping[str, Any], database: Mapping[str, Any]) -> list[str]:
    """Return the leaves of the taxonomy, sorted; without a taxonomy, the labels of all videos."""
    try:
        nodes = content.get("taxonomy") or ()
        leaves = {str(one["nodeName"]) for one in nodes} - {str(one["parentName"]) for one in nodes}
        used = {
            str(one["label"]) for facts in database.values() for one in facts.get("annotations", ())
        }
    except KeyError as error:
        raise DatasetError(f"{path}: wanted {_WANTED}, got a value without {error}") from error
    except (TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: wanted {_WANTED}, got other types of values") from error
    return sorted(leaves | used)


def _read_blocked(path: Path) -> set[str]:
    beside = path.with_name("blocked.json")
    if not beside.exists():
        return set()
    return {str(name) for name in strict.read_json(beside, kind=list, error=DatasetError)}


def _record(
    path: Path, video_id: str, facts: Mapping[str, Any], label: Mapping[str, int], blocked: bool
) -> VideoRecord:
    try:
        subset = str(facts["subset"])
        segments = tuple(
            Interval(label[str(one["label"])], *read_interval(one["segment"]))
            for one in facts.get("annotations", ())
        )
    except KeyError as error:
        raise DatasetError(f"{path}, video {video_id}: wanted {_WANTED}, got no {error}") from error
    except ValueError as error:
        raise DatasetError(f"{path}, video {video_id}: {error}; correct the segment") from error
    except TypeError as error:
        raise DatasetError(f"{path}, video {video_id}: wanted {_WANTED}, got {error}") from error
    labels = tuple(sorted({one.label for one in segments}))
    splits = () if blocked else (split_name(subset),)
    return VideoRecord(video_id, "", labels=labels, subset=subset, splits=splits, segments=segments)
