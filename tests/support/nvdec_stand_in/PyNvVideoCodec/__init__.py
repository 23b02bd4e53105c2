"""Stand-in of PyNvVideoCodec: proves how flowpipe calls it, not what pictures NVDEC decodes.

FFmpeg decodes behind the few calls of PyNvVideoCodec 2.2.4 that flowpipe makes. A process uses the
stand-in when nvdec_stand_in is on its path. Names, types, shapes and texts of errors are those of
the real library, run on a driver of stubs. The stand-in is strict where the library is silent:
H.264 and HEVC come as Annex B, the first packet has the parameter sets, and each call overwrites
the memory of the frames before, on the host or the device. It skips damage in silence. It cannot
show what a GPU supports, how NVDEC conceals damage, and how long anything takes.
"""

from __future__ import annotations

import ctypes
import enum
import os
import re
import sys
from typing import Any

import av
import numpy as np

__version__ = "2.2.4"

cudaVideoCodec = enum.Enum(  # noqa: N816 - PyNvVideoCodec's name, as all that follow
    "cudaVideoCodec",
    {"MPEG1": 0, "MPEG2": 1, "MPEG4": 2, "VC1": 3, "H264": 4, "JPEG": 5, "HEVC": 8, "VP8": 9,
     "VP9": 10, "AV1": 11},
)  # fmt: skip
cudaVideoChromaFormat = enum.Enum(  # noqa: N816
    "cudaVideoChromaFormat", {"Monochrome": 0, "420": 1, "422": 2, "444": 3}
)
Pixel_Format = enum.Enum("Pixel_Format", {"NV12": 3, "YUV444": 4, "P016": 5})

FFMPEG = {
    "MPEG1": "mpeg1video", "MPEG2": "mpeg2video", "MPEG4": "mpeg4", "H264": "h264", "HEVC": "hevc",
    "VP8": "vp8", "VP9": "vp9", "AV1": "libdav1d",
}  # fmt: skip
MUST_BEGIN_WITH = {
    # units by the byte after their start code: parameter sets, sequence header, object layer
    "H264": [lambda b: b & 31 == 7, lambda b: b & 31 == 8],
    "HEVC": [lambda b: b >> 1 == 32, lambda b: b >> 1 == 33, lambda b: b >> 1 == 34],
    "MPEG1": [lambda b: b == 0xB3],
    "MPEG2": [lambda b: b == 0xB3],
    "MPEG4": [lambda b: 0x20 <= b <= 0x2F],
}
GPUS = 1
SUPPORTED = {(name, 8) for name in FFMPEG} | {
    (name, bits) for name in ("HEVC", "VP9", "AV1", "H264") for bits in (10, 12)
}
LIMITS = {"width_min": 48, "height_min": 16, "width_max": 4096, "height_max": 4096}
SESSIONS = int(os.environ.get("NVDEC_STAND_IN_SESSIONS", 1000))
SESSION_BYTES = int(os.environ.get("NVDEC_STAND_IN_BYTES", 0))
"""What a session takes of the memory of cuda_stand_in, in a process that has it."""
FAIL_AT: dict[int, int] = {}
"""Error code by the number of a decoded packet."""
open_sessions = 0
DEVICE = 1 << 60
"""Marks an address of device memory, as cuda_stand_in does: hosts that read there crash."""


class PyNvVCException(Exception):  # noqa: N818
    pass


class PyNvVCExceptionUnsupported(Exception):  # noqa: N818
    pass


def _error(place: str, code: int, words: str) -> Exception:
    kind = PyNvVCExceptionUnsupported if code == 801 else PyNvVCException
    return kind(f"{place} : \nError code : {code}\nError Type : {words}\nat /project/src/x.cpp:1\n")


def _check_types(**values: Any) -> None:
    for name, (value, kind) in values.items():
        if type(value) is not kind:
            raise TypeError(f"(): incompatible function arguments: {name}={value!r}, not {kind}")


