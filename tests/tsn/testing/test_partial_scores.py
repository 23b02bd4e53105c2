"""Interrupted tests resume, processes share a test, and other settings are refused."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from command import in_process  # noqa: E402
from tiny_training import PROGRAM, environment, job, run  # noqa: E402

from flowpipe.errors import FormatError, UsageError  # noqa: E402
from flowpipe.evaluation import read_facts, read_h5, write_scores  # noqa: E402
from flowpipe.tsn.run_folder import LAST, read_checkpoint, save  # noqa: E402
from flowpipe.tsn.testing import test as testing  # noqa: E402
from flowpipe.tsn.testing.partial_scores import PartialScores, partial_path  # noqa: E402

SETTINGS = {"weights": "a", "test": {"crops": "10", "snippets": 25}}


def read_kept(out: Path, settings: dict = SETTINGS) -> dict[str, list[float]]:
    with PartialScores(out, settings) as finished:
        return {key: scores.tolist() for key, scores in finished.scores.items()}


def test_the_file_is_whole_wherever_a_writer_is_killed(tmp_path: Path) -> None:
    whole, videos = tmp_path / "whole", {f"é {k}": [k / 3, -1e300, 0.1] for k in range(4)}
    with PartialScores(whole, SETTINGS) as finished:
        for key, scores in videos.items():
            finished.add(key, np.array(scores))
    assert read_kept(whole) == videos, "each bit of a score is kept"
    content, cut = partial_path(whole).read_bytes(), tmp_path / "cut"
    ends = [k for k, byte in enumerate(content) if byte == ord("\n")]
    for size in range(len(content) + 1):
        partial_path(cut).write_bytes(content[:size])
        there = max(0, sum(end < size for end in ends) - 1)
        assert read_kept(cut) == dict(list(videos.items())[:there])
        with PartialScores(cut, SETTINGS) as finished:
            finished.add("later", np.array([1.0, 2, 3]))
        # A line of which the end alone was lacking counts as soon as another follows.
        there = max(0, sum(end <= size for end in ends) - 1)
        assert read_kept(cut) == {**dict(list(videos.items())[:there]), "later": [1, 2, 3]}


def test_damaged_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    with PartialScores(path, SETTINGS) as finished:
        for k in range(3):
            finished.add(str(k), np.full(2, k / 7))
    content = bytearray(partial_path(path).read_bytes())
    start = content.index(b'"1"')
    content[start + 10] ^= 1
    partial_path(path).write_bytes(content)
    assert set(read_kept(path)) == {"0", "2"}


def test_processes_see_the_scores_that_others_add(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    with PartialScores(path, SETTINGS) as one, PartialScores(path, SETTINGS) as other:
        one.add("a", np.ones(2))
        other.add("b", np.zeros(2))
        assert set(one.scores) == {"a"}
        one.update()
        other.update()
        assert set(one.scores) == set(other.scores) == {"a", "b"}


def test_another_test_and_other_files_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "scores.h5"
    read_kept(out)
    other = {**SETTINGS, "test": {"crops": "5", "snippets": 25}}
    with pytest.raises(UsageError, match=r'another test: test.crops is "10" there and "5" here'):
        read_kept(out, other)
    partial_path(out).write_bytes(b"my notes\n")
    with pytest.raises(FormatError, match="is no file of finished videos"):
        read_kept(out)
    assert partial_path(out).read_bytes() == b"my notes\n"
    with pytest.raises(UsageError, match="scores of finished videos .* cannot be written"):
        read_kept(tmp_path / "none" / "x")


class Stopped(Exception):
    """As if the process ended here."""


def test_an_interrupted_test_goes_on_in_two_processes(store: Path, tmp_path: Path) -> None:
    wanted = job(store, tmp_path, end=2)
    run(wanted)
    alone, out = tmp_path / "alone.h5", tmp_path / "shared.h5"
    words = ("test", store, wanted.run, "--split", "all", "--device", "cpu")
    done = in_process(*words, "-o", alone)
    assert done.returncode == 0 and "12 videos in " in done.stderr
    assert not partial_path(alone).exists()

    def stop(finished: int, total: int) -> None:
        assert total == 12
        if finished == 5:
            raise Stopped

    half = testing.TestJob(store, wanted.run, split="all", out=out)
    with pytest.raises(Stopped):
        testing.test(half, stop)
    assert partial_path(out).exists() and not out.exists()

    done = in_process(*words, "-o", out, "--crops", 5)
    assert done.returncode == 2
    assert 'another test: test.crops is "10" there and "5" here; delete it' in done.stderr
    done = in_process(*words, "-o", out, "--amp", "bf16")
    assert done.returncode == 2 and 'amp is "off" there and "bf16" here' in done.stderr
    store, folder = tmp_path / "moved", shutil.copytree(wanted.run, tmp_path / "moved run")
    shutil.copytree(words[1], store)
    words = ("test", store, folder, *words[3:])

    command = [sys.executable, PROGRAM, *words, "-o", out, "--devices", 2]
    done = subprocess.run(
        list(map(str, command)), env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # The second process may have finished some before the first one looks.
    assert re.search(rf"resuming: {partial_path(out)} has \d+ of 12 videos", done.stderr)
    assert done.stderr.count("12 videos in") == 1 and done.stdout.count("all ") == 1
    assert not partial_path(out).exists()
    one, other = read_h5(alone), read_h5(out)
    assert one.video_ids == other.video_ids
    np.testing.assert_allclose(other.values, one.values, rtol=1e-5, atol=1e-6)
    assert {**read_facts(alone), "store": str(store)} == read_facts(out)


@pytest.fixture(scope="module")
def finished(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and the scores of its finished test."""
    folder = tmp_path_factory.mktemp("finished")
    wanted = job(store, folder, end=1)
    run(wanted)
    done = in_process("test", store, wanted.run, "-o", folder / "scores.h5", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return wanted.run, folder / "scores.h5"


def test_a_finished_test_is_not_computed_again(store: Path, finished: tuple[Path, Path]) -> None:
    folder, out = finished
    before = read_h5(out)
    done = in_process("test", store, folder, "-o", out, "--device", "cpu")
    assert done.returncode == 0 and "mean class accuracy" in done.stdout
    assert f"{out} has the scores of 3 videos already: there is nothing to compute" in done.stderr
    assert "testing videos" not in done.stderr and "peak memory" not in done.stderr
    np.testing.assert_array_equal(read_h5(out).values, before.values)
    assert not partial_path(out).exists()


def test_the_scores_of_another_test_are_not_overwritten(
    store: Path, finished: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, out = finished
    before = out.read_bytes()
    for more, what in (
        (("--crops", 5), 'test.crops is "10" there and "5" here'),
        (("--split", "all"), 'split_name is "test1" there and "all" here'),
        (("--amp", "bf16"), 'amp is "off" there and "bf16" here'),
    ):
        done = in_process("test", store, folder, "-o", out, "--device", "cpu", *more)
        assert done.returncode == 2
        assert f"{out} has the scores of another test: {what}; delete it to" in done.stderr
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    values = read_checkpoint(other / LAST)
    values["model"]["new_fc.bias"] += 1
    save(other / LAST, values)
    done = in_process("test", store, other, "-o", out, "--device", "cpu")
    assert done.returncode == 2 and "another test: network is" in done.stderr
    assert out.read_bytes() == before and not partial_path(out).exists()
    notes = tmp_path / "notes.h5"
    notes.write_text("mine")
    done = in_process("test", store, folder, "-o", notes, "--device", "cpu")
    assert done.returncode == 2 and "delete it, or choose another -o" in done.stderr
    assert notes.read_text() == "mine"


def test_videos_that_the_store_has_got_since_are_added(
    store: Path, finished: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, out = finished
    scores, fewer = read_h5(out), tmp_path / "scores.h5"
    known = replace(
        scores, video_ids=scores.video_ids[1:], values=scores.values[1:] + 1,
        positives=scores.positives[1:],
    )  # fmt: skip
    write_scores(fewer, known, read_facts(out))
    done = in_process("test", store, folder, "-o", fewer, "--device", "cpu")
    assert done.returncode == 0 and f"resuming: {fewer} has 2 of 3 videos" in done.stderr
    again = read_h5(fewer)
    assert again.video_ids == scores.video_ids
    np.testing.assert_array_equal(again.values[1:], known.values)
    np.testing.assert_array_equal(again.values[0], scores.values[0])


def test_a_process_that_starts_after_the_end_leaves_nothing(
    store: Path, finished: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process found all scores in the partial file, wrote OUT and deleted the file."""
    folder, out = finished
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    steps: list[int] = []
    late = testing.TestJob(store, folder, out=out)
    assert testing.test(late, lambda done, total: steps.append(done)) is None
    assert not steps and not partial_path(out).exists()


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
