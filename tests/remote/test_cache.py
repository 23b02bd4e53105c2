"""The cache of remote files: equal copies, a limit that holds, and killed or hostile processes."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from flowpipe.errors import DiskFullError, RemoteError
from flowpipe.remote import Cache, cache

KB = 1000


@pytest.fixture
def videos(tmp_path: Path) -> list[str]:
    """URLs of eight files of 10 kB."""
    urls = []
    for k in range(8):
        (tmp_path / f"{k}.mp4").write_bytes(bytes([k]) * 10 * KB)
        urls.append(f"file://{tmp_path}/{k}.mp4")
    return urls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def cached_bytes(folder: Path) -> int:
    """Bytes of all that is in the cache, while nobody frees space."""
    total = 0
    with (folder / "room.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path in folder.iterdir():
            try:
                total += path.stat().st_size
            except FileNotFoundError:  # what was being fetched has got its name
                pass
    return total


def use(copies: Cache, url: str) -> bytes:
    with copies.local(url) as path:
        return Path(path).read_bytes()


def test_copies_are_equal_and_kept(videos: list[str], folder: Path) -> None:
    copies = Cache(folder, 100 * KB)
    with copies.local(videos[3]) as path:
        assert Path(path).read_bytes() == bytes([3]) * 10 * KB
        assert path.endswith(".mp4") and Path(path).parent == folder
        inode = os.stat(path).st_ino
    with copies.local(videos[3]) as again:
        assert os.stat(again).st_ino == inode
    with copies.local("/some/local.mp4") as path:
        assert path == "/some/local.mp4"


def test_the_least_recently_used_copy_is_removed_first(videos: list[str], folder: Path) -> None:
    copies = Cache(folder, 30 * KB)
    for k in (0, 1, 2, 0, 3):
        use(copies, videos[k])
        time.sleep(0.01)
    assert cached_bytes(folder) == 30 * KB
    kept = {path.read_bytes()[0] for path in folder.glob("*.mp4")}
    assert kept == {0, 2, 3}
    assert len(list(folder.glob("*.lock"))) == 4  # of the three copies, and of the room


def test_a_copy_in_use_is_never_removed(videos: list[str], folder: Path) -> None:
    copies = Cache(folder, 20 * KB)
    with copies.local(videos[0]) as first:
        for url in videos[1:]:
            use(copies, url)
            assert cached_bytes(folder) <= 20 * KB
        assert Path(first).read_bytes() == bytes(10 * KB)


def test_a_changed_file_is_fetched_again(videos: list[str], folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from flowpipe.remote import Cache\n"
        "with Cache(Path(sys.argv[1]), 10**6).local(sys.argv[2]) as path:\n"
        "    print(Path(path).read_bytes()[:1])"
    )
    command = [sys.executable, "-c", code, folder, videos[0]]
    assert subprocess.check_output(command) == b"b'\\x00'\n"
    (tmp_path / "0.mp4").write_bytes(b"new" * 10)
    assert subprocess.check_output(command) == b"b'n'\n"


def test_a_file_larger_than_the_limit_is_refused_with_advice(
    videos: list[str], folder: Path
) -> None:
    with pytest.raises(DiskFullError, match="--cache-gb"):
        use(Cache(folder, 5 * KB), videos[0])


def test_a_folder_that_cannot_be_used_is_reported(videos: list[str], folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(DiskFullError, match="choose another with --cache"):
        use(Cache(folder, 100 * KB), videos[0])


def test_errors_of_the_one_who_uses_the_copy_are_left_alone(
    videos: list[str], folder: Path
) -> None:
    copies = Cache(folder, 10 * KB)
    with pytest.raises(OSError, match="mine"), copies.local(videos[0]):
        raise OSError("mine")
    use(copies, videos[1])  # the lock is gone


WORKER = """
import sys, time
from pathlib import Path
from flowpipe.remote import Cache
copies = Cache(Path(sys.argv[1]), int(sys.argv[2]))
for url in sys.argv[3:]:
    with copies.local(url) as path:
        print("holds", flush=True)
        content = Path(path).read_bytes()
        time.sleep(0.01)
        assert content == Path(path).read_bytes() == bytes([int(url[-5])]) * 10_000
