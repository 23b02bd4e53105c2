"""Video file -> images of its sound, each with the time of its first sample."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from flowpipe.audio.logmel import LogMel
from flowpipe.audio.params import AudioParams
from flowpipe.modality import MODALITIES, START_S
from flowpipe.types import Planes, VideoFacts
from flowpipe.video.sound import Sound, SoundReader

_IMAGES_AT_ONCE = 32
_SILENCE_S = 1.0  # piece in which gaps are filled, so that a long one takes no memory


class SoundImages:
    """Images of the sound of a video; iterate over it once, then read `notes`.

    Samples are counted from the first frame, or from the first sample if that is earlier. Image k
    begins at sample ``k * stride``.

    Parameters
    ----------
    modality : str
        Modality of the images.
    path : str
        Video file.
    params : AudioParams
        Geometry of the images.
    facts : VideoFacts
        Facts of the frames, for their start.
    last_s : float
        Time of the last frame, seconds. Sound that ends earlier is followed by silence.
    video_stream : int or None
        Index of the video stream that the recipe asks for.

    Attributes
    ----------
    notes : tuple of str
        Codes of irregularities, see `flowpipe.notes`; complete after the iteration.
    """

    def __init__(
        self,
        modality: str,
        *,
        path: str,
        params: AudioParams,
        facts: VideoFacts,
        last_s: float,
        video_stream: int | None,
    ) -> None:
        assert MODALITIES[modality].from_sound
        self._modality, self._params = modality, params
        self._start_s, self._last_s = facts.start_s, last_s
        self._reader = SoundReader(path, params.rate_hz, params.track, video_stream)
        self._notes: Counter[str] = Counter()
        self._origin_s, self._fed = 0.0, 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Codes of irregularities, see `flowpipe.notes`."""
        counts = self._notes + self._reader.notes
        valued = ("audio_track",)
        return tuple(
            f"{code}:{count}" if count > 1 or code in valued else code
            for code, count in sorted(counts.items())
        )

    def __iter__(self) -> Iterator[Planes]:
        times: list[float] = []
        images: list[NDArray[np.uint8]] = []
        for start_s, image in self._images():
            times.append(start_s)
            images.append(image)
            if len(images) == _IMAGES_AT_ONCE:
                yield self._planes(times, images)
                times, images = [], []
        if images:
            yield self._planes(times, images)

    def _planes(self, times: list[float], images: list[NDArray[np.uint8]]) -> Planes:
        return Planes(
            self._modality, np.stack(images)[:, None], {START_S.name: np.array(times, "<f8")}
        )

    def _images(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield the images with their times, seconds."""
        params, make = self._params, LogMel(self._params)
        held = np.empty(0, np.float32)
        number = first = 0  # of the next image; of the first sample held
        for samples in self._samples():
            held = np.concatenate([held, samples])
            while first + len(held) >= number * params.stride + params.needed:
                at = number * params.stride - first
                start_s = self._origin_s + number * params.stride / params.rate_hz
                yield start_s, make(held[at : at + params.needed])
                number += 1
            dropped = min(len(held), max(0, number * params.stride - first))
            held, first = held[dropped:], first + dropped

    def _samples(self) -> Iterator[NDArray[np.float32]]:
        """Yield the samples from the origin on without gaps, and silence to fill the last image."""
        sounds = iter(self._reader)
        first = next(sounds, None)
        if first is None:
            return
        self._origin_s = min(self._start_s, first.run_s)
        rate_hz, params = self._params.rate_hz, self._params
        if first.run_s - self._start_s > params.hop_s:
            self._notes["audio_late"] = 1
        yield from self._place(first)
        for sound in sounds:
            yield from self._place(sound)
        end = math.ceil((self._last_s - self._origin_s) * rate_hz)
        if end - self._fed > params.hop:
            self._notes["audio_short"] = 1
        total = max(self._fed, end)
        # The last image is the first one that reaches the end.
        last = max(0, math.ceil((total - params.length) / params.stride))
        yield from self._silence(last * params.stride + params.needed)

    def _place(self, sound: Sound) -> Iterable[NDArray[np.float32]]:
        """Yield silence up to a sound, and what of the sound is later than the samples so far."""
        at = round((sound.run_s - self._origin_s) * self._params.rate_hz) + sound.offset
        yield from self._silence(at)
        samples = sound.samples[self._fed - at :]
        self._fed += len(samples)
        yield samples

    def _silence(self, until: int) -> Iterator[NDArray[np.float32]]:
        while self._fed < until:
            count = min(until - self._fed, max(1, round(_SILENCE_S * self._params.rate_hz)))
            self._fed += count
            yield np.zeros(count, np.float32)
