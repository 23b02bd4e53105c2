"""Extraction from Python: what the command does, with progress, on workers that are there."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av", reason="needs av to encode the videos")

from distributed import Client, LocalCluster  # noqa: E402
from videofile import encode_video, moving_clip  # noqa: E402

import flowpipe  # noqa: E402
from flowpipe.errors import FlowpipeError, UsageError  # noqa: E402
from flowpipe.run import Summary  # noqa: E402


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of a class each, and a file that is no video."""
    folder = tmp_path_factory.mktemp("job") / "clips"
    for name in ("wave", "jump"):
        (folder / name).mkdir(parents=True)
        encode_video(folder / name / "1.mp4", moving_clip(6))
    (folder / "wave" / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 500)
    return folder


def job_of(out: Path, videos: Path, **options: object) -> flowpipe.ExtractJob:
    return flowpipe.extract_job(
        out, videos=str(videos), modalities="rgb,flow", size="48x32", device="cpu", workers=1,
        **options,
    )  # fmt: skip


def check(store: Path, summary: Summary, seen: list[flowpipe.Progress]) -> None:
    assert summary.store == store and summary.counts["done"] == 2
    (failure,) = summary.failures
    assert "broken" in failure.video_id and failure.reason and failure.message
    assert summary.missing is not None and len(summary.missing.unreadable) == 1
    assert failure.video_id in (store / "missing.txt").read_text()
    counts = [now.done for now in seen]
    assert seen[0].total == 3 and counts[0] == 0 and counts == sorted(counts)
    last = seen[-1]
    assert (last.done, last.failed, last.total, last.frames) == (3, 1, 3, 12)
    assert last.frames_per_s > 0
    statuses = [now.outcome.status for now in seen if now.outcome]
    assert sorted(statuses) == ["done", "done", "failed"]
    opened = flowpipe.open_store(store)
    assert len(opened.videos) == 2 and opened.modalities == ("rgb", "flow")