"""


def worker(folder: Path, limit: int, urls: list[str], code: str = WORKER) -> Any:
    return subprocess.Popen(
        [sys.executable, "-c", code, folder, str(limit), *urls], stdout=subprocess.PIPE
    )


def test_processes_share_copies_and_stay_below_the_limit(videos: list[str], folder: Path) -> None:
    processes = [worker(folder, 20 * KB, videos[k:] + videos[:k]) for k in (0, 0, 4)]
    most = 0
    while any(process.poll() is None for process in processes):
        if folder.is_dir():
            most = max(most, cached_bytes(folder))
        time.sleep(0.002)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert 0 < most <= 20 * KB


def test_a_killed_worker_leaves_nothing_that_blocks(videos: list[str], folder: Path) -> None:
    sleeper = WORKER.replace("time.sleep(0.01)", "time.sleep(60)")
    process = worker(folder, 10 * KB, videos[:1], sleeper)
    assert process.stdout.readline() == b"holds\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    (folder / "0123456789abcdef0123456789abcdef.part").write_bytes(bytes(9 * KB))
    copies = Cache(folder, 10 * KB)
    assert use(copies, videos[1]) == bytes([1]) * 10 * KB
    assert cached_bytes(folder) == 10 * KB


class Flaky(LocalFileSystem):
    """Files behind a network that fails some times."""

    protocol = "flaky"
    cachable = False
    failures: list[Exception] = []
    cut_bytes = 0

    def open(self, path: str, *args: Any, **options: Any) -> Any:
        if self.failures:
            raise self.failures.pop()
        return super().open(path, "rb")

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        info = super().info(path, **options)
        return {**info, "size": info["size"] + self.cut_bytes}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("flaky://")


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Flaky]]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(cache, "PAUSES_S", (0.01, 0.01, 0.01))
    monkeypatch.setattr(Flaky, "failures", [])
    monkeypatch.setattr(Flaky, "cut_bytes", 0)
    yield Flaky


def test_a_failed_download_is_tried_again(
    videos: list[str], folder: Path, flaky: type[Flaky]
) -> None:
    url = videos[2].replace("file://", "flaky://")
    beats = []
    flaky.failures += [ConnectionResetError("reset"), TimeoutError("late"), RuntimeError("botched")]
    with Cache(folder, 100 * KB).local(url, lambda: beats.append(1)) as path:
        assert Path(path).read_bytes() == bytes([2]) * 10 * KB
    assert beats
    assert not list(folder.glob("*.part"))


def test_a_download_that_keeps_failing_is_unreachable(
    videos: list[str], folder: Path, flaky: type[Flaky]
) -> None:
    url = videos[4].replace("file://", "flaky://")
    flaky.failures += [ConnectionResetError("reset by peer")] * 10
    with pytest.raises(RemoteError, match="reset by peer") as caught:
        use(Cache(folder, 100 * KB), url)
    assert caught.value.reason == "unreachable"
    assert len(flaky.failures) == 6
    flaky.failures.clear()
    flaky.failures.append(FileNotFoundError("gone"))
    with pytest.raises(RemoteError) as caught:
        use(Cache(folder, 100 * KB), url)
    assert caught.value.reason == "missing"  # which is not tried again
    assert cached_bytes(folder) == 0


def test_a_download_that_ends_early_is_no_copy(
    videos: list[str], folder: Path, flaky: type[Flaky]
) -> None:
    flaky.cut_bytes = 7
    with pytest.raises(RemoteError, match="received 10000 bytes instead of 10007"):
        use(Cache(folder, 100 * KB), videos[5].replace("file://", "flaky://"))
    assert not list(folder.glob("*.mp4"))


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that a planted link points to."""
    path = tmp_path / "victim"
    path.write_bytes(b"precious")
    return path


def copy_of(folder: Path, url: str) -> Path:
    """The path that a cache in this folder gives to the copy of a file."""
    with tempfile.TemporaryDirectory() as other, Cache(Path(other), 100 * KB).local(url) as copy:
        return folder / Path(copy).name


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_write_to_is_refused(
    videos: list[str], folder: Path, mode: int
) -> None:
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(DiskFullError, match="other users may write to it.*--cache"):
        use(Cache(folder, 100 * KB), videos[0])
    assert not list(folder.iterdir())


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o700])
def test_a_folder_that_others_only_read_is_used(videos: list[str], folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    assert use(Cache(folder, 100 * KB), videos[0]) == bytes(10 * KB)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_new_folder_is_private(videos: list[str], folder: Path) -> None:
    before = os.umask(0)
    try:
        use(Cache(folder, 100 * KB), videos[0])
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_is_a_link_is_refused(
    videos: list[str], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DiskFullError, match="it is a link.*--cache"):
        use(Cache(folder, 100 * KB), videos[0])
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_refused(videos: list[str], folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(DiskFullError, match="it belongs to user 65534.*--cache"):
        use(Cache(folder, 100 * KB), videos[0])


def test_a_planted_copy_is_fetched_again(
    videos: list[str], folder: Path, victim: Path, tmp_path: Path
) -> None:
    folder.mkdir(mode=0o700)
    other = tmp_path / "other"
    other.write_bytes(b"x" * 10 * KB)
    copy_of(folder, videos[0]).symlink_to(other)  # of the right size
    copy_of(folder, videos[1]).write_bytes(b"another size")
    copy_of(folder, videos[2]).symlink_to(victim)
    os.link(other, copy_of(folder, videos[3]))
    for k in range(4):
        assert use(Cache(folder, 100 * KB), videos[k]) == bytes([k]) * 10 * KB
    assert victim.read_bytes() == b"precious"
    assert other.read_bytes() == b"x" * 10 * KB


def test_a_planted_part_is_replaced_not_followed(
    videos: list[str], folder: Path, victim: Path
) -> None:
    folder.mkdir(mode=0o700)
    copy_of(folder, videos[0]).with_suffix(".part").symlink_to(victim)
    copy_of(folder, videos[1]).with_suffix(".part").write_bytes(b"y" * 50 * KB)
    for k in range(2):
        assert use(Cache(folder, 100 * KB), videos[k]) == bytes([k]) * 10 * KB
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("which", ["room", "copy"])
def test_a_planted_lock_that_is_a_link_is_refused(
    videos: list[str], folder: Path, victim: Path, which: str
) -> None:
    folder.mkdir(mode=0o700)
    name = copy_of(folder, videos[0]).with_suffix(".lock")
    (name if which == "copy" else folder / "room.lock").symlink_to(victim)
    with pytest.raises(DiskFullError, match="cannot be used.*--cache"):
        use(Cache(folder, 100 * KB), videos[0])
    assert victim.read_bytes() == b"precious"
