"""`flowpipe features`: rows along videos equal those of the network on the same frames."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

import tiny  # noqa: E402
import tiny_training as training  # noqa: E402
from command import in_process  # noqa: E402

from flowpipe import open_store  # noqa: E402
from flowpipe.errors import UsageError  # noqa: E402
from flowpipe.features import Extent, open_features  # noqa: E402
from flowpipe.features.file_format import FILE_FACTS, STREAM_FACTS  # noqa: E402
from flowpipe.features.spool import RowSpool, spool_path  # noqa: E402
from flowpipe.tsn.features import extract  # noqa: E402
from flowpipe.tsn.features.extract import extract_features  # noqa: E402
from flowpipe.tsn.features.job import FeatureJob  # noqa: E402
from flowpipe.tsn.features.networks import RunNetwork  # noqa: E402
from flowpipe.tsn.run_folder import LAST  # noqa: E402
from flowpipe.tsn.testing.scorer import SnippetScorer  # noqa: E402

WINDOW, STRIDE = Extent(6), Extent(2)
NETWORK_OPTIONS = {"layer": "global_pool", "checkpoint": LAST}


@pytest.fixture(scope="module")
def runs(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of rgb and flow, snippets of 1 and 2 images; flow's reads 3 frames."""
    folder = tmp_path_factory.mktemp("runs")
    for modality in ("rgb", "flow"):
        training.run(training.job(store, folder, modality, modality=modality, end=1))
    return {modality: folder / modality for modality in ("rgb", "flow")}


def networks(
    runs: dict[str, Path], layer: str = "global_pool", checkpoint: str = LAST
) -> list[RunNetwork]:
    return [RunNetwork(run, checkpoint, "cpu", "off", layer) for run in runs.values()]


def extracted(store: Path, runs: dict[str, Path], out: Path, **options) -> list[str]:
    """Extract features; the lines that were told."""
    told: list[str] = []
    opened = networks(runs, *(options.pop(k, v) for k, v in NETWORK_OPTIONS.items()))
    job = FeatureJob(store=store, out=out, **{"window": WINDOW, "stride": STRIDE, **options})
    extract_features(job, opened, lambda done, total: None, told.append)
    return told


def assert_same_rows(path: Path, other: Path) -> None:
    """Compare two files of features, the values up to rounding."""
    with open_features(path) as one, open_features(other) as two:
        assert one.facts == two.facts and list(one.videos) == list(two.videos)
        assert one.videos == two.videos
        assert all(one.rows(key) == two.rows(key) for key in one.videos)
        for stream in ("rgb", "flow"):
            for video_id in one.videos:
                for values in ("features", "scores"):
                    pair = (getattr(file, values)(stream, video_id) for file in (one, two))
                    np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("crops, views", [(1, 0), (10, 3)])
def test_rows_are_those_of_the_network_on_the_frames_in_the_middle(
    store: Path, runs: dict[str, Path], tmp_path: Path, crops: int, views: int
) -> None:
    extracted(store, runs, tmp_path / "f.h5", crops=crops, views=views)
    opened = open_store(store)
    with open_features(tmp_path / "f.h5") as file:
        assert list(file.videos) == list(opened.videos)
        for modality, first in (("rgb", 2), ("flow", 1)):  # 1 of 6 frames, 3 of 6
            scorer = SnippetScorer(runs[modality], LAST, "cpu")
            for video_id, video in opened.videos.items():
                starts = np.arange(0, video.frames - 5, 2) + first
                wanted = scorer.snippet_scores(opened, video_id, starts, crops, "repeat")
                assert file.windows(video_id).start_frame.tolist() == (starts - first).tolist()
                close = {"rtol": 1e-5, "atol": 1e-6}
                scores = file.scores(modality, video_id)
                np.testing.assert_allclose(scores, wanted.scores.mean(1), **close)
                features = file.features(modality, video_id)
                np.testing.assert_allclose(features, wanted.features, **close)


