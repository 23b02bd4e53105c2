"""Video file -> Frames: upright 8-bit RGB with times in seconds, in bounded windows (PyAV)."""

from flowpipe.video.cut import cut_points
from flowpipe.video.decode import VideoParams, VideoReader, open_video
from flowpipe.video.probe import Probe, probe
from flowpipe.video.source import decoder_library

__all__ = [
    "Probe", "VideoParams", "VideoReader", "cut_points", "decoder_library", "open_video", "probe",
]  # fmt: skip
