"""FORMAT.md in code: names, versions and dtypes of all that a store holds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flowpipe.errors import FormatError, storage_reason
from flowpipe.modality import MODALITIES
from flowpipe.types import MAX_VIDEO_ID_BYTES

FORMAT = "flowpipe-shard"
STORE_FORMAT = "flowpipe-store"
FORMAT_VERSION = "1.1"
"""major.minor: a reader refuses other majors, and ignores unknown parts of later minors."""

# the folder
STORE_FILE = "store.json"
SHARDS_FOLDER = "shards"
QUARANTINE_FOLDER = "quarantine"
INDEX_FILE = "index.h5"
MANIFEST_FOLDER = "manifest"
SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.h5")

# root attributes of a shard
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

# groups and tables
VIDEOS = "videos"
VIDEO_ID, META, STATUS = "video_id", "meta", "status"
"""Text columns of `VIDEOS`: UTF-8 of variable length."""
VIDEO_COLUMNS = {"part": "<u4", "parts": "<u4", "frame_first": "<u8", "frames": "<u8"}
FRAMES = "frames"
PTS = "pts_s"
STREAMS = "streams"
BYTES, OFFSET, CRC = "bytes", "offset", "crc32"
FIRST, COUNT, HEIGHT, WIDTH = "first", "count", "height", "width"
IMAGE_COLUMNS = {OFFSET: "<u8", CRC: "<u4"}
ENTRY_COLUMNS = {FIRST: "<u8", COUNT: "<u8", HEIGHT: "<u4", WIDTH: "<u4"}

# attributes of a stream
ATTR_CODEC = "codec"
ATTR_QUANTISER = "quantiser"
ATTR_CHANNELS = "channels"
ATTR_CONTEXT = "context"
ATTR_ALIGNMENT = "alignment"
STREAM_ATTRS = (ATTR_CODEC, ATTR_QUANTISER, ATTR_CHANNELS, ATTR_CONTEXT, ATTR_ALIGNMENT)

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
    if MODALITIES[modality].context == 0:
        return "image k is frame k; N frames have N images"
    return "image k belongs to frames k and k + 1; N frames have N - 1 images"


def expected_images(frames: int, context: int, part: int, parts: int) -> int:
    """Return the number of images of an entry (S20).

    Parameters
    ----------
    frames : int
        Frames of the entry.
    context : int
        Frames after its own that an image needs.
    part, parts : int
        Number of the part, and number of parts; all but the last have one image per frame.

    Returns
    -------
    int
        Number of images.
    """
    return frames if part < parts - 1 else max(0, frames - context)


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


def column_dtypes(modality: str) -> dict[str, np.dtype[Any]]:
    """Return the dtypes of a stream's columns.

    Parameters
    ----------
    modality : str
        A key of `MODALITIES`.

    Returns
    -------
    dict of str to dtype
        Dtype by column, with its shape per image.
    """
    return {c.name: np.dtype((c.dtype, c.shape)) for c in MODALITIES[modality].columns}


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
