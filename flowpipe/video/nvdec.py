"""Packet -> decoded pictures on NVDEC, through PyNvVideoCodec; FFmpeg demuxes.

H.264, HEVC, VP8, VP9 and AV1 define every value of a picture, so NVDEC's pictures are FFmpeg's; of
MPEG-1, -2 and -4 they may differ by a level, as decoders do. NVDEC puts out no tags: FFmpeg decodes
the first keyframe too, and every picture takes its colours, siting of chroma and display matrix.
NVDEC's picture of this keyframe has to be FFmpeg's.

Given a device that takes them, pictures stay in its memory, see `flowpipe.video.surfaces`. The
library gets no stream of ours: its pictures are complete when it returns, and the next call
overwrites them.

Refused as ``unsupported``, because the pictures would be others than FFmpeg's: interlaced video,
which the library has deinterlaced, and a change of size, which it scales to the first size.

Not noticed: NVDEC conceals damage inside a picture without a word, where FFmpeg fails. Files cut
short, packets marked as broken and packets without a picture are noticed as ever.
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
from flowpipe.video.demuxer import Source
from flowpipe.video.nvcodec import (
    capabilities,
    hold_gpu,
    library,
    nvdec_library,
    require_nvdec,
    words,
)
from flowpipe.video.planes import BITS, Blank, planes_of
from flowpipe.video.surfaces import Keeper, find_keeper

WAY_OUT = "--decoder cpu can, in a store of its own"


@dataclass(frozen=True)
class Coding:
    """How a coding reaches NVDEC."""

    name: str
    """PyNvVideoCodec's."""
    bitstream_filter: str = ""
    """FFmpeg's, to the form that NVDEC parses."""
    begins_header: Callable[[int], bool] | None = None
    """Tells by the byte after a start code whether it begins a header with the size of pictures;
    None where units have no start codes."""
    is_exact: bool = True
    """Whether its standard leaves decoders no freedom."""


CODINGS = {
    # FFmpeg's name
    "h264": Coding("H264", "h264_mp4toannexb", lambda byte: byte & 0x1F == 7),
    "hevc": Coding("HEVC", "hevc_mp4toannexb", lambda byte: byte >> 1 & 0x3F == 33),
    "mpeg1video": Coding("MPEG1", "", lambda byte: byte == 0xB3, is_exact=False),
    "mpeg2video": Coding("MPEG2", "", lambda byte: byte == 0xB3, is_exact=False),
    "mpeg4": Coding("MPEG4", "mpeg4_unpack_bframes", lambda b: 0x20 <= b <= 0x2F, is_exact=False),
    "vp8": Coding("VP8"),
    "vp9": Coding("VP9"),
    "av1": Coding("AV1"),
}
NOT_SUPPORTED = 801  # of the enum CUresult, as the next
GPU_FAILURES = {2, 3, 4, 46, 100, 101, 201, 214, *range(700, 721), 800, *range(802, 811), 999}
"""Out of memory, not initialised, device unavailable, ECC, fabric, MPS: no fault of the video."""
MEAN_LEVELS = 1.0
"""Mean distance from FFmpeg's picture that is put down to the freedom of a coding."""
PROGRESSIVE = 1  # of the enum AVFieldOrder; 0 is unknown, what is above interlaced
STEP = 1 << 32
"""Between the numbers of two packets. Where a packet shows a second picture, NVDEC's parser counts
on from the first one's time, and must not arrive at the number of another packet."""
START_CODE_BYTES = 4
"""With the byte that tells the kind of unit."""
NUMBERS_KEPT = 256
"""Packets whose pictures may still come; decoders hold 16 pictures back at most."""


