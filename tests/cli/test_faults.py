"""Runs that are killed, interrupted, starved of disk or of a scheduler: each fault a real one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from command import (
    FAST,
    Run,
    draw_noise_clip,
    fill,
    images,
    in_process,
    ledger,
    leftovers,
    wait_for,
)
from videofile import encode_video

from flowpipe import open_store
from flowpipe.store.shard import read_shard

pytestmark = pytest.mark.usefixtures("lasting_workers")
Running = Callable[..., "subprocess.Popen[str]"]

MANY = 18


def slow(videos: Path, store: Path, *more: object) -> tuple[object, ...]:
    """A run long enough to be disturbed: tenths of a second of TV-L1 for each of `many`.

    Shards are made by what they cost, so several videos share one, on a quick machine more of them.
    """
    return (
        "extract", "--videos", videos, "--out", store, "--workers", 2, "--size", "64x48",
        "--set", "flow.epsilon=0", "--set", "flow.iterations=2000", *more,
    )  # fmt: skip


def heartbeats(store: Path) -> Iterator[dict[str, object]]:
    """What the workers of a run are doing now."""
    for path in store.glob("running/*/*.json"):
        if path.name == "run.json":
            continue
        try:
            yield json.loads(path.read_text())
        except (OSError, ValueError):
            continue


def alive_in_session(session: int) -> bool:
    """Whether any process of a session still runs."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                return True
    return False


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short videos, of which a shard of `slow` holds several."""
    folder = tmp_path_factory.mktemp("many")
    for seed in range(MANY):
        encode_video(folder / f"clip-{seed:02}.mp4", draw_noise_clip(seed, frames=6))
    return folder


@pytest.fixture(scope="module")
def undisturbed(
    many: Path, tmp_path_factory: pytest.TempPathFactory, lasting_workers: None
) -> dict[object, bytes]:
    """Images that a run without faults makes of `many`."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    done = in_process(*slow(many, store))
    assert done.returncode == 0, done.stderr
    assert any(len(read_shard(path).entries) > 3 for path in store.glob("shards/shard-*.h5"))
    return dict(images(store))


def count_finished_in_open_jobs(store: Path) -> int:
    """Videos that workers have finished in the jobs that they are on."""
    return sum(max(0, int(str(heartbeat["position"]))) for heartbeat in heartbeats(store))


def entries(store: Path) -> int:
    """Videos in all shards; one that is in two shards counts twice."""
    return sum(len(read_shard(path).entries) for path in store.glob("shards/shard-*.h5"))


