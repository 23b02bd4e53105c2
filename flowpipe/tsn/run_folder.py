"""Folder of a training run: its facts, checkpoints and log."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from flowpipe import params, strict
from flowpipe.atomic import atomic_file, write_atomic
from flowpipe.errors import FormatError, UsageError
from flowpipe.modality import HOMOGRAPHY, MODALITIES
from flowpipe.store.layout import STORE_FILE
from flowpipe.tsn.recipe import LOG_FILE, RUN_FILE, StreamParams, TestParams
from flowpipe.words import list_some

LAST, BEST, OF_EPOCH, EMA = "last.pt", "best.pt", "epoch-{:03d}.pt", "ema.pt"
"""Checkpoints: at the end, of the best validation, of an epoch; the averaged weights at the end."""
COLUMNS = (
    "epoch", "step", "lr", "train_loss", "train_accuracy", "train_top5", "val_loss", "val_accuracy",
    "val_top5", "val_map", "seconds", "stall_share", "snippets_per_s", "gradient_norm",
    "peak_memory_mb", "skipped_steps",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Facts of a run that testing it needs beside the weights."""

    modality: str
    split: int
    stored: str
    """Modality that is read: rgb where rgb_diff is made of frames."""
    stream: StreamParams
    test: TestParams
    seed: int
    class_names: tuple[str, ...]
    dataset: str
    recipe_digest: str
    """Digest of the extraction recipe of the store that it was trained on."""
    extraction: Mapping[str, Any]
    """Extraction recipe of the store, by which other videos are extracted alike."""
    also: tuple[str, ...] = ()
    """Data sets of other stores that it is trained on too."""
    adopted: str = ""
    """System whose weights the run began with: a key of `SYSTEMS`, or ``flowpipe``."""
    fusion: Mapping[str, float] = field(default_factory=dict)
    """Weight of each stream's scores in the recipe; empty in runs of older versions."""

    def describe_other_images(self, recipe: Mapping[str, Any]) -> str:
        """Describe how the images of another store were extracted otherwise than the run's own.

        Parameters
        ----------
        recipe : mapping
            Extraction recipe of the other store.

        Returns
        -------
        str
            The settings of the stored modality that differ; empty if there are none, or if one of
            the stores was imported.
        """
        modality = MODALITIES[self.stored]
        names = ["audio"] if modality.from_sound else ["size", "video"]
        if modality.is_flow:
            names += ["bound", "flow"]
        if HOMOGRAPHY in modality.columns:
            names.append("warp")
        if "imported" in self.extraction or "imported" in recipe:
            return ""
        own, other = (
            {name: one.get(name) for name in names}
            | {"codec": one.get("codecs", {}).get(self.stored)}
            for one in (self.extraction, recipe)
        )
        return list_some(differences(own, json.loads(json.dumps(other))), 4)

    def write(self, folder: Path) -> None:
        """Begin a run, or check that the one there is the same.

        Parameters
        ----------
        folder : Path
            Folder of the run.

        Raises
        ------
        UsageError
            If the folder has another run, or is a store.
        """
        path = folder / RUN_FILE
        text = json.dumps(params.plain(self), indent=1, ensure_ascii=False) + "\n"
        if path.exists():
            # A run of an older version has the defaults of fields that it does not know.
            there = params.plain(self.read(folder))
            kept = {name: there[name] for name in ("adopted", "fusion")}
            here = {**json.loads(text), **kept}
            different = differences(json.loads(json.dumps(there)), here)
            if different:
                raise UsageError(
                    f"{folder} has a run that differs from this one: {list_some(different, 8)}; "
                    "choose another folder or the same options"
                )
            return
        if (folder / STORE_FILE).exists():
            raise UsageError(f"{folder} is a flowpipe store; choose another folder for the run")
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode(), "facts of the run")

    @classmethod
    def read(cls, folder: Path) -> RunFacts:
        """Read the facts of a run.

        Parameters
        ----------
        folder : Path
            Folder of the run.

        Returns
        -------
        RunFacts
            The facts.

        Raises
        ------
        FormatError
            If the folder has none.
        """
        path = folder / RUN_FILE
        try:
            values = _up_to_date(strict.read_json(path))
            return params.build(cls, values, where=str(path))
        except FileNotFoundError:
            raise FormatError(f"{folder} is no run of flowpipe train: no {RUN_FILE}") from None
        except ValueError as error:
            raise FormatError(f"{path} cannot be read: {error}") from error


