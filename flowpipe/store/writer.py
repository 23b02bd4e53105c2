"""EncodedPlanes -> immutable shard: spooled by stream, assembled, checked, renamed."""

from __future__ import annotations

import contextlib
import datetime
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import flowpipe
from flowpipe import atomic, params
from flowpipe.errors import FormatError
from flowpipe.modality import CLIPPED, MODALITIES, START_S, check_modalities
from flowpipe.store import files, layout
from flowpipe.store.layout import Entry, StreamSpec
from flowpipe.store.manifest import log_published
from flowpipe.store.payloads import bad_payloads
from flowpipe.store.shard import Shard, ShardStream, create_shard, read_shard, seal_shard
from flowpipe.store.spool import Spool
from flowpipe.types import EncodedPlanes, Span

_TABLE_SLACK_BYTES = 1 << 20


class ShardWriter:
    """Collects videos and publishes them as one shard; leaves no file behind if it fails.

    ::

        with ShardWriter(path, recipe=..., recipe_digest=..., backend=..., streams=...) as shard:
            shard.begin(span)
            shard.append(encoded)         # any number of windows of any stream
            shard.append_pts(pts_s)
            shard.commit(meta)            # or shard.rollback()
            shard.publish()

    Parameters
    ----------
    path : Path
        Final name, ``STORE/shards/NAME.h5``. An existing shard of that name is replaced.
    recipe, recipe_digest : str
        Canonical JSON of the recipe and its SHA-256.
    backend : mapping
        Names and versions of the software that computed the images.
    streams : mapping of str to StreamSpec
        Codec and quantiser by modality.

    Raises
    ------
    DiskFullError
        By any method, if the disk is full; nothing is left under a final name.

    Notes
    -----
    Memory holds only the tables, about 20 bytes per image. While `publish` runs, the payloads exist
    twice on disk, one stream at a time.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        recipe: str,
        recipe_digest: str,
        backend: Mapping[str, Any],
        streams: Mapping[str, StreamSpec],
    ) -> None:
        self.path = _check_path(Path(path))
        check_modalities("streams", streams)
        self._specs = {name: streams[name] for name in MODALITIES if name in streams}
        self._attrs = {
            layout.ATTR_FORMAT: layout.FORMAT,
            layout.ATTR_VERSION: layout.FORMAT_VERSION,
            layout.ATTR_FLOWPIPE: flowpipe.__version__,
            layout.ATTR_RECIPE: recipe,
            layout.ATTR_DIGEST: recipe_digest,
            layout.ATTR_BACKEND: layout.to_json(backend),
            layout.ATTR_SEAL: layout.UNSEALED,
        }
        self._temporary = atomic.draft_name(self.path)
        self._entries: list[Entry] = []
        self._keys: set[tuple[str, int]] = set()
        self._frames = 0
        self._pts: list[NDArray[np.float64]] = []
        self._span: Span | None = None
        self._span_pts: list[NDArray[np.float64]] = []
        self._marks: dict[str, tuple[int, int, int]] = {}
        self._spools: dict[str, Spool] = {}
        self.bytes_written = 0
        """Payload bytes so far, those of the open video included."""
        with atomic.translate_full_disk(self.path, "shard"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                for name in self._specs:
                    spool = self._temporary.with_name(f"{self._temporary.name}-{name}")
                    self._spools[name] = Spool(path=spool, fd=atomic.create_exclusive(spool))
            except BaseException:
                self.discard()
                raise

    @property
    def streams(self) -> tuple[str, ...]:
        """Modalities that the shard takes, in table order."""
        return tuple(self._specs)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Entries committed so far."""
        return tuple(self._entries)

    def begin(self, span: Span) -> None:
        """Open a video, or one part of a split video.

        Parameters
        ----------
        span : Span
            The video or part.

        Raises
        ------
        FormatError
            If the shard has it already.
        """
        if self._span is not None:
            raise RuntimeError(
                f"{self._span.record.video_id} is still open: commit or roll it back"
            )
        video_id = span.record.video_id
        layout.check_video_id(video_id)
        if (video_id, span.part) in self._keys:
            raise FormatError(f"{video_id} part {span.part} is already in {self.path.name}")
        self._span, self._span_pts = span, []
        for name, spool in self._spools.items():
            self._marks[name] = len(spool.sizes), len(spool.columns), spool.length
            spool.size = (0, 0)

    def append(self, encoded: EncodedPlanes) -> None:
        """Add images of one stream to the open video.

        Parameters
        ----------
        encoded : EncodedPlanes
            Images in time order, all of one size.
        """
        span, spool = self._open_span(), self._spools.get(encoded.modality)
        if spool is None:
            raise ValueError(f"this shard has {list(self._spools)}, got {encoded.modality} images")
        if not encoded.payloads:
            return
        size = encoded.height, encoded.width
        if spool.size not in ((0, 0), size):
            raise FormatError(
                f"{span.record.video_id}: {encoded.modality} images must keep their size of "
                f"{spool.size} (height, width), got {size}",
                reason="resolution_change",
            )
        if not all(encoded.payloads):
            raise ValueError(f"{span.record.video_id}: a payload of {encoded.modality} is empty")
        content = b"".join(encoded.payloads)
        with atomic.translate_full_disk(self.path, "shard"):
            atomic.write_all(spool.fd, content)
        spool.size = size
        spool.length += len(content)
        spool.sizes.extend(map(len, encoded.payloads))
        spool.crcs.extend(map(zlib.crc32, encoded.payloads))
        spool.columns.append(dict(encoded.columns))
        self.bytes_written += len(content)

    def append_pts(self, pts_s: ArrayLike) -> None:
        """Add timestamps of frames of the open video.

        Parameters
        ----------
        pts_s : array-like (T,)
            Presentation times, seconds.
        """
        self._open_span()
        self._span_pts.append(np.array(pts_s, np.float64).reshape(-1))

    def commit(self, meta: Mapping[str, Any]) -> None:
        """Close the open video and keep it.

        Parameters
        ----------
        meta : mapping
            JSON values: ``status`` (``done`` or ``partial``), ``source``, ``facts`` and any others.
            By default ``record`` is taken from the span, and ``clipped_share`` from the images'
            ``clipped`` columns.

        Raises
        ------
        FormatError
            If counts, alignment or timestamps break FORMAT.md. The video stays open: roll it back.
        """
        span = self._open_span()
        video_id, status = span.record.video_id, str(meta.get("status", "done"))
        if status not in layout.STATUSES:
            raise ValueError(f"status must be one of {layout.STATUSES}, got {status!r}")
        pts = np.concatenate(self._span_pts) if self._span_pts else np.empty(0)
        if not len(pts) or not np.all(np.isfinite(pts)) or np.any(np.diff(pts) <= 0):
            raise FormatError(
                f"{video_id}: its {len(pts)} timestamps must be finite and strictly increasing",
                reason="timestamps" if len(pts) else "no_frames",
            )
        images = {n: len(s.sizes) - self._marks[n][0] for n, s in self._spools.items()}
        for name, count in images.items():
            want = layout.expected_images(len(pts), name, span.part, span.parts)
            if want is None:
                windows = self._spools[name].columns[self._marks[name][1] :]
                layout.check_times(video_id, [window[START_S.name] for window in windows])
            elif count != want:
                raise FormatError(
                    f"{video_id} part {span.part} of {span.parts}: {len(pts)} frames want {want} "
                    f"images of {name}, got {count}"
                )
        values = {
            "record": meta["record"] if "record" in meta else asdict(span.record),
            "source": {},
            "facts": {},
            "status": status,
            "reason": "",
            "clipped_share": self._clipped_share(images),
            **meta,
        }
        self._entries.append(
            Entry(
                video_id, span.part, span.parts, status=status, frames=len(pts),
                frame_first=self._frames, images=images,
                first={name: mark[0] for name, mark in self._marks.items()},
                size={name: spool.size for name, spool in self._spools.items()},
                meta=layout.to_json(values),
            )
        )  # fmt: skip
        self._pts.append(pts)
        self._keys.add((video_id, span.part))
        self._frames += len(pts)
        self._span = None

    def rollback(self) -> None:
        """Drop the open video; do nothing if there is none."""
        if self._span is None:
            return
        for name, spool in self._spools.items():
            images, windows, length = self._marks[name]
            self.bytes_written -= spool.length - length
            os.ftruncate(spool.fd, length)
            os.lseek(spool.fd, length, os.SEEK_SET)
            del spool.sizes[images:], spool.crcs[images:], spool.columns[windows:]
            spool.length = length
        self._span = None

    def publish(self, name: str = "") -> Path:
        """Assemble, check and rename the shard.

        Parameters
        ----------
        name : str
            Name of the shard without ``.h5``; default: that of `path`. Give it if the shard holds
            fewer videos than planned, so that the name matches its contents.

        Returns
        -------
        Path
            Final path; the shard is durable when this returns.
        """
        if self._span is not None:
            raise RuntimeError(
                f"{self._span.record.video_id} is still open: commit or roll it back"
            )
        if not self._entries:
            raise FormatError(f"{self.path.name} holds no video; discard it instead")
        if name:
            self.path = _check_path(self.path.with_name(f"{name}.h5"))
        now = datetime.datetime.now(datetime.timezone.utc)
        self._attrs[layout.ATTR_CREATED] = now.isoformat(timespec="seconds")
        shard = Shard(
            path=self._temporary, attrs=self._attrs, entries=tuple(self._entries),
            pts_s=np.concatenate(self._pts), pts_at=0,
            streams={name: self._stream(name) for name in self._specs},
        )  # fmt: skip
        try:
            with atomic.translate_full_disk(self.path, "shard"):
                files.check_space(self.path.parent, self._bytes_to_assemble())
                places = create_shard(self._temporary, shard)
                with atomic.open_locked(self._temporary) as target:
                    self._place_payloads(target, places)
                    seal = seal_shard(self._temporary)
                    self._check(shard)
                    atomic.publish(self._temporary, self.path)
                if self.path.parent.name == layout.SHARDS_FOLDER:
                    keys = [entry.key for entry in self._entries]
                    log_published(self.path.parent.parent, self.path.name, seal, keys)
        finally:
            self.discard()
        return self.path

    def discard(self) -> None:
        """Remove every temporary file; videos that were not published are lost."""
        self._temporary.unlink(missing_ok=True)
        for spool in self._spools.values():
            with contextlib.suppress(OSError):
                os.close(spool.fd)
            spool.path.unlink(missing_ok=True)
        self._spools = {}
        self._span = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.discard()

    def _open_span(self) -> Span:
        if self._span is None:
            raise RuntimeError("no video is open; call begin(span) first")
        return self._span

    def _clipped_share(self, images: Mapping[str, int]) -> dict[str, float]:
        """Return the share of clipped values, for each modality that counts them."""
        shares = {}
        for name, spool in self._spools.items():
            windows = spool.columns[self._marks[name][1] :]
            if windows and CLIPPED.name in windows[0]:
                values = images[name] * MODALITIES[name].channels * spool.size[0] * spool.size[1]
                shares[name] = sum(int(w[CLIPPED.name].sum()) for w in windows) / values
        return shares

    def _stream(self, name: str) -> ShardStream:
        spool, spec = self._spools[name], self._specs[name]
        offset = np.zeros(len(spool.sizes) + 1, layout.OFFSET.dtype)
        np.cumsum(spool.sizes, out=offset[1:])
        columns = {
            t.name: np.concatenate(
                [w[t.name] for w in spool.columns] or [np.empty((0, *t.shape), t.dtype)]
            )
            for t in layout.column_tables(name)
        }
        spans = zip(*(entry.in_stream(name) for entry in self._entries), strict=True)
        entry_columns = {
            t.name: np.array(values, t.dtype)
            for t, values in zip(layout.ENTRY_TABLES, spans, strict=True)
        }
        return ShardStream(
            codec=params.plain(spec.codec), quantiser=dict(spec.quantiser), offset=offset,
            crc32=np.array(spool.crcs, layout.CRC.dtype), entry_columns=entry_columns,
            columns=columns,
        )  # fmt: skip

    def _bytes_to_assemble(self) -> int:
        images = sum(len(spool.sizes) for spool in self._spools.values())
        metas = sum(len(e.meta) + 512 for e in self._entries)
        return self.bytes_written + images * 128 + metas + _TABLE_SLACK_BYTES

    def _place_payloads(self, target: int, places: Mapping[str, int]) -> None:
        for name, spool in self._spools.items():
            files.copy_bytes(spool.fd, target, spool.length, places[name])
            os.ftruncate(spool.fd, 0)  # frees its disk space for the next stream

    def _check(self, wrote: Shard) -> None:
        """Raise FormatError unless the finished file reads back with its tables and CRCs."""
        found = read_shard(self._temporary)
        if found.entries != wrote.entries or not np.array_equal(found.pts_s, wrote.pts_s):
            raise FormatError(
                f"{self.path.name} does not read back as written; is the disk failing?"
            )
        with self._temporary.open("rb", buffering=0) as file:
            for name, stream in found.streams.items():
                want = wrote.streams[name]
                if not np.array_equal(stream.offset, want.offset):
                    raise FormatError(f"{self.path.name}: {name} offsets do not read back")
                bad = next(bad_payloads(file.fileno(), stream, want.crc32), None)
                if bad is not None:
                    raise FormatError(
                        f"{self.path.name}: image {bad} of {name} does not read back as written; "
                        "is the disk failing?"
                    )


def _check_path(path: Path) -> Path:
    if not layout.SHARD_NAME.fullmatch(path.name):
        raise ValueError(f"a shard must be named like shard-0a1b2c.h5, got {path.name!r}")
    return path
