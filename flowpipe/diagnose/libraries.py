"""Required libraries -> findings: which of them are missing, broken or too old.

This module imports none of them at the top, so that it works without them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from dataclasses import dataclass

from flowpipe import distribution


@dataclass(frozen=True)
class Finding:
    """One line of the report of `flowpipe doctor`."""

    topic: str
    state: str
    """``ok``, ``lack`` (optional part missing) or ``fault`` (something does not work)."""
    found: str
    cost: str = ""
    """Consequence of the problem and how to fix it."""


REQUIRED = {
    # name of the module: name on PyPI, oldest version
    "numpy": ("numpy", "2"),
    "h5py": ("h5py", "3.8"),
    "dask": ("dask", ""),
    "distributed": ("distributed", ""),
    "cryptography": ("cryptography", ""),
    "fsspec": ("fsspec", ""),
    "av": ("av", "17.1"),
    "rich": ("rich", ""),
    "yaml": ("pyyaml", ""),
    "cv2": ("opencv-contrib-python-headless", "4.10"),
    "simplejpeg": ("simplejpeg", ""),
    "jpeg_ls": ("pyjpegls", ""),
    "scipy": ("scipy", ""),
}
"""``install_requires`` of setup.py without click, which every command needs to start."""


def find_broken_libraries() -> list[Finding]:
    """Import every required library; return a finding for each that is missing, broken or old."""
    return [fault for module in REQUIRED if (fault := _fault(module)) is not None]


def find_owner() -> Finding:
    """Return which distribution owns the package, and whether another one claims it too."""
    others = distribution.other_owners()
    if not others:
        installed = distribution.read_metadata() is not None
        cost = "" if installed else f"to install it: {distribution.install_command()}"
        return Finding("flowpipe", "ok" if installed else "lack", distribution.origin(), cost)
    cure = distribution.replace_command(" ".join(other.split()[0] for other in others))
    return Finding(
        "flowpipe",
        "fault" if distribution.read_metadata() is not None else "lack",
        f"{distribution.origin()}; and {', '.join(others)}",
        f"{' and '.join(others)} (another project, or this one under its earlier name) has a "
        f"package flowpipe too; one hides or overwrites the other: {cure}",
    )


def _fault(module: str) -> Finding | None:
    package, oldest = REQUIRED[module]
    wanted = f"{package}>={oldest}" if oldest else package
    cure = f"most commands need it: pip install -U '{wanted}'"
    try:
        version = getattr(importlib.import_module(module), "__version__", "")
    except Exception as error:  # a broken installation can raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            return Finding(module, "fault", "missing", cure)
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        versions = [
            f"{name} {importlib.metadata.version(name)}"
            for name in [*distribution.owners(module), *(["numpy"] if module != "numpy" else [])]
            if _is_installed(name)
        ]
        found = f"cannot be loaded ({said}), with {', '.join(dict.fromkeys(versions))}"
        return Finding(module, "fault", found.removesuffix(", with "), cure)
    if oldest and version and _numbers(version) < _numbers(oldest):
        return Finding(module, "fault", f"{version}, wanted {oldest} or later", cure)
    return None


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
