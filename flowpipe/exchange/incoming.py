"""Frame folders and tars -> videos for a store, read when it takes them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe import codec
from flowpipe.codec import JpegLsParams
from flowpipe.errors import FormatError
from flowpipe.exchange.frames import read_frame_folder
from flowpipe.exchange.image_files import payload_of
from flowpipe.exchange.layouts import LAYOUTS, Pairing, file_names
from flowpipe.exchange.sidecar import VideoSidecar
from flowpipe.exchange.tars import read_tar
from flowpipe.modality import MODALITIES
from flowpipe.types import EncodedPlanes, VideoRecord
from flowpipe.words import count_noun

_WINDOW = 64

EncodedImage = tuple[bytes, int, int]
"""(payload, height, width)"""


@dataclass(frozen=True)
class IncomingVideo:
    """Video to be imported: its facts and images."""

    record: VideoRecord
    meta: Mapping[str, Any]
    """Values of `ShardWriter.commit`."""
    pts_s: NDArray[np.float64]
    """Timestamps of the frames, seconds, (N,)."""
    images: Iterator[EncodedPlanes]


@dataclass(frozen=True)
class ExportedFolder:
    """A frame folder that flowpipe exported, with its notes."""

    path: Path
    notes: Path
    layout: str
    extensions: Mapping[str, str]
    """Extension of the files, by modality."""
    copied: frozenset[str]
    """Modalities whose files become payloads unchanged."""

    def videos(self) -> Iterator[IncomingVideo]:
        """Yield the one video of the folder.

        Yields
        ------
        IncomingVideo
            The video.

        Raises
        ------
        FormatError
            If the notes are damaged; while its images are read, if a file is missing or damaged.
        """
        notes = VideoSidecar.read(self.notes)
        record = VideoRecord.from_json(notes.meta["record"])
        yield IncomingVideo(record, notes.meta, notes.pts_s, self._images(notes))

    def _images(self, notes: VideoSidecar) -> Iterator[EncodedPlanes]:
        for name, count in notes.images.items():

            def image(k: int, modality: str = name) -> EncodedImage:
                return self._image(modality, k, notes)

            yield from windows(name, count, image, notes.columns[name])

    def _image(self, modality: str, k: int, notes: VideoSidecar) -> EncodedImage:
        row, copied = MODALITIES[modality], modality in self.copied
        layout, payloads = LAYOUTS[self.layout], notes.payloads.get(modality, [])
        names = file_names(modality, layout.number(modality, k), self.extensions[modality])
        paths = [self.path / name for name in names]
        if k >= len(payloads):
            return image_of(paths, row.is_colour, copied)
        if modality in notes.crcs and k >= layout.count_skipped(modality):
            _check(paths, notes.crcs[modality][k - layout.count_skipped(modality)].tolist())
        planes = codec.decode([payloads[k]], row.channels)
        kept = payloads[k] if copied else codec.encode(planes, JpegLsParams())[0]
        return kept, planes.shape[2], planes.shape[3]


@dataclass(frozen=True, kw_only=True)
class ExternalFolder:
    """A frame folder of another tool."""

    path: Path
    record: VideoRecord
    modalities: tuple[str, ...]
    pairing: Pairing
    fps: float
    """Frames per second."""
    copied: frozenset[str]
    """Modalities whose files become payloads unchanged."""

    def videos(self) -> Iterator[IncomingVideo]:
        """Yield the one video of the folder.

        Yields
        ------
        IncomingVideo
            The video.

        Raises
        ------
        FormatError
            If its files do not make a video.
        """
        folder = read_frame_folder(self.path, self.modalities, self.pairing)
        meta = {"source": {"folder": str(self.path)}, "facts": {}, "message": ""}
        pts_s = np.arange(folder.frames) / self.fps
        yield IncomingVideo(self.record, meta, pts_s, self._images(folder.files))

    def _images(self, files: Mapping[str, Sequence[tuple[str, ...]]]) -> Iterator[EncodedPlanes]:
        for name, images in files.items():
            colour, copied = MODALITIES[name].is_colour, name in self.copied

            def image(
                k: int, names: Any = images, colour: bool = colour, copied: bool = copied
            ) -> EncodedImage:
                return image_of([self.path / file for file in names[k]], colour, copied)

            yield from windows(name, len(images), image, None)


@dataclass(frozen=True)
class ExportedTar:
    """A tar that flowpipe exported."""

    path: Path

    def videos(self) -> Iterator[IncomingVideo]:
        """Yield the videos of the tar; FormatError where it is damaged.

        Yields
        ------
        IncomingVideo
            One video of the tar.
        """
        for notes, payloads in read_tar(self.path):
            record = VideoRecord.from_json(notes.meta["record"])
            yield IncomingVideo(record, notes.meta, notes.pts_s, self._images(notes, payloads))

    def _images(
        self, notes: VideoSidecar, payloads: Mapping[str, list[bytes]]
    ) -> Iterator[EncodedPlanes]:
        for name, count in notes.images.items():
            if len(payloads[name]) != count:
                there = count_noun(len(payloads[name]), "image")
                raise FormatError(f"{self.path}: {there} of {name}, wanted {count}")
            channels = MODALITIES[name].channels

            def image(k: int, name: str = name, channels: int = channels) -> EncodedImage:
                planes = codec.decode([payloads[name][k]], channels)
                return payloads[name][k], planes.shape[2], planes.shape[3]

            yield from windows(name, count, image, notes.columns[name])


ImportSource = ExportedFolder | ExternalFolder | ExportedTar


def image_of(paths: list[Path], colour: bool, copied: bool) -> EncodedImage:
    """Read the files of one image.

    Parameters
    ----------
    paths : list of Path
        One file; two for a flow field, x and y.
    colour : bool
        Whether the image is RGB.
    copied : bool
        Whether a JPEG file is taken unchanged.

    Returns
    -------
    payload : bytes
        JPEG or JPEG-LS file.
    height, width : int
        Size of the image, pixels.

    Raises
    ------
    FormatError
        If a file is missing or damaged.
    """
    try:
        return payload_of([path.read_bytes() for path in paths], colour, copied)
    except OSError as error:
        raise FormatError(f"{error.filename} cannot be read: {error.strerror}") from error
    except (FormatError, ValueError) as error:
        raise FormatError(f"{paths[0]}: {error}") from error


def _check(paths: list[Path], crcs: list[int]) -> None:
    """Raise FormatError if a file was changed after the export.

    The images are imported from the notes, so a change of the files would be ignored silently.
    """
    for path, crc in zip(paths, crcs, strict=True):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise FormatError(f"{path} cannot be read: {error.strerror}") from error
        if zlib.crc32(content) != crc:
            raise FormatError(
                f"{path} was changed after the export; to import the files as they are now, remove "
                "the folder .flowpipe and describe the files by options"
            )


def windows(
    modality: str,
    count: int,
    image: Callable[[int], EncodedImage],
    columns: Mapping[str, NDArray[Any]] | None,
) -> Iterator[EncodedPlanes]:
    """Yield images in windows.

    Without `columns`, the values that are 0 or 255 are counted in place of the clipped ones.

    Parameters
    ----------
    modality : str
        Modality of the images.
    count : int
        Number of images.
    image : callable
        Function of the number of an image that returns payload, height and width.
    columns : mapping of str to array, optional
        Per image values of the modality.

    Yields
    ------
    EncodedPlanes
        One window.

    Raises
    ------
    FormatError
        If an image cannot be read, or images differ in size.
    """
    for start in range(0, count, _WINDOW):
        made = [image(k) for k in range(start, min(start + _WINDOW, count))]
        payloads = tuple(content for content, _, _ in made)
        sizes = {(height, width) for _, height, width in made}
        if len(sizes) > 1:
            raise FormatError(f"images of {modality} have several sizes: {sorted(sizes)}")
        own = (
            {name: values[start : start + len(made)] for name, values in columns.items()}
            if columns is not None
            else {c.name: _at_the_ends(modality, payloads) for c in MODALITIES[modality].columns}
        )
        ((height, width),) = sizes
        yield EncodedPlanes(modality, payloads, height, width, own)


def _at_the_ends(modality: str, payloads: tuple[bytes, ...]) -> NDArray[np.uint32]:
    """Count the values of each image that are 0 or 255; those that were clipped are among them."""
    planes = codec.decode(payloads, MODALITIES[modality].channels)
    return np.array([np.count_nonzero((p == 0) | (p == 255)) for p in planes], np.uint32)
