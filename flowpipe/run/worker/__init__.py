"""Shard job -> a shard, with a heartbeat: what runs in the process of a worker."""
