"""Open file -> whether its container marks the video as encrypted."""

from __future__ import annotations

from typing import BinaryIO

from flowpipe.video.boxes import boxes_of, tracked_boxes

ENCRYPTED_TAGS = ("encv", "drmi")
"""Sample entries of encrypted video: Common Encryption and FairPlay."""
ENCRYPTED_BOXES = (b"senc", b"encv", b"drmi")
CONTAINERS = ("mov", "asf", "mpegts")
"""FFmpeg's first names of the formats that are checked."""
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_ENCRYPTION = tuple(
    bytes.fromhex(guid)
    for guid in (
        "fbb3112223bdd211b4b700a0c955fc6e",
        "14e68a292226174cb935dae07ee9289c",
        "338505438169e6499b74ad12cb86d58c",
    )
)
"""Objects of an ASF header: Content Encryption, Extended and Advanced Content Encryption."""
HEADER_BYTES = 1 << 20
"""Largest number of bytes read of an ASF header or a transport stream."""
TS_SYNC, TS_PACKETS = b"G", (188, 192, 204)
"""First byte of a transport stream packet, and its sizes, bytes: plain, M2TS, with parity."""


def is_encrypted(file: BinaryIO, container: str, stream_id: int | None = None) -> bool:
    """Tell whether a video is encrypted.

    Parameters
    ----------
    file : binary file
        Its position changes.
    container : str
        FFmpeg's first name of the format; only `CONTAINERS` are checked.
    stream_id : int, optional
        Track id or PID of the video; None for any.

    Returns
    -------
    bool
        True if pictures of the video are encrypted.
    """
    if container == "mov":
        found = boxes_of(file) if stream_id is None else tracked_boxes(file, stream_id)
        return any(kind in ENCRYPTED_BOXES for kind, _, _ in found)
    file.seek(0)
    if container == "asf":
        head = file.read(24)
        if head[:16] != ASF_HEADER:
            return False
        rest = file.read(min(HEADER_BYTES, int.from_bytes(head[16:], "little")))
        return any(guid in rest for guid in ASF_ENCRYPTION)
    return container == "mpegts" and _is_scrambled(file.read(HEADER_BYTES), stream_id)


def _is_scrambled(head: bytes, pid: int | None) -> bool:
    """Return whether most packets of a PID are scrambled (ISO/IEC 13818-1, 2.4.3.3)."""
    for size in TS_PACKETS:
        start = next(
            (
                at
                for at in range(size)
                if all(head[at + k * size :][:1] == TS_SYNC for k in range(5))
            ),
            None,
        )
        if start is None:
            continue
        marks = [
            bool(head[at + 3] & 0xC0)
            for at in range(start, len(head) - 4, size)
            if head[at : at + 1] == TS_SYNC and _is_of(head[at + 1 : at + 3], pid)
        ]
        return 2 * sum(marks) > len(marks)
    return False


def _is_of(field: bytes, pid: int | None) -> bool:
    """Return whether a packet has this PID, or any that may carry a stream (table 2-3)."""
    found = int.from_bytes(field, "big") & 0x1FFF
    return found == pid if pid is not None else 0x1F < found < 0x1FFF