def _up_to_date(values: Any) -> Any:
    """Return the facts of an older run as a new one has them.

    Sampling and pixels stood beside the stream, and a test's `of_crops` was written as ``mean``
    where nobody had chosen it.
    """
    if isinstance(values, dict) and isinstance(values.get("stream"), dict) and "rule" in values:
        stream = {"sampling": values.pop("rule"), "pixels": values.pop("pixels", "") or "backbone"}
        values["stream"] |= stream
    test = values.get("test") if isinstance(values, dict) else None
    if isinstance(test, dict) and "consensus" not in test and test.get("of_crops") == "mean":
        del test["of_crops"]
    return values


def differences(there: Any, here: Any, key: str = "") -> list[str]:
    """List the values of two runs that differ.

    Parameters
    ----------
    there : object
        JSON values of the one run.
    here : object
        JSON values of the other run.
    key : str
        Name of the values, for the text.

    Returns
    -------
    list of str
        Texts such as ``stream.dropout is 0.5 there and 0.8 here``.
    """
    if isinstance(there, dict) and isinstance(here, dict):
        keys = sorted(there.keys() | here.keys())
        return [
            words
            for name in keys
            for words in differences(
                there.get(name), here.get(name), f"{key}.{name}" if key else name
            )
        ]
    if there == here:
        return []
    shown = (json.dumps(value, ensure_ascii=False) for value in (there, here))
    old, new = (text if len(text) <= 60 else f"{text[:57]}..." for text in shown)
    return [f"{key} is {old} there and {new} here"]


def save(path: Path, values: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically.

    Parameters
    ----------
    path : Path
        File to write.
    values : mapping
        Tensors and plain values.

    Raises
    ------
    DiskFullError, UsageError
        If the file cannot be written.
    """
    with atomic_file(path, "checkpoint") as draft, draft.open("wb") as file:
        try:
            torch.save(dict(values), file)
        except RuntimeError as error:
            # torch tells what it noticed last; what the system said came before it
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, without running code of it.

    Parameters
    ----------
    path : Path
        File to read.

    Returns
    -------
    dict
        Its values; the network is ``model``.

    Raises
    ------
    FormatError
        If the file is missing or is no checkpoint.
    """
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        values["model"]
    except FileNotFoundError as error:
        hint = "; only runs whose recipe has schedule.ema have one" if path.name == EMA else ""
        raise FormatError(f"no checkpoint at {path}{hint}; {there_are(path.parent)}") from error
    except Exception as error:  # whatever damage makes of a pickle
        raise FormatError(f"{path} cannot be read as a checkpoint: {reason_of(error)}") from error
    return values


def there_are(run: Path) -> str:
    """Describe which checkpoints a run has.

    Parameters
    ----------
    run : Path
        Folder of the run.

    Returns
    -------
    str
        One clause of a message.
    """
    names = sorted(path.stem for path in run.glob("*.pt"))
    if not names:
        return "the run has no checkpoint yet: run flowpipe train"
    return f"the run has {', '.join(names)}"


def reason_of(error: Exception) -> str:
    """Return what keeps torch from reading a file, without its advice to trust the file.

    Parameters
    ----------
    error : Exception
        Error of `torch.load`.

    Returns
    -------
    str
        Reason, at most 300 characters.
    """
    text = str(error)
    found = re.search(r"WeightsUnpickler error:\s*(.+?)(?:\. |\n|$)", text)
    return (found[1] if found else text)[:300]


def write_log(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write the log of all epochs so far.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    rows : list of dict
        Row of each epoch.
    """
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS)
    table.writeheader()
    table.writerows(rows)
    write_atomic(folder / LOG_FILE, text.getvalue().encode(), "log")
