"""Packet -> decoded pictures on NVDEC, through PyNvVideoCodec; FFmpeg demuxes.

H.264, HEVC, VP8, VP9 and AV1 define every value of a picture, so NVDEC's pictures are equal to
FFmpeg's. For MPEG-1, -2 and -4 decoders may differ by a level. NVDEC returns no tags: FFmpeg
decodes the first keyframe too, and every picture gets its colours, chroma siting and display
matrix. NVDEC's picture of this keyframe must equal FFmpeg's.

Given a device, pictures stay in its memory, see `flowpipe.video.surfaces`. The library gets no CUDA
stream from here: its pictures are complete when it returns, and the next call overwrites them.

Two kinds of video are refused as ``unsupported``, because the pictures would differ from FFmpeg's:
interlaced video, which the library deinterlaces, and a change of size, which it scales to the first
size.

NVDEC silently conceals corruption inside a picture; the CPU decoder stops there. Truncated files,
packets marked as corrupt and packets without a picture are detected with both.
"""

from __future__ import annotations

import ctypes
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from numpy.typing import NDArray

from flowpipe.errors import BackendError, DecodeError
from flowpipe.surfaces import SurfaceOps
from flowpipe.video.demuxer import Demuxer
from flowpipe.video.nvcodec import (
    capabilities,
    describe_error,
    hold_gpu,
    library,
    nvdec_library,
    require_nvdec,
)
from flowpipe.video.planes import BITS, PictureFactory, planes_of
from flowpipe.video.surfaces import SurfaceCopier, find_copier

WAY_OUT = "--decoder cpu can, in a store of its own"


@dataclass(frozen=True)
class NvdecCoding:
    """Coding that NVDEC supports."""

    name: str
    """PyNvVideoCodec's name."""
    bitstream_filter: str = ""
    """FFmpeg's filter to the form that NVDEC parses; empty for none."""
    begins_header: Callable[[int], bool] | None = None
    """Test whether the byte after a start code begins a header with the picture size; None if units
    have no start codes."""
    is_exact: bool = True
    """True if the standard defines every value of a picture."""


CODINGS = {
    # FFmpeg's name
    "h264": NvdecCoding("H264", "h264_mp4toannexb", lambda byte: byte & 0x1F == 7),
    "hevc": NvdecCoding("HEVC", "hevc_mp4toannexb", lambda byte: byte >> 1 & 0x3F == 33),
    "mpeg1video": NvdecCoding("MPEG1", "", lambda byte: byte == 0xB3, is_exact=False),
    "mpeg2video": NvdecCoding("MPEG2", "", lambda byte: byte == 0xB3, is_exact=False),
    "mpeg4": NvdecCoding(
        "MPEG4", "mpeg4_unpack_bframes", lambda b: 0x20 <= b <= 0x2F, is_exact=False
    ),
    "vp8": NvdecCoding("VP8"),
    "vp9": NvdecCoding("VP9"),
    "av1": NvdecCoding("AV1"),
}
NOT_SUPPORTED = 801  # of the enum CUresult, as the next
GPU_FAILURES = {2, 3, 4, 46, 100, 101, 201, 214, *range(700, 721), 800, *range(802, 811), 999}
"""Failures of the GPU, not of the video: memory, initialisation, device, ECC, fabric, MPS."""
MEAN_LEVELS = 1.0
"""Largest mean difference to FFmpeg's picture, levels, for codings that are not exact."""
PROGRESSIVE = 1  # of the enum AVFieldOrder; 0 is unknown, higher values are interlaced
STEP = 1 << 32
"""Difference of the numbers of two packets. If a packet has a second picture, NVDEC's parser counts
on from the first one's time, and must not reach the number of another packet."""
START_CODE_BYTES = 4
"""Length of a start code with the byte that gives the kind of unit."""
NUMBERS_KEPT = 256
"""Packets whose pictures are awaited; decoders delay at most 16 pictures."""


