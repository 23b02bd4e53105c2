"""Files of HMDB51 -> VideoRecords with their three splits.

These files may lie in any folders below the root::

    brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi ...    6766 videos of hmdb51_org.rar
    brush_hair_test_split1.txt ... wave_test_split3.txt         "name.avi 1"

The lists are those of test_train_splits.rar, with 1 for training, 2 for testing and 0 for neither.
Labels follow the alphabetical order of the classes, as in mmaction2; `TSN_ORDER` maps the labels of
TSN's own models to these.
"""

from __future__ import annotations

import re

from flowpipe.datasets.dataset import Dataset, DatasetRow, PublishedTest
from flowpipe.datasets.lists import ListFile, Lists
from flowpipe.datasets.match import match, nothing_found_error, stem
from flowpipe.datasets.tree import FileTree
from flowpipe.errors import DatasetError
from flowpipe.remote import PathOrUrl, parse_path_or_url
from flowpipe.types import VideoRecord

CLASS_NAMES = (
    "brush_hair", "cartwheel", "catch", "chew", "clap", "climb", "climb_stairs", "dive",
    "draw_sword", "dribble", "drink", "eat", "fall_floor", "fencing", "flic_flac", "golf",
    "handstand", "hit", "hug", "jump", "kick", "kick_ball", "kiss", "laugh", "pick", "pour",
    "pullup", "punch", "push", "pushup", "ride_bike", "ride_horse", "run", "shake_hands",
    "shoot_ball", "shoot_bow", "shoot_gun", "sit", "situp", "smile", "smoke", "somersault",
    "stand", "swing_baseball", "sword", "sword_exercise", "talk", "throw", "turn", "walk", "wave",
)  # fmt: skip
TSN_ORDER = tuple({20: 21, 21: 20, 44: 45, 45: 44}.get(k, k) for k in range(51))
"""Index into `CLASS_NAMES` of each output of a model trained by TSN's tools: TSN has kick_ball
before kick and sword_exercise before sword."""
OFFICIAL_COUNT = 6766

_ROW = re.compile(r"(.+\.\w+)\s+([012])")
_SPLITS = {"1": "train", "2": "test"}


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
        One record per listed video; its id is the file name without extension. ``splits`` has
        ``train1``, ``test2`` and so on, at most one entry for each of the three splits.

    Raises
    ------
    DatasetError
        If there is no video, a list is missing, two files have the same id, or a line is wrong.
    """
    tree = FileTree.read(parse_path_or_url(root))
    lists = Lists.from_path(tree, annotations)
    labels: dict[str, int] = {}
    splits: dict[str, list[str]] = {}
    archive = "test_train_splits.rar (testTrainMulti_7030_splits)"
    tables = lists.require(r"\w+_test_split[123]\.txt", f"<class>_test_split1.txt of {archive}")
    found = {one.name: one for one in tables}
    numbers = sorted({name[-5] for name in found})
    for label, class_name in enumerate(CLASS_NAMES):
        for number in numbers:
            name = f"{class_name}_test_split{number}.txt"
            if name not in found:
                raise DatasetError(f"{name} of {archive} is missing below {lists.tree.root}")
            for video_id, code in _members(found.pop(name)):
                if labels.setdefault(video_id, label) != label:
                    raise DatasetError(
                        f"{name} names {video_id}, which {CLASS_NAMES[labels[video_id]]} has too"
                    )
                members = splits.setdefault(video_id, [])
                if code in _SPLITS:
                    members.append(f"{_SPLITS[code]}{number}")
    paths, unlisted = match(tree, labels)
    if not any(paths.values()):
        raise nothing_found_error(
            tree, "HMDB51", "brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi",
            "hmdb51_org.rar holds another archive for each class",
        )  # fmt: skip
    listed = [
        VideoRecord(key, path, labels=(labels[key],), splits=tuple(sorted(splits[key])))
        for key, path in paths.items()
    ]
    dataset = Dataset.from_listed("hmdb51", CLASS_NAMES, listed, unlisted)
    return dataset.with_note(f"{len(dataset.records)} of {OFFICIAL_COUNT} official videos found.")


def _members(one: ListFile) -> list[tuple[str, str]]:
    """Return (video id, code) of every line."""
    members = []
    for number, row in one.rows():
        found = _ROW.fullmatch(row)
        if found is None:
            raise one.wrong(number, "'name.avi 1' (1 train, 2 test, 0 neither)", row)
        members.append((stem(found[1]), found[2]))
    return members


ROW = DatasetRow(
    "hmdb51",
    "6766 clips, 51 classes, 3 splits",
    load,
    options=("annotations",),
    test=PublishedTest(videos={"test1": 1530, "test2": 1530, "test3": 1530}),
)
