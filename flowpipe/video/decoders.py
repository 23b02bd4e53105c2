"""Packet -> decoded pictures: the one seam between decoding on the cores and on a GPU's NVDEC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from av.codec.context import Flags

from flowpipe.surfaces import SurfaceOps
from flowpipe.video.demuxer import Source, decoder_library
from flowpipe.video.nvdec import NvdecDecoder


class Decoder(Protocol):
    """Decodes the packets of one source, from first to last."""

    name: str
    """Library, versions and decoder, as recorded."""

    def decode(self, packet: Any) -> list[Any]:
        """Take a packet, the last and empty one too; return the pictures that are ready now.

        Returns
        -------
        list of av.VideoFrame or SurfacePicture
            In showing order, each with its packet's timestamp, its colours and display matrix.

        Raises
        ------
        av.error.FFmpegError, OSError
            If the packet is damaged.
        DecodeError
            If the decoder cannot decode this video from here on, however whole it is.
        BackendError
            If the decoder cannot be used at all; the next video would meet it too.
        """

    def flush(self) -> list[Any]:
        """Return the pictures still held back, where packets have ended early."""

    def close(self) -> None:
        """Give back what was opened for this source."""


class CpuDecoder:
    """FFmpeg's decoder, on the cores; it belongs to the source and is closed with it."""

    def __init__(self, source: Source, surfaces: SurfaceOps | None = None) -> None:
        self._context = source.context
        # Every picture carries the number that was given to its packet.
        self._context.flags |= Flags.copy_opaque
        self.name = f"{decoder_library()} {source.context.name}"

    def decode(self, packet: Any) -> list[Any]:
        pictures: list[Any] = self._context.decode(packet if packet.size else None)
        return pictures

    def flush(self) -> list[Any]:
        pictures: list[Any] = self._context.decode(None)
        return pictures

    def close(self) -> None:
        pass


DECODERS: dict[str, Callable[[Source, SurfaceOps | None], Decoder]] = {
    "cpu": CpuDecoder,
    "nvdec": NvdecDecoder,
}
"""What ``decoder`` may be in a recipe."""


def open_decoder(name: str, source: Source, surfaces: SurfaceOps | None = None) -> Decoder:
    """Open the decoder of this name for a source.

    Given `surfaces`, a decoder on a GPU may leave its pictures there, as `SurfacePicture`.

    Raises
    ------
    DecodeError
        ``unsupported``, if it does not know the source's coding.
    BackendError
        If it cannot be used in this process.
    """
    return DECODERS[name](source, surfaces)