@pytest.mark.parametrize(
    "signals, publish_s",
    [([(signal.SIGINT, "all"), (signal.SIGTERM, "client")], 60), ([(signal.SIGTERM, "all")], 0)],
    ids=["late", "at_once"],
)
def test_a_signal_keeps_every_finished_video(
    signals: list[tuple[signal.Signals, str]], publish_s: int, many: Path, tmp_path: Path,
    flowpipe: Run, running: Running, undisturbed: dict[object, bytes],
) -> None:  # fmt: skip
    store = tmp_path / "store"
    run = slow(many, store, "--publish-every", publish_s)
    before, kept = 0, 0
    for number, whom in signals:
        process = running(*run)
        wait_for(lambda: count_finished_in_open_jobs(store) >= 3)
        finished = count_finished_in_open_jobs(store)
        # A terminal sends Ctrl-C to the workers too, and so does a batch system its SIGTERM.
        (os.kill if whom == "client" else os.killpg)(process.pid, number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130, stderr
        assert "run the same command to go on" in stderr
        assert len(stderr.splitlines()) < 8, stderr
        wait_for(lambda session=process.pid: not alive_in_session(session))
        before, kept = kept, len(videos := open_store(store).videos)
        assert before + finished <= kept < MANY
        assert f"interrupted; {kept - before} video" in stderr
        assert sorted(str(line["video_id"]) for line in ledger(store)) == sorted(videos)
        assert leftovers(store) == []
        assert flowpipe("verify", store).returncode == 0
    plan = json.loads(flowpipe("plan", *run[1:], "--json").stdout)
    assert (plan["videos_done"], plan["spans_to_extract"]) == (kept, MANY - kept)
    again = flowpipe(*run)
    assert again.returncode == 0, again.stderr
    assert f"{kept} done before" in again.stderr
    assert images(store) == undisturbed
    assert entries(store) == MANY, "no video is in two shards"


def test_a_worker_that_gets_sigterm_keeps_what_it_has_finished(
    many: Path, tmp_path: Path, running: Running, undisturbed: dict[object, bytes]
) -> None:
    store = tmp_path / "store"
    process = running(*slow(many, store))
    wait_for(lambda: any(int(str(heartbeat["position"])) >= 3 for heartbeat in heartbeats(store)))
    heartbeat = max(heartbeats(store), key=lambda heartbeat: int(str(heartbeat["position"])))
    os.kill(int(str(heartbeat["pid"])), signal.SIGTERM)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    lines = ledger(store)
    assert len(lines) == MANY and {line["status"] for line in lines} == {"done"}
    by_it = [line for line in lines if str(line["worker"]).endswith(f":{heartbeat['pid']}")]
    assert len(by_it) >= int(str(heartbeat["position"])), "none of them was extracted again"
    assert images(store) == undisturbed
    assert entries(store) == MANY, "no video is in two shards"


@pytest.mark.parametrize("whom", ["worker", "all"])
def test_kill_9_costs_no_video_that_was_finished_before_the_last_publication(
    whom: str, many: Path, tmp_path: Path, flowpipe: Run, running: Running,
    undisturbed: dict[object, bytes],
) -> None:  # fmt: skip
    store = tmp_path / "store"
    every = slow(many, store, "--publish-every", 0)
    process = running(*every)
    wait_for(lambda: any(int(str(heartbeat["position"])) >= 3 for heartbeat in heartbeats(store)))
    heartbeat = max(heartbeats(store), key=lambda heartbeat: int(str(heartbeat["position"])))
    if whom == "all":
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: not alive_in_session(process.pid))
        kept = len(open_store(store).videos)
        assert int(str(heartbeat["position"])) <= kept < MANY
        again = flowpipe(*every)
        assert again.returncode == 0, again.stderr
        assert f"{kept} done before" in again.stderr
    else:
        os.kill(int(str(heartbeat["pid"])), signal.SIGKILL)
        _, stderr = process.communicate(timeout=200)
        assert process.returncode == 0, stderr
        assert len(stderr.splitlines()) < 20, "one death must not flood the screen"
        lines = ledger(store)
        assert sorted(str(line["video_id"]) for line in lines) == sorted(open_store(store).videos)
        by_it = [line for line in lines if str(line["worker"]).endswith(f":{heartbeat['pid']}")]
        assert len(by_it) >= int(str(heartbeat["position"])), "none of them was extracted again"
    assert images(store) == undisturbed
    assert entries(store) == MANY, "no video is in two shards"
    assert leftovers(store) == []
    assert flowpipe("verify", store).returncode == 0


def test_kill_9_of_the_client_while_shards_are_published_leaves_nothing_behind(
    many: Path, tmp_path: Path, flowpipe: Run, running: Running,
    undisturbed: dict[object, bytes],
) -> None:  # fmt: skip
    store, temporary = tmp_path / "store", tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    every = slow(many, store, "--publish-every", 0)
    kept = 0
    for _ in range(2):
        process = running(*every, env=environment)
        wait_for(  # while a shard is published its job is on no video
            lambda: any(
                heartbeat["position"] == -1 and heartbeat["frames"]
                for heartbeat in heartbeats(store)
            )
        )
        process.kill()
        process.wait()
        wait_for(lambda session=process.pid: not alive_in_session(session))
        before, kept = kept, len(open_store(store).videos)
        assert before <= kept < MANY
    again = flowpipe(*every, env=environment)
    assert again.returncode == 0, again.stderr
    assert f"{kept} done before" in again.stderr
    assert images(store) == undisturbed
    assert entries(store) == MANY, "no video is in two shards"
    assert leftovers(store) == []
    assert not list(temporary.glob("flowpipe*"))


