"""Files of kernels/cuda -> functions on the GPU, compiled on first use.

The parameters of a kernel are declared once, in its source; every argument is converted to the
declared type. A launch passes bytes, and the driver reads as many as the parameter has.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowpipe.errors import BackendError
from flowpipe.ops.cuda.errors import (
    last_line,
    misses_headers,
    translate_errors,
    why_no_cache,
    why_no_headers,
)
from flowpipe.ops.cuda.launches import Launch

SOURCES = {
    "frames": ("resize", "gray", "difference"),
    "planes": ("quantise", "take", "warp_homography"),
    "surfaces": ("resize_surface",),
    "pyramid": ("widen", "pyramid_down", "bilinear"),
    "tvl1_fields": ("centered_gradient", "tvl1_start", "tvl1_begin", "median", "tvl1_flow"),
    "tvl1_tile": ("tvl1_tile",),
    "corners": (
        "corner_strength", "corner_candidates", "corner_choice", "corner_order", "level_ranges",
    ),
    "tvl1_level": ("tvl1_level",),
    "akaze": (
        "akaze_smooth", "akaze_slopes", "akaze_response", "akaze_candidates", "akaze_choice",
        "akaze_points", "akaze_bits",
    ),
    "match": ("match_bits",),
}  # fmt: skip
"""File -> its kernels."""

# Approximate square roots and divisions are three times cheaper and a bit or two less exact.
# Products are fused only where the formulas request it, as on the CPU.
PRECISION = ("--fmad=false", "--prec-div=false", "--prec-sqrt=false", "--ftz=true")
# Line numbers, for compute-sanitizer and Nsight Compute; the instructions stay the same.
LINES = "-lineinfo"

DECLARATION = re.compile(
    r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(([^)]*)\)'
)
NUMBERS: dict[str, type[np.generic]] = {
    "int": np.int32, "unsigned": np.uint32, "long long": np.int64, "float": np.float32,
    "double": np.float64,
}  # fmt: skip
"""C type of a parameter -> NumPy type."""
ELEMENTS: dict[str, type[np.generic]] = {
    **NUMBERS, "u8": np.uint8, "float4": np.float32, "Progress": np.int32,
    "unsigned long long": np.uint64,
    "Taps": np.int32, "Colour": np.int32,
    "Queue": np.int32,
}  # fmt: skip
"""C type that a parameter points to -> NumPy type of the array's elements."""

IMAGE_BLOCK = (32, 8, 1)
VECTOR_BLOCK = (256, 1, 1)


