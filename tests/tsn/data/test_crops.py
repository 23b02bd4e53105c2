"""Crops: TSN's tables, and the pixels of its own code and of PIL where they are installed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from originals import tsn_pytorch

from flowpipe.tsn.data.crops import (
    Crop,
    centre_of,
    crop_offsets,
    crops_of,
    largest_crop_pixels,
    random_crop,
    resized_crop,
    scaled_size,
    sizes,
)
from flowpipe.tsn.recipe import AugmentParams, StreamParams

torch = pytest.importorskip("torch", reason="needs torch")

from flowpipe.tsn.data.inputs import InputSpec  # noqa: E402
from flowpipe.tsn.data.normalisation import TORCHVISION  # noqa: E402
from flowpipe.tsn.network.augment import crop_and_resize, scale  # noqa: E402
from flowpipe.tsn.network.backbones import BackboneRow  # noqa: E402
from flowpipe.tsn.network.network_input import crops_of_snippets  # noqa: E402


def test_crop_sizes_of_340x256_are_those_worked_out_by_hand() -> None:
    # 256 * (1, .875, .75, .66) = 256, 224, 192, 168.96; pairs at most one scale apart
    assert sizes(340, 256, (1, 0.875, 0.75, 0.66), 224) == [
        (256, 256), (224, 256),
        (256, 224), (224, 224), (192, 224),
        (224, 192), (192, 192), (168, 192),
        (192, 168), (168, 168),
    ]  # fmt: skip
    # 0.87 * 256 = 222.7: less than 3 from 224, so it is 224
    assert sizes(340, 256, (0.87,), 224) == [(224, 224)]
    assert sizes(300, 224, (0.995,), 224) == [(224, 224)]  # which is all that there is
    # an image of 222 rows has no crop of 224
    assert sizes(340, 222, (1.0,), 224) == [(222, 222)]


def test_crop_places_are_those_worked_out_by_hand() -> None:
    # room (116, 32): steps of 29 and 8
    assert crop_offsets(5, 340, 256, (224, 224)) == [(0, 0), (116, 0), (0, 32), (116, 32), (58, 16)]
    assert crop_offsets(13, 340, 256, (224, 224))[5:] == [
        (0, 16), (116, 16), (58, 32), (58, 0), (29, 8), (87, 8), (29, 24), (87, 24),
    ]  # fmt: skip
    # room (6, 5): corners are four whole steps of 1 away, not at the border
    assert crop_offsets(5, 230, 229, (224, 224))[3] == (4, 4)


def test_tests_have_one_five_or_ten_crops_with_the_mirrored_ones_last() -> None:
    (centre,) = crops_of(1, 340, 256, 224)
    assert (centre.x, centre.y, centre.flip) == (58, 16, False)
    ten = crops_of(10, 340, 256, 224)
    assert [c.flip for c in ten] == [False] * 5 + [True] * 5
    assert [(c.x, c.y) for c in ten[5:]] == [(c.x, c.y) for c in ten[:5]]
    assert crops_of(5, 340, 256, 224) == ten[:5]


@given(
    width=st.integers(100, 500), height=st.integers(100, 500), seed=st.integers(0, 999),
    kind=st.sampled_from(["5", "13", "random"]),
)  # fmt: skip
def test_every_crop_lies_inside(width: int, height: int, seed: int, kind: str) -> None:
    params = AugmentParams(crops=kind)  # type: ignore[arg-type]
    crop = random_crop(params, width, height, 224, np.random.default_rng(seed))
    assert 0 <= crop.x <= width - crop.width and 0 <= crop.y <= height - crop.height


class Last:
    """Draws the last of all whole numbers that may be drawn."""

    def integers(self, bound: int) -> int:
        return bound - 1


def test_the_last_place_of_a_crop_is_at_the_border() -> None:
    params = AugmentParams(crops="random", scales=(0.5,), flip=False)
    crop = random_crop(params, 340, 256, 224, Last())  # type: ignore[arg-type]
    assert crop == Crop(340 - 128, 256 - 128, 128, 128)


def test_a_resized_crop_may_be_the_whole_image() -> None:
    params = AugmentParams(crops="resized", area=(1.0, 1.0), aspect=(1.5, 1.5))
    rng = np.random.default_rng(0)
    assert resized_crop(params, 300, 200, rng) == Crop(0, 0, 300, 200)


def test_the_largest_crop_that_may_be_drawn() -> None:
    assert largest_crop_pixels(AugmentParams(), 340, 256, 224) == 256 * 256
    assert largest_crop_pixels(AugmentParams(scales=(0.75, 0.66)), 256, 340, 224) == 192 * 192
    assert largest_crop_pixels(AugmentParams(crops="random"), 340, 256, 224) == 256 * 256
    assert largest_crop_pixels(AugmentParams(crops="resized"), 340, 256, 224) == 340 * 256


def test_all_sizes_places_and_both_sides_are_drawn() -> None:
    rng, params = np.random.default_rng(0), AugmentParams()
    drawn = [random_crop(params, 340, 256, 224, rng) for _ in range(3000)]
    assert len({(c.width, c.height) for c in drawn}) == 10
    assert len({(c.x, c.y) for c in drawn if (c.width, c.height) == (192, 192)}) == 13
    assert 0.45 < np.mean([c.flip for c in drawn]) < 0.55
    never = AugmentParams(flip=False)
    assert not any(random_crop(never, 340, 256, 224, rng).flip for _ in range(50))


@pytest.mark.parametrize(("width", "height"), [(256, 256), (224, 192), (168, 168), (300, 240)])
def test_crops_are_resized_as_pil_does_up_to_one_level(width: int, height: int) -> None:
    pil = pytest.importorskip("PIL.Image", reason="needs Pillow")
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (260, 340, 3), np.uint8)
    made = crop_and_resize(
        torch.from_numpy(image.transpose(2, 0, 1)[None].copy()), Crop(11, 3, width, height), 224,
        turned="nothing",
    )  # fmt: skip
    box = (11, 3, 11 + width, 3 + height)
    theirs = np.asarray(pil.fromarray(image).crop(box).resize((224, 224), pil.BILINEAR))
    difference = np.abs(made[0].numpy().transpose(1, 2, 0).astype(int) - theirs)
    assert difference.max() <= 1 and difference.mean() < 0.05


@pytest.mark.parametrize("side", [256, 192])
def test_without_antialiasing_crops_are_resized_as_opencv_does(side: int) -> None:
    image = np.random.default_rng(3).integers(0, 256, (260, 340, 3), np.uint8)
    made = crop_and_resize(
        torch.from_numpy(image.transpose(2, 0, 1)[None].copy()), Crop(5, 2, side, side), 224,
        turned="nothing", antialias=False,
    )  # fmt: skip
    theirs = cv2.resize(image[2 : 2 + side, 5 : 5 + side], (224, 224))
    difference = np.abs(made[0].numpy().transpose(1, 2, 0).astype(int) - theirs)
    assert difference.max() <= 1


def test_mirroring_a_crop_negates_horizontal_flow() -> None:
    flow = torch.tensor([[[[10, 200, 128]], [[1, 2, 3]]]], dtype=torch.uint8).expand(1, 2, 3, 3)
    same = crop_and_resize(flow, Crop(0, 0, 3, 3), 3, turned="x")
    assert torch.equal(same, flow)
    mirrored = crop_and_resize(flow, Crop(0, 0, 3, 3, flip=True), 3, turned="x")
    assert mirrored[0, 0, 0].tolist() == [127, 55, 245]  # 255 - 128, 255 - 200, 255 - 10
    assert mirrored[0, 1, 0].tolist() == [3, 2, 1]
    theirs = crop_and_resize(
        flow.repeat(3, 1, 1, 1), Crop(0, 0, 3, 3, flip=True), 3, turned="mmaction2"
    )
    assert theirs[:, :, 0].tolist() == [
        [[127, 55, 245], [252, 253, 254]], [[128, 200, 10], [3, 2, 1]],
        [[127, 55, 245], [252, 253, 254]],
    ]  # fmt: skip
    colour = crop_and_resize(flow, Crop(0, 0, 3, 3, flip=True), 3, turned="nothing")
    assert colour[0, 0, 0].tolist() == [128, 200, 10]


@pytest.mark.parametrize(
    ("stored", "side", "size"),
    [
        ((340, 256), 224, (340, 256)), ((256, 340), 224, (256, 340)), ((426, 320), 224, (340, 256)),
        ((320, 240), 224, (341, 256)), ((340, 256), 299, (452, 341)), ((48, 36), 32, (48, 36)),
    ],
)  # fmt: skip
def test_validation_and_tests_see_the_same_share_of_images_of_any_size(
    stored: tuple[int, int], side: int, size: tuple[int, int]
) -> None:
    assert scaled_size(*stored, side) == size  # GroupScale(side * 256 // 224)
    centre = centre_of(*stored, side)
    (of_size,) = crops_of(1, *size, side)
    assert (centre.x, centre.y, centre.width, centre.height) == (of_size.x, of_size.y, side, side)
    assert centre.scaled == (None if size == stored else size)


@pytest.mark.parametrize(
    ("crop", "stored", "part"),
    [
        (Crop(58, 16, 224, 224), (340, 256), (16, 240, 58, 282)),  # no pixel more
        # Rows are 1.25 apart: 16.5 * 1.25 - 2.25 = 18.4 and 239.5 * 1.25 + 2.25 = 301.6
        (centre_of(426, 320, 224), (426, 320), (18, 302, 71, 355)),
        # Rows are 0.9375 apart, and the filter reaches one: 13.5 and 226.5
        (centre_of(320, 240, 224), (320, 240), (13, 227, 52, 267)),
        # Rows are 4 apart, and so far the filter reaches: 16.5 * 4 - 5 = 61 and 239.5 * 4 + 5 = 963
        (centre_of(1360, 1024, 224), (1360, 1024), (61, 963, 229, 1131)),
        (Crop(0, 0, 340, 256, scaled=(340, 256)), (426, 320), (0, 320, 0, 426)),
    ],
)
def test_a_crop_knows_the_part_of_the_image_that_it_depends_on(
    crop: Crop, stored: tuple[int, int], part: tuple[int, ...]
) -> None:
    assert crop.part(*stored) == part


@settings(deadline=None)
@given(
    width=st.integers(20, 90), height=st.integers(20, 90), side=st.integers(14, 60),
    antialias=st.booleans(),
)  # fmt: skip
def test_a_crop_of_a_scaled_image_depends_on_its_part_alone(
    width: int, height: int, side: int, antialias: bool
) -> None:
    rng = np.random.default_rng(width * height * side)
    image, noise = (
        torch.from_numpy(rng.integers(0, 256, (1, 2, height, width), np.uint8)) for _ in "ab"
    )
    crop = centre_of(width, height, side)
    top, bottom, left, right = crop.part(width, height)
    noise[:, :, top:bottom, left:right] = image[:, :, top:bottom, left:right]
    ours, same = (
        crop_and_resize(one, crop, side, turned="nothing", antialias=antialias)
        for one in (image, noise)
    )
    assert ours.shape == (1, 2, side, side) and torch.equal(ours, same)
    wide, high = scaled_size(width, height, side)
    whole = scale(image, wide, high, antialias=antialias)
    x, y = round((wide - side) / 2), round((high - side) / 2)
    assert torch.equal(ours, whole[:, :, y : y + side, x : x + side])


@pytest.mark.parametrize(
    ("width", "height", "side"), [(426, 320, 224), (320, 240, 224), (340, 256, 299)]
)
def test_crops_are_scaled_and_cut_as_pil_does_up_to_one_level(
    width: int, height: int, side: int
) -> None:
    pil = pytest.importorskip("PIL.Image", reason="needs Pillow")
    noise = np.random.default_rng(4).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    image = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    picture = pil.fromarray(image)
    size = scaled_size(width, height, side)
    theirs = picture.resize(size, pil.BILINEAR)
    ours = torch.from_numpy(image)[None].movedim(-1, 1)
    centre = crop_and_resize(ours, centre_of(width, height, side), side, turned="nothing")
    ten = crops_of(10, *size, side)
    whole = scale(ours, *size)
    made = [centre, *(crop_and_resize(whole, crop, side, turned="nothing") for crop in ten)]
    for one, crop in zip(made, [*crops_of(1, *size, side), *ten], strict=True):
        other = theirs.crop((crop.x, crop.y, crop.x + side, crop.y + side))
        if crop.flip:
            other = other.transpose(pil.FLIP_LEFT_RIGHT)
        difference = np.abs(one[0].movedim(0, -1).numpy().astype(int) - np.asarray(other))
        assert difference.max() <= 1 and difference.mean() < 0.05


def test_tests_cut_what_tsn_pytorch_itself_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    originals = tsn_pytorch("transforms")
    transforms = pytest.importorskip("torchvision.transforms", reason="needs torchvision")
    pil = pytest.importorskip("PIL.Image", reason="needs Pillow")
    monkeypatch.setattr(transforms, "Scale", transforms.Resize, raising=False)  # its name today
    for width, height, side in ((426, 320, 224), (340, 256, 299), (233, 170, 224)):
        noise = np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)
        picture, image = pil.fromarray(noise), torch.from_numpy(noise)[None].movedim(-1, 1)
        short = side * 256 // 224
        ten = originals.GroupOverSample(side, short)([picture])
        (centre,) = originals.GroupCenterCrop(side)(originals.GroupScale(short)([picture]))
        size = scaled_size(width, height, side)
        whole = scale(image, *size)
        crops = crops_of(10, *size, side)
        ours = [
            crop_and_resize(whole, crops[k % 2 * 5 + k // 2], side, turned="nothing")
            for k in range(10)
        ]
        ours.append(crop_and_resize(image, centre_of(width, height, side), side, turned="nothing"))
        for one, other in zip(ours, [*ten, centre], strict=True):
            difference = one[0].movedim(0, -1).numpy().astype(int) - np.asarray(other)
            assert np.abs(difference).max() <= 1


def test_resized_crops_have_the_areas_and_ratios_that_are_asked_for() -> None:
    params = AugmentParams(crops="resized", area=(0.2, 0.6), aspect=(0.5, 2.0))
    rng = np.random.default_rng(1)
    drawn = [random_crop(params, 340, 256, 224, rng) for _ in range(2000)]
    areas = np.array([c.width * c.height / (340 * 256) for c in drawn])
    ratios = np.array([c.width / c.height for c in drawn])
    assert 0.19 < areas.min() < 0.22 and 0.57 < areas.max() < 0.61
    assert 0.49 < ratios.min() < 0.6 and 1.8 < ratios.max() < 2.02
    assert all(c.x + c.width <= 340 and c.y + c.height <= 256 for c in drawn)
    assert 900 < sum(c.flip for c in drawn) < 1100
    still = AugmentParams(crops="resized", flip=False)
    assert not any(random_crop(still, 340, 256, 224, rng).flip for _ in range(50))


def test_a_resized_crop_of_few_pixels_is_not_empty() -> None:
    params = AugmentParams(crops="resized", area=(1e-6, 1e-6))
    crop = resized_crop(params, 9, 7, np.random.default_rng(1))
    assert (crop.width, crop.height) == (1, 1)


@pytest.mark.parametrize("size", [(54, 72), (20, 30)])
def test_a_test_scales_images_of_any_size_before_it_cuts_them(size: tuple[int, int]) -> None:
    row = BackboneRow(torch.nn.Identity, 8, TORCHVISION, size=32)
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    input = InputSpec("rgb", 1, "rgb")
    made = torch.cat(
        list(crops_of_snippets(images, 10, 3, input, row=row, stream=StreamParams())), 1
    )
    width = 36 * size[1] // size[0]
    whole = scale(images, width, 36)
    expected = [
        input.normalise(crop_and_resize(whole, crop, 32, turned="nothing")[None], row.pixels)[0]
        for crop in crops_of(10, width, 36, 32)
    ]
    assert made.shape == (2, 10, 3, 32, 32) and torch.equal(made, torch.stack(expected, 1))
