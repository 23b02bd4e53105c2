"""The compiled reader: any crop has the pixels of the Python reader; all damage is an error."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_making import Made, add_video, open_writer

from flowpipe import codec
from flowpipe.errors import FormatError
from flowpipe.params import canonical, digest
from flowpipe.store import compiled_reader, create_store, open_store

HEIGHT, WIDTH = 131, 170
MODALITIES = ("rgb", "flow", "rgb_diff")
reader = compiled_reader.snippet_reader()
pytestmark = pytest.mark.skipif(reader.library is None, reason=reader.reason or "none")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards, a video that is split over both, JPEG of every subsampling."""
    folder = tmp_path_factory.mktemp("batch") / "store"
    return make(folder, codec.JpegParams())


def make(folder: Path, params) -> Path:
    made_with = {"bound": 20.0, "modalities": list(MODALITIES)}
    create_store(
        folder, recipe=canonical(made_with), recipe_digest=digest(made_with),
        dataset={}, class_names=("a",) * 4,
    )  # fmt: skip
    rng, made = np.random.default_rng(1), Made(folder)
    for number, videos in enumerate(([("a", 9), ("cut", 5, 0, 2)], [("b", 9), ("cut", 5, 1, 2)])):
        shard = folder / "shards" / f"shard-{number}.h5"
        with open_writer(shard, MODALITIES, params, made_with) as writer:
            for video_id, frames, *split in videos:
                part, parts = split or (0, 1)
                add_video(
                    writer, made, video_id, frames, rng, part=part, parts=parts, params=params,
                    size=(HEIGHT, WIDTH),
                )  # fmt: skip
            writer.publish()
    return folder


def memory(modality: str, length: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """Array to decode into, filled with a value that shows where nothing was written."""
    height, width = size
    shape = (height, 2 * width) if modality == "flow" else (height, width, 3)
    return np.full((length, *shape), 77, np.uint8)


def planes(images: np.ndarray, modality: str) -> np.ndarray:
    return codec.images_to_planes(images, 2 if modality == "flow" else 3)


@pytest.mark.parametrize("threads", [1, 3])
def test_whole_images_equal_those_of_the_python_reader(path: Path, threads: int) -> None:
    store = open_store(path)
    requests = [(v, m, s, 3) for v in ("b", "cut", "a") for m in MODALITIES for s in (0, 3, 4)]
    outs = [memory(modality, 3) for _, modality, _, _ in requests]
    store.read_into(requests, outs, threads=threads)
    for request, out in zip(requests, outs, strict=True):
        np.testing.assert_array_equal(planes(out, request[1]), store.snippet(*request))


def test_compiled_code_reads_all_images_of_one_shard(path: Path, monkeypatch) -> None:
    store = open_store(path)
    slow: list[tuple[str, str, int, int]] = []
    plain = store.snippet
    monkeypatch.setattr(store, "snippet", lambda *r: (slow.append(r[:4]), plain(*r))[1])
    requests = [("a", "rgb", 0, 2), ("cut", "rgb", 3, 2), ("cut", "rgb", 4, 2), ("b", "flow", 1, 5)]
    store.read_into(requests, [memory(m, n) for _, m, _, n in requests])
    assert slow == [("cut", "rgb", 4, 2)]  # an image of each shard


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_crop_is_exact(path: Path, data: st.DataObject) -> None:
    store = open_store(path)
    modality = data.draw(st.sampled_from(MODALITIES))
    top = data.draw(st.integers(0, HEIGHT - 1))
    left = data.draw(st.integers(0, WIDTH - 1))
    bottom, right = (data.draw(st.integers(a + 1, b)) for a, b in ((top, HEIGHT), (left, WIDTH)))
    out = memory(modality, 2, (bottom - top, right - left))
    store.read_into([("a", modality, 1, 2)], [out], [(top, bottom, left, right)])
    whole = store.snippet("a", modality, 1, 2)
    np.testing.assert_array_equal(planes(out, modality), whole[:, :, top:bottom, left:right])


def test_other_codecs_are_read_image_by_image(tmp_path: Path) -> None:
    store = open_store(make(tmp_path / "raw", codec.RawParams()))
    out = memory("flow", 4)
    store.read_into([("b", "flow", 0, 4)], [out])
    np.testing.assert_array_equal(planes(out, "flow"), store.snippet("b", "flow", 0, 4))


@pytest.mark.parametrize("modality", MODALITIES)
def test_without_the_compiled_reader_images_are_equal(
    path: Path, monkeypatch, modality: str
) -> None:
    missing = compiled_reader.SnippetReader("not compiled")
    monkeypatch.setattr(compiled_reader, "snippet_reader", lambda: missing)
    store, out, part = open_store(path), memory(modality, 3), memory(modality, 3, (8, 9))
    store.read_into([("a", modality, 2, 3)], [out])
    whole = store.snippet("a", modality, 2, 3)
    np.testing.assert_array_equal(planes(out, modality), whole)
    store.read_into([("a", modality, 2, 3)], [part], [(4, 12, 3, 12)])
    np.testing.assert_array_equal(planes(part, modality), whole[:, :, 4:12, 3:12])
    with pytest.raises(ValueError, match="but `out` has"):
        store.read_into([("a", modality, 2, 3)], [part], [(4, 12, 3, 13)])


def test_wrong_arguments_are_refused(path: Path) -> None:
    store = open_store(path)
    with pytest.raises(IndexError, match="not inside"):
        store.read_into([("a", "rgb", 8, 2)], [memory("rgb", 2)])
    with pytest.raises(KeyError, match="no video"):
        store.read_into([("none", "rgb", 0, 2)], [memory("rgb", 2)])
    with pytest.raises(FormatError, match="but `out` has"):
        store.read_into([("a", "rgb", 0, 2)], [memory("rgb", 2)[:, :100].copy()])


@pytest.mark.parametrize(
    ("check", "at_byte", "wanted"),
    [(True, 700, "does not have its CRC"), (False, 0, "not a JPEG file")],
)
def test_damage_is_detected_and_located(
    path: Path, tmp_path: Path, check: bool, at_byte: int, wanted: str
) -> None:
    damaged = tmp_path / "store"
    shutil.copytree(path, damaged)
    payload = bytes(open_store(path).read_payloads("a", "rgb", 4, 1)[0])
    for shard in (damaged / "shards").iterdir():
        content = bytearray(shard.read_bytes())
        at = content.find(payload)
        if at >= 0:
            content[at + at_byte] ^= 1
            shard.write_bytes(content)
    store = open_store(damaged, check=check)
    with pytest.raises(FormatError, match=wanted):
        store.read_into([("a", "rgb", 0, 3), ("a", "rgb", 3, 3)], [memory("rgb", 3)] * 2)
    store.read_into([("a", "rgb", 0, 3)], [memory("rgb", 3)])  # the rest is whole
