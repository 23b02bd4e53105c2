"""Store folder -> Report of a check against FORMAT.md; each shard is checked in a child process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flowpipe.errors import FormatError
from flowpipe.store import layout
from flowpipe.store.check_process import CheckPool
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


@dataclass(frozen=True, kw_only=True)
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
        answers = _check_all(
            paths,
            digest,
            decode,
            workers,
            timeout_s=timeout_s,
            report=report,
            on_shard=on_shard,
            pool=pool,
        )
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
    *,
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
                shard=name,
                videos=answer.get("videos", 0),
                frames=answer.get("frames", 0),
                images=answer.get("images", 0),
                bytes=answer.get("bytes", 0),
                problems=len(answer["faults"]),
            )
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
