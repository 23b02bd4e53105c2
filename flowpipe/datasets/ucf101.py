"""Files of UCF101 -> VideoRecords with their three splits.

These files may lie in any folders below the root::

    ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi ...   13320 videos of UCF101.rar
    classInd.txt                                      "1 ApplyEyeMakeup": labels are these less 1
    trainlist01.txt ... trainlist03.txt               "Class/v_Class_g08_c01.avi 1"
    testlist01.txt ... testlist03.txt                 "Class/v_Class_g01_c01.avi"

The lists are those of UCF101TrainTestSplits-RecognitionTask.zip. The class of a video is its folder
in the lists. File names are compared without case, because the folder HandstandPushups has files
called v_HandStandPushups, in some copies v_HandstandPushups.
"""

from __future__ import annotations

import posixpath
import re

from flowpipe.datasets.dataset import Dataset, DatasetRow, PublishedTest
from flowpipe.datasets.lists import ListFile, Lists
from flowpipe.datasets.match import match, nothing_found_error, stem
from flowpipe.datasets.tree import FileTree
from flowpipe.errors import DatasetError
from flowpipe.remote import PathOrUrl, parse_path_or_url
from flowpipe.types import VideoRecord

ARCHIVE = "UCF101TrainTestSplits-RecognitionTask.zip"
OFFICIAL_COUNT = 13320

_ROW = re.compile(r"([^/\s]+)/(\S+\.\w+)(?:\s+(\d+))?")


def load(root: PathOrUrl, *, annotations: PathOrUrl | None = None) -> Dataset:
    """Find the videos that the official lists name.

    Parameters
    ----------
    root : Path or URL
        Any folder above the videos.
    annotations : Path or URL, optional
        Folder of the lists; by default they are searched for below `root`.

    Returns
    -------
    Dataset
        One record per listed video, in the order of the classes; its id is the file name without
        extension. ``splits`` has ``train1``, ``test2`` and so on. The split of a missing list is
        left out, and the note says so.

    Raises
    ------
    DatasetError
        If there is no video or no list, two files have the same id, or a line is wrong.
    """
    tree = FileTree.read(parse_path_or_url(root))
    lists = Lists.from_path(tree, annotations)
    class_names = _class_names(lists)
    label = {name: k for k, name in enumerate(class_names)}
    labels: dict[str, int] = {}
    splits: dict[str, list[str]] = {}
    for one in lists.require(r"(train|test)list0[123]\.txt", f"split list of {ARCHIVE}"):
        split = re.sub(r"list0(\d)\.txt", r"\1", one.name)
        for video_id, class_label in _members(one, label):
            if labels.setdefault(video_id, class_label) != class_label:
                raise DatasetError(f"{one.path} puts {video_id} into another class than before")
            splits.setdefault(video_id, []).append(split)
    paths, unlisted = match(tree, sorted(labels, key=lambda key: (labels[key], key)), any_case=True)
    if not any(paths.values()):
        raise nothing_found_error(tree, "UCF101", "v_ApplyEyeMakeup_g01_c01.avi")
    listed = [
        VideoRecord(key, path, labels=(labels[key],), splits=tuple(sorted(splits[key])))
        for key, path in paths.items()
    ]
    dataset = Dataset.from_listed("ucf101", class_names, listed, unlisted)
    return dataset.with_note(f"{len(dataset.records)} of {OFFICIAL_COUNT} official videos found.")


def _class_names(lists: Lists) -> tuple[str, ...]:
    names: list[str] = []
    (one,) = lists.require(r"classInd\.txt", f"classInd.txt of {ARCHIVE}")
    for number, row in one.rows():
        index, _, name = row.partition(" ")
        if index != str(len(names) + 1) or not name.strip():
            raise one.wrong(number, f"'{len(names) + 1} ClassName'", row)
        names.append(name.strip())
    return tuple(names)


def _members(one: ListFile, label: dict[str, int]) -> list[tuple[str, int]]:
    """Return (video id, label) of every line."""
    members = []
    for number, row in one.rows():
        found = _ROW.fullmatch(row)
        if found is None:
            raise one.wrong(number, "'Class/v_Class_g01_c01.avi', with a label to train on", row)
        folder, file_name, index = found[1], posixpath.basename(found[2]), found[3]
        if folder not in label:
            raise one.wrong(number, f"a class of the {len(label)} in classInd.txt", folder)
        if index is not None and int(index) != label[folder] + 1:
            raise one.wrong(number, f"label {label[folder] + 1} for {folder}", index)
        members.append((stem(file_name), label[folder]))
    return members


ROW = DatasetRow(
    "ucf101",
    "13320 clips, 101 classes, 3 splits",
    load,
    options=("annotations",),
    test=PublishedTest(videos={"test1": 3783, "test2": 3734, "test3": 3696}),
)
