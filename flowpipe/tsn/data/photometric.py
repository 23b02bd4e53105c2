"""Colour jitter and mixup: random draws of a sample, and their application to images and targets.

They have their own random generator, so that snippets and crops are the same with and without them.
The draws depend only on seed, epoch and position, as all draws of a sample do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from flowpipe.tsn.recipe import AugmentParams, ColourJitterParams

_STREAM = 1
"""Seed component that separates this generator from the one of snippets and crops."""


@dataclass(frozen=True)
class PhotometricChanges:
    """Colour jitter and mixup of all images of one sample."""

    colours: tuple[tuple[str, float], ...] = ()
    """Names and factors of the adjustments of `jitter`, in order."""
    share: float = 1.0
    """Weight of the sample in its mixture with the next one of the batch, in [0, 1]."""


def draw_changes(params: AugmentParams, seed: int, number: Sequence[int]) -> PhotometricChanges:
    """Draw the colour jitter and the mixup of a training sample.

    Parameters
    ----------
    params : AugmentParams
        Range of the changes.
    seed : int
        Seed of the run.
    number : (epoch, position in the data set)
        Number of the sample; equal numbers give equal changes.

    Returns
    -------
    PhotometricChanges
        The changes.
    """
    rng = np.random.default_rng((seed, *number, _STREAM))
    colours = _random_colours(params.colour_jitter, rng)
    share = float(rng.beta(params.mixup, params.mixup)) if params.mixup else 1.0
    return PhotometricChanges(colours, share)


def _random_colours(
    params: ColourJitterParams, rng: np.random.Generator
) -> tuple[tuple[str, float], ...]:
    """Draw factors as torchvision's ColorJitter does, in random order."""
    found = []
    for name, strength in vars(params).items():
        if strength and name == "hue":
            found.append((name, float(rng.uniform(-strength, strength))))
        elif strength:
            found.append((name, float(rng.uniform(max(0.0, 1 - strength), 1 + strength))))
    return tuple(found[k] for k in rng.permutation(len(found)))


def jitter(images: Tensor, colours: Sequence[tuple[str, float]]) -> Tensor:
    """Apply the same colour adjustments to all images of a video.

    Parameters
    ----------
    images : uint8 (N, 3, H, W)
        Images, RGB.
    colours : sequence of (name, factor)
        Adjustments, see `PhotometricChanges`.

    Returns
    -------
    uint8 (N, 3, H, W)
        Adjusted images.
    """
    # Imported here because it takes a second, and most runs have no colour jitter.
    functional = import_module("torchvision.transforms.v2.functional")
    for name, factor in colours:
        images = getattr(functional, f"adjust_{name}")(images, factor)
    return images


def mix_up(values: Tensor, shares: Tensor) -> Tensor:
    """Mix each sample of a batch with the next one.

    Parameters
    ----------
    values : float (B + 1, ...)
        Inputs or targets; the last one serves only as the partner of the one before it.
    shares : float (B,)
        Weight of each sample; the next one has the rest.

    Returns
    -------
    float (B, ...)
        Mixtures.
    """
    weights = shares.to(values, non_blocking=True).view(-1, *[1] * (values.dim() - 1))
    return torch.lerp(values[1:], values[:-1], weights)
