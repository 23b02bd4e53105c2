"""Text, framed pictures and the colour key -> a page of RGB pixels."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.atomic import write_atomic
from flowpipe.report.colours import wheel_key

INK = (28, 30, 34)
SOFT = (112, 116, 124)
LINE = (205, 208, 212)
PAPER = (251, 251, 250)
WARNING = (190, 60, 20)

# OpenCV 5 has a proportional font with all scripts, OpenCV 4 only Hershey's stroke fonts.
_FACE = cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None
_STROKES = cv2.FONT_HERSHEY_SIMPLEX
_SPELT = {"±": "+-", "·": "-", "×": "x", "…": "..."}


class Page:
    """A white image to draw on; positions are pixels from the top left corner.

    Parameters
    ----------
    width, height : int
        Size, pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.pixels: NDArray[np.uint8] = np.empty((height, width, 3), np.uint8)
        self.pixels[:] = PAPER

    def write(
        self,
        text: str,
        x: int,
        y: int,
        size: int = 12,
        *,
        bold: bool = False,
        colour: tuple[int, int, int] = INK,
        width: int | None = None,
    ) -> None:
        """Write a line of text.

        Parameters
        ----------
        text : str
            The line.
        x, y : int
            Left end of the baseline, pixels.
        size : int
            Size of the letters, pixels.
        bold : bool
            Whether it is bold.
        colour : (int, int, int)
            RGB.
        width : int, optional
            Width to which the line is cut in its middle, pixels.
        """
        if width is not None:
            text = fit(text, width, size, bold)
        if _FACE is not None:
            cv2.putText(self.pixels, text, (x, y), colour, _FACE, size, 700 if bold else 400)
        else:
            cv2.putText(
                self.pixels, _spell(text), (x, y), _STROKES, size / 30, colour,
                2 if bold and size > 14 else 1, cv2.LINE_AA,
            )  # fmt: skip

    def draw_picture(self, picture: NDArray[np.uint8], x: int, y: int) -> None:
        """Draw a picture with a frame around it.

        Parameters
        ----------
        picture : uint8 (H, W, 3)
            RGB.
        x, y : int
            Upper left corner, pixels.
        """
        height, width = picture.shape[:2]
        self.pixels[y : y + height, x : x + width] = picture
        cv2.rectangle(self.pixels, (x - 1, y - 1), (x + width, y + height), LINE)

    def blank(self, x: int, y: int, width: int, height: int, text: str) -> None:
        """Draw an empty picture that says why it is empty.

        Parameters
        ----------
        x, y : int
            Upper left corner, pixels.
        width, height : int
            Size, pixels.
        text : str
            Reason.
        """
        cv2.rectangle(self.pixels, (x - 1, y - 1), (x + width, y + height), LINE)
        self.write(text, x + 10, y + height // 2 + 4, 11, colour=SOFT, width=width - 20)

    def key(self, x: int, y: int, size_px: int) -> None:
        """Draw the colour wheel.

        Parameters
        ----------
        x, y : int
            Upper left corner, pixels.
        size_px : int
            Side of the wheel.
        """
        picture, cover = wheel_key(size_px)
        place = self.pixels[y : y + size_px, x : x + size_px]
        place[:] = np.rint(place + cover[:, :, None] * (picture.astype(np.float32) - place))
        centre = (x + size_px // 2, y + size_px // 2)
        cv2.circle(self.pixels, centre, size_px // 2 - 1, LINE, 1, cv2.LINE_AA)


def text_width(text: str, size: int, bold: bool = False) -> int:
    """Measure one line of text.

    Parameters
    ----------
    text : str
        The line.
    size : int
        Size of the letters, pixels.
    bold : bool
        Whether it is bold.

    Returns
    -------
    int
        Width, pixels.
    """
    if _FACE is not None:
        box = cv2.getTextSize((0, 0), text, (0, 0), _FACE, size, 700 if bold else 400)
        return int(box[0] + box[2])
    return int(cv2.getTextSize(_spell(text), _STROKES, size / 30, 1)[0][0])


def fit(text: str, width: int, size: int, bold: bool = False) -> str:
    """Cut a line in its middle until it fits.

    Parameters
    ----------
    text : str
        The line.
    width : int
        Largest width, pixels.
    size : int
        Size of the letters, pixels.
    bold : bool
        Whether it is bold.

    Returns
    -------
    str
        The line, or its ends with dots between.
    """
    if text_width(text, size, bold) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and text_width(_truncate(text, kept), size, bold) > width:
        kept -= 1
    return _truncate(text, kept)


def scale_to(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize a picture.

    Parameters
    ----------
    picture : uint8 (H, W, 3)
        RGB.
    width, height : int
        Wanted size, pixels.

    Returns
    -------
    uint8 (height, width, 3)
        RGB.
    """
    shrinks = picture.shape[0] > height
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=kind), np.uint8)


def save_png(path: str | Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture atomically.

    Parameters
    ----------
    path : path
        File to write.
    picture : uint8 (H, W, 3)
        RGB.

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    _, coded = cv2.imencode(".png", np.ascontiguousarray(picture[:, :, ::-1]))
    write_atomic(path, coded.tobytes(), "picture")


def _truncate(text: str, kept: int) -> str:
    head = (kept + 1) // 2
    return f"{text[:head]}…{text[len(text) - (kept - head) :]}"


def _spell(text: str) -> str:
    """Return the text in ASCII, for the stroke font."""
    plain = unicodedata.normalize("NFKD", "".join(_SPELT.get(char, char) for char in text))
    bare = (char for char in plain if not unicodedata.combining(char))
    return "".join(char if char.isascii() else "?" for char in bare)
