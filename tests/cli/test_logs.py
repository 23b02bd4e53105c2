"""-v and --log-file: what a command and its workers did, on stderr and in a file."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from command import FAST, Run
from videofile import encode_video, moving_clip

LINE = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (\w+) +\S+:(\d+) (flowpipe\.\S+): (.*)")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sound video, and one that is cut off."""
    folder = tmp_path_factory.mktemp("logs") / "clips"
    folder.mkdir()
    whole = encode_video(folder / "whole.mp4", moving_clip(6))
    (folder / "cut\x1b.mp4").write_bytes(whole.read_bytes()[:300])
    return folder


def test_the_file_has_the_workers_records_and_all_that_was_said(
    videos: Path, tmp_path: Path, flowpipe: Run
) -> None:
    options = ("--videos", videos, "--out", tmp_path / "store", "--workers", 1, *FAST)
    path = tmp_path / "new" / "run.log"
    done = flowpipe("extract", *options, "--log-file", path, "-v")
    assert done.returncode == 1, done.stderr
    found = [
        match.groups() for match in map(LINE.fullmatch, path.read_text().splitlines()) if match
    ]
    assert len(found) == len(path.read_text().splitlines()), "each record is a line here"
    messages = [message for *_, message in found]
    assert re.match(r"flowpipe \S+: flowpipe extract --videos ", messages[0])
    (own,) = {pid for _, pid, name, _ in found if name == "flowpipe.command"}
    begun = [pid for level, pid, _, message in found if message.startswith("begin ")]
    assert len(begun) == 2 and own not in begun, "workers are other processes"
    (failed,) = [found for found in found if found[3].startswith("[failed]")]
    assert failed[0] == "WARNING" and r"cut\x1b.mp4" in failed[3] and "\x1b" not in failed[3]
    said = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert set(said) <= set(messages) and "extracting 2 videos in 1 shard" in done.stderr
    assert done.stderr.count("[failed]") == done.stderr.count("[done]") == 1
    assert "begin whole" not in done.stderr

    again = flowpipe("--log-file", path, "-vv", "extract", *options)
    assert again.returncode == 1 and "planned" in again.stderr
    assert len(path.read_text().splitlines()) > len(found), "a second log is appended"
    quiet = flowpipe("extract", *options)
    assert "planned" not in quiet.stderr and "extracting" not in quiet.stderr
    assert [type(one) for one in logging.getLogger("flowpipe").handlers] == [logging.NullHandler]


def test_options_work_before_and_after_every_command(tmp_path: Path, flowpipe: Run) -> None:
    for number, words in enumerate((
        ("--log-file", "FILE", "recipe", "list"),
        ("recipe", "--log-file", "FILE", "list"),
        ("recipe", "list", "--log-file", "FILE"),
    )):  # fmt: skip
        path = tmp_path / f"{number}.log"
        done = flowpipe(*(path if word == "FILE" else word for word in words))
        assert done.returncode == 0 and path.read_text().count("\n") == 1


def test_a_log_that_cannot_be_written_is_refused_and_a_full_disk_ends_the_log_alone(
    tmp_path: Path, flowpipe: Run
) -> None:
    (tmp_path / "file").touch()
    done = flowpipe("recipe", "list", "--log-file", tmp_path / "file" / "run.log")
    assert done.returncode == 2 and "--log-file" in done.stderr and "run.log" in done.stderr
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    done = flowpipe("recipe", "list", "--log-file", "/dev/full")
    assert done.returncode == 0 and done.stdout.count("\n") > 3
    assert done.stderr == "warning: /dev/full cannot be written to; the log ends here\n"


def test_errors_of_a_command_are_in_the_log(tmp_path: Path, flowpipe: Run) -> None:
    path = tmp_path / "run.log"
    done = flowpipe("--log-file", path, "extract", "--videos", tmp_path / "gone", "--out", "s")
    assert done.returncode == 2
    assert done.stderr.strip() in path.read_text()
