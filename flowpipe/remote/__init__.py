"""Videos at s3:// and other fsspec URLs: listed, looked into, and copied into a bounded cache."""

from __future__ import annotations

from flowpipe.remote.cache import Cache, default_cache
from flowpipe.remote.url import (
    Facts,
    Place,
    Url,
    facts_of,
    files_below,
    is_url,
    look_up,
    open_place,
    place,
)

__all__ = [
    "Cache", "Facts", "Place", "Url", "default_cache", "facts_of", "files_below", "is_url",
    "look_up", "open_place", "place",
]  # fmt: skip
