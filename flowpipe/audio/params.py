"""AudioParams: the ``audio`` section of a recipe, the geometry of its log-mel spectrograms."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flowpipe.modality import FLOOR_DB


@dataclass(frozen=True, kw_only=True)
class AudioParams:
    """Settings of log-mel spectrograms; the defaults are those of VGGish (Hershey et al. 2017)."""

    rate_hz: int = 16000
    """Rate to which the sound is resampled, Hz."""
    mels: int = 64
    """Number of mel bands: rows of an image."""
    low_hz: float = 125.0
    """Lower edge of the lowest band, Hz."""
    high_hz: float = 7500.0
    """Upper edge of the highest band, Hz."""
    window_s: float = 0.025
    """Length of the window of one step, seconds."""
    hop_s: float = 0.010
    """Time from one step to the next, seconds."""
    steps: int = 96
    """Steps of an image: its columns."""
    stride_s: float = 0.480
    """Time from one image to the next, seconds."""
    floor_db: float = FLOOR_DB
    """Lowest power that is kept, dB below a full-scale sine; lower ones are stored as byte 0."""
    track: int | None = None
    """Index of the stream of sound, as in ffprobe. None chooses the first one with the default
    disposition, else the first one."""

    def __post_init__(self) -> None:
        if not 1000 <= self.rate_hz <= 192000:
            raise ValueError(f"rate_hz must be in [1000, 192000], got {self.rate_hz}")
        if not 1 <= self.mels <= 1024:
            raise ValueError(f"mels must be in [1, 1024], got {self.mels}")
        if not 0 <= self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise ValueError(
                f"low_hz and high_hz must be in [0, rate_hz / 2] and low_hz the smaller one, got "
                f"{self.low_hz:g} and {self.high_hz:g} with rate_hz {self.rate_hz}"
            )
        if self._narrowest_hz < self.rate_hz / self.transform:
            raise ValueError(
                f"mels must be fewer, or window_s longer: of {self.mels} bands from "
                f"{self.low_hz:g} to {self.high_hz:g} Hz the lowest ones are narrower than the "
                "resolution of the window"
            )
        if not 1 <= self.steps <= 10000:
            raise ValueError(f"steps must be in [1, 10000], got {self.steps}")
        if self.hop < 1 or not self.hop <= self.window <= self.rate_hz:
            raise ValueError(
                f"hop_s must be at least one sample, and window_s at least hop_s and at most 1 s, "
                f"got {self.hop_s:g} and {self.window_s:g}"
            )
        if not self.hop <= self.stride <= self.length:
            raise ValueError(
                f"stride_s must be from hop_s to hop_s * steps, so that images cover the whole "
                f"sound, got {self.stride_s:g}"
            )
        if not -1000 <= self.floor_db < 0:
            raise ValueError(f"floor_db must be in [-1000, 0) dB, got {self.floor_db:g}")
        if self.track is not None and self.track < 0:
            raise ValueError(f"track must be 0 or more, as ffprobe counts, got {self.track}")

    @property
    def window(self) -> int:
        """Samples of the window of one step."""
        return round(self.window_s * self.rate_hz)

    @property
    def transform(self) -> int:
        """Samples of the Fourier transform of one step, zeros behind the window included."""
        return 1 << (max(1, self.window) - 1).bit_length()

    @property
    def _narrowest_hz(self) -> float:
        """Width of the lowest band, Hz, by the mel scale of HTK."""
        low, high = (math.log1p(hz / 700) for hz in (self.low_hz, self.high_hz))
        step = (high - low) / (self.mels + 1)
        return 700 * (math.exp(low + 2 * step) - math.exp(low))

    @property
    def hop(self) -> int:
        """Samples from one step to the next."""
        return round(self.hop_s * self.rate_hz)

    @property
    def stride(self) -> int:
        """Samples from one image to the next."""
        return round(self.stride_s * self.rate_hz)

    @property
    def length(self) -> int:
        """Samples of an image: those from its first step to the step after its last one."""
        return self.steps * self.hop

    @property
    def needed(self) -> int:
        """Samples that an image is computed from; the window of its last step may be longer."""
        return (self.steps - 1) * self.hop + self.window
