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
PROGRESS = ("warps", "fresh", "done", "check", "end", "converged", "side", "arrived", "total")
"""State of one pair on a GPU; struct Progress in kernels/cuda/progress.cuh."""
QUEUE = ("left", "next", "pairs")
"""State of the queue of pairs; struct Queue in kernels/cuda/progress.cuh."""
CHUNK = 8
"""Columns whose images of a state lie together on a GPU; CHUNK in kernels/cuda/fields.cuh."""
TILE_PX, HALO_PX, TILE_ROWS = 64, 4, 4
"""Side of a tile with its border, the border, and rows of a thread; TILE, ITERATIONS and ROWS in
kernels/cuda/tile.cuh."""
AKAZE_BORDER_PX = 29
"""Least distance of keypoints to the border; AKAZE_BORDER in kernels/cpu/akaze.h and BORDER in
kernels/cuda/akaze.cu."""
MLDB_WORDS = 8
"""Words of 64 bits of a descriptor; MLDB_WORDS in kernels/cpu/akaze.h, and half the WORDS in
kernels/cuda/akaze.cu."""
