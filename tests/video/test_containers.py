"""Facts of a container: encryption is refused, a crop is noted."""

from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess
from pathlib import Path

import av
import pytest
from videofile import encode_video, moving_clip

from flowpipe.errors import DecodeError
from flowpipe.video import open_video, probe


def notes_of(path: Path) -> tuple[int, set[str]]:
    with open_video(path) as reader:
        count = sum(len(window.data) for window in reader.windows())
    return count, {note.partition(":")[0] for note in reader.facts.notes}


def reason(path: Path) -> str:
    reasons = set()
    for look in (open_video, probe):
        with pytest.raises(DecodeError, match=path.name) as caught:
            look(path)
        reasons.add(caught.value.reason)
    assert len(reasons) == 1
    return reasons.pop()


def insert_box(content: bytes, at: int, box: bytes, parents: tuple[bytes, ...]) -> bytes:
    """An ISO file with one more box inside of boxes that are the first of their kind."""
    grown = bytearray(content[:at] + box + content[at:])
    for kind in parents:
        place = grown.index(kind, grown.index(b"moov")) - 4
        size = struct.unpack(">I", grown[place : place + 4])[0] + len(box)
        grown[place : place + 4] = struct.pack(">I", size)
    return bytes(grown)


def scramble(content: bytes, size: int = 188) -> bytes:
    """A transport stream whose packets of PID 0x100 are marked, and made, unreadable."""
    packets = bytearray(content)
    for at in range(0, len(packets), size):
        if int.from_bytes(packets[at + 1 : at + 3], "big") & 0x1FFF == 0x100:
            packets[at + 3] |= 0x80
            packets[at + 12 : at + size] = bytes(255 - b for b in packets[at + 12 : at + size])
    return bytes(packets)


def test_scrambled_transport_streams_are_encrypted(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.ts", moving_clip(20))
    clear = path.read_bytes()
    assert notes_of(path)[0] == 20
    path.write_bytes(scramble(clear))
    assert reason(path) == "encrypted"
    # one marked packet among many is damage, or a mistake
    at = next(k for k in range(0, len(clear), 188) if clear[k + 1 : k + 3] == b"\x01\x00")
    path.write_bytes(clear[: at + 3] + bytes([clear[at + 3] | 0x80]) + clear[at + 4 :])
    assert notes_of(path)[0] >= 19


def test_an_encrypted_file_that_ffmpeg_cannot_open_is_called_encrypted(tmp_path: Path) -> None:
    """The ffmpeg command 5.1 writes fragments of Common Encryption that no release opens."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs the ffmpeg command")
    clear = encode_video(tmp_path / "clear.mp4", moving_clip(10))
    path = tmp_path / "clip.mp4"
    options = (
        "-c copy -movflags frag_keyframe+empty_moov -encryption_scheme cenc-aes-ctr "
        "-encryption_key 76a6c65c5ea762046bd749a2e632ccbb "
        "-encryption_kid a7e61c373e219033c21091fa607bf3b8"
    )
    command = ["ffmpeg", "-v", "error", "-i", clear, *options.split(), path]
    subprocess.run(command, check=True, capture_output=True)
    with contextlib.suppress(av.error.InvalidDataError), av.open(str(path)):
        pytest.skip("needs an ffmpeg command that writes such files")
    assert reason(path) == "encrypted"


def test_protected_asf_files_are_encrypted(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.wmv", moving_clip(10), codec="wmv2")
    content = bytearray(path.read_bytes())
    guid = bytes.fromhex("14e68a292226174cb935dae07ee9289c")
    extra = guid + struct.pack("<Q", 32) + b"\0" * 8
    size, count = struct.unpack("<QI", content[16:28])
    content[16:28] = struct.pack("<QI", size + len(extra), count + 1)
    content[size:size] = extra
    path.write_bytes(content)
    assert reason(path) == "encrypted"


@pytest.mark.parametrize("pixels", [0, 4])
def test_a_crop_of_matroska_is_noted(pixels: int, tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.mkv", moving_clip(5))
    content = path.read_bytes()
    field = b"\xb0\x81\x60\xba\x81\x40"  # PixelWidth 96, PixelHeight 64
    assert content.count(field) == 1
    at = content.index(field)
    video = content.rindex(b"\xe0", 0, at)
    tracks = content.rindex(b"\x16\x54\xae\x6b", 0, video)
    track = tracks + 4 + 9 - content[tracks + 4].bit_length()
    track += 6 if content[track] == 0xBF else 0  # a CRC-32
    assert content[track] == 0xAE
    extra = b"\x54\xbb\x81" + bytes([pixels])
    grown = bytearray(content[:at] + extra + content[at:])
    for place in (video + 1, track + 1, tracks + 4):
        length = 9 - grown[place].bit_length()
        size = int.from_bytes(grown[place : place + length], "big") + len(extra)
        grown[place : place + length] = size.to_bytes(length, "big")
    # FFmpeg leaves room behind the seek head; it shrinks by what the tracks grew
    void = content.index(b"\xec", 0, tracks)
    length = 9 - grown[void + 1].bit_length()
    size = int.from_bytes(grown[void + 1 : void + 1 + length], "big") - len(extra)
    grown[void + 1 : void + 1 + length] = size.to_bytes(length, "big")
    del grown[void + 1 + length : void + 1 + length + len(extra)]
    path.write_bytes(grown)
    count, notes = notes_of(path)
    assert (count, "container_crop" in notes) == (5, pixels > 0)


@pytest.mark.parametrize("width", [96, 88])
def test_a_clean_aperture_is_noted(width: int, tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.mov", moving_clip(5), codec="mpeg4")
    content = path.read_bytes()
    entry = content.index(b"mp4v", content.index(b"stsd")) - 4
    clap = struct.pack(">I4s8I", 40, b"clap", width, 1, 64, 1, 0, 1, 0, 1)
    end = entry + struct.unpack(">I", content[entry : entry + 4])[0]
    parents = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"mp4v")
    path.write_bytes(insert_box(content, end, clap, parents))
    count, notes = notes_of(path)
    assert (count, "container_crop" in notes) == (5, width < 96)
