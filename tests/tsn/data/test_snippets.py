"""SnippetDataset and SnippetStream: the bytes of the store, in any process, each sample once."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

import tiny  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

import flowpipe  # noqa: E402
from flowpipe import SnippetDataset, SnippetStream  # noqa: E402
from flowpipe.errors import FormatError, UsageError  # noqa: E402
from flowpipe.tsn.data.sampling import SAMPLING_STRATEGIES, images_of  # noqa: E402
from flowpipe.types import Interval  # noqa: E402


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_store(tmp_path_factory.mktemp("snippets") / "store", videos=14, shards=3)


def same(some: list[Any], others: list[Any]) -> bool:
    pairs = zip(some, others, strict=True)
    return all(torch.equal(a[0], b[0]) and a[1] == b[1] for a, b in pairs)


@pytest.mark.parametrize("sampling", list(SAMPLING_STRATEGIES))
@pytest.mark.parametrize(("modality", "length"), [("rgb", 1), ("flow", 5), ("flow", 30)])
def test_samples_are_the_images_of_the_store(
    path: Path, modality: str, length: int, sampling: Any
) -> None:
    """Also of videos that are shorter than a snippet."""
    store = flowpipe.open_store(path)
    dataset = SnippetDataset(store, modality, "train", 3, length, train=False, sampling=sampling)
    assert dataset.split == "train1" and dataset.class_names == tiny.CLASSES
    videos = {name: one for name, one in store.videos.items() if "train1" in one.splits}
    assert dataset.video_ids == list(videos)
    assert dataset.labels == [one.labels[0] for one in videos.values()]
    for k, (video_id, video) in enumerate(videos.items()):
        images, label = dataset[k]
        count = video.images[modality]
        rule = SAMPLING_STRATEGIES[sampling]
        numbers = images_of(rule.val(count, 3, length), length, count, rule.tail)
        whole = store.snippet(video_id, modality, 0, count)
        np.testing.assert_array_equal(images.numpy(), whole[numbers])
        assert images.dtype == torch.uint8 and label == video.labels[0]
        assert images.shape[-4:] == (length, 3 if modality == "rgb" else 2, 36, 48)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_loaders_of_any_start_method_read_the_same(path: Path, method: str) -> None:
    dataset = SnippetDataset(path, "flow", train=False)
    want = [dataset[k] for k in range(len(dataset))]  # shards are open before the workers start
    loader = DataLoader(dataset, batch_size=4, num_workers=1, multiprocessing_context=method)
    images, labels = zip(*loader, strict=True)
    assert torch.equal(torch.cat(images), torch.stack([image for image, _ in want]))
    assert torch.cat(labels).tolist() == dataset.labels


def test_a_pickled_copy_and_threads_read_the_same(path: Path) -> None:
    dataset = SnippetDataset(path, "rgb", train=False, length=2)
    want = [dataset[k] for k in range(len(dataset))]
    copy = pickle.loads(pickle.dumps(dataset))
    assert same([copy[k] for k in range(len(copy))], want)
    with ThreadPoolExecutor(4) as threads:
        assert same(list(threads.map(dataset.__getitem__, range(len(dataset)))), want)
    assert same(dataset.__getitems__([5, 0, 5]), [want[5], want[0], want[5]])
    with pytest.raises(IndexError):
        dataset[len(dataset)]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_draws_anew_in_each_epoch_and_the_same_from_a_seed(
    path: Path, workers: int
) -> None:
    loader = DataLoader(SnippetDataset(path, "rgb", length=1), batch_size=4, num_workers=workers)
    torch.manual_seed(3)
    first, second = (torch.cat([images for images, _ in loader]) for _ in range(2))
    torch.manual_seed(3)
    again = torch.cat([images for images, _ in loader])
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_the_transform_gets_the_images_of_a_sample(path: Path) -> None:
    dataset = SnippetDataset(path, "flow", transform=torch.Tensor.float, train=False)
    images, _ = dataset[0]
    assert images.dtype == torch.float32 and images.shape == (3, 5, 2, 36, 48)
    plain = SnippetDataset(path, "flow", train=False)
    assert torch.equal(images, plain[0][0].float())
    ((streamed, _), *_) = SnippetStream(path, "flow", transform=torch.Tensor.float)
    assert streamed.dtype == torch.float32


def test_a_label_or_an_instance_is_a_sample(tmp_path: Path) -> None:
    several = SnippetDataset(tiny.make_store(tmp_path / "several", several=True), "rgb")
    assert Counter(several.labels) == Counter(
        k for video in several.store.videos.values() if "train1" in video.splits
        for k in video.labels
    )  # fmt: skip
    untrimmed = tiny.make_store(
        tmp_path / "untrimmed",
        segments=(Interval(1, 0.0, 0.1), Interval(2, 0.2, 0.4)),
    )
    dataset = SnippetDataset(untrimmed, "rgb", samples="instances", length=1)
    assert set(dataset.labels) == {1, 2}
    first = [(clip.first, clip.images) for clip in dataset.clips if clip.labels == (1,)]
    assert set(first) == {(0, 3)}
    assert len(SnippetDataset(untrimmed, "rgb", "all")) == 12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"modality": "warped_flow"}, "modality 'warped_flow' is unknown; known: rgb, flow"),
        ({"split": "train2"}, "'train2' is unknown; did you mean train1. known: test1, train1"),
        ({"sampling": "tsn"}, "sampling 'tsn' is unknown"),
        ({"samples": "clips"}, "samples 'clips' is unknown"),
        ({"segments": 0}, "must be at least 1, got 0 and 5"),
    ],
)
def test_errors_list_what_the_store_has(path: Path, options: Any, words: str) -> None:
    arguments = {"modality": "flow", "split": "train1", **options}
    for kind in (SnippetDataset, SnippetStream):
        with pytest.raises(UsageError, match=words):
            kind(path, **arguments)


@pytest.mark.parametrize(
    "options", [{"rank": 0}, {"rank": 2, "world": 2}, {"rank": 0, "world": 99}, {"buffer": -1}]
)
def test_a_stream_refuses_ranks_that_cannot_be(path: Path, options: Any) -> None:
    with pytest.raises(UsageError):
        SnippetStream(path, "flow", **options)


def test_damage_is_reported_by_the_loader(tmp_path: Path) -> None:
    dataset = SnippetDataset(tiny.make_store(tmp_path / "store"), "rgb", train=False)
    shard = tmp_path / "store" / "shards" / "0.h5"
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(FormatError, match=r"0\.h5"):
        list(DataLoader(dataset, batch_size=2, num_workers=1))


Streams = Callable[..., list[list[str]]]


@pytest.fixture
def passes(path: Path) -> Streams:
    """Video ids in the order in which each worker of each rank reads them."""
    middle = SnippetDataset(path, "flow", train=False)
    marks = {
        int(images.sum(dtype=torch.int64)): name
        for (images, _), name in zip(middle, middle.video_ids, strict=True)
    }

    def read(world: int, workers: int, epoch: int = 0, **options: Any) -> list[list[str]]:
        found = []
        for rank in range(world):
            stream = SnippetStream(path, "flow", rank=rank, world=world, **options)
            stream.set_epoch(epoch)
            loader = DataLoader(stream, batch_size=None, num_workers=workers)
            found.append([marks[int(images.sum(dtype=torch.int64))] for images, _ in loader])
        return found

    return read


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 2), (3, 0), (2, 2)])
def test_without_training_each_sample_is_read_once(
    passes: Streams, path: Path, world: int, workers: int
) -> None:
    found = passes(world, workers, train=False)
    all_of = SnippetDataset(path, "flow").video_ids
    assert Counter(name for part in found for name in part) == Counter(all_of)
    assert max(map(len, found)) - min(map(len, found)) <= 1


def order_of(stream: Any) -> list[int]:
    """Shard of each sample, in the order in which a rank reads them."""
    ids = [stream.video_ids[i] for i in stream.own_samples().tolist()]
    return [stream.store.shards.index(stream.store.videos[one].shards[0]) for one in ids]


def test_shards_are_read_one_after_the_other_in_another_order_each_epoch(path: Path) -> None:
    stream, orders = SnippetStream(path, "flow"), set()
    for epoch in range(6):
        stream.set_epoch(epoch)
        shards = order_of(stream)
        runs = [shard for k, shard in enumerate(shards) if not k or shards[k - 1] != shard]
        assert sorted(runs) == [0, 1, 2]
        orders.add(tuple(runs))
    assert len(orders) > 1


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_in_training_ranks_get_equally_many_different_samples(path: Path, world: int) -> None:
    for epoch in range(3):
        shares = []
        for rank in range(world):
            stream = SnippetStream(path, "flow", rank=rank, world=world, seed=5)
            stream.set_epoch(epoch)
            shares.append(stream.own_samples().tolist())
        assert {len(share) for share in shares} == {len(stream.clips) // world}
        together = [i for share in shares for i in share]
        assert len(set(together)) == len(together)


def test_the_buffer_shuffles_and_loses_nothing(path: Path) -> None:
    ordered = [label for _, label in SnippetStream(path, "flow", buffer=0)]
    for buffer in (1, 4, 100):
        drawn = [label for _, label in SnippetStream(path, "flow", buffer=buffer)]
        assert Counter(drawn) == Counter(ordered)
    torch.manual_seed(0)
    whole = [images for images, _ in SnippetStream(path, "flow", "train", 3, 30, buffer=100)]
    plain = [images for images, _ in SnippetStream(path, "flow", "train", 3, 30, buffer=0)]
    assert any(not torch.equal(a, b) for a, b in zip(whole, plain, strict=True))


def test_the_epoch_reaches_workers_that_live_on(path: Path) -> None:
    stream = SnippetStream(path, "flow", "train", 1, 1, buffer=0)
    loader = DataLoader(
        stream, batch_size=None, num_workers=1, persistent_workers=True,
        multiprocessing_context="spawn",
    )  # fmt: skip
    labels = {tuple(label for _, label in loader)}
    want = {tuple(stream.labels[i] for i in stream.own_samples().tolist())}
    for epoch in range(1, 5):
        stream.set_epoch(epoch)
        labels.add(tuple(label for _, label in loader))
        want.add(tuple(stream.labels[i] for i in stream.own_samples().tolist()))
    assert labels == want and len(want) > 1


def test_import_flowpipe_stays_light_and_says_what_it_offers() -> None:
    code = (
        "import sys, flowpipe\n"
        "assert not {'torch', 'numpy', 'h5py', 'cv2', 'av', 'dask'} & set(sys.modules)\n"
        "assert set(flowpipe.__all__) <= set(dir(flowpipe))\n"
        "sys.modules['torch'] = None\n"
        "try:\n"
        "    flowpipe.SnippetDataset\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("flowpipe.SnippetDataset needs torch; pip install")


def test_videos_without_labels_are_read_with_label_minus_one(tmp_path: Path) -> None:
    store = flowpipe.open_store(
        tiny.make_store(tmp_path / "store", videos=4, labelled=False, splits=("", ""))
    )
    with pytest.raises(UsageError, match="has a label.*labelled=False reads"):
        SnippetDataset(store, "rgb", "all")
    with pytest.raises(UsageError, match="in no split; read all with split='all'"):
        SnippetDataset(store, "rgb", "train", labelled=False)
    dataset = SnippetDataset(store, "rgb", "all", length=2, labelled=False)
    assert dataset.video_ids == list(store.videos) and dataset.labels == [-1] * 4
    images, labels = next(iter(DataLoader(dataset, batch_size=4)))
    assert images.shape == (4, 3, 2, 3, 36, 48) and labels.tolist() == [-1] * 4
    stream = SnippetStream(store, "flow", "all", labelled=False)
    assert [label for _, label in stream] == [-1] * 4


def test_labelled_false_changes_nothing_where_every_video_has_a_label(path: Path) -> None:
    given = SnippetDataset(path, "rgb", "all", labelled=False)
    assert given.clips == SnippetDataset(path, "rgb", "all").clips
