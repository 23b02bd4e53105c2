"""Scores of rows along videos -> intervals with a class and a confidence."""

from flowpipe.localisation.localise import (
    LocalisationParams,
    localise_file,
    localise_video,
)
from flowpipe.localisation.streams import FusedScores, fuse_streams

__all__ = ["FusedScores", "LocalisationParams", "fuse_streams", "localise_file", "localise_video"]
