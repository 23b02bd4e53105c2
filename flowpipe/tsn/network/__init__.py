"""Batches -> logits: backbone, consensus, and how stored images become a network's input."""
