"""Interface of all backends: the constants and the state of one scale of TV-L1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class TVL1Model:
    """Constants of one scale of TV-L1, named as in the paper."""

    tau: float
    lambda_: float
    theta: float
    epsilon: float
    """A warp has converged when the RMS change of the flow in one iteration is at most this, px."""
    block: int
    """Iterations per block; a warp ends with the block in which OpenCV would end it."""
    spaced: bool = True
    """True: check convergence as OpenCV's CUDA code does, after even numbers of iterations, and
    after a squared change e only about e / epsilon**2 iterations later. False: after each, as its
    CPU code does."""
    sampling: str = "catmull_rom"
    """Interpolation of the second image. ``catmull_rom``: bicubic with a = -1/2, clamped to the
    image. ``keys``: as cv2.remap, a = -3/4, zero outside the image. ``thirtyseconds``: as keys, but
    at the nearest 1/32 px, as in OpenCV 4 and before."""
    median: int = 1
    """Window (1, 3 or 5) of a median filter of u and v; 1 is none."""
    median_every: int = 30
    """Iterations between two median filters; the first filter precedes the iterations."""

    def enough(self, pixels: int) -> float:
        """Return the sum of squared change at which a warp has converged.

        Parameters
        ----------
        pixels : int
            Pixels of the image.

        Returns
        -------
        float
            Squared pixels of flow.
        """
        return self.epsilon**2 * pixels


class TVL1State(Protocol):
    """Fields of N pairs at one scale; the memory layout is the backend's."""

    def field(self, name: str) -> Any:
        """Return a copy of a field.

        Parameters
        ----------
        name : {"a", "b", "c", "g", "u", "v", "p11", "p12", "p21", "p22"}
            I1wx, I1wy, rho_c, -1/|grad|^2, the flow, or the dual variables times theta.

        Returns
        -------
        float32 (N, H, W)
            Field of each pair.
        """
