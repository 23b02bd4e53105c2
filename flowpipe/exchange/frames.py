"""Folder of numbered images of one video -> the files of each frame and each pair.

Numbers may begin anywhere. A flow field at either end is left out if one of its frames is missing:
dense_flow does not write the first frame of its first field.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowpipe.errors import FormatError
from flowpipe.exchange.layouts import FOLDER_PATTERNS, Pairing
from flowpipe.modality import AXES, MODALITIES

_MOST_LEFT_OUT = 1  # images at each end; more are a mistake, not a convention


@dataclass(frozen=True)
class FrameFolder:
    """Files of one video."""

    path: Path
    frames: int
    """Number of frames N, with or without files."""
    files: Mapping[str, Sequence[tuple[str, ...]]]
    """File names of each image by modality, from the first image on."""

    def read(self, modality: str, k: int) -> list[bytes]:
        """Read the files of one image.

        Parameters
        ----------
        modality : str
            Modality of the image.
        k : int
            Number of the image, from 0.

        Returns
        -------
        list of bytes
            Contents of its files.
        """
        return [(self.path / name).read_bytes() for name in self.files[modality][k]]


def folders_below(root: Path) -> Iterator[tuple[str, frozenset[str]]]:
    """Find every folder with numbered images; hidden folders are left out.

    Parameters
    ----------
    root : Path
        Folder to search.

    Yields
    ------
    str
        Path below the root.
    frozenset of str
        Modalities, by the file names.
    """
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        found = frozenset(
            modality
            for modality, pattern in FOLDER_PATTERNS.items()
            if any(pattern.fullmatch(name) for name in names)
        )
        if found:
            yield Path(folder).relative_to(root).as_posix(), found


def read_frame_folder(path: Path, modalities: Sequence[str], pairing: Pairing) -> FrameFolder:
    """Find the images of these modalities in a folder, and the frames they belong to.

    Parameters
    ----------
    path : Path
        Folder of the images.
    modalities : sequence of str
        Modalities to find.
    pairing : {"start", "end"}
        Frame whose number a flow field has: its first or its second.

    Returns
    -------
    FrameFolder
        Files of each image.

    Raises
    ------
    FormatError
        If a number is missing, x and y differ, or the counts do not fit together.
    """
    numbered = {name: _number_files(path, name) for name in modalities}
    spans = {}
    for name, files in numbered.items():
        numbers = sorted(files)
        if numbers[-1] - numbers[0] + 1 != len(numbers):
            gap = next(n for n in range(numbers[0], numbers[-1]) if n not in files)
            raise FormatError(f"{path}: image {gap} of {name} is missing")
        back = pairing == "end" and MODALITIES[name].context
        spans[name] = numbers[0] - back, numbers[-1] - back
    first = max(begin for begin, _ in spans.values())
    last = min(end + MODALITIES[name].context for name, (begin, end) in spans.items())
    for name, (begin, end) in spans.items():
        over = max(first - begin, end + MODALITIES[name].context - last)
        if over > _MOST_LEFT_OUT or last < first:
            counts = ", ".join(f"{len(files)} of {n}" for n, files in numbered.items())
            raise FormatError(
                f"{path}: {counts} do not fit together with pairing {pairing}, which leaves "
                f"frames {first} to {last}; check --pairing"
            )
    kept = {}
    for name, files in numbered.items():
        shift = min(files) - spans[name][0]  # from the number of a frame to that of its file
        frames = range(first, last + 1 - MODALITIES[name].context)
        kept[name] = [files[k + shift] for k in frames]
    return FrameFolder(path, last - first + 1, kept)


def _number_files(path: Path, modality: str) -> dict[int, tuple[str, ...]]:
    """Return the file names of each image by its number, the axes in order."""
    pattern = FOLDER_PATTERNS[modality]
    by_axis: dict[str, dict[int, str]] = {}
    for file in os.scandir(path):
        found = pattern.fullmatch(file.name)
        if found is not None:
            files = by_axis.setdefault(found.groupdict().get("axis") or "", {})
            number = int(found["number"])
            if number in files:
                raise FormatError(f"{path}: {files[number]} and {file.name} are the same image")
            files[number] = file.name
    if not by_axis:
        raise FormatError(f"{path} has no images of {modality}")
    axes = AXES if MODALITIES[modality].is_flow else ("",)
    missing = [axis for axis in axes if axis not in by_axis]
    if missing or len({frozenset(files) for files in by_axis.values()}) > 1:
        counts = ", ".join(f"{len(by_axis.get(axis, {}))} of {axis}" for axis in axes)
        raise FormatError(
            f"{path}: x and y of {modality} do not match: {counts}; extract the video again"
        )
    first = by_axis[axes[0]]
    return {number: tuple(by_axis[axis][number] for axis in axes) for number in first}