class PacketData:
    FIELDS = ("bsl_data", "bsl", "pts", "dts", "key", "decode_flag", "duration", "pos")

    def __init__(self) -> None:
        for name in self.FIELDS:
            setattr(self, name, 0)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.FIELDS:
            raise AttributeError(f"'PacketData' object has no attribute '{name}'")
        _check_types(**{name: (value, int)})
        if not -(1 << 63) <= value < 1 << 64:
            raise TypeError(f"(): incompatible function arguments: {name}={value}")
        object.__setattr__(self, name, value)


def GetDecoderCaps(  # noqa: N802
    gpuid: int = 0,
    codec: Any = cudaVideoCodec.H264,
    chromaformat: Any = cudaVideoChromaFormat(1),  # noqa: B008
    bitdepth: int = 8,
) -> dict[str, int]:
    _check_gpu(gpuid)
    _check_types(
        codec=(codec, cudaVideoCodec),
        chromaformat=(chromaformat, cudaVideoChromaFormat),
        bitdepth=(bitdepth, int),
    )
    known = (codec.name, bitdepth) in SUPPORTED and chromaformat.name == "420"
    return {
        "codec_id": codec.value, "chromaformat_id": chromaformat.value, "bitdepth": bitdepth,
        "supported": int(known), "num_decoder_engines": 1, "mb_num_max": 65536, **LIMITS,
    }  # fmt: skip


def CreateDecoder(  # noqa: N802
    gpuid: int = 0,
    codec: Any = cudaVideoCodec.H264,
    cudacontext: int = 0,
    cudastream: int = 0,
    usedevicememory: bool = False,
    maxwidth: int = 0,
    maxheight: int = 0,
) -> PyNvDecoder:
    _check_gpu(gpuid)
    _check_types(codec=(codec, cudaVideoCodec), usedevicememory=(usedevicememory, bool))
    return PyNvDecoder(codec.name, usedevicememory)


def _check_gpu(gpuid: int) -> None:
    _check_types(gpuid=(gpuid, int))
    if not 0 <= gpuid < GPUS:
        raise PyNvVCException(
            f"Error Type : GPU ordinal out of range. Should be within [0, {GPUS - 1}]\n\nat x.hpp:4"
        )


def _bits(picture: Any) -> int:
    return int(picture.format.components[0].bits)


class DecodedFrame:
    def __init__(self, decoder: PyNvDecoder, memory: np.ndarray, pts: int) -> None:
        self.timestamp, self.format = pts, decoder.GetPixelFormat()
        self._on_device = decoder.on_device
        self._memory, self._height, self._width = memory, decoder.GetHeight(), decoder.GetWidth()
        # for P016 too the library says bytes, of half of the memory
        self.shape = [int(self._height * 1.5), self._width]
        self.strides, self.dtype = [self._width, 1], "|u1"

    def getPTS(self) -> int:  # noqa: N802
        return self.timestamp

    def GetPtrToPlane(self, plane: int) -> int:  # noqa: N802
        luma = self._height * self._width * (2 if self.format is Pixel_Format.P016 else 1)
        return self._memory.ctypes.data + [0, luma][plane] + (DEVICE if self._on_device else 0)


