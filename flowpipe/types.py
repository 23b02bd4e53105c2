"""The plain values that travel between stages: frozen, checked when made, NumPy only.

Array letters: N images or pairs, T frames in time, C channels, H rows, W columns.
Arrays inside these values are not to be written to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowpipe.modality import MODALITIES

MAX_VIDEO_ID_BYTES = 240


T = TypeVar("T")


def _check_type(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError(f"wanted {kind.__name__}, got {value!r:.60}")
    return value


@dataclass(frozen=True, slots=True)
class Interval:
    """Labelled interval of an untrimmed video, in seconds."""

    label: int
    start_s: float
    end_s: float


def read_interval(values: Any) -> tuple[float, float]:
    """Return the start and the end of an interval that a published file has.

    Parameters
    ----------
    values : sequence
        Start and end, seconds: numbers, or text of numbers.

    Returns
    -------
    start_s : float
        Start.
    end_s : float
        End.

    Raises
    ------
    ValueError
        Unless 0 <= start <= end; the message begins with ``wanted``.
    """
    try:
        start_s, end_s = (math.nan if isinstance(one, bool) else float(one) for one in values)
    except (TypeError, ValueError, OverflowError):
        start_s = end_s = math.nan
    if not 0 <= start_s <= end_s < math.inf:  # NaN too
        got = f"{values!r:.60}"
        if isinstance(values, (list, tuple)):
            got = f"[{', '.join(f'{one!s:.30}' for one in values[:3])}]"
        raise ValueError(f"wanted an interval with 0 <= start <= end in seconds, got {got}")
    return start_s, end_s


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One video of a data set: its path, labels and splits."""

    video_id: str
    """Key of the video, unique in the data set; any text, never used as a path."""
    path: str
    _: KW_ONLY
    labels: tuple[int, ...] = ()
    """Class indices into the data set's ``class_names``."""
    subset: str = ""
    """Official subset: training, validation, testing ..."""
    splits: tuple[str, ...] = ()
    """Memberships such as ``train1`` or ``test2``."""
    segments: tuple[Interval, ...] = ()
    ambiguous: tuple[tuple[float, float], ...] = ()
    """Intervals that an evaluation of the segments ignores: (start, end), seconds."""

    @classmethod
    def from_json(cls, values: Any) -> VideoRecord:
        """Return the record that `dataclasses.asdict` and JSON made these values of.

        Unknown keys are left out.

        Parameters
        ----------
        values : mapping
            JSON values of a record.

        Returns
        -------
        VideoRecord
            The record.

        Raises
        ------
        ValueError
            If the values are not those of a record.
        """
        try:
            record = cls(
                _check_type(values["video_id"], str),
                _check_type(values["path"], str),
                labels=tuple(_check_type(label, int) for label in values.get("labels", ())),
                subset=_check_type(values.get("subset", ""), str),
                splits=tuple(_check_type(split, str) for split in values.get("splits", ())),
                segments=tuple(
                    Interval(_check_type(s["label"], int), float(s["start_s"]), float(s["end_s"]))
                    for s in values.get("segments", ())
                ),
                ambiguous=tuple((float(a), float(b)) for a, b in values.get("ambiguous", ())),
            )
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(f"{values!r:.60} is no record of a video: {error!r}") from error
        return record


@dataclass(frozen=True)
class Span:
    """Time range of a video that one task extracts: the whole video, or one part of it."""

    record: VideoRecord
    part: int = 0
    parts: int = 1
    start_s: float | None = None
    """First timestamp that belongs to this part, None for the start of the video."""
    stop_s: float | None = None
    """First timestamp that belongs to the next part, None for the end of the video."""

    def __post_init__(self) -> None:
        if not 0 <= self.part < self.parts:
            raise ValueError(f"part must be in [0, {self.parts}), got {self.part}")

    @property
    def key(self) -> tuple[str, int, int]:
        """(video_id, part, parts): key of the span in a store."""
        return self.record.video_id, self.part, self.parts


@dataclass(frozen=True)
class Frames:
    """A window of decoded frames of one size."""

    data: NDArray[np.uint8]
    """(T, H, W, 3), RGB, upright."""
    pts_s: NDArray[np.float64]
    """Presentation times, (T,), seconds, strictly increasing."""

    def __post_init__(self) -> None:
        shape = self.data.shape
        if self.data.dtype != np.uint8 or self.data.ndim != 4 or shape[3] != 3 or not shape[0]:
            raise ValueError(
                f"frames must be uint8 (T >= 1, H, W, 3), got {self.data.dtype} {shape}"
            )
        if self.pts_s.shape != (shape[0],):
            raise ValueError(f"pts_s must be ({shape[0]},), got {self.pts_s.shape}")

    def __repr__(self) -> str:
        return f"<Frames uint8 {self.data.shape}, {self.pts_s[0]:.3f} to {self.pts_s[-1]:.3f} s>"


