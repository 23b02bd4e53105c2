"""Stores and flow fields -> contact sheets and colour images."""

from __future__ import annotations

from flowpipe.report.caption import draw_caption
from flowpipe.report.colours import flow_colours
from flowpipe.report.drawings import Drawing, drawings_page, save_gif, strips_of
from flowpipe.report.page import save_png
from flowpipe.report.sheet import contact_sheet, store_sheet

__all__ = [
    "Drawing", "contact_sheet", "draw_caption", "drawings_page", "flow_colours", "save_gif",
    "save_png", "store_sheet", "strips_of",
]  # fmt: skip
