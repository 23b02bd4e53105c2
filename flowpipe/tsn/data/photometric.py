"""Colour jitter and mixup: what is drawn for a sample, and the pixels and targets that it makes.

Draws come from a generator of their own, so that snippets and crops are the same with and without
them, and depend on seed, epoch and position alone, as all draws of a sample do.
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
"""Number that tells this generator from the one of snippets and crops."""


@dataclass(frozen=True)
class PhotometricChanges:
    """Draws for all images of one sample."""

    colours: tuple[tuple[str, float], ...] = ()
    """Adjustments of `jitter` in their order, with their factors."""
    share: float = 1.0
    """Share of the sample in its mixture with the next one of the batch."""


def draw_changes(params: AugmentParams, seed: int, number: Sequence[int]) -> PhotometricChanges:
    """Return the draws of a sample in a step of training.

    Parameters
    ----------
    params : AugmentParams
    seed : int
        Seed of the run.
    number : (epoch, position in the data set)
    """
    rng = np.random.default_rng((seed, *number, _STREAM))
    colours = _random_colours(params.colour_jitter, rng)
    share = float(rng.beta(params.mixup, params.mixup)) if params.mixup else 1.0
    return PhotometricChanges(colours, share)


def _random_colours(
    params: ColourJitterParams, rng: np.random.Generator
) -> tuple[tuple[str, float], ...]:
    """Factors as torchvision's ColorJitter draws them, in random order."""
    found = []
    for name, strength in vars(params).items():
        if strength and name == "hue":
            found.append((name, float(rng.uniform(-strength, strength))))
        elif strength:
            found.append((name, float(rng.uniform(max(0.0, 1 - strength), 1 + strength))))
    return tuple(found[k] for k in rng.permutation(len(found)))


def jitter(images: Tensor, colours: Sequence[tuple[str, float]]) -> Tensor:
    """Adjust the colours of all images of a video alike.

    Parameters
    ----------
    images : uint8 (N, 3, H, W)
        Red, green and blue.
    colours : sequence of (name, factor)
        See `PhotometricChanges`.

    Returns
    -------
    uint8 (N, 3, H, W)
    """
    # Not at the top: importing it takes a second, and most runs jitter nothing.
    functional = import_module("torchvision.transforms.v2.functional")
    for name, factor in colours:
        images = getattr(functional, f"adjust_{name}")(images, factor)
    return images


def mix_up(values: Tensor, shares: Tensor) -> Tensor:
    """Mix each sample of a batch with the next one.

    Parameters
    ----------
    values : float (B + 1, ...)
        Inputs or targets; the last one is mixed with the one before it only.
    shares : float (B,)
        Share of each sample; the rest is the next one's.

    Returns
    -------
    float (B, ...)
    """
    weights = shares.to(values, non_blocking=True).view(-1, *[1] * (values.dim() - 1))
    return torch.lerp(values[1:], values[:-1], weights)
