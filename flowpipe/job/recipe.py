"""Arguments that change a recipe -> settings, and a recipe that this machine can carry out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flowpipe.errors import UsageError
from flowpipe.extraction.recipe import ExtractRecipe
from flowpipe.ops.cpu import native_core
from flowpipe.remote import is_url
from flowpipe.sizes import width_and_height


def check_boxes(recipe: ExtractRecipe, *, there: bool) -> None:
    """Raise UsageError if ``warp.boxes`` cannot be read, since every video would fail.

    Parameters
    ----------
    recipe : ExtractRecipe
        Recipe of the job.
    there : bool
        True if the workers have access to the files of this machine.
    """
    boxes = recipe.warp.boxes
    if not boxes or recipe.flows < 2:
        return
    if is_url(boxes):
        raise UsageError(f"warp.boxes {boxes} is a URL, and this must be a path on a local disk")
    if there and not Path(boxes).exists():
        raise UsageError(f"warp.boxes {boxes}: no such folder or .jsonl file")


def list_shorthand(
    *,
    modalities: str | None,
    size: str | None,
    short_side: int | None,
    fps: float | None,
    decoder: str | None,
    stream: int | None,
) -> list[str]:
    """Return the changes of a recipe that `extract_job` takes as separate arguments.

    Parameters
    ----------
    modalities, size : str or None
        Names with commas; ``WIDTHxHEIGHT``.
    short_side : int or None
        Pixels.
    fps : float or None
        Frame rate, frames per second.
    decoder : str or None
        Video decoder.
    stream : int or None
        Index of a video stream.

    Returns
    -------
    list of str
        Texts ``key=value``.
    """
    settings = []
    if modalities:
        settings.append(f"modalities=[{modalities}]")
    if size:
        width, height = width_and_height(size)
        settings.append(f"size={{width: {width}, height: {height}}}")
    if short_side:
        settings.append(f"size={{width: 0, height: 0, short_side: {short_side}}}")
    if fps:
        settings.append(f"video.fps={fps}")
    if decoder:
        settings.append(f"video.decoder={decoder}")
    if stream is not None:
        settings.append(f"video.stream={stream}")
    return settings


def without_core(values: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Replace ``tvl1`` by ``opencv_tvl1`` if the compiled core is missing.

    Parameters
    ----------
    values : dict
        Values of the extract section of a recipe.

    Returns
    -------
    values : dict
        The same, or a changed copy.
    warning : str
        Message that says what has been replaced and why; empty if nothing has been.
    """
    core = native_core()
    chosen = values.get("flow", {"name": "tvl1"})
    name = chosen.get("name", "tvl1") if isinstance(chosen, dict) else chosen
    if core.available or name != "tvl1":
        return values, ""
    warning = (
        "flow is computed by OpenCV's TV-L1, about 50 times slower than flowpipe's own, and "
        f"the store records it: {core.reason}"
    )
    return {**values, "flow": {"name": "opencv_tvl1"}}, warning
