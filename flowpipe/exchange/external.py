"""Frame folders of another tool, their description -> the videos in them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from flowpipe.errors import FormatError, UsageError
from flowpipe.exchange.frames import folders_below
from flowpipe.exchange.incoming import ExternalFolder, ImportSource
from flowpipe.exchange.job import ImportJob
from flowpipe.exchange.layouts import FOLDER_PATTERNS, LAYOUTS, Pairing
from flowpipe.modality import MODALITIES
from flowpipe.types import VideoRecord
from flowpipe.words import count_noun

T = TypeVar("T")

_SAMPLED_FOLDERS = 100


@dataclass(frozen=True, kw_only=True)
class ExternalFolders:
    """Frame folders of another tool, ready to be imported."""

    modalities: tuple[str, ...]
    copied: frozenset[str]
    """Modalities whose files become payloads unchanged."""
    sources: Sequence[ImportSource]
    """One folder for each video."""
    dataset: dict[str, Any]
    """JSON values that say where the videos come from."""
    class_names: tuple[str, ...]
    described: dict[str, Any]
    """Pairing and frame rate of the folders, as given."""
    unlisted: list[str]
    """Folders that no list names."""
    absent: list[str]
    """Listed folders that do not exist."""


def find_videos(job: ImportJob) -> ExternalFolders:
    """Find the videos below the folder of a job.

    Parameters
    ----------
    job : ImportJob
        What to import, and how.

    Returns
    -------
    ExternalFolders
        Folders of the videos.

    Raises
    ------
    FormatError
        If there are none.
    UsageError
        If the folder does not exist, the job lacks the pairing, the bound or the frame rate, or its
        lists do not fit the folders.
    """
    if not job.folder.is_dir():
        raise UsageError(f"{job.folder} is not a folder")
    folders = list(folders_below(job.folder))
    if not folders:
        raise FormatError(
            f"{job.folder} has no folders of numbered images such as img_00001.jpg or "
            "flow_x_00001.jpg, and was not exported by flowpipe"
        )
    paths = [path for path, _ in folders]
    modalities = tuple(name for name in MODALITIES if any(name in found for _, found in folders))
    pairing = _choose_pairing(job, modalities)
    records, class_names, unlisted, absent = _records(job, paths)
    copied = frozenset(name for name in modalities if _is_jpeg(job, paths, name))
    return ExternalFolders(
        modalities=modalities,
        copied=copied,
        sources=[
            ExternalFolder(
                path=job.folder / path,
                record=record,
                modalities=modalities,
                pairing=pairing,
                fps=job.fps,
                copied=copied,
            )
            for path, record in zip(paths, records, strict=True)
        ],
        dataset={"dataset": job.dataset or "frames", "imported_from": str(job.folder.absolute())},
        class_names=class_names,
        described={"pairing": pairing, "fps": job.fps},
        unlisted=unlisted,
        absent=absent,
    )


def _choose_pairing(job: ImportJob, modalities: Sequence[str]) -> Pairing:
    """Return the pairing; UsageError where pairing, bound or frame rate are not given."""
    if job.layout and job.layout not in LAYOUTS:
        raise UsageError(f"{job.folder} is no {job.layout} export of flowpipe")
    named = LAYOUTS[job.layout].pairing if job.layout else None
    if named and job.pairing not in (None, named):
        raise UsageError(f"the layout {job.layout} has --pairing {named}")
    contexts = {MODALITIES[name].context for name in modalities}
    missing = []
    if len(contexts) > 1 and not (named or job.pairing):
        missing.append(
            "which frame has the number of a flow field: --pairing start (denseflow, mmaction2: "
            "flow_x_00007 goes from img_00007 to img_00008) or --pairing end (dense_flow of TSN: "
            "from img_00006 to img_00007)"
        )
    if any(MODALITIES[name].is_flow for name in modalities) and not job.bound:
        missing.append(
            "how many pixels the bytes 0 and 255 of flow stand for: --bound 20 (TSN, mmaction2; "
            "the default of denseflow is 32, of dense_flow 15)"
        )
    if not job.fps:
        missing.append("the frame rate, frames per second: --fps 25")
    if missing:
        raise UsageError(
            f"{job.folder} was not exported by flowpipe; also give\n  " + "\n  ".join(missing)
        )
    return named or job.pairing or "start"


def _is_jpeg(job: ImportJob, paths: Sequence[str], modality: str) -> bool:
    """Return whether the files of a sample of the folders are JPEG in colour."""
    pattern = FOLDER_PATTERNS[modality]
    return MODALITIES[modality].is_colour and not any(
        pattern.fullmatch(file.name) and file.name.endswith(".png")
        for path in paths[:: max(1, len(paths) // _SAMPLED_FOLDERS)]
        for file in os.scandir(job.folder / path)
    )


def _records(
    job: ImportJob, paths: Sequence[str]
) -> tuple[list[VideoRecord], tuple[str, ...], list[str], list[str]]:
    """Return records of the folders, class names, unlisted folders, and absent listed folders."""
    last = [path.rpartition("/")[2] for path in paths]
    ids = last if len(set(last)) == len(last) else list(paths)
    unlisted: list[str] = []
    absent: list[str] = []
    class_names = job.class_names
    if job.labels:
        found = _match(job.labels, paths)
        labels = [_join(job.labels[name] for name in found.get(path, ())) for path in paths]
        splits = [_join(job.splits[name] for name in found.get(path, ())) for path in paths]
        unlisted = [path for path in paths if path not in found]
        absent = sorted(set(job.labels) - set(chain.from_iterable(found.values())))
        most = max((label for own in job.labels.values() for label in own), default=-1)
        if class_names and most >= len(class_names):
            raise UsageError(
                f"the lists have label {most}, but --class-names has "
                f"{count_noun(len(class_names), 'name')}; labels count from 0"
            )
        class_names = class_names or tuple(map(str, range(most + 1)))
    else:
        parents = [path.partition("/")[0] if path.count("/") == 1 else "" for path in paths]
        if all(parents):
            class_names = class_names or tuple(sorted(set(parents)))
            strange = sorted(set(parents) - set(class_names))
            if strange:
                raise UsageError(f"the class names lack {', '.join(strange)}")
        labels = [(class_names.index(parent),) if all(parents) else () for parent in parents]
        splits = [()] * len(paths)
    records = [
        VideoRecord(video_id, str(job.folder / path), labels=own, splits=parts)
        for video_id, path, own, parts in zip(ids, paths, labels, splits, strict=True)
    ]
    return records, class_names, unlisted, absent


def _match(listed: Collection[str], paths: Sequence[str]) -> dict[str, list[str]]:
    """Return, by folder, the paths that lists give it.

    Folders are compared by as many last names as distinguish the listed ones, because lists may
    write one folder differently: `/data/frames/run/2` and `run/2`.
    """
    for names in (1, 2, 3):
        by_end: dict[str, list[str]] = {}
        for path in listed:
            by_end.setdefault(_end(path, names), []).append(path)
        shortest = {end: min(same, key=len) for end, same in by_end.items()}
        if all(
            f"/{path}".endswith("/" + shortest[end].lstrip("/"))
            for end, same in by_end.items()
            for path in same
        ):
            found = {path: by_end.get(_end(path, names), []) for path in paths}
            return {path: same for path, same in found.items() if same}
    raise UsageError("the lists name folders that differ in more than their last three names")


def _end(path: str, names: int) -> str:
    return "/".join(path.split("/")[-names:])


def _join(values: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    """Concatenate values; each is kept once."""
    return tuple(dict.fromkeys(chain.from_iterable(values)))
