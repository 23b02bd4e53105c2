"""Random weights of torchvision's RAFT."""

from __future__ import annotations

from pathlib import Path


def save_weights(path: Path, model: str = "small", seed: int = 0) -> Path:
    """Write the state dict of a model with random weights, and return its path."""
    import torch
    from torchvision.models import optical_flow

    torch.manual_seed(seed)
    torch.save(getattr(optical_flow, f"raft_{model}")(weights=None).state_dict(), path)
    return path
