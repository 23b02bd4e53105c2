"""Failures -> reason codes: every error flowpipe raises on purpose, and the codes a run records."""

from __future__ import annotations

import errno
import re

REASONS = {
    # what a video can be refused for: code -> meaning, as printed in tables and kept in the ledger
    "missing": "the file does not exist or cannot be opened",
    "unreachable": "the remote file cannot be fetched: network, address or credentials",
    "io": "the storage failed while the file was read; the next run tries it again",
    "changed": "the file changed while it was read; the next run tries it again",
    "empty": "the file has no bytes",
    "unreadable": "no demuxer understands the file",
    "no_video": "the file has no video stream",
    "no_track": "the file does not have the stream of sound that the recipe names",
    "still_picture": "the file is one picture, not a video",
    "encrypted": "the video is encrypted and flowpipe has no keys",
    "no_frames": "the video stream decodes to no frame",
    "corrupt": "the file is damaged",
    "unsupported": "the wanted decoder cannot decode it, or its pixels cannot be converted",
    "resolution_change": "the frame size changes and the recipe fixes no output size",
    "timestamps": "timestamps are missing or unusable and the recipe resamples by time",
    "too_short": "fewer frames than one image of a wanted modality needs",
    "too_small": "the frames are too small to be processed",
    "video_id": "the video id is empty, too long or used twice",
    "stalled": "no progress for longer than the stall limit; the worker was killed",
    "crashed": "the worker process died on this video twice",
    "killed": "the worker was killed from outside on this video twice; the next run tries it again",
    "out_of_memory": "the worker ran out of memory",
    "gpu_failed": "the GPU failed on this video twice; the next run tries it again",
    "seam": "a split video did not decode to the same frame on both sides of a cut",
    # what a run, a recipe or a store can be refused for
    "recipe": "the recipe has unknown or impossible values",
    "usage": "the command was used wrongly",
    "backend": "the wanted device or library is not usable on this machine",
    "format": "a file does not follow its format: a store or shard FORMAT.md, a flow .flo",
    "dataset": "the data set does not lie as its official layout says",
    "disk_full": "the disk has too little free space",
    "unwritable": "the store's folder cannot be written to",
    "error": "an unexpected failure; the message has the details",
}

RETRIED = frozenset({"unreachable", "io", "changed", "killed", "out_of_memory", "gpu_failed"})
"""Reasons that say nothing about the video itself: the next run tries it again."""

_FILE_ERRNOS = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP)
    + (errno.ENAMETOOLONG, errno.EINVAL, errno.EOVERFLOW, errno.EFBIG)
)


def errno_of(error: OSError | RuntimeError) -> int | None:
    """Return the errno of an error; HDF5 gives it in the text only.

    Parameters
    ----------
    error : OSError or RuntimeError
        Error of a system call or of HDF5.

    Returns
    -------
    int or None
        Its errno; None if it has none.
    """
    number: int | None = getattr(error, "errno", None)
    if number is None and (named := re.search(r"errno = (\d+)", str(error))):
        return int(named[1])
    return number


def read_reason(error: OSError) -> str:
    """Return the reason code of a failed read or look-up of a file.

    ``missing`` where the error speaks of the file or its name, as ENOENT and EACCES do; ``io``
    where it speaks of the storage or the machine, as EIO, ESTALE, ETIMEDOUT, EMFILE and ENOMEM do.

    Parameters
    ----------
    error : OSError
        Error of the read.

    Returns
    -------
    str
        Reason code.
    """
    number = errno_of(error)
    return "missing" if number is None or number in _FILE_ERRNOS else "io"


def is_storage_failure(error: BaseException | None) -> bool:
    """Return whether an error is a failure of the storage or the machine, such as EIO.

    Such an error says nothing of the file that was read.

    Parameters
    ----------
    error : BaseException or None
        Error of a read or write.

    Returns
    -------
    bool
        True if the storage or the machine failed.
    """
    if isinstance(error, FlowpipeError):
        return error.reason == "io"
    return isinstance(error, OSError) and read_reason(error) == "io"


def storage_reason(cause: BaseException | None) -> str | None:
    """Return the reason code of an error that another one caused.

    Parameters
    ----------
    cause : BaseException or None
        The other error.

    Returns
    -------
    str or None
        ``io`` for a failure of the storage, else None: the reason of the error raised.
    """
    return "io" if is_storage_failure(cause) else None


class FlowpipeError(Exception):
    """A failure with a reason code and a message that says what to do.

    Parameters
    ----------
    message : str
        What was wanted, what came, which file, what to do.
    reason : str, optional
        A key of `REASONS`; each subclass has a default.
    """

    default_reason = "error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or self.default_reason
        if self.reason not in REASONS:
            raise ValueError(f"reason must be one of {sorted(REASONS)}, got {self.reason!r}")

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not survive pickling between workers on their own.
        return _rebuild, (type(self), str(self), self.reason), self.__dict__


def _rebuild(cls: type[FlowpipeError], message: str, reason: str) -> FlowpipeError:
    return cls(message, reason=reason)


class FlowpipeWarning(UserWarning):
    """A condition that a caller has to know but that stops nothing."""


class UsageError(FlowpipeError):
    """An impossible combination of options; the command exits with 2."""

    default_reason = "usage"


class RecipeError(FlowpipeError):
    """A recipe that does not describe a possible run; lists every mistake at once."""

    default_reason = "recipe"


class DatasetError(FlowpipeError):
    """A data set folder or list that does not lie as expected."""

    default_reason = "dataset"


class DecodeError(FlowpipeError):
    """A video or picture that cannot be decoded, or not to its end."""

    default_reason = "corrupt"


class TooDamagedError(DecodeError):
    """A video that decodes to its end, but of which too many frames are missing or may be wrong."""


class RemoteError(DecodeError):
    """A remote file that cannot be fetched; the next run tries it again."""

    default_reason = "unreachable"


class BackendError(FlowpipeError):
    """A device or library that is wanted but not usable here."""

    default_reason = "backend"


class DeviceMemoryError(BackendError):
    """The GPU has too little free memory for what was asked of it at once."""

    @classmethod
    def of(cls, error: Exception) -> DeviceMemoryError:
        """Return the error for what a library of the GPU raised, with what to do.

        Parameters
        ----------
        error : Exception
            Error of CuPy or torch.

        Returns
        -------
        DeviceMemoryError
            The error to raise.
        """
        return cls(
            f"the GPU has too little free memory ({error}); give the workers fewer pixels "
            "(--size), or let fewer processes share the GPU"
        )


class DeviceLostError(BackendError):
    """The GPU has failed in a way that only another process can get over."""

    default_reason = "gpu_failed"


class FormatError(FlowpipeError):
    """A store or shard that breaks a clause of FORMAT.md, a .flo file that is none."""

    default_reason = "format"


class UnwritableError(FlowpipeError):
    """A store that cannot be written to, for whatever reason but a full disk."""

    default_reason = "unwritable"


class DiskFullError(FlowpipeError):
    """Too little free space to start or to go on."""

    default_reason = "disk_full"
