"""DATASETS: name of a data set -> the function that reads it into VideoRecords."""

from __future__ import annotations

from flowpipe.datasets import (
    activitynet,
    demo,
    folder,
    hmdb51,
    kinetics400,
    listfile,
    single,
    thumos14,
    ucf101,
)
from flowpipe.datasets.dataset import Dataset, DatasetRow

__all__ = ["DATASETS", "Dataset", "DatasetRow"]

_LISTS, _OWN = ("annotations",), ("class_names",)

DATASETS = {
    row.name: row
    for row in (
        DatasetRow(
            "demo", "36 generated clips with known flow; root is created", demo.load, made=True
        ),
        DatasetRow("folder", "videos in one folder per class", folder.load, own=True, options=_OWN),
        DatasetRow("video", "one video file", single.load),
        DatasetRow(
            "list",
            "a text or CSV file with one path per line",
            listfile.load,
            own=True,
            options=("class_names", "base"),
        ),
        DatasetRow("ucf101", "13320 clips, 101 classes, 3 splits", ucf101.load, options=_LISTS),
        DatasetRow("hmdb51", "6766 clips, 51 classes, 3 splits", hmdb51.load, options=_LISTS),
        DatasetRow("thumos14", "2584 untrimmed videos", thumos14.load, options=_LISTS),
        DatasetRow(
            "activitynet-1.2", "9682 untrimmed videos", activitynet.load_1_2, options=_LISTS
        ),
        DatasetRow(
            "activitynet-1.3", "19994 untrimmed videos", activitynet.load_1_3, options=_LISTS
        ),
        DatasetRow("kinetics400", "306245 clips, 400 classes", kinetics400.load, options=_LISTS),
    )
}
