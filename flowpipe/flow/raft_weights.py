"""File of weights -> torchvision's RAFT, recognised by its SHA-256."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from flowpipe.errors import BackendError

PUBLISHED = "https://download.pytorch.org/models/"
WEIGHTS = {
    "large": PUBLISHED + "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
    "small": PUBLISHED + "raft_small_C_T_V2-01064c6d.pth",
}
"""Default weights that torchvision publishes, by model."""


def sha256_of(path: str) -> str:
    """Return the SHA-256 of a file of weights; a process reads a file once while it stays the same.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    str
        Hexadecimal SHA-256.

    Raises
    ------
    ValueError
        If the file cannot be read.
    """
    try:
        facts = Path(path).stat()
        return _read_sha256(path, facts.st_ino, facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise ValueError(
            f"weights of flow raft, {path}: cannot be read ({error.strerror}); give the path of a "
            "state dict of torchvision's RAFT"
        ) from error


@lru_cache(maxsize=16)
def _read_sha256(path: str, *facts: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@lru_cache(maxsize=2)
def load_network(model: str, weights: str, sha256: str, device: str) -> Any:
    """Load a network; it is kept for the process's next videos.

    Parameters
    ----------
    model : str
        ``large`` or ``small``.
    weights : str
        Path of a state dict of torchvision's model.
    sha256 : str
        SHA-256 that the file must have.
    device : str
        Device of torch: ``cpu`` or ``cuda``.

    Returns
    -------
    torchvision.models.optical_flow.RAFT
        The network, which does not train.

    Raises
    ------
    BackendError
        If the file is not named, missing, another one, or of another model.
    """
    import torch
    from torchvision.models import optical_flow

    if not weights:
        raise BackendError(
            f"weights of flow raft: the recipe has their SHA-256 ({sha256[:12]}...) and no path; "
            "give their path by --set flow.weights=FILE"
        )
    network = getattr(optical_flow, f"raft_{model}")(weights=None)
    what = f"weights of flow raft, {weights}"
    try:
        found = sha256_of(weights)
    except ValueError as error:
        raise BackendError(str(error)) from error
    if found != sha256:
        raise BackendError(
            f"{what}: SHA-256 is {found}, wanted {sha256}; give the path of that file, or start a "
            "new store"
        )
    wanted = f"wanted a state dict of torchvision's raft_{model}, such as {WEIGHTS[model]}"
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what its parts raise
        raise BackendError(f"{what}: torch.load reads no tensors from it; {wanted}") from error
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        other = "small" if model == "large" else "large"
        raise BackendError(
            f"{what}: it does not fit the network; {wanted}; or give --set flow.model={other}"
        ) from error
    return network.eval().requires_grad_(False).to(device)
