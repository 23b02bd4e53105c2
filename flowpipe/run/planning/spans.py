"""VideoRecords -> spans: whole videos, or parts of long ones, each with its share of the bytes.

File sizes are read, and only videos large enough to be split are probed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping

from flowpipe.errors import RemoteError, UsageError, read_reason
from flowpipe.remote import file_facts, stat_urls
from flowpipe.types import Outcome, Span, VideoRecord
from flowpipe.video import cut_points

LEAST_BYTES_PER_S = 8000
"""Lowest bit rate in use, bytes per second; files too small to be long by it are not probed."""

ABSENT = "missing"
"""Reason code of a video that has no file."""

SpanKey = tuple[str, int, int]
"""(video_id, part, parts): key of a span in a store."""


def part_of(spans: Iterable[Span], index: int, count: int) -> list[Span]:
    """Return the spans that array job `index` of `count` extracts; `index` counts from 1.

    A hash of id and part chooses them. Jobs therefore agree without communication, and the choice
    stays the same when videos are added or finished.

    Parameters
    ----------
    spans : iterable of Span
        Spans of all jobs.
    index, count : int
        Number of the job, from 1, and number of jobs.

    Returns
    -------
    list of Span
        Spans of this job, in their order.

    Raises
    ------
    UsageError
        If `index` is not in [1, count].
    """
    if not 1 <= index <= count:
        raise UsageError(f"--part wants i/n with 1 <= i <= n, got {index}/{count}")
    return [span for span in spans if in_part(span.record.video_id, span.part, index, count)]


def in_part(video_id: str, part: int, index: int, count: int) -> bool:
    """Return whether an array job takes a part of a video, see `part_of`.

    Parameters
    ----------
    video_id : str
        Id of the video.
    part : int
        Number of the part, from 0.
    index, count : int
        Number of the job, from 1, and number of jobs.

    Returns
    -------
    bool
        True if it is this job's.
    """
    return count == 1 or _hash(f"{video_id}\n{part}") % count == index - 1


def make_spans(
    records: Iterable[VideoRecord],
    *,
    split_s: float,
    stream: int | None = None,
    uncut: Collection[str] = (),
    unread: Mapping[str, OSError] | None = None,
) -> tuple[list[tuple[Span, int]], list[Outcome]]:
    """Split videos into spans, and refuse unusable files.

    Parameters
    ----------
    records : iterable of VideoRecord
        Videos of the data set.
    split_s : float
        Length of parts, and length above which videos are split, seconds; 0 for never.
    stream : int, optional
        Index of the video stream that the recipe asks for; None to choose one.
    uncut : collection of str
        Ids of the videos that are not split.
    unread : mapping of str to OSError, optional
        Storage failures of videos that are refused, by id, see `StoreChanges.unread`.

    Returns
    -------
    spans : list of (Span, int)
        Each span with its share of the bytes of its file.
    unusable : list of Outcome
        Refused videos: missing, empty, not a regular file, or unreadable.
    """
    spans: list[tuple[Span, int]] = []
    unusable: list[Outcome] = []
    records = list(records)
    stat_urls(record.path for record in records)
    for record in records:
        try:
            if unread and record.video_id in unread:
                raise unread[record.video_id]
            facts = file_facts(record.path)
        except OSError as error:
            reason = read_reason(error)
            unusable.append(_refusal(record, reason, f"{record.path}: {error.strerror}"))
            continue
        except ValueError as error:  # a name with a NUL byte
            unusable.append(_refusal(record, ABSENT, f"{record.path!r}: {error}"))
            continue
        except RemoteError as error:
            unusable.append(_refusal(record, error.reason, str(error)))
            continue
        size = facts.bytes
        if not facts.regular:
            # A pipe or a device would block its worker forever.
            unusable.append(_refusal(record, "unreadable", f"{record.path} is not a regular file"))
            continue
        if size == 0:
            unusable.append(_refusal(record, "empty", f"{record.path} has no bytes"))
            continue
        long = 0 < split_s * LEAST_BYTES_PER_S < size and record.video_id not in uncut
        cuts = _cuts(record.path, split_s, stream) if long else ()
        edges = (None, *cuts, None)
        parts = len(edges) - 1
        for part in range(parts):
            spans.append((Span(record, part, parts, edges[part], edges[part + 1]), size // parts))
    return spans, unusable


def list_remaining(
    spans: Iterable[tuple[Span, int]], done: Collection[SpanKey], quarantined: Collection[SpanKey]
) -> list[tuple[Span, int]]:
    """Return the spans that are neither done nor quarantined.

    Parameters
    ----------
    spans : iterable of (Span, int)
        Spans with their bytes, from `make_spans`.
    done, quarantined : collection of (str, int, int)
        Keys of the spans to leave out.

    Returns
    -------
    list of (Span, int)
        The others, in their order.
    """
    return [(s, b) for s, b in spans if s.key not in done and s.key not in quarantined]


def shard_name(keys: Iterable[SpanKey]) -> str:
    """Return the name of the shard that holds these spans: a digest of their keys.

    The same spans get the same name in every run. So a repeated task replaces its own shard, and
    different plans never write to one name.

    Parameters
    ----------
    keys : iterable of (str, int, int)
        Keys of the spans, in order.

    Returns
    -------
    str
        ``shard-`` and 12 hexadecimal digits.
    """
    text = "\n".join("\t".join(map(str, key)) for key in keys)
    return f"shard-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def _cuts(path: str, split_s: float, stream: int | None) -> tuple[float, ...]:
    try:
        return cut_points(path, split_s, stream=stream)
    except Exception:  # any failure of one file; its worker will report it
        return ()


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _refusal(record: VideoRecord, reason: str, message: str) -> Outcome:
    return Outcome(record.video_id, "failed", path=record.path, reason=reason, message=message)
