"""kernels/cuda/*.cu -> functions on the GPU, compiled when first asked for."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowpipe.errors import BackendError

SOURCES = {
    "frames": ("resize", "gray", "difference"),
    "planes": ("quantise", "take", "warp_homography"),
    "pyramid": ("widen", "pyramid_down", "bilinear"),
    "tvl1_warp": (
        "centered_gradient", "tvl1_start", "tvl1_begin", "tvl1_warp", "median", "tvl1_flow",
    ),
    "tvl1_tile": ("tvl1_tile",),
}  # fmt: skip
"""File -> its kernels."""

ARCHITECTURES = {
    12: (52, 60, 61, 70, 75, 80, 86, 89, 90, 100, 120),
    13: (75, 80, 86, 89, 90, 100, 120),
}
"""CUDA major version -> the compute capabilities, times ten, that its compiler is tested with."""

# Square roots and quotients as the hardware has them, three times cheaper and a bit or two less
# exact; products are fused where the formulas say so and nowhere else, as on the CPU.
PRECISION = ("--fmad=false", "--prec-div=false", "--prec-sqrt=false", "--ftz=true")

IMAGE_BLOCK = (32, 8, 1)
VECTOR_BLOCK = (256, 1, 1)


def folder() -> Path:
    """Where the kernels lie: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_kernels"
    return installed if installed.is_dir() else package.parent / "kernels"


def options() -> tuple[str, ...]:
    """What the compiler is told.

    CuPy keeps compiled kernels by source and options and does not look into included headers, so
    their digest is an option too.
    """
    headers = [folder() / "tvl1_math.h", *sorted((folder() / "cuda").glob("*.cuh"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in headers)).hexdigest()
    include = (f"-I{folder()}", f"-I{folder() / 'cuda'}")
    return ("-std=c++17", *PRECISION, *include, f"-DFLOWPIPE_HEADERS=0x{digest[:8]}")


class Kernels:
    """The kernels of one process; each file is compiled once, when one of its kernels is wanted.

    Parameters
    ----------
    cupy : module
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._modules: dict[str, Any] = {}

    @functools.cached_property
    def _options(self) -> tuple[str, ...]:
        return options()

    def load(self, *files: str) -> None:
        """Compile files now: a kernel must not be loaded while launches are being recorded."""
        for file in files:
            for name in SOURCES[file]:
                self.function(name)

    @functools.cache  # noqa: B019 - one of these lives as long as its process
    def function(self, name: str) -> Any:
        """The kernel of that name."""
        file = next(file for file, names in SOURCES.items() if name in names)
        if file not in self._modules:
            path = folder() / "cuda" / f"{file}.cu"
            code = path.read_text(encoding="utf-8")
            self._modules[file] = self._cupy.RawModule(code=code, options=self._options)
        try:
            return self._modules[file].get_function(name)
        except self._cupy.cuda.compiler.CompileException as error:
            raise BackendError(
                f"CUDA's compiler refuses kernels/cuda/{file}.cu ({error}): CuPy, the NVRTC it "
                "finds and the driver should be of one CUDA version; or use --device cpu"
            ) from error

    def launch(self, name: str, grid: Sequence[int], block: Sequence[int], *arguments: Any) -> None:
        """Start a kernel on the current stream; an empty grid is no launch.

        Python's integers become ``int``, its floats ``float``, None a null pointer.
        """
        if min(grid) > 0:
            self.function(name)(tuple(grid), tuple(block), tuple(map(_argument, arguments)))

    def over_images(self, name: str, n: int, height: int, width: int, *arguments: Any) -> None:
        """A thread per pixel of N images."""
        x, y, _ = IMAGE_BLOCK
        self.launch(name, (-(-width // x), -(-height // y), n), IMAGE_BLOCK, *arguments)

    def over_values(self, name: str, n: int, values: int, *arguments: Any) -> None:
        """A thread per value of N vectors."""
        self.launch(name, (-(-values // VECTOR_BLOCK[0]), 1, n), VECTOR_BLOCK, *arguments)


def _argument(value: Any) -> Any:
    if type(value) in (bool, int):
        return np.int32(value)
    if type(value) is float:  # of NumPy's numbers float64 is one too, and stays double
        return np.float32(value)
    return value
