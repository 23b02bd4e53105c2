"""The contents of a pack -> importable packages, the compiled core, settings."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from folders import FLOWPIPE, ROOT, Folders, Verdict, core_digest, last_line, run, say

PARTS = {"site": "site", "nvdec": "site", "weights": "site", "opencv": "opencv", "truth": "truth"}
"""Archive in the packed folder -> folder of the scratch folder that it is unpacked into."""
VERSIONED = (
    "numpy", "torch", "torchvision", "h5py", "av", "dask", "distributed", "simplejpeg",
    "opencv-python-headless", "opencv-contrib-python-headless", "pynvvideocodec",
)  # fmt: skip
NEEDED = "import av, dask, distributed, simplejpeg, jpeg_ls, cv2, h5py, flowpipe"


def setup(folders: Folders) -> Verdict:
    """Unpack everything, install the core and load the packages."""
    packed, here = folders.packed / "python", f"{sys.version_info[0]}.{sys.version_info[1]}"
    if packed.is_file() and packed.read_text(encoding="utf-8") != here:
        meant = packed.read_text(encoding="utf-8")
        cure = f"name Python {meant} with PYTHON=, or run pack.py --python {here}"
        return Verdict(
            False, f"{folders.packed} is packed for Python {meant}, this is {here}: {cure}"
        )
    unpacked = unpack(folders)
    core = place_core(folders.packed)
    say(f"core: {core}")
    env = folders.environment()
    own_cv2 = "opencv" in unpacked and loads(
        "import cv2; cv2.cuda.getCudaEnabledDeviceCount(); cv2.optflow",
        {**env, "PYTHONPATH": os.pathsep.join([str(folders.work / "opencv"), env["PYTHONPATH"]])},
    )
    if "opencv" in unpacked and not own_cv2:
        say("the packed OpenCV does not load here; the machine's own is used")
    save(folders, packed_opencv=own_cv2)
    env = folders.environment()
    if not loads(NEEDED, env):
        return Verdict(False, "the packages do not load: see the lines above")
    detector = free_detector(folders)
    save(folders, packed_opencv=own_cv2, detector=detector)
    lacks = unmet(folders.work / "site")
    for line in lacks:
        say(line)
    words = f"unpacked {', '.join(unpacked) or 'nothing'}; core {core}; {len(lacks)} needs not met"
    if detector:
        words += f"; extractions of warped flow with warp.detector={detector}"
    return Verdict(True, words, {"unpacked": unpacked, "core": core, "unmet_needs": lacks})


def save(folders: Folders, **settings: object) -> None:
    """Write the settings that the other steps read."""
    (folders.work / "settings.json").write_text(json.dumps(settings), encoding="utf-8")


def unpack(folders: Folders) -> list[str]:
    """Unpack the existing archives, several at a time; return their names."""
    there = [name for name in PARTS if (folders.packed / f"{name}.tar.xz").is_file()]
    for folder in {folders.work / PARTS[name] for name in PARTS}:
        shutil.rmtree(folder, ignore_errors=True)
    (folders.work / "site").mkdir(parents=True)

    def one(name: str) -> None:
        target = folders.work / PARTS[name]
        target.mkdir(exist_ok=True)
        with tarfile.open(folders.packed / f"{name}.tar.xz") as archive:
            archive.extractall(target, filter="data")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, there))
    return there


def place_core(packed: Path) -> str:
    """Copy the packed core into the tree, or compile it if it does not fit; return which.

    Without a packed folder, as in a rehearsal in a checkout, the tree keeps the core that it has.
    """
    if not packed.is_dir() and (ROOT / "flowpipe" / "_core.so").is_file():
        return "as it is in the tree"
    library = packed / "core" / "_core.so"
    digest = packed / "core" / "digest"
    if library.is_file() and digest.is_file() and digest.read_text("utf-8") == core_digest():
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            say(f"the packed core does not load here: {error}")
        else:
            for path in (packed / "core").glob("_*.so"):
                fresh = ROOT / "flowpipe" / f"{path.name}.fresh"
                shutil.copy(path, fresh)  # renamed: a process may have the old one open
                fresh.replace(ROOT / "flowpipe" / path.name)
            return "as packed"
    run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"])  # leaves no older core
    built = (ROOT / "flowpipe" / "_core.so").is_file()
    return "compiled here" if built else "NOT COMPILED, see the log of setup"


def loads(code: str, env: dict[str, str]) -> bool:
    """Return whether imports work in a separate process in another folder."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd="/", capture_output=True, text=True
    )
    if done.returncode:
        say(f"{code}: {last_line(done.stderr)}")
    return done.returncode == 0


def free_detector(folders: Folders) -> str:
    """Return a keypoint detector to use if cv2 lacks that of the default recipe.

    Empty where the default can be used. `flowpipe plan` refuses what cv2 lacks.
    """
    command = [*FLOWPIPE, "plan", "--videos", folders.clips()[0], "--out", folders.stores / "none",
               "--modalities", "warped_flow", "--device", "cpu", "--json"]  # fmt: skip
    planned = run(command, folders.environment())
    return "orb" if planned.returncode and "warp.detector" in planned.stderr else ""


def unmet(site: Path) -> list[str]:
    """Return the requirements of the packed packages that are missing here or too old."""
    from packaging.requirements import Requirement

    importlib.invalidate_caches()  # the folder was not there when this process started
    lines = []
    for found in importlib.metadata.distributions(path=[str(site)]):
        for text in found.requires or ():
            wanted = Requirement(text)
            if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
                continue
            try:
                there = importlib.metadata.version(wanted.name)
            except importlib.metadata.PackageNotFoundError:
                there = ""
            if not there or not wanted.specifier.contains(there, prereleases=True):
                lines.append(f"{found.name} requires {wanted}; installed: {there or 'none'}")
    return sorted(lines)


def versions() -> dict[str, str]:
    """Return the versions of the packages that figures depend on."""
    found = {}
    for name in [*VERSIONED, *(n for n in distributions() if re.fullmatch(r"cupy[\w-]*", n))]:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def distributions() -> list[str]:
    """Return the names of all installed distributions, in lower case."""
    return sorted({str(d.metadata["Name"]).lower() for d in importlib.metadata.distributions()})
