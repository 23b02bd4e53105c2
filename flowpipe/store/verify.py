"""Store folder -> Report of a check against FORMAT.md; each shard is checked in a child process."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import flowpipe
from flowpipe.errors import FormatError
from flowpipe.store import layout
from flowpipe.store.header import read_store_header
from flowpipe.store.index import shard_paths
from flowpipe.store.manifest import read_manifest
from flowpipe.words import count_noun, list_some

_SLOWEST_BYTES_PER_S = 4e6


@dataclass(frozen=True)
class Problem:
    """Broken clause of FORMAT.md."""

    shard: str
    """File name of the shard; else ``store.json``, ``index.h5`` or ``manifest``."""
    video_id: str
    """Video concerned; empty for the whole file."""
    clause: str
    """Clause such as ``S07``."""
    message: str

    def __str__(self) -> str:
        return f"{self.shard} {self.video_id} [{self.clause}] {self.message}"


@dataclass(frozen=True)
class ShardRow:
    """Counts of one shard."""

    shard: str
    """File name."""
    videos: int
    frames: int
    images: int
    bytes: int
    problems: int

    @property
    def ok(self) -> bool:
        """True if the shard has no problem."""
        return not self.problems


@dataclass
class Report:
    """Result of `verify_store`, for every shard that exists or was published."""

    shards: list[ShardRow] = field(default_factory=list)
    """Existing shards, in name order."""
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Harmless observations, such as a video that two shards hold."""

    @property
    def ok(self) -> bool:
        """True if the store has no problem."""
        return not self.problems

    def plain(self) -> dict[str, Any]:
        """Return the report as values that JSON can hold."""
        return {"ok": self.ok, **asdict(self)}


def verify_store(
    path: str | Path,
    *,
    decode: bool = False,
    workers: int = 1,
    timeout_s: float = 60.0,
    shards: Sequence[str] | None = None,
    given_up: Collection[str] = (),
    on_shard: Callable[[ShardRow], None] | None = None,
) -> Report:
    """Check a store against FORMAT.md.

    Parameters
    ----------
    path : path
        Folder of the store.
    decode : bool
        Decode every image; otherwise every CRC is checked and the first and last image of each
        video decoded.
    workers : int
        Shards checked at the same time.
    timeout_s : float
        Time limit of a shard, plus its bytes at 4 MB/s (1 MB/s with `decode`); a shard that takes
        longer is a problem.
    shards : sequence of str, optional
        File names of the shards to check; manifest, index and split videos are then not checked.
    given_up : collection of str
        Ids of videos that are known to have failed: their missing parts are notes, not problems.
    on_shard : callable, optional
        Called with the `ShardRow` of each finished shard.

    Returns
    -------
    Report
        Problems, notes and counts.

    Raises
    ------
    FormatError
        If the folder has no store.json.
    """
    store, report = Path(path), Report()
    if not (store / layout.STORE_FILE).exists():
        read_store_header(store)
    try:
        digest = read_store_header(store).recipe_digest
    except FormatError as error:
        report.problems.append(
            Problem(layout.STORE_FILE, "", getattr(error, "clause", "S01"), str(error))
        )
        digest = ""
    paths = [p for p in shard_paths(store) if shards is None or p.name in shards]
    with CheckPool() as pool:
        answers = _check_all(paths, digest, decode, workers, timeout_s, report, on_shard, pool)
        if shards is None:
            _check_videos(answers, given_up, report)
            _check_manifest(store, answers, given_up, report)
            _check_index(store, timeout_s, report, pool)
    report.shards.sort(key=lambda row: row.shard)
    report.problems.sort(key=lambda problem: (problem.shard, problem.clause, problem.video_id))
    return report


