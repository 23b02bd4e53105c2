"""EncodedPlanes -> verified shards on disk -> snippets: the frame store of FORMAT.md."""

from __future__ import annotations

from flowpipe.store.disk import free_bytes, write_rate
from flowpipe.store.files import sweep
from flowpipe.store.header import create_store, read_store_header
from flowpipe.store.layout import StreamSpec
from flowpipe.store.reader import Store, open_store
from flowpipe.store.recovery import adopt, forget_lost, lost_shards, restore_manifest
from flowpipe.store.salvage import salvage
from flowpipe.store.verify import Report, verify_store
from flowpipe.store.video import Video
from flowpipe.store.writer import ShardWriter

__all__ = [
    "Report", "ShardWriter", "Store", "StreamSpec",
    "Video", "adopt", "create_store", "forget_lost", "free_bytes", "lost_shards", "open_store",
    "read_store_header", "restore_manifest", "salvage", "sweep", "verify_store",
    "write_rate",
]  # fmt: skip
