"""Store, windows and networks -> the videos that have rows, and why others have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from flowpipe.errors import UsageError
from flowpipe.evaluation.ground_truth import ALL
from flowpipe.features import Extent, FeatureVideo, cut_windows
from flowpipe.features.windows import frame_s
from flowpipe.features.writer import WindowedVideo
from flowpipe.modality import MODALITIES
from flowpipe.splits import split_name, split_names
from flowpipe.store import Store
from flowpipe.tsn.data.lacking import explain_without_images
from flowpipe.tsn.features.networks import FeatureNetwork, check_window
from flowpipe.words import count_noun, unknown_name


@dataclass(frozen=True, kw_only=True)
class FeatureJob:
    """Store, file and options of an extraction of features."""

    store: Path
    out: Path
    window: Extent
    stride: Extent
    split: str = ALL
    """Name of a split, or ``all``."""
    video_ids: tuple[str, ...] = ()
    """Videos to take; all of the split if empty."""
    crops: int = 1
    """Crops that a row is averaged over: 1, 5 or 10."""
    device: str = "cpu"
    """Device of this process."""
    amp: str = "off"
    """Key of `AMP`: precision of the networks' arithmetic."""
    views: int = 0
    """Crops that go through a network together; 0 for the default of the device."""


class FeaturePlan(NamedTuple):
    """Videos of an extraction of features."""

    videos: list[WindowedVideo]
    """Videos that have rows."""
    left_out: Mapping[str, str]
    """Reason by id of each video that has no rows."""
    silent: Mapping[str, Mapping[str, str]]
    """By stream: reason by id of each video that has rows in the other streams only."""


def plan_videos(job: FeatureJob, store: Store, networks: Sequence[FeatureNetwork]) -> FeaturePlan:
    """Choose the videos of a job and cut their windows.

    Parameters
    ----------
    job : FeatureJob
        Windows, split and videos.
    store : Store
        Open store of the job.
    networks : sequence of FeatureNetwork
        Network of each stream, with the names of the streams.

    Returns
    -------
    FeaturePlan
        Videos with their windows, and what has no rows.

    Raises
    ------
    UsageError
        If the store lacks a modality, split or video, a window is too short for a network, or a
        stream has no rows.
    """
    for network in networks:
        if network.stored not in store.modalities:
            raise UsageError(
                f"{job.store} has no {network.stored}, which {network.facts['network']} reads; it "
                f"has {', '.join(store.modalities)}"
            )
    if job.window.unit == "frames":
        for network in networks:
            check_window(network, int(job.window.value), f"a window of {job.window}")
    videos, left_out = [], {}
    silent: dict[str, dict[str, str]] = {network.name: {} for network in networks}
    for video_id in _choose_videos(job, store):
        video = store.videos[video_id]
        lacking = {n.name: n.stored for n in networks if not video.images[n.stored]}
        why = {name: explain_without_images(video, stored) for name, stored in lacking.items()}
        # The other streams describe a video without sound; one without frames has no windows.
        if len(lacking) == len(networks) or not all(
            MODALITIES[stored].from_sound for stored in lacking.values()
        ):
            reasons = "; ".join(dict.fromkeys(why.values()))
            left_out[video_id] = f"no image of {', '.join(lacking)}: {reasons}"
            continue
        for name, reason in why.items():
            silent[name][video_id] = reason
        pts_s = video.pts_s
        windows = cut_windows(pts_s, job.window, job.stride)
        shortest = int((windows.stop_frame - windows.start_frame).min())
        if shortest < video.frames:
            for network in networks:
                frames = count_noun(shortest, "frame")
                what = f"a window of {job.window}, {frames} of {video_id},"
                check_window(network, shortest, what)
        windowed = FeatureVideo(
            video.record, frames=video.frames, fps=video.fps, start_s=float(pts_s[0]),
            end_s=float(pts_s[-1]) + frame_s(pts_s), status=video.status,
        )  # fmt: skip
        videos.append(WindowedVideo(windowed, windows))
    if not videos:
        raise UsageError(f"{job.store} has no video with rows in split {job.split}")
    for name, own in silent.items():
        if len(own) == len(videos):
            example, reason = next(iter(own.items()))
            raise UsageError(
                f"{job.store}: no video of split {job.split} has an image that {name} reads, such "
                f"as {example}: {reason}; leave that run out"
            )
    return FeaturePlan(videos, left_out, silent)


def find_split(job: FeatureJob, store: Store) -> str:
    """Return the full name of the split that a job takes.

    Parameters
    ----------
    job : FeatureJob
        Job with the name of a split, such as ``train`` for ``train1``.
    store : Store
        Open store of the job.

    Returns
    -------
    str
        Name of the split, or ``all``.
    """
    known = split_names(store.videos.values())
    return job.split if job.split in known else split_name(job.split)


def _choose_videos(job: FeatureJob, store: Store) -> list[str]:
    """Return the ids of the videos that a job takes, in the order of the store."""
    split = find_split(job, store)
    found = [k for k, video in store.videos.items() if split == ALL or split in video.splits]
    if not found:
        known = [*split_names(store.videos.values()), ALL]
        raise UsageError(f"{job.store}: {unknown_name('split', split, known)}")
    if missing := [k for k in job.video_ids if k not in set(found)]:
        in_split = "" if split == ALL else f" in split {split}"
        wrong = unknown_name("video", missing[0], found, most=5)
        raise UsageError(f"{job.store}{in_split}: {wrong}")
    return [k for k in found if k in job.video_ids] if job.video_ids else found
