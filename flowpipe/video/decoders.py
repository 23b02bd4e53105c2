"""Packet -> decoded pictures: the common interface of the CPU decoder and NVDEC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from av.codec.context import Flags

from flowpipe.surfaces import SurfaceOps
from flowpipe.video.demuxer import Demuxer, decoder_library
from flowpipe.video.nvdec import NvdecDecoder


class Decoder(Protocol):
    """Decodes the packets of one source, from first to last."""

    name: str
    """Library, versions and decoder, as recorded with every video."""

    def decode(self, packet: Any) -> list[Any]:
        """Take a packet, also the last and empty one.

        Parameters
        ----------
        packet : av.Packet
            Next packet of the stream.

        Returns
        -------
        list of av.VideoFrame or SurfacePicture
            Pictures in display order, each with timestamp, colours and display matrix.

        Raises
        ------
        av.error.FFmpegError, OSError
            If the packet is damaged.
        DecodeError
            If the decoder does not support the rest of this video.
        BackendError
            If the decoder fails for a reason that does not lie in this video.
        """

    def flush(self) -> list[Any]:
        """Return the pictures that the decoder still holds, if the packets have ended early."""

    def close(self) -> None:
        """Release everything that was opened for this source."""


class CpuDecoder:
    """FFmpeg's decoder on the CPU; it belongs to the source and is closed with it.

    Parameters
    ----------
    source : Demuxer
        Source of the packets.
    surfaces : SurfaceOps, optional
        Not used: pictures stay on the host.
    """

    def __init__(self, source: Demuxer, surfaces: SurfaceOps | None = None) -> None:
        self._context = source.context
        # Every picture gets the number of its packet.
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


DECODERS: dict[str, Callable[[Demuxer, SurfaceOps | None], Decoder]] = {
    "cpu": CpuDecoder,
    "nvdec": NvdecDecoder,
}
"""Decoders by their name in a recipe."""


def open_decoder(name: str, source: Demuxer, surfaces: SurfaceOps | None = None) -> Decoder:
    """Open the decoder of this name for a source.

    Given `surfaces`, a decoder on a GPU may leave its pictures there, as `SurfacePicture`.

    Parameters
    ----------
    name : str
        A key of `DECODERS`.
    source : Demuxer
        Source of the packets.
    surfaces : SurfaceOps, optional
        Device that pictures may stay on.

    Returns
    -------
    Decoder
        The decoder.

    Raises
    ------
    DecodeError
        ``unsupported``, if the decoder does not support the coding of the source.
    BackendError
        If the decoder cannot be used in this process.
    """
    return DECODERS[name](source, surfaces)
