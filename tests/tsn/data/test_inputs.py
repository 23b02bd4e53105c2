"""Inputs of networks: channels, their order and their values, worked out by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from flowpipe.errors import UsageError  # noqa: E402
from flowpipe.tsn.data.inputs import InputSpec, input_spec  # noqa: E402
from flowpipe.tsn.data.normalisation import CAFFE, LITE, MMACTION1, TORCHVISION, TSN_PYTORCH  # noqa: E402

STORED = ("rgb", "flow", "warped_flow")


def images(*values: tuple[float, ...]):
    """Images of one pixel with these channels: (1, N, C, 1, 1)."""
    return torch.tensor(values).to(torch.uint8)[None, :, :, None, None]


@pytest.mark.parametrize(
    ("modality", "length", "read", "channels"),
    [("rgb", 1, 1, 3), ("flow", 5, 5, 10), ("warped_flow", 5, 5, 10), ("rgb_diff", 5, 6, 15)],
)
def test_snippets_have_the_paper_s_channels(
    modality: str, length: int, read: int, channels: int
) -> None:
    made = input_spec(modality, length, STORED)
    assert (made.read, made.channels) == (read, channels)
    assert made.is_flow == ("flow" in modality)


def test_differences_are_made_of_frames_only_where_they_are_not_stored() -> None:
    assert input_spec("rgb_diff", 5, STORED).stored == "rgb"
    stored = input_spec("rgb_diff", 5, (*STORED, "rgb_diff"))
    assert (stored.stored, stored.read) == ("rgb_diff", 5)
    with pytest.raises(UsageError, match="not rgb_diff or rgb"):
        input_spec("rgb_diff", 5, ("flow",))
    with pytest.raises(UsageError, match="has rgb, not flow; .* --modalities rgb,flow$"):
        input_spec("flow", 5, ("rgb",))


def test_colours_have_the_order_and_normalisation_of_their_weights() -> None:
    made = input_spec("rgb", 1, STORED)
    x = images((255.0, 0.0, 51.0), (0.0, 0.0, 0.0))
    result = made.normalise(x, TORCHVISION)
    assert result.shape == (1, 2, 3, 1, 1)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    torch.testing.assert_close(result[0, 0, :, 0, 0], torch.tensor(expected))
    # BN-Inception: blue first, means of tsn-pytorch or of Caffe, no division
    assert made.normalise(x, TSN_PYTORCH)[0, 0, :, 0, 0].tolist() == [51 - 104, -117, 255 - 128]
    assert made.normalise(x, CAFFE)[0, 0, :, 0, 0].tolist() == [51 - 104, -117, 255 - 123]
    assert made.normalise(x, LITE)[0, 1, :, 0, 0].tolist() == [-127 / 128] * 3


def test_flow_alternates_x_and_y() -> None:
    made = input_spec("flow", 2, STORED)
    x = images((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0))
    result = made.normalise(x, TSN_PYTORCH)
    assert result.shape == (1, 2, 4, 1, 1)
    assert (result[0, :, :, 0, 0] + 128).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    torch.testing.assert_close(
        made.normalise(x, TORCHVISION)[0, 0, 0, 0, 0], torch.tensor((1 / 255 - 0.5) / 0.226)
    )


def test_differences_go_from_old_to_new_and_have_no_mean() -> None:
    made = input_spec("rgb_diff", 2, STORED)
    x = images((1.0, 2.0, 3.0), (11.0, 22.0, 33.0), (111.0, 122.0, 133.0))
    assert made.normalise(x, TSN_PYTORCH)[0, 0, :, 0, 0].tolist() == [30, 20, 10, 100, 100, 100]
    torch.testing.assert_close(
        made.normalise(x, TORCHVISION)[0, 0, :, 0, 0] * 255,
        torch.tensor([10.0, 20, 30, 100, 100, 100]),
    )
    stored = input_spec("rgb_diff", 2, (*STORED, "rgb_diff"))
    x = images((138.0, 148.0, 158.0), (228.0, 228.0, 228.0))
    assert stored.normalise(x, TSN_PYTORCH)[0, 0, :, 0, 0].tolist() == [30, 20, 10, 100, 100, 100]


def test_horizontal_flow_of_mmaction1_is_always_negated() -> None:
    made = input_spec("flow", 1, STORED)
    x = images((100.0, 7.0))
    assert made.normalise(x, MMACTION1)[0, 0, :, 0, 0].tolist() == [255 - 100 - 128, 7 - 128]


def test_tsn_pytorch_tests_differences_of_normalised_frames() -> None:
    made = input_spec("rgb_diff", 2, STORED)
    x = images((1.0, 2.0, 3.0), (11.0, 22.0, 33.0), (111.0, 122.0, 133.0))
    plain = made.normalise(x, TSN_PYTORCH)
    assert torch.equal(made.normalise(x, TSN_PYTORCH, frames_as_colours=True), plain)
    found = made.normalise(x, TORCHVISION, frames_as_colours=True)[0, 0, :, 0, 0]
    # Its means for differences are those of colours and zeros, its deviations 0.452 but at first.
    first = [(v / 255 - m) / s for v, m, s in
             zip((1, 2, 3), TORCHVISION.mean, TORCHVISION.std, strict=True)]  # fmt: skip
    std = 2 * sum(TORCHVISION.std) / 3
    second, third = ([v / 255 / std for v in row] for row in ((11, 22, 33), (111, 122, 133)))
    expected = [b - a for a, b in zip([*first, *second], [*second, *third], strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("modality", "length", "stored"),
    [("rgb", 1, "rgb"), ("flow", 5, "flow"), ("rgb_diff", 5, "rgb"), ("rgb_diff", 5, "rgb_diff")],
)
def test_half_precision_is_the_single_precision_rounded_once(
    modality: str, length: int, stored: str, dtype: torch.dtype
) -> None:
    made = InputSpec(modality, length, stored)
    shape = (2, 3 * made.read, 2 if modality == "flow" else 3, 8, 6)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator())
    for pixels in (TSN_PYTORCH, TORCHVISION, MMACTION1):
        single = made.normalise(images, pixels)
        half = made.normalise(images, pixels, dtype=dtype)
        assert half.dtype == dtype and torch.equal(half, single.to(dtype))
        if length > 1:  # the network need not copy it to its own layout
            assert half.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_stored_differences_are_noted() -> None:
    made = input_spec("rgb_diff", 5, STORED)
    stored = input_spec("rgb_diff", 5, (*STORED, "rgb_diff"))
    assert made.remarks(("tsn_pytorch_diff",)) == []
    assert input_spec("rgb", 1, STORED).remarks(()) == []
    (line,) = stored.remarks(())
    assert "rgb_diff is read as the store has it" in line
    assert "compat tsn_pytorch_diff has no effect" in stored.remarks(("tsn_pytorch_diff",))[1]