def folder() -> Path:
    """Return the folder of the kernels: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "_kernels"
    return installed if installed.is_dir() else package.parent / "kernels"


def options() -> tuple[str, ...]:
    """Return the compiler options.

    CuPy caches compiled kernels by source and options and ignores included headers, so their digest
    is an option too.
    """
    headers = [folder() / "tvl1_math.h", *sorted((folder() / "cuda").glob("*.cuh"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in headers)).hexdigest()
    include = (f"-I{folder()}", f"-I{folder() / 'cuda'}")
    return ("-std=c++17", LINES, *PRECISION, *include, f"-DFLOWPIPE_HEADERS=0x{digest[:8]}")


class Kernels:
    """Kernels of one process; each file is compiled once, when one of its kernels is first used.

    Parameters
    ----------
    cupy : module
        CuPy.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._modules: dict[tuple[str, ...], Any] = {}
        self._functions: dict[tuple[str, ...], Any] = {}
        self.definitions: Mapping[str, tuple[str, ...]] = {}
        """File -> additional compiler options; may be replaced, see `Settings`."""

    @functools.cached_property
    def _options(self) -> tuple[str, ...]:
        return options()

    def load(self, *files: str) -> None:
        """Compile files now: kernels cannot be loaded while a graph is recorded.

        Parameters
        ----------
        *files : str
            Keys of `SOURCES`.
        """
        for file in files:
            for name in SOURCES[file]:
                self.function(name)

    def function(self, name: str) -> Any:
        """Return a kernel, compiled.

        Parameters
        ----------
        name : str
            Name of the kernel.

        Returns
        -------
        cupy.RawKernel
            The kernel.

        Raises
        ------
        BackendError
            If it cannot be compiled on this machine.
        """
        file = file_of(name)
        defined = self.definitions.get(file, ())
        if found := self._functions.get((name, *defined)):
            return found
        code, key = source(file), (file, *defined)
        try:
            with translate_errors(self._cupy):
                if key not in self._modules:
                    options = (*self._options, *defined)
                    self._modules[key] = self._cupy.RawModule(code=code, options=options)
                function = self._modules[key].get_function(name)
                return self._functions.setdefault((name, *defined), function)
        except BackendError:
            raise
        except Exception as error:  # whatever a compiler that lacks something raises
            raise BackendError(self._compile_error(file, error)) from error

    def _compile_error(self, file: str, error: Exception) -> str:
        said, here = last_line(error), "device cuda cannot be used here: "
        if isinstance(error, OSError) and error.errno is not None:  # not of a missing library
            return here + why_no_cache(error)
        if misses_headers(error):
            return here + why_no_headers(self._cupy.cuda.runtime.runtimeGetVersion(), said)
        return (
            f"CUDA's compiler refuses kernels/cuda/{file}.cu ({said}): CuPy, the NVRTC it finds "
            "and the driver should be of one CUDA version; or use --device cpu"
        )

    @functools.cache  # noqa: B019 - one of these lives as long as its process
    def parameters(self, name: str) -> tuple[Parameter, ...]:
        """Return the parameters of a kernel.

        Parameters
        ----------
        name : str
            Name of the kernel.

        Returns
        -------
        tuple of Parameter
            Parameters, in order.
        """
        declared = dict(DECLARATION.findall(source(file_of(name))))[name]
        return tuple(_parameter(name, words) for words in declared.split(","))

    def launch(self, name: str, grid: Sequence[int], block: Sequence[int], *arguments: Any) -> None:
        """Start a kernel on the current stream.

        It starts at the latest when this thread's launches are flushed; an empty grid launches
        nothing.

        Parameters
        ----------
        name : str
            Name of the kernel.
        grid, block : (x, y, z)
            Blocks of the grid, and threads of a block.
        *arguments : object
            Numbers, which are converted to the kernel's parameter types; device arrays, which
            must have these types; None for a null pointer.

        Raises
        ------
        TypeError
            If a number would lose its value, or an array holds numbers of another type.
        """
        parameters = self.parameters(name)
        if len(arguments) != len(parameters):
            raise TypeError(f"{name} takes {len(parameters)} arguments, got {len(arguments)}")
        if min(grid) > 0:
            passed = tuple(p.pack(a) for p, a in zip(parameters, arguments, strict=True))
            keys = (p.key(a) for p, a in zip(parameters, passed, strict=True))
            function = self.function(name)
            key = (function, *grid, *block, *keys)
            Launch(key, function, tuple(grid), tuple(block), passed).start()

    def over_images(self, name: str, n: int, height: int, width: int, *arguments: Any) -> None:
        """Launch one thread per pixel of some images.

        Parameters
        ----------
        name : str
            Name of the kernel.
        n, height, width : int
            Number and size of the images, pixels.
        *arguments : object
            Arguments, see `launch`.
        """
        x, y, _ = IMAGE_BLOCK
        self.launch(name, (-(-width // x), -(-height // y), n), IMAGE_BLOCK, *arguments)

    def over_values(self, name: str, n: int, values: int, *arguments: Any) -> None:
        """Launch one thread per value of some vectors.

        Parameters
        ----------
        name : str
            Name of the kernel.
        n, values : int
            Number and length of the vectors.
        *arguments : object
            Arguments, see `launch`.
        """
        self.launch(name, (-(-values // VECTOR_BLOCK[0]), 1, n), VECTOR_BLOCK, *arguments)


@dataclass(frozen=True)
class Parameter:
    """Parameter of a kernel, as its source declares it."""

    where: str
    """Names of the parameter and its kernel, for messages."""
    number: type[np.generic]
    """NumPy type of the number, or of the array's elements."""
    is_array: bool

    def pack(self, value: Any) -> Any:
        """Convert an argument to the type that the kernel reads.

        Parameters
        ----------
        value : object
            Number, device array or None.

        Returns
        -------
        object
            The argument.

        Raises
        ------
        TypeError
            If it does not fit.
        """
        if self.is_array:
            held = getattr(value, "dtype", type(value).__name__)
            if value is not None and held != self.number:
                raise TypeError(f"{self.where} is an array of {self._type}, got {held}")
            return value
        number: Any = self.number(value)
        if isinstance(number, np.integer) and number != value:
            raise TypeError(f"{self.where} is {self._type}, got {value!r}")
        return number

    def key(self, passed: Any) -> Any:
        """Return the identity of an argument.

        Parameters
        ----------
        passed : object
            Result of `pack`.

        Returns
        -------
        object
            Bytes of a number, or address of an array.
        """
        if self.is_array:
            return None if passed is None else passed.data.ptr
        return passed.tobytes()

    @property
    def _type(self) -> np.dtype[Any]:
        return np.dtype(self.number)


def file_of(name: str) -> str:
    """Return the file that declares a kernel.

    Parameters
    ----------
    name : str
        Name of the kernel.

    Returns
    -------
    str
        A key of `SOURCES`.
    """
    return next(file for file, names in SOURCES.items() if name in names)


def source(file: str) -> str:
    """Return the text of kernels/cuda/FILE.cu.

    Parameters
    ----------
    file : str
        A key of `SOURCES`.

    Returns
    -------
    str
        The text.
    """
    return (folder() / "cuda" / f"{file}.cu").read_text(encoding="utf-8")


def _parameter(kernel: str, words: str) -> Parameter:
    kind, star, name = re.findall(r"(?:const )?(\w[\w ]*?) (\*?)(\w+)\s*$", words)[0]
    return Parameter(f"{name} of {kernel}", (ELEMENTS if star else NUMBERS)[kind], bool(star))
