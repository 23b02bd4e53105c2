"""Store folder -> videos and snippets: one read per snippet, safe under fork, spawn and threads."""

from __future__ import annotations

import resource
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowpipe import codec
from flowpipe.errors import FlowpipeWarning, FormatError
from flowpipe.modality import MODALITIES, dequantise
from flowpipe.store import header as headers
from flowpipe.store import layout
from flowpipe.store.catalogue import Catalogue
from flowpipe.store.compiled_reader import ImageRequest, Part, copy_crop, read_images
from flowpipe.store.index import open_catalogue
from flowpipe.store.shard_file import OpenShard
from flowpipe.store.video import Videos
from flowpipe.words import unknown_name

Request = tuple[str, str, int, int]
"""(video_id, modality, start, length)"""

_REMEMBERED = 1 << 16


class ImageRange(NamedTuple):
    """Images ``begin .. end`` of a video, which one entry of a shard holds."""

    begin: int
    end: int
    shard: int
    """Number of the shard in the catalogue."""
    first: int
    """Number of image `begin` in the shard's stream."""
    row: int
    """Row of the catalogue."""
    size: tuple[int, int]
    """Height and width of the images, pixels."""


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

    Raises
    ------
    FormatError
        If there is no store, or it breaks FORMAT.md. No file content raises another error.

    Warns
    -----
    FlowpipeWarning
        If a shard is left out, or was published and is gone.
    """
    return Store(Path(path), check=check, skip_broken=skip_broken, refresh=refresh)


class Store:
    """Open store. It pickles to its path, holds no lock, and opens shards when first read.

    Attributes
    ----------
    path : Path
    header : StoreHeader
        Recipe, digest, data set, class names.
    broken : dict
        Fault of each shard that is left out, by file name: shards of another recipe and, with
        ``skip_broken``, shards that cannot be read.
    lost : tuple of str
        File names of shards that were published and are gone.
    """

    def __init__(
        self,
        path: Path,
        *,
        check: bool = True,
        skip_broken: bool = False,
        refresh: bool = True,
        warn: bool = True,
    ) -> None:
        self.path, self._check = path.absolute(), check
        self._skip_broken = skip_broken
        header = headers.read_store_header(path)
        opened = open_catalogue(
            self.path, header.recipe_digest, refresh=refresh, skip_broken=skip_broken
        )
        self.header = replace(
            header,
            class_names=opened.sources.class_names or header.class_names,
            dataset=dict(opened.sources.dataset or header.dataset),
        )
        self.broken = opened.left_out
        self.lost = opened.sources.lost
        self._catalogue = opened.catalogue
        if warn and (lack := opened.lack(self.path)):
            warnings.warn(lack, FlowpipeWarning, stacklevel=3)
        self._open: dict[int, OpenShard] = {}
        self._places: dict[tuple[str, str], tuple[ImageRange, ...]] = {}
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most_open = max(16, (1 << 16 if soft < 0 else soft) // 4)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self._check, self._skip_broken)

    def __repr__(self) -> str:
        return f"<Store {self.path}: {len(self.videos)} videos in {len(self.shards)} shards>"

    @property
    def videos(self) -> Videos:
        """Complete videos by id, in the order of the ids."""
        return Videos(self)

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Ids of split videos of which a part is missing."""
        return self._catalogue.incomplete

    @property
    def shards(self) -> tuple[str, ...]:
        """File names of the shards, in name order."""
        return tuple(facts.name for facts in self._catalogue.shards)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that the shards hold, in table order."""
        return tuple(n for n in MODALITIES if f"{n}/count" in self._catalogue.columns)

    @property
    def catalogue(self) -> Catalogue:
        """The tables behind `videos`."""
        return self._catalogue

    def check_recipe(self, digest: str, recipe: Mapping[str, Any] | None = None) -> None:
        """Raise RecipeError unless the store has this digest; `recipe` lets it list differences."""
        headers.check_recipe(self.path, self.header, digest, recipe)

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
        video_id, modality : str
        start, length : int
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
        """Decode many snippets in disk order; return them in the order of the requests."""
        result: list[Any] = [None] * len(requests)
        for i in self._in_disk_order(requests):
            result[i] = self.snippet(*requests[i])
        return result

    def read_into(
        self,
        requests: Sequence[Request],
        outs: Sequence[NDArray[np.uint8]],
        parts: Sequence[Part] | None = None,
        threads: int = 1,
    ) -> None:
        """Decode many snippets into given arrays, by compiled code where it is available.

        Parameters
        ----------
        requests : sequence of Request
        outs : sequence of uint8 (T, H, W, 3) or (T, H, C * W), C-contiguous
            Array for each request: channels interleaved, or planes side by side.
        parts : sequence of (top, bottom, left, right), optional
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
        found = {i: self._want(requests[i], outs[i], parts[i] if parts else None) for i in order}
        wants = {i: want for i, want in found.items() if want}
        failed = read_images(list(wants.values()), threads, check=self._check)
        done = {i for i, wrong in zip(wants, failed.tolist(), strict=True) if not wrong}
        for i in order:
            if i not in done and parts:
                copy_crop(self.snippet(*requests[i]), parts[i], outs[i])
            elif i not in done:
                self.snippet(*requests[i], outs[i])

    def _in_disk_order(self, requests: Sequence[Request]) -> list[int]:
        return sorted(range(len(requests)), key=lambda i: self._place_of(requests[i]))

    def _want(
        self, request: Request, out: NDArray[np.uint8], part: Part | None
    ) -> ImageRequest | None:
        """Return a request for the compiled reader; None unless it is JPEG in one shard."""
        video_id, modality, start, length = request
        if self.codec(modality)["name"] != "jpeg":
            return None
        planes = 1 if out.ndim == 4 else MODALITIES[modality].channels
        for run in self._runs(video_id, modality):
            if run.begin <= start and start + length <= run.end and length > 0:
                at = run.first + start - run.begin
                want = ImageRequest(
                    self._shard(run.shard), modality, at, out, run.size, planes, part
                )
                return want if want.fits(length) else None
        return None

    def read_payloads(
        self, video_id: str, modality: str, start: int, length: int, *, check: bool = False
    ) -> list[memoryview]:
        """Read the payloads of images, one image file each; see `snippet` for errors.

        With `check`, compare the CRC of each.
        """
        runs = self._runs(video_id, modality)
        if len(runs) == 1 and 0 <= start <= start + length <= runs[0].end and length > 0:
            run = runs[0]
            return self._shard(run.shard).payloads(modality, run.first + start, length, check)
        total = runs[-1].end
        if start < 0 or length < 0 or start + length > total:
            raise IndexError(
                f"{video_id} has {total} images of {modality}; {length} from number {start} on are "
                f"not inside [0, {total})"
            )
        result: list[memoryview] = []
        for run in runs:
            low, high = max(start, run.begin), min(start + length, run.end)
            if low < high:
                result += self._shard(run.shard).payloads(
                    modality, run.first + low - run.begin, high - low, check
                )
        return result

    def flow(self, video_id: str, modality: str, start: int, length: int) -> NDArray[np.float32]:
        """Decode images and undo their quantisation.

        Returns
        -------
        float32 (T, C, H, W)
            Pixels per frame step for flow; levels in -128..127 for rgb_diff. A flow byte becomes
            the middle of its interval, so the zero level becomes half a step.
        """
        quantiser = self.quantiser(modality)
        if not quantiser:
            raise ValueError(f"{modality} has no quantiser: its bytes are its values")
        planes = self.snippet(video_id, modality, start, length)
        return dequantise(planes, quantiser, modality)

    def quantiser(self, modality: str) -> dict[str, Any]:
        """Return the recorded quantiser of a modality."""
        return dict(self._stream_facts(modality)["quantiser"])

    def codec(self, modality: str) -> dict[str, Any]:
        """Return the recorded codec params of a modality."""
        return dict(self._stream_facts(modality)["codec"])

    def column(self, video_id: str, modality: str, name: str) -> NDArray[Any]:
        """Return a column such as ``clipped`` or ``homography``: one value per image of a video."""
        known = [c.name for c in MODALITIES[modality].columns]
        if name not in known:
            raise KeyError(unknown_name(f"{modality} column", name, known))
        crcs = self._catalogue.columns[f"{modality}/{name}"]
        return np.concatenate(
            [
                self._shard(run.shard).column(
                    modality, name, run.first, run.end - run.begin, int(crcs[run.row])
                )
                for run in self._runs(video_id, modality)
            ]
        )

    def pts_s(self, video_id: str) -> NDArray[np.float64]:
        """Return the timestamps of a video's frames, seconds, float64 (N,)."""
        row, columns = self._catalogue.find(video_id), self._catalogue.columns
        names = ("shard", "frame_first", "frames", "pts_crc")
        rows = slice(row, row + int(columns["parts"][row]))
        return np.concatenate(
            [
                self._shard(shard).pts_s(first, count, crc)
                for shard, first, count, crc in zip(
                    *(columns[name][rows].tolist() for name in names), strict=True
                )
            ]
        )

    def _runs(self, video_id: str, modality: str) -> tuple[ImageRange, ...]:
        """Locate the images of each part of a video; compare their tables with the CRCs once."""
        key = video_id, modality
        runs = self._places.get(key)
        if runs is None:
            columns = self._catalogue.columns
            self._stream_facts(modality)  # KeyError if the modality is unknown
            try:
                row = self._catalogue.find(video_id)
            except KeyError:
                raise KeyError(self.explain_missing(video_id)) from None
            begin, made = 0, []
            for r in range(row, row + int(columns["parts"][row])):
                count = int(columns[f"{modality}/count"][r])
                first, shard = int(columns[f"{modality}/first"][r]), int(columns["shard"][r])
                if count and self._check:
                    crc = int(columns[f"{modality}/tables"][r])
                    self._shard(shard).check_tables(modality, first, count, crc)
                height, width = (int(columns[f"{modality}/{n}"][r]) for n in ("height", "width"))
                made.append(ImageRange(begin, begin + count, shard, first, r, (height, width)))
                begin += count
            if len(self._places) >= _REMEMBERED:
                self._places.clear()
            runs = self._places[key] = tuple(made)
        return runs

    def explain_missing(self, video_id: str) -> str:
        """Return the reason why the store does not offer a video."""
        if video_id in self.incomplete:
            return f"{video_id!r} lacks parts: run the same extraction again"
        return f"{self.path} has no video {video_id!r}"

    def _place_of(self, request: Request) -> tuple[int, int]:
        run = self._runs(request[0], request[1])[0]
        return run.shard, run.first + request[2]

    def _shard(self, number: int) -> OpenShard:
        shard = self._open.get(number)
        if shard is None:
            facts = self._catalogue.shards[number]
            shard = OpenShard(self.path / layout.SHARDS_FOLDER / facts.name, facts)
            while len(self._open) >= self._most_open:
                # A reader in another thread keeps its shard alive until it has finished.
                oldest = next(iter(self._open), None)
                if oldest is not None:
                    self._open.pop(oldest, None)
            self._open[number] = shard
        return shard

    def _stream_facts(self, modality: str) -> dict[str, Any]:
        for facts in self._catalogue.shards:
            if modality in facts.streams:
                return facts.streams[modality]
        raise KeyError(f"{self.path}: {unknown_name('modality', modality, self.modalities)}")


def _reopen(path: Path, check: bool, skip_broken: bool) -> Store:
    return Store(path, check=check, skip_broken=skip_broken, refresh=False, warn=False)
