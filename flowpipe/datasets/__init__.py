"""DATASETS: name of a data set -> how it is read into VideoRecords and evaluated.

Each data set is a file whose `ROW` says all that others ask of it.
"""

from __future__ import annotations

from flowpipe.datasets import (
    activitynet,
    demo,
    demo_sound,
    folder,
    hmdb51,
    kinetics400,
    listfile,
    single,
    thumos14,
    ucf101,
)
from flowpipe.datasets.dataset import Dataset, DatasetRow, PublishedTest

__all__ = ["DATASETS", "Dataset", "DatasetRow", "PublishedTest", "published_test"]

DATASETS = {
    row.name: row
    for row in (
        demo.ROW,
        demo_sound.ROW,
        folder.ROW,
        single.ROW,
        listfile.ROW,
        ucf101.ROW,
        hmdb51.ROW,
        thumos14.ROW,
        *activitynet.ROWS,
        kinetics400.ROW,
    )
}


def published_test(name: str) -> PublishedTest:
    """Return how papers test on a data set.

    Parameters
    ----------
    name : str
        Name of the data set.

    Returns
    -------
    PublishedTest
        Its test; the accuracy for one that `DATASETS` does not have.
    """
    return DATASETS[name].test if name in DATASETS else PublishedTest()
