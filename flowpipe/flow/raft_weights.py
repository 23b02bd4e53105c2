"""File of weights -> torchvision's RAFT: its own state dict, or one of the original code."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
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
ORIGINAL_NAMES = (
    (r"^module\.", ""),  # of DataParallel, which the original training saves
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^(\w+_encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(\w+_encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(\w+_encoder)\.conv2\.", r"\1.conv."),
    (r"(\.layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(\.layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1."),
    (r"^update_block\.encoder\.convc(\d)\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf(\d)\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"\.gru\.(conv[zrq])1?\.", r".recurrent_block.convgru1.\1."),
    (r"\.gru\.(conv[zrq])2\.", r".recurrent_block.convgru2.\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)
"""Patterns of the names in the original code, and their replacements, applied one after another."""
ORIGINAL_TWICE = re.compile(r"\.layer\d\.0\.norm[34]\.")
"""Names under which the original code saves the norms of ``downsample`` a second time."""


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
            "state dict of torchvision's RAFT or of the original code"
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
        Path of a state dict of torchvision's model, or of the original code's.
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
    wanted = (
        f"wanted a state dict of torchvision's raft_{model}, such as {WEIGHTS[model]}, or of the "
        "original code"
    )
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what its parts raise
        raise BackendError(f"{what}: torch.load reads no tensors from it; {wanted}") from error
    try:
        network.load_state_dict(rename_original(state) if is_original(state) else state)
    except (RuntimeError, TypeError, AttributeError) as error:
        other = "small" if model == "large" else "large"
        raise BackendError(
            f"{what}: it does not fit the network; {wanted}; or give --set flow.model={other}"
        ) from error
    return network.eval().requires_grad_(False).to(device)


def is_original(state: Any) -> bool:
    """Return whether a state dict has the names of the original code, princeton-vl/RAFT.

    Parameters
    ----------
    state : object
        What `torch.load` read.

    Returns
    -------
    bool
        True if it has the first weight of the original feature encoder.
    """
    first = "fnet.conv1.weight"
    return isinstance(state, Mapping) and (first in state or f"module.{first}" in state)


def rename_original(state: Mapping[str, Any]) -> dict[str, Any]:
    """Rename a state dict of the original code as torchvision names the same weights.

    Parameters
    ----------
    state : mapping of str to tensor
        State dict of princeton-vl/RAFT, large or small.

    Returns
    -------
    dict of str to tensor
        State dict of torchvision's model.
    """
    renamed = {}
    for name, tensor in state.items():
        if ORIGINAL_TWICE.search(name):
            continue
        for pattern, replacement in ORIGINAL_NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed
