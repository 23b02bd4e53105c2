"""Files are replaced whole or not at all, also on a full disk."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from checkout import ROOT
from command import fill
from hypothesis import assume, given
from hypothesis import strategies as st

from flowpipe import atomic
from flowpipe.atomic import SILENT_S, atomic_file, draft_name, sweep, write_atomic
from flowpipe.errors import DiskFullError, UsageError
from flowpipe.evaluation import Scores, read_h5, write_scores
from flowpipe.owner import owner_name

DEAD = f"{owner_name().rsplit('~', 2)[0]}~{(1 << 22) + 1}~1"
"""Owner that no process of this machine can be: its id is above the largest."""


def test_a_file_is_replaced_whole_and_nothing_else_stays(tmp_path: Path) -> None:
    for content in (b"one", b"another"):
        write_atomic(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "file") as half:
        half.write_bytes(b"new")
        _ = 1 / 0
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_name_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"flow .*/none/x\.flo cannot be written: No such file"):
        write_atomic(tmp_path / "none" / "x.flo", b"", "flow")


def test_a_full_disk_keeps_the_older_scores(
    small_disk: Callable[[int], Path], rng: np.random.Generator
) -> None:
    disk = small_disk(1 << 10)
    ids = tuple(map(str, range(100)))
    old = Scores("old", ids, rng.normal(size=(100, 5)))
    write_scores(disk / "scores.h5", old, {})
    ballast = fill(disk)
    new = Scores("new", ids, rng.normal(size=(100, 5)))
    with pytest.raises(DiskFullError, match="scores .*free some space"):
        write_scores(disk / "scores.h5", new, {})
    np.testing.assert_array_equal(read_h5(disk / "scores.h5").values, old.values)
    assert sorted(path.name for path in disk.iterdir()) == [ballast.name, "scores.h5"]


def test_a_full_disk_keeps_the_older_checkpoint(
    small_disk: Callable[[int], Path],
) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    from flowpipe.tsn.run_folder import read_checkpoint, save

    disk = small_disk(4 << 10)
    path = disk / "last.pt"
    save(path, {"model": {"a": torch.ones(1000)}})
    for spare in (0, 64 << 10, 1 << 20):  # it fails at the first byte, in a tensor, at the end
        ballast = fill(disk, spare)
        with pytest.raises(DiskFullError, match=r"checkpoint .*last\.pt.*free some space"):
            save(path, {"model": {f"{k}": torch.ones(50_000) for k in range(6)}})
        ballast.unlink()
        assert torch.equal(read_checkpoint(path)["model"]["a"], torch.ones(1000))
        assert [file.name for file in disk.iterdir()] == ["last.pt"]


SAVES = """
import pathlib, sys, torch
from flowpipe.tsn.run_folder import save
values = {"model": {str(k): torch.ones(1 << 18) for k in range(16)}}
while True:
    save(pathlib.Path(sys.argv[1]), values)
"""


def kill_in_the_middle(code: str, path: Path) -> Path:
    """Run a program until it writes the draft of a file, kill it, and return the draft."""
    while True:
        with subprocess.Popen([sys.executable, "-c", code, str(path)]) as process:
            while not list(path.parent.glob(".*.tmp")):
                assert process.poll() is None
                time.sleep(0.001)
            process.kill()
        if left := list(path.parent.glob(".*.tmp")):  # else the save was done before the signal
            return left[0]


def test_the_next_write_removes_what_a_killed_save_left(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    from flowpipe.tsn.run_folder import read_checkpoint, save

    draft = kill_in_the_middle(SAVES, tmp_path / "last.pt")
    assert draft.name.startswith(".last.pt.")
    save(tmp_path / "last.pt", {"model": {"a": torch.ones(3)}})
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
    assert torch.equal(read_checkpoint(tmp_path / "last.pt")["model"]["a"], torch.ones(3))


@pytest.mark.parametrize("silent_s", [600, 7200])
def test_a_draft_from_another_machine_goes_after_an_hour_of_silence(
    tmp_path: Path, silent_s: float
) -> None:
    draft = tmp_path / ".last.pt.elsewhere~0~0~1~1~01234567.tmp"
    draft.touch()
    os.utime(draft, (time.time() - silent_s,) * 2)
    write_atomic(tmp_path / "other", b"")
    assert draft.exists() == (silent_s < SILENT_S)


@given(name=st.binary(min_size=1, max_size=255))
def test_the_draft_of_any_name_is_swept_once_its_writer_is_dead(name: bytes) -> None:
    assume(name not in (b".", b"..") and not set(name) & set(b"/\0"))
    with TemporaryDirectory() as folder:
        draft = draft_name(Path(folder, os.fsdecode(name)))
        draft.write_bytes(b"half")
        assert atomic.sweep(draft.parent) == []
        dead = draft.with_name(draft.name.replace(owner_name(), DEAD))
        draft.rename(dead)
        Path(folder, "kept.tmp").touch()
        assert atomic.sweep(draft.parent) == [dead]


def test_folders_are_swept_and_links_are_not_followed(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "out"
    for path in (outside, folder / f".video.{DEAD}~01234567.tmp"):
        path.mkdir(parents=True)
        (path / "img_00001.jpg").touch()
    (folder / f".link.{DEAD}~01234567.tmp").symlink_to(outside)
    atomic.sweep(folder)
    assert not list(folder.iterdir()) and list(outside.iterdir())


def test_the_next_write_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    code = (
        "import sys, time; from flowpipe.atomic import atomic_file\n"
        "with atomic_file(sys.argv[1]) as half:\n"
        "    half.write_bytes(b'half'); print('writes', flush=True); time.sleep(100)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "file")], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writes\n"
        write_atomic(tmp_path / "other", b"while the writer lives")
        (left,) = tmp_path.glob(".*.tmp")
        process.kill()
        process.wait()
    assert left.read_bytes() == b"half"
    write_atomic(tmp_path / "other", b"after its death")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_one_sweep_serves_drafts_scratch_folders_and_heartbeats() -> None:
    """No other module decides whether the process of a temporary file has ended and removes it."""
    users = {
        path.relative_to(ROOT / "flowpipe").as_posix()
        for path in (ROOT / "flowpipe").rglob("*.py")
        if "import" in (text := path.read_text()) and re.search(r"import .*\bowner_is_gone\b", text)
    }
    assert users == {"atomic.py", "run/claims.py"}  # claims waits for living runs and removes none


def test_a_folder_is_as_old_as_the_last_write_in_it(tmp_path: Path) -> None:
    folder = tmp_path / ".video.elsewhere~0~0~1~1~01234567.tmp"
    folder.mkdir()
    (folder / "img.jpg").touch()
    os.utime(folder, (0, 0))
    assert sweep(tmp_path) == []
    os.utime(folder / "img.jpg", (0, 0))
    assert sweep(tmp_path) == [folder] and not folder.exists()
