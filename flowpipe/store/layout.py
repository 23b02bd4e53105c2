"""FORMAT.md in code: names, versions and dtypes of all that a store holds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FormatError, storage_reason
from flowpipe.modality import MODALITIES, START_S
from flowpipe.types import MAX_VIDEO_ID_BYTES

FORMAT = "flowpipe-shard"
STORE_FORMAT = "flowpipe-store"
INDEX_FORMAT = "flowpipe-index"
FORMAT_VERSION = "1.2"
"""major.minor: a reader refuses other majors, and ignores unknown parts of later minors."""

# the folder
STORE_FILE = "store.json"
SHARDS_FOLDER = "shards"
QUARANTINE_FOLDER = "quarantine"
INDEX_FILE = "index.h5"
MANIFEST_FOLDER = "manifest"
SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.h5")

# root attributes of a shard; some are keys of store.json too
ATTR_FORMAT = "format"
ATTR_VERSION = "format_version"
ATTR_FLOWPIPE = "flowpipe_version"
ATTR_RECIPE = "recipe"
ATTR_DIGEST = "recipe_digest"
ATTR_BACKEND = "backend"
ATTR_CREATED = "created_utc"
ATTR_SEAL = "seal"
ROOT_ATTRS = (
    ATTR_FORMAT, ATTR_VERSION, ATTR_FLOWPIPE, ATTR_RECIPE, ATTR_DIGEST, ATTR_BACKEND, ATTR_CREATED,
    ATTR_SEAL,
)  # fmt: skip
UNSEALED = "0" * 64
"""The seal while a shard is being written."""

# groups and tables, in the order in which they are written
TEXT = "UTF-8"
"""Type of a table of texts of variable length."""


@dataclass(frozen=True)
class Table:
    """HDF5 dataset of a shard, as section 3 of FORMAT.md lists it."""

    name: str
    dtype: str
    """NumPy type string, little-endian, or `TEXT`."""
    rows: str
    """Number of rows: V entries, F frames, N images, N+1, or B bytes of payloads."""
    shape: tuple[int, ...] = ()
    """Shape of one row."""

    @property
    def row(self) -> np.dtype[Any]:
        """Dtype of one row, with its shape."""
        return np.dtype((self.dtype, self.shape))


VIDEOS = "videos"
VIDEO_ID, META, STATUS = (Table(name, TEXT, "V") for name in ("video_id", "meta", "status"))
VIDEO_TABLES = (
    VIDEO_ID,
    STATUS,
    META,
    Table("part", "<u4", "V"),
    Table("parts", "<u4", "V"),
    Table("frame_first", "<u8", "V"),
    Table("frames", "<u8", "V"),
)
"""Tables of the entries; each has the name of a field of `Entry`."""
FRAMES = "frames"
PTS = Table("pts_s", "<f8", "F")
STREAMS = "streams"
ENTRY_TABLES = (
    Table("first", "<u8", "V"),
    Table("count", "<u8", "V"),
    Table("height", "<u4", "V"),
    Table("width", "<u4", "V"),
)
"""Tables of a stream with a row per entry; see `Entry.in_stream`."""
OFFSET, CRC = Table("offset", "<u8", "N+1"), Table("crc32", "<u4", "N")
BYTES = Table("bytes", "|u1", "B")


def column_tables(modality: str) -> tuple[Table, ...]:
    """Return the tables of a modality's columns.

    Parameters
    ----------
    modality : str
        A key of `MODALITIES`.

    Returns
    -------
    tuple of Table
        Tables, in the order in which they are written.
    """
    return tuple(Table(c.name, c.dtype, "N", c.shape) for c in MODALITIES[modality].columns)


def image_tables(modality: str) -> tuple[Table, ...]:
    """Return the tables of a stream with a row per image.

    Parameters
    ----------
    modality : str
        A key of `MODALITIES`.

    Returns
    -------
    tuple of Table
        Tables, in the order in which they are written.
    """
    return OFFSET, CRC, *column_tables(modality)


# attributes of a stream
ATTR_CODEC = "codec"
ATTR_QUANTISER = "quantiser"
ATTR_CHANNELS = "channels"
ATTR_CONTEXT = "context"
ATTR_ALIGNMENT = "alignment"


def stream_attributes(
    modality: str, codec: Mapping[str, Any], quantiser: Mapping[str, Any]
) -> dict[str, str | int]:
    """Return the attributes of a stream, in the order in which they are written.

    Parameters
    ----------
    modality : str
        A key of `MODALITIES`.
    codec : mapping
        Name and params of the codec.
    quantiser : mapping
        Quantiser of `quantiser_of`.

    Returns
    -------
    dict of str to str or int
        Values by name.
    """
    row = MODALITIES[modality]
    return {
        ATTR_CODEC: to_json(codec),
        ATTR_QUANTISER: to_json(quantiser),
        ATTR_CHANNELS: row.channels,
        ATTR_CONTEXT: row.context,
        ATTR_ALIGNMENT: alignment(modality),
    }


STATUSES = ("done", "partial")
META_KEYS = ("record", "source", "facts", "status", "reason", "clipped_share")
"""Keys of a video's `META` object that readers may rely on."""


