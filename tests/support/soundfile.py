"""Samples -> a video file with sound, encoded with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FPS = 25


def encode_sound(
    path: Path,
    tracks: Sequence[NDArray[np.float64]],
    *,
    rate_hz: int = 16000,
    codec: str = "flac",
    picture: str = "mpeg4",
    layout: str = "mono",
    frames: int = 50,
    first_s: float = 0.0,
    gap: tuple[float, float] | None = None,
    default: int | None = None,
) -> Path:
    """Encode tracks of mono samples, each copied to all channels of `layout`, beside gray pictures.

    The sound begins at `first_s`. `gap` is (time, length) of samples that are left out, in seconds.
    `default` is the number of the track with the default disposition.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream(picture, rate=FPS)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        streams = [container.add_stream(codec, rate=rate_hz, layout=layout) for _ in tracks]
        for number, stream in enumerate(streams):
            if default is not None:
                wanted = av.stream.Disposition.default
                stream.disposition = wanted if number == default else av.stream.Disposition(0)
        for number in range(frames):
            shade = np.full((48, 64, 3), 3 * number % 255, np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for stream, samples in zip(streams, tracks, strict=True):
            size = stream.codec_context.frame_size or 1024
            resampler = av.AudioResampler(stream.format.name, layout, rate_hz)
            for at in range(0, len(samples), size):
                if gap and gap[0] <= at / rate_hz < gap[0] + gap[1]:
                    continue
                block = samples[at : at + size]
                wide = np.repeat(block[None], stream.layout.nb_channels, 0).astype(np.float32)
                sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(wide), "fltp", layout)
                sound.sample_rate, sound.time_base = rate_hz, Fraction(1, rate_hz)
                for made in resampler.resample(sound):
                    made.pts, made.time_base = at + round(first_s * rate_hz), Fraction(1, rate_hz)
                    container.mux(stream.encode(made))
            container.mux(stream.encode(None))
    return path


def damage_sound(path: Path, out: Path) -> Path:
    """Copy a video file with noise in the place of each packet of sound."""
    noise = np.random.default_rng(4)
    with av.open(str(path)) as source, av.open(str(out), "w") as container:
        streams = [container.add_stream_from_template(one) for one in source.streams]
        for packet in source.demux():
            if packet.size and packet.stream.type == "audio":
                damaged = av.Packet(noise.bytes(packet.size))
                damaged.pts, damaged.dts, damaged.time_base = (
                    packet.pts, packet.dts, packet.time_base,
                )  # fmt: skip
                packet = damaged
                packet.stream = streams[1]
            elif packet.size:
                packet.stream = streams[0]
            else:
                continue
            container.mux(packet)
    return out


def clicks(at_s: Sequence[float], length_s: float, rate_hz: int = 16000) -> NDArray[np.float64]:
    """Return silence with clicks at some times."""
    samples = np.zeros(round(length_s * rate_hz))
    samples[[round(time_s * rate_hz) for time_s in at_s]] = 0.9
    return samples


def tone(hz: float, length_s: float, rate_hz: int = 16000) -> NDArray[np.float64]:
    """Return a full-scale sine."""
    return np.sin(2 * np.pi * hz * np.arange(round(length_s * rate_hz)) / rate_hz)
