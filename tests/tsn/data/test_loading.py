"""Loaders with real workers: equal batches, errors in a sentence, limits reported in advance."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

import tiny  # noqa: E402
from command import in_process  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from flowpipe import errors, open_store  # noqa: E402
from flowpipe.errors import BackendError, FlowpipeError  # noqa: E402
from flowpipe.store.layout import broken_clause  # noqa: E402
from flowpipe.tsn.data import loading  # noqa: E402
from flowpipe.tsn.data.batches import Batch, BatchSampler  # noqa: E402
from flowpipe.tsn.data.clips import Clips, clips_of  # noqa: E402
from flowpipe.tsn.data.inputs import input_spec  # noqa: E402
from flowpipe.tsn.data.limits import LoaderNeeds, worker_failures  # noqa: E402
from flowpipe.tsn.data.loading import Loader  # noqa: E402
from flowpipe.tsn.recipe import AugmentParams  # noqa: E402

tiny.register()


@pytest.fixture(autouse=True)
def workers_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End workers with their test: an error that is kept refers to its loader, which keeps them."""
    made: list[Any] = []

    class Recorded(DataLoader):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(loading, "DataLoader", Recorded)
    yield
    for loader in made:
        if loader._iterator is not None:
            loader._iterator._shutdown_workers()


def clips(store: Path, modality: str = "flow") -> Clips:
    opened = open_store(store)
    stored = input_spec(modality, 2, opened.modalities)
    return Clips(
        [store],
        clips_of(opened, "train1", stored.stored, "videos"),
        stored,
        phase="train",
        segments=3,
        sampling="tsn_pytorch",
        augment=AugmentParams(scales=(1.0, 0.9)),
        side=tiny.SIDE,
        seed=1,
    )


def batches_of(data: Clips, size: int = 4) -> BatchSampler:
    return BatchSampler(len(data), size, seed=1, shuffle=True, rank=0, world=1)


def is_equal(one: Batch, other: Batch) -> bool:
    return (
        all(torch.equal(a, b) for a, b in zip(one.images, other.images, strict=True))
        and one.samples == other.samples
        and torch.equal(one.labels, other.labels)
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("odd_size", [None, (36, 60)])
def test_workers_and_chunks_change_nothing(
    tmp_path: Path, workers: int, odd_size: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = clips(tiny.make_store(tmp_path / "store", odd_size=odd_size))
    batches = batches_of(data)
    expected = []
    for epoch in (0, 1):
        batches.epoch = epoch
        expected.append([Batch([data.read(numbers)]) for numbers in batches])
    for chunk in (1, 3, 100):  # videos
        monkeypatch.setattr(loading, "CHUNK_BYTES", chunk * data.most_bytes)
        loader = Loader(data, batches, workers, "cpu")
        for epoch in (0, 1):  # the second is of the same processes
            batches.epoch = epoch
            came = list(loader)
            assert len(came) == len(expected[epoch])
            assert all(is_equal(*both) for both in zip(came, expected[epoch], strict=True))
            for batch in came:
                memories = {images.untyped_storage().data_ptr() for images in batch.images}
                assert len(memories) == -(-len(batch.labels) // chunk)
                assert all(images.is_shared() == (workers > 0) for images in batch.images)


class Failing(Clips):
    """Clips of which reading fails in a way of its own, in the worker that is asked."""

    failure: Exception | signal.Signals

    def read(self, numbers: object) -> object:  # type: ignore[override]
        if isinstance(self.failure, signal.Signals):
            os.kill(os.getpid(), self.failure)
        raise self.failure


def make_failing(store: Path, failure: Exception | signal.Signals) -> Loader:
    data = clips(store)
    data.__class__, data.failure = Failing, failure  # type: ignore[attr-defined]
    return Loader(data, batches_of(data), 1, "cpu")


def classes_of(kind: type[FlowpipeError]) -> list[type[FlowpipeError]]:
    return [kind, *(one for sub in kind.__subclasses__() for one in classes_of(sub))]


def test_errors_of_workers_arrive_as_they_were_raised(store: Path) -> None:
    raised: list[Exception] = [one("what to do", reason="io") for one in classes_of(FlowpipeError)]
    raised += [broken_clause("S17", "image 3"), OSError(5, "Input/output error", "/data/x")]
    assert any(isinstance(one, errors.DeviceLostError) for one in raised)
    for error in raised:
        with pytest.raises(type(error)) as caught:
            next(iter(make_failing(store, error)))
        assert str(caught.value) == str(error) and type(caught.value) is type(error)
        assert vars(caught.value) == vars(error)


def test_a_worker_without_memory_is_reported_with_advice(store: Path) -> None:
    with pytest.raises(BackendError, match=r"a worker is out of memory: .*use fewer --workers"):
        next(iter(make_failing(store, MemoryError("Unable to allocate 9 GiB"))))


def test_an_unexpected_error_keeps_the_traceback_of_its_worker(store: Path) -> None:
    with pytest.raises(ZeroDivisionError, match=r"(?s)Original Traceback.*in read"):
        next(iter(make_failing(store, ZeroDivisionError("a bug"))))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, r"a worker was killed \(process \d+\); out of memory\?.*--workers"),
        (signal.SIGBUS, r"/dev/shm is full, which ended a worker \(process \d+\): .*--shm-size"),
        (signal.SIGSEGV, r"a worker crashed \(process \d+\): Segmentation fault"),
    ],
)
def test_the_death_of_a_worker_is_one_sentence(
    store: Path, number: signal.Signals, words: str
) -> None:
    with pytest.raises(BackendError, match=words) as caught, worker_failures():
        next(iter(make_failing(store, number)))
    assert "\n" not in str(caught.value)