def test_a_second_signal_kills_at_once(tmp_path: Path, running: Running) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    videos.mkdir()
    # Half a minute of TV-L1 in a window: its worker cannot end within the grace.
    encode_video(videos / "huge.mp4", draw_noise_clip(5, frames=8, height=1080, width=1920))
    process = running(
        "extract", "--videos", videos, "--out", store, "--workers", 1, "--set", "flow.epsilon=0",
        "--set", "size={width: 0, height: 0}",
    )  # fmt: skip
    wait_for(lambda: any(heartbeat["video_id"] for heartbeat in heartbeats(store)))
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    while "again to kill" not in (line := process.stderr.readline()):
        assert line, "it ended without a word"
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)
    assert process.returncode == -signal.SIGTERM
    wait_for(lambda: not alive_in_session(process.pid))


def test_sigterm_while_planning_ends_as_ctrl_c_does(
    clips: Path, tmp_path: Path, running: Running
) -> None:
    store = tmp_path / "store"
    process = running(*slow(clips, store))
    wait_for(lambda: catches(process.pid, signal.SIGTERM))
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert len(stderr.splitlines()) < 4, stderr
    assert not store.exists(), "it was planning"


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_while_workers_start_is_as_quiet(
    number: signal.Signals, clips: Path, tmp_path: Path, running: Running
) -> None:
    store = tmp_path / "store"
    process = running(*slow(clips, store))
    wait_for(lambda: any(store.glob("ledger/*")))  # made just before the workers are
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert len(stderr.splitlines()) < 8, stderr
    wait_for(lambda: not alive_in_session(process.pid))
    assert leftovers(store) == []


