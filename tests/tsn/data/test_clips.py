"""Samples of training depend on seed, epoch and position alone; batches are shared exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

import tiny  # noqa: E402
from tiny_training import job, run, trainer_of  # noqa: E402
from torch.nn import functional  # noqa: E402

from flowpipe import open_store  # noqa: E402
from flowpipe.errors import UsageError  # noqa: E402
from flowpipe.tsn.data.batches import Batch, BatchSampler, Sample  # noqa: E402
from flowpipe.tsn.data.clips import Clip, Clips, clips_of, splits_of  # noqa: E402
from flowpipe.tsn.data.crops import Crop  # noqa: E402
from flowpipe.tsn.data.inputs import input_spec  # noqa: E402
from flowpipe.tsn.data.normalisation import TORCHVISION  # noqa: E402
from flowpipe.tsn.data.reading import SnippetRequest, read_images  # noqa: E402
from flowpipe.tsn.data.sampling import images_of  # noqa: E402
from flowpipe.tsn.network.augment import crop_and_resize  # noqa: E402
from flowpipe.tsn.network.backbones import BackboneRow  # noqa: E402
from flowpipe.tsn.network.network_input import network_input  # noqa: E402
from flowpipe.tsn.recipe import AugmentParams, StreamParams  # noqa: E402
from flowpipe.types import Interval  # noqa: E402

ROW = BackboneRow(lambda: tiny.Tiny(False), 8, TORCHVISION, size=tiny.SIDE)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_store(tmp_path_factory.mktemp("clips") / "store")


def clips(store: Path, phase: str = "train", seed: int = 1, modality: str = "flow") -> Clips:
    opened = open_store(store)
    stored = input_spec(modality, 2, opened.modalities)
    return Clips(
        [store],
        clips_of(opened, "train1", stored.stored, "videos"),
        stored,
        phase=phase,
        segments=3,
        sampling="tsn_pytorch",
        augment=AugmentParams(scales=(1.0, 0.9)),
        side=tiny.SIDE,
        seed=seed,
    )  # type: ignore[arg-type]


def sample(data: Clips, *number: int) -> tuple[torch.Tensor, Sample, int]:
    """Images, what becomes of them and the label of one."""
    batch = Batch([data.read([number])])
    return batch.images[0], batch.samples[0], int(batch.labels[0, 0])


def equal(a, b) -> bool:
    return torch.equal(a[0], b[0]) and a[1:] == b[1:]


def test_samples_are_what_the_store_holds(store: Path) -> None:
    data, opened = clips(store, "val"), open_store(store)
    clip = data.videos[2]
    video_id, label = clip.video_id, clip.labels[0]
    images, one, said = sample(data, 0, 2)
    assert said == label == opened.videos[video_id].labels[0]
    starts = data.rule.val(opened.videos[video_id].images["flow"], 3, 2)
    expected = np.concatenate([opened.snippet(video_id, "flow", int(s), 2) for s in starts])
    np.testing.assert_array_equal(images.numpy(), expected[:, :, 2:34, 8:40])  # the centre
    assert one == Sample(Crop(0, 0, 32, 32), (2, 34, 8, 40), (36, 48), (label,))


@pytest.mark.parametrize("phase", ["train", "val"])
@pytest.mark.parametrize("modality", ["rgb", "flow"])
@pytest.mark.parametrize("size", [(36, 48), (54, 72), (20, 30)])
def test_parts_of_images_give_the_input_that_whole_images_give(
    tmp_path: Path, phase: str, modality: str, size: tuple[int, int]
) -> None:
    mixed = tiny.make_store(tmp_path / "store", 6, size=size, odd_size=(36, 60))
    data, opened = clips(mixed, phase, modality=modality), open_store(mixed)
    numbers = [(0, k) for k in range(len(data))]
    batch = Batch([data.read(numbers[:2]), data.read(numbers[2:])])
    made = network_input(
        batch.images, batch.samples, data.input, ROW, stream=StreamParams(), device="cpu"
    )
    for k, number in enumerate(numbers):
        clip, (images, crop) = data.videos[k], data.draw(number)
        whole = np.concatenate(
            [opened.snippet(clip.video_id, modality, int(n), 1) for n in images.ravel()]
        )
        turned = "x" if modality == "flow" else "nothing"
        from_whole = crop_and_resize(torch.from_numpy(whole), crop, tiny.SIDE, turned=turned)[None]
        assert torch.equal(made[k : k + 1], data.input.normalise(from_whole, ROW.pixels))


def test_short_videos_repeat_their_last_image_or_begin_again(store: Path) -> None:
    opened = open_store(store)
    video_id = "video 00"  # eight fields
    all_of_it = opened.snippet(video_id, "flow", 0, 8)
    starts = np.array([5, 0])

    def read(numbers: np.ndarray) -> np.ndarray:
        size = opened.videos[video_id].size["flow"]
        return read_images("flow", [SnippetRequest(opened, video_id, size, numbers)])[0].numpy()

    images = read(images_of(starts, 5, 8))
    np.testing.assert_array_equal(images, all_of_it[[5, 6, 7, 7, 7, 0, 1, 2, 3, 4]])
    images = read(images_of(starts, 5, 8, "loop"))
    np.testing.assert_array_equal(images, all_of_it[[5, 6, 7, 0, 1, 0, 1, 2, 3, 4]])


def test_instances_are_samples_of_their_own_time(store: Path, tmp_path: Path) -> None:
    segments = (
        Interval(2, 0.0, 0.1),
        Interval(1, 0.2, 0.3),
        Interval(0, 7.0, 8.0),
    )
    marked = tiny.make_store(tmp_path / "store", 1, segments=segments)
    opened = open_store(marked)  # nine frames at 25 a second, eight fields
    assert clips_of(opened, "train1", "flow", "instances") == [
        Clip("video 00", (2,), 0, 3, size=(36, 48)),  # frames at 0, 0.04 and 0.08
        Clip(
            "video 00", (1,), 5, 3, size=(36, 48)
        ),  # at 0.20, 0.24, 0.28; the last has a field too
    ]
    assert clips_of(opened, "train1", "rgb", "videos") == [
        Clip("video 00", (0,), 0, 9, size=(36, 48))
    ]
    data = clips(marked, "train", modality="flow")
    data.videos = clips_of(opened, "train1", "flow", "instances")
    allowed = opened.snippet("video 00", "flow", 5, 3)
    for epoch in range(5):
        images, one, label = sample(data, epoch, 1)
        assert label == 1
        top, bottom, left, right = one.part
        for image in images.numpy():
            assert any(np.array_equal(image, field[:, top:bottom, left:right]) for field in allowed)


@pytest.mark.parametrize(
    ("options", "samples", "said"),
    [
        ({"labelled": False}, "videos", "no video of {store} has a label.*a folder of its own"),
        ({"splits": ("", "")}, "videos", "are in no split.*extract again with --val-fraction 0.2"),
        ({"splits": ("train2", "val2")}, "videos", "'train1' is unknown; .* known: train2, val2"),
        ({"splits": ("fold2", "train1"), "segments": (Interval(0, 7.0, 8.0),)}, "instances",
         "split train1 .*no labelled instances; known: fold2, train1"),
        ({}, "instances", "has labelled instances; train on whole videos with --set samples"),
    ],
)  # fmt: skip
def test_missing_labels_and_splits_are_reported_with_a_remedy(
    options: dict[str, Any], samples: Any, said: str, tmp_path: Path
) -> None:
    path = tiny.make_store(tmp_path / "store", 4, **options)
    with pytest.raises(UsageError, match=said.format(store=path)):
        clips_of(open_store(path), "train1", "rgb", samples)


def test_classes_that_one_split_lacks_are_reported(tmp_path: Path) -> None:
    # Of 8 videos numbers 3 and 7 are held out, of the classes dark and middle.
    path = tiny.make_store(tmp_path / "store", 8, splits=("train1", "val1"))
    told = run(job(path, tmp_path, end=1))
    (line,) = [line for line in told if "--val-fraction" in line]
    assert (
        "1 class has no usable video in split val1, so validation does not measure it: bri" in line
    )
    turned = tiny.make_store(tmp_path / "turned", 8, splits=("val1", "train1"))
    trainer = trainer_of(job(turned, tmp_path, end=1))
    (line,) = trainer.lacking
    assert "in split train1, so the network cannot learn it: bright; to split your" in line
    assert trainer_of(job(tiny.make_store(tmp_path / "all"), tmp_path, end=1)).lacking == []


def test_validation_takes_val_where_a_store_has_it(tmp_path: Path) -> None:
    with_val = open_store(tiny.make_store(tmp_path / "own", 4, splits=("train1", "val1")))
    assert splits_of(with_val, 1) == {"train": "train1", "val": "val1"}
    official = open_store(tiny.make_store(tmp_path / "official", 4))
    assert splits_of(official, 1) == {"train": "train1", "val": "test1"}


def test_a_sample_depends_on_seed_epoch_and_position_alone(store: Path) -> None:
    one, same, other = clips(store), clips(store), clips(store, seed=2)
    for epoch, number in ((0, 0), (0, 3), (7, 3)):
        assert equal(sample(one, epoch, number), sample(same, epoch, number))
    positions = range(len(one))
    assert not all(equal(sample(one, 0, n), sample(one, 1, n)) for n in positions)
    assert not all(equal(sample(one, 0, n), sample(other, 0, n)) for n in positions)
    validation = clips(store, "val"), clips(store, "val", seed=9)
    assert equal(sample(validation[0], 0, 1), sample(validation[1], 5, 1))


def test_batches_are_shared_and_resumed_exactly() -> None:
    alone = BatchSampler(11, 4, seed=3, shuffle=True, rank=0, world=1)
    assert alone.sizes == [4, 4, 3]
    whole = list(alone)
    assert sorted(n for batch in whole for _, n in batch) == list(range(11))
    shares = [list(BatchSampler(11, 4, seed=3, shuffle=True, rank=r, world=3)) for r in range(3)]
    for k, batch in enumerate(whole):
        assert sorted(batch) == sorted(n for share in shares for n in share[k])
    alone.skip = 2
    assert len(alone) == 1 and list(alone) == whole[2:]
    alone.skip, alone.epoch = 0, 1
    assert list(alone) != whole and {epoch for batch in alone for epoch, _ in batch} == {1}


def test_training_drops_a_batch_that_not_all_have_part_of_and_validation_drops_nothing() -> None:
    assert BatchSampler(9, 4, seed=1, shuffle=True, rank=0, world=2).sizes == [4, 4]
    assert not BatchSampler(9, 2, seed=1, shuffle=True, rank=0, world=3).sizes
    shares = [list(BatchSampler(9, 4, seed=1, shuffle=False, rank=r, world=2)) for r in range(2)]
    assert sorted(n for share in shares for batch in share for _, n in batch) == list(range(9))


@pytest.mark.parametrize("size", [(20, 48), (54, 72), (45, 33)])
def test_images_of_any_size_are_trained_on_and_validated(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    stored = tiny.make_store(tmp_path / "store", 4, size=size)
    short = min(size)
    for epoch in range(3):  # training cuts shares of the stored short side
        images, one, _ = sample(clips(stored), epoch, 0)
        top, bottom, left, right = one.part
        assert images.shape[2:] == (bottom - top, right - left) == (one.crop.height, one.crop.width)
        assert {*images.shape[2:]} <= {short, int(0.9 * short), tiny.SIDE}
        assert one.crop.scaled is None and bottom <= size[0] and right <= size[1]
    data = clips(stored, "val")
    images, one, _ = sample(data, 0, 0)
    made = network_input([images], [one], data.input, ROW, stream=StreamParams(), device="cpu")
    whole = open_store(stored).snippet("video 00", "flow", int(data.rule.val(8, 3, 2)[0]), 2)
    high, wide = (36 * length // short for length in size)
    at = functional.interpolate(torch.from_numpy(whole), (high, wide), mode="bilinear",
                                antialias=True)  # fmt: skip
    y, x = round((high - tiny.SIDE) / 2), round((wide - tiny.SIDE) / 2)
    at = at[:, :, y : y + tiny.SIDE, x : x + tiny.SIDE]
    torch.testing.assert_close(made[0, 0], (at.flatten(0, 1).float() / 255 - 0.5) / 0.226)