class NvdecDecoder:
    """Decoder on the first GPU that this process sees; it opens NVDEC at the first keyframe.

    Parameters
    ----------
    source : Demuxer
        Video to decode. Its own decoder is used for keyframes, and must not be used elsewhere.
    surfaces : SurfaceOps, optional
        Device on which pictures stay; without it they are copied to the host.

    Raises
    ------
    DecodeError
        ``unsupported``, if NVDEC does not support the coding.
    BackendError
        If NVDEC cannot be used in this process.
    """

    def __init__(self, source: Demuxer, surfaces: SurfaceOps | None = None) -> None:
        require_nvdec()
        self._source, self._surfaces = source, surfaces
        if source.codec not in CODINGS:
            raise self._unsupported_error(f"its coding is {source.codec}")
        self._coding = CODINGS[source.codec]
        self.name = f"{nvdec_library()} nvdec {source.codec}"
        self._filter: BitStreamFilterContext | None = None
        self._session: Any = None
        self._blank: PictureFactory | None = None
        self._copier: SurfaceCopier | None = None
        """Copies pictures to device memory; None if they are copied to the host."""
        self._header = b""
        self._sent = 0
        self._shown: OrderedDict[int, tuple[int | None, bool]] = OrderedDict()
        """(timestamp, whether its picture is shown) by packet number."""

    def decode(self, packet: Any) -> list[Any]:
        if not packet.size:
            return self.flush()
        if self._blank is None:
            if not packet.is_keyframe or self._is_placeholder(packet):
                return []
            self._begin(packet)
        pictures = []
        for part in [packet] if self._filter is None else self._filter.filter(packet):
            if self._is_placeholder(part):
                continue
            shown = part.pts, not part.is_discard
            if part.is_keyframe:
                part = self._prepare_keyframe(part)
            self._sent += STEP
            self._shown[self._sent] = shown
            if len(self._shown) > NUMBERS_KEPT:
                self._shown.popitem(last=False)
            pictures += self._give(part.buffer_ptr, part.buffer_size)
        return pictures

    def flush(self) -> list[Any]:
        return [] if self._session is None else self._give(0, 0)

    def close(self) -> None:
        try:
            if self._copier is not None:
                self._copier.wait_for_copies()
        finally:
            self._session = None

    def _is_placeholder(self, packet: Any) -> bool:
        """Return whether a packet is too short for a unit; in AVI such packets can be keyframes."""
        return self._coding.begins_header is not None and packet.size < START_CODE_BYTES

    def _begin(self, packet: Any) -> None:
        """Decode the first keyframe with FFmpeg, and open NVDEC if it supports such pictures."""
        # a copy without flags, so that FFmpeg also returns a picture that is not shown
        context = self._source.context
        try:
            pictures = context.decode(_packet(bytes(packet))) + context.decode(None)
        finally:
            context.flush_buffers()
        if not pictures or pictures[0].is_corrupt:
            raise OSError("the keyframe has no picture, or a damaged one")
        sample = pictures[0]
        self._check(sample)
        if self._coding.bitstream_filter:
            stream = self._source.stream
            self._filter = BitStreamFilterContext(self._coding.bitstream_filter, stream)
        blank = PictureFactory(sample)
        self._copier = find_copier(self._surfaces, blank)
        nvc = library()
        try:
            self._session = nvc.CreateDecoder(
                gpuid=0,
                codec=getattr(nvc.cudaVideoCodec, self._coding.name),
                usedevicememory=self._copier is not None,
            )
        except Exception as error:
            raise self._no_session(describe_error(error)) from error
        self._blank = blank
        self._header, self._sent = b"", 0
        self._shown.clear()

    def _check(self, sample: Any) -> None:
        """Raise unless NVDEC supports pictures such as this one."""
        pixels = sample.format.name
        # NVDEC uses the flag of the sequence; older PyAV has only that of pictures
        fields = getattr(self._source.context, "field_order", 0)
        if sample.interlaced_frame or fields > PROGRESSIVE:
            raise self._unsupported_error("it is interlaced, and NVDEC deinterlaces")
        if pixels not in BITS:
            raise self._unsupported_error(f"its pixels are {pixels}, wanted {' or '.join(BITS)}")
        hold_gpu()
        what = f"{self._source.codec} of {BITS[pixels]} bits"
        limits = capabilities(self._coding.name, BITS[pixels])
        if not limits["supported"]:
            raise self._unsupported_error(f"this GPU's NVDEC does not support {what}")
        width, height = sample.width, sample.height
        blocks = -(-width // 16) * -(-height // 16)
        if (
            not limits["width_min"] <= width <= limits["width_max"]
            or not limits["height_min"] <= height <= limits["height_max"]
            or blocks > limits["mb_num_max"]
        ):
            raise self._unsupported_error(
                f"it is {width}x{height}, and this GPU's NVDEC takes {what} from "
                f"{limits['width_min']}x{limits['height_min']} to "
                f"{limits['width_max']}x{limits['height_max']}, at most {limits['mb_num_max']} "
                "blocks of 16x16"
            )

    def _prepare_keyframe(self, keyframe: Any) -> Any:
        """Return a keyframe with its headers, as NVDEC parses it; raise if the size changes."""
        begins_header = self._coding.begins_header
        if begins_header is None:
            if self._sent:
                self._compare(keyframe)
            return keyframe
        content = bytes(keyframe)
        header = _headers(content, begins_header)
        if not header and not self._sent:
            # MP4 and Matroska keep the headers of MPEG-4 apart
            extra = self._source.context.extradata or b""
            keyframe = _packet(extra + content)
        elif self._sent and header not in (b"", self._header):
            self._compare(keyframe)
        self._header = header or self._header
        return keyframe

    def _compare(self, keyframe: Any) -> None:
        """Raise if FFmpeg's picture of this keyframe differs in kind from the first."""
        context: Any = av.CodecContext.create(self._source.context.codec, "r")
        pictures = context.decode(_packet(bytes(keyframe))) + context.decode(None)
        assert self._blank is not None
        if pictures and _kind(pictures[0]) != _kind(self._blank.sample):
            raise self._unsupported_error("its size, pixel format or colours change on the way")

    def _give(self, address: int, size: int) -> list[Any]:
        """Decode bytes with NVDEC; no bytes end the video."""
        nvc = library()
        data = nvc.PacketData()
        data.bsl_data, data.bsl, data.pts = address, size, self._sent
        if self._copier is not None:
            self._copier.wait_for_copies()  # the library will reuse the memory of its pictures
        try:
            frames = self._session.Decode(data)
        except Exception as error:
            self._session = self._blank = None  # decoding can begin again at a keyframe
            raise self._failure(error) from error
        return [picture for frame in frames if (picture := self._picture(frame)) is not None]

    def _picture(self, frame: Any) -> Any | None:
        """Copy a frame into a picture; NVDEC reuses the frame's memory. None if it is not shown."""
        pts, is_shown = self._shown.get(frame.getPTS(), (None, True))
        if not is_shown:
            return None
        assert self._blank is not None
        sample, layout = self._blank.sample, self._blank.layout
        width, height = self._session.GetWidth(), self._session.GetHeight()
        if (width, height) != (layout.row, layout.height):
            self.close()  # its pictures cannot be trusted
            raise self._unsupported_error(
                f"NVDEC returns {width}x{height}, FFmpeg {sample.width}x{sample.height}"
            )
        addresses = frame.GetPtrToPlane(0), frame.GetPtrToPlane(1)
        parts = list(zip(addresses, layout.plane_bytes, strict=True))
        is_first, kept = frame.getPTS() == STEP, None
        if self._copier is None:
            luma, chroma = (_host_bytes(*part) for part in parts)
        else:
            kept = self._copier.copy(parts, pts)
            if kept is not None and not is_first:
                return kept
            luma, chroma = np.split(self._copier.fetch(parts), [parts[0][1]])
        if is_first:
            self._prove(luma, chroma)
        if kept is not None:
            return kept
        picture = self._blank.copy()
        picture.pts = pts
        layout.unpack(luma, chroma, planes_of(picture))
        return picture

    def _prove(self, luma: NDArray[np.uint8], chroma: NDArray[np.uint8]) -> None:
        """Raise unless NVDEC's first keyframe equals FFmpeg's; by `MEAN_LEVELS` if not exact."""
        assert self._blank is not None
        ours, theirs = planes_of(self._blank.copy()), planes_of(self._blank.sample)
        self._blank.layout.unpack(luma, chroma, ours)
        apart = [
            float(np.abs(a.astype(np.int32) - b).mean()) for a, b in zip(ours, theirs, strict=True)
        ]
        if max(apart) > (0 if self._coding.is_exact else MEAN_LEVELS):
            self.close()
            raise self._unsupported_error(
                f"NVDEC's picture of the first keyframe is {max(apart):.3g} levels from FFmpeg's, "
                "in the mean"
            )

    def _failure(self, error: Exception) -> Exception:
        """Translate an exception of the library."""
        text = describe_error(error)
        code = re.search(r"Error code : (\d+)", str(error))
        if type(error).__name__ == "PyNvVCExceptionUnsupported" or (
            code and int(code[1]) == NOT_SUPPORTED
        ):
            return self._unsupported_error(text)
        if code and int(code[1]) in GPU_FAILURES:
            return self._no_session(text)
        return OSError(f"NVDEC: {text}")

    def _no_session(self, text: str) -> BackendError:
        return BackendError(
            f"NVDEC failed on {self._source.path} ({text}): if the GPU's memory or its decoding "
            "sessions are used up, use fewer --workers per GPU or wait for other programs; "
            "else check nvidia-smi; or use --decoder cpu, in a store of its own"
        )

    def _unsupported_error(self, why: str) -> DecodeError:
        return DecodeError(
            f"{self._source.path} cannot be decoded by nvdec: {why}; {WAY_OUT}",
            reason="unsupported",
        )


def _packet(content: bytes) -> av.Packet:
    """Make a packet with the zero padding that decoders read; PyAV adds none to bytes."""
    packet = av.Packet(len(content))
    packet.update(content)
    return packet


def _headers(content: bytes, begins_header: Callable[[int], bool]) -> bytes:
    """Return the header units of a packet."""
    units = content.split(b"\0\0\1")[1:]
    return b"".join(unit.rstrip(b"\0") for unit in units if unit and begins_header(unit[0]))


def _kind(picture: Any) -> tuple[Any, ...]:
    """Return the size, format and colours that all pictures of a video must share."""
    return (
        picture.width, picture.height, picture.format.name, picture.colorspace, picture.color_range
    )  # fmt: skip


def _host_bytes(address: int, size: int) -> NDArray[np.uint8]:
    """Return host memory of the library as an array; it is valid until the next call of Decode."""
    memory: Any = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(memory, np.uint8)
