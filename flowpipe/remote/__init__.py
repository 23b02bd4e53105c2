"""Videos at s3:// and other fsspec URLs: listed, opened, and copied into a bounded cache."""

from __future__ import annotations

from flowpipe.remote.cache import Cache, default_cache
from flowpipe.remote.url import (
    FileFacts,
    PathOrUrl,
    Url,
    file_facts,
    files_below,
    is_url,
    open_path_or_url,
    parse_path_or_url,
    stat_urls,
)

__all__ = [
    "Cache", "FileFacts", "PathOrUrl", "Url", "default_cache", "file_facts", "files_below",
    "is_url", "open_path_or_url", "parse_path_or_url", "stat_urls",
]  # fmt: skip
