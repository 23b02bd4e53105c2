"""Features and scores along videos: windows, their HDF5 file, and the files of other tools."""

from flowpipe.features.file_format import FeatureVideo, StreamFacts
from flowpipe.features.reader import FeatureFile, open_features
from flowpipe.features.windows import Extent, Windows, cut_windows

__all__ = [
    "Extent", "FeatureFile", "FeatureVideo", "StreamFacts", "Windows", "cut_windows",
    "open_features",
]  # fmt: skip
