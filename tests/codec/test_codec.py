"""Every codec encodes and decodes planes; damaged payloads are refused by name."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from flowpipe import codec
from flowpipe.errors import FormatError
from flowpipe.modality import MODALITIES
from flowpipe.params import build, plain

LOSSLESS = (codec.JpegLsParams(), codec.RawParams())
EVERY = (
    codec.JpegParams(95, "420"),
    codec.JpegParams(90, "422"),
    codec.JpegParams(100, "444"),
    codec.JpegLsParams(2),
    *LOSSLESS,
)


def smooth(count: int, channels: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Planes with the low frequencies of pictures and a little noise, full range."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count * channels, 5, 6)).astype(np.float32)
    images = [cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in coarse]
    noisy = np.stack(images) + rng.normal(0, 1, (count * channels, height, width))
    return np.clip(noisy, 0, 255).astype(np.uint8).reshape(count, channels, height, width)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 24), st.integers(1, 24)),
    params=st.sampled_from(LOSSLESS),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["noise", "flat", "edges"]),
)
def test_lossless_codecs_return_equal_planes(shape, params, seed, kind):
    rng = np.random.default_rng(seed)
    planes = {
        "noise": lambda: rng.integers(0, 256, shape, np.uint8),
        "flat": lambda: np.full(shape, seed % 256, np.uint8),
        "edges": lambda: (rng.integers(0, 2, shape) * 255).astype(np.uint8),
    }[kind]()
    try:
        payloads = codec.encode(planes, params)
    except ValueError as error:  # CharLS has no room for the headers of the tiniest images
        assert params.name == "jpegls" and planes[0].size < 200 and "cannot hold" in str(error)
        return
    back = codec.decode(payloads, shape[1], params)
    np.testing.assert_array_equal(back, planes)


@pytest.mark.parametrize("params", EVERY, ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_lossy_codecs_return_planes_near_the_original(params, channels):
    planes = smooth(4, channels, 37, 51)
    payloads = codec.encode(planes, params)
    assert all(type(payload) is bytes for payload in payloads)
    back = codec.decode([memoryview(payload) for payload in payloads], channels)
    assert back.shape == planes.shape and back.dtype == np.uint8
    error = np.abs(back.astype(int) - planes)
    near = getattr(params, "near", 0 if params in LOSSLESS else 60)
    assert error.max() <= near
    assert error.mean() < 6


def test_views_are_encoded_like_copies():
    frames = np.ascontiguousarray(smooth(2, 3, 20, 24).transpose(0, 2, 3, 1))
    view = frames.transpose(0, 3, 1, 2)
    for params in EVERY:
        assert codec.encode(view, params) == codec.encode(view.copy(), params)


def test_x_lies_left_of_y_in_one_gray_image():
    planes = smooth(1, 2, 16, 24)
    for params in LOSSLESS:
        (payload,) = codec.encode(planes, params)
        image = codec.decode([payload], 1)[0, 0]
        np.testing.assert_array_equal(image, np.concatenate(planes[0], axis=1))


def test_payloads_are_ordinary_image_files():
    planes = smooth(1, 3, 20, 24)
    (pixmap,) = codec.encode(planes, codec.RawParams())
    read = cv2.imdecode(np.frombuffer(pixmap, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(read, planes[0].transpose(1, 2, 0))
    (jpeg,) = codec.encode(planes, codec.JpegParams(subsampling="420"))
    read = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_allclose(read, codec.decode([jpeg], 3)[0].transpose(1, 2, 0), atol=3)


def test_jpegls_colour_transform_is_understood_by_others():
    imagecodecs = pytest.importorskip("imagecodecs", reason="a second CharLS to compare with")
    planes = smooth(1, 3, 20, 24)
    (payload,) = codec.encode(planes, codec.JpegLsParams())
    np.testing.assert_array_equal(imagecodecs.jpegls_decode(payload), planes[0].transpose(1, 2, 0))


def test_jpegls_near_bounds_the_error():
    planes = smooth(3, 3, 40, 40)
    for near in (1, 5):
        back = codec.decode(codec.encode(planes, codec.JpegLsParams(near)), 3)
        assert 0 < np.abs(back.astype(int) - planes).max() <= near


def test_encoding_is_deterministic():
    planes = smooth(2, 3, 33, 35)
    for params in EVERY:
        assert codec.encode(planes, params) == codec.encode(planes, params)


def test_real_frames_come_back_equal(shared_data):
    av = pytest.importorskip("av")
    clip = sorted((shared_data / "clips" / "ucf101").rglob("*.avi"))[0]
    with av.open(str(clip)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    planes = frame.transpose(2, 0, 1)[None]
    sizes = {}
    for params in LOSSLESS:
        payloads = codec.encode(planes, params)
        np.testing.assert_array_equal(codec.decode(payloads, 3), planes)
        sizes[params.name] = len(payloads[0])
    assert sizes["jpegls"] < sizes["raw"] / 2


@pytest.mark.parametrize("params", [codec.JpegParams(subsampling="420"), *LOSSLESS], ids=str)
def test_damage_is_refused_by_name(params):
    planes = smooth(3, 3, 32, 32)
    payloads = list(codec.encode(planes, params))
    for broken in (b"", b"nonsense", payloads[1][:20], payloads[1][: len(payloads[1]) // 2]):
        with pytest.raises(FormatError, match="payload 1 of 3"):
            codec.decode([payloads[0], broken, payloads[2]], 3, params)
    with pytest.raises(FormatError, match="size"):
        codec.decode([payloads[0], *codec.encode(smooth(1, 3, 30, 32), params)], 3, params)
    with pytest.raises(FormatError, match="cannot hold"):
        codec.decode(payloads, 1, params)


@pytest.mark.parametrize("params", [codec.JpegParams(subsampling="420"), *LOSSLESS], ids=str)
def test_flipped_bytes_never_crash(params, rng):
    (payload,) = codec.encode(smooth(1, 3, 32, 32), params)
    for _ in range(300):
        broken = bytearray(payload)
        # in the headers: CharLS may take seconds to refuse damaged image data, which the store's
        # CRC keeps from it
        for at in rng.integers(0, 60, rng.integers(1, 4)):
            broken[at] ^= 1 << int(rng.integers(8))
        try:
            planes = codec.decode([broken], 3, params)
            assert planes.shape[:2] == (1, 3)
        except FormatError:
            pass


def test_unknown_payload_is_refused():
    with pytest.raises(FormatError, match="no codec"):
        codec.decode([b"GIF89a"], 3)
    with pytest.raises(ValueError, match="at least one"):
        codec.decode([], 3)


@pytest.mark.parametrize(
    ("params", "values", "words"),
    [
        (codec.JpegParams, {"quality": 0}, "1..100"),
        (codec.JpegParams, {"subsampling": "411"}, "420, 422, 444"),
        (codec.JpegLsParams, {"near": 17}, "0..16"),
    ],
)
def test_impossible_params_are_refused(params, values, words):
    with pytest.raises(ValueError, match=words):
        params(**values)


def test_wrong_planes_are_refused():
    with pytest.raises(ValueError, match="must be uint8"):
        codec.encode(np.zeros((1, 4, 8, 8), np.uint8), codec.RawParams())
    with pytest.raises(ValueError, match="must be uint8"):
        codec.encode(np.zeros((1, 3, 8, 8), np.float32), codec.RawParams())
    with pytest.raises(ValueError, match="65500"):
        codec.encode(np.zeros((1, 2, 1, 40000), np.uint8), codec.JpegParams())
    with pytest.raises(ValueError, match="65535"):
        codec.encode(np.zeros((1, 2, 1, 40000), np.uint8), codec.JpegLsParams())
    for open_or_gray in ("auto", "gray"):
        params = codec.JpegParams(subsampling=open_or_gray)
        with pytest.raises(ValueError, match=f"420, 422 or 444, got {open_or_gray}"):
            codec.encode(np.zeros((1, 3, 8, 8), np.uint8), params)


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_modality_has_a_codec(modality):
    params = codec.default_params(modality)
    assert params.name == MODALITIES[modality].codec
    planes = smooth(2, MODALITIES[modality].channels, 24, 32)
    assert codec.decode(codec.encode(planes, params), planes.shape[1]).shape == planes.shape
    assert build(type(params), {k: v for k, v in plain(params).items() if k != "name"})


@pytest.mark.parametrize(
    ("modality", "asked", "decided"),
    [
        ("rgb", "auto", "420"), ("rgb_diff", "auto", "444"), ("flow", "auto", "gray"),
        ("rgb", "444", "444"), ("rgb_diff", "420", "420"), ("warped_flow", "420", "gray"),
    ],
)  # fmt: skip
def test_the_modality_sets_the_subsampling_that_is_left_open(modality, asked, decided):
    params = codec.for_modality(codec.JpegParams(90, asked), modality)
    assert params == codec.JpegParams(90, decided)
    assert codec.for_modality(params, modality) == params
    planes = smooth(1, MODALITIES[modality].channels, 24, 32)
    (payload,) = codec.encode(planes, params)
    assert simplejpeg.decode_jpeg_header(payload)[3].lower() == decided


def test_colour_cannot_be_gray_and_other_codecs_leave_nothing_open():
    with pytest.raises(ValueError, match="rgb is stored in colour"):
        codec.for_modality(codec.JpegParams(subsampling="gray"), "rgb")
    for params in LOSSLESS:
        assert codec.for_modality(params, "rgb_diff") is params


def test_the_table_is_keyed_by_the_names_of_recipes():
    assert list(codec.CODECS) == ["jpeg", "jpegls", "raw"]
    for name, row in codec.CODECS.items():
        assert row.params.name == name and row.extension.startswith(".")
        payload = codec.encode(smooth(1, 3, 8, 8), codec.for_modality(row.params(), "rgb"))[0]
        assert codec.recognise(payload) == name
        assert row.read_size(payload) == (8, 8, 3)
