"""Installed metadata -> name and origin of our distribution, and the command to install extras.

The package and the command are called flowpipe; the distribution is `NAME`, since ``flowpipe`` on
PyPI is another project, whose package folder has the same name.
"""

from __future__ import annotations

import importlib.metadata
import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

__all__ = [
    "NAME", "PACKAGE", "install_command", "origin", "other_owners", "owners", "read_metadata",
    "replace_command",
]  # fmt: skip

NAME = "flowpipe-video"
"""Name of the distribution, as pip and PyPI know it."""
PACKAGE = "flowpipe"
"""Name of the package folder and of the command."""
ROOT = Path(__file__).resolve().parent.parent
"""Folder that holds the package: a checkout, or site-packages."""


def install_command(extra: str = "") -> str:
    """Return the command that installs this distribution again, with an extra.

    The command names the source of this installation: a checkout, an archive, a repository or an
    index. A bare name would install something else until a release is on PyPI.

    Parameters
    ----------
    extra : str
        A key of ``EXTRAS`` in setup.py: ``cuda``, ``train``, ...; empty for the base requirements.

    Returns
    -------
    str
        Command such as ``pip install '/src/flowpipe[cuda]'``, quoted for a shell.
    """
    extras = f"[{extra}]" if extra else ""
    source, editable = _source()
    option = "-e " if editable else ""
    if isinstance(source, Path):
        return f"pip install {option}{shlex.quote(f'{source}{extras}')}"
    if source:
        return f"pip install {option}{shlex.quote(f'{NAME}{extras} @ {source}')}"
    if read_metadata() is not None and not _direct_url():
        return f"pip install {shlex.quote(NAME + extras)}"
    return f"pip install {shlex.quote(f'.{extras}')} in a checkout of {PACKAGE}"


def replace_command(names: str) -> str:
    """Return the commands that remove other distributions from our package folder.

    Uninstalling them also removes shared files, so the commands install ours again.

    Parameters
    ----------
    names : str
        Distributions to uninstall, separated by spaces.

    Returns
    -------
    str
        Command line of a shell.
    """
    again = install_command().replace("pip install ", "pip install --force-reinstall --no-deps ", 1)
    return f"pip uninstall -y {names} && {again}"


def origin() -> str:
    """Return the name and version of the distribution and its source, as text."""
    found = read_metadata()
    if found is None:
        return f"not installed, used from {ROOT}"
    url = _direct_url().get("url", "")
    return f"{NAME} {found.version}, from {_local(url) or url or 'a package index'}"


def owners(package: str) -> list[str]:
    """Find the distributions that own a top-level package or module.

    Parameters
    ----------
    package : str
        Name of the package.

    Returns
    -------
    list of str
        Names of the distributions.
    """
    return sorted(set(importlib.metadata.packages_distributions().get(package, ())))


def other_owners() -> list[str]:
    """Return "name version" of all other distributions that own a package of our name."""
    others = [name for name in owners(PACKAGE) if _normal(name) != NAME]
    return [f"{name} {importlib.metadata.version(name)}" for name in others]


def read_metadata() -> importlib.metadata.Distribution | None:
    """Return the metadata of our distribution; None if it is not installed.

    A build leaves an egg-info beside setup.py, which Python finds first where a checkout is on the
    path. It does not say how pip installed the checkout; pip's dist-info does and is preferred.
    """
    found = list(importlib.metadata.distributions(name=NAME))
    return min(found, key=lambda one: one.read_text("METADATA") is None, default=None)


def _source() -> tuple[Path | str, bool]:
    """Return the source pip can install from, "" if unknown, and whether it is editable."""
    direct = _direct_url()
    editable = bool(direct.get("dir_info", {}).get("editable"))
    url = direct.get("url", "")
    path = _local(url)
    if path is None:
        vcs = direct.get("vcs_info", {})
        if vcs and url:
            url = f"{vcs['vcs']}+{url}@{vcs.get('requested_revision') or vcs['commit_id']}"
        if url:
            return url, False
    elif path.exists():
        return path, editable
    if read_metadata() is None and (ROOT / "setup.py").exists():
        return ROOT, False  # run from a checkout that nobody has installed
    return "", False


def _direct_url() -> dict[str, Any]:
    """Return the record of a direct installation (PEP 610); empty for one from an index."""
    found = read_metadata()
    text = found.read_text("direct_url.json") if found is not None else None
    return dict(json.loads(text)) if text else {}


def _local(url: str) -> Path | None:
    """Return the path of a file:// URL; None for other URLs."""
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
