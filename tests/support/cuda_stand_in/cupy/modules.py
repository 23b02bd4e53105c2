"""CUDA source -> kernels in the emulator, compiled by g++ and kept by their digest."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from cupy import cuda

EMULATOR = Path(__file__).resolve().parents[4] / "kernels" / "emulator" / "cuda_emulator.h"
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(')
FLAGS = """-std=c++17 -O2 -march=native -ffp-contract=off -fno-math-errno -fPIC -shared -w
    -fvisibility=hidden""".split()
ndarray: type = object  # the package's, which imports this module first
KINDS = {"i": np.int32, "I": np.uint32, "f": np.float32, "d": np.float64, "q": np.int64}


class RawModule:
    """`options` are NVRTC's; of these the emulator needs the include folders and definitions."""

    def __init__(self, *, code: str, options: tuple[str, ...]) -> None:
        self._library = ctypes.CDLL(str(_compiled(code, options)))

    def get_function(self, name: str) -> Function:
        cuda.call("loadModule")
        return Function(self._library, name)


one_at_a_time = threading.Lock()  # the emulator's fibers belong to the process


class Function:
    seed = 1
    """Decides the order in which blocks, warps and lanes run; tests set it."""

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        self.name, self._launch = name, library[f"launch_{name}"]
        letters = library[f"letters_{name}"]
        letters.restype = ctypes.c_char_p
        self.letters = letters().decode()
        assert "?" not in self.letters, f"{name}: a parameter of a type nobody can pass"

    def __call__(self, grid: Any, block: Any, arguments: Any) -> None:
        cuda.call(f"launch {self.name}")
        if self.name == os.environ.get("CUDA_STAND_IN_FAILS"):
            raise cuda.CUDARuntimeError(700)  # illegal address
        assert len(grid) == len(block) == 3 and min(*grid, *block) > 0, f"{grid} {block}"
        assert block[0] * block[1] * block[2] <= 1024 and max(grid[1:]) < 65536
        values = self._values(arguments)
        stream = cuda.current_stream()
        # Arrays live until their kernel has run, but a graph keeps addresses only.
        held = None if stream.capturing else arguments
        sizes = (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block)

        def run() -> None:
            addresses = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
            with one_at_a_time:
                self._launch(*sizes, addresses, ctypes.c_uint64(Function.seed * 7919 + 1))
            _ = held

        stream.enqueue(run)

    def _values(self, arguments: Any) -> list[np.ndarray]:
        """Return the bytes of each argument, checked against the kernel's parameter."""
        assert len(arguments) == len(self.letters), f"{self.name}: {len(arguments)} arguments"
        values = []
        for place, (letter, value) in enumerate(zip(self.letters, arguments, strict=True)):
            where = f"{self.name}, argument {place}"
            if letter == "P":
                null = value is None
                assert null or isinstance(value, ndarray), f"{where}: {type(value)}"
                if not null:
                    assert value.flags.c_contiguous, f"{where} has gaps"
                address = 0 if null else value._host.ctypes.data
                values.append(np.array([address], np.uintp))
            else:
                assert type(value) is KINDS[letter], f"{where}: {type(value)}, not {letter}"
                values.append(np.array([value]))
        return values


def _compiled(code: str, options: tuple[str, ...]) -> Path:
    shared = [o for o in options if o.startswith(("-I", "-D"))]
    headers = b"".join(
        path.read_bytes()
        for folder in (o[2:] for o in shared if o.startswith("-I"))
        for path in sorted(Path(folder).glob("*h"))
    )
    flags = [*FLAGS, *os.environ.get("CUDA_STAND_IN_FLAGS", "").split()]
    defined = [o for o in shared if o.startswith("-D")]
    key = repr((code, defined, flags)).encode() + headers + EMULATOR.read_bytes()
    cache = Path(tempfile.gettempdir()) / f"flowpipe-emulator-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    library = cache / f"{hashlib.sha256(key).hexdigest()[:24]}.so"
    if not library.exists():
        names = KERNEL.findall(code)
        source = f'#include "{EMULATOR}"\n#line 1 "kernel.cu"\n{code}\n'
        source += "".join(f"EMULATED({name})\n" for name in names)
        fresh = library.with_suffix(f".{os.getpid()}.so")
        command = ["g++", *flags, *shared, "-x", "c++", "-", "-o", str(fresh)]
        made = subprocess.run(command, input=source, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        fresh.replace(library)
    return library
