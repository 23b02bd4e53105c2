"""A frame and lines of text -> the frame with the text in its lower left corner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flowpipe.report.page import PAPER, Page, text_width

_SHARE = 22
"""Height of a frame over the size of its text."""
_SHADE = 0.45
"""Brightness of the frame behind the text."""


def draw_caption(frame: NDArray[np.uint8], lines: Sequence[str]) -> NDArray[np.uint8]:
    """Write lines of text on a darkened part of a frame.

    Parameters
    ----------
    frame : uint8 (H, W, 3)
        RGB; it is not changed.
    lines : sequence of str
        The first one is bold.

    Returns
    -------
    uint8 (H, W, 3)
        RGB.
    """
    height, width = frame.shape[:2]
    page = Page(width, height)
    page.pixels[:] = frame
    if not lines:
        return page.pixels
    size = max(10, height // _SHARE)
    step = size * 3 // 2
    wide = min(width, max(text_width(text, size, bold=True) for text in lines) + 2 * size)
    top = max(0, height - step * len(lines) - size)
    behind = page.pixels[top:, :wide]
    behind[:] = (behind * _SHADE).astype(np.uint8)
    for number, text in enumerate(lines):
        page.write(
            text, size, top + step * (number + 1), size, bold=number == 0, colour=PAPER,
            width=wide - size,
        )  # fmt: skip
    return page.pixels
