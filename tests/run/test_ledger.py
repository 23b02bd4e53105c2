"""Ledger and quarantine: one line per outcome, and a retry for repaired videos."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowpipe.errors import RETRIED, DiskFullError
from flowpipe.run.ledger import Ledger, Quarantine
from flowpipe.store import sweep
from flowpipe.types import Outcome


def fail(path: Path, reason: str = "corrupt", video_id: str = "v") -> Outcome:
    return Outcome(video_id, "failed", path=str(path), reason=reason, message="m")


def test_each_outcome_is_a_line_even_with_a_strange_id(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for name in ("a b", "ü/../x", "line\nbreak", '"quoted"'):
        ledger.write(Outcome(name, "done", frames=3, images={"flow": 2}))
    ledger.close()
    lines = ledger.path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["video_id"] for line in lines] == [
        "a b", "ü/../x", "line\nbreak", '"quoted"',
    ]  # fmt: skip
    assert json.loads(lines[0])["images"] == {"flow": 2}


def test_two_runs_never_share_a_file(tmp_path: Path) -> None:
    """PIDs repeat: two containers of one host name may both have process 1."""
    ledgers = [Ledger(tmp_path) for _ in range(3)]
    for number, ledger in enumerate(ledgers):
        ledger.write(Outcome(str(number), "done"))
        ledger.close()
    assert len({ledger.path for ledger in ledgers}) == 3
    assert all(len(ledger.path.read_text().splitlines()) == 1 for ledger in ledgers)


def test_writers_of_one_process_id_keep_their_own_drafts(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    with ThreadPoolExecutor(4) as writers:
        for done in [writers.submit(quarantine.add, fail(tmp_path), "skip") for _ in range(200)]:
            done.result()
    (entry,) = quarantine.read()
    assert entry.outcome.video_id == "v"
    assert len(list((tmp_path / "quarantine").iterdir())) == 1


def test_the_draft_of_a_killed_writer_is_swept(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from flowpipe.run.ledger import Quarantine\n"
        "from flowpipe.types import Outcome\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "Quarantine(pathlib.Path(sys.argv[1])).add(Outcome('v', 'failed'), 'skip')\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    (draft,) = (tmp_path / "quarantine").iterdir()
    assert sweep(tmp_path) == [draft]
    assert not draft.exists()


def test_a_failed_video_is_held_back_until_something_changes(tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(b"broken")
    quarantine = Quarantine(tmp_path / "store")
    quarantine.add(fail(video), "skip")
    key = {("v", 0, 1)}
    assert quarantine.list_held_back("", "skip") == key
    assert quarantine.list_held_back("all", "skip") == set()
    assert quarantine.list_held_back("corrupt", "skip") == set()
    assert quarantine.list_held_back("stalled", "skip") == key
    assert quarantine.list_held_back("", "partial") == set(), "another policy, another chance"
    video.write_bytes(b"mended now")
    assert quarantine.list_held_back("", "skip") == set()


def test_ids_never_become_paths(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "store")
    for name in ("../../escape", "/etc/passwd", "a" * 240, "nul\x01", "-rf", "."):
        quarantine.add(fail(tmp_path, video_id=name), "skip")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store"]
    assert [p.name for p in (tmp_path / "store").iterdir()] == ["quarantine"]
    assert len(quarantine.read()) == 6
    quarantine.remove("../../escape", 0, 1)
    assert len(quarantine.read()) == 5


def test_a_video_with_an_incomplete_entry_is_tried_again(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    quarantine.add(fail(tmp_path, video_id="torn"), "skip")
    (entry,) = (tmp_path / "quarantine").iterdir()
    entry.write_bytes(b"")
    quarantine.add(fail(tmp_path, video_id="sound"), "skip")
    assert quarantine.video_ids() == {"sound"}


def test_a_stored_part_clears_its_video(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    quarantine.add(fail(tmp_path), "skip")
    quarantine.remove("v", 2, 5)
    assert not quarantine.read()


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    open_file = os.open
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda path, flags, mode: open_file("/dev/full", os.O_WRONLY))
        ledger = Ledger(tmp_path)
    with pytest.raises(DiskFullError, match="no space left"):
        ledger.write(Outcome("v", "done"))
    ledger.close()


@pytest.mark.parametrize("reason", sorted(RETRIED))
def test_failures_with_another_cause_than_the_video_are_retried(
    reason: str, tmp_path: Path
) -> None:
    video = tmp_path / "v.mp4"
    video.write_bytes(b"whole")
    quarantine = Quarantine(tmp_path / "store")
    quarantine.add(fail(video, reason), "skip")
    assert [entry.outcome.reason for entry in quarantine.read()] == [reason]
    assert quarantine.list_held_back("", "skip") == set()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"\xff", b"[" * 100_000, b'{"outcome": null}',
        b'{"outcome": {"video_id": 3, "status": "failed"}, "source_bytes": 1,'
        b' "source_mtime_ns": 1, "on_error": "skip"}',
        b'{"outcome": {"video_id": "v", "status": "failed", "reason": "unheard"},'
        b' "source_bytes": 1, "source_mtime_ns": 1, "on_error": "skip"}',
    ],
)  # fmt: skip
def test_a_video_with_a_damaged_quarantine_file_is_tried_again(
    content: bytes, tmp_path: Path
) -> None:
    quarantine = Quarantine(tmp_path / "store")
    video = tmp_path / "v.mp4"
    video.write_bytes(b"broken")
    quarantine.add(fail(video), "skip")
    (tmp_path / "store" / "quarantine" / "hostile.json").write_bytes(content)
    assert [entry.outcome.video_id for entry in quarantine.read()] == ["v"]
    assert quarantine.list_held_back("", "skip") == {("v", 0, 1)}
