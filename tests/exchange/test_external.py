"""Folders of other tools: required options, the pairing of frames and flow, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from flowpipe import open_store
from flowpipe.errors import DatasetError, FormatError, UsageError
from flowpipe.exchange import ImportJob, import_folder, read_lists
from flowpipe.exchange.job import Imported
from flowpipe.store import verify_store

FRAMES = 6


def picture(k: int, colour: bool = True) -> NDArray[np.uint8]:
    """Smooth, so that JPEG keeps it; its mean tells k."""
    shape = (32, 40, 3) if colour else (32, 40)
    return np.full(shape, 20 + 20 * k, np.uint8)


def make_folder(
    folder: Path, *, first: int = 1, rgb: range = range(FRAMES), extension: str = ".jpg",
    names: tuple[str, str] = ("img_{:05d}", "flow_{}_{:05d}"), flow: range = range(FRAMES - 1),
    flow_from: int | None = None,
) -> Path:  # fmt: skip
    """Frame k as number first + k; flow from frame k to k + 1 as number `flow_from` + k."""
    folder.mkdir(parents=True, exist_ok=True)
    flow_from = first if flow_from is None else flow_from
    for k in rgb:
        cv2.imwrite(str(folder / (names[0].format(first + k) + extension)), picture(k))
    for k in flow:
        for axis in "xy":
            image = picture(k + (axis == "y"), colour=False)
            path = folder / (names[1].format(axis, flow_from + k) + extension)
            cv2.imwrite(str(path), image)
    return folder


def do_import(root: Path, **said: Any) -> Imported:
    job = ImportJob(root, root.with_name("store"), **{"bound": 20.0, "fps": 25.0, **said})
    return import_folder(job, lambda done, total: None)


def means(root: Path, video_id: str, modality: str) -> list[int]:
    """What tells the images of a video in the store."""
    store = open_store(root.with_name("store"))
    count = store.videos[video_id].images[modality]
    planes = store.snippet(video_id, modality, 0, count)
    return [round((plane[0].mean() - 20) / 20) for plane in planes]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "frames"


Maker = Callable[[Path], Path]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"first": 0}, {"layout": "denseflow"}),
        ({"first": 1}, {"layout": "mmaction2"}),
        ({"first": 1}, {"pairing": "start"}),
        ({"first": 7, "names": ("image_{:04d}", "flow_{}_{:04d}")}, {"pairing": "start"}),
        ({"first": 1, "names": ("img_{:05d}", "{}_{:05d}")}, {"pairing": "start"}),
        ({"first": 1, "extension": ".png"}, {"pairing": "start"}),
        # dense_flow with the frame that it leaves out: frame k is img_k, flow ends at its number
        ({"first": 0, "flow_from": 1}, {"pairing": "end"}),
    ],
)
def test_frames_and_pairs_are_read_as_the_options_say(options: Any, said: Any, root: Path) -> None:
    make_folder(root / "clip", **options)
    done = do_import(root, **said)
    assert (done.videos, done.failed) == (1, [])
    assert means(root, "clip", "rgb") == [0, 1, 2, 3, 4, 5]
    assert means(root, "clip", "flow") == [0, 1, 2, 3, 4]
    store = open_store(root.with_name("store"))
    flow = store.snippet("clip", "flow", 2, 1)
    assert abs(float(flow[0, 1].mean()) - 20 - 20 * 3) < 2  # y is y
    assert store.quantiser("flow")["bound"] == 20
    np.testing.assert_allclose(store.pts_s("clip"), np.arange(6) / 25)
    assert verify_store(root.with_name("store"), decode=True).ok


def test_dense_flow_lacks_the_first_frame_and_so_its_first_field(root: Path) -> None:
    # img_k is frame k, k >= 1; flow_k goes from frame k - 1 to k
    make_folder(root / "clip", first=0, rgb=range(1, FRAMES), flow_from=1)
    do_import(root, layout="dense_flow")
    assert means(root, "clip", "rgb") == [1, 2, 3, 4, 5]
    assert means(root, "clip", "flow") == [1, 2, 3, 4]


def test_a_folder_of_one_modality_needs_no_pairing(root: Path) -> None:
    make_folder(root / "clip", flow=range(0))
    assert do_import(root, bound=0.0).videos == 1
    other = root.with_name("other") / "frames"
    make_folder(other / "clip", rgb=range(0))
    assert do_import(other).videos == 1
    assert means(other, "clip", "flow") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("said", "wants"),
    [
        ({"bound": 0.0, "fps": 0.0}, ["--pairing start", "--bound 20", "--fps 25"]),
        ({}, ["--pairing start (denseflow", "--pairing end (dense_flow"]),
        ({"pairing": "start", "bound": 0.0}, ["--bound"]),
        ({"pairing": "start", "fps": 0.0}, ["--fps"]),
        ({"layout": "dense_flow", "pairing": "start"}, ["has --pairing end"]),
        ({"layout": "webdataset"}, ["is no webdataset export of flowpipe"]),
    ],
)
def test_nothing_is_guessed(said: Any, wants: list[str], root: Path) -> None:
    make_folder(root / "clip")
    with pytest.raises(UsageError) as caught:
        do_import(root, **said)
    for words in wants:
        assert words in str(caught.value)
    assert not root.with_name("store").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


SPOILT = [
    (lambda f: (f / "img_00003.jpg").unlink(), "image 3 of rgb is missing"),
    (lambda f: (f / "flow_y_00003.jpg").unlink(), "5 of x, 4 of y"),
    (lambda f: (f / "flow_y_00005.jpg").unlink(), "5 of x, 4 of y"),
    (lambda f: [p.unlink() for p in f.glob("flow_y*")], "5 of x, 0 of y"),
    (lambda f: [p.unlink() for p in f.glob("flow_*")], "has no images of flow"),
    (lambda f: [p.unlink() for p in f.glob("flow_*_0000[45]*")], "do not fit together"),
    (lambda f: (f / "img_00002.jpg").write_bytes(b"no picture"), "img_00002.jpg: "),
    (lambda f: (f / "img_00002.jpg").write_bytes(b""), "img_00002.jpg: "),
    (lambda f: cut(f / "img_00002.jpg"), "img_00002.jpg: "),
    (lambda f: cut(f / "flow_x_00002.jpg"), "flow_x_00002.jpg: "),
    (lambda f: cv2.imwrite(str(f / "img_00002.jpg"), np.zeros((8, 8, 3))), "several sizes"),
    (lambda f: cv2.imwrite(str(f / "img_00002.jpg"), np.zeros((32, 40))), "a gray image"),
    (lambda f: cv2.imwrite(str(f / "flow_x_00002.jpg"), np.zeros((8, 8))), "differ in size"),
    (
        lambda f: cv2.imwrite(
            str(f / "img_00002.jpg"), picture(2), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
        ),
        "not a baseline JPEG",
    ),
]


TWICE = (lambda f: cv2.imwrite(str(f / "img_00002.png"), np.zeros((32, 40))), "the same image")


@pytest.mark.parametrize("spoilt", [SPOILT, [TWICE]])  # JPEGs are not copied where there are PNGs
def test_folders_that_are_no_videos_are_named_and_the_others_imported(
    spoilt: list[tuple[Callable[[Path], object], str]], root: Path
) -> None:
    names = [f"b{number:02d}" for number in range(len(spoilt))]
    for name, (spoil, _) in zip(names, spoilt, strict=True):
        spoil(make_folder(root / name))
    for name in ("a", "c"):
        make_folder(root / name)
    done = do_import(root, pairing="start")
    said = dict(done.failed)
    assert sorted(said) == [str(root / name) for name in names] and len(done.failed) == len(names)
    for name, (_, says) in zip(names, spoilt, strict=True):
        assert says in said[str(root / name)]
    assert list(open_store(root.with_name("store")).videos) == ["a", "c"]
    assert verify_store(root.with_name("store"), decode=True).ok


def test_class_folders_are_labels(root: Path) -> None:
    for path in ("walk/1", "run/2", "run/3"):
        make_folder(root / path)
    do_import(root, pairing="start")
    store = open_store(root.with_name("store"))
    assert store.header.class_names == ("run", "walk")
    assert {i: v.labels for i, v in store.videos.items()} == {"1": (1,), "2": (0,), "3": (0,)}
    assert store.header.dataset["dataset"] == "frames"
    with pytest.raises(UsageError, match="the class names lack walk"):
        do_import(root, pairing="start", class_names=("run",))


def test_lists_give_labels_and_splits_whatever_lies_before_the_folder(
    root: Path, tmp_path: Path
) -> None:
    for path in ("walk/1", "run/2", "run/3"):
        make_folder(root / path)
    (tmp_path / "train.txt").write_text("/far/away/walk/1 5 2\n/far/away/run/2/ 5 0\n")
    (tmp_path / "test.txt").write_text("run/2 5 1\nrun/9 5 1\n")
    labels, splits = read_lists(
        [("train1", tmp_path / "train.txt"), ("test2", tmp_path / "test.txt")]
    )
    assert labels["/far/away/walk/1"] == (2,) and labels["run/2"] == (1,)
    strange = dict.fromkeys(("/a/x/run/2", "/b/x/run/2"), (0,))
    with pytest.raises(UsageError, match="more than their last three names"):
        do_import(root, pairing="start", labels=strange, splits=strange)
    done = do_import(root, pairing="start", labels=labels, splits=splits)
    assert (done.unlisted, done.absent) == (["run/3"], ["run/9"])
    videos = open_store(root.with_name("store")).videos
    assert [(v.labels, v.splits) for v in videos.values()] == [
        ((2,), ("train1",)), ((0, 1), ("train1", "test2")), ((), ()),
    ]  # fmt: skip
    (tmp_path / "test.txt").write_text("run/2\n")
    with pytest.raises(DatasetError, match=r"test.txt:1 must read 'folder frames label'"):
        read_lists([("", tmp_path / "test.txt")])
    with pytest.raises(UsageError, match="label 2, but --class-names has 1 name;"):
        do_import(root, pairing="start", labels=labels, splits=splits, class_names=("x",))


def test_folders_of_one_name_keep_their_paths_as_ids(root: Path) -> None:
    for path in ("a/clip", "b/clip"):
        make_folder(root / path)
    do_import(root, pairing="start")
    assert list(open_store(root.with_name("store")).videos) == ["a/clip", "b/clip"]


def test_an_empty_folder_is_no_video(root: Path) -> None:
    root.mkdir()
    (root / "video.avi").touch()
    with pytest.raises(FormatError, match="no folders of numbered images"):
        do_import(root)
