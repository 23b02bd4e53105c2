"""Files of Kinetics-400 -> VideoRecords of the videos that its CSV files list.

These files may lie in any folders below the root, under any names::

    label,youtube_id,time_start,time_end,split[,is_cc]     the CSV files, known by this header
    0wR5jVB-WPk_000417_000427.mp4                          the videos, or 0wR5jVB-WPk.mp4

The CSV of the test videos has no column ``label``. Labels follow the sorted class names, in which
spaces become underscores and quotes are removed, as in mmaction2 and in public label lists.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator

from flowpipe.datasets.dataset import Dataset, DatasetRow, PublishedTest
from flowpipe.datasets.lists import ListFile, Lists
from flowpipe.datasets.match import match, nothing_found_error, stem
from flowpipe.datasets.tree import FileTree
from flowpipe.errors import DatasetError
from flowpipe.remote import PathOrUrl, parse_path_or_url
from flowpipe.types import VideoRecord
from flowpipe.words import count_noun

CLASSES = 400

_COLUMNS = ("youtube_id", "time_start", "time_end", "split")
_SUBSETS = {
    "train": "training", "training": "training",
    "val": "validation", "validate": "validation", "validation": "validation",
    "test": "testing", "testing": "testing",
}  # fmt: skip
_SPLITS = {"training": ("train1",), "validation": ("test1",), "testing": ()}
_YOUTUBE_ID = re.compile(r"[\w-]{11}", re.ASCII)
_TIMED = re.compile(r"([\w-]{11})_\d{6}_\d{6}", re.ASCII)


def load(root: PathOrUrl, *, annotations: PathOrUrl | None = None) -> Dataset:
    """Find the videos that the CSV files list.

    Parameters
    ----------
    root : Path or URL
        Any folder above the videos.
    annotations : Path or URL, optional
        The CSV file or a folder of them; by default they are searched for below `root`.

    Returns
    -------
    Dataset
        One record per row; its id is ``<youtube id>_<start>_<end>`` with six digits each.
        ``subset`` is training, validation or testing; training videos are in split ``train1``,
        validation videos in ``test1``.

    Raises
    ------
    DatasetError
        If there is no video or no CSV file, a row is wrong, the rows do not name 400 classes, or
        two files have the same id.
    """
    tree = FileTree.read(parse_path_or_url(root))
    rows: dict[str, tuple[str, str]] = {}
    for one in _tables(Lists.from_path(tree, annotations)):
        for video_id, class_name, subset in _rows(one):
            if rows.setdefault(video_id, (class_name, subset)) != (class_name, subset):
                raise DatasetError(
                    f"{one.path} lists {video_id} again, with another class or split"
                )
    class_names = tuple(sorted({class_name for class_name, _ in rows.values() if class_name}))
    if len(class_names) != CLASSES:
        raise DatasetError(
            f"the CSV files name {count_noun(len(class_names), 'class', 'classes')}, wanted all "
            f"{CLASSES}, or labels would shift; add the CSV of the training or of the validation "
            "videos"
        )
    label = {name: k for k, name in enumerate(class_names)}
    paths, unlisted = _find(tree, rows)
    if not any(paths.values()):
        raise nothing_found_error(tree, "Kinetics-400", "0wR5jVB-WPk_000417_000427.mp4")
    listed = (
        VideoRecord(
            video_id,
            paths[video_id],
            labels=(label[class_name],) if class_name else (),
            subset=subset,
            splits=_SPLITS[subset],
        )
        for video_id, (class_name, subset) in rows.items()
    )
    dataset = Dataset.from_listed("kinetics400", class_names, listed, unlisted)
    return dataset.with_note(
        f"{len(dataset.records)} of {count_noun(len(rows), 'listed video')} found."
    )


def _tables(lists: Lists) -> list[ListFile]:
    found = [one for one in lists.find(r".+\.csv") if set(_COLUMNS) <= set(_header(one))]
    if not found:
        raise DatasetError(
            f"no CSV with the columns label,{','.join(_COLUMNS)} below {lists.tree.root}; put the "
            "official kinetics-400_train.csv and kinetics-400_val.csv there, or name their folder "
            "with --annotations"
        )
    return found


def _header(one: ListFile) -> list[str]:
    return [name.strip() for name in one.text.partition("\n")[0].split(",")]


def _rows(one: ListFile) -> Iterator[tuple[str, str, str]]:
    """Yield (video id, class name, subset) of every row."""
    reader = csv.DictReader(one.text.splitlines(), fieldnames=_header(one))
    next(reader)
    for row in reader:
        try:
            start, end = (int(float(row[name])) for name in ("time_start", "time_end"))
            subset = _SUBSETS[row["split"].strip().lower()]
            youtube_id = row["youtube_id"].strip()
            if not _YOUTUBE_ID.fullmatch(youtube_id):
                raise ValueError(youtube_id)
        except (KeyError, ValueError, TypeError, AttributeError):
            raise one.wrong(
                reader.line_num, "'label,youtube_id,time_start,time_end,split'", str(row)
            ) from None
        name = (row.get("label") or "").strip().strip('"').replace(" ", "_")
        yield f"{youtube_id}_{start:06d}_{end:06d}", name, subset


def _find(
    tree: FileTree, rows: dict[str, tuple[str, str]]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Match files by name with times; a YouTube id alone suffices if it is listed once."""
    by_youtube_id: dict[str, list[str]] = {}
    for video_id in rows:
        by_youtube_id.setdefault(video_id[:11], []).append(video_id)
    only = {youtube_id: ids[0] for youtube_id, ids in by_youtube_id.items() if len(ids) == 1}

    def key_of(name: str) -> str:
        text = stem(name)
        return text if _TIMED.fullmatch(text) else only.get(text, text)

    return match(tree, rows, key_of)


ROW = DatasetRow(
    "kinetics400",
    "306245 clips, 400 classes",
    load,
    options=("annotations",),
    test=PublishedTest("kinetics", videos={"test1": 19906}),
)