@dataclass(frozen=True)
class Planes:
    """Images of one modality, quantised to bytes, with the columns its table row asks for."""

    modality: str
    data: Any
    """Images, uint8 (T, C, H, W), on the host or on the device."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Per image values, (T, ...), by the names in ``MODALITIES[modality].columns``."""

    def __post_init__(self) -> None:
        row = MODALITIES[self.modality]
        if self.data.dtype != np.uint8 or self.data.ndim != 4 or self.data.shape[1] != row.channels:
            raise ValueError(
                f"{self.modality} planes must be uint8 (T, {row.channels}, H, W), "
                f"got {self.data.dtype} {self.data.shape}"
            )
        check_columns(self.modality, len(self.data), self.columns)

    def __repr__(self) -> str:
        shape = tuple(self.data.shape)
        return f"<Planes {self.modality} uint8 {shape}{_show_columns(self.columns)}>"


@dataclass(frozen=True)
class EncodedPlanes:
    """Images of one modality as codec bytes, ready for a shard writer."""

    modality: str
    payloads: tuple[bytes, ...]
    height: int
    width: int
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_columns(self.modality, len(self.payloads), self.columns)

    def __repr__(self) -> str:
        size = sum(map(len, self.payloads))
        return (
            f"<EncodedPlanes {self.modality}: {len(self.payloads)} of {self.height} x {self.width} "
            f"pixels, {size} bytes{_show_columns(self.columns)}>"
        )


def _show_columns(columns: Mapping[str, Any]) -> str:
    return "".join(f", {name} {tuple(values.shape)}" for name, values in columns.items())


def check_columns(modality: str, count: int, columns: Mapping[str, NDArray[Any]]) -> None:
    """Raise ValueError unless columns are those of the modality's row.

    Parameters
    ----------
    modality : str
        A key of `MODALITIES`.
    count : int
        Number of images, N.
    columns : mapping of str to array (N, ...)
        Per image values by name.
    """
    want = {c.name: (count, *c.shape) for c in MODALITIES[modality].columns}
    got = {name: values.shape for name, values in columns.items()}
    if want != got:
        raise ValueError(f"{modality} columns must be {want}, got {got}")


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """Facts about a video, kept in the store; measured from the frames wherever they can tell."""

    container: str
    codec: str
    pixel_format: str
    decoder: str
    """Library and version that decoded it."""
    width: int
    height: int
    """Size of the first decoded frame, upright, before any resizing."""
    sizes: tuple[tuple[int, int], ...]
    """All frame sizes, (width, height), in order of appearance."""
    rotation_deg: int
    """Clockwise rotation that made the frames upright, degrees: 0, 90, 180 or 270."""
    colour_matrix: str
    colour_range: str
    colour_transfer: str
    interlaced: bool
    frames_decoded: int
    frames_dropped: int
    """Frames decoded but not kept: resampling, or timestamps that repeat or run backwards."""
    fps_in: float
    """Frames per second measured from the timestamps; 0 for a single frame."""
    fps_out: float
    """Frames per second after resampling; 0 if every frame is kept."""
    start_s: float
    notes: tuple[str, ...] = ()
    """Codes of irregularities and how they were handled, such as ``pts_missing``."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Consecutive frames of a stored video that are missing or may be wrong."""

    what: str
    """``lost``: the frames are missing; ``damaged``: they are there, but pixels may be wrong."""
    frame: int
    """Number of the first damaged frame, or of the stored frame after the missing ones."""
    time_s: float
    """Presentation time of that frame, or of the last frame if there is none, seconds."""
    frames: int
    """Number of frames, counted in the source."""


@dataclass(frozen=True)
class Outcome:
    """Result of extracting one span: a line of the ledger."""

    video_id: str
    status: str
    """``done``, ``partial`` (stored up to the damage) or ``failed`` (nothing stored)."""
    _: KW_ONLY
    path: str = ""
    part: int = 0
    parts: int = 1
    reason: str = ""
    message: str = ""
    frames: int = 0
    images: Mapping[str, int] = field(default_factory=dict)
    """Stored images by modality."""
    stored_bytes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds by stage, and ``wall``."""
    busy_s: Mapping[str, float] = field(default_factory=dict)
    """Busy seconds of each stage, see `Extraction`, and ``write``. Stages and GPU run concurrently;
    the one whose time is close to ``wall`` limits the speed."""
    backend: str = ""
    shard: str = ""
    worker: str = ""
    notes: tuple[str, ...] = ()
    """Notes of the `VideoFacts` of a stored span."""

    def __post_init__(self) -> None:
        if self.status not in ("done", "partial", "failed"):
            raise ValueError(f"status must be done, partial or failed, got {self.status!r}")

    def __str__(self) -> str:
        last_line = self.message.strip().rpartition("\n")[2]
        return ": ".join(filter(None, (f"[{self.status}] {self.video_id}", self.reason, last_line)))

    def to_json(self) -> str:
        """Return one line of JSON, with keys in the order of the fields."""
        return json.dumps(asdict(self), ensure_ascii=False)
