"""Calls of the library in one process while the preloaded failing_reads.c fails them.

    python failing_calls.py VIDEO STORE MORE  ->  a JSON object: the answer of each case

MORE is a folder of videos of 100 kB and more, one for each container. The answer is ``io`` for an
error of that reason, else the result or the error in words.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from command import FAST

from flowpipe import open_store
from flowpipe.cli import main
from flowpipe.datasets.file_kinds import VideoFilter
from flowpipe.datasets.tree import FileTree
from flowpipe.errors import is_storage_failure
from flowpipe.run.planning.spans import make_spans
from flowpipe.run.worker.source_file import open_source
from flowpipe.store import verify_store
from flowpipe.types import VideoRecord
from flowpipe.video import cut_points, open_video, probe

video, store, more = map(Path, sys.argv[1:])
answers: dict[str, Any] = {}


def case(
    name: str, calls: str, path: str, action: Callable[[], object], count: int = 1, after: int = 0
) -> None:
    """Note what an action answers while so many calls on a path fail behind so many bytes."""
    for number, errno in (("EIO", 5), ("ESTALE", 116)):
        with tempfile.TemporaryDirectory() as tokens:
            for token in range(count):
                Path(tokens, str(token)).touch()
            os.environ |= {
                "FAILING_READS_COUNT": tokens, "FAILING_READS_CALLS": calls,
                "FAILING_READS_ERRNO": str(errno), "FAILING_READS_PATH": path,
                "FAILING_READS_AFTER": str(after),
            }  # fmt: skip
            try:
                answer = action()
            except BaseException as error:
                answer = "io" if is_storage_failure(error) else repr(error)
            del os.environ["FAILING_READS_PATH"]
            failed = count > 1 or len(list(Path(tokens).iterdir())) < count
            answers[f"{name}: {calls} {number}"] = answer if failed else "nothing failed"


def plan_again() -> str:
    _, (outcome,) = make_spans([VideoRecord("v", str(video))], split_s=0)
    return outcome.reason


def decode(path: Path = video) -> int:
    with open_video(path) as reader:
        return sum(len(window.data) for window in reader.windows())


def hash_file() -> str:
    with open_source(str(video), str(video)) as source:
        return source.sha256(lambda: None)


def without_index() -> int:
    (store / "index.h5").unlink(missing_ok=True)
    return len(open_store(store, skip_broken=True).videos)


def command(*arguments: str) -> object:
    try:
        main(list(arguments))
    except SystemExit as end:
        return end.code
    return None


name = f"/{video.name}"
case("plan", "stat", name, plan_again)
for call in ("stat", "open", "read"):
    case("probe", call, name, lambda: probe(str(video)), 99)
    case("cut", call, name, lambda: cut_points(str(video), 1), 99)
    case("decode", call, name, decode, 99)
for path in sorted(more.iterdir()):
    case(f"decode{path.suffix}", "read", f"/{path.name}", partial(decode, path), 99, 60_000)
for call in ("stat", "open", "pread"):
    case("hash", call, name, hash_file)
odd = video.with_name("odd.qqq")
for call in ("stat", "open", "read"):
    case("sort", call, "/odd.qqq", lambda: VideoFilter(local=True).accepts(odd.name, str(odd)), 99)
case("walk", "stat", "/link.mp4", lambda: "link.mp4" in FileTree.read(video.parent).files, 99)

for call in ("stat", "open", "pread"):
    case("open", call, "/shards/shard", without_index)
case("open manifest", "read", "/manifest/", without_index)
case("open store.json", "read", "/store.json", without_index)
opened = open_store(store)
(video_id, *_) = opened.videos
for call in ("stat", "open", "pread"):
    case(
        "snippet",
        call,
        "/shards/shard",
        lambda: open_store(store).snippet(video_id, "rgb", 0, 2),
        99,
    )
    case("times", call, "/shards/shard", lambda: open_store(store).pts_s(video_id), 99)
for call, path in (("open", "/shards/shard"), ("pread", "/shards/shard"), ("read", "/manifest/")):
    case(f"verify {path}", call, path, lambda: verify_store(store).ok)
    case(f"repair {path}", call, path, lambda: command("verify", str(store), "--repair"), 99)
    case(
        f"extract {path}",
        call,
        path,
        lambda: command("extract", "--videos", str(video.parent), "--out", str(store), *FAST),
    )


def after_extract() -> list[object]:
    """Return the exit code of an extraction, and the ids in the store after it."""
    code = command("extract", "--videos", str(video.parent), "--out", str(store), *FAST)
    return [code, sorted(open_store(store).videos)]


for other in ("link.mp4", "odd.qqq"):
    video.with_name(other).unlink()
os.utime(video, ns=(1, 1))
case("touched", "read", name, after_extract)
moved = video.rename(video.with_name("moved.mp4"))
for call in ("stat", "open", "read"):
    case("moved", call, "/moved.mp4", after_extract)
json.dump(answers, sys.stdout)
