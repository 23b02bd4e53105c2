"""Known coded values decode to the RGB of the standards, to the level."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from videofile import encode_video, moving_clip

from flowpipe.errors import DecodeError
from flowpipe.video import open_video
from flowpipe.video.colour import Converter, Orientation, read_colour, read_orientation

# Rec. ITU-R BT.601, BT.709, BT.2020, SMPTE 240M: share of red and blue in luma
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087),
           9: (0.2627, 0.0593)}  # fmt: skip
NAMES = {1: "bt709", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
LIMITED, FULL = 1, 2


def to_rgb(yuv: NDArray[np.float64], bits: int, matrix: int, wide: int) -> NDArray[np.float64]:
    """Inverse of the quantisation and matrix equations, (3, H, W) -> (H, W, 3) in 0..255."""
    unit, top = 1 << (bits - 8), (1 << bits) - 1
    luma, blue, red = yuv
    if wide == FULL:
        y, cb, cr = luma / top, (blue - 128 * unit) / top, (red - 128 * unit) / top
    else:
        y = (luma - 16 * unit) / (219 * unit)
        cb, cr = (blue - 128 * unit) / (224 * unit), (red - 128 * unit) / (224 * unit)
    kr, kb = WEIGHTS[matrix]
    r, b = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    return np.clip(np.stack([r, g, b], axis=-1) * 255, 0, 255)


def patches(
    pixel_format: str, bits: int, height: int, width: int, rng: np.random.Generator
) -> tuple[av.VideoFrame, NDArray[np.float64], NDArray[np.bool_]]:
    """A picture of flat 16x16 patches, its coded values and where they are not near an edge."""
    rows, columns = -(-height // 16), -(-width // 16)
    unit = 1 << (bits - 8)
    levels = rng.integers(16 * unit, 236 * unit, (3, rows, columns))
    values = levels.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]
    frame = av.VideoFrame(width, height, pixel_format)
    for plane, coded in zip(frame.planes, values, strict=True):
        dtype = np.dtype(np.uint8 if bits == 8 else "<u2")
        step_y, step_x = -(-height // plane.height), -(-width // plane.width)
        padded = np.zeros((plane.height, plane.line_size // dtype.itemsize), dtype)
        padded[:, : plane.width] = coded[::step_y, ::step_x]
        plane.update(padded.tobytes())
    inside = np.zeros((rows, 16, columns, 16), bool)
    inside[:, 3:13, :, 3:13] = True
    return frame, values, inside.reshape(rows * 16, columns * 16)[:height, :width]


def convert(frame: av.VideoFrame) -> NDArray[np.uint8]:
    out = np.zeros((frame.height, frame.width, 3), np.uint8)
    Converter().write(frame, read_colour(frame), Orientation(), out)
    return out


@pytest.mark.parametrize("size", [(64, 96), (33, 65)], ids=["even", "odd"])
@pytest.mark.parametrize("wide", [LIMITED, FULL], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", WEIGHTS, ids=NAMES.values())
@pytest.mark.parametrize(
    ("pixel_format", "bits"),
    [("yuv420p", 8), ("yuvj420p", 8), ("yuv422p", 8), ("yuv444p", 8), ("yuv420p10le", 10),
     ("yuv444p10le", 10), ("yuv420p12le", 12)],
)  # fmt: skip
def test_values_follow_the_tags(
    pixel_format: str,
    bits: int,
    matrix: int,
    wide: int,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    frame, values, inside = patches(pixel_format, bits, *size, rng)
    frame.colorspace, frame.color_range = matrix, wide
    read = FULL if pixel_format.startswith("yuvj") else wide
    error = convert(frame)[inside] - to_rgb(values, bits, matrix, read)[inside]
    colour = read_colour(frame)
    assert (colour.matrix, colour.range) == (NAMES[matrix], "full" if read == FULL else "limited")
    # the scaler reads 10 and 12 bits of full range as if 256 levels were 255
    assert np.abs(error).max() < (0.53 if bits == 8 or read == LIMITED else 1.6)
    assert abs(error.mean()) < (0.15 if bits == 8 or read == LIMITED else 0.6)


def test_untagged_pictures_are_bt601_limited(rng: np.random.Generator) -> None:
    frame, values, inside = patches("yuv420p", 8, 720, 1280, rng)
    colour = read_colour(frame)
    assert (colour.matrix, colour.range, colour.notes) == ("bt601", "limited", ("colour_untagged",))
    error = convert(frame)[inside] - to_rgb(values, 8, 5, LIMITED)[inside]
    assert np.abs(error).max() < 0.53


def test_gray_is_full_range_unless_tagged() -> None:
    frame = av.VideoFrame.from_ndarray(np.arange(256, dtype=np.uint8).reshape(16, 16), "gray")
    levels = np.arange(256).reshape(16, 16, 1).repeat(3, axis=2)
    np.testing.assert_array_equal(convert(frame), levels)
    frame.color_range = LIMITED
    expanded = np.clip(np.rint((levels - 16) * 255 / 219), 0, 255)
    np.testing.assert_array_equal(convert(frame), expanded)
    assert read_colour(frame).range == "limited"


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgr24", "rgba", "bgra", "gbrp"])
@pytest.mark.parametrize("wide", [0, LIMITED, FULL])
def test_rgb_passes_unchanged(pixel_format: str, wide: int, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (31, 45, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pixel_format)
    frame.color_range = wide
    np.testing.assert_array_equal(convert(frame), image)
    assert read_colour(frame).matrix == "rgb"


def test_colours_without_a_matrix_are_refused() -> None:
    frame = av.VideoFrame(64, 64, "yuv420p")
    frame.colorspace = 14
    with pytest.raises(DecodeError, match="ICtCp") as caught:
        read_colour(frame)
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize(
    ("name", "matrix", "wide"),
    [("bt601_limited_range.mp4", 6, LIMITED), ("bt601_full_range.mp4", 6, FULL),
     ("bt709_full_range.mp4", 1, FULL)],
)  # fmt: skip
def test_test_pattern_follows_its_tags(
    name: str, matrix: int, wide: int, shared_data: Path
) -> None:
    """The red bar of the pattern is coded as (81, 90, 240) in all of these files."""
    with open_video(shared_data / "nasty" / name) as reader:
        image = next(iter(reader.windows())).data[0]
    y, x = image.shape[0] * 100 // 240, image.shape[1] * 8 // 320
    red = to_rgb(np.array([81.0, 90.0, 240.0]).reshape(3, 1, 1), 8, matrix, wide)[0, 0]
    assert np.abs(image[y, x] - red).max() < 3


@pytest.mark.parametrize(("colorspace", "color_range"), [(1, LIMITED), (1, FULL), (6, LIMITED)])
def test_tags_survive_encoding_and_decoding(
    colorspace: int, color_range: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    levels = rng.integers(40, 200, (4, 1, 4, 6, 3))
    frames = levels.repeat(16, axis=2).repeat(16, axis=3).reshape(4, 64, 96, 3).astype(np.uint8)
    path = encode_video(
        tmp_path / "tagged.mp4", frames, crf=1, colorspace=colorspace, color_range=color_range
    )
    with open_video(path) as reader:
        got = np.concatenate([w.data for w in reader.windows()])
    assert reader.facts.colour_matrix == ("bt709" if colorspace == 1 else "bt601")
    assert reader.facts.colour_range == ("full" if color_range == FULL else "limited")
    inner = np.zeros((4, 16, 6, 16), bool)
    inner[:, 4:12, :, 4:12] = True
    inner = inner.reshape(64, 96)
    assert np.abs(got.astype(int) - frames)[:, inner].max() <= 6


@pytest.mark.parametrize(("orientation", "degrees"), [(1, 0), (3, 180), (6, 90), (8, 270)])
def test_side_data_that_pyav_does_not_know_costs_no_turn(tmp_path, rng, orientation, degrees):
    """A JPEG's EXIF is such data; its orientation becomes a display matrix all the same."""
    picture = np.kron(rng.integers(0, 256, (4, 6, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
    coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    tag = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + tag + bytes(4)
    turned = coded[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + coded[2:]
    path = tmp_path / "turned.mjpeg"
    path.write_bytes(turned + turned)  # one picture alone would be refused as a still
    with open_video(path) as video:
        frame = next(iter(video.windows())).data[0]
    upright = np.rot90(picture, -degrees // 90)
    assert frame.shape == upright.shape
    assert np.abs(frame.astype(int) - upright).mean() < 12  # chroma is coded at half the size


ONE = 1 << 16
SINGULAR = {
    "zero": (0, 0, 0, 0),
    "only_a": (ONE, 0, 0, 0),
    "only_minus_a": (-ONE, 0, 0, 0),
    "only_b": (0, ONE, 0, 0),
    "zero_row": (0, 0, 0, ONE),
    "zero_row_minus": (0, 0, ONE, 0),
    "equal_rows": (ONE, ONE, ONE, ONE),
    "opposite_rows": (-ONE, ONE, ONE, -ONE),
    "huge_equal_rows": (-(1 << 31), 1 << 30, -(1 << 31), 1 << 30),
    "all_ones": (-1, -1, -1, -1),
    "nearly": (-ONE, 100, -ONE, 200),
}


def write_matrix(path: Path, a: int, b: int, c: int, d: int, u: int = 0, w: int = 1 << 30) -> None:
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = struct.pack(">9i", a, b, u, c, d, 0, 0, 0, w)
    path.write_bytes(content)


@pytest.mark.parametrize("w", [0, 1 << 30], ids=["w0", "w1"])
@pytest.mark.parametrize("name", SINGULAR)
def test_a_singular_display_matrix_is_no_turn(name: str, w: int, tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.mp4", moving_clip(3))
    with open_video(path) as reader:
        upright = next(reader.windows()).data
    write_matrix(path, *SINGULAR[name], w=w)
    with open_video(path) as reader:
        frames = next(reader.windows()).data
    assert (frames == upright).all()
    facts = reader.facts
    assert facts.rotation_deg == 0
    assert "display_matrix_unusable" in facts.notes


@pytest.mark.parametrize(
    ("matrix", "rotation"),
    [((0, 1, -1, 0), 90), ((-1, 0, 0, -1), 180), ((0, -(1 << 31), (1 << 31) - 1, 0), 270)],
)
def test_a_regular_matrix_of_any_scale_turns(
    matrix: tuple[int, int, int, int], rotation: int, tmp_path: Path
) -> None:
    path = encode_video(tmp_path / "clip.mp4", moving_clip(3))
    write_matrix(path, *matrix)
    with open_video(path) as reader:
        list(reader.windows())
    assert reader.facts.rotation_deg == rotation
    assert "display_matrix_unusable" not in reader.facts.notes


def test_perspective_is_noted(tmp_path: Path) -> None:
    path = encode_video(tmp_path / "clip.mp4", moving_clip(3))
    write_matrix(path, 0, ONE, -ONE, 0, u=1 << 20)
    with open_video(path) as reader:
        list(reader.windows())
    assert reader.facts.rotation_deg == 90
    assert "rotation_rounded" in reader.facts.notes


class Picture:
    """A picture of whose side data PyAV refuses to tell, as of one with EXIF."""

    def __init__(self, rotation: int) -> None:
        self.rotation = rotation

    @property
    def side_data(self) -> object:
        raise ValueError("unknown side data")


@given(st.integers(-(1 << 31), (1 << 31) - 1))
def test_an_angle_outside_of_a_circle_is_no_turn(rotation: int) -> None:
    turn = read_orientation(Picture(rotation))
    assert turn.unusable == (abs(rotation) > 360)
    assert turn.rotation_deg == (0 if turn.unusable else round(-rotation / 90) * 90 % 360)


@given(st.tuples(*[st.integers(-(1 << 31), (1 << 31) - 1)] * 9))
def test_any_matrix_is_read(matrix: tuple[int, ...]) -> None:
    class Any9:
        side_data = {"DISPLAYMATRIX": struct.pack("9i", *matrix)}

    turn = read_orientation(Any9())
    a, b, _, c, d = matrix[:5]
    if a * d == b * c:
        assert turn == Orientation(unusable=True)
    assert turn.rotation_deg in (0, 90, 180, 270)