@dataclass(frozen=True)
class StreamSpec:
    """Codec and quantiser of one modality, as a shard records them."""

    codec: Any
    """Codec params: a frozen dataclass with a ClassVar ``name``."""
    quantiser: Mapping[str, Any] = field(default_factory=dict)
    """``bound``, ``zero_level`` and the formulas in both directions; empty if bytes are values."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Images and tables of one video in a shard: of all of it, or of one part."""

    video_id: str
    part: int
    parts: int
    _: KW_ONLY
    status: str
    frames: int
    frame_first: int
    """Position of the first frame in the shard's table of frames."""
    images: dict[str, int]
    """Number of images by modality."""
    first: dict[str, int]
    """Position of the first image in the shard's tables, by modality."""
    size: dict[str, tuple[int, int]]
    """(height, width) of the images by modality, pixels; (0, 0) if there are none."""
    meta: str
    """Meta object, JSON."""

    @property
    def key(self) -> tuple[str, int, int]:
        """(video_id, part, parts): key of the entry in a store."""
        return self.video_id, self.part, self.parts

    def in_stream(self, modality: str) -> tuple[int, int, int, int]:
        """Return the entry's row in the tables `ENTRY_TABLES` of a stream.

        Parameters
        ----------
        modality : str
            Modality of the stream.

        Returns
        -------
        tuple of int
            First image, number of images, height and width.
        """
        return self.first[modality], self.images[modality], *self.size[modality]


def alignment(modality: str) -> str:
    """Describe which frames an image belongs to, as a stream's attributes do.

    Parameters
    ----------
    modality : str
        A key of `MODALITIES`.

    Returns
    -------
    str
        One sentence.
    """
    if MODALITIES[modality].from_sound:
        return (
            f"image k begins at {START_S.name}[k] on the clock of pts_s; their number is their own"
        )
    if MODALITIES[modality].context == 0:
        return "image k is frame k; N frames have N images"
    return "image k belongs to frames k and k + 1; N frames have N - 1 images"


def expected_images(frames: int, modality: str, part: int, parts: int) -> int | None:
    """Return the number of images of an entry (S20).

    Parameters
    ----------
    frames : int
        Frames of the entry.
    modality : str
        A key of `MODALITIES`.
    part, parts : int
        Number of the part, and number of parts; all but the last have one image per frame.

    Returns
    -------
    int or None
        Number of images; None for images of sound, of which there may be any number (S30).
    """
    row = MODALITIES[modality]
    if row.from_sound:
        return None
    return frames if part < parts - 1 else max(0, frames - row.context)


def are_times(start_s: NDArray[np.float64]) -> bool:
    """Return whether the times of images of sound are finite and strictly increasing (S30).

    Parameters
    ----------
    start_s : float64 (N,)
        Times of the images of an entry or of a video, seconds.

    Returns
    -------
    bool
        True if they are.
    """
    return bool(np.all(np.isfinite(start_s)) and np.all(np.diff(start_s) > 0))


def check_times(video_id: str, windows: Sequence[NDArray[np.float64]]) -> None:
    """Raise FormatError unless images of sound have times that follow each other (S30).

    Parameters
    ----------
    video_id : str
        Id of the video, for the message.
    windows : sequence of float64 (N,)
        Times of consecutive images, seconds.
    """
    if windows and not are_times(np.concatenate(windows)):
        raise FormatError(
            f"{video_id}: the times of its images of sound must be finite and strictly increasing",
            reason="timestamps",
        )


def check_video_id(video_id: str) -> None:
    """Raise ValueError unless a store can hold this video id (S10).

    Parameters
    ----------
    video_id : str
        Id to check.
    """
    length = len(video_id.encode("utf-8", "surrogateescape"))
    if not video_id or length > MAX_VIDEO_ID_BYTES or "\0" in video_id:
        raise ValueError(
            f"a video id must be 1..{MAX_VIDEO_ID_BYTES} bytes of UTF-8 without NUL, got {length} "
            f"bytes: {video_id[:60]!r}"
        )
    try:
        video_id.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"a video id must be valid UTF-8, got {video_id!r}") from None


def check_version(version: str, where: Path | str) -> None:
    """Raise FormatError unless this code may read a file of that version.

    Parameters
    ----------
    version : str
        Format version of the file.
    where : path
        The file, for the message.
    """
    major = version.partition(".")[0]
    if major != FORMAT_VERSION.partition(".")[0]:
        raise broken_clause(
            "S26",
            f"{where} has format version {version}; this flowpipe reads "
            f"{FORMAT_VERSION.partition('.')[0]}.x; use the one that wrote it, or extract again",
        )


def to_json(values: Any) -> str:
    """Format values as one line of JSON.

    Bytes of file names that are not UTF-8 become escapes, which `json.loads` reads back.

    Parameters
    ----------
    values : object
        JSON values; numbers must be finite.

    Returns
    -------
    str
        The line, with keys in the order given.
    """
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text):
        return text
    return json.dumps(values, separators=(",", ":"), allow_nan=False)


class BrokenClauseError(FormatError):
    """FormatError with the broken clause of FORMAT.md."""

    clause = ""
    """Clause such as ``S07``."""


def broken_clause(
    clause: str, message: str, cause: BaseException | None = None
) -> BrokenClauseError:
    """Return the error for a broken clause.

    Parameters
    ----------
    clause : str
        Clause of FORMAT.md, with which the message begins.
    message : str
        What is wrong with which file.
    cause : BaseException, optional
        Error behind it; the reason is ``io`` if the storage failed.

    Returns
    -------
    BrokenClauseError
        The error.
    """
    error = BrokenClauseError(f"{clause}: {message}", reason=storage_reason(cause))
    error.clause = clause
    return error
