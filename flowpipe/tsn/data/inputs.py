"""Modality + snippet length + store -> which images are read and how they are normalised."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from flowpipe.errors import UsageError
from flowpipe.modality import MODALITIES
from flowpipe.tsn.data.normalisation import Normalisation


@dataclass(frozen=True)
class InputSpec:
    """Input of a network: one modality, read from a store as that or as its frames."""

    modality: str
    length: int
    """Images of a snippet as the network gets it, L."""
    stored: str
    """Modality that is read from the store."""

    @property
    def read(self) -> int:
        """Images read for a snippet: L, or L + 1 if differences of frames are computed."""
        return self.length + (self.stored != self.modality)

    @property
    def channels(self) -> int:
        """Channels of a snippet as the network gets it."""
        return MODALITIES[self.modality].channels * self.length

    @property
    def is_flow(self) -> bool:
        """True for flow: a flip negates x, and the first layer learns faster."""
        return MODALITIES[self.modality].is_flow

    @property
    def is_whole(self) -> bool:
        """True for spectrograms: images are used whole, without crops, flips or scaling."""
        return MODALITIES[self.modality].from_sound

    def remarks(self, compat: Collection[str]) -> list[str]:
        """Return remarks on the input for the log, a line each.

        Stored differences are rounded to bytes and encoded with the store's codec.

        Parameters
        ----------
        compat : collection of str
            Known bugs to reproduce, as in `StreamParams`.

        Returns
        -------
        list of str
            Lines for the log.
        """
        if self.stored != self.modality or not MODALITIES[self.modality].difference_of:
            return []
        lines = [
            f"{self.modality} is read as the store has it, in bytes; a store without it gives the "
            "exact differences of its frames"
        ]
        if "tsn_pytorch_diff" in compat:
            lines.append(f"compat tsn_pytorch_diff has no effect on stored {self.modality}")
        return lines

    def normalise(
        self,
        images: Tensor,
        pixels: Normalisation,
        *,
        dtype: torch.dtype = torch.float32,
        frames_as_colours: bool = False,
    ) -> Tensor:
        """Normalise stored images as the network's weights expect them.

        Parameters
        ----------
        images : uint8 (B, S * read, C, H, W)
            Stored images of B videos.
        pixels : Normalisation
            Mean, deviation and colour order that the weights expect.
        dtype : torch.dtype
            Type of the result; values are computed in float32 and rounded once.
        frames_as_colours : bool
            Reproduce tsn-pytorch's bug ``tsn_pytorch_diff``, see `Compat`.

        Returns
        -------
        dtype (B, S, channels, H, W)
            Channels of the images of a snippet in sequence: x1, y1, x2, y2 ... for flow.
        """
        row = MODALITIES[self.modality]
        snippets = images.unflatten(1, (-1, self.read))
        if row.is_colour and pixels.bgr:
            snippets = snippets.flip(3)
        # Differences of bytes are exact in half precision, the rest is not.
        differs = self.stored != self.modality and not frames_as_colours
        snippets = _copy(snippets, dtype if differs else torch.float32)
        if self.stored != self.modality:
            if frames_as_colours:
                snippets = _as_tsn_pytorch_tests(snippets, pixels)
            snippets = (snippets[:, :, 1:] - snippets[:, :, :-1]).mul_(pixels.difference_scale)
        elif row.difference_of and row.zero_level is not None:
            snippets.sub_(row.zero_level).mul_(pixels.difference_scale)
        elif row.is_colour:
            mean, std = (_colour(values, images.device) for values in (pixels.mean, pixels.std))
            snippets.mul_(pixels.scale).sub_(mean).div_(std)
        elif row.byte_mean is not None:
            snippets.sub_(row.byte_mean).div_(row.byte_std)
        else:
            if pixels.turned_x:
                snippets[:, :, :, 0].neg_().add_(255)
            snippets.mul_(pixels.scale).sub_(pixels.flow_mean).div_(pixels.flow_std)
        return snippets.flatten(2, 3).to(dtype)


@functools.cache
def _colour(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return a value per colour, float32 (1, 1, 1, 3, 1, 1), cached per device.

    Each copy to a GPU would make the CPU wait for it.
    """
    return torch.tensor(values, device=device).view(1, 1, 1, -1, 1, 1)


def _copy(snippets: Tensor, dtype: torch.dtype) -> Tensor:
    """Copy uint8 (B, S, read, C, H, W) to another type.

    Snippets of several images become channels last, (B, S, H, W, read, C) in memory, which is the
    network's layout. A single image stays in planes: on a CPU that takes half the time, even with
    the network's own copy to its layout.
    """
    images = snippets.flatten(0, 1).flatten(1, 2)
    is_single = snippets.shape[2] == 1
    layout = torch.contiguous_format if is_single else torch.channels_last
    copied = images.to(dtype, memory_format=layout)
    shaped: Tensor = copied.unflatten(1, snippets.shape[2:4]).unflatten(0, snippets.shape[:2])
    return shaped


def _as_tsn_pytorch_tests(frames: Tensor, pixels: Normalisation) -> Tensor:
    """Normalise frames as colours before they are subtracted, as tsn-pytorch's test does."""
    if pixels.scale == 1:  # BN-Inception: the same shift for all frames, which cancels
        return frames
    mean, std = (_colour(values, frames.device) for values in (pixels.mean, pixels.std))
    first = (frames[:, :, :1] - mean / pixels.scale) / std
    return torch.cat([first, frames[:, :, 1:] / (2 * std.mean())], 2)


def input_spec(modality: str, length: int, stored: Collection[str]) -> InputSpec:
    """Return the input of a network that is trained on a store.

    Differences that are not stored are computed from stored frames.

    Parameters
    ----------
    modality : str
        Modality of the network.
    length : int
        Images of a snippet, L.
    stored : collection of str
        Modalities of the store.

    Returns
    -------
    InputSpec
        What to read, and how to make the input of it.

    Raises
    ------
    UsageError
        If the store has neither the modality nor its frames.
    """
    source = MODALITIES[modality].difference_of
    if modality in stored:
        return InputSpec(modality, length, modality)
    if source in stored:
        return InputSpec(modality, length, source)
    wanted = f"{modality} or {source}" if source else modality
    raise UsageError(
        f"the store has {', '.join(stored)}, not {wanted}; a store keeps its modalities, so "
        f"extract the videos to another folder with --modalities {','.join((*stored, modality))}"
    )