class PyNvDecoder:
    """Puts pictures out one call late, as NVDEC's parser does, in memory that it uses again."""

    def __init__(self, name: str, on_device: bool) -> None:
        self.on_device = on_device
        self._name, self._context = name, av.CodecContext.create(FFMPEG[name], "r")
        self._context.thread_type = "NONE"
        self._counted = False
        self._first: Any = None
        self.packets = 0
        self._late: list[Any] = []
        self._lent: list[np.ndarray] = []

    def __del__(self) -> None:
        global open_sessions
        open_sessions -= self._counted

    def GetWidth(self) -> int:  # noqa: N802
        return (self._first.width + 1) // 2 * 2 if self._first else 0

    def GetHeight(self) -> int:  # noqa: N802
        return self._first.height if self._first else 0

    def GetPixelFormat(self) -> Any:  # noqa: N802
        return Pixel_Format.P016 if _bits(self._first) > 8 else Pixel_Format.NV12

    def Decode(self, packet: PacketData) -> list[DecodedFrame]:  # noqa: N802
        _check_types(packet=(packet, PacketData))
        for memory in self._lent:
            memory.fill(0xEE)
        pictures = self._late + self.pictures_of(packet)
        self._late = pictures[-1:] if packet.bsl else []
        pictures = pictures[: len(pictures) - len(self._late)]
        while len(self._lent) < len(pictures):
            self._lent.append(np.empty(8 * self.GetWidth() * self.GetHeight(), np.uint8))
        return [
            DecodedFrame(self, self.fill(memory, picture), picture.pts)
            for memory, picture in zip(self._lent, pictures, strict=False)
        ]

    def pictures_of(self, packet: PacketData) -> list[Any]:
        if not packet.bsl:
            pictures = self._context.decode(None) if self._counted else []
            self._context.flush_buffers()
            return pictures
        content = ctypes.string_at(packet.bsl_data, packet.bsl)
        if self._name in MUST_BEGIN_WITH:
            assert re.match(rb"\x00\x00\x00?\x01", content), f"no start code: {content[:8].hex()}"
        if not self.packets:
            self._check_begin(content)
            self._open()
        number, self.packets = self.packets, self.packets + 1
        if number in FAIL_AT:
            code = FAIL_AT[number]
            raise _error("HandlePictureDecode", code, f"m_api.cuvidDecodePicture() error {code}")
        coded = av.Packet(len(content))  # made of the bytes themselves it lacks the zeros behind
        coded.update(content)
        coded.pts = packet.pts
        try:
            pictures = self._context.decode(coded)
        except av.error.FFmpegError:
            return []
        for picture in pictures:
            self._first = self._first or picture
            if (picture.width, picture.height) > (self._first.width, self._first.height):
                raise _error("ReconfigureDecoder", 801, "Reconfigure Not supported when larger")
        return pictures

    def _check_begin(self, content: bytes) -> None:
        units = [m[1][0] for m in re.finditer(rb"\x00\x00\x01(.)", content, re.DOTALL)]
        for kind in MUST_BEGIN_WITH.get(self._name, []):
            assert any(map(kind, units)), f"headers are missing: {bytes(units).hex()}"

    def _open(self) -> None:
        global open_sessions
        if open_sessions >= SESSIONS:
            raise _error("HandleVideoSequence", 2, "m_api.cuvidCreateDecoder() returned error 2")
        open_sessions += 1
        self._counted = True
        if SESSION_BYTES and "cupy" in sys.modules:
            sys.modules["cupy"].cuda.memory.take(SESSION_BYTES)

    def fill(self, memory: np.ndarray, picture: Any) -> np.ndarray:
        """Write the picture as NV12 or P016 with rows of even length, scaled to the first one."""
        assert not picture.interlaced_frame, "the library would deinterlace"
        if (picture.width, picture.height) != (self._first.width, self._first.height):
            picture = picture.reformat(self._first.width, self._first.height)
        bits = _bits(picture)
        dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
        width, height = self.GetWidth(), self.GetHeight()
        rows = height + (height + 1) // 2
        out = memory[: rows * width * dtype.itemsize].view(dtype).reshape(rows, width)
        luma, u, v = (
            np.frombuffer(memoryview(plane), dtype).reshape(-1, plane.line_size // dtype.itemsize)[
                : plane.height, : plane.width
            ]
            << (0 if bits == 8 else 16 - bits)
            for plane in picture.planes
        )
        out[:height, : luma.shape[1]] = luma
        out[height:, ::2], out[height:, 1::2] = u, v
        return memory
