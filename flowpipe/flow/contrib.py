"""Installed cv2 -> the contrib modules that it lacks and how to install them."""

from __future__ import annotations

from typing import Any

import cv2

from flowpipe.distribution import owners

__all__ = ["why_no_contrib", "replace_opencv"]


def why_no_contrib(what: str, names: tuple[str, ...], otherwise: str) -> str:
    """Explain what cv2 lacks for an algorithm.

    Parameters
    ----------
    what : str
        Setting of a recipe that needs the algorithm, such as ``flow opencv_tvl1``.
    names : tuple of str
        Names in cv2, such as ``optflow.DualTVL1OpticalFlow_create``; one is enough.
    otherwise : str
        Setting that needs no contrib module.

    Returns
    -------
    str
        What is lacking and what to do; "" if cv2 has the algorithm.
    """
    if any(_has(name) for name in names):
        return ""
    return (
        f"{what} needs OpenCV's contrib modules ({' or '.join(f'cv2.{name}' for name in names)}), "
        f"which this cv2 {cv2.__version__} lacks: {replace_opencv(owners('cv2'))}; or choose "
        f"{otherwise}, which needs no contrib module"
    )


def replace_opencv(installed: list[str]) -> str:
    """Return the command that installs OpenCV with contrib.

    Parameters
    ----------
    installed : list of str
        Installed distributions of OpenCV, which it removes.

    Returns
    -------
    str
        Command line of a shell.
    """
    with_windows = any("headless" not in name for name in installed)
    wanted = "opencv-contrib-python" + ("" if with_windows else "-headless")
    uninstall = f"pip uninstall -y {' '.join(installed)} && " if installed else ""
    return f"{uninstall}pip install {wanted}"


def _has(name: str) -> bool:
    found: Any = cv2
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is not None
