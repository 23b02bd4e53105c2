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
    times_s: Sequence[float] | None = None,
    cover: bool = False,
) -> Path:
    """Encode tracks of mono samples, each copied to all channels of `layout`, beside gray pictures.

    With 0 `frames` the file has no video. The sound begins at `first_s`. `gap` is (time, length) of
    samples that are left out, in seconds. `default` is the number of the track with the default
    disposition. `times_s` are times of the pictures, multiples of 40 ms, in place of `frames`
    pictures at 25 per second. `cover` adds an attached picture.
    """
    times_s = [number / FPS for number in range(frames)] if times_s is None else times_s
    with av.open(str(path), "w") as container:
        if times_s:
            video = container.add_stream(picture, rate=FPS)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        streams = [container.add_stream(codec, rate=rate_hz, layout=layout) for _ in tracks]
        for number, stream in enumerate(streams):
            if default is not None:
                wanted = av.stream.Disposition.default
                stream.disposition = wanted if number == default else av.stream.Disposition(0)
        if cover:
            attached = container.add_stream("png", rate=1)
            attached.width, attached.height, attached.pix_fmt = 32, 32, "rgb24"
            attached.disposition = av.stream.Disposition.attached_pic
            image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux([*attached.encode(image), *attached.encode(None)])
        for number, time_s in enumerate(times_s):
            shade = np.full((48, 64, 3), 3 * number % 255, np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
            frame.pts, frame.time_base = round(time_s * FPS), Fraction(1, FPS)
            container.mux(video.encode(frame))
        if times_s:
            container.mux(video.encode(None))
        for stream, samples in zip(streams, tracks, strict=True):
            size = stream.codec_context.frame_size or 1024
            resampler = av.AudioResampler(stream.format.name, layout, rate_hz)
            for at in range(0, len(samples), size):
                if gap and gap[0] <= at / rate_hz < gap[0] + gap[1]:
                    continue
                block = samples[at : at + size]
                wide = np.repeat(block.astype(np.float32), stream.layout.nb_channels)[None]
                sound = av.AudioFrame.from_ndarray(wide, "flt", layout)
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