def test_a_layer_is_averaged_over_space_and_all_layers_are_known_by_name(
    store: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    extracted(store, runs, tmp_path / "f.h5", layer="conv", video_ids=("video 03",))
    network = RunNetwork(runs["rgb"], LAST, "cpu", "off", "global_pool")
    opened = open_store(store)
    with open_features(tmp_path / "f.h5") as file:
        assert list(file.videos) == ["video 03"]
        assert file.streams["rgb"].facts["layer"] == "conv"
        windows = file.windows("video 03")
        numbers = network.images_of_rows(windows, np.arange(12) / 25)
        assert numbers[:, 0].tolist() == [2, 4, 6, 8]
        images = opened.snippet("video 03", "rgb", 0, 12)[numbers[:, 0]]
        (x,) = network.inputs(torch.from_numpy(images), np.arange(4)[:, None], 1, 1)
        conv = network.scorer.model.base_model.conv(x[:, 0]).mean((2, 3))
        found = file.features("rgb", "video 03")
        np.testing.assert_allclose(found, conv.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_a_killed_run_resumes_and_computes_no_finished_video_again(
    store: Path, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extracted(store, runs, tmp_path / "whole.h5")
    out, computed = tmp_path / "broken.h5", []
    plain = RowSpool.add

    def stop_after(most: int):
        def add(self: RowSpool, stream: str, video_id: str, *values) -> None:
            plain(self, stream, video_id, *values)
            computed.append((stream, video_id))
            if len(computed) == most:
                raise KeyboardInterrupt

        return add

    for most in (5, 14):
        monkeypatch.setattr(RowSpool, "add", stop_after(most))
        with pytest.raises(KeyboardInterrupt):
            extracted(store, runs, out)
        with spool_path(out).open("ab") as file:  # a video that was being written
            file.write(b'12345678 ["rgb"' if most == 5 else b"\x00" * 7)
    monkeypatch.setattr(RowSpool, "add", stop_after(100))
    told = extracted(store, runs, out)
    assert any(line.startswith("resuming") for line in told)
    assert len(computed) == len(set(computed)) == 24  # 12 videos, 2 streams
    assert not spool_path(out).exists()
    assert_same_rows(out, tmp_path / "whole.h5")
    with open_features(out) as file:
        assert tuple(file.facts) == tuple(sorted(FILE_FACTS))
        assert set(file.streams["rgb"].facts) == {*STREAM_FACTS, "run"}


def test_a_moved_store_and_run_are_the_same_and_another_store_is_not(
    store: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    out, moved = tmp_path / "f.h5", tmp_path / "moved"
    extracted(store, runs, out, video_ids=("video 03",))
    shutil.copytree(store, moved / "store")
    there = {modality: moved / modality for modality in runs}
    for modality, run in runs.items():
        shutil.copytree(run, there[modality])
        (there[modality] / LAST).rename(there[modality] / "best.pt")
    options = {"video_ids": ("video 03",), "checkpoint": "best.pt"}
    (told,) = extracted(moved / "store", there, out, **options)
    assert "nothing to compute" in told
    header = json.loads((moved / "store/store.json").read_text())
    header["created_utc"] = "2026-01-01T00:00:00+00:00"
    (moved / "store/store.json").write_text(json.dumps(header))
    with pytest.raises(UsageError, match="other features: store_created is .* there and"):
        extracted(moved / "store", there, out, **options)


def test_two_processes_share_the_videos_and_end_together(
    store: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole.h5", tmp_path / "shared.h5"
    extracted(store, runs, whole)
    command = [sys.executable, training.PROGRAM, "features", store, *runs.values(), "-o", out]
    command += ["--window", 6, "--stride", 2, "--device", "cpu", "--devices", 2]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, command)), env=training.environment(), capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    with spool_path(out, 1).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = run()
        assert done.returncode == 2 and not out.exists()
        (error,) = (line for line in done.stderr.splitlines() if "another" in line)
        assert f"another process of flowpipe features writes {spool_path(out, 1)}; wait" in error
    done = run()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("computing rows") == done.stderr.count("12 videos, 60 rows") == 1
    assert [path.name for path in tmp_path.iterdir() if "shared" in path.name] == ["shared.h5"]
    assert_same_rows(out, whole)


def test_each_process_tells_its_speed_and_the_first_one_that_of_all(
    store: Path, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, lines in (("1", ()), ("0", ("f.h5: 3 videos, ", "2 processes: "))):
        monkeypatch.setenv("RANK", rank)
        options = ("-o", tmp_path / "f.h5", "--split", "test", "--device", "cpu")
        done = in_process("features", store, runs["rgb"], *options)
        assert done.returncode == 0, done.stderr
        told = [line for line in done.stderr.splitlines() if " rows" in line and "/s" in line]
        wanted = [*(line for line in lines if "processes" in line), f"process {rank} of 2, rgb: "]
        assert all(map(str.startswith, told, wanted)) and len(told) == len(wanted), told
        assert all(line in done.stderr for line in lines)


def test_rows_of_any_process_are_kept_whatever_the_number_of_processes(
    store: Path, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.h5", tmp_path / "f.h5"
    extracted(store, runs, whole)
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in ("2", "1"):
        monkeypatch.setenv("RANK", rank)
        assert not extracted(store, runs, out)  # the first process tells
    late = spool_path(out, 7)
    with RowSpool(tmp_path / "other.h5") as spool:  # a command with other options, still alive
        spool.begin({"crops": 5})
        spool.add("rgb", "video 00", *[np.zeros((1, 3), "f4")] * 2)
    before = spool_path(out, 1).read_bytes()
    monkeypatch.delenv("RANK")
    computed, plain = [], RowSpool.add

    def add(self: RowSpool, stream: str, video_id: str, *values) -> None:
        plain(self, stream, video_id, *values)
        computed.append((stream, video_id))
        assert spool_path(out, 1).read_bytes() == before
        shutil.copyfile(spool_path(tmp_path / "other.h5"), late)

    monkeypatch.setattr(RowSpool, "add", add)
    (told,) = extracted(store, runs, out)
    assert re.fullmatch(r"resuming: \d+ of \d+ rows are in f.h5.partial.1, .*\.2, .*", told)
    assert len(computed) == 8  # a third of 12 videos of 2 streams
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("f.h5.")]
    assert_same_rows(out, whole)
    spool_path(out, 1).write_bytes(before)  # the first process was killed while it deleted them
    for rank, left in (("1", True), ("0", False)):
        monkeypatch.setenv("RANK", rank)
        extracted(store, runs, out)
        assert spool_path(out, 1).exists() == left and not spool_path(out).exists()


def test_a_second_command_on_the_same_file_is_refused(
    store: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    with spool_path(tmp_path / "f.h5").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = in_process("features", store, runs["rgb"], "-o", tmp_path / "f.h5")
    assert done.returncode == 2 and "wait for it, or choose another -o" in done.stderr


def test_what_a_kill_left_at_any_byte_is_cut_off(tmp_path: Path) -> None:
    path, rows = tmp_path / "f.h5.partial", np.arange(6, dtype="f4").reshape(2, 3)
    with RowSpool(tmp_path / "f.h5") as spool:
        spool.begin({"window": 6})
        spool.add("rgb", "a", rows, rows[:, :1])
        first = path.stat().st_size
        spool.add("rgb", "b", rows + 1, rows[:, :2])
    whole = path.read_bytes()
    for size in range(first, len(whole)):
        path.write_bytes(whole[:size])
        with RowSpool(tmp_path / "f.h5") as spool:
            spool.begin({"window": 6})
            assert (spool.has("rgb", "a", 2), spool.has("rgb", "b", 2)) == (True, False)
            spool.add("rgb", "b", rows + 1, rows[:, :2])
            np.testing.assert_array_equal(spool.read("rgb", "b")[0], rows + 1)
        assert path.read_bytes() == whole


def test_a_file_that_another_process_finishes_meanwhile_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = tmp_path / "f.h5.partial", fcntl.flock
    path.touch()

    def finish_first(fd: int, how: int) -> None:
        path.unlink()
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", finish_first)
    with RowSpool(tmp_path / "f.h5") as spool:
        with pytest.raises(UsageError, match="has just finished"):
            spool.begin({})
    assert not path.exists()


def test_videos_without_flow_have_no_rows_in_any_stream_and_short_ones_have_one(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    short = tiny.make_store(tmp_path / "short", videos=8, shortest=1)
    told = extracted(short, runs, tmp_path / "f.h5")
    assert "video 00 has no rows: no image of flow: the store has 1 frame of it" in told[0]
    with open_features(tmp_path / "f.h5") as file:
        assert list(file.facts["left_out"]) == ["video 00"]
        assert list(file.videos) == [f"video {k:02d}" for k in range(1, 8)]
        for video_id, video in file.videos.items():
            count = max(1, (video.frames - 6) // 2 + 1)
            assert len(file.windows(video_id)) == count
            for stream in ("rgb", "flow"):
                assert len(file.scores(stream, video_id)) == count
        window = file.windows("video 01")
        assert (window.start_frame.tolist(), window.stop_frame.tolist()) == ([0], [2])
        # One flow of two frames stands for the snippet's second flow too.
        scorer, opened = SnippetScorer(runs["flow"], LAST, "cpu"), open_store(short)
        wanted = scorer.snippet_scores(opened, "video 01", np.zeros(1, int), 1, "repeat")
        np.testing.assert_allclose(file.scores("flow", "video 01"), wanted.scores[:, 0], rtol=1e-5)


def test_batches_have_rows_of_several_videos(
    store: Path, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    plain = extract.decode_batches

    def decode_and_note(*arguments):
        for batch in plain(*arguments):
            sizes.append(sum(len(piece.row_images) for piece in batch))
            yield batch

    monkeypatch.setattr(extract, "decode_batches", decode_and_note)
    extracted(store, {"rgb": runs["rgb"]}, tmp_path / "f.h5", views=7)
    assert set(sizes[:-1]) == {7}


def test_the_command_tells_speed_and_knows_a_finished_file(
    store: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    options = ("-o", tmp_path / "f.h5", "--window", "0.24s", "--stride", "0.08s", "--split", "test")
    done = in_process("features", store, runs["rgb"], runs["flow"], *options)
    assert done.returncode == 0, done.stderr
    assert "3 videos, " in done.stderr and " rows/s, waited for data " in done.stderr
    with open_features(tmp_path / "f.h5") as file:
        assert file.facts["split"] == "test1"
        assert file.facts["stride"] == {"unit": "seconds", "value": 0.08}
        assert file.windows("video 03").start_frame.tolist() == [0, 2, 4, 6]
    again = in_process("features", store, runs["rgb"], runs["flow"], *options)
    assert again.returncode == 0 and "nothing to compute" in again.stderr
    other = in_process("features", store, runs["rgb"], runs["flow"], *options, "--crops", 5)
    assert other.returncode == 2 and "crops is 1 there and 5 here" in other.stderr


@pytest.mark.parametrize(
    "options, words",
    [
        (
            ("--layer", "conv1"),
            ("layer 'conv1' is unknown", "did you mean conv?", "all layers: global_pool, conv, bn"),
        ),
        (("--window", "2"), ("a window of 2 frames is shorter than the 3 frames", "flow")),
        (("--window", "0.05s"), ("0.05 s", "is shorter than the 3 frames", "flow")),
        (("--window", "6px"), ("wanted frames, such as 16, or seconds, such as 0.5s",)),
        (("--stride", "0"), ("wanted 1 to 1000000000 frames",)),
        (("--stride", "0.5"), ("whole number of frames", "seconds end in s")),
        (("--split", "test7"), ("split 'test7' is unknown", "test1, train1, all")),
        (("--video", "video 99"), ("video 'video 99' is unknown",)),
        (("--checkpoint", "ema"), ("no checkpoint",)),
        (("--weights", __file__), ("0 networks and 1 file", "a run has its own weights")),
    ],
)
def test_wrong_options_are_answered_in_words(
    store: Path, runs: dict[str, Path], tmp_path: Path, options: tuple[str, ...],
    words: tuple[str, ...],
) -> None:  # fmt: skip
    out = tmp_path / "f.h5"
    done = in_process("features", store, *runs.values(), "-o", out, *options)
    assert done.returncode == 2, done.stderr
    for word in words:
        assert word in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_store_of_another_extraction_is_reported(
    store: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    for modality, run in runs.items():
        shutil.copytree(run, tmp_path / modality)
        facts = json.loads((run / "run.json").read_text())
        facts["extraction"]["bound"] = 15.0
        (tmp_path / modality / "run.json").write_text(json.dumps(facts))
    (told,) = (
        line for line in extracted(store, {m: tmp_path / m for m in runs}, tmp_path / "f.h5")
        if "otherwise" in line
    )  # fmt: skip
    assert "than the store of flow: bound is 15.0 there and" in told  # RGB has no bound
    for modality, found in (("rgb", False), ("flow", True)):
        out = tmp_path / f"{modality}-scores.h5"
        done = in_process("test", store, tmp_path / modality, "-o", out, "--snippets", 2)
        assert done.returncode == 0, done.stderr
        assert ("otherwise than the store of" in done.stderr) == found


def test_streams_that_the_store_lacks_and_files_of_others_are_refused(
    store: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "f.h5.partial").write_bytes(b"something else\n")
    done = in_process("features", store, runs["rgb"], "-o", tmp_path / "f.h5")
    assert done.returncode == 2 and "is not a file of finished videos" in done.stderr
    done = in_process("features", store, tmp_path, "-o", tmp_path / "g.h5")
    assert done.returncode == 2 and "has no run.json" in done.stderr
