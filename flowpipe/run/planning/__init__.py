"""Job + store + this machine -> a plan: videos, spans, shards, and the resources they take."""
