"""Inject faults into real extractions -> videos lost, repeated, changed or wrongly quarantined.

    python benchmarks/chaos.py [--faults 300] [--seed 0] [--work DIR]

A series is one store of the demo's clips. These faults are injected into its runs: a worker killed
by SIGKILL, in the middle or while it starts; a worker told to end by SIGTERM; a worker stopped by
SIGSTOP, for some seconds or for good; the client killed, or told to stop by SIGTERM; open, stat and
read of a source, a shard or the manifest that fail with EIO or ESTALE (where there is a compiler).
Between two runs its files are damaged: a shard deleted, cut short or flipped; the index deleted or
flipped; the tail of the manifest lost. A fault counts if it took effect: the process existed, the
read failed. Then the same command is run until it is done, after `verify --repair` if a shard was
damaged, and the store is compared with one that was made without faults:

lost        videos that are incomplete in the store
twice       entries that the catalogue has more than once
different   images whose bytes differ from those of the store without faults
blamed      healthy videos in quarantine, or extracted only with --retry
unverified  stores that `verify` reports as incomplete
hung        runs that took longer than five minutes

The last line has the totals; the exit code is 1 if any is not 0.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flowpipe.run import Quarantine
from flowpipe.store import open_store

SETTINGS = ("--size", "96x72", "--set", "flow=dis", "--modalities", "rgb,flow,rgb_diff")
SHIM = Path(__file__).resolve().parent.parent / "tests" / "support" / "failing_reads.c"
MOST_RUNS = 2
"""Number of undisturbed runs; the last must end with exit code 0."""
IN_A_RUN = {
    "kill worker": 4, "end worker": 2, "freeze worker": 3, "stop worker": 1, "kill client": 2,
    "end client": 2, "failing reads": 2, "kill starting worker": 1,
}  # fmt: skip
"""Faults during a run, and the weight with which each is drawn."""
BETWEEN_RUNS = (
    "shard deleted", "shard cut", "shard flipped", "index deleted", "index flipped", "manifest cut",
)  # fmt: skip


@dataclass
class Series:
    """One store and the faults injected into it."""

    store: Path
    videos: Path
    rng: random.Random
    shim: Path | None
    injected: Counter[str] = field(default_factory=Counter)
    damaged: bool = False
    hung: int = 0

    def command(self) -> list[str]:
        return [
            sys.executable, "-m", "flowpipe", "extract", "--videos", str(self.videos), "--out",
            str(self.store), "--workers", "2", "--stall", "4", *SETTINGS,
        ]  # fmt: skip

    def run(self, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})}, start_new_session=True,
        )  # fmt: skip

    def run_disturbed(self, faults: int) -> None:
        """Run once and inject up to `faults` faults during the run."""
        planned = self.rng.choices(list(IN_A_RUN), list(IN_A_RUN.values()), k=faults)
        planned.sort(key=lambda fault: fault.endswith("client"))  # the run ends with these
        tokens, environment = None, {}
        if "failing reads" in planned and self.shim:
            clip = self.rng.choice(sorted(p.name for p in self.videos.rglob("*.mp4")))
            part = self.rng.choice([f"/{clip}", f"/{clip}", "/shards/shard-", "/manifest/"])
            tokens = self.store.parent / f"failures-{time.monotonic_ns()}"
            tokens.mkdir()
            for number in range(2):
                (tokens / str(number)).touch()
            environment = {
                "LD_PRELOAD": str(self.shim), "FAILING_READS_PATH": part,
                "FAILING_READS_COUNT": str(tokens),
                "FAILING_READS_CALLS": self.rng.choice(["read", "open", "stat", "read pread"]),
                "FAILING_READS_ERRNO": str(self.rng.choice([errno.EIO, errno.ESTALE])),
            }  # fmt: skip
        process = self.run(environment)
        try:
            if "kill starting worker" in planned:
                wait_until(lambda: _workers(process.pid) or process.poll() is not None)
                time.sleep(self.rng.uniform(0.0, 1.5))
                self.injected["kill starting worker"] += self._inject("kill worker", process)
            wait_until(lambda: self._is_working() or process.poll() is not None)
            for fault in planned:
                if fault in ("failing reads", "kill starting worker"):
                    continue
                time.sleep(self.rng.uniform(0.0, 1.0))
                if process.poll() is not None:
                    break
                self.injected[fault] += self._inject(fault, process)
            self._wait(process)
        finally:
            _kill_all(process)
        if tokens is not None:
            self.injected["failing reads"] += 2 - len(list(tokens.iterdir()))
            shutil.rmtree(tokens)

    def _is_working(self) -> bool:
        return any((self.store / "running").glob("*/shard-*.json"))

    def _inject(self, fault: str, process: subprocess.Popen[bytes]) -> bool:
        what, _, whom = fault.partition(" ")
        number = {"kill": signal.SIGKILL, "end": signal.SIGTERM}.get(what, signal.SIGSTOP)
        if whom == "client":
            process.send_signal(number)
            return True
        workers = _workers(process.pid)
        if not workers:
            return False
        pid = self.rng.choice(workers)
        if not _signal(pid, number):
            return False
        if what == "freeze":
            threading.Timer(self.rng.uniform(0.5, 3.0), _signal, (pid, signal.SIGCONT)).start()
        return True

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for a run; return its exit code, 1 if it hangs."""
        try:
            return process.wait(timeout=300)
        except subprocess.TimeoutExpired:
            self.hung += 1
            return 1

    def damage(self, fault: str) -> bool:
        """Damage a file of the store between two runs."""
        shards = sorted((self.store / "shards").glob("[!.]*.h5"))
        index, logs = self.store / "index.h5", sorted((self.store / "manifest").glob("*.jsonl"))
        if fault.startswith("shard") and shards:
            path = self.rng.choice(shards)
            if fault == "shard deleted":
                path.unlink()
            else:
                _spoil(path, self.rng, cut=fault == "shard cut")
            self.damaged = True
        elif fault == "index deleted" and index.exists():
            index.unlink()
        elif fault == "index flipped" and index.exists():
            _spoil(index, self.rng, cut=False)
        elif fault == "manifest cut" and logs:
            path = self.rng.choice(logs)
            os.truncate(path, max(0, path.stat().st_size - self.rng.randint(1, 40)))
            self.damaged = True
        else:
            return False
        self.injected[fault] += 1
        return True

    def finish(self) -> int:
        """Run until all is done; return the number of runs, or 0 if it never is."""
        if self.damaged:
            subprocess.run(
                [sys.executable, "-m", "flowpipe", "verify", str(self.store), "--repair"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600,
            )  # fmt: skip
        for number in range(1, MOST_RUNS + 1):
            process = self.run()
            try:
                code = self._wait(process)
            finally:
                _kill_all(process)
            if code == 0:
                return number
        return 0


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition, for a minute at most."""
    until = time.monotonic() + 60
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)


def _signal(pid: int, number: int) -> bool:
    """Send a signal; return whether the process existed."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _workers(client: int) -> list[int]:
    """Return the process ids of the living workers of a client."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                command = (entry / "cmdline").read_bytes()
            except (OSError, IndexError, ValueError):
                continue
            if int(parent) == client and state != "Z" and b"spawn_main" in command:
                found.append(int(entry.name))
    return found


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    """End the remaining processes of a run; stopped workers outlive a killed client."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _spoil(path: Path, rng: random.Random, *, cut: bool) -> None:
    """Truncate a file or flip bits of it."""
    content = bytearray(path.read_bytes())
    if cut:
        del content[rng.randrange(len(content)) :]
    else:
        for _ in range(20):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def images(store: Path) -> dict[tuple[str, str], list[bytes]]:
    """Return every image of a store."""
    opened = open_store(store)
    return {
        (video_id, modality): [bytes(p) for p in opened.read_payloads(video_id, modality, 0, count)]
        for video_id, video in opened.videos.items()
        for modality, count in video.images.items()
    }


def compile_shim(folder: Path) -> Path | None:
    """Build the library that makes reads fail; None without a compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not SHIM.exists():
        return None
    library = folder / "failing_reads.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", str(SHIM), "-o", str(library), "-ldl"], check=True
    )
    return library


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    work = arguments.work or Path(tempfile.mkdtemp(prefix="chaos-"))
    work.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "flowpipe", "extract", "--dataset", "demo", "--out",
         str(work / "demo"), "--workers", "2", *SETTINGS],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    videos, shim = work / "demo-videos", compile_shim(work)
    calm = Series(work / "calm", videos, rng, shim)
    if calm.finish() != 1:
        raise SystemExit("the undisturbed run fails")
    truth = images(calm.store)
    totals: Counter[str] = Counter()
    injected: Counter[str] = Counter()
    began, number = time.monotonic(), 0
    while sum(injected.values()) < arguments.faults:
        number += 1
        series = Series(work / f"store-{number}", videos, rng, shim)
        for _ in range(3):
            series.run_disturbed(rng.randint(3, 7))
            for fault in rng.sample(BETWEEN_RUNS, rng.randint(1, 2)):
                series.damage(fault)
        runs = series.finish()
        found = images(series.store)
        quarantined = len(Quarantine(series.store).read())
        table = open_store(series.store).catalogue.table
        verified = subprocess.run(
            [sys.executable, "-m", "flowpipe", "verify", str(series.store)],
            capture_output=True, text=True,
        )  # fmt: skip
        row = {
            "lost": len({v for v, _ in truth} - {v for v, _ in found}),
            "twice": len(table.ids) - table.used,
            "different": sum(found[key] != truth[key] for key in found),
            "blamed": quarantined + (runs == 0),
            "unverified": int(verified.returncode != 0),
            "hung": series.hung,
        }
        totals.update(row)
        injected.update(series.injected)
        said = ", ".join(f"{name} {count}" for name, count in row.items())
        print(
            f"series {number}: {sum(series.injected.values())} faults, {runs} runs to the end, "
            f"{said}; {sum(injected.values())} faults in {time.monotonic() - began:.0f} s",
            flush=True,
        )
        if any(row.values()):
            print(f"  {dict(series.injected)}; kept at {series.store}", flush=True)
            print("  " + "\n  ".join(verified.stdout.splitlines()[-5:]), flush=True)
        else:
            shutil.rmtree(series.store)
    print(", ".join(f"{name} {count}" for name, count in sorted(injected.items())))
    print(
        f"{sum(injected.values())} faults: "
        + ", ".join(f"{name} {count}" for name, count in totals.items())
    )
    if arguments.work is None and not any(totals.values()):
        shutil.rmtree(work)
    return int(any(totals.values()))


if __name__ == "__main__":
    sys.exit(main())