def test_a_job_is_planned_extracted_and_continued(
    videos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    job = job_of(store, videos)
    assert flowpipe.plan(job).videos == 3 and not store.exists()
    seen: list[flowpipe.Progress] = []
    check(store, flowpipe.extract(flowpipe.plan(job), progress=seen.append), seen)
    again = flowpipe.extract(job_of(store, videos))
    assert again.counts["already done"] == 2 and again.counts["quarantined"] == 1
    assert not again.failures and flowpipe.plan(job).videos == 0
    printed = capfd.readouterr()
    assert printed.out == "" and "broken" not in printed.err


def test_ctrl_c_keeps_a_store_that_the_same_job_finishes(
    videos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # A shell that runs the tests in the background makes them ignore Ctrl-C.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    job, sent = job_of(tmp_path / "store", videos), []

    def interrupt_once(now: flowpipe.Progress) -> None:
        if not sent:
            sent.append(now)
            signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            flowpipe.extract(job, progress=interrupt_once)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, inherited)
    summary = flowpipe.extract(job)
    assert (
        len(flowpipe.open_store(tmp_path / "store").videos) == 2 and not summary.counts["partial"]
    )
    assert capfd.readouterr() == ("", ""), "a library prints nothing"


def test_an_error_of_the_callback_ends_the_run_and_is_raised(videos: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path / "store", videos)

    def fail(now: flowpipe.Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        flowpipe.extract(job, progress=fail)
    assert flowpipe.plan(job).videos == 3


def test_workers_of_a_run_in_a_thread_ignore_ctrl_c(videos: Path, tmp_path: Path) -> None:
    """Jupyter sends SIGINT to every process of its kernel, a terminal to those of a command."""
    job, blocked, found = job_of(tmp_path / "store", videos), set[bool](), list[Summary]()

    def look(now: flowpipe.Progress) -> None:
        for worker in list_processes_below(os.getpid()):
            if b"spawn_main" in (worker / "cmdline").read_bytes():
                lines = (worker / "status").read_text().splitlines()
                (mask,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigBlk"))
                blocked.add(bool(mask >> (signal.SIGINT - 1) & 1))

    thread = threading.Thread(target=lambda: found.append(flowpipe.extract(job, progress=look)))
    thread.start()
    thread.join()
    assert found[0].counts["done"] == 2 and blocked == {True}


def list_processes_below(pid: int) -> list[Path]:
    """Folders in /proc of a process's descendants."""
    below = [
        int(child)
        for children in Path(f"/proc/{pid}/task").glob("*/children")
        for child in children.read_text().split()
    ]
    return [Path(f"/proc/{child}") for child in below] + [
        path for child in below for path in list_processes_below(child)
    ]


def test_workers_of_a_client_extract_in_any_thread_and_stay(
    videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="flowpipe")
    store, seen, found = tmp_path / "store", list[flowpipe.Progress](), list[Summary]()
    settings = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**settings) as cluster, Client(cluster) as client:
        job = job_of(store, videos, scheduler=client)
        thread = threading.Thread(
            target=lambda: found.append(flowpipe.extract(job, progress=seen.append))
        )
        thread.start()
        thread.join()
        check(store, found[0], seen)
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3
        pids = set(client.run(os.getpid).values())
        (handler,) = client.run(lambda: len(logging.getLogger("flowpipe").handlers)).values()
        assert handler == 1, "the worker's own NullHandler alone is left"
    begun = [one for one in caplog.records if one.getMessage().startswith("begin ")]
    assert len(begun) == 3 and {one.process for one in begun} == pids
    outcomes = [one for one in caplog.records if one.name == "flowpipe.outcomes"]
    assert sorted(one.levelname for one in outcomes) == ["INFO", "INFO", "WARNING"]


def test_workers_that_are_threads_of_this_process_are_refused(videos: Path, tmp_path: Path) -> None:
    settings = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**settings, processes=False) as cluster, Client(cluster) as client:
        job = job_of(tmp_path / "store", videos, scheduler=client)
        with pytest.raises(UsageError, match="threads of this process"):
            flowpipe.extract(job)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"dataset": "ucf10", "videos": None}, "did you mean ucf101"),
        ({"recipe": "ucf11"}, "did you mean ucf101"),
        ({"modalities": ["rgb", "flo"]}, "did you mean flow"),
        ({"modalities": 3}, "modalities must be a list"),
        ({"settings": {"boundd": 3}}, "did you mean bound"),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
        ({"workers": "2"}, "workers must be a whole number of at least 1; got '2'"),
        ({"on_error": "ignore"}, "known: skip, partial, conceal, fail"),
        ({"size": (96, "64")}, "size must be two whole numbers"),
        ({"part": (4, 3)}, "wants i/n"),
        ({"val_fraction": 2}, "val_fraction must be a number above 0 and below 1; got 2"),
        ({"max_damaged": float("nan")}, "max_damaged must be 0 to 1"),
        ({"stall_s": 0}, "stall_s must be a number of at least 1"),
        ({"lists": {"train": "gone.txt"}}, "no such file"),
        ({"lists": ["train.txt"]}, "lists must be files by split"),
        ({"videos": 5}, "videos must be a path or a URL; got 5"),
        ({"retry": "corupt"}, "did you mean corrupt"),
        ({"out": "s3://bucket/store"}, "out must be a path on a disk"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_every_wrong_argument_is_an_error_of_one_class(
    wrong: dict[str, Any], words: str, videos: Path, tmp_path: Path
) -> None:
    given = {"out": tmp_path / "store", "videos": videos, "device": "cpu", **wrong}
    with pytest.raises(FlowpipeError, match=re.escape(words)):
        flowpipe.extract_job(**given)
    assert not (tmp_path / "store").exists()


def test_python_values_mean_what_the_texts_of_options_mean(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("wave/1.mp4\n")
    (tmp_path / "val.txt").write_text("jump/1.mp4\n")
    files = {split: tmp_path / f"{split}.txt" for split in ("train", "val")}
    common = {"videos": videos, "device": "cpu"}
    jobs = [
        flowpipe.extract_job(
            tmp_path / "store", modalities=["rgb", "flow"], settings={"bound": 15, "flow.warps": 3},
            size=(48, 32), part=(1, 2), lists=files, only=["train1"], **common,
        ),
        flowpipe.extract_job(
            tmp_path / "store", modalities="rgb,flow", settings=["bound=15", "flow.warps=3"],
            size="48x32", part="1/2", lists=list(files.items()), only="train1", **common,
        ),
    ]  # fmt: skip
    assert jobs[0].recipe == jobs[1].recipe and jobs[0].options == jobs[1].options
    assert jobs[0].source == jobs[1].source and len(jobs[0].dataset.records) == 1


def test_wrong_arguments_and_absent_videos_are_refused(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="either --dataset"):
        flowpipe.extract_job(tmp_path / "store")
    listed = tmp_path / "list.txt"
    listed.write_text(f"{videos}/wave/1.mp4 0\n{videos}/wave/gone.mp4 0\n")
    job = flowpipe.extract_job(tmp_path / "store", videos=listed, modalities="rgb", device="cpu")
    with pytest.raises(UsageError, match="1 video of the data set cannot be found"):
        flowpipe.extract(job)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["missing.txt"]
    (line,) = (tmp_path / "store" / "missing.txt").read_text().splitlines()
    assert line.startswith("absent\t") and "wave/gone.mp4\t" in line
