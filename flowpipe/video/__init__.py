"""Video file -> Frames: upright 8-bit RGB with times in seconds, in windows (PyAV, NVDEC)."""

from flowpipe.video.cut import cut_points
from flowpipe.video.decode import VideoParams, open_video
from flowpipe.video.decoders import DECODERS
from flowpipe.video.demuxer import decoder_library
from flowpipe.video.nvcodec import nvdec_library, require_nvdec, visible_gpus, why_no_nvdec
from flowpipe.video.pictures import MAX_DAMAGED
from flowpipe.video.probe import probe

__all__ = [
    "DECODERS", "MAX_DAMAGED", "VideoParams", "cut_points",
    "decoder_library", "nvdec_library", "open_video", "probe", "require_nvdec", "visible_gpus",
    "why_no_nvdec",
]  # fmt: skip
