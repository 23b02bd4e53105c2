"""Stores and flow fields -> contact sheets and colour images."""

from __future__ import annotations

from flowpipe.report.colours import flow_colours
from flowpipe.report.page import save_png
from flowpipe.report.sheet import contact_sheet, store_sheet

__all__ = ["contact_sheet", "flow_colours", "save_png", "store_sheet"]
