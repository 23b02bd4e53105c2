"""DATASETS: name of a data set -> how to read it from disk into VideoRecords."""

from __future__ import annotations

from flowpipe.datasets import demo
from flowpipe.datasets.dataset import Dataset, DatasetRow

__all__ = ["DATASETS", "Dataset", "DatasetRow"]

DATASETS = {
    row.name: row
    for row in (
        DatasetRow("demo", "36 clips made on the spot, true flow known; root is made", demo.load),
    )
}
