"""Folder of a training run -> its description, as rows of text and as values for JSON."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from flowpipe import strict
from flowpipe.errors import FormatError
from flowpipe.tsn.recipe import LOG_FILE, RUN_FILE
from flowpipe.words import count_noun, list_some

_SHOWN = 12


def run_facts(folder: Path) -> dict[str, Any]:
    """Return the facts of a run, its log and the names of its checkpoints as values for JSON.

    Raises
    ------
    FormatError
        If a file of the run cannot be read.
    """
    facts: dict[str, Any] = strict.read_json(folder / RUN_FILE)
    log = folder / LOG_FILE
    try:
        with log.open(newline="", encoding="utf-8") as file:
            epochs = [
                {key: _number(text) for key, text in row.items()} for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        epochs = []
    except (OSError, ValueError, csv.Error) as error:
        raise FormatError(f"{log} cannot be read: {error}") from error
    names = sorted(path.stem for path in folder.glob("*.pt"))
    return {"run": str(folder), **facts, "epochs": epochs, "checkpoints": names}


def _number(text: str | None) -> float | None:
    number = float(text) if text else math.nan
    return number if math.isfinite(number) else None


def run_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a row of heading and text for each fact of a run; an empty text is left out."""
    stream, epochs = facts.get("stream", {}), facts["epochs"]
    names = list(map(str, facts.get("class_names", ())))
    trained_on = [name for name in (facts.get("dataset"), *facts.get("also", ())) if name]
    best = max(
        (row for row in epochs if row.get("val_accuracy") is not None),
        key=lambda row: row["val_accuracy"], default=None,
    )  # fmt: skip
    accuracy = (
        f"; best validation accuracy {100 * best['val_accuracy']:.2f} % in epoch {best['epoch']:g}"
        if best else ""
    )  # fmt: skip
    snippets = count_noun(int(stream.get("segments", 0)), "segment")
    images = count_noun(int(stream.get("snippet_length", 0)), "image")
    return [
        ("run", facts["run"]),
        ("stream", f"{facts.get('modality')}, split {facts.get('split')}"),
        ("data set", ", ".join(trained_on)),
        ("classes", f"{len(names)}: {list_some(names, _SHOWN)}"),
        ("network", f"{stream.get('backbone')}, {snippets} of {images}, consensus "
                    f"{stream.get('consensus')}, dropout {stream.get('dropout')}"),
        ("input", f"sampling {stream.get('sampling')}, pixels {stream.get('pixels')}"),
        ("adopted from", str(facts.get("adopted") or "")),
        ("trained", f"{count_noun(len(epochs), 'epoch')}{accuracy}" if epochs else "no epoch yet"),
        ("checkpoints", ", ".join(facts["checkpoints"]) or "none"),
    ]  # fmt: skip
