"""Store -> batches of snippets on a device: sampling, crops, reading, normalisation."""
