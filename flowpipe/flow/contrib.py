"""This machine's cv2 -> what it lacks, in words, for the algorithms that not every OpenCV has."""

from __future__ import annotations

from typing import Any

import cv2

from flowpipe.distribution import owners

__all__ = ["contrib_lack", "replace_opencv"]


def contrib_lack(what: str, names: tuple[str, ...], otherwise: str) -> str:
    """Return what cv2 lacks for an algorithm and what to do; "" if it lacks nothing.

    Parameters
    ----------
    what : str
        The setting of a recipe that needs it, as ``flow opencv_tvl1``.
    names : tuple of str
        Places where OpenCV may have it, as ``optflow.DualTVL1OpticalFlow_create``; one is enough.
    otherwise : str
        The setting that needs none of them.
    """
    if any(_has(name) for name in names):
        return ""
    return (
        f"{what} needs OpenCV's contrib modules ({' or '.join(f'cv2.{name}' for name in names)}), "
        f"which this cv2 {cv2.__version__} lacks: {replace_opencv(owners('cv2'))}; or choose "
        f"{otherwise}, which needs no contrib module"
    )


def replace_opencv(installed: list[str]) -> str:
    """Return the commands that put one OpenCV with contrib in the place of these distributions."""
    with_windows = any("headless" not in name for name in installed)
    wanted = "opencv-contrib-python" + ("" if with_windows else "-headless")
    uninstall = f"pip uninstall -y {' '.join(installed)} && " if installed else ""
    return f"{uninstall}pip install {wanted}"


def _has(name: str) -> bool:
    found: Any = cv2
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is not None
