"""Store, manifest -> manifest that agrees with the shards: adopt shards, rewrite, forget lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowpipe.store.catalogue import Catalogue
from flowpipe.store.header import read_store_header
from flowpipe.store.index import open_catalogue
from flowpipe.store.manifest import (
    Publication,
    log_published,
    log_removed,
    read_manifest,
    rewrite_manifest,
)


def adopt(store: Path) -> int:
    """Add shards to the manifest that it lacks.

    Their writer was killed before it logged them, or the store is older than manifests, or they
    were copied into the folder.

    Parameters
    ----------
    store : Path
        Folder of the store.

    Returns
    -------
    int
        Number of shards added.

    Raises
    ------
    DiskFullError, OSError
        If the manifest cannot be written.
    """
    catalogue = _catalogue(store)
    known = read_manifest(store, keys=False).published
    added = 0
    for number, facts in enumerate(catalogue.shards):
        if facts.name not in known:
            log_published(store, facts.name, facts.seal, _holds(catalogue, number))
            added += 1
    return added


def lost_shards(store: Path) -> dict[str, Publication]:
    """Find the shards that are gone or were replaced by another.

    Parameters
    ----------
    store : Path
        Folder of the store.

    Returns
    -------
    dict of str to Publication
        Publication of each, by file name.
    """
    seals = {facts.name: facts.seal for facts in _catalogue(store).shards}
    return read_manifest(store).lost(seals)


def forget_lost(store: Path, lost: dict[str, Publication]) -> None:
    """Remove the publications of lost shards; call it once their videos are stored again.

    Parameters
    ----------
    store : Path
        Folder of the store.
    lost : dict of str to Publication
        Result of `lost_shards`.
    """
    for name, last in lost.items():
        for one in read_manifest(store, keys=False).published.get(name, ()):
            if one.seal == last.seal or not (store / "shards" / name).exists():
                log_removed(store, name, one.seal)


def restore_manifest(store: Path) -> None:
    """Rewrite a damaged manifest from the existing shards; to a sound one only add shards.

    Parameters
    ----------
    store : Path
        Folder of the store.
    """
    catalogue = _catalogue(store)
    if read_manifest(store).faults:
        rewrite_manifest(
            store,
            (
                Publication(facts.name, facts.seal, tuple(_holds(catalogue, number)))
                for number, facts in enumerate(catalogue.shards)
            ),
        )
    else:
        adopt(store)


def _catalogue(store: Path) -> Catalogue:
    digest = read_store_header(store).recipe_digest
    return open_catalogue(store, digest, skip_broken=True).catalogue


def _holds(catalogue: Catalogue, number: int) -> list[tuple[str, int, int]]:
    """Return the keys of a shard's entries, also of those that another shard repeats (S24)."""
    table = catalogue.table
    rows = np.flatnonzero(table.columns["shard"] == number).tolist()
    part, parts = table.columns["part"], table.columns["parts"]
    return [(table.ids[row], int(part[row]), int(parts[row])) for row in rows]
