"""The write speed of a disk: measured without leaving a file, or unknown."""

from __future__ import annotations

import resource
from pathlib import Path

from flowpipe.store import disk
from flowpipe.store.disk import write_rate


def test_the_disk_of_a_folder_is_measured_before_it_exists(tmp_path: Path) -> None:
    rate = write_rate(tmp_path / "new" / "store")
    assert rate is not None and rate > 0
    assert not list(tmp_path.iterdir())


def test_the_speed_of_a_disk_that_refuses_a_write_is_unknown(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        rate = write_rate(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert rate is None
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_nearly_full_is_not_written_to(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(disk, "FREE_BYTES", disk.free_bytes(tmp_path) + (1 << 40))
    monkeypatch.setattr(disk.tempfile, "TemporaryFile", None)
    assert write_rate(tmp_path) is None


def test_the_speed_at_a_file_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert write_rate(tmp_path / "file") is None
