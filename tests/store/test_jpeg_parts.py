"""The compiled decoder of JPEG files: libjpeg's pixels of any part of any file, damage refused."""

from __future__ import annotations

import itertools
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from store_making import open_writer, random_columns, record

from flowpipe import codec, recipe
from flowpipe.errors import FormatError
from flowpipe.store import batch, create_store, open_store
from flowpipe.store.reader import Store
from flowpipe.types import EncodedPlanes, Span

reader = batch.snippet_reader()
pytestmark = pytest.mark.skipif(reader.library is None, reason=reader.reason or "none")

SAMPLINGS = {
    name: getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{name}") for name in ("420", "422", "444")
}
RARE = {name: getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{name}") for name in ("411", "440")}
KINDS = ("smooth", "noise", "edges", "flat")
# several MCUs and less than one, whole ones and not, too narrow for smooth colours
SIZES = ((48, 80), (37, 51), (33, 17), (16, 16), (9, 90), (90, 5), (3, 3), (1, 1), (2, 40))


def image(kind: str, height: int, width: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A BGR picture: with `edges` its coefficients are as large as they can be."""
    if kind == "smooth":
        coarse = rng.integers(0, 256, (4, 5, 3)).astype(np.float32)
        whole = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        return np.clip(whole, 0, 255).astype(np.uint8)
    if kind == "flat":
        return np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
    values = rng.integers(0, 256, (height, width, 3))
    return (values if kind == "noise" else values // 128 * 255).astype(np.uint8)


def written(bgr: NDArray[np.uint8], *options: int) -> bytes:
    done, payload = cv2.imencode(".jpg", bgr, options)
    assert done
    return payload.tobytes()


def colour_files(rng: np.random.Generator, samplings: dict[str, int]) -> Iterator[bytes]:
    """Files of all sizes, samplings and kinds, of any quality, with and without restart markers."""
    for (size, kind), (number, sampling) in itertools.product(
        itertools.product(SIZES, KINDS), enumerate(samplings.values())
    ):
        yield written(
            image(kind, *size, rng),
            cv2.IMWRITE_JPEG_QUALITY, int(rng.choice([1, 30, 75, 95, 100])),
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling,
            cv2.IMWRITE_JPEG_RST_INTERVAL, int(rng.choice([0, 0, 1, 2, 3, 7])),
            cv2.IMWRITE_JPEG_OPTIMIZE, number % 2,
        )  # fmt: skip


def gray_files(rng: np.random.Generator) -> Iterator[bytes]:
    """Fields as flow is stored, x left of y: of an even width."""
    for (height, width), kind in itertools.product(SIZES, KINDS):
        yield written(
            image(kind, height, 2 * width, rng)[..., 0].copy(),
            cv2.IMWRITE_JPEG_QUALITY, int(rng.choice([1, 30, 75, 95, 100])),
            cv2.IMWRITE_JPEG_RST_INTERVAL, int(rng.choice([0, 0, 1, 3, 8])),
        )  # fmt: skip


def store_of(folder: Path, modality: str, files: list[bytes]) -> Path:
    """A store with a video of two equal images for each file."""
    made_with = {"bound": 20.0, "modalities": [modality]}
    create_store(
        folder, recipe=recipe.canonical(made_with), recipe_digest=recipe.digest(made_with),
        dataset={}, class_names=("a",) * 4,
    )  # fmt: skip
    rng, shard = np.random.default_rng(2), folder / "shards" / "shard-0.h5"
    with open_writer(shard, (modality,), codec.JpegParams(), made_with) as writer:
        for number, payload in enumerate(files):
            height, width, _, _ = simplejpeg.decode_jpeg_header(payload)
            writer.begin(Span(record(f"v{number:04d}"), 0, 1))
            size = height, width // 2 if modality == "flow" else width
            columns = random_columns(modality, 2, rng)
            writer.append(EncodedPlanes(modality, (payload, payload), *size, columns))
            writer.append_pts(np.arange(3 if modality == "flow" else 2) / 25)
            writer.commit({"status": "done"})
        writer.publish()
    return folder


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    """Stores of files that the decoder reads, and of those that it leaves to libjpeg."""
    folder, rng = tmp_path_factory.mktemp("jpeg"), np.random.default_rng(1)
    files = {
        "rgb": list(colour_files(rng, SAMPLINGS)),
        "flow": list(gray_files(rng)),
        "rare": [
            *colour_files(rng, RARE),
            *(
                written(image("smooth", *size, rng), cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
                for size in SIZES
            ),
        ],
    }
    return {
        name: open_store(store_of(folder / name, "flow" if name == "flow" else "rgb", some))
        for name, some in files.items()
    }


def memory(store: Store, video_id: str, modality: str, images: int) -> NDArray[np.uint8]:
    height, width = store.videos[video_id].size[modality]
    shape = (height, 2 * width) if modality == "flow" else (height, width, 3)
    return np.full((images, *shape), 77, np.uint8)


def check_part(store: Store, video_id: str, modality: str, part: batch.Part) -> None:
    """The pixels of a part are those of the whole image."""
    top, bottom, left, right = part
    whole = store.snippet(video_id, modality, 0, 2)[:, :, top:bottom, left:right]
    shape = codec.images.as_images(whole).shape
    room = np.full(math.prod(shape) + 128, 77, np.uint8)  # the bytes around have to stay
    out = room[64:-64].reshape(shape)
    store.read_into([(video_id, modality, 0, 2)], [out], [part])
    np.testing.assert_array_equal(codec.as_planes(out, whole.shape[1]), whole)
    assert (room[:64] == 77).all() and (room[-64:] == 77).all()


@pytest.mark.parametrize("isa", ["", "baseline"])
@pytest.mark.parametrize("name", ["rgb", "flow", "rare"])
def test_whole_images_are_libjpeg_s(
    stores: dict[str, Store], name: str, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWPIPE_ISA", isa)
    store, modality = stores[name], "flow" if name == "flow" else "rgb"
    for video_id, video in store.videos.items():
        height, width = video.size[modality]
        check_part(store, video_id, modality, (0, height, 0, width))


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_any_part_of_any_file_is_exact(stores: dict[str, Store], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["rgb", "flow", "rare"]))
    store, modality = stores[name], "flow" if name == "flow" else "rgb"
    video_id = data.draw(st.sampled_from(list(store.videos)))
    height, width = store.videos[video_id].size[modality]
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom = data.draw(st.integers(top + 1, height))
    right = data.draw(st.integers(left + 1, width))
    check_part(store, video_id, modality, (top, bottom, left, right))


def usual(store: Store, modality: str) -> list[str]:
    """Videos whose colours are smooth everywhere, which takes five columns."""
    found = store.videos.items()
    return [v for v, video in found if modality == "flow" or video.size[modality][1] >= 5]


@pytest.mark.skipif(
    platform.machine() != "x86_64" or os.environ.get("FLOWPIPE_ISA") == "baseline"
    or not Path("/proc/cpuinfo").exists() or " avx2 " not in Path("/proc/cpuinfo").read_text(),
    reason="the decoder is for x86 with AVX2",
)  # fmt: skip
@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_usual_files_are_not_left_to_libjpeg(stores: dict[str, Store], modality: str) -> None:
    """Else all tests of pixels here would pass without the decoder."""
    store, count = stores[modality], reader.library.flowpipe_snippets_by_libjpeg
    before = count()
    for video_id in usual(store, modality):
        out = memory(store, video_id, modality, 2)
        store.read_into([(video_id, modality, 0, 2)], [out])
    assert count() == before
    rare = next(iter(stores["rare"].videos))
    stores["rare"].read_into([(rare, "rgb", 0, 2)], [memory(stores["rare"], rare, "rgb", 2)])
    assert count() == before + 2


def test_parts_outside_of_the_image_are_refused(stores: dict[str, Store]) -> None:
    store = stores["rgb"]
    out = memory(store, "v0000", "rgb", 1)
    height, width = store.videos["v0000"].size["rgb"]
    for part in ((0, height + 1, 0, 1), (-1, 1, 0, 1), (0, 1, 0, width + 1), (3, 2, 0, 1)):
        with pytest.raises(ValueError, match="are not within"):
            store.read_into([("v0000", "rgb", 0, 1)], [out], [part])


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_hostile_files_are_refused_or_decoded_as_by_libjpeg(
    stores: dict[str, Store], tmp_path: Path, modality: str
) -> None:
    """Bits that flip anywhere, and files that end early, with CRCs that agree."""
    rng, good = np.random.default_rng(3), stores[modality]
    files: list[bytes] = []
    for video_id in usual(good, modality)[::3]:
        payload = bytes(good.encoded(video_id, modality, 0, 1)[0])
        for _ in range(12):
            broken = bytearray(payload)
            for at in rng.integers(2, len(broken), rng.integers(1, 4)):
                broken[at] ^= 1 << int(rng.integers(8))
            files.append(bytes(broken))
        files += [payload[:length] for length in rng.integers(4, len(payload), 6)]
    whole = [payload for payload in files if has_size(payload, modality)]
    store = open_store(store_of(tmp_path / "store", modality, whole))
    read = 0
    for video_id in store.videos:
        out = memory(store, video_id, modality, 2)
        try:
            store.read_into([(video_id, modality, 0, 2)], [out])
        except FormatError:
            with pytest.raises(FormatError):
                store.snippet(video_id, modality, 0, 2)
            continue
        read += 1
        planes = codec.as_planes(out, 2 if modality == "flow" else 3)
        np.testing.assert_array_equal(planes, store.snippet(video_id, modality, 0, 2))
    assert 20 < read < len(whole) - 20


def has_size(payload: bytes, modality: str) -> bool:
    """Whether the header says of a damaged file what a store needs to list it."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(payload)
    except ValueError:
        return False
    gray = colours.upper() == "GRAY"
    return height * width < 1 << 16 and (
        gray and width % 2 == 0 if modality == "flow" else not gray
    )
