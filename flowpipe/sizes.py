"""Text of a --size option -> width and height in pixels."""

from __future__ import annotations

from flowpipe.errors import UsageError

LARGEST_SIDE_PX = 16_384  # TV-L1 needs some 60 bytes a pixel, so 16 GB for a square of this


def width_and_height(
    size: str, smallest_px: int = 0, largest_px: int | None = None
) -> tuple[int, int]:
    """Return the width and the height in the text of a ``--size`` option.

    Parameters
    ----------
    size : str
        ``WIDTHxHEIGHT``, such as ``340x256``.
    smallest_px, largest_px : int
        Limits of both sides; no upper limit by default.

    Returns
    -------
    (int, int)
        Width and height, pixels.

    Raises
    ------
    UsageError
        If the text is not a size, or a side is outside the limits.
    """
    width, _, height = size.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UsageError(f"--size wants WIDTHxHEIGHT in pixels, such as 340x256, got {size}")
    sides = int(width), int(height)
    if min(sides) < smallest_px or (largest_px and max(sides) > largest_px):
        limits = f"{smallest_px} to {largest_px}" if largest_px else f"at least {smallest_px}"
        raise UsageError(f"--size wants sides of {limits} pixels, got {size}")
    return sides
