"""Frame folders or tars -> store: exports of flowpipe by their notes, others by ImportJob."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flowpipe import __version__, params, strict
from flowpipe.codec import JpegLsParams, JpegParams
from flowpipe.errors import FormatError, UsageError
from flowpipe.exchange import external
from flowpipe.exchange.incoming import ExportedFolder, ExportedTar, ImportSource, IncomingVideo
from flowpipe.exchange.job import Imported, ImportJob
from flowpipe.exchange.layouts import WEBDATASET
from flowpipe.exchange.processes import run_jobs
from flowpipe.exchange.sidecar import StoreSidecar, notes_path
from flowpipe.exchange.tars import TAR_NAME
from flowpipe.modality import MODALITIES, quantiser_of
from flowpipe.store import ShardWriter, StreamSpec, create_store, open_store, sweep
from flowpipe.types import Span

_VIDEOS_A_SHARD = 200


@dataclass(frozen=True, kw_only=True)
class _Target:
    """The store that all shards of an import go to."""

    store: Path
    recipe: str
    digest: str
    backend: Mapping[str, Any]
    streams: Mapping[str, StreamSpec]
    there: frozenset[str]
    """Ids of the videos that the store already has."""
    shards: tuple[str, ...]
    """Existing shards, whose names new shards must not take."""


@dataclass(frozen=True)
class _Plan:
    target: _Target
    shards: Sequence[Sequence[ImportSource]]
    unlisted: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def import_folder(job: ImportJob, progress: Callable[[int, int], None]) -> Imported:
    """Make a store of frame folders or tars.

    A second run adds only what is missing. JPEG files in colour become payloads unchanged. All
    others are stored losslessly as JPEG-LS, flow among them: its x and y are separate files.

    Parameters
    ----------
    job : ImportJob
        What to import, and how.
    progress : callable
        Called with (folders or tars done, folders or tars in all).

    Returns
    -------
    Imported
        Counts of what was stored.

    Raises
    ------
    UsageError
        If the job lacks something that the folder does not tell, or contradicts the notes of an
        export.
    FormatError
        If there is nothing to import.
    RecipeError
        If the store was made from another import or by extraction.
    """
    notes = StoreSidecar.read(job.folder)
    plan = _foreign(job) if notes is None else _plan_own(job, notes)
    sweep(job.store)
    total = Imported(unlisted=plan.unlisted, absent=plan.absent)
    steps = [partial(_write_shard, plan.target, sources) for sources in plan.shards]
    count, done = sum(map(len, plan.shards)), 0
    for sources, part in run_jobs(_call, steps, job.workers):
        total.add(part)
        done += sources
        progress(done, count)
    open_store(job.store)  # writes the index
    return total


def _plan_own(job: ImportJob, notes: StoreSidecar) -> _Plan:
    if job.layout or job.pairing or job.bound or job.fps or job.labels or job.class_names:
        raise UsageError(
            f"{job.folder} was exported by flowpipe, and its notes describe it; leave out all "
            "options that describe the folder"
        )
    modalities = tuple(notes.extensions)
    copied = frozenset(
        name
        for name in modalities
        if notes.layout == WEBDATASET
        or (MODALITIES[name].is_colour and notes.codecs[name]["name"] == JpegParams.name)
    )
    original = strict.parse_json(notes.recipe, f"the recipe in the notes of {job.folder}")
    same = notes.layout == WEBDATASET and set(original.get("modalities", ())) == set(modalities)
    made = {"layout": notes.layout, "files": notes.extensions, "of": original}
    recipe = original if same else _recipe(modalities, original.get("bound", 0.0), made)
    streams = {
        name: StreamSpec(
            notes.codecs[name] if name in copied else JpegLsParams(), notes.quantisers[name]
        )
        for name in modalities
    }
    target = _target(job, recipe, streams, notes.dataset, notes.class_names)
    if notes.layout == WEBDATASET:
        tars = sorted(path for path in job.folder.iterdir() if TAR_NAME.fullmatch(path.name))
        return _Plan(target, [[ExportedTar(path)] for path in tars])
    root = notes_path(job.folder, "x").parent
    kept = sorted(path.relative_to(root) for path in root.rglob("*.npz"))
    sources: list[ImportSource] = [
        ExportedFolder(
            job.folder / path.with_name(path.name.removesuffix(".npz")), root / path,
            notes.layout, notes.extensions, copied,
        )
        for path in kept
    ]  # fmt: skip
    return _Plan(target, _group_sources(sources))


def _foreign(job: ImportJob) -> _Plan:
    found = external.find_videos(job)
    recipe = _recipe(found.modalities, job.bound, found.described)
    streams = {
        name: StreamSpec(
            {"name": JpegParams.name} if name in found.copied else JpegLsParams(),
            quantiser_of(name, job.bound),
        )
        for name in found.modalities
    }
    target = _target(job, recipe, streams, found.dataset, found.class_names)
    return _Plan(target, _group_sources(found.sources), found.unlisted, found.absent)


def _recipe(modalities: Sequence[str], bound: float, imported: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe of an import; imports with equal recipes may go to one store."""
    return {"modalities": list(modalities), "bound": bound, "imported": dict(imported)}


def _target(
    job: ImportJob,
    recipe: Mapping[str, Any],
    streams: Mapping[str, StreamSpec],
    dataset: Mapping[str, Any],
    class_names: Sequence[str],
) -> _Target:
    """Create the store, or open an existing one."""
    create_store(
        job.store,
        recipe=params.canonical(recipe),
        recipe_digest=params.digest(recipe),
        dataset=dataset,
        class_names=class_names,
    )
    store = open_store(job.store)
    return _Target(
        store=job.store,
        recipe=params.canonical(recipe),
        digest=params.digest(recipe),
        backend={"imported": True, "flowpipe": __version__},
        streams=streams,
        there=frozenset(store.videos),
        shards=store.shards,
    )


def _group_sources(sources: Sequence[ImportSource]) -> list[Sequence[ImportSource]]:
    return [sources[k : k + _VIDEOS_A_SHARD] for k in range(0, len(sources), _VIDEOS_A_SHARD)]


def _write_shard(target: _Target, sources: Sequence[ImportSource]) -> tuple[int, Imported]:
    """Write one shard of the videos that the store lacks; skip videos that fail."""
    done = Imported()
    key = "\n".join((*target.shards, "", *(str(source.path) for source in sources)))
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    with ShardWriter(
        target.store / "shards" / f"import-{name}.h5",
        recipe=target.recipe,
        recipe_digest=target.digest,
        backend=target.backend,
        streams=target.streams,
    ) as shard:
        for source in sources:
            try:
                for incoming in source.videos():
                    if incoming.record.video_id in target.there:
                        done.already += 1
                    else:
                        _store(shard, incoming)
                        done.videos += 1
            except (FormatError, ValueError) as error:
                shard.rollback()
                done.failed.append((str(source.path), str(error)))
        if shard.entries:
            shard.publish()
    return len(sources), done


def _store(shard: ShardWriter, incoming: IncomingVideo) -> None:
    shard.begin(Span(incoming.record))
    for encoded in incoming.images:
        shard.append(encoded)
    shard.append_pts(incoming.pts_s)
    shard.commit(incoming.meta)


def _call(step: Callable[[], tuple[int, Imported]]) -> tuple[int, Imported]:
    return step()
