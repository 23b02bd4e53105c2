"""Recipe, data set <-> store.json, which is written once."""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flowpipe
from flowpipe import atomic, strict
from flowpipe.errors import FormatError, RecipeError
from flowpipe.store import layout
from flowpipe.words import count_noun, list_some

_MODALITIES = "modalities"
_FOLLOW = ("audio", "codecs", "warp")
"""Sections of a recipe whose values depend on its modalities."""


@dataclass(frozen=True, kw_only=True)
class StoreHeader:
    """Values of store.json, which all shards share."""

    format_version: str
    flowpipe_version: str
    recipe: dict[str, Any]
    recipe_digest: str
    """SHA-256 of the recipe's canonical JSON."""
    dataset: dict[str, Any]
    """JSON values that say where the videos come from."""
    class_names: tuple[str, ...]
    created_utc: str
    """ISO 8601."""


def create_store(
    path: str | Path,
    *,
    recipe: str,
    recipe_digest: str,
    dataset: Mapping[str, Any],
    class_names: Sequence[str],
) -> StoreHeader:
    """Create an empty store, or check that an existing one has the same recipe and classes.

    Several processes may call it at the same time: one writes, the others compare.

    Parameters
    ----------
    path : path
        Folder of the store; created if it is missing.
    recipe, recipe_digest : str
        Canonical JSON and its SHA-256.
    dataset : mapping
        JSON values that say where the videos come from.
    class_names : sequence of str
        Names of the classes, by label.

    Returns
    -------
    StoreHeader
        Header of the new or existing store.

    Raises
    ------
    ValueError
        If `recipe_digest` is not that of the recipe.
    RecipeError
        If the store was made with another recipe or other classes; the message lists what differs.
    FormatError
        If the folder holds a store.json that cannot be read, or of another major version.
    DiskFullError
        If the disk is full.
    """
    path = Path(path)
    if hashlib.sha256(recipe.encode()).hexdigest() != recipe_digest:
        raise ValueError("recipe_digest must be the SHA-256 of the recipe text")
    final = path / layout.STORE_FILE
    with atomic.translate_full_disk(final):
        (path / layout.SHARDS_FOLDER).mkdir(parents=True, exist_ok=True)
        if not final.exists():
            values = {
                layout.ATTR_FORMAT: layout.STORE_FORMAT,
                layout.ATTR_VERSION: layout.FORMAT_VERSION,
                layout.ATTR_FLOWPIPE: flowpipe.__version__,
                layout.ATTR_DIGEST: recipe_digest,
                layout.ATTR_RECIPE: recipe,
                "dataset": dict(dataset),
                "class_names": list(class_names),
                layout.ATTR_CREATED: _now(),
            }
            text = json.dumps(values, indent=1, allow_nan=False) + "\n"
            _write_once(final, text.encode())
    header = read_store_header(path)
    check_recipe(path, header, recipe_digest, json.loads(recipe))
    if class_names and header.class_names and tuple(class_names) != header.class_names:
        raise RecipeError(
            f"{path} has {count_noun(len(header.class_names), 'class', 'classes')} "
            f"({list_some(header.class_names)}) and these videos {len(class_names)} "
            f"({list_some(list(class_names))}): "
            "their labels would mix; choose another folder"
        )
    return header


def read_store_header(path: str | Path) -> StoreHeader:
    """Read and check store.json.

    Parameters
    ----------
    path : path
        Folder of the store.

    Returns
    -------
    StoreHeader
        Contents of store.json.

    Raises
    ------
    FormatError
        If there is none, or it is not as FORMAT.md says.
    """
    final = Path(path) / layout.STORE_FILE
    try:
        values = strict.read_json(final)
    except FileNotFoundError:
        raise FormatError(
            f"{path} is not a flowpipe store: it has no {layout.STORE_FILE}; make one with "
            "`flowpipe extract`"
        ) from None
    except FormatError as error:
        raise layout.broken_clause("S01", str(error), error) from error
    try:
        if values[layout.ATTR_FORMAT] != layout.STORE_FORMAT:
            raise layout.broken_clause("S01", f"{final} has format {values[layout.ATTR_FORMAT]!r}")
        layout.check_version(values[layout.ATTR_VERSION], final)
        text = values[layout.ATTR_RECIPE]
        if hashlib.sha256(text.encode()).hexdigest() != values[layout.ATTR_DIGEST]:
            raise layout.broken_clause("S02", f"{final}: the recipe does not have its digest")
        return StoreHeader(
            format_version=values[layout.ATTR_VERSION],
            flowpipe_version=values[layout.ATTR_FLOWPIPE],
            recipe=strict.parse_json(text, f"the recipe in {final}"),
            recipe_digest=values[layout.ATTR_DIGEST],
            dataset=dict(values["dataset"]),
            class_names=tuple(values["class_names"]),
            created_utc=values[layout.ATTR_CREATED],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise layout.broken_clause("S01", f"{final} lacks or mistypes {error}") from error


def check_recipe(
    path: str | Path, header: StoreHeader, digest: str, recipe: Mapping[str, Any] | None = None
) -> None:
    """Raise RecipeError, which lists the differences, unless a store was made with this recipe.

    Parameters
    ----------
    path : path
        Folder of the store, for the message.
    header : StoreHeader
        Header of the store.
    digest : str
        SHA-256 of the recipe.
    recipe : mapping, optional
        JSON values of the recipe, to list the differences.
    """
    if digest == header.recipe_digest:
        return
    different = ""
    if recipe is not None:
        different = ":\n" + "\n".join(_list_differences(header.recipe, recipe))
    raise RecipeError(
        f"{path} was made with another recipe ({header.recipe_digest[:12]}, this one is "
        f"{digest[:12]}); use the same recipe or another folder{different}"
    )


def _list_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return a line for each value, or section in only one of them, that differs."""
    different = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if _MODALITIES in different:  # what follows from them would hide them
        different = [_MODALITIES, *(k for k in different if k not in (_MODALITIES, *_FOLLOW))]
    lines = []
    for key in different:
        there, here = old.get(key), new.get(key)
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            lines += [f"  {key}.{line.lstrip()}" for line in _list_differences(there, here)]
        else:
            lines.append(f"  {key}: {_describe(there)} there, {_describe(here)} here")
    return lines


def _describe(value: Any) -> str:
    if value is None:
        return "absent"
    if isinstance(value, Mapping):
        return "present"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _write_once(final: Path, content: bytes) -> None:
    """Write a file that appears whole, and only if nobody else's did first."""
    temporary = atomic.draft_name(final)
    fd = atomic.create_exclusive(temporary)
    try:
        atomic.write_all(fd, content)
        os.fsync(fd)
        try:
            os.link(temporary, final)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            with contextlib.suppress(FileNotFoundError):  # file systems without hard links
                temporary.rename(final)
        atomic.sync_folder(final.parent)
    finally:
        os.close(fd)
        temporary.unlink(missing_ok=True)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
