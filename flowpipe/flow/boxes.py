"""Boxes file -> Boxes: where people are in each frame, so that the camera's motion ignores them.

Improved trajectories mask people out. Boxes have one of two layouts:

- a folder with one text file per video, ``<video id>.txt`` or ``<video id>.bb``; the id's
  extension may be left out (``clip.txt`` for ``clip.mp4``). The format is that of improved
  trajectories: one line per frame, the frame's number, then five numbers per person,
  ``x1 y1 x2 y2 score``::

      0 12.5 30 80 199.5 0.93  210 41 260 190 0.88
      1
      2 13 30 81 199 0.95

- one file ``.jsonl`` for all videos, one video per line, one list of boxes per frame::

      {"video_id": "clip1", "frames": [[[12.5, 30, 80, 199.5, 0.9]], [], [[13, 30, 81, 199, 0.9]]]}

Frames are those that are extracted (after resampling, if the recipe resamples), in order; frame
numbers rise by 1 and may begin anywhere. Coordinates are pixels of the source video, upright, both
corners included; boxes may reach over the border. Scores are ignored.
"""

from __future__ import annotations

import math
import posixpath
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe import strict
from flowpipe.errors import DatasetError
from flowpipe.words import count_noun

SUFFIXES = (".txt", ".bb")


@dataclass(frozen=True)
class Boxes:
    """The boxes of one video.

    Attributes
    ----------
    source : str
        File and, of a JSON lines file, line; for messages.
    frames : tuple of float64 (B, 4)
        x1, y1, x2, y2 in source pixels, for every frame.
    source_height, source_width : int
        Size of the source frames; masks are made in the size of the resized ones.
    """

    source: str
    frames: tuple[NDArray[np.float64], ...]
    source_height: int
    source_width: int

    def mask(self, frame: int, height: int, width: int) -> NDArray[np.uint8]:
        """Draw the mask of a frame.

        Parameters
        ----------
        frame : int
            Number of the frame.
        height, width : int
            Size of the mask, pixels.

        Returns
        -------
        uint8 (height, width)
            0 inside the boxes of the frame, 255 elsewhere.

        Raises
        ------
        DatasetError
            If there are no boxes for this frame.
        """
        if not 0 <= frame < len(self.frames):
            raise DatasetError(
                f"{self.source} has boxes for {count_noun(len(self.frames), 'frame')}, but the "
                "video has more; it must have one entry per extracted frame"
            )
        mask = np.full((height, width), 255, np.uint8)
        # Pixel centres, as cv2.resize maps them.
        scale = np.array([width / self.source_width, height / self.source_height] * 2)
        for x1, y1, x2, y2 in (self.frames[frame] + 0.5) * scale - 0.5:
            # Rounding inwards and both ends included, as improved trajectories do.
            top, left = max(math.ceil(y1), 0), max(math.ceil(x1), 0)
            mask[top : max(math.floor(y2) + 1, 0), left : max(math.floor(x2) + 1, 0)] = 0
        return mask

    def check_count(self, frames: int) -> None:
        """Raise DatasetError unless there are boxes for every frame and no more.

        Parameters
        ----------
        frames : int
            Number of frames of the video.
        """
        if frames != len(self.frames):
            raise DatasetError(
                f"{self.source} has boxes for {count_noun(len(self.frames), 'frame')}, but the "
                f"video has {frames}; it must have one entry per extracted frame"
            )


def load_boxes(
    path: str | Path, video_id: str, source_height: int, source_width: int
) -> Boxes | None:
    """Read the boxes of one video.

    Parameters
    ----------
    path : path
        A folder, or a JSON lines file.
    video_id : str
        Id of the video.
    source_height, source_width : int
        Size of the video's upright frames, pixels; the coordinates refer to it.

    Returns
    -------
    Boxes or None
        Boxes of every frame; None if there are none for this video.

    Raises
    ------
    DatasetError
        If `path` does not exist or a line is wrong; names file and line.
    """
    path = Path(path)
    if path.is_dir():
        found = _read_folder(path, video_id)
    elif path.is_file():
        found = _read_json_line(path, video_id)
    else:
        raise DatasetError(
            f"no boxes at {path}; warp.boxes wants a folder with one file per video, "
            "or a .jsonl file"
        )
    return None if found is None else Boxes(*found, source_height, source_width)