def test_a_damaged_shard_ends_a_training_with_workers_in_a_sentence(
    store: Path, tmp_path: Path
) -> None:
    damaged = shutil.copytree(store, tmp_path / "store")
    (shard,) = (damaged / "shards").glob("*.h5")
    content, stat = bytearray(shard.read_bytes()), shard.stat()
    at = content.index(open_store(store).read_payloads("video 00", "rgb", 0, 1)[0])
    content[at : at + 50_000] = bytes(50_000)  # all frames of the first videos
    shard.write_bytes(content)
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    result = in_process(
        "train", damaged, "--modality", "rgb", "--recipe", tiny.write_recipe(tmp_path / "r.yaml"),
        "-o", tmp_path / "run", "--workers", "1",
    )  # fmt: skip
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("flowpipe: S17: image")


@contextmanager
def open_files(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_eight_workers_read_videos_of_many_sizes_with_1024_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = clips(tiny.make_store(tmp_path / "store", 6, odd_size=(20, 30)), "rgb")
    data.segments, data.videos = 1, (data.videos * 50 * 128)[: 50 * 128]
    monkeypatch.setattr(loading, "CHUNK_BYTES", 64 * data.most_bytes)  # two chunks a batch
    batches = batches_of(data, 128)
    with open_files(1024):
        loader = Loader(data, batches, 8, "cpu")
        labels = [batch.labels.tolist() for batch in loader]
    assert len(labels) == 50
    expected = [[list(data.videos[k].labels) for _, k in numbers] for numbers in batches]
    assert labels == expected


def open_now() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_too_few_open_files_are_reported_before_a_worker_starts(store: Path) -> None:
    data, limit = clips(store), open_now() + 80
    words = (
        rf"8 workers may need \d+ open files, and the limit is {limit}; raise it with "
        r"`ulimit -n \d+`, or use fewer --workers"
    )
    with open_files(limit), pytest.raises(BackendError, match=words):
        Loader(data, batches_of(data), 8, "cpu")


def test_workers_open_no_more_files_than_estimated(store: Path) -> None:
    data, before = clips(store), open_now()
    iterator = iter(Loader(data, batches_of(data), 4, "cpu"))
    next(iterator)
    assert 0 < open_now() - before <= LoaderNeeds(4, 8 + 2, 1).files


def in_small_shared_memory(work: Callable[[], object]) -> str:
    """What a failure says in a process whose /dev/shm has 1 MB; a skip without the right to it."""
    read, write = os.pipe()
    process = os.fork()
    if not process:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            new_mounts, private = 0x20000, 0x44000  # CLONE_NEWNS, MS_PRIVATE | MS_REC
            if libc.unshare(new_mounts) or libc.mount(b"none", b"/", None, private, None):
                os._exit(1)
            if libc.mount(b"none", b"/dev/shm", b"tmpfs", 0, b"size=1m"):
                os._exit(1)
            with pytest.raises(BackendError) as caught, worker_failures():
                work()
            os.write(write, str(caught.value).encode())
        finally:
            for child in multiprocessing.active_children():
                child.kill()
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        words = said.read()
    if os.waitpid(process, 0)[1]:
        pytest.skip("needs the right to mount a small /dev/shm of its own: root")
    return words


@pytest.mark.skipif(sys.platform != "linux", reason="mounts as Linux does")
def test_a_small_dev_shm_is_reported_before_a_worker_starts_or_when_it_is_full(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = clips(store)
    data.videos *= 100
    monkeypatch.setattr(loading, "CHUNK_BYTES", 30 * data.most_bytes)

    def work() -> None:
        list(Loader(data, batches_of(data, 300), 2, "cpu"))

    said = in_small_shared_memory(work)
    assert said.startswith("2 workers may need ") and "/dev/shm has 1.0 MB free" in said
    assert "docker run --shm-size=" in said and "--workers 0" in said
    # As if something else had filled it later.
    monkeypatch.setattr(loading, "check_limits", lambda need: None)
    said = in_small_shared_memory(work)
    assert "a worker cannot get " in said or "/dev/shm is full" in said  # by torch's version
    assert "docker run --shm-size=" in said and "--workers 0" in said
