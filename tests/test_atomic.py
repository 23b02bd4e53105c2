"""Files that are there whole or as they were, also on a disk that is full."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import fill

from flowpipe.atomic import atomic_file, write_atomic
from flowpipe.errors import DiskFullError, UsageError
from flowpipe.evaluation import Scores, read_h5, write_scores


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


def test_a_name_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write flow .*/none/x\.flo: No such file"):
        write_atomic(tmp_path / "none" / "x.flo", b"", "flow")


def test_scores_on_a_full_disk_leave_the_ones_of_before(
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


def test_a_checkpoint_on_a_full_disk_leaves_the_one_of_before(
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
        (left,) = tmp_path.glob(".*.part")
        process.kill()
        process.wait()
    assert left.read_bytes() == b"half"
    write_atomic(tmp_path / "other", b"after its death")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
