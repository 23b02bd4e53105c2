"""The manifest records published shards, and damage to its file is detected."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

from flowpipe.store.manifest import (
    log_class_names,
    log_published,
    log_records,
    log_removed,
    manifest_files,
    read_manifest,
)
from flowpipe.types import VideoRecord


def log(store: Path) -> Path:
    (name,) = manifest_files(store)
    return store / "manifest" / name


def test_a_published_shard_is_recorded_with_its_seal_and_content(make_store):
    made = make_store([("a", 7), ("s", 5, 0, 2)], [("s", 4, 1, 2)])
    manifest = read_manifest(made.path)
    assert not manifest.faults
    keys = {name: one.keys for name, (one,) in manifest.published.items()}
    assert keys == {
        made.shards[0].name: (("a", 0, 1), ("s", 0, 2)),
        made.shards[1].name: (("s", 1, 2),),
    }


def test_removing_takes_one_publication_back(tmp_path):
    log_published(tmp_path, "a.h5", "one", [("v", 0, 1)])
    log_published(tmp_path, "a.h5", "two", [("v", 0, 1)])
    log_published(tmp_path, "b.h5", "one", [("w", 0, 1)])
    log_removed(tmp_path, "a.h5", "one")
    log_removed(tmp_path, "b.h5", "one")
    log_published(tmp_path, "b.h5", "one", [("w", 0, 1)])
    manifest = read_manifest(tmp_path)
    assert [p.seal for p in manifest.published["a.h5"]] == ["two"]
    assert not manifest.lost({"a.h5": "two", "b.h5": "one"})
    assert set(manifest.lost({"a.h5": "one"})) == {"a.h5", "b.h5"}


def test_the_latest_record_and_class_names_are_used(tmp_path):
    for label in (1, 2):
        log_records(tmp_path, {("a.h5", "one"): [VideoRecord("v", "/v.avi", labels=(label,))]})
        log_class_names(tmp_path, ["a", "b", "c"][: label + 1])
    manifest = read_manifest(tmp_path)
    assert manifest.records["a.h5", "one"]["v"]["labels"] == [2]
    assert manifest.class_names == ("a", "b", "c")


@pytest.mark.parametrize("at", range(0, 400, 7))
def test_every_changed_byte_is_detected(tmp_path, at):
    for number in range(4):
        log_published(tmp_path, f"{number}.h5", f"{number:064x}", [("v", number, 4)])
    path = log(tmp_path)
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1 << at % 8
    path.write_bytes(content)
    assert read_manifest(tmp_path).faults


def test_missing_lines_are_detected(tmp_path):
    for number in range(4):
        log_published(tmp_path, f"{number}.h5", f"{number:064x}", [("v", number, 4)])
    path = log(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))
    assert "lines 1 to 1 are missing" in read_manifest(tmp_path).faults[0]


def test_a_line_cut_in_half_loses_that_line_only(tmp_path):
    log_published(tmp_path, "a.h5", "one", [("v", 0, 1)])
    path = log(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    manifest = read_manifest(tmp_path)
    assert list(manifest.published) == ["a.h5"] and "half a line" in manifest.faults[0]
    log_published(tmp_path, "b.h5", "two", [("w", 0, 1)])
    assert list(read_manifest(tmp_path).published) == ["a.h5", "b.h5"]


PUBLISH_MANY = """
import sys
from pathlib import Path
from flowpipe.store.manifest import log_published
store, first = Path(sys.argv[1]), int(sys.argv[2])
for number in range(first, first + 40):
    log_published(store, f"{number}.h5", "seal", [("v" * 200, number, 1000)])
"""


def test_processes_that_append_at_once_lose_nothing(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-c", PUBLISH_MANY, tmp_path, str(40 * k)], cwd=ROOT)
        for k in range(4)
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    manifest = read_manifest(tmp_path)
    assert not manifest.faults and len(manifest.published) == 160
