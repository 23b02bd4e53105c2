"""Open container -> video stream to decode, and the streams that continue it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from av.container import InputContainer
from av.video.stream import VideoStream

from flowpipe.errors import DecodeError

PICTURE_DISPOSITIONS = ("attached_pic", "timed_thumbnails", "still_image")
"""FFmpeg's names for streams of covers and thumbnails."""
COUNTED_PACKETS = 512
"""Video packets read to count frames, if the header of a file with several streams does not."""


def choose_stream(
    container: InputContainer, path: str, wanted: int | None, reopen: Callable[[], InputContainer]
) -> VideoStream:
    """Choose the video stream to decode.

    Pictures (covers, thumbnails, stills of one frame) are chosen only if there is no video. A
    stream with the default disposition is preferred, then more frames, then a larger picture, then
    the first stream.

    Parameters
    ----------
    container : InputContainer
        Open file.
    path : str
        Path of the file, for messages.
    wanted : int or None
        Index of the stream, as in ffprobe; None chooses.
    reopen : callable
        Opens the file again; called only if frames must be counted.

    Returns
    -------
    VideoStream
        The stream.

    Raises
    ------
    DecodeError
        ``no_video`` if there is no video stream, or stream `wanted` is not one.
    """
    if wanted is not None:
        for stream in container.streams.video:
            if stream.index == wanted:
                return stream
        known = ", ".join(str(s.index) for s in container.streams.video) or "none"
        raise DecodeError(
            f"{path}: stream {wanted} is no video stream (video.stream of the recipe); "
            f"its video streams: {known}",
            reason="no_video",
        )
    streams = [s for s in container.streams.video if not is_cover(s)]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams}))
        raise DecodeError(
            f"{path} has no video stream, only {kinds or 'unknown data'}", reason="no_video"
        )
    if len(streams) == 1:
        return streams[0]
    frames = {s.index: declared_frames(s) for s in streams}
    if not all(frames.values()):
        frames = _count_frames(reopen)
    if max(frames.values(), default=0) > 1:
        streams = [s for s in streams if frames.get(s.index, 0) > 1]
    return max(
        streams,
        key=lambda s: (
            s.codec_context is not None,
            "default" in dispositions(s),
            frames.get(s.index, 0),
            _pixels(s),
            -s.index,
        ),
    )


def continuations(
    container: InputContainer, chosen: VideoStream, reopen: Callable[[], InputContainer]
) -> tuple[VideoStream, ...]:
    """Find the streams of a transport stream that continue the chosen one.

    Where recordings are joined, the video may continue under another PID. Such a stream has the
    same codec, and no packet between the first and last packet of any other stream in the chain;
    streams of parallel programmes overlap. The file is read until all other video streams overlap
    the chosen one; nothing is decoded.

    Parameters
    ----------
    container : InputContainer
        Open file.
    chosen : VideoStream
        Stream that is decoded first.
    reopen : callable
        Opens the file again.

    Returns
    -------
    tuple of VideoStream
        In file order, `chosen` among them.
    """
    others = {s.index: s for s in container.streams.video if _codec(s) == _codec(chosen)}
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    apart = set(others) - {chosen.index}
    if not apart or container.format.name != "mpegts":
        return (chosen,)
    with reopen() as again:
        for packet in _demux(again, again.streams.video):
            # by position, because the last packet of a stream is returned at the end of the file
            index, position = packet.stream.index, packet.pos
            if index not in others or position is None:
                continue
            first.setdefault(index, position)
            last[index] = position
            span = first.get(chosen.index, position), last.get(chosen.index, -1)
            apart -= {k for k in apart if k in first and first[k] < span[1] and last[k] > span[0]}
            if not apart:
                return (chosen,)
    chain = [chosen.index]
    for other in sorted(apart & set(first), key=lambda k: first[k] - last[k]):  # the longest first
        if all(last[other] < first[k] or first[other] > last[k] for k in chain if k in first):
            chain.append(other)
    return tuple(others[k] for k in sorted(chain, key=lambda k: first.get(k, 0)))


def _codec(stream: VideoStream) -> str:
    """Return FFmpeg's name of the coding; empty if it has no decoder."""
    return stream.codec_context.codec.canonical_name if stream.codec_context is not None else ""


def is_cover(stream: VideoStream) -> bool:
    """Return whether a video stream is a cover, thumbnail or still picture, by its disposition.

    Parameters
    ----------
    stream : VideoStream
        Stream of a container.

    Returns
    -------
    bool
        True for a cover, thumbnail or still picture.
    """
    return any(name in dispositions(stream) for name in PICTURE_DISPOSITIONS)


def dispositions(stream: VideoStream) -> tuple[str, ...]:
    """Return the dispositions of a stream.

    Parameters
    ----------
    stream : VideoStream
        Stream of a container.

    Returns
    -------
    tuple of str
        FFmpeg's names.
    """
    value = getattr(stream, "disposition", None)
    if not value:
        return ()
    names = ("default", *PICTURE_DISPOSITIONS)
    return tuple(n for n in names if value & getattr(type(value), n, type(value)(0)))


def declared_frames(stream: VideoStream) -> int:
    """Return the number of frames by the header's count or duration.

    Parameters
    ----------
    stream : VideoStream
        Stream of a container.

    Returns
    -------
    int
        Number of frames; 0 if the header has neither.
    """
    tags = [v for k, v in stream.metadata.items() if k.startswith("NUMBER_OF_FRAMES")]
    counts = [stream.frames or 0, *(int(v) for v in tags if v.isdecimal())]
    if max(counts) or not (stream.duration and stream.time_base and stream.average_rate):
        return max(counts)
    return max(0, round(stream.duration * stream.time_base * stream.average_rate))


def _count_frames(reopen: Callable[[], InputContainer]) -> dict[int, int]:
    """Count the frames of each video stream in the first packets of the file."""
    counts: Counter[int] = Counter()
    with reopen() as container:
        for packet in _demux(container, container.streams.video):
            counts[packet.stream.index] += bool(packet.size)
            if counts.total() >= COUNTED_PACKETS:
                break
    return counts


def _demux(container: InputContainer, streams: Iterable[VideoStream]) -> Iterable[Any]:
    """Yield the packets of these streams up to the end of the file or its first damage."""
    import av

    while True:
        try:
            yield from container.demux(list(streams))
            return
        except IndexError:
            continue  # PyAV raises this for a stream that appeared after the file was opened
        except (av.error.FFmpegError, OSError):
            return


def _pixels(stream: VideoStream) -> int:
    context = stream.codec_context
    return (context.width or 0) * (context.height or 0) if context is not None else 0
