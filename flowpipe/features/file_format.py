"""Tables of a file of features: names, types and shapes, as docs/features.md lists them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from flowpipe.types import VideoRecord

FORMAT, VERSION = "flowpipe features", 1
ATTR_FORMAT, ATTR_VERSION = "format", "version"
"""Attributes of the file."""

TEXT, JSON = "text", "JSON"
"""Types of a data set of texts, and of one text that is JSON."""


@dataclass(frozen=True)
class Table:
    """HDF5 data set of a file of features."""

    name: str
    """Name in its group."""
    dtype: str
    """NumPy type string, little-endian, `TEXT` or `JSON`."""
    shape: tuple[str, ...] = ()
    """Length of each axis: V videos, R rows, D features, C classes."""


FACTS = Table("facts", JSON)
"""Facts of the file, at its root; facts of a stream, in the group of the stream."""

VIDEOS = "videos"
VIDEO_ID = Table("video_id", TEXT, ("V",))
RECORD = Table("record", TEXT, ("V",))
ROW_FIRST = Table("row_first", "<i8", ("V + 1",))
"""Rows of video v are ``row_first[v]`` ... ``row_first[v + 1] - 1``."""
VIDEO_FIELDS = (
    Table("status", TEXT, ("V",)),
    Table("frames", "<i8", ("V",)),
    Table("fps", "<f8", ("V",)),
    Table("start_s", "<f8", ("V",)),
    Table("end_s", "<f8", ("V",)),
)
"""Tables with the name of a field of `FeatureVideo`."""

ROWS = "rows"
WINDOW_FIELDS = (
    Table("start_frame", "<i8", ("R",)),
    Table("stop_frame", "<i8", ("R",)),
    Table("start_s", "<f8", ("R",)),
    Table("end_s", "<f8", ("R",)),
)
"""Tables with the name of a field of `Windows`, in the order of its fields."""
CENTRES = (Table("centre_s", "<f8", ("R",)), Table("centre_frame", "<f8", ("R",)))
"""Tables with the name of a property of `Windows`, for readers without flowpipe."""

STREAMS = "streams"
FEATURES = Table("features", "<f4", ("R", "D"))
SCORES = Table("scores", "<f4", ("R", "C"))
VALUES = (FEATURES, SCORES)
CLASS_NAMES = Table("class_names", TEXT, ("C",))

TABLES: Mapping[str, tuple[Table, ...]] = {
    VIDEOS: (VIDEO_ID, RECORD, ROW_FIRST, *VIDEO_FIELDS),
    ROWS: (*WINDOW_FIELDS, *CENTRES),
    f"{STREAMS}/NAME": (*VALUES, CLASS_NAMES, FACTS),
    "": (FACTS,),
}
"""All tables by group; the root is the empty name."""

FILE_FACTS = (
    "store", "store_digest", "store_created", "dataset", "split", "window", "stride", "crops",
    "class_names", "left_out",
)  # fmt: skip
"""Keys of the facts of a file."""
STREAM_FACTS = (
    "network", "digest", "checkpoint", "modality", "stored", "layer", "frames", "amp", "loss",
    "weight", "left_out",
)  # fmt: skip
"""Keys that the facts of every stream have."""


@dataclass(frozen=True)
class FeatureVideo:
    """Video of a file of features."""

    record: VideoRecord
    _: KW_ONLY
    frames: int
    """Number of stored frames, N."""
    fps: float
    """Frames per second of the stored frames; 0 for a single frame."""
    start_s: float
    """Timestamp of the first frame, seconds."""
    end_s: float
    """Timestamp of the last frame plus the duration of a frame, seconds."""
    status: str
    """``done``, or ``partial`` if only the frames before damage of the source are stored."""


@dataclass(frozen=True)
class StreamFacts:
    """One stream of a file of features: what computed it, and the names of its classes."""

    name: str
    class_names: tuple[str, ...]
    """Names of the classes, by column of the scores."""
    facts: Mapping[str, Any]
    """JSON values by the keys `STREAM_FACTS`, and ``run`` or ``transforms`` of the network."""

    @property
    def by_class(self) -> bool:
        """True if the network was trained with binary cross-entropy, each class by itself."""
        return bool(self.facts.get("loss") == "bce")

    @property
    def left_out(self) -> Mapping[str, str]:
        """Reason by id of each video whose rows are NaN, as it has no image of the stream."""
        reasons: Mapping[str, str] = self.facts["left_out"]
        return reasons
