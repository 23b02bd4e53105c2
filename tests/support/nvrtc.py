"""CUDA source -> compiled code and what it takes, by NVIDIA's compiler library, with no GPU.

From the wheels nvidia-cuda-nvrtc-cu12 (CUDA 12, every architecture), nvidia-cuda-nvrtc (CUDA 13,
from sm_75 on) and nvidia-cuda-nvdisasm.
"""

from __future__ import annotations

import ctypes
import re
import site
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from flowpipe.ops.cuda import kernels

USED = re.compile(
    r"Compiling entry function '(\w+)'.*?"
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?"
    r"Used (\d+) registers",
    re.DOTALL,
)
CUPY_ADDS = ("-ftz=true", "--device-as-default-execution-space")  # to what it is given
INSTRUCTION = re.compile(r"\s+(?:/\*[0-9a-f]+\*/)?\s*(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]+)\b(.*);")
LABEL = re.compile(r"\s*(\.L_x?_?\w+):")


@dataclass(frozen=True)
class Usage:
    """What one kernel takes."""

    registers: int
    spilled_bytes: int


@dataclass(frozen=True)
class Compiled:
    """One file for one architecture."""

    kernels: dict[str, Usage]
    cubin: bytes


def _wheel(pattern: str) -> Path | None:
    for folder in {*site.getsitepackages(), site.getusersitepackages()}:
        found = sorted(
            p for p in Path(folder).glob(f"nvidia/{pattern}") if "builtins" not in p.name
        )
        if found:
            return found[0]
    return None


@cache
def _library(major: int) -> ctypes.CDLL | None:
    path = _wheel(f"**/libnvrtc.so.{major}*")
    if path is None:
        return None
    # CUDA 13's compiler opens this by name and does not look beside itself.
    for builtins in path.parent.glob(f"libnvrtc-builtins.so.{major}*"):
        ctypes.CDLL(str(builtins))
    return ctypes.CDLL(str(path))


def why_no_compiler(major: int) -> str:
    """Return how to install the compiler of that CUDA version; empty where it is installed."""
    if _library(major) is not None:
        return ""
    wheel = "nvidia-cuda-nvrtc-cu12" if major == 12 else "nvidia-cuda-nvrtc"
    return f"needs NVRTC {major}: pip install {wheel}"


def why_no_disassembler() -> str:
    """Return how to install NVIDIA's disassembler; empty where it is installed."""
    return "" if _disassembler() else "needs nvdisasm: pip install nvidia-cuda-nvdisasm"


def require(major: int) -> None:
    """Skip a test where the compiler of that CUDA version is not installed."""
    if why := why_no_compiler(major):
        pytest.skip(why)


def _disassembler() -> Path | None:
    return _wheel("**/bin/nvdisasm")


@cache
def compile_file(file: str, major: int, architecture: int, *defined: str) -> Compiled:
    """Compile kernels/cuda/FILE.cu with the options that flowpipe and CuPy give."""
    nvrtc = _library(major)
    assert nvrtc is not None
    source = (kernels.folder() / "cuda" / f"{file}.cu").read_bytes()
    options = [
        *kernels.options(),
        *defined,
        *CUPY_ADDS,
        f"-arch=sm_{architecture}",
        "--ptxas-options=-v",
    ]
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, file.encode(), 0, None, None)
    encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = nvrtc.nvrtcCompileProgram(program, len(options), encoded)
    log = _text(nvrtc, program, "ProgramLog").decode()
    assert not failed, f"{file}.cu, sm_{architecture}, CUDA {major}:\n{log}"
    complaints = [line for line in log.splitlines() if "warning" in line and "prior to" not in line]
    assert not complaints, complaints
    usages = {
        name: Usage(int(registers), int(stores) + int(loads))
        for name, _, stores, loads, registers in USED.findall(log)
    }
    cubin = _text(nvrtc, program, "CUBIN")
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return Compiled(usages, cubin)


def _text(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{what}")(program, text)
    return text.raw.rstrip(b"\0") if what == "ProgramLog" else text.raw


@cache
def disassemble(cubin: bytes, kernel: str) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """Return (opcode, operands) of a kernel's instructions, and the positions of its labels."""
    tool = _disassembler()
    if tool is None:
        pytest.skip(why_no_disassembler())
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, file.name], capture_output=True, text=True, check=True).stdout
    section = text.split(f".text.{kernel}:", 1)[1]
    labels: dict[str, int] = {}
    instructions: list[tuple[str, str]] = []
    for line in section.splitlines():
        if line.startswith("//--------------------- .text."):
            break
        if label := LABEL.match(line):
            labels[label[1]] = len(instructions)
        elif instruction := INSTRUCTION.match(line):
            instructions.append((instruction[1], instruction[2]))
    return instructions, labels


def loops(cubin: bytes, kernel: str) -> list[tuple[int, int]]:
    """Return the first and last instruction of each loop of a kernel.

    What lies behind an exit and jumps back is no loop: the compiler puts rare cases there.
    """
    instructions, labels = disassemble(cubin, kernel)
    found = []
    for end, (opcode, operands) in enumerate(instructions):
        target = re.search(r"\.L_x?_?\w+", operands) if opcode.startswith("BRA") else None
        start = labels.get(target[0], end) if target else end
        if start < end and not count_opcodes(instructions[start:end])["EXIT"]:
            found.append((start, end))
    return found


def innermost(cubin: bytes, kernel: str, opcode: str, least: int) -> list[tuple[int, int]]:
    """Return (first, last) of the innermost loops with so many of an instruction."""
    instructions, _ = disassemble(cubin, kernel)
    found = [
        (start, end)
        for start, end in loops(cubin, kernel)
        if count_opcodes(instructions[start : end + 1])[opcode] >= least
    ]
    return [
        outer
        for outer in found
        if not any(outer != one and outer[0] <= one[0] and one[1] <= outer[1] for one in found)
    ]


def count_opcodes(instructions: list[tuple[str, str]]) -> Counter[str]:
    """Count instructions by opcode."""
    return Counter(name.split(".")[0] for name, _ in instructions)
