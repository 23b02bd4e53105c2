"""Faults into real extractions until enough were injected: lost, twice, different, blamed wrongly.

    python benchmarks/chaos.py [--faults 300] [--seed 0] [--work DIR]

A series is one store of the demo's clips. Its runs are disturbed in the middle: a worker or the
client killed by SIGKILL, a worker stopped by SIGSTOP until the watchdog ends it, the client told to
stop by SIGTERM, reads of a source that fail with EIO (where there is a compiler). Between two runs
its files are damaged: a shard deleted, cut short or flipped; the index deleted or flipped; the tail
of the manifest lost. Then the same command is run until it is done, after `verify --repair` where a
shard was damaged, and the store is compared with one that nothing disturbed:

lost       videos that are not whole in the store
twice      entries that the catalogue has more than once
different  images whose bytes are not those of the undisturbed store
blamed     healthy videos in quarantine, or not extracted without --retry

The last line has the totals; the exit code is 1 if any is not 0.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from flowpipe.run import Quarantine
from flowpipe.store import open_store

SETTINGS = ("--size", "96x72", "--set", "flow=dis", "--modalities", "rgb,flow,rgb_diff")
SHIM = Path(__file__).resolve().parent.parent / "tests" / "failing_reads.c"
MOST_RUNS = 6
"""Runs of a series that nothing disturbs, before its store counts as one that never ends."""
IN_A_RUN = (
    "kill worker",
    "kill worker",
    "stop worker",
    "kill client",
    "end client",
    "failing reads",
)
BETWEEN_RUNS = (
    "shard deleted", "shard cut", "shard flipped", "index deleted", "index flipped", "manifest cut",
)  # fmt: skip


@dataclass
class Series:
    """One store and what is done to it."""

    store: Path
    videos: Path
    rng: random.Random
    shim: Path | None
    injected: Counter[str] = field(default_factory=Counter)
    damaged: bool = False

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

    def disturbed_run(self, faults: int) -> None:
        """Run once and inject up to so many faults while it works."""
        planned = [self.rng.choice(IN_A_RUN) for _ in range(faults)]
        environment = {}
        if "failing reads" in planned and self.shim:
            clip = self.rng.choice(sorted(p.name for p in self.videos.rglob("*.mp4")))
            tokens = self.store.parent / f"failures-{time.monotonic_ns()}"
            tokens.mkdir()
            for number in range(self.rng.randint(1, 2)):
                (tokens / str(number)).touch()
            environment = {
                "LD_PRELOAD": str(self.shim), "FAILING_READS_PATH": f"/{clip}",
                "FAILING_READS_COUNT": str(tokens),
            }  # fmt: skip
            self.injected["failing reads"] += 1
        process = self.run(environment)
        try:
            self._wait_for_workers(process)
            for fault in planned:
                if fault == "failing reads":
                    continue
                time.sleep(self.rng.uniform(0.0, 1.0))
                if process.poll() is not None:
                    break
                self.injected[fault] += self._inject(fault, process)
            process.wait(timeout=300)
        finally:
            _kill_all(process)

    def _inject(self, fault: str, process: subprocess.Popen[bytes]) -> bool:
        workers = _workers(process.pid)
        if fault.endswith("client"):
            process.send_signal(signal.SIGKILL if fault.startswith("kill") else signal.SIGTERM)
            return True
        if not workers:
            return False
        number = signal.SIGKILL if fault.startswith("kill") else signal.SIGSTOP
        try:
            os.kill(self.rng.choice(workers), number)
        except ProcessLookupError:
            return False
        return True

    def _wait_for_workers(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            if any((self.store / "running").glob("*/shard-*.json")):
                return
            time.sleep(0.05)

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
        """Run until done; the number of runs, or 0 if it never is."""
        if self.damaged:
            subprocess.run(
                [sys.executable, "-m", "flowpipe", "verify", str(self.store), "--repair"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600,
            )  # fmt: skip
        for number in range(1, MOST_RUNS + 1):
            process = self.run()
            try:
                code = process.wait(timeout=300)
            finally:
                _kill_all(process)
            if code == 0:
                return number
        return 0


def _workers(client: int) -> list[int]:
    """Process ids of the worker processes below a client."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes()
            except (OSError, IndexError, ValueError):
                continue
            if parent == client and b"spawn_main" in command:
                found.append(int(entry.name))
    return found


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a run: stopped workers of a killed client would stay."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _spoil(path: Path, rng: random.Random, *, cut: bool) -> None:
    """Cut a file short or flip bits of it."""
    content = bytearray(path.read_bytes())
    if cut:
        del content[rng.randrange(len(content)) :]
    else:
        for _ in range(20):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def images(store: Path) -> dict[tuple[str, str], list[bytes]]:
    """Every stored image of a store."""
    opened = open_store(store)
    return {
        (video_id, modality): [bytes(p) for p in opened.encoded(video_id, modality, 0, count)]
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
            series.disturbed_run(rng.randint(2, 4))
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
        + ", ".join(f"{name} {totals[name]}" for name in ("lost", "twice", "different", "blamed"))
        + f", stores that verify refuses {totals['unverified']}"
    )
    if arguments.work is None and not any(totals.values()):
        shutil.rmtree(work)
    return int(any(totals.values()))


if __name__ == "__main__":
    sys.exit(main())