def _read_folder(folder: Path, video_id: str) -> tuple[str, tuple[NDArray[np.float64], ...]] | None:
    root = folder.resolve()
    for name in (f"{key}{suffix}" for key in _keys(video_id) for suffix in SUFFIXES):
        file = folder / name
        try:
            # A video id is any text: it may name a file in a subfolder, but none outside.
            there = root in file.resolve().parents and file.is_file()
        except (OSError, ValueError):  # no file can have such a name
            there = False
        if there:
            return str(file), _parse_text(file)
    return None


def _keys(video_id: str) -> tuple[str, str]:
    """Return the names that a video may have in a boxes file: its id with and without extension."""
    return video_id, posixpath.splitext(video_id)[0]


def _parse_text(file: Path) -> tuple[NDArray[np.float64], ...]:
    frames: list[NDArray[np.float64]] = []
    expected: int | None = None
    text = file.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{file} line {number}"
        try:
            frame, *numbers = (float(word) for word in line.split())
        except ValueError:
            raise DatasetError(
                f"{where}: wanted a frame number and then 'x1 y1 x2 y2 score' per box, "
                f"got {line.strip()[:80]!r}"
            ) from None
        if len(numbers) % 5:
            raise DatasetError(
                f"{where}: wanted 5 numbers per box (x1 y1 x2 y2 score) after the frame number, "
                f"got {count_noun(len(numbers), 'number')}"
            )
        if expected is not None and frame != expected:
            raise DatasetError(
                f"{where}: wanted frame {expected}, got {frame:g}; there must be a line for every "
                "frame, in order, also where nobody is seen"
            )
        if not math.isfinite(frame) or frame != int(frame):
            raise DatasetError(f"{where}: the frame number must be whole, got {frame:g}")
        expected = int(frame) + 1
        frames.append(_check_boxes(numbers, where))
    return tuple(frames)


def _read_json_line(
    file: Path, video_id: str
) -> tuple[str, tuple[NDArray[np.float64], ...]] | None:
    modified = file.stat().st_mtime_ns
    known = _index_json_lines(str(file), modified)
    place = next((known[key] for key in _keys(video_id) if key in known), None)
    if place is None:
        return None
    number, offset = place
    where = f"{file} line {number}"
    with file.open("rb") as stream:
        stream.seek(offset)
        entry = strict.parse_json(stream.readline(), where, error=DatasetError)
    frames = entry.get("frames")
    if not isinstance(frames, list):
        raise DatasetError(f"{where}: 'frames' must be a list with one list of boxes per frame")
    result = []
    for index, boxes in enumerate(frames):
        at = f"{where}, frame {index}"
        if not isinstance(boxes, list) or any(
            not isinstance(box, list) or len(box) not in (4, 5) for box in boxes
        ):
            raise DatasetError(f"{at}: wanted a list of [x1, y1, x2, y2, score], got {boxes!r:.80}")
        try:
            numbers = [float(n) for box in boxes for n in (*box[:4], 0.0)]
        except (TypeError, ValueError):
            raise DatasetError(f"{at}: coordinates must be numbers, got {boxes!r:.80}") from None
        result.append(_check_boxes(numbers, at))
    return where, tuple(result)


@lru_cache(maxsize=4)
def _index_json_lines(file: str, modified: int) -> dict[str, tuple[int, int]]:
    """Return (line number, byte offset) by video id; the file is read again if it has changed."""
    index: dict[str, tuple[int, int]] = {}
    offset = 0
    with Path(file).open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            begin, offset = offset, offset + len(line)
            if not line.strip():
                continue
            where = f"{file} line {number}"
            try:
                entry = strict.parse_json(line, where, error=DatasetError)
                video_id, _ = str(entry["video_id"]), entry["frames"]
            except (DatasetError, KeyError) as error:
                wrong = str(error) if isinstance(error, DatasetError) else where
                raise DatasetError(
                    f'{wrong}: wanted {{"video_id": ..., "frames": [...]}}, got {line[:60]!r}'
                ) from None
            if video_id in index:
                raise DatasetError(
                    f"{where}: {video_id!r} has boxes on line {index[video_id][0]} already"
                )
            index[video_id] = number, begin
    return index


def _check_boxes(numbers: list[float], where: str) -> NDArray[np.float64]:
    boxes = np.array(numbers, np.float64).reshape(-1, 5)[:, :4]
    if not np.isfinite(boxes).all():
        raise DatasetError(f"{where}: coordinates must be finite, got {boxes.tolist()}")
    crossed = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if crossed.any():
        raise DatasetError(
            f"{where}: wanted x1 <= x2 and y1 <= y2, got {boxes[crossed][0].tolist()}; "
            "boxes are two corners, not a corner and a size"
        )
    return boxes
