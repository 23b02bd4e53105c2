"""Cameras and network streams as sources of frames: real sockets, wrong addresses, silence."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from videofile import encode_video, moving_clip

from flowpipe.errors import DecodeError, FlowpipeError, UsageError
from flowpipe.video import VideoParams
from flowpipe.video.live import live_frames


@contextmanager
def sender(content: bytes) -> Iterator[str]:
    """Serve bytes over TCP, then stay silent; yield the address."""
    done = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(content)
            done.wait()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        done.set()
        thread.join()


def read_until_error(source: str) -> tuple[int, FlowpipeError]:
    """Return the number of frames, and the error that follows them."""
    count = 0
    with pytest.raises(FlowpipeError) as caught:
        for _ in live_frames(source, VideoParams(), patience_s=1):
            count += 1
    return count, caught.value


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("99", "99 cannot be opened: wanted the number of a camera"),
        ("tcp://127.0.0.1:9", "cannot be opened: Connection refused; check the address"),
        ("http://127.0.0.1:9/x.mp4", "cannot be opened: Connection refused; check the address"),
    ],
)
def test_a_source_that_cannot_be_opened_is_one_sentence(
    source: str, answer: str, capfd: pytest.CaptureFixture[str]
) -> None:
    count, error = read_until_error(source)
    assert count == 0 and isinstance(error, UsageError) and answer in str(error)
    assert capfd.readouterr() == ("", "")  # OpenCV and FFmpeg print nothing of their own


def test_a_server_that_does_not_answer(capfd: pytest.CaptureFixture[str]) -> None:
    with sender(b"") as source:
        _, error = read_until_error(source)
    assert "cannot be opened: no answer within 1 s; check the address" in str(error)
    assert capfd.readouterr() == ("", "")


def test_a_stream_that_falls_silent_is_no_stream_that_ends(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = encode_video(tmp_path / "clip.ts", moving_clip(60, 64, 48))
    with sender(path.read_bytes()) as source:
        count, error = read_until_error(source)
    assert isinstance(error, DecodeError) and "no frame for 1 s; check whether" in str(error)
    assert 0 < count <= 60
    assert capfd.readouterr() == ("", "")
