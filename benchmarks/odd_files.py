"""Odd names, every codec and container, other files through extract -> counts against ffprobe.

    python benchmarks/odd_files.py [--work DIR] [--nasty DIR] [--folder DIR ...]

Makes, with ffmpeg, copies of a clip under odd names (`odd_making.NAMES`), and a clip in every codec
and container that this ffmpeg writes. `flowpipe extract` runs once over each set, over the names as
a CSV and as a path per line too, and over each ``--folder``. ffprobe decodes every file as well.
The table lists the files that are not equal (all files with ``--all``):

equal      as many frames as ffprobe, the first and last at the same time
explained  another count or time, and why: see `EXPLAINED`
DIFFER     another count or time without explanation: the exit code is 1
refused    a reason code and message, although ffprobe decodes frames
no frames  the same, and ffprobe decodes no frames either
not taken  left out of the folder, and counted by kind
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from odd_making import files_below, make_codecs, make_lists, make_names

from flowpipe.datasets.ids import escape
from flowpipe.run import Quarantine
from flowpipe.store import open_store

SHARED = Path(
    os.environ.get("FLOWPIPE_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
TOLERANCE_S = 0.0011
EXPLAINED: dict[str, tuple[str, ...]] = {
    "FFmpeg gives the first frame of an AVI file another kind of time than the others, so that "
    "ffprobe shows a hole of one frame behind it": ("/mpeg1video.avi",),
    "raw H.261 has no timestamps, and releases of FFmpeg make up different ones": (".h261",),
}
"""Reason -> ends of the names of its files."""


@dataclass(frozen=True)
class ProbedStream:
    """Frame count and times of one video stream, by ffprobe."""

    coding: str
    frames: int
    first_s: float | None
    last_s: float | None


@dataclass
class Answer:
    """Outcome of one file in an extraction."""

    frames: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    stream: int | None = None
    notes: tuple[str, ...] = ()
    reason: str = ""
    message: str = ""


@dataclass
class Totals:
    """Numbers of files by outcome."""

    counts: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        kinds = ("equal", "explained", "DIFFER", "refused", "no frames", "not taken")
        return ", ".join(f"{self.counts[kind]} {kind}" for kind in kinds)


def ask_ffprobe(path: str) -> dict[int, ProbedStream]:
    """Decode all video streams of a file; streams of covers are left out."""
    done = subprocess.run(
        [
            "ffprobe", "-v", "quiet", "-threads", "1", "-select_streams", "V", "-show_entries",
            "format=format_name:stream=index,codec_name,pix_fmt:frame=stream_index,"
            "best_effort_timestamp_time", "-of", "json", "-i", f"file:{path}",
        ],
        capture_output=True, check=False,
    )  # fmt: skip
    try:
        said: dict[str, Any] = json.loads(done.stdout.decode("utf-8", "replace") or "{}")
    except ValueError:
        return {}
    kind = said.get("format", {}).get("format_name", "?").split(",")[0]
    truths = {}
    for stream in said.get("streams", ()):
        frames = [f for f in said.get("frames", ()) if f.get("stream_index") == stream["index"]]
        times = [f.get("best_effort_timestamp_time") for f in frames]
        known = [float(time) for time in times if time is not None]
        truths[stream["index"]] = ProbedStream(
            f"{kind}/{stream.get('codec_name', '?')}/{stream.get('pix_fmt', '?')}",
            len(frames),
            known[0] if times[:1] != [None] and known else None,
            known[-1] if times[-1:] != [None] and known else None,
        )
    return truths


def extract(videos: Path, folder: Path, store: Path) -> dict[str, Answer]:
    """Run the real command; return the outcome of each file by absolute path."""
    root = ["--root", str(folder)] if videos.is_file() else []
    done = subprocess.run(
        [
            sys.executable, "-m", "flowpipe", "extract", "--videos", str(videos), "--out",
            str(store), "--modalities", "rgb", "--size", "32x32", "--workers", "2",
            "--allow-missing", *root,
        ],
        capture_output=True, check=False,
    )  # fmt: skip
    words = (done.stdout + done.stderr).decode("utf-8", "backslashreplace").strip()
    told = (" done, ", " left out", " listed but absent")
    for line in words.splitlines():
        if any(one in line for one in told):
            print(f"    {line.strip()}")
    if done.returncode not in (0, 1):
        raise SystemExit(f"{words}\nflowpipe extract {videos} ended with {done.returncode}")
    answers = {}
    for video in open_store(store).videos.values():
        notes = tuple(video.meta["facts"]["notes"])
        chosen = [int(note[13:]) for note in notes if note.startswith("video_stream:")]
        answers[video.record.path] = Answer(
            video.frames, float(video.pts_s[0]), float(video.pts_s[-1]), next(iter(chosen), None),
            notes, "" if video.status == "done" else video.status,
        )  # fmt: skip
    for entry in Quarantine(store).read():
        one = entry.outcome
        answers[one.path] = Answer(reason=one.reason, message=one.message)
    return answers


def judge(path: str, truths: dict[int, ProbedStream], answer: Answer | None) -> tuple[str, str]:
    """Return the kind of answer and an explanation."""
    most = max((truth.frames for truth in truths.values()), default=0)
    if answer is None:
        return "not taken", f"ffprobe decodes {most}" if most > 1 else ""
    if answer.reason and not answer.frames:
        kind = "refused" if most else "no frames"
        return kind, f"{answer.reason}: {escape(answer.message)}"
    stream = answer.stream if answer.stream is not None else next(iter(truths), None)
    if not truths:
        return "DIFFER", "ffprobe decodes nothing"
    if stream not in truths:  # releases of FFmpeg count the streams of AVIF differently
        stream = max(truths, key=lambda index: truths[index].frames)
    truth, differences = truths[stream], []
    if any(note.startswith("joined_streams") for note in answer.notes):
        truth = replace(truth, frames=sum(t.frames for t in truths.values()), last_s=None)
    if answer.frames != truth.frames:
        differences.append(f"{answer.frames} frames, ffprobe {truth.frames}")
    for name, ours, theirs in (
        ("first", answer.first_s, truth.first_s), ("last", answer.last_s, truth.last_s),
    ):  # fmt: skip
        if theirs is not None and abs(ours - theirs) > TOLERANCE_S:
            differences.append(f"{name} {ours:.4f} s, ffprobe {theirs:.4f} s")
    said = "; ".join(differences) + (f" [{', '.join(answer.notes)}]" if answer.notes else "")
    if not differences:
        return "equal", " ".join(answer.notes)
    for reason, ends in EXPLAINED.items():
        if path.endswith(ends):
            return "explained", f"{said}: {reason}"
    return "DIFFER", said


def compare(title: str, videos: Path, folder: Path, store: Path, shown: bool) -> Totals:
    """Print the table of one set and return its totals."""
    print(f"\n{title}: {videos}")
    answers = extract(videos, folder, store)
    found = [str(path) for path in files_below(folder)]
    if videos.is_file():
        found = [path for path in found if path in answers or videos.suffix == ".csv"]
    totals = Totals()
    with ThreadPoolExecutor(2) as pool:
        for path, truths in zip(found, pool.map(ask_ffprobe, found), strict=True):
            answer = answers.get(path)
            kind, said = judge(path, truths, answer)
            totals.counts[kind] += 1
            if shown or kind != "equal":
                name = escape(os.path.relpath(path, folder))
                coding = next((t.coding for t in truths.values()), "none")
                print(f"  {kind:10}{name[-60:]:62}{coding:36}{said}")
    print(f"  {len(found)} files: {totals.line()}")
    return totals


def run(work: Path, folders: Iterable[Path], only: bool, shown: bool) -> int:
    """Make the sets, compare each and print the totals."""
    names, codecs = work / "names", work / "codecs"
    sets = [(str(folder), folder, folder) for folder in folders]
    if not only:
        if not names.exists():
            names.mkdir(parents=True)
            print(f"{make_names(names)} odd names made")
        if not codecs.exists():
            codecs.mkdir(parents=True)
            made, refused = make_codecs(codecs)
            print(f"{made} files made, {refused} combinations refused by ffmpeg")
        table, lines = make_lists(work, names)
        sets = [
            ("odd names", names, names), ("odd names as CSV", table, names),
            ("odd names, one a line", lines, names), ("codecs", codecs, codecs), *sets,
        ]  # fmt: skip
    total = Totals()
    with tempfile.TemporaryDirectory(prefix="odd-", dir=work) as stores:
        for number, (title, videos, folder) in enumerate(sets):
            store = Path(stores) / f"store{number}"
            total.counts += compare(title, videos, folder, store, shown).counts
    print(f"\ntotal: {total.counts.total()} files: {total.line()}")
    return 1 if total.counts["DIFFER"] else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, help="folder that keeps the generated files")
    parser.add_argument(
        "--nasty", type=Path, help="folder of damaged files; default: the shared data's"
    )
    parser.add_argument("--folder", type=Path, action="append", default=[],
                        help="another folder to compare; repeatable")  # fmt: skip
    parser.add_argument("--only", action="store_true", help="compare only the folders")
    parser.add_argument("--all", action="store_true", help="print equal files too")
    arguments = parser.parse_args()
    nasty = arguments.nasty or SHARED / "nasty"
    folders = [*([nasty] if nasty.is_dir() else []), *arguments.folder]
    folders = arguments.folder if arguments.only and arguments.folder else folders
    with tempfile.TemporaryDirectory(prefix="odd-files-") as folder:
        work = (arguments.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        raise SystemExit(run(work, [f.resolve() for f in folders], arguments.only, arguments.all))


if __name__ == "__main__":
    main()
