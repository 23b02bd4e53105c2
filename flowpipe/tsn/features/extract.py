"""Store + networks -> a file of features: the rows of every video, batched across videos."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowpipe.errors import FlowpipeError, UsageError
from flowpipe.features import StreamFacts, Windows, open_features
from flowpipe.features.spool import RowSpool
from flowpipe.features.writer import WindowedVideo, write_features
from flowpipe.prefetch import prefetch
from flowpipe.store import Store, open_store
from flowpipe.tsn.device import choose_kernels, keep_freed_memory
from flowpipe.tsn.distributed import Processes, processes_from_environment
from flowpipe.tsn.features.decoding import Piece, decode_batches
from flowpipe.tsn.features.job import FeatureJob, find_split, plan_videos
from flowpipe.tsn.features.networks import FeatureNetwork, name_streams
from flowpipe.tsn.run_folder import differences
from flowpipe.tsn.training.learner import AMP
from flowpipe.words import count_noun, list_some

VIEWS, VIEWS_ON_CPU = 64, 10
"""Default number of crops that go through the network together. On a CPU more are no faster."""
_BATCHES_AHEAD = 2
_POLL_S = 0.2
"""Interval at which the rows of the other processes are polled, seconds."""


@dataclass(frozen=True)
class StreamSpeed:
    """Measured speed of one stream in one process."""

    name: str
    rows: int
    """Rows computed by this process."""
    seconds: float
    waited_s: float
    """Time that the network waited for decoded images, seconds."""


@dataclass(frozen=True, kw_only=True)
class ExtractedFeatures:
    """Result of an extraction of features."""

    videos: int
    rows: int
    """Rows of each stream."""
    left_out: Mapping[str, str]
    """Reason by id of each video that has no rows."""
    process: Processes
    """This process; the first one has written the file."""
    speeds: tuple[StreamSpeed, ...] = ()
    """Speeds of this process."""
    computed: int = 0
    """Rows that all processes have computed, of all streams; known to the first process."""
    seconds: float = 0.0
    """Time that they took, seconds."""


def extract_features(
    job: FeatureJob,
    networks: list[FeatureNetwork],
    progress: Callable[[int, int], None],
    tell: Callable[[str], None],
) -> ExtractedFeatures:
    """Compute the features and scores of the windows of all videos; write them to `job.out`.

    The processes of `launch` or torchrun share the videos. Rows of finished videos are kept in the
    files of `RowSpool` until the first process writes `job.out`, so that a run that was killed
    resumes.

    Parameters
    ----------
    job : FeatureJob
        Store, windows and file to write.
    networks : list of FeatureNetwork
        Network of each stream. Names that occur twice get a number.
    progress : callable
        Called with the number of finished rows and the number of all rows, over all streams and
        processes.
    tell : callable
        Called with each log line.

    Returns
    -------
    ExtractedFeatures
        Counts of what was written.

    Raises
    ------
    UsageError
        If the store lacks a modality, split or video, a window is too short for a network, or
        `job.out` has other features.
    FlowpipeError
        If features are not finite.
    """
    if job.device == "cpu":
        keep_freed_memory()
    else:
        choose_kernels(job.device, deterministic=False)
    here = processes_from_environment(job.device)
    if not here.is_first:
        progress, tell = (lambda done, total: None), (lambda line: None)
    store = open_store(job.store)
    name_streams(networks)
    videos, left_out, silent = plan_videos(job, store, networks)
    facts = {
        "store": str(job.store), "store_digest": store.header.recipe_digest,
        "store_created": store.header.created_utc,
        "dataset": store.header.dataset.get("dataset", ""), "split": find_split(job, store),
        "window": job.window.facts, "stride": job.stride.facts, "crops": job.crops,
        "class_names": list(store.header.class_names), "left_out": left_out,
    }  # fmt: skip
    streams = [
        StreamFacts(n.name, n.class_names, {**n.facts, "left_out": silent[n.name]})
        for n in networks
    ]
    settings = {**facts, "streams": {s.name: s.facts for s in streams}}
    rows = sum(len(video.windows) for video in videos)
    for video_id, reason in left_out.items():
        tell(f"{video_id} has no rows: {reason}")
    for stream in streams:
        if stream.left_out:
            tell(_describe_silent(stream, len(videos)))
    for network in networks:
        if other := network.describe_other_images(store.header.recipe):
            tell(f"{job.store} was extracted otherwise than the store of {network.name}: {other}")
    result = ExtractedFeatures(videos=len(videos), rows=rows, left_out=left_out, process=here)
    with RowSpool(job.out) as spool:
        # Asked after the rows were read: they are deleted after the file is written.
        if job.out.exists():
            _check_finished(job.out, settings, videos)
            tell(f"{job.out} has these features already: there is nothing to compute")
            if here.is_first:
                spool.delete()  # what a process left that was killed after it wrote the file
            return result
        for path, other_settings in spool.settings.items():
            _check_same(path, other_settings, settings)
        # Longest first, so that each process gets as much; the same share on every start.
        share = sorted(videos, key=lambda one: -len(one.windows))[here.rank :: here.world]
        if not here.is_first and not _list_missing(spool, streams, share):
            return result
        spool.begin(settings, here.rank)
        began, total = time.monotonic(), sum(_list_rows(streams, videos).values())
        first = done = total - sum(_list_missing(spool, streams, videos))
        if done:
            there = list_some([path.name for path in spool.settings])
            tell(f"resuming: {done} of {count_noun(total, 'row')} are in {there}")
        progress(done, total)
        speeds = []
        for network in networks:
            extractor = _Extractor(job, store, network, spool)
            own = [video for video in share if video.video_id not in silent[network.name]]
            for count in extractor.run(own):
                done += count + (spool.update() if here.is_first else 0)
                progress(done, total)
            speeds.append(extractor.speed)
        result = replace(result, speeds=tuple(speeds))
        if not here.is_first:
            return result
        while missing := sum(_list_missing(spool, streams, videos)):
            progress(total - missing, total)
            time.sleep(_POLL_S)
            spool.update()
        result = replace(result, computed=total - first, seconds=time.monotonic() - began)
        write_features(job.out, facts, videos, streams, spool.read)
        spool.delete()
    return result


class _Extractor:
    """Computes the rows of one stream and adds them to the file of this process."""

    def __init__(
        self, job: FeatureJob, store: Store, network: FeatureNetwork, spool: RowSpool
    ) -> None:
        self._job, self._store, self._network, self._spool = job, store, network, spool
        self._views = job.views or (VIEWS_ON_CPU if job.device == "cpu" else VIEWS)
        self._rows, self._seconds, self._waited_s = 0, 0.0, 0.0

    @property
    def speed(self) -> StreamSpeed:
        return StreamSpeed(self._network.name, self._rows, self._seconds, self._waited_s)

    def run(self, videos: Sequence[WindowedVideo]) -> Iterator[int]:
        """Compute the videos that are not finished; yield the number of rows of each batch."""
        name = self._network.name
        work = [
            (video.video_id, video.windows) for video in videos
            if not self._spool.has(name, video.video_id, len(video.windows))
        ]  # fmt: skip
        held: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        began = time.monotonic()
        for batch in prefetch(self._batches(work), _BATCHES_AHEAD, self._wait):
            features, scores = self._compute(batch)
            first = 0
            for piece in batch:
                stop = first + len(piece.row_images)
                held.append((features[first:stop], scores[first:stop]))
                if piece.is_last:
                    self._spool.add(
                        name, piece.video_id, *map(np.concatenate, zip(*held, strict=True))
                    )
                    held = []
                first = stop
            self._rows += first
            self._seconds = time.monotonic() - began
            yield first

    def _batches(self, work: Iterable[tuple[str, Windows]]) -> Iterator[list[Piece]]:
        rows = max(1, self._views // self._job.crops)
        return decode_batches(self._store, self._network, work, rows)

    def _wait(self, seconds: float) -> None:
        self._waited_s += seconds

    @torch.inference_mode()
    def _compute(self, batch: list[Piece]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return features (R, D) and scores (R, C) of the rows of a batch, means over the crops."""
        job, network, amp = self._job, self._network, AMP[self._job.amp]
        rows = sum(len(piece.row_images) for piece in batch)
        at_once = max(1, self._views // rows)
        inputs = [
            network.inputs(piece.images.to(job.device), piece.row_images, job.crops, at_once)
            for piece in batch
        ]
        features: list[Tensor] = []
        scores: list[Tensor] = []
        views = 0  # fewer than the crops for spectrograms
        for of_pieces in zip(*inputs, strict=True):
            x = torch.cat(of_pieces)
            with torch.autocast(x.device.type, amp) if amp else nullcontext():
                found = network(x.flatten(0, 1))
            views += x.shape[1]
            for values, kept in zip(found, (features, scores), strict=True):
                kept.append(values.double().unflatten(0, x.shape[:2]).sum(1))
        means = [
            (torch.stack(kept).sum(0) / views).float().cpu().numpy() for kept in (features, scores)
        ]
        if not all(np.isfinite(values).all() for values in means):
            hint = "try --amp bf16 or off" if job.amp == "fp16" else "did the training diverge?"
            ids = list_some(list(dict.fromkeys(piece.video_id for piece in batch)))
            raise FlowpipeError(f"{network.name}: features of {ids} are not finite; {hint}")
        return means[0], means[1]


def _list_missing(
    spool: RowSpool, streams: Sequence[StreamFacts], videos: Sequence[WindowedVideo]
) -> list[int]:
    """Return the number of rows of each stream of a video that has still to be computed."""
    found = _list_rows(streams, videos)
    return [rows for key, rows in found.items() if not spool.has(*key, rows)]


def _list_rows(
    streams: Sequence[StreamFacts], videos: Sequence[WindowedVideo]
) -> dict[tuple[str, str], int]:
    """Return the number of rows by stream and video, but for what the stream leaves out."""
    return {
        (stream.name, video.video_id): len(video.windows)
        for stream in streams for video in videos if video.video_id not in stream.left_out
    }  # fmt: skip


def _describe_silent(stream: StreamFacts, videos: int) -> str:
    """Return the log line on the videos that a stream leaves out."""
    count, (video_id, reason) = len(stream.left_out), next(iter(stream.left_out.items()))
    return (
        f"{stream.name} has no rows of {count} of {count_noun(videos, 'video')}, such as "
        f"{video_id}: {reason}"
    )


def _check_finished(
    out: Path, settings: Mapping[str, Any], videos: Sequence[WindowedVideo]
) -> None:
    """Raise UsageError unless a finished file has the features of this job."""
    with open_features(out) as file:
        streams = {name: stream.facts for name, stream in file.streams.items()}
        _check_same(out, {**file.facts, "streams": streams}, settings)
        there = {key: video.frames for key, video in file.videos.items()}
    if there != {video.video_id: video.video.frames for video in videos}:
        raise UsageError(
            f"{out} has the features of other videos ({len(there)}) than wanted ({len(videos)}); "
            "delete it to compute it again, or choose another -o"
        )


def _check_same(path: Path, there: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise UsageError unless the settings of a file are those of this job."""
    if different := differences(_identity(there), _identity(json.loads(json.dumps(wanted)))):
        raise UsageError(
            f"{path} has other features: {list_some(different, 4)}; delete it to compute it "
            "again, or choose another -o"
        )


def _identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without paths and names of files: what is moved has the same digests."""
    streams = {
        name: {key: value for key, value in facts.items() if key not in ("network", "checkpoint")}
        for name, facts in settings["streams"].items()
    }
    return {key: value for key, value in settings.items() if key != "store"} | {"streams": streams}
