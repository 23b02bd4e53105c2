"""Tests that are interrupted go on, several processes share one, and other settings are refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from command import in_process  # noqa: E402
from tsn.training import PROGRAM, environment, job, run  # noqa: E402

from flowpipe.errors import FormatError, UsageError  # noqa: E402
from flowpipe.evaluation import read_facts, read_h5  # noqa: E402
from flowpipe.tsn import test as testing  # noqa: E402
from flowpipe.tsn.finished import Finished, partial_of  # noqa: E402
from flowpipe.tsn.run_folder import LAST, read_checkpoint, save  # noqa: E402

SETTINGS = {"weights": "a", "test": {"crops": "10", "snippets": 25}}


def kept(path: Path, settings: dict = SETTINGS) -> dict[str, list[float]]:
    with Finished(path, settings) as finished:
        return {key: scores.tolist() for key, scores in finished.scores.items()}


def test_the_file_is_whole_wherever_a_writer_is_killed(tmp_path: Path) -> None:
    whole, videos = tmp_path / "whole", {f"é {k}": [k / 3, -1e300, 0.1] for k in range(4)}
    with Finished(whole, SETTINGS) as finished:
        for key, scores in videos.items():
            finished.add(key, np.array(scores))
    assert kept(whole) == videos, "each bit of a score is kept"
    content, cut = whole.read_bytes(), tmp_path / "cut"
    ends = [k for k, byte in enumerate(content) if byte == ord("\n")]
    for size in range(len(content) + 1):
        cut.write_bytes(content[:size])
        there = max(0, sum(end < size for end in ends) - 1)
        assert kept(cut) == dict(list(videos.items())[:there])
        with Finished(cut, SETTINGS) as finished:
            finished.add("later", np.array([1.0, 2, 3]))
        # A line of which the end alone was lacking counts as soon as another follows.
        there = max(0, sum(end <= size for end in ends) - 1)
        assert kept(cut) == {**dict(list(videos.items())[:there]), "later": [1, 2, 3]}


def test_damaged_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    with Finished(path, SETTINGS) as finished:
        for k in range(3):
            finished.add(str(k), np.full(2, k / 7))
    content = bytearray(path.read_bytes())
    start = content.index(b'"1"')
    content[start + 10] ^= 1
    path.write_bytes(content)
    assert set(kept(path)) == {"0", "2"}


def test_processes_see_what_others_add(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    with Finished(path, SETTINGS) as one, Finished(path, SETTINGS) as other:
        one.add("a", np.ones(2))
        other.add("b", np.zeros(2))
        assert set(one.scores) == {"a"}
        one.update()
        other.update()
        assert set(one.scores) == set(other.scores) == {"a", "b"}


def test_another_test_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.h5.partial"
    kept(path)
    other = {**SETTINGS, "test": {"crops": "5", "snippets": 25}}
    with pytest.raises(UsageError, match=r'another test: test.crops is "10" there and "5" here'):
        kept(path, other)
    path.write_bytes(b"my notes\n")
    with pytest.raises(FormatError, match="is no file of finished videos"):
        kept(path)
    assert path.read_bytes() == b"my notes\n"
    with pytest.raises(UsageError, match="cannot keep finished videos in"):
        kept(tmp_path / "none" / "x")


class Stopped(Exception):
    """As if the process ended here."""


def test_an_interrupted_test_goes_on_in_two_processes(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, end=2)
    run(wanted)
    alone, out = tmp_path / "alone.h5", tmp_path / "shared.h5"
    words = ("test", store, wanted.run, "--split", "all", "--device", "cpu")
    done = in_process(*words, "-o", alone)
    assert done.returncode == 0 and "12 videos in " in done.stderr
    assert not partial_of(alone).exists()

    def stop(finished: int, total: int) -> None:
        assert total == 12
        if finished == 5:
            raise Stopped

    half = testing.TestJob(store, wanted.run, "all", partial=partial_of(out))
    with pytest.raises(Stopped):
        testing.test(half, stop)
    assert partial_of(out).exists() and not out.exists()

    done = in_process(*words, "-o", out, "--crops", 5)
    assert done.returncode == 2
    assert 'another test: test.crops is "10" there and "5" here; delete it' in done.stderr
    done = in_process(*words, "-o", out, "--amp", "bf16")
    assert done.returncode == 2 and 'amp is "off" there and "bf16" here' in done.stderr

    command = [sys.executable, PROGRAM, *words, "-o", out, "--devices", 2]
    done = subprocess.run(
        list(map(str, command)), env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # The second process may have finished some before the first one looks.
    assert re.search(rf"going on: {partial_of(out)} has \d+ of 12 videos", done.stderr)
    assert done.stderr.count("12 videos in") == 1 and done.stdout.count("all ") == 1
    assert not partial_of(out).exists()
    one, other = read_h5(alone), read_h5(out)
    assert one.video_ids == other.video_ids
    np.testing.assert_allclose(other.values, one.values, rtol=1e-5, atol=1e-6)
    assert read_facts(alone) == read_facts(out)


def test_scores_that_are_not_finite_are_refused(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, end=1)
    run(wanted)
    values = read_checkpoint(wanted.run / LAST)
    values["model"]["new_fc.bias"][:] = float("nan")
    save(wanted.run / LAST, values)
    done = in_process("test", store, wanted.run, "-o", tmp_path / "x.h5", "--device", "cpu")
    assert done.returncode == 1
    assert "the scores of video 03 are not finite; did the training diverge?" in done.stderr
    assert not (tmp_path / "x.h5").exists()
