"""setup.py with a compiler, without one, with one that fails.

An installation always goes on; `build_ext` in a checkout fails and leaves no older library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flowpipe.ops.cpu import CpuOps, native_core

ROOT = Path(__file__).resolve().parents[2]
COMPILERS = [name for name in ("g++", "clang++") if shutil.which(name)]

pytest.importorskip("setuptools", minversion="77")
pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="needs the source tree")


def build(folder: Path, *steps: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run setup.py in a copy of the source tree; build/ of the copy has the result."""
    tree = folder / "tree"
    if not tree.exists():
        unwanted = shutil.ignore_patterns("*.so", "__pycache__")
        for name in ("flowpipe", "kernels", "pipelines"):
            shutil.copytree(ROOT / name, tree / name, ignore=unwanted)
        for name in ("setup.py", "pyproject.toml", "LICENSE"):
            shutil.copy(ROOT / name, tree)
    names = {k: v for k, v in os.environ.items() if k not in ("CC", "CXX")}
    command = [sys.executable, "setup.py", "-q", *(steps or ("build_ext", "-b", "built"))]
    return subprocess.run(
        command, cwd=tree, env=names | environment, capture_output=True, text=True, check=False
    )


def script(path: Path, line: str) -> str:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


def broken_compiler(folder: Path) -> str:
    return script(folder / "broken-g++", "echo 'error: this compiler is broken' >&2; exit 1")


def quick_compiler(folder: Path, name: str) -> str:
    """A real compiler that does not optimise, where hardly anything that is compiled will run."""
    return script(folder / f"quick-{name}", f'exec {name} "$@" -O0')


@pytest.mark.parametrize("variable", ["CXX", "CC"])
def test_an_installation_without_a_compiler_lacks_the_core_only(tmp_path, variable):
    result = build(tmp_path, "build", **{variable: "/nowhere/g++"})
    assert result.returncode == 0, result.stderr
    assert "WARNING: the native core could not be compiled" in result.stderr
    assert "/nowhere/g++" in result.stderr and "Install g++" in result.stderr
    assert not list((tmp_path / "tree").rglob("*.so"))
    assert list((tmp_path / "tree/build").rglob("_kernels/cpu/iterate.h"))
    assert not list((tmp_path / "tree/build").rglob("*emulator*"))  # it is for tests


@pytest.mark.parametrize(
    "steps, folder, returns",
    [
        (("build_ext", "-b", "built"), "built", 1),
        (("build_ext", "--inplace"), ".", 1),
        (("build", "--build-lib", "built"), "built", 0),
        (("editable_wheel",), ".", 0),
    ],
    ids=["build_ext", "inplace", "build", "editable"],
)
def test_a_failing_compiler_leaves_no_old_library(tmp_path, steps, folder, returns):
    assert build(tmp_path, "--version").returncode == 0
    old = [tmp_path / "tree" / folder / f"flowpipe/{name}.so" for name in ("_core", "_snippets")]
    for library in old:
        library.parent.mkdir(parents=True, exist_ok=True)
        library.write_bytes(b"left from an older version")
    result = build(tmp_path, *steps, CXX=broken_compiler(tmp_path))
    assert result.returncode == returns and "this compiler is broken" in result.stderr
    assert ("not built: flowpipe._core, flowpipe._snippets" in result.stderr) == bool(returns)
    assert not any(library.exists() for library in old)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_core_is_built_and_loads_and_a_changed_header_is_compiled_again(tmp_path, compiler):
    quick = quick_compiler(tmp_path, compiler)
    result = build(tmp_path, CXX=quick)
    assert result.returncode == 0 and "native core" not in result.stderr, result.stderr
    library = tmp_path / "tree/built/flowpipe/_core.so"
    core = native_core(str(library))
    assert core.available, core.reason
    assert "baseline" in core.usable and core.compiler
    assert CpuOps(core=core).name == f"cpu-{core.chosen}"

    before = library.read_bytes()
    header = tmp_path / "tree/kernels/tvl1_math.h"
    header.write_text(header.read_text().replace("EPSILON = 1.1920929e-7f", "EPSILON = 2e-7f"))
    assert build(tmp_path, CXX=quick).returncode == 0
    assert library.read_bytes() != before


@pytest.mark.skipif(not COMPILERS, reason="needs a C++ compiler")
def test_without_libjpeg_s_headers_the_core_is_built_all_the_same(tmp_path):
    quick = quick_compiler(tmp_path, COMPILERS[0])
    result = build(tmp_path, CXX=quick, CPPFLAGS="-include /nowhere/jpeglib.h")
    assert result.returncode == 1
    assert "error: not built: flowpipe._snippets" in result.stderr
    assert "WARNING: the reader of snippets could not be compiled" in result.stderr
    assert "/nowhere/jpeglib.h" in result.stderr and "native core" not in result.stderr
    made = sorted(p.name for p in (tmp_path / "tree/built/flowpipe").iterdir())
    assert made == ["_core.so"]
