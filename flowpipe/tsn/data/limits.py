"""Needs of a loader's workers -> limits checked before they start; advice when workers fail."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch.multiprocessing import get_sharing_strategy

from flowpipe.errors import BackendError
from flowpipe.words import byte_size, count_noun

SHARED = Path("/dev/shm")
FEWER = "use fewer --workers; --workers 0 reads in the training process itself"
MORE_SHARED = "start the container with more, as `docker run --shm-size={}` or --ipc=host"
_FILES_OF_WORKER = 8
"""File descriptors of the training process for the pipes of one worker."""
_OTHER_FILES = 64
"""File descriptors that training opens in addition to those of its workers."""
_DIED = re.compile(
    r"DataLoader worker \(pid (?P<number>\d+)\) is killed by signal: (?P<signal>.+?)\."
    r"|DataLoader worker \(pid\(s\) (?P<numbers>[\d, ]+)\) exited unexpectedly$"
)
_NO_FILES = ("Too many open files", "received 0 items of ancdata")


@dataclass(frozen=True)
class LoaderNeeds:
    """Upper bounds of what the workers of one loader need."""

    workers: int
    chunks: int
    """Chunks that exist at a time: prefetched, collected or in use."""
    chunk_bytes: int
    """Size of the largest chunk, bytes."""

    @property
    def shared_bytes(self) -> int:
        """Shared memory of one training process, bytes."""
        return self.chunks * self.chunk_bytes

    @property
    def files(self) -> int:
        """File descriptors of one training process."""
        of_chunks = self.chunks if get_sharing_strategy() == "file_descriptor" else 0
        return of_chunks + self.workers * _FILES_OF_WORKER + _OTHER_FILES


def check_limits(need: LoaderNeeds) -> None:
    """Check that shared memory and file descriptors suffice for a loader's workers.

    Parameters
    ----------
    need : LoaderNeeds
        Upper bounds of what the workers need.

    Raises
    ------
    BackendError
        If they do not; the message says how to raise the limit.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1")))
    wanted = processes * need.shared_bytes
    if SHARED.is_dir() and (free := shutil.disk_usage(SHARED).free) < wanted:
        raise BackendError(
            f"{count_noun(need.workers, 'worker')} may need {byte_size(wanted)} of shared memory, "
            f"and {SHARED} has {byte_size(free)} free: {MORE_SHARED.format(_round_up(wanted))}, or "
            f"{FEWER}"
        )
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < (files := _open_files() + need.files):
        raise BackendError(
            f"{count_noun(need.workers, 'worker')} may need {count_noun(files, 'open file')}, and "
            f"the limit is {soft}; raise it with `ulimit -n {files}`, or {FEWER}"
        )


@contextmanager
def worker_failures() -> Iterator[None]:
    """Translate torch's errors about lost workers into BackendError with advice."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if message := _describe_loss(error):
            raise BackendError(message) from error
        raise


def _describe_loss(error: RuntimeError | OSError) -> str:
    """Return what happened and what to do; empty for other errors."""
    text = f"{error.__cause__ or ''}\n{error}"  # the cause names the signal
    if getattr(error, "errno", 0) == errno.EMFILE or any(part in text for part in _NO_FILES):
        return f"there are too many open files: raise the limit with `ulimit -n 4096`, or {FEWER}"
    died = _DIED.search(text)
    if died is None:
        return ""
    numbers, how = died["number"] or died["numbers"], died["signal"]
    if how == signal.strsignal(signal.SIGBUS):
        return (
            f"{SHARED} is full, which ended a worker (process {numbers}): "
            f"{MORE_SHARED.format('2g')}, or {FEWER}"
        )
    if how in (None, signal.strsignal(signal.SIGKILL)):
        return (
            f"a worker was killed (process {numbers}); out of memory? Give the job more memory, "
            f"or {FEWER}"
        )
    return f"a worker crashed (process {numbers}): {how}; --workers 0 may show where"


def _open_files() -> int:
    """Return the number of open files of this process; 0 where the system does not list them."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def _round_up(count: int) -> str:
    """Return a size for docker, rounded up: 512m, 2g."""
    megabytes = -(-count // (1 << 20))
    return f"{-(-megabytes // 1024)}g" if megabytes > 512 else f"{megabytes}m"
