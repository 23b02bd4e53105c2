"""Scratch folders are private and removed with their process."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

from flowpipe.owner import owner_name
from flowpipe.scratch import scratch_folder

DIES_INSIDE = """
import os, pathlib, signal, sys
from flowpipe.scratch import scratch_folder
with scratch_folder("kind", pathlib.Path(sys.argv[1])) as folder:
    (folder / "inside").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_is_private_and_ends_with_its_block(tmp_path: Path) -> None:
    with scratch_folder("kind", tmp_path) as folder:
        assert folder.parent == tmp_path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "inside").mkdir()
        with scratch_folder("kind", tmp_path) as another:
            assert folder.is_dir() and another != folder
    assert not names(tmp_path)


def test_a_block_may_move_its_folder_away(tmp_path: Path) -> None:
    with scratch_folder("kind", tmp_path) as folder:
        folder.rename(tmp_path / "kept")
    assert names(tmp_path) == {"kept"}


def test_the_next_folder_removes_those_of_killed_processes_only(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DIES_INSIDE, tmp_path], check=False)
    (left,) = names(tmp_path)
    kept = {
        f"kind.{owner_name()}~alive", "kind.elsewhere~0~0~1~1~abc", "kind.mine", f"other.{left}",
        "kind",
    }  # fmt: skip
    for name in kept:
        (tmp_path / name / "inside").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / f"{left}x").symlink_to(outside)  # a planted link
    with scratch_folder("kind", tmp_path) as folder:
        assert names(tmp_path) == {*kept, "outside", f"{left}x", folder.name}
    assert outside.is_dir()