def _check_all(
    paths: Sequence[Path],
    digest: str,
    decode: bool,
    workers: int,
    timeout_s: float,
    report: Report,
    on_shard: Callable[[ShardRow], None] | None,
    pool: CheckPool,
) -> dict[str, dict[str, Any]]:
    """Check shards; return the answer of each by name. A check that cannot run is a fault."""

    def ask(path: Path) -> dict[str, Any]:
        task = {"check": "shard", "path": str(path), "digest": digest, "decode": decode}
        try:
            rate = _SLOWEST_BYTES_PER_S / (4 if decode else 1)
            limit_s = timeout_s + path.stat().st_size / rate
            return pool.ask(task, limit_s)
        except Exception as error:  # no process or no such file: an unchecked shard is a problem
            return {"faults": [("", "S09", f"the file could not be checked: {error!r}")]}

    answers: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(max(1, min(workers, len(paths)))) as threads:
        running = {threads.submit(ask, path): path.name for path in paths}
        for finished in as_completed(running):
            name, answer = running[finished], finished.result()
            answers[name] = answer
            report.problems += [Problem(name, *fault) for fault in answer["faults"]]
            row = ShardRow(
                name, answer.get("videos", 0), answer.get("frames", 0), answer.get("images", 0),
                answer.get("bytes", 0), len(answer["faults"]),
            )  # fmt: skip
            report.shards.append(row)
            if on_shard:
                on_shard(row)
    return answers


def _check_videos(
    answers: dict[str, dict[str, Any]], given_up: Collection[str], report: Report
) -> None:
    """Check across shards: all have the same streams, and every split video is complete."""
    streams = {tuple(a["modalities"]) for a in answers.values() if a.get("modalities")}
    if len(streams) > 1:
        for name, answer in answers.items():
            if tuple(answer.get("modalities", ())) != max(streams, key=len):
                report.problems.append(
                    Problem(name, "", "S15", f"it has only {answer.get('modalities')}")
                )
    found: dict[str, dict[int, dict[int, list[tuple[str, list[Any]]]]]] = {}
    for name, answer in sorted(answers.items()):
        for video_id, part, parts, *rest in answer.get("spans", ()):
            found.setdefault(video_id, {}).setdefault(parts, {}).setdefault(part, []).append(
                (name, rest)
            )
    for video_id, splits in found.items():
        if len(splits) > 1:
            report.notes.append(
                f"{video_id} is stored in {sorted(splits)} parts; S24 says which counts"
            )
        for parts, there in splits.items():
            if any(len(copies) > 1 for copies in there.values()):
                report.notes.append(f"{video_id} is stored more than once; S24 says which counts")
            missing = [part for part in range(parts) if part not in there]
            complete = any(len(other) == n for n, other in splits.items())
            if missing and not complete and video_id in given_up:
                report.notes.append(
                    f"{video_id} failed: only {len(there)} of its {parts} parts are stored, so "
                    "readers leave it out"
                )
            elif missing and not complete:
                name = there[min(there)][0][0]
                message = f"parts {missing} of {parts} are missing: run the same extraction again"
                report.problems.append(Problem(name, video_id, "S23", message))
            for part in sorted(there):
                if part + 1 in there and there[part][0][1][2] >= there[part + 1][0][1][1]:
                    message = f"timestamps do not increase from part {part} to part {part + 1}"
                    report.problems.append(Problem(there[part + 1][0][0], video_id, "S23", message))