def test_a_video_that_stalls_is_killed_tried_alone_and_put_aside(
    clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    videos, store = tmp_path / "videos", tmp_path / "store"
    shutil.copytree(clips, videos)
    # Half a minute of TV-L1 in a window that has three seconds: a real stall in native code.
    encode_video(videos / "huge.mp4", draw_noise_clip(5, frames=8, height=1080, width=1920))
    done = flowpipe(
        "extract", "--videos", videos, "--out", store, "--workers", 2, "--stall", 3,
        "--set", "flow.epsilon=0", "--set", "size={width: 0, height: 0}",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert len(open_store(store).videos) == 8
    (failure,) = [o for o in ledger(store) if o["status"] == "failed"]
    assert (failure["video_id"], failure["reason"]) == ("huge.mp4", "stalled")
    assert "Timeout" in str(failure["message"]), "the worker's traceback says where it hung"
    assert leftovers(store) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_video_that_kills_its_workers_is_put_aside_and_no_other(
    number: signal.Signals, many: Path, tmp_path: Path, flowpipe: Run, running: Running
) -> None:
    store, videos, victim = tmp_path / "store", tmp_path / "videos", "clip-02.mp4"
    names = [f"clip-{k:02}.mp4" for k in range(4)]
    videos.mkdir()
    for name in names:
        shutil.copy(many / name, videos)
    process = running(*slow(videos, store))
    killed: list[int] = []
    over = threading.Event()

    def kill_whoever_works_on_it() -> None:
        while not over.wait(0.01):
            for heartbeat in heartbeats(store):
                pid = int(str(heartbeat["pid"]))
                if heartbeat["video_id"] == victim and pid not in killed:
                    os.kill(pid, number)
                    killed.append(pid)

    killer = threading.Thread(target=kill_whoever_works_on_it)
    killer.start()
    try:
        _, stderr = process.communicate(timeout=200)
    finally:
        over.set()
        killer.join()
    assert process.returncode == 1, stderr
    assert len(killed) == 2, "once in its shard, once alone"
    assert list(open_store(store).videos) == [name for name in names if name != victim]
    (failure,) = [o for o in ledger(store) if o["status"] == "failed"]
    reason = "crashed" if number == signal.SIGSEGV else "killed"
    assert (failure["video_id"], failure["reason"]) == (victim, reason)
    words = "Segmentation fault" if number == signal.SIGSEGV else "no trace"
    assert words in str(failure["message"])
    assert len(stderr.splitlines()) < 20, stderr
    assert leftovers(store) == []
    if number == signal.SIGKILL:  # proves nothing against the video: the same command tries it
        again = flowpipe(*slow(videos, store))
        assert again.returncode == 0, again.stderr
        assert len(open_store(store).videos) == 4
        assert not any((store / "quarantine").iterdir())
        return
    held = flowpipe(*slow(videos, store))
    assert held.returncode == 1
    assert "0 to extract, 3 done before, 1 in quarantine" in held.stderr
    retried = flowpipe(*slow(videos, store, "--retry", "crashed"))
    assert retried.returncode == 0, retried.stderr
    assert victim in open_store(store).videos
    assert not any((store / "quarantine").iterdir())


def test_a_disk_that_fills_up_stops_the_run_and_the_same_command_goes_on(
    many: Path, small_disk: Callable[[int], Path], flowpipe: Run, running: Running,
    undisturbed: dict[object, bytes],
) -> None:  # fmt: skip
    disk = small_disk(64 << 10)
    store = disk / "store"
    run = slow(many, store, "--publish-every", 0)
    process = running(*run)
    wait_for(lambda: any(store.glob("shards/shard-*.h5")))
    ballast = fill(disk)
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 2, stderr
    assert "free some space" in stderr and "run the same command again" in stderr
    assert len(stderr.splitlines()) < 8, stderr
    assert leftovers(store) == []
    assert not any((store / "quarantine").glob("*")), "a full disk is no video's fault"
    ballast.unlink()
    again = flowpipe(*run)
    assert again.returncode == 0, again.stderr
    assert images(store) == undisturbed
    assert flowpipe("verify", store).returncode == 0


def test_a_disk_without_room_for_the_contact_sheet_is_reported(
    clips: Path, small_disk: Callable[[int], Path], flowpipe: Run
) -> None:
    disk = small_disk(64 << 10)
    arguments = ("extract", "--videos", clips, "--out", disk / "store", *FAST)
    assert flowpipe(*arguments).returncode == 0
    (disk / "store" / "contact-sheet.png").unlink()
    ballast = fill(disk, spare=64 << 10)  # a ledger still fits, the picture does not
    again = flowpipe(*arguments)
    assert again.returncode == 2, again.stderr
    assert "contact-sheet.png" in again.stderr and "free some space" in again.stderr
    ballast.unlink()
    assert flowpipe(*arguments).returncode == 0
    assert (disk / "store" / "contact-sheet.png").exists()


def test_a_plan_that_cannot_fit_is_refused_before_anything_is_written(
    clips: Path, small_disk: Callable[[int], Path], flowpipe: Run
) -> None:
    disk = small_disk(100)
    arguments = ("--videos", clips, "--out", disk / "store", *FAST)
    refused = flowpipe("extract", *arguments)
    assert refused.returncode == 2
    assert "free at" in refused.stderr and "choose another --out" in refused.stderr
    assert not list(disk.iterdir())
    planned = flowpipe("plan", *arguments)
    assert planned.returncode == 2
    assert "NOT enough" in planned.stdout


@pytest.mark.parametrize("out", ["file", "file/store", "/proc/store"])
def test_a_store_that_cannot_be_made_is_reported(
    out: str, clips: Path, tmp_path: Path, flowpipe: Run
) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = flowpipe("extract", "--videos", clips, "--out", out, *FAST, cwd=tmp_path)
    assert done.returncode == 2
    assert out in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Callable[..., tuple[str, list[subprocess.Popen[bytes]]]]]:
    """Start a Dask scheduler and workers as a user would; their address and processes."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(workers: int, threads: int = 1) -> tuple[str, list[subprocess.Popen[bytes]]]:
        address_file = tmp_path / "scheduler.json"
        common = ("--scheduler-file", str(address_file))
        spawn(
            "dask_scheduler", *common, "--host", "127.0.0.1", "--port", "0",
            "--dashboard-address", ":0",
        )  # fmt: skip
        wait_for(lambda: address_file.exists() and bool(address_file.read_text()))
        for _ in range(workers):
            spawn(
                "dask_worker", *common, "--nthreads", str(threads), "--no-dashboard",
                "--local-directory", str(tmp_path),
            )  # fmt: skip
        return str(json.loads(address_file.read_text())["address"]), processes

    def spawn(module: str, *arguments: str) -> None:
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
                stderr=subprocess.DEVNULL, start_new_session=True,
            )
        )  # fmt: skip

    yield start
    for process in processes:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def test_a_run_on_a_scheduler_survives_the_death_of_a_worker(
    many: Path, tmp_path: Path, scheduler: Callable[..., tuple[str, list[object]]],
    running: Running, undisturbed: dict[object, bytes],
) -> None:  # fmt: skip
    store = tmp_path / "store"
    address, _ = scheduler(workers=2)
    process = running(*slow(many, store, "--scheduler", address))
    wait_for(lambda: any(heartbeat["video_id"] for heartbeat in heartbeats(store)))
    os.kill(int(str(next(heartbeats(store))["pid"])), signal.SIGKILL)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    assert images(store) == undisturbed
    assert leftovers(store) == []


def test_workers_of_a_scheduler_that_get_sigterm_keep_what_they_have_finished(
    many: Path, tmp_path: Path, scheduler: Callable[..., tuple[str, list[subprocess.Popen[str]]]],
    running: Running, undisturbed: dict[object, bytes],
) -> None:  # fmt: skip
    """A batch system sends it to the whole step of a worker, a user to the nanny alone."""
    store = tmp_path / "store"
    address, _ = scheduler(workers=3)
    process = running(*slow(many, store, "--scheduler", address))
    finished: dict[int, int] = {}

    def busy() -> list[dict[str, object]]:
        return [c for c in heartbeats(store)
                if c["pid"] not in finished and int(str(c["position"])) >= 2]  # fmt: skip

    for kill in (os.kill, os.killpg):
        wait_for(lambda: bool(busy()))
        heartbeat = busy()[0]
        worker = int(str(heartbeat["pid"]))
        finished[worker] = int(str(heartbeat["position"]))
        kill(psutil.Process(worker).ppid(), signal.SIGTERM)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    lines = ledger(store)
    assert len(lines) == MANY and {line["status"] for line in lines} == {"done"}
    for worker, count in finished.items():
        by_it = [line for line in lines if str(line["worker"]).endswith(f":{worker}")]
        assert len(by_it) >= count, f"worker {worker} of {list(finished)}: extracted again"
    assert images(store) == undisturbed
    assert entries(store) == MANY, "no video is in two shards"
    assert leftovers(store) == []


def test_kill_9_of_the_client_of_a_running_scheduler_costs_no_video_and_makes_none_twice(
    many: Path, tmp_path: Path, scheduler: Callable[..., tuple[str, list[object]]], flowpipe: Run,
    running: Running, undisturbed: dict[object, bytes],
) -> None:  # fmt: skip
    """Its workers continue with the jobs that they have."""
    store = tmp_path / "store"
    address, _ = scheduler(workers=2)
    run = slow(many, store, "--scheduler", address)
    process = running(*run)
    wait_for(lambda: count_finished_in_open_jobs(store) >= 3)
    process.kill()
    process.wait()
    again = flowpipe(*run)
    assert again.returncode == 0, again.stderr
    assert images(store) == undisturbed
    assert entries(store) == MANY, "no video is in two shards"
    assert leftovers(store) == []
    assert flowpipe("verify", store).returncode == 0


def test_a_scheduler_that_dies_stops_the_run_with_a_message(
    clips: Path, tmp_path: Path, scheduler: Callable[..., tuple[str, list[subprocess.Popen[str]]]],
    running: Running,
) -> None:  # fmt: skip
    store = tmp_path / "store"
    address, processes = scheduler(workers=1)
    process = running(*slow(clips, store, "--scheduler", address))
    wait_for(lambda: any(heartbeat["video_id"] for heartbeat in heartbeats(store)))
    processes[0].kill()
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 2, stderr
    assert "scheduler is gone" in stderr and "Traceback" not in stderr


def test_workers_of_several_threads_are_refused(
    clips: Path, tmp_path: Path, scheduler: Callable[..., tuple[str, list[object]]], flowpipe: Run
) -> None:
    address, _ = scheduler(workers=1, threads=2)
    done = flowpipe(*slow(clips, tmp_path / "store", "--scheduler", address))
    assert done.returncode == 2
    assert "--nthreads 1" in done.stderr and "Traceback" not in done.stderr


def test_an_address_where_nobody_answers_is_refused(
    clips: Path, tmp_path: Path, flowpipe: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowpipe.run.cluster.pool.ANSWER_S", 1)
    done = flowpipe(*slow(clips, tmp_path / "store", "--scheduler", "tcp://127.0.0.1:1"))
    assert done.returncode == 2
    assert "tcp://127.0.0.1:1" in done.stderr and "Traceback" not in done.stderr
