"""Stores <-> frame folders of the field's tools and webdataset tars."""

from __future__ import annotations

from flowpipe.exchange.export import export_store
from flowpipe.exchange.importer import import_folder
from flowpipe.exchange.job import ExportJob, ImportJob
from flowpipe.exchange.layouts import LAYOUTS, WEBDATASET, Pairing
from flowpipe.exchange.lists import read_lists

__all__ = [
    "LAYOUTS", "WEBDATASET", "ExportJob", "ImportJob", "Pairing",
    "export_store", "import_folder", "read_lists",
]  # fmt: skip
