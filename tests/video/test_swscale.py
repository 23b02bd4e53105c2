"""NV12 and P016 -> RGB: the bytes of libswscale, in NumPy and by the kernel on the emulator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from av.filter import Graph
from emulated import emulated_ops
from numpy.typing import NDArray

from flowpipe.ops import get_ops
from flowpipe.surfaces import RgbConversion, Surfaces
from flowpipe.video.colour import FULL, LIMITED, ColourTags, Converter, Orientation
from flowpipe.video.swscale import COLUMN_WEIGHT, GAINS, ROW_WEIGHT, SITINGS, gains, taps

SIZES = [(48, 64), (49, 63), (17, 101), (64, 49), (33, 854), (270, 48)]  # rows, columns
FORMATS = {"yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10, "yuv420p12le": 12}
TURNS = [
    Orientation(rotation, mirrored) for rotation in (0, 90, 180, 270) for mirrored in (False, True)
]
HEEDED = int(av.__version__.partition(".")[0]) >= 17
"""Whether PyAV tells libswscale the siting of chroma; before, all of it counted as centred."""
reference = get_ops("reference")


@dataclass
class Coded:
    """A picture of noise, as FFmpeg has it and as NVDEC has it."""

    picture: Any
    surface: NDArray[np.uint8]
    bits: int
    siting: str

    def upright(self, colour: ColourTags, turn: Orientation) -> NDArray[np.uint8]:
        """What libswscale makes of it."""
        width, height = turn.size(self.picture.width, self.picture.height)
        out = np.empty((height, width, 3), np.uint8)
        Converter().write(self.picture, colour, turn, out)
        return out

    def conversion(self, colour: ColourTags, turn: Orientation) -> RgbConversion:
        across, down = SITINGS[self.siting if HEEDED else "center"]
        height, width = self.picture.height, self.picture.width
        return RgbConversion(
            height=height,
            width=width,
            bits=self.bits,
            colour=gains(colour),
            columns=taps(width, across, COLUMN_WEIGHT),
            rows=taps(height, down, ROW_WEIGHT),
            quarter_turns=turn.rotation_deg // 90,
            mirrored=turn.mirrored,
        )


def encode(size: tuple[int, int], pixels: str, siting: str, seed: int = 0) -> Coded:
    (height, width), bits = size, FORMATS[pixels]
    rng, dtype = np.random.default_rng(seed), np.dtype(np.uint8 if FORMATS[pixels] == 8 else "<u2")
    plain, graph = av.VideoFrame(width, height, pixels), Graph()
    begin = graph.add_buffer(
        width=width, height=height, format=plain.format, time_base=Fraction(1, 25)
    )
    located, end = graph.add("setparams", f"chroma_location={siting}"), graph.add("buffersink")
    begin.link_to(located)
    located.link_to(end)
    graph.configure()
    graph.push(plain)
    picture: Any = graph.pull()
    picture.make_writable()
    parts = []
    for plane in picture.planes:
        rows = np.frombuffer(memoryview(plane), dtype).reshape(
            -1, plane.line_size // dtype.itemsize
        )
        values = rows[: plane.height, : plane.width]
        values[...] = rng.integers(0, 1 << bits, values.shape)
        parts.append(values)
    luma, u, v = parts
    surface = np.zeros((height + len(u), width + width % 2), dtype)
    surface[:height, :width] = luma
    surface[height:, ::2], surface[height:, 1::2] = u, v
    if bits > 8:
        surface <<= 16 - bits
    return Coded(picture, surface.reshape(-1).view(np.uint8), bits, siting)


def colour_of(matrix: int, wide: int) -> ColourTags:
    return ColourTags(matrix="", range="", transfer="", swscale_matrix=matrix, swscale_range=wide)


@pytest.fixture(scope="module")
def cuda() -> Any:
    return emulated_ops()


@pytest.mark.parametrize("wide", [LIMITED, FULL])
@pytest.mark.parametrize("matrix", GAINS)
@pytest.mark.parametrize("pixels", FORMATS)
def test_every_matrix_and_range_is_libswscale_s(
    pixels: str, matrix: int, wide: int, cuda: Any
) -> None:
    colour, turn = colour_of(matrix, FULL if pixels == "yuvj420p" else wide), Orientation()
    for size in SIZES:
        noise = encode(size, pixels, "left", seed=matrix)
        meant = noise.upright(colour, turn)
        surfaces = Surfaces((noise.surface,), noise.conversion(colour, turn))
        np.testing.assert_array_equal(reference.resize(surfaces, *size)[0], meant)
        there = replace(surfaces, pictures=(cuda.to_device(noise.surface),))
        np.testing.assert_array_equal(cuda.resize(there, *size)[0], meant)


@pytest.mark.parametrize("siting", SITINGS)
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
def test_every_siting_is_libswscale_s(pixels: str, siting: str, cuda: Any) -> None:
    colour, turn = colour_of(1, LIMITED), Orientation()
    for size in [*SIZES, (18, 1919)]:
        noise = encode(size, pixels, siting)
        surfaces = Surfaces((cuda.to_device(noise.surface),), noise.conversion(colour, turn))
        np.testing.assert_array_equal(cuda.resize(surfaces, *size)[0], noise.upright(colour, turn))


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("target", [(20, 33), (96, 80), (49, 63)])
def test_surfaces_are_turned_and_resized_as_on_the_cpu(
    target: tuple[int, int], turn: Orientation, cuda: Any
) -> None:
    """A stack of pictures, whole and in halves."""
    colour = colour_of(5, LIMITED)
    for pixels in ("yuv420p", "yuv420p10le"):
        stack = [encode((49, 63), pixels, "left", seed) for seed in range(3)]
        upright = np.stack([noise.upright(colour, turn) for noise in stack])
        there = tuple(cuda.to_device(noise.surface) for noise in stack)
        surfaces = Surfaces(there, stack[0].conversion(colour, turn))
        assert surfaces.shape == upright.shape and len(surfaces) == 3
        meant = get_ops("cpu").resize(upright, *target)
        np.testing.assert_array_equal(cuda.resize(surfaces, *target), meant)
        np.testing.assert_array_equal(cuda.resize(surfaces[1:], *target), meant[1:])


def test_taps_of_any_size_lie_inside_and_sum_to_one() -> None:
    for count in [*range(16, 200), 719, 1079, 1080, 1279, 1920, 2160, 4095]:
        for _, position in SITINGS.values():
            table = taps(count, position, ROW_WEIGHT)
            assert table.shape == (count, 4)
            assert table[:, :2].min() >= 0 and table[:, :2].max() == (count + 1) // 2 - 1
            assert (table[:, 2:].sum(axis=1) == ROW_WEIGHT).all() and (table[:, 2:] >= 0).all()
