"""DATASETS: name of a data set -> how to read it from disk into VideoRecords."""

from __future__ import annotations

from flowpipe.datasets import demo, folder, listfile, thumos14
from flowpipe.datasets.dataset import Dataset, DatasetRow

__all__ = ["DATASETS", "Dataset", "DatasetRow"]

DATASETS = {
    row.name: row
    for row in (
        DatasetRow(
            "demo", "36 clips made on the spot, true flow known; root is made", demo.load, made=True
        ),
        DatasetRow(
            "folder", "every video below a folder; its folder is its class", folder.load,
            options=("class_names",),
        ),
        DatasetRow(
            "list", "a text or CSV file with a path a line, labels if given", listfile.load,
            options=("class_names",),
        ),
        DatasetRow("thumos14", "validation and test videos, found by name", thumos14.load),
    )
}  # fmt: skip
