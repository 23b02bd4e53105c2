"""Folders, environment and helpers that all steps of benchmarks/gpu share."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""Root of the project."""
FLOWPIPE = [sys.executable, "-m", "flowpipe"]
NOT_HERE = 77
"""Exit code of a step that does not apply to this machine."""
CORE_SOURCES = ("setup.py", "kernels/tvl1_math.h", "kernels/cpu/*")


@dataclass(frozen=True)
class Verdict:
    """The result of a step."""

    ok: bool | None
    """True if the step passed; None if it does not apply to this machine."""
    words: str
    """Verdict in one line."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Measured values, for figures.json."""


@dataclass(frozen=True)
class Folders:
    """Folders of a run: its packed parts and its work folder.

    Parameters
    ----------
    packed : Path
        Folder that ``pack.py`` has filled.
    work : Path
        Scratch folder: unpacked packages, stores, logs.
    rehearse : bool
        True if everything is tiny and runs on the emulated GPU.
    deadline : float
        ``time.monotonic()`` at which the step that runs has to end.
    """

    packed: Path
    work: Path
    rehearse: bool
    deadline: float = float("inf")

    def left_s(self) -> float:
        """Return the seconds until the step has to end."""
        return self.deadline - time.monotonic()

    @property
    def logs(self) -> Path:
        return self.work / "logs"

    @property
    def stores(self) -> Path:
        return self.work / "stores"

    @property
    def settings(self) -> dict[str, Any]:
        """Return the values that step ``setup`` stored for the other steps."""
        path = self.work / "settings.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else {}

    @property
    def data(self) -> Path | None:
        """Return the folder of real clips: the packed one, else that of the tests, else None."""
        shared = Path(os.environ.get("FLOWPIPE_SHARED_DATA", ROOT.parent / "shared" / "data"))
        places = [self.packed / "data", shared.resolve()]
        return next((folders for folders in places if (folders / "clips").is_dir()), None)

    def clips(self) -> list[Path]:
        """Return the videos to extract, by name; those of the demo set without real clips."""
        if self.data:
            folder = self.data / "clips" / "ucf101"
        else:
            folder = self.work / "demo-clips"
            if not folder.is_dir():
                from flowpipe.datasets import demo

                demo.load(folder)
        found = sorted(p for p in folder.rglob("*") if p.suffix in (".avi", ".mp4"))
        return found[: 2 if self.rehearse else 8]

    def environment(self) -> dict[str, str]:
        """Return the environment of all steps: packed packages and this tree come first."""
        opencv = [self.work / "opencv"] if self.settings.get("packed_opencv") else []
        paths = [*opencv, self.work / "site", ROOT]
        tools = os.environ["PATH"]
        if self.rehearse:
            paths.insert(0, ROOT / "tests" / "support" / "cuda_stand_in")
            tools = f"{self.work / 'rehearsal'}{os.pathsep}{tools}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        behind = [kept["PYTHONPATH"]] if kept.get("PYTHONPATH") else []
        data = {"FLOWPIPE_SHARED_DATA": str(self.data)} if self.data else {}
        return {
            **kept, **data,
            "PATH": tools,
            "PYTHONPATH": os.pathsep.join([*map(str, paths), *behind]),
            "CUPY_CACHE_DIR": str(self.work / "cupy-cache"),
            "PYTHONUNBUFFERED": "1", "COLUMNS": "200", "TERM": "dumb",
        }  # fmt: skip


def say(*words: object) -> None:
    """Print a line to the log of the step."""
    print(*words, flush=True)


def run(
    command: list[Any],
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    quiet: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command and copy what it prints into the log; stdout and stderr are apart."""
    words = list(map(str, command))
    say("+", *words)
    done = subprocess.run(
        words, text=True, capture_output=True, errors="replace", env=env, timeout=timeout_s,
        stdin=subprocess.DEVNULL, cwd=ROOT,
    )  # fmt: skip
    if not quiet:
        say(done.stdout + done.stderr)
    return done


def last_line(text: str) -> str:
    """Return the last line that is not blank."""
    lines = [line.strip() for line in text.splitlines() if any(c.isalnum() for c in line)]
    return lines[-1][:300] if lines else "nothing was printed"


def core_digest(root: Path = ROOT) -> str:
    """Return the digest of the sources that the compiled core depends on."""
    found = sorted(path for pattern in CORE_SOURCES for path in root.glob(pattern))
    return hashlib.sha256(b"".join(path.read_bytes() for path in found)).hexdigest()


def sources_digest(root: Path = ROOT) -> str:
    """Return the digest of flowpipe's sources and the kernels, on which figures depend."""
    found_in = *root.glob("flowpipe/**/*.py"), *root.glob("kernels/**/*.*")
    files = [path for path in found_in if path.is_file()]
    found = hashlib.sha256()
    for path in sorted(files):
        found.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def commit() -> str:
    """Return the commit of the project, marked if files have changed since; empty without git."""
    if not shutil.which("git"):
        return ""
    asked = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def write_verdict(path: Path, found: Verdict) -> None:
    """Write the result of a step as JSON."""
    path.write_text(json.dumps(asdict(found), default=float), encoding="utf-8")
