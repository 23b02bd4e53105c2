"""Scheduler files of any content: an address, or a refusal within the waiting time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowpipe.errors import UsageError
from flowpipe.run.cluster.settings import find_scheduler


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "it does not exist"),
        (b"", "no JSON object with an address"),
        (b"[" * 5000, "no JSON object with an address"),
        (b'{"id": "Scheduler-1"}', "no JSON object with an address"),
        (b'{"address": 5}', "its address is no text"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"[" * (2 << 20), "is larger than"),
    ],
)
def test_a_file_that_names_no_scheduler_is_refused(
    content: bytes | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "scheduler.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        find_scheduler(str(path), patience_s=0)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="not a regular file"):
        find_scheduler(str(tmp_path / "pipe"), patience_s=0)
