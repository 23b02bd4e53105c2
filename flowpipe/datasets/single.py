"""One video file -> a data set with one VideoRecord."""

from __future__ import annotations

import posixpath

from flowpipe.datasets.dataset import Dataset, DatasetRow
from flowpipe.datasets.ids import id_of
from flowpipe.remote import PathOrUrl, parse_path_or_url
from flowpipe.types import VideoRecord


def load(root: PathOrUrl) -> Dataset:
    """Make a data set of one video; its id is its file name.

    Parameters
    ----------
    root : Path or URL
        Video file.

    Returns
    -------
    Dataset
        The data set.
    """
    path = str(parse_path_or_url(root))
    return Dataset("video", (), (VideoRecord(id_of(posixpath.basename(path)), path),))


ROW = DatasetRow("video", "one video file", load, is_file=True)
