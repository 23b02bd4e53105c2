"""Two images -> the flow between them, float32 (H, W, 2): `flowpipe.optical_flow`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import RecipeError
from flowpipe.flow import FLOWS, make_solver
from flowpipe.flow.tvl1 import TVL1Params
from flowpipe.ops import Ops, cached_ops
from flowpipe.params import build
from flowpipe.words import unknown_name


def optical_flow(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    variant: str = TVL1Params.variant,
    *,
    flow: str = TVL1Params.name,
    device: str = "cpu",
    **params: Any,
) -> NDArray[np.float32]:
    """Compute the optical flow from one image to another.

    Parameters
    ----------
    first, second : uint8 (H, W) or (H, W, 3)
        Gray or RGB, of one size.
    variant : str
        Published TV-L1 to reproduce, see `flowpipe.flow.tvl1`; for TV-L1 only.
    flow : str
        Algorithm, a name in `flowpipe.flow.FLOWS`.
    device : str
        Device that computes, one of `flowpipe.ops.DEVICES`.
    **params
        Settings of the algorithm, the fields of its params class: for TV-L1 ``tau``, ``lambda_``,
        ``theta``, ``scales``, ``warps``, ``epsilon``, ``iterations`` and more.

    Returns
    -------
    float32 (H, W, 2)
        (u, v) in pixels, u right, v down: pixel (x, y) of `first` moves to (x + u, y + v) in
        `second`.

    Raises
    ------
    ValueError
        If the images, the algorithm or its settings are invalid.
    BackendError
        If the device, or the algorithm on it, cannot be used on this machine.

    Notes
    -----
    With ``device="cuda"`` the first call compiles kernels and reserves GPU memory. Later calls of
    the same thread and size reuse both.

    Examples
    --------
    >>> import flowpipe
    >>> rows, columns = np.mgrid[:64, :96]
    >>> first = (128 + 60 * np.sin(columns / 5) + 60 * np.sin(rows / 4)).astype(np.uint8)
    >>> second = np.roll(first, 2, axis=1)  # two pixels to the right
    >>> flow = flowpipe.optical_flow(first, second)
    >>> bool(np.allclose(flow[32, 48], [2, 0], atol=0.1))
    True
    """
    if flow == TVL1Params.name or variant != TVL1Params.variant:
        params["variant"] = variant
    settings = pair_params(flow, params)
    ops = cached_ops(device)
    return pair_flow(first, second, settings, ops)


def pair_params(flow: str, values: Mapping[str, Any]) -> Any:
    """Build the settings of an algorithm.

    Parameters
    ----------
    flow : str
        A key of `FLOWS`.
    values : mapping
        Settings by name; the others keep their defaults.

    Returns
    -------
    flow params
        Instance of the params class of the algorithm.

    Raises
    ------
    ValueError
        If the algorithm or a setting is unknown, or a value is out of range.
    """
    if flow not in FLOWS:
        raise ValueError(unknown_name("flow", flow, FLOWS))
    cls: Any = FLOWS[flow].params
    known = [field.name for field in dataclasses.fields(cls)]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise ValueError(unknown_name(f"{flow} parameter", unknown[0], known))
    try:
        return build(cls, values, where=flow)
    except RecipeError as error:
        raise ValueError(str(error)) from None


def pair_flow(
    first: NDArray[np.uint8], second: NDArray[np.uint8], params: Any, ops: Ops
) -> NDArray[np.float32]:
    """Compute the flow of two images.

    Parameters
    ----------
    first, second : uint8 (H, W) or (H, W, 3)
        Gray or RGB, of one size.
    params : flow params
        Settings of `pair_params`.
    ops : Ops
        Backend that computes.

    Returns
    -------
    float32 (H, W, 2)
        (u, v) in pixels, u right, v down.

    Raises
    ------
    ValueError
        If the images are invalid or differ in size.
    BackendError
        If the algorithm cannot run here.
    """
    colour = FLOWS[params.name].takes_colour
    i0, i1 = (
        _stack(image, which, None if colour else ops)
        for image, which in ((first, "first"), (second, "second"))
    )
    if i0.shape != i1.shape:
        raise ValueError(
            f"first and second must have one size, got {i0.shape[1:3]} and {i1.shape[1:3]} rows "
            "and columns"
        )
    solver = make_solver(params, ops)
    flow = ops.to_host(solver.solve(solver.prepare(i0), solver.prepare(i1)))
    return np.ascontiguousarray(flow[0].transpose(1, 2, 0))


def _stack(image: NDArray[np.uint8], which: str, to_gray: Ops | None) -> NDArray[np.uint8]:
    """Return a stack of one image, uint8 (1, H, W, 3) or (1, H, W); with `to_gray`, always gray."""
    image = np.asarray(image)
    gray = image.ndim == 2
    if image.dtype != np.uint8 or not (gray or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(
            f"{which} must be uint8, gray (H, W) or RGB (H, W, 3), got {image.dtype} {image.shape}"
        )
    if not image.size:
        raise ValueError(f"{which} must have at least one pixel, got {image.shape}")
    stack = np.ascontiguousarray(image)[None]
    return stack if gray or to_gray is None else to_gray.gray(stack)
