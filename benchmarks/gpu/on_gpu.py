"""The steps of steps.py, one after the other, on a GPU machine -> summary.txt, figures.json, logs.

    bash benchmarks/gpu/on-gpu [--seconds 540] [--only STEP,STEP] [--list] [--rehearse]

Run in any folder; `pack.py` has filled ``.gpu`` on another machine. Each step is a process with a
time limit of its own: a step that fails or hangs stops no other, and one for which too little time
is left is skipped. The results in $OUT, else ./gpu-results, are complete after every step:

summary.txt
    A line per step: ok, FAIL, TIME (stopped at its limit), SKIP (too little time was left), NONE
    (does not apply to this machine).
figures.json
    Everything that was measured; ``page.py`` makes docs/gpu-measured.md of it.
logs.tar.gz
    The whole output of every step.

Exit code: 0 all steps that ran passed, 1 some failed, 2 wrong use or nothing could run.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from folders import NOT_HERE, ROOT, Folders, commit, last_line, sources_digest
from steps import SETUP, STEPS, GpuStep

REHEARSAL_SLOWER = 5
"""Factor of the limits in a rehearsal: emulated kernels are slow."""
GRACE_S = 5
VERDICTS = {0: "ok", NOT_HERE: "NONE"}
TOOLS = ("nvidia-smi", "ncu", "compute-sanitizer", "nvidia-cuda-mps-control")
"""Programs that rehearsal/tool replaces."""


class StepsRun:
    """A run of some steps, and its results so far."""

    def __init__(self, folders: Folders, out: Path, seconds: float) -> None:
        self.folders, self.out = folders, out
        self.began, self.seconds = time.monotonic(), seconds
        self.child: subprocess.Popen[bytes] | None = None
        self.failed = self.ran = self.number = 0
        self.figures: dict[str, Any] = {
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "commit": commit(),
            "sources": sources_digest(),
            "rehearsal": folders.rehearse,
            "python": platform.python_version(),
            "seconds": seconds,
            "steps": {},
        }
        (out / "summary.txt").write_text("", encoding="utf-8")

    def left_s(self) -> float:
        return self.seconds - (time.monotonic() - self.began)

    def tell(self, text: str) -> None:
        """Print a line, and append it to summary.txt."""
        print(text, flush=True)
        with (self.out / "summary.txt").open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def step(self, step: GpuStep, numbered: int) -> bool:
        """Run a step within its limit; return whether it passed."""
        if self.left_s() < step.least_s:
            self.record(
                step.name, "SKIP", 0, f"needs {step.least_s} s, {self.left_s():.0f} are left"
            )
            return False
        limit_s = step.limit_s * (REHEARSAL_SLOWER if self.folders.rehearse else 1)
        limit_s = max(1.0, min(limit_s, self.left_s() - GRACE_S))
        name = step.name.replace(":", "-")
        log = self.folders.logs / f"{numbered:02}-{name}.log"
        result = self.folders.work / "results" / f"{name}.json"
        result.unlink(missing_ok=True)
        command = [sys.executable, str(Path(__file__).with_name("steps.py")), step.name,
                   "--packed", str(self.folders.packed), "--work", str(self.folders.work),
                   "--seconds", f"{limit_s:.0f}", "--result", str(result)]  # fmt: skip
        command += ["--rehearse"] * self.folders.rehearse
        began = time.monotonic()
        with log.open("wb") as file:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                env=self.folders.environment(), cwd=ROOT, start_new_session=True,
            )  # fmt: skip
            try:
                verdict = VERDICTS.get(self.child.wait(limit_s), "FAIL")
            except subprocess.TimeoutExpired:
                verdict = "TIME"
            end(self.child)
            self.child = None
        found: dict[str, Any] = {}
        if result.exists() and verdict != "TIME":
            found = json.loads(result.read_text(encoding="utf-8"))
        words = found.get("words") or last_line(log.read_text("utf-8", errors="replace"))
        if verdict == "TIME":
            words = f"stopped after {limit_s:.0f} s; last words: {words}"
        seconds = time.monotonic() - began
        self.record(step.name, verdict, seconds, words, found.get("figures", {}))
        return verdict == "ok"

    def record(
        self, name: str, verdict: str, seconds: float, words: str, figures: Any = None
    ) -> None:
        """Add a step to the results; the files are complete after each step."""
        self.ran += verdict != "SKIP"
        self.failed += verdict in ("FAIL", "TIME")
        self.tell(f"{verdict:5} {name:18} {seconds:3.0f}s   {words}")
        self.figures["steps"][name] = {
            "verdict": verdict, "seconds": round(seconds, 1), "words": words,
            "figures": figures or {},
        }  # fmt: skip
        text = json.dumps(self.figures, indent=1) + "\n"
        (self.out / "figures.json").write_text(text, encoding="utf-8")
        fresh = self.folders.work / "logs.tar.gz"
        with tarfile.open(fresh, "w:gz") as archive:
            archive.add(self.folders.logs, "logs")
        shutil.copy(fresh, self.out)


def end(child: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> None:
    """End the process group of a step, whatever it has started."""
    for sign, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 0)):
        try:
            os.killpg(child.pid, sign)
        except ProcessLookupError:
            break
        until = time.monotonic() + patience_s
        while child.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
    child.wait()


def chosen(only: str, parser: argparse.ArgumentParser) -> list[GpuStep]:
    """Return the steps that ``--only`` names; a name selects all its variants."""
    names = [name for name in only.split(",") if name]
    known = {step.name for step in STEPS} | {step.name.partition(":")[0] for step in STEPS}
    for name in names:
        if name not in known:
            # This file runs before flowpipe is installed, so flowpipe.words is not at hand.
            near = difflib.get_close_matches(name, known)
            parser.error(f"--only {name}: no such step; try {' or '.join(near) or '--list'}")
    return [s for s in STEPS if not names or {s.name, s.name.partition(":")[0]} & set(names)]


def rehearsal_tools(folder: Path) -> None:
    """Put stand-ins of NVIDIA's programs into a folder of the PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOOLS:
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(Path(__file__).resolve().parent / "rehearsal" / "tool")


