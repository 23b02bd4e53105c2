"""Store -> frame folders or webdataset tars, with the list files that other trainers read."""

from __future__ import annotations

import hashlib
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from flowpipe.atomic import draft_name, sweep, translate_full_disk
from flowpipe.errors import UsageError
from flowpipe.exchange import lists, tars
from flowpipe.exchange.image_files import ImageFileWriter
from flowpipe.exchange.job import WINDOW, Exported, ExportJob, open_cached
from flowpipe.exchange.layouts import LAYOUTS, WEBDATASET, FolderLayout, file_names, folder_paths
from flowpipe.exchange.processes import run_jobs
from flowpipe.exchange.sidecar import FOLDER, StoreSidecar, VideoSidecar, notes_path, read_video_id
from flowpipe.modality import MODALITIES
from flowpipe.store import Store
from flowpipe.words import unknown_name

Step = Callable[[], Exported]
_VIDEOS_A_JOB = 8


def export_store(job: ExportJob, progress: Callable[[int, int], None]) -> Exported:
    """Write the videos of a store as files of another layout.

    A second run writes only what is missing.

    Parameters
    ----------
    job : ExportJob
        What to export, and how.
    progress : callable
        Called with (videos done, videos in all).

    Returns
    -------
    Exported
        Counts of what was written.

    Raises
    ------
    UsageError
        If the store lacks a requested modality or split, or the folder holds another export.
    FormatError
        If a payload is damaged; the message names the video.
    DiskFullError, UnwritableError
        If the folder cannot be written to.
    """
    store = open_cached(job.store)
    modalities, videos = _modalities(store, job.modalities), _chosen(store, job.only)
    total = Exported()
    folders: dict[str, str] = {}
    if job.layout == WEBDATASET:
        steps = _tar_steps(job, store, modalities, videos)
    else:
        folders = folders_of(store, videos, LAYOUTS[job.layout])
        steps = _folder_steps(job, store, modalities, folders)
    _sweep(job, folders.values())
    for part in run_jobs(_call, steps, job.workers):
        total.add(part)
        progress(total.videos + total.already, len(videos))
    total.lists = lists.write_class_names(store, job.out)
    if job.layout != WEBDATASET:
        layout = LAYOUTS[job.layout]
        total.lists += lists.write_lists(store, job.out, layout, modalities, folders)
    return total


def _sweep(job: ExportJob, folders: Iterable[str]) -> None:
    """Remove the drafts of tars, or of videos and their notes, that killed exports left."""
    targets = [job.out / "tar", job.out / FOLDER / "notes"]
    targets += [path for name in folders for path in (job.out / name, notes_path(job.out, name))]
    for parent in {path.parent for path in targets}:
        sweep(parent)


def _tar_steps(
    job: ExportJob, store: Store, modalities: tuple[str, ...], videos: Sequence[str]
) -> list[Step]:
    groups = tars.group_by_size(store, videos, modalities, job.tar_bytes)
    content = hashlib.sha256("\n\n".join(map("\n".join, groups)).encode()).hexdigest()
    files = dict.fromkeys(modalities, "")
    StoreSidecar.of_store(store, WEBDATASET, files, content=content).write(job.out)
    return [
        partial(tars.write_tar, job, modalities, number, ids) for number, ids in enumerate(groups)
    ]


def _folder_steps(
    job: ExportJob, store: Store, modalities: tuple[str, ...], folders: Mapping[str, str]
) -> list[Step]:
    made = {name: _pictures(store, name, job) for name in modalities}
    extensions = {name: pictures.extension for name, pictures in made.items()}
    StoreSidecar.of_store(store, job.layout, extensions, quality=job.quality).write(job.out)
    pairs = list(folders.items())
    return [
        partial(_export_videos, job, modalities, pairs[k : k + _VIDEOS_A_JOB])
        for k in range(0, len(pairs), _VIDEOS_A_JOB)
    ]


