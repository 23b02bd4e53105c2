"""Store folder -> videos and snippets: one read per snippet, safe under fork, spawn and threads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe import codec
from flowpipe.errors import FormatError
from flowpipe.modality import MODALITIES, dequantise
from flowpipe.store.compiled_reader import ImageRequest, Part, copy_crop, read_images
from flowpipe.store.tables import StoreTables

Request = tuple[str, str, int, int]
"""(video_id, modality, start, length)"""


def open_store(
    path: str | Path, *, check: bool = True, skip_broken: bool = False, refresh: bool = True
) -> Store:
    """Open a store for reading.

    Parameters
    ----------
    path : path
        Folder of the store.
    check : bool
        Compare the CRC of every payload before it is decoded: 2 to 4 % of the decoding time.
    skip_broken : bool
        Leave out shards that cannot be read and list them in ``Store.broken``; else raise an error.
    refresh : bool
        Write the index if it is missing or outdated and the folder can be written to.

    Returns
    -------
    Store
        The open store.

    Raises
    ------
    FormatError
        If there is no store, or it breaks FORMAT.md. No file content raises another error.

    Warns
    -----
    FlowpipeWarning
        If a shard is left out, or was published and is gone.

    Examples
    --------
    >>> import flowpipe
    >>> store = flowpipe.open_store("demo-store")
    >>> video_id = next(iter(store.videos))
    >>> store.snippet(video_id, "rgb", start=0, length=5).shape[:2]  # height and width follow
    (5, 3)
    >>> store.flow(video_id, "flow", start=0, length=5).dtype  # in pixels
    dtype('float32')
    """
    return Store(Path(path), check=check, skip_broken=skip_broken, refresh=refresh)


class Store(StoreTables):
    """Open store. It pickles to its path, holds no lock, and opens shards when first read.

    Attributes
    ----------
    header : StoreHeader
        Recipe, digest, data set, class names.
    broken : dict
        Fault of each shard that is left out, by file name: shards of another recipe and, with
        ``skip_broken``, shards that cannot be read.
    lost : tuple of str
        File names of shards that were published and are gone.
    path : Path
        Absolute path of the folder.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self._check, self._skip_broken)

    def snippet(
        self,
        video_id: str,
        modality: str,
        start: int,
        length: int,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Decode images ``start .. start + length`` of one video.

        Parameters
        ----------
        video_id : str
            Id of the video.
        modality : str
            One of `modalities`.
        start : int
            Number of the first image, from 0.
        length : int
            Number of images, T.
        out : uint8 (T, H, W, 3) or (T, H, C * W), C-contiguous, optional
            Array to decode into: channels interleaved, or planes side by side.

        Returns
        -------
        uint8 (T, C, H, W)
            T = length. May be a transposed view of (T, H, W, C) memory.

        Raises
        ------
        KeyError
            If the store has no such video or modality.
        IndexError
            If the range does not lie inside the video.
        FormatError
            If the shard was replaced, cut short or damaged.
        """
        payloads = self.read_payloads(video_id, modality, start, length, check=self._check)
        if not payloads:
            height, width = self.videos[video_id].size[modality]
            return np.empty((0, MODALITIES[modality].channels, height, width), np.uint8)
        try:
            return codec.decode(payloads, MODALITIES[modality].channels, out=out)
        except (FormatError, MemoryError) as error:
            raise FormatError(
                f"{self.path}: {modality} images {start}..{start + length} of {video_id}: {error}; "
                "run `flowpipe verify --repair`"
            ) from error

    def snippets(self, requests: Sequence[Request]) -> list[NDArray[np.uint8]]:
        """Decode many snippets in disk order.

        Parameters
        ----------
        requests : sequence of (video_id, modality, start, length)
            Arguments of `snippet`.

        Returns
        -------
        list of uint8 (T, C, H, W)
            Images of each request, in the order of the requests.

        Raises
        ------
        KeyError, IndexError, FormatError
            As `snippet`.
        """
        result: list[Any] = [None] * len(requests)
        for i in self._in_disk_order(requests):
            result[i] = self.snippet(*requests[i])
        return result

    def read_into(
        self,
        requests: Sequence[Request],
        outs: Sequence[NDArray[np.uint8]],
        crops: Sequence[Part] | None = None,
        threads: int = 1,
    ) -> None:
        """Decode many snippets into given arrays, by compiled code where it is available.

        Parameters
        ----------
        requests : sequence of (video_id, modality, start, length)
            Arguments of `snippet`.
        outs : sequence of uint8 (T, H, W, 3) or (T, H, C * W), C-contiguous
            Array for each request: channels interleaved, or planes side by side.
        crops : sequence of (top, bottom, left, right), optional
            Crop of each plane, pixels; H and W are those of the crop.
        threads : int
            Decoding threads.

        Raises
        ------
        ValueError
            If a crop does not lie inside the image, or an array has another size.
        KeyError, IndexError, FormatError
            As `snippet`.
        """
        order = self._in_disk_order(requests)
        found = {i: self._want(requests[i], outs[i], crops[i] if crops else None) for i in order}
        wants = {i: want for i, want in found.items() if want}
        failed = read_images(list(wants.values()), threads, check=self._check)
        done = {i for i, wrong in zip(wants, failed.tolist(), strict=True) if not wrong}
        for i in order:
            if i not in done and crops:
                copy_crop(self.snippet(*requests[i]), crops[i], outs[i])
            elif i not in done:
                self.snippet(*requests[i], outs[i])

    def _in_disk_order(self, requests: Sequence[Request]) -> list[int]:
        return sorted(range(len(requests)), key=lambda i: self._position_of(requests[i]))

    def _want(
        self, request: Request, out: NDArray[np.uint8], part: Part | None
    ) -> ImageRequest | None:
        """Return a request for the compiled reader; None unless it is JPEG in one shard."""
        video_id, modality, start, length = request
        if self.codec(modality)["name"] != "jpeg":
            return None
        planes = 1 if out.ndim == 4 else MODALITIES[modality].channels
        for one in self._find(video_id, modality):
            if one.begin <= start and start + length <= one.end and length > 0:
                at = one.first + start - one.begin
                want = ImageRequest(
                    shard=self._ranges.shard(one.shard),
                    modality=modality,
                    first=at,
                    out=out,
                    size=one.size,
                    planes=planes,
                    part=part,
                )
                return want if want.fits(length) else None
        return None

    def read_payloads(
        self, video_id: str, modality: str, start: int, length: int, *, check: bool = False
    ) -> list[memoryview]:
        """Read images without decoding them.

        Parameters
        ----------
        video_id : str
            Id of the video.
        modality : str
            One of `modalities`.
        start : int
            Number of the first image, from 0.
        length : int
            Number of images.
        check : bool
            Compare the CRC of each.

        Returns
        -------
        list of memoryview
            One image file each.

        Raises
        ------
        KeyError, IndexError, FormatError
            As `snippet`.
        """
        ranges = self._find(video_id, modality)
        if len(ranges) == 1 and 0 <= start <= start + length <= ranges[0].end and length > 0:
            one = ranges[0]
            return self._ranges.shard(one.shard).payloads(
                modality, one.first + start, length, check
            )
        total = ranges[-1].end
        if start < 0 or length < 0 or start + length > total:
            raise IndexError(
                f"{video_id} has {total} images of {modality}; {length} from number {start} on are "
                f"not inside [0, {total})"
            )
        result: list[memoryview] = []
        for one in ranges:
            low, high = max(start, one.begin), min(start + length, one.end)
            if low < high:
                result += self._ranges.shard(one.shard).payloads(
                    modality, one.first + low - one.begin, high - low, check
                )
        return result

    def flow(self, video_id: str, modality: str, start: int, length: int) -> NDArray[np.float32]:
        """Decode flow fields and undo their quantisation.

        Parameters
        ----------
        video_id : str
            Id of the video.
        modality : str
            One of `modalities` whose images are flow fields.
        start : int
            Number of the first field, from 0.
        length : int
            Number of fields, T.

        Returns
        -------
        float32 (T, 2, H, W)
            Displacement to the right and down, pixels per frame step. A byte becomes the middle of
            its interval, so the zero level becomes half a step.

        Raises
        ------
        ValueError
            If the images of the modality are no flow fields.
        KeyError, IndexError, FormatError
            As `snippet`.
        """
        how = "values" if self.quantiser(modality) else "snippet"
        if not MODALITIES[modality].is_flow:
            raise ValueError(f"images of {modality} are no flow fields; read them by Store.{how}")
        return self.values(video_id, modality, start, length)

    def values(self, video_id: str, modality: str, start: int, length: int) -> NDArray[np.float32]:
        """Decode images of any modality with a quantiser and undo their quantisation.

        Parameters
        ----------
        video_id : str
            Id of the video.
        modality : str
            One of `modalities` that has a quantiser.
        start : int
            Number of the first image, from 0.
        length : int
            Number of images, T.

        Returns
        -------
        float32 (T, C, H, W)
            Values in the unit of the quantiser: decibels for audio, levels in -128..127 for
            rgb_diff, pixels per frame step for flow.

        Raises
        ------
        ValueError
            If the modality has no quantiser.
        KeyError, IndexError, FormatError
            As `snippet`.
        """
        quantiser = self.quantiser(modality)
        if not quantiser:
            raise ValueError(
                f"{modality} has no quantiser: its bytes are its values; read them by Store.snippet"
            )
        planes = self.snippet(video_id, modality, start, length)
        return dequantise(planes, quantiser, modality)

    def _position_of(self, request: Request) -> tuple[int, int]:
        one = self._find(request[0], request[1])[0]
        return one.shard, one.first + request[2]


def _reopen(path: Path, check: bool, skip_broken: bool) -> Store:
    return Store(path, check=check, skip_broken=skip_broken, refresh=False, warn=False)