def main() -> int:
    """Run the steps; return the exit code."""
    parser = argparse.ArgumentParser(prog="on-gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=540, help="time limit of the whole run")
    parser.add_argument("--only", default="", metavar="STEP,STEP", help="run these steps only")
    parser.add_argument("--list", action="store_true", help="list the steps in their order")
    parser.add_argument("--rehearse", action="store_true",
                        help="small inputs, on the emulated GPU of the tests")  # fmt: skip
    parser.add_argument("--packed", type=Path, default=ROOT / ".gpu", metavar="FOLDER")
    scratch = Path(tempfile.gettempdir()) / f"flowpipe-gpu-{os.getuid()}"
    parser.add_argument("--work", type=Path, default=scratch, metavar="FOLDER")
    options = parser.parse_args()
    steps = chosen(options.only, parser)
    if options.list:
        for step in steps:
            times = f"at most {step.limit_s:3} s, needs {step.least_s:3} s"
            print(f"{step.name:18} {times}: {step.proves}")
        return 0
    out = Path(os.environ.get("OUT") or "gpu-results").resolve()
    out.mkdir(parents=True, exist_ok=True)
    folders = Folders(options.packed.resolve(), options.work.resolve(), options.rehearse)
    for folder in (folders.logs, folders.stores, folders.work / "results"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    if options.rehearse:
        rehearsal_tools(folders.work / "rehearsal")
    run = StepsRun(folders, out, options.seconds)

    def stop(number: int, frame: object) -> None:
        if run.child:
            end(run.child)
        run.tell(f"stopped by signal {number} after {time.monotonic() - run.began:.0f} s")
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    what = "a rehearsal without a GPU, " if options.rehearse else ""
    run.tell(f"flowpipe {run.figures['commit'] or '?'}, {what}{run.figures['made']}, "
             f"Python {run.figures['python']}, {options.seconds:.0f} s")  # fmt: skip
    if not run.step(SETUP, 0):
        run.tell("nothing can run: see the log of setup in logs.tar.gz")
        return 2
    for step in steps:
        run.step(step, STEPS.index(step) + 1)
    run.tell(f"{run.ran} steps ran, {run.failed} failed, in {time.monotonic() - run.began:.0f} s "
             f"of {options.seconds:.0f}; results in {out}")  # fmt: skip
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