class NvdecDecoder:
    """Decodes on the first GPU that this process sees; opened with the first keyframe.

    Parameters
    ----------
    source : Source
        Its own decoder is used, for keyframes, and must not be used by others.
    surfaces : SurfaceOps, optional
        Where pictures stay in device memory; without it they come down to the host.

    Raises
    ------
    DecodeError
        ``unsupported``, if the coding is none of NVDEC's.
    BackendError
        If NVDEC cannot be used in this process.
    """

    def __init__(self, source: Source, surfaces: SurfaceOps | None = None) -> None:
        require_nvdec()
        self._source, self._surfaces = source, surfaces
        if source.codec not in CODINGS:
            raise self._unsupported(f"its coding is {source.codec}")
        self._coding = CODINGS[source.codec]
        self.name = f"{nvdec_library()} nvdec {source.codec}"
        self._filter: BitStreamFilterContext | None = None
        self._session: Any = None
        self._blank: Blank | None = None
        self._keeper: Keeper | None = None
        """Keeps the pictures on the device; without it they come down."""
        self._header = b""
        self._sent = 0
        self._shown: OrderedDict[int, tuple[int | None, bool]] = OrderedDict()
        """Packet number -> its timestamp, and whether its picture is to be shown."""

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
                part = self._checked(part)
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
            if self._keeper is not None:
                self._keeper.settle()
        finally:
            self._session = None

    def _is_placeholder(self, packet: Any) -> bool:
        """Whether a packet is too short for a unit; AVI has such ones, keyframes by their flag."""
        return self._coding.begins_header is not None and packet.size < START_CODE_BYTES

    def _begin(self, packet: Any) -> None:
        """Have FFmpeg decode the first keyframe; open NVDEC if it can decode what this shows."""
        # a copy, because the picture of a packet that is not to be shown is needed too
        context = self._source.context
        try:
            pictures = context.decode(_packet(bytes(packet))) + context.decode(None)
        finally:
            context.flush_buffers()
        if not pictures or pictures[0].is_corrupt:
            raise OSError("the keyframe gives no picture, or a damaged one")
        sample = pictures[0]
        self._check(sample)
        if self._coding.bitstream_filter:
            stream = self._source.stream
            self._filter = BitStreamFilterContext(self._coding.bitstream_filter, stream)
        blank = Blank(sample)
        self._keeper = find_keeper(self._surfaces, blank)
        nvc = library()
        try:
            self._session = nvc.CreateDecoder(
                gpuid=0,
                codec=getattr(nvc.cudaVideoCodec, self._coding.name),
                usedevicememory=self._keeper is not None,
            )
        except Exception as error:
            raise self._no_session(words(error)) from error
        self._blank = blank
        self._header, self._sent = b"", 0
        self._shown.clear()

    def _check(self, sample: Any) -> None:
        """Raise unless NVDEC puts out pictures such as this one."""
        pixels = sample.format.name
        # older PyAV tells of pictures only; NVDEC goes by what the sequence says
        fields = getattr(self._source.context, "field_order", 0)
        if sample.interlaced_frame or fields > PROGRESSIVE:
            raise self._unsupported("it is interlaced, and NVDEC's pictures are deinterlaced")
        if pixels not in BITS:
            raise self._unsupported(f"its pixels are {pixels}, wanted {' or '.join(BITS)}")
        hold_gpu()
        what = f"{self._source.codec} of {BITS[pixels]} bits"
        limits = capabilities(self._coding.name, BITS[pixels])
        if not limits["supported"]:
            raise self._unsupported(f"this GPU's NVDEC does not know {what}")
        width, height = sample.width, sample.height
        blocks = -(-width // 16) * -(-height // 16)
        if (
            not limits["width_min"] <= width <= limits["width_max"]
            or not limits["height_min"] <= height <= limits["height_max"]
            or blocks > limits["mb_num_max"]
        ):
            raise self._unsupported(
                f"it is {width}x{height}, and this GPU's NVDEC takes {what} from "
                f"{limits['width_min']}x{limits['height_min']} to "
                f"{limits['width_max']}x{limits['height_max']}, at most {limits['mb_num_max']} "
                "blocks of 16x16"
            )

    def _checked(self, keyframe: Any) -> Any:
        """A keyframe with its headers, in the form that NVDEC parses; refuses a change of size."""
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
        """Raise if FFmpeg's picture of this keyframe is of another kind than the first one was."""
        context: Any = av.CodecContext.create(self._source.context.codec, "r")
        pictures = context.decode(_packet(bytes(keyframe))) + context.decode(None)
        assert self._blank is not None
        if pictures and _kind(pictures[0]) != _kind(self._blank.sample):
            raise self._unsupported("its size, pixel format or colours change on the way")

    def _give(self, address: int, size: int) -> list[Any]:
        """Have NVDEC decode these bytes; no bytes are the end of the video."""
        nvc = library()
        data = nvc.PacketData()
        data.bsl_data, data.bsl, data.pts = address, size, self._sent
        if self._keeper is not None:
            self._keeper.settle()  # the library is about to use the memory of its pictures again
        try:
            frames = self._session.Decode(data)
        except Exception as error:
            self._session = self._blank = None  # it begins again with a keyframe, if at all
            raise self._failure(error) from error
        return [picture for frame in frames if (picture := self._picture(frame)) is not None]

    def _picture(self, frame: Any) -> Any | None:
        """Copy a frame, whose memory is NVDEC's next one's too, into a picture."""
        pts, is_shown = self._shown.get(frame.getPTS(), (None, True))
        if not is_shown:
            return None
        assert self._blank is not None
        sample, layout = self._blank.sample, self._blank.layout
        width, height = self._session.GetWidth(), self._session.GetHeight()
        if (width, height) != (layout.row, layout.height):
            self.close()  # none of its pictures is to be trusted
            raise self._unsupported(
                f"NVDEC puts out {width}x{height}, FFmpeg {sample.width}x{sample.height}"
            )
        addresses = frame.GetPtrToPlane(0), frame.GetPtrToPlane(1)
        parts = list(zip(addresses, layout.plane_bytes, strict=True))
        is_first, kept = frame.getPTS() == STEP, None
        if self._keeper is None:
            luma, chroma = (_host_bytes(*part) for part in parts)
        else:
            kept = self._keeper.keep(parts, pts)
            if kept is not None and not is_first:
                return kept
            luma, chroma = np.split(self._keeper.fetch(parts), [parts[0][1]])
        if is_first:
            self._prove(luma, chroma)
        if kept is not None:
            return kept
        picture = self._blank.copy()
        picture.pts = pts
        layout.unpack(luma, chroma, planes_of(picture))
        return picture

    def _prove(self, luma: NDArray[np.uint8], chroma: NDArray[np.uint8]) -> None:
        """Raise unless the first keyframe is FFmpeg's, as far as its coding goes."""
        assert self._blank is not None
        ours, theirs = planes_of(self._blank.copy()), planes_of(self._blank.sample)
        self._blank.layout.unpack(luma, chroma, ours)
        apart = [
            float(np.abs(a.astype(np.int32) - b).mean()) for a, b in zip(ours, theirs, strict=True)
        ]
        if max(apart) > (0 if self._coding.is_exact else MEAN_LEVELS):
            self.close()
            raise self._unsupported(
                f"NVDEC's picture of the first keyframe is {max(apart):.3g} levels from FFmpeg's, "
                "in the mean"
            )

    def _failure(self, error: Exception) -> Exception:
        """What an exception of the library means."""
        text = words(error)
        code = re.search(r"Error code : (\d+)", str(error))
        if type(error).__name__ == "PyNvVCExceptionUnsupported" or (
            code and int(code[1]) == NOT_SUPPORTED
        ):
            return self._unsupported(text)
        if code and int(code[1]) in GPU_FAILURES:
            return self._no_session(text)
        return OSError(f"NVDEC: {text}")

    def _no_session(self, text: str) -> BackendError:
        return BackendError(
            f"NVDEC failed on {self._source.path} ({text}): if the GPU's memory or its decoding "
            "sessions are used up, give fewer --workers for each GPU or wait for other programs; "
            "else see whether nvidia-smi works; or use --decoder cpu, in a store of its own"
        )

    def _unsupported(self, why: str) -> DecodeError:
        return DecodeError(
            f"{self._source.path} cannot be decoded by nvdec: {why}; {WAY_OUT}",
            reason="unsupported",
        )


def _packet(content: bytes) -> av.Packet:
    """A packet with the zeros behind it that decoders read; PyAV puts none behind bytes."""
    packet = av.Packet(len(content))
    packet.update(content)
    return packet


def _headers(content: bytes, begins_header: Callable[[int], bool]) -> bytes:
    """The units of a packet that say what its pictures are."""
    units = content.split(b"\0\0\1")[1:]
    return b"".join(unit.rstrip(b"\0") for unit in units if unit and begins_header(unit[0]))


def _kind(picture: Any) -> tuple[Any, ...]:
    """What all pictures of a video share here."""
    return (
        picture.width, picture.height, picture.format.name, picture.colorspace, picture.color_range
    )  # fmt: skip


def _host_bytes(address: int, size: int) -> NDArray[np.uint8]:
    """Host memory of the library as an array, which is its only until it decodes on."""
    memory: Any = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(memory, np.uint8)