def folders_of(store: Store, videos: Sequence[str], layout: FolderLayout) -> dict[str, str]:
    """Return the folders of videos below the root of an export.

    The folder of a video does not depend on which others are exported with it.

    Parameters
    ----------
    store : Store
        Store of the videos.
    videos : sequence of str
        Their ids.
    layout : FolderLayout
        Layout of the export.

    Returns
    -------
    dict of str to str
        Folder by id.
    """
    names = store.header.class_names
    wanted = {}
    for video_id in store.videos:
        labels = store.videos[video_id].labels if layout.by_class else ()
        single = len(labels) == 1 and labels[0] < len(names)
        parent = f"{names[labels[0]].replace('/', '_')}/" if single else ""
        # The id begins with the class where the data set is a tree of folders.
        own = video_id
        if single and video_id.startswith(f"{names[labels[0]]}/"):
            own = video_id[len(names[labels[0]]) + 1 :]
        wanted[video_id] = parent + own
    folders = folder_paths(wanted)
    return {video_id: folders[video_id] for video_id in videos}


def _export_videos(
    job: ExportJob, modalities: tuple[str, ...], videos: Sequence[tuple[str, str]]
) -> Exported:
    total, store = Exported(), open_cached(job.store)
    for video_id, folder in videos:
        notes = notes_path(job.out, folder)
        if (job.out / folder).is_dir() and read_video_id(notes) == video_id:
            total.already += 1
            continue
        final = job.out / folder
        draft = draft_name(final)
        draft.mkdir(parents=True)
        crcs: dict[str, list[tuple[int, ...]]] = {}
        try:
            with translate_full_disk(final, "folder"):
                for modality, names, contents in _files(store, video_id, job, modalities, total):
                    for name, content in zip(names, contents, strict=True):
                        (draft / name).write_bytes(content)
                        total.files += 1
                        total.bytes += len(content)
                    crcs.setdefault(modality, []).append(tuple(map(zlib.crc32, contents)))
                shutil.rmtree(final, ignore_errors=True)  # left by a run that was killed
                draft.replace(final)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        _notes_of(store, video_id, job, modalities, crcs).write(notes)
        total.videos += 1
    return total


def _files(
    store: Store, video_id: str, job: ExportJob, modalities: tuple[str, ...], total: Exported
) -> Iterator[tuple[str, tuple[str, ...], tuple[bytes, ...]]]:
    """Yield (modality, names, contents) of the files of every image of a video."""
    layout = LAYOUTS[job.layout]
    for modality in modalities:
        made = _pictures(store, modality, job)
        count = store.videos[video_id].images[modality]
        for start in range(layout.count_skipped(modality), count, WINDOW):
            window = store.read_payloads(
                video_id, modality, start, min(WINDOW, count - start), check=True
            )
            for k, contents in enumerate(made.files(window), start):
                number = layout.number(modality, k)
                yield modality, file_names(modality, number, made.extension), contents
        total.difference_sum += made.difference_sum
        total.differences += made.differences


def _notes_of(
    store: Store,
    video_id: str,
    job: ExportJob,
    modalities: tuple[str, ...],
    crcs: Mapping[str, list[tuple[int, ...]]],
) -> VideoSidecar:
    """Return the notes of a video, with the payloads that its files do not hold."""
    notes, layout = VideoSidecar.of_video(store, video_id, modalities), LAYOUTS[job.layout]
    for modality in modalities:
        count = layout.count_skipped(modality)
        if job.exact and not _pictures(store, modality, job).keeps:
            count = notes.images[modality]
            notes.crcs[modality] = np.array(crcs.get(modality, []), np.uint32)
        kept = store.read_payloads(
            video_id, modality, 0, min(count, notes.images[modality]), check=True
        )
        notes.payloads[modality] = [bytes(payload) for payload in kept]
    return notes


def _pictures(store: Store, modality: str, job: ExportJob) -> ImageFileWriter:
    return ImageFileWriter(modality, store.codec(modality)["name"], job.extension, job.quality)


def _modalities(store: Store, wanted: tuple[str, ...]) -> tuple[str, ...]:
    for name in wanted:
        if name not in store.modalities:
            raise UsageError(f"{store.path}: {unknown_name('modality', name, store.modalities)}")
    return tuple(name for name in MODALITIES if name in (wanted or store.modalities))


def _chosen(store: Store, only: tuple[str, ...]) -> list[str]:
    if not store.videos:
        raise UsageError(f"{store.path} has no videos")
    known = sorted({n for v in store.videos.values() for n in (v.subset, *v.splits) if n})
    for name in only:
        if name not in known:
            raise UsageError(f"{store.path}: {unknown_name('subset or split', name, known)}")
    return [
        video_id
        for video_id, video in store.videos.items()
        if not only or video.subset in only or set(only).intersection(video.splits)
    ]


def _call(step: Step) -> Exported:
    return step()
