"""Trained run + class -> an image that the network takes for the class (DeepDraw).

Gradient ascent on the score of the class before softmax, from noise, with a blur after each step.
The schedule is that of the notebooks by which the papers of TSN draw their networks: Y. Xiong,
https://github.com/yjxiong/deepdraw, after A. M. Øygard, https://github.com/auduno/deepdraw.
Enlargements are bicubic there by splines and here by convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2.functional import gaussian_blur

from flowpipe.errors import UsageError
from flowpipe.modality import MODALITIES
from flowpipe.tsn.data.inputs import InputSpec
from flowpipe.tsn.testing.scorer import SnippetScorer

_NOISE = {"image": 12.0, "flow": 15.0}
"""Standard deviation of the initial bytes."""
_BRIGHT = 200.0
"""Mean of the initial bytes, as in the notebooks, also for flow."""
_REACH = 4.0
"""Radius of the blur's window in standard deviations."""


@dataclass(frozen=True)
class Octave:
    """A size of the image and the steps of gradient ascent at that size."""

    scale: float
    """Enlargement of the image before the first step."""
    steps: int
    blur_px: tuple[float, float]
    """Standard deviation of the blur in the first step and at the end, pixels."""
    change: tuple[float, float]
    """Mean absolute change of the bytes in the first step and at the end."""

    def at(self, step: int) -> tuple[float, float]:
        """Interpolate blur and change of a step.

        Parameters
        ----------
        step : int
            Number of the step, from 0.

        Returns
        -------
        blur_px : float
            Standard deviation of the blur, pixels.
        change : float
            Mean absolute change of the bytes.
        """
        share = step / self.steps
        blur, change = (
            first + (last - first) * share for first, last in (self.blur_px, self.change)
        )
        return blur, change


OCTAVES = (
    Octave(1.0, 190, (2.5, 0.78), (11, 11)),
    Octave(1.2, 150, (0.936, 0.5), (6, 6)),
    Octave(1.2, 150, (0.936, 0.44), (6, 3)),
    Octave(1.0, 10, (0.44, 0.304), (3, 3)),
)
"""Schedule of the notebooks: from 224 to 323 pixels."""


@dataclass(frozen=True)
class ClassImage:
    """An image drawn for a class, and what the network says of its centre."""

    planes: NDArray[np.uint8]
    """Images of one snippet as a store has them, uint8 (L, C, H, W)."""
    probability: float
    """Softmax probability of the class."""
    predicted: int
    """Class of the highest score."""


def draw_class(
    network: SnippetScorer,
    label: int,
    *,
    seed: int = 0,
    start: float | None = None,
    octaves: Sequence[Octave] = OCTAVES,
    progress: Callable[[], None] = lambda: None,
) -> ClassImage:
    """Draw a class: change noise until the score of the class is high.

    The network sees one snippet, so its consensus has no part in this.

    Parameters
    ----------
    network : SnippetScorer
        Trained network.
    label : int
        Class to draw.
    seed : int
        Seed of the noise and of the crops.
    start : float, optional
        Mean of the initial bytes; by default 200, or 128 for differences.
    octaves : sequence of Octave
        Sizes and steps of the ascent.
    progress : callable
        Called after each step.

    Returns
    -------
    ClassImage
        Drawn image, and the scores of the network for it.
    """
    if network.input.is_whole:
        raise UsageError(
            f"{network.run} reads {network.input.stored}, whose spectrograms are not drawn; choose "
            "runs of pictures, differences or flow"
        )
    input = InputSpec(network.input.modality, network.input.length, network.input.modality)
    row, side = MODALITIES[input.modality], network.row.size
    random = np.random.default_rng(seed)
    if start is None:
        start = float(row.zero_level or 0) if row.difference_of else _BRIGHT
    noise = _NOISE["flow" if input.is_flow else "image"]
    first = random.normal(start, noise, (1, input.channels, side, side))
    image = torch.from_numpy(first).float().to(network.device)
    black, white = _ends(input, network)
    for octave in octaves:
        if octave.scale != 1:
            size = [round(length * octave.scale) for length in image.shape[2:]]
            image = functional.interpolate(image, size, mode="bicubic")
        for step in range(octave.steps):
            y, x = (_offset(length - side, random) for length in image.shape[2:])
            part = image[:, :, y : y + side, x : x + side]
            blur_px, change = octave.at(step)
            part.copy_(
                _climb(network, label, part, black, white=white, blur_px=blur_px, change=change)
            )
            progress()
    with torch.inference_mode():
        y, x = ((length - side) // 2 for length in image.shape[2:])
        centre = image[:, :, y : y + side, x : x + side]
        scores = _scores(network, centre, black, white)[0].double().softmax(0)
    planes = image[0].unflatten(0, (input.length, row.channels))
    if row.is_colour and network.row.pixels.bgr:
        planes = planes.flip(1)
    levels = planes.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return ClassImage(levels, float(scores[label]), int(scores.argmax()))


def _ends(input: InputSpec, network: SnippetScorer) -> tuple[Tensor, Tensor]:
    """Return what the network gets for bytes of 0 and of 255, each (1, channels, 1, 1).

    Normalisation is linear in a byte, so these two values determine it.
    """
    channels = MODALITIES[input.modality].channels
    flat = torch.zeros(1, input.length, channels, 1, 1, dtype=torch.uint8, device=network.device)
    black, white = (input.normalise(flat + level, network.row.pixels)[0] for level in (0, 255))
    return black, white


def _offset(room: int, random: np.random.Generator) -> int:
    """Return where a crop begins along an axis with `room` to spare, most often near the middle."""
    return int(np.clip(random.normal(room / 2, 0.3 * room), 0, room)) if room else 0


def _scores(network: SnippetScorer, image: Tensor, black: Tensor, white: Tensor) -> Tensor:
    """Return the scores (1, classes) of an image of bytes, float32 (1, channels, side, side)."""
    x = black + (white - black) * (image / 255)
    _, logits = network.model.snippets(x[None])
    return logits[0]


def _climb(
    network: SnippetScorer,
    label: int,
    image: Tensor,
    black: Tensor,
    *,
    white: Tensor,
    blur_px: float,
    change: float,
) -> Tensor:
    """Return the image one step further up the score of the class, blurred."""
    image = image.detach().clone().requires_grad_()
    score = _scores(network, image, black, white)[0, label]
    (slope,) = torch.autograd.grad(score, image)
    steepness = slope.abs().mean()
    if steepness > 0:
        slope = slope * (change / steepness)
    radius = int(_REACH * blur_px + 0.5)
    moved = (image.detach() + slope).clamp_(0, 255)
    blurred: Tensor = gaussian_blur(moved, [2 * radius + 1] * 2, [blur_px] * 2)
    return blurred
