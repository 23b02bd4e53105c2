"""Sound of a video -> log-mel spectrograms, quantised to bytes, with times of their own."""

from flowpipe.audio.logmel import librosa_version, why_no_librosa
from flowpipe.audio.params import AudioParams

__all__ = ["AudioParams", "librosa_version", "why_no_librosa"]
