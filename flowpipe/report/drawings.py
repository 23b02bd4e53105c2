"""Images drawn for classes -> one page, or the pages of an animation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowpipe.atomic import write_atomic
from flowpipe.modality import MODALITIES, dequantise, quantiser_of
from flowpipe.report.colours import flow_colours
from flowpipe.report.page import SOFT, WARNING, Page

_MARGIN, _GAP, _HEAD = 24, 8, 44
_GIF_FPS = 5


@dataclass(frozen=True)
class Drawing:
    """Images drawn for one class by one network."""

    class_name: str
    run: str
    note: str
    """Line below the names; `is_wrong` colours it."""
    is_wrong: bool
    strips: tuple[NDArray[np.uint8], ...]
    """RGB pictures of consecutive times, uint8 (L, H, W, 3): one strip, or three of flow."""

    def at(self, time: int) -> Drawing:
        """Return the drawing at one of its times.

        Parameters
        ----------
        time : int
            Number of the time; the last one if the drawing has fewer.

        Returns
        -------
        Drawing
            Drawing with one time.
        """
        strips = tuple(strip[min(time, len(strip) - 1)][None] for strip in self.strips)
        return Drawing(self.class_name, self.run, self.note, self.is_wrong, strips)


def strips_of(
    modality: str, planes: NDArray[np.uint8], bound: float
) -> tuple[NDArray[np.uint8], ...]:
    """Return the strips of a `Drawing`: the images, or flow in colour and its x and y in gray.

    Parameters
    ----------
    modality : str
        Modality of the images.
    planes : uint8 (L, C, H, W)
        Images.
    bound : float
        Flow that byte 255 stands for, pixels.

    Returns
    -------
    tuple of uint8 (L, H, W, 3)
        One strip, or three for flow.
    """
    if not MODALITIES[modality].is_flow:
        return (np.ascontiguousarray(planes.transpose(0, 2, 3, 1)),)
    values = dequantise(planes, quantiser_of(modality, bound), modality)
    full = float(np.percentile(np.hypot(values[:, 0], values[:, 1]), 99))
    gray = (np.repeat(planes[:, k, :, :, None], 3, -1) for k in (0, 1))
    return (flow_colours(values, full or 1.0), *gray)


def drawings_page(rows: Sequence[Sequence[Drawing]]) -> NDArray[np.uint8]:
    """Draw a page: one row per class, one column per network.

    Parameters
    ----------
    rows : sequence of sequences of Drawing
        Rows of equal length.

    Returns
    -------
    uint8 (H, W, 3)
        RGB.
    """
    widths = [max(_size(row[k])[0] for row in rows) for k in range(len(rows[0]))]
    heights = [_HEAD + max(_size(one)[1] for one in row) for row in rows]
    page = Page(
        2 * _MARGIN + sum(widths) + 2 * _GAP * (len(widths) - 1),
        2 * _MARGIN + sum(heights) + 2 * _GAP * (len(heights) - 1),
    )
    y = _MARGIN
    for row, height in zip(rows, heights, strict=True):
        x = _MARGIN
        for drawing, width in zip(row, widths, strict=True):
            _draw(page, drawing, x, y, width)
            x += width + 2 * _GAP
        y += height + 2 * _GAP
    return page.pixels


def save_gif(path: str | Path, rows: Sequence[Sequence[Drawing]]) -> None:
    """Write an animation of pages, one per time, five a second, atomically.

    Parameters
    ----------
    path : path
        File to write.
    rows : sequence of sequence of Drawing
        Drawings of the page, by row.

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    from PIL import Image  # an extra of training; pictures need it only here

    times = max(len(drawing.strips[0]) for row in rows for drawing in row)
    pages = [
        Image.fromarray(drawings_page([[drawing.at(time) for drawing in row] for row in rows]))
        for time in range(times)
    ]
    file = io.BytesIO()
    pages[0].save(
        file, "GIF", save_all=True, append_images=pages[1:], duration=1000 // _GIF_FPS, loop=0
    )
    write_atomic(path, file.getvalue(), "animation")


def _size(drawing: Drawing) -> tuple[int, int]:
    """Return the width and height of the strips of a drawing, pixels."""
    times, height, width = drawing.strips[0].shape[:3]
    strips = len(drawing.strips)
    return times * (width + _GAP) - _GAP, strips * (height + _GAP) - _GAP


def _draw(page: Page, drawing: Drawing, x: int, y: int, width: int) -> None:
    page.write(f"{drawing.class_name} · {drawing.run}", x, y + 14, 14, bold=True, width=width)
    colour = WARNING if drawing.is_wrong else SOFT
    page.write(drawing.note, x, y + 32, 11, colour=colour, width=width)
    y += _HEAD
    for strip in drawing.strips:
        height, wide = strip.shape[1:3]
        for time, picture in enumerate(strip):
            page.draw_picture(picture, x + time * (wide + _GAP), y)
        y += height + _GAP