def _check_manifest(
    store: Path, answers: dict[str, dict[str, Any]], given_up: Collection[str], report: Report
) -> None:
    """Check that every published shard exists and has its published seal."""
    try:
        manifest = read_manifest(store)
    except FormatError as error:
        report.problems.append(Problem(layout.MANIFEST_FOLDER, "", "S27", str(error)))
        return
    for fault in manifest.faults:
        report.problems.append(Problem(layout.MANIFEST_FOLDER, "", "S27", fault))
    if not manifest.read and answers and _has_manifest(store):
        message = "the manifest is gone, so lost shards cannot be found"
        report.problems.append(Problem(layout.MANIFEST_FOLDER, "", "S27", message))
    # A shard that cannot be read is not lost; it has its own problem.
    unknown = {name for name, answer in answers.items() if not answer.get("seal")}
    seals = {name: str(answer.get("seal", "")) for name, answer in answers.items()}
    there = {span[0] for answer in answers.values() for span in answer.get("spans", ())}
    for name, lost in manifest.lost(seals).items():
        if name in unknown:
            continue
        what = "is another than the one" if name in answers else "is gone, which was"
        videos = sorted({key[0] for key in lost.keys})
        missing = [v for v in videos if v not in there and v not in given_up]
        if not missing and name not in answers:
            report.notes.append(f"{name} is gone; its videos are in other shards, or have failed")
            continue
        message = (
            f"it {what} published with {count_noun(len(videos), 'video')} ({list_some(videos)}); "
            "--repair extracts them again"
        )
        report.problems.append(Problem(name, "", "S28", message))
    unlisted = sorted(answers.keys() - manifest.published.keys() - unknown)
    if unlisted and manifest.read:
        report.notes.append(
            f"{count_noun(len(unlisted), 'shard')} not in the manifest ({list_some(unlisted, 1)}): "
            "written by a run that was killed, or copied here; the next run adds them"
        )


def _has_manifest(store: Path) -> bool:
    """Return whether stores of this format version have a manifest."""
    try:
        return read_store_header(store).format_version != "1.0"
    except FormatError:
        return True


def _check_index(store: Path, timeout_s: float, report: Report, pool: CheckPool) -> None:
    if any(p.clause in ("S07", "S08", "S09") for p in report.problems):
        report.notes.append("index.h5 was not compared: there is nothing sound to compare it with")
        return
    try:
        answer = pool.ask({"check": "index", "path": str(store)}, timeout_s * 10)
    except Exception as error:
        answer = {"faults": [("", "S06", f"index.h5 could not be compared: {error!r}")]}
    for fault in answer["faults"]:
        report.problems.append(Problem(layout.INDEX_FILE, *fault))


class CheckProcess:
    """Process that checks one file after another; it is replaced when it dies or hangs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()

    def __enter__(self) -> CheckProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._stop()
        self._errors.close()

    def ask(self, task: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """Return the process' answer; a fault if it died or hung."""
        process = self._process or self.start()
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
        stop, line = time.monotonic() + limit_s, b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0, stop - time.monotonic()))
            block = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not block:
                hangs = not ready
                code = self._stop()
                what = f"hangs its reader for over {limit_s:.0f} s" if hangs else _death(code)
                return {"faults": [("", "S09", f"the file {what}{self._last_words()}")]}
            line += block
        answer: dict[str, Any] = json.loads(line)
        return answer

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process; `ask` does it where there is none."""
        package = Path(flowpipe.__file__).parent.parent
        path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flowpipe.store.check"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        return self._process

    def _stop(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin is not None and process.stdout is not None
        if process.poll() is None:
            process.kill()
        code = process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        return code

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self._errors.seek(0)
        self._errors.truncate()
        return f": {lines[-1][:200]}" if lines else ""


class CheckPool:
    """Pool of processes that check files, one for each thread that asks at the same time."""

    def __init__(self) -> None:
        self._idle: queue.SimpleQueue[CheckProcess] = queue.SimpleQueue()

    def __enter__(self) -> CheckPool:
        return self

    def __exit__(self, *_: object) -> None:
        while not self._idle.empty():
            self._idle.get().close()

    def ask(self, task: dict[str, Any], limit_s: float) -> dict[str, Any]:
        """Return the answer of an idle process, or of a new one; see `CheckProcess.ask`."""
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = CheckProcess()
        try:
            return process.ask(task, limit_s)
        finally:
            self._idle.put(process)


def _death(code: int) -> str:
    cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"kills its reader ({cause})"
