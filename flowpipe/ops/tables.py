"""Names and sizes that Python and the kernels number alike; a test reads them in the sources."""

COEFFICIENTS = ("a", "b", "c", "g")
"""Images of a TV-L1 state that a warp computes; enum Coefficient in kernels/cuda/fields.cuh."""
UNKNOWNS = ("u", "v", "p11", "p12", "p21", "p22")
"""Images that an iteration changes; enum Field in kernels/cuda/fields.cuh."""
FIELDS = (*COEFFICIENTS, *UNKNOWNS)
"""All images of a TV-L1 state; enum Field in kernels/cpu/layout.h."""
SAMPLINGS = ("catmull_rom", "thirtyseconds", "keys")
"""Values of `TVL1Model.sampling`; enum Sampling in kernels/cpu/warp.h and kernels/cuda/warp.cuh."""
BORDER_PX = 4
"""Replicated pixels around an image that a warp reads: a bicubic tap reaches that far past a point
clamped to [-2, n + 1]; BORDER in kernels/cuda/warp.cuh."""
