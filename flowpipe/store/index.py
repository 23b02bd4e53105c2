"""Store folder -> its current catalogue; only new and changed shards are read.

The index is derived from shards and manifest. It can be deleted at any time and is rebuilt.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flowpipe.errors import FlowpipeError, FormatError, is_storage_failure
from flowpipe.store import layout
from flowpipe.store.catalogue import Catalogue, merge
from flowpipe.store.index_file import IndexedState, Shards, read_index, write_index
from flowpipe.store.manifest import Manifest, manifest_files, read_manifest
from flowpipe.store.rows import ShardFacts, ShardRows, check_bounds, facts_of, rows_of
from flowpipe.store.shard import open_shard, read_shard
from flowpipe.words import count_noun, list_some

Stats = Mapping[str, tuple[int, int]]
"""Size, bytes, and time of change, ns, of each shard by file name."""
UNSEEN = -1, -1
"""Size and time of change of a shard that is gone, or is a broken link."""


@dataclass(frozen=True)
class OpenedCatalogue:
    """Catalogue of a store, and the shards that are not in it."""

    catalogue: Catalogue
    sources: IndexedState
    broken: dict[str, str]
    """Fault of each shard that cannot be read, by file name."""

    @property
    def left_out(self) -> dict[str, str]:
        """Fault of each shard that cannot be read or has another recipe, by file name."""
        return self.broken | {name: why for name, (_, _, why) in self.sources.left_out.items()}

    def describe_damage(self, store: Path) -> str:
        """Describe the shards that are gone or left out.

        Parameters
        ----------
        store : Path
            Folder of the store.

        Returns
        -------
        str
            Description; empty if there are none.
        """
        lost, parts = self.sources.lost, []
        if lost:
            parts.append(f"{count_noun(len(lost), 'published shard')} gone ({list_some(lost, 1)})")
        if self.left_out:
            name, why = next(iter(self.left_out.items()))
            parts.append(f"{count_noun(len(self.left_out), 'shard')} left out ({name}: {why})")
        if not parts:
            return ""
        return f"{store}: {'; '.join(parts)}; run `flowpipe verify {store} --repair`"


def open_catalogue(
    store: Path, recipe_digest: str, *, refresh: bool = True, skip_broken: bool = False
) -> OpenedCatalogue:
    """Return the current catalogue of a store.

    Parameters
    ----------
    store : Path
        Folder of the store.
    recipe_digest : str
        Shards of another recipe are left out.
    refresh : bool
        Write the index if it is missing or outdated and the folder may be written to.
    skip_broken : bool
        Leave out shards that cannot be read instead of raising an error.

    Returns
    -------
    OpenedCatalogue
        Catalogue, and what is left out of it.

    Raises
    ------
    FormatError
        If a shard cannot be read and `skip_broken` is false. If the storage failed, in either case,
        with the reason ``io``: the shard may be good.
    """
    stats, manifest_sizes = shard_stats(store), manifest_files(store)
    known, sources = _read_known(store, recipe_digest)
    if known is not None and sources is not None:
        shards = known.shards
        assert isinstance(shards, Shards)
        left_out = {name: (size, time) for name, (size, time, _) in sources.left_out.items()}
        if shards.stats() | left_out == stats and sources.manifest == manifest_sizes:
            return OpenedCatalogue(known, sources, {})
    made = _update(store, recipe_digest, known, sources, stats)
    if made.broken and not skip_broken:
        raise FormatError(
            f"{next(iter(made.broken.values()))}\nrun `flowpipe verify {store} --repair`, or open "
            "the store with skip_broken=True to leave this shard out"
        )
    if refresh:
        # A reader without write permission, or on a full disk, works without the index.
        with contextlib.suppress(OSError, FlowpipeError):
            write_index(store, made.catalogue, made.sources)
    return made


def make_catalogue(store: Path, recipe_digest: str) -> OpenedCatalogue:
    """Make the catalogue of a store from its shards and manifest, ignoring the index.

    Parameters
    ----------
    store : Path
        Folder of the store.
    recipe_digest : str
        Shards of another recipe are left out.

    Returns
    -------
    OpenedCatalogue
        Catalogue, and what is left out of it.
    """
    return _update(store, recipe_digest, None, None, shard_stats(store))


def shard_paths(store: Path) -> list[Path]:
    """List the shards of a store.

    Parameters
    ----------
    store : Path
        Folder of the store.

    Returns
    -------
    list of Path
        Files, in name order.
    """
    return [store / layout.SHARDS_FOLDER / name for name in sorted(_shard_names(store))]


def shard_stats(store: Path) -> dict[str, tuple[int, int]]:
    """Look up size and time of change of each shard.

    Parameters
    ----------
    store : Path
        Folder of the store.

    Returns
    -------
    dict
        (bytes, ns) by file name; `UNSEEN` if the status cannot be read.

    Raises
    ------
    FormatError
        With the reason ``io`` if the storage fails.
    """
    folder, stats = store / layout.SHARDS_FOLDER, {}
    for name in sorted(_shard_names(store)):
        try:
            status = os.stat(folder / name)
            stats[name] = status.st_size, status.st_mtime_ns
        except OSError as error:
            if is_storage_failure(error):
                raise layout.broken_clause(
                    "S07", f"{name} cannot be read: {error.strerror}", error
                ) from error
            stats[name] = UNSEEN
    return stats


def _shard_names(store: Path) -> list[str]:
    try:
        with os.scandir(store / layout.SHARDS_FOLDER) as entries:
            return [entry.name for entry in entries if layout.SHARD_NAME.fullmatch(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read_known(store: Path, recipe_digest: str) -> tuple[Catalogue | None, IndexedState | None]:
    """Read the index; (None, None) if it is missing, damaged or of another recipe."""
    try:
        catalogue, sources = read_index(store)
    except FormatError:
        return None, None
    return (catalogue, sources) if sources.recipe_digest == recipe_digest else (None, None)


def _update(
    store: Path, digest: str, known: Catalogue | None, sources: IndexedState | None, stats: Stats
) -> OpenedCatalogue:
    """Keep the unchanged shards of the known catalogue, read the others, and merge."""
    manifest = read_manifest(store, keys=False)
    kept = _select_unchanged(store, known, sources, stats, manifest) if known and sources else {}
    broken: dict[str, str] = {}
    left_out: dict[str, tuple[int, int, str]] = {}
    pieces: list[ShardRows] = []
    if known and kept:
        rows = known.table.rows(known.shards, list(kept))
        pieces.append(replace(rows, facts=list(kept.values())))
    there = {facts.name for facts in kept.values()}
    for name, (size, mtime_ns) in stats.items():
        if name in there:
            continue
        if sources and sources.left_out.get(name, ())[:2] == (size, mtime_ns):
            left_out[name] = sources.left_out[name]
            continue
        try:
            piece = _read(store, name, (size, mtime_ns), manifest)
        except FormatError as error:
            if is_storage_failure(error):
                raise
            broken[name] = str(error)
            continue
        (facts,) = piece.facts
        if facts.recipe_digest != digest:
            message = f"shard {name} was made with another recipe ({facts.recipe_digest[:12]})"
            left_out[name] = size, mtime_ns, f"S04: {message} than the store ({digest[:12]})"
        else:
            pieces.append(piece)
    catalogue = merge(pieces)
    seals = {facts.name: facts.seal for facts in catalogue.shards}
    lost = tuple(n for n in manifest.lost(seals) if n not in broken and n not in left_out)
    return OpenedCatalogue(
        catalogue,
        IndexedState(
            recipe_digest=digest,
            manifest=manifest.read,
            left_out=left_out,
            lost=lost,
            relabels=dict(manifest.relabels),
            class_names=manifest.class_names,
            dataset=manifest.dataset,
        ),
        broken,
    )


def _read(store: Path, name: str, stat: tuple[int, int], manifest: Manifest) -> ShardRows:
    shard = read_shard(store / layout.SHARDS_FOLDER / name)
    if stat == UNSEEN:
        raise layout.broken_clause("S07", f"{name} was put there while the store was opened")
    check_bounds(shard)
    facts = facts_of(shard, *stat)
    return rows_of(shard, facts, manifest.records.get((name, facts.seal), {}))


def _select_unchanged(
    store: Path, known: Catalogue, sources: IndexedState, stats: Stats, manifest: Manifest
) -> dict[int, ShardFacts]:
    """Return, by number, the shards of a known catalogue whose content and records are the same."""
    kept = {}
    for number, facts in enumerate(known.shards):
        size, mtime_ns = stats.get(facts.name, UNSEEN)
        relabelled = manifest.relabels[facts.name] != sources.relabels.get(facts.name, 0)
        if size != facts.size or relabelled:
            continue
        if mtime_ns == facts.mtime_ns or _seal_of(store, facts.name) == facts.seal:
            kept[number] = replace(facts, mtime_ns=mtime_ns)
    return kept


def _seal_of(store: Path, name: str) -> str:
    try:
        with open_shard(store / layout.SHARDS_FOLDER / name) as file:
            return str(file.attrs.get(layout.ATTR_SEAL))
    except Exception:  # damage makes HDF5 raise nearly anything; the shard is then read anew
        return ""
