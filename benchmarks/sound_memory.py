"""Peak memory and CPU time of a worker that makes the images of minutes and of hours of sound.

    python benchmarks/sound_memory.py [MINUTES ...]

The videos are generated: small pictures, one per second, beside noise and a tone in AAC (stereo,
48 kHz) or FLAC (mono, 16 kHz). A minute is encoded, and its packets are repeated. Each file is read
in a process of its own with the settings of a worker. The CPU time is that of the stage `sound`
without loading librosa.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from flowpipe.run.cluster.settings import SETTINGS

MINUTES = (2, 20, 180)
KINDS = {"aac.mp4": ("aac", "stereo", 48000), "flac.mkv": ("flac", "mono", 16000)}
"""Name of the file -> codec, layout and rate of its sound."""
MINUTE_S = 64
"""Length of the piece that is repeated, seconds: a whole number of packets of both codecs."""


def make_video(path: Path, minutes: int, codec: str, layout: str, rate_hz: int) -> None:
    """Encode a minute of pictures and sound, and mux its packets again and again."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=1)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream(codec, rate=rate_hz, layout=layout)
        packets = []
        for number in range(MINUTE_S):
            shade = np.full((48, 64, 3), 4 * number % 255, np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 1)
            packets += video.encode(frame)
        packets += video.encode(None)
        size = sound.codec_context.frame_size
        resampler = av.AudioResampler(sound.format.name, layout, rate_hz, frame_size=size)
        count = MINUTE_S * rate_hz
        samples = rng.normal(0, 0.1, (sound.layout.nb_channels, count))
        samples += 0.3 * np.sin(np.arange(count) * 0.2)
        whole = av.AudioFrame.from_ndarray(samples.astype(np.float32), "fltp", layout)
        whole.sample_rate, whole.pts, whole.time_base = rate_hz, 0, Fraction(1, rate_hz)
        for made in [*resampler.resample(whole), *resampler.resample(None), None]:
            packets += sound.encode(made)
        # Without the priming samples and what pads the end, so that there are no gaps.
        packets = [p for p in packets if 0 <= p.pts * p.time_base < MINUTE_S]
        packets.sort(key=lambda p: p.pts * p.time_base)
        for minute in range(round(minutes * 60 / MINUTE_S)):
            for coded in packets:
                packet = av.Packet(bytes(coded))
                packet.stream, packet.time_base = coded.stream, coded.time_base
                packet.is_keyframe, packet.duration = coded.is_keyframe, coded.duration
                packet.pts = packet.dts = coded.pts + round(minute * MINUTE_S / coded.time_base)
                container.mux(packet)


def measure(path: str) -> None:
    """Make the images of a file here; print their number, CPU seconds per minute, peak in MB."""
    from flowpipe.audio import AudioParams
    from flowpipe.audio.images import SoundImages
    from flowpipe.audio.logmel import LogMel
    from flowpipe.video import open_video

    with open_video(path) as video:
        frames = next(iter(video.windows(4)))
        facts = video.facts
    assert len(frames.pts_s)
    params = AudioParams()
    sound = SoundImages(
        "audio", path=path, params=params, facts=facts, last_s=0.0, video_stream=None
    )  # fmt: skip
    LogMel(params)(np.zeros(params.needed, np.float32))  # loads librosa
    begun = time.process_time()
    count = sum(len(planes.data) for planes in sound)
    seconds = time.process_time() - begun
    # Not ru_maxrss: that of a child begins with its parent's size at the fork.
    status = Path("/proc/self/status").read_text()
    peak_kb = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    print(count, 60 * seconds / (count * params.stride_s), int(peak_kb) / 1024)


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2])
        return
    for kind, options in KINDS.items():
        for minutes in map(int, sys.argv[1:] or MINUTES):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / kind
                make_video(path, minutes, *options)
                result = subprocess.run(
                    [sys.executable, __file__, "--measure", path],
                    check=True, capture_output=True, text=True,
                    env={**os.environ, **SETTINGS["distributed.nanny.pre-spawn-environ"]},
                )  # fmt: skip
            count, cpu_s, peak_mb = result.stdout.split()
            print(
                f"{kind:9} {minutes:4} min: {count:>6} images, peak {float(peak_mb):4.0f} MB, "
                f"{1000 * float(cpu_s):4.0f} ms of CPU time per minute"
            )


if __name__ == "__main__":
    main()
