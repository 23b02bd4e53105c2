"""Samples -> log-mel spectrogram in bytes, by librosa."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.audio.params import AudioParams
from flowpipe.distribution import install_command
from flowpipe.errors import BackendError


def why_no_librosa() -> str:
    """Return the reason why sound cannot be stored; empty if librosa is installed."""
    if importlib.util.find_spec("librosa") is not None:
        return ""
    return (
        f"audio needs librosa; {install_command('audio')}, or pip install librosa, or leave audio "
        "out of the modalities"
    )


def librosa_version() -> str:
    """Return the version of librosa."""
    return importlib.metadata.version("librosa")


class LogMel:
    """Computes log-mel spectrograms.

    Step j shows the samples from ``j * hop`` to ``j * hop + window``, weighted by a periodic Hann
    window. The mel scale is that of HTK, as in VGGish. Power is scaled so that a full-scale sine
    in the middle of a band has about 0 dB.

    Parameters
    ----------
    params : AudioParams
        Geometry of the images.

    Raises
    ------
    BackendError
        If librosa is not installed.
    """

    def __init__(self, params: AudioParams) -> None:
        if lack := why_no_librosa():
            raise BackendError(lack)
        self._librosa: Any = importlib.import_module("librosa")
        self._params = params
        window = self._librosa.filters.get_window("hann", params.window, fftbins=True)
        # By Parseval's theorem a full-scale sine then has the power 1, summed over all frequencies.
        window = window * 2 / np.sqrt(params.transform * np.sum(window**2))
        # Zeros at the end only: librosa would centre a short window in the transform.
        self._window = np.pad(window, (0, params.transform - params.window))
        self._bands = self._librosa.filters.mel(
            sr=params.rate_hz, n_fft=params.transform, n_mels=params.mels,
            fmin=params.low_hz, fmax=params.high_hz, htk=True, norm=None,
        )[::-1]  # fmt: skip

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Compute one image.

        Parameters
        ----------
        samples : float32 (params.needed,)
            Samples; full scale is 1.

        Returns
        -------
        uint8 (mels, steps)
            Quantised power by `flowpipe.modality.quantiser_of`; row 0 is the highest band, as
            spectrograms are drawn.
        """
        params, floor_db = self._params, self._params.floor_db
        spectrum = self._librosa.stft(
            y=np.pad(samples, (0, params.transform - params.window)),
            n_fft=params.transform, win_length=params.transform, hop_length=params.hop,
            window=self._window, center=False,
        )  # fmt: skip
        power = (self._bands @ np.abs(spectrum) ** 2).astype(np.float64)
        decibels = 10 * np.log10(np.maximum(power, 10 ** (floor_db / 10))).clip(floor_db, 0)
        levels = np.rint((decibels - floor_db) * (255 / -floor_db))
        image: NDArray[np.uint8] = levels.astype(np.uint8)
        return image
