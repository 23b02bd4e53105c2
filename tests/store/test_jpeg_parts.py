"""The compiled decoder of JPEG files: libjpeg's pixels of any part of any file, damage refused."""

from __future__ import annotations

import itertools
import math
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from store_making import open_writer, random_columns, record

from flowpipe import codec, params
from flowpipe.errors import FormatError
from flowpipe.store import compiled_reader, create_store, open_store
from flowpipe.store.reader import Store
from flowpipe.types import EncodedPlanes, Span

reader = compiled_reader.snippet_reader()
pytestmark = pytest.mark.skipif(reader.library is None, reason=reader.reason or "none")

SAMPLINGS = {
    name: getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{name}") for name in ("420", "422", "444")
}
RARE = {name: getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{name}") for name in ("411", "440")}
KINDS = ("smooth", "noise", "edges", "flat")
# several MCUs and less than one, whole ones and not, too narrow for smooth colours
SIZES = ((48, 80), (37, 51), (33, 17), (16, 16), (9, 90), (90, 5), (3, 3), (1, 1), (2, 40))


def image(kind: str, height: int, width: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A BGR image; with `edges` its coefficients have the largest possible values."""
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


def store_of(
    folder: Path, modality: str, files: list[bytes], size: tuple[int, int] | None = None
) -> Path:
    """A store with a video of two equal images for each file, of the size that its header says."""
    made_with = {"bound": 20.0, "modalities": [modality]}
    create_store(
        folder, recipe=params.canonical(made_with), recipe_digest=params.digest(made_with),
        dataset={}, class_names=("a",) * 4,
    )  # fmt: skip
    rng, shard = np.random.default_rng(2), folder / "shards" / "shard-0.h5"
    with open_writer(shard, (modality,), codec.JpegParams(), made_with) as writer:
        for number, payload in enumerate(files):
            height, width = size or simplejpeg.decode_jpeg_header(payload)[:2]
            across = width // 2 if modality == "flow" else width
            writer.begin(Span(record(f"v{number:04d}"), 0, 1))
            columns = random_columns(modality, 2, rng)
            writer.append(EncodedPlanes(modality, (payload, payload), height, across, columns))
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


def check_part(store: Store, video_id: str, modality: str, part: compiled_reader.Part) -> None:
    """The pixels of a part are those of the whole image."""
    top, bottom, left, right = part
    whole = store.snippet(video_id, modality, 0, 2)[:, :, top:bottom, left:right]
    shape = codec.images.planes_to_images(whole).shape
    room = np.full(math.prod(shape) + 128, 77, np.uint8)  # the bytes around have to stay
    out = room[64:-64].reshape(shape)
    store.read_into([(video_id, modality, 0, 2)], [out], [part])
    np.testing.assert_array_equal(codec.images_to_planes(out, whole.shape[1]), whole)
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
def test_usual_files_are_decoded_by_the_compiled_decoder(
    stores: dict[str, Store], modality: str
) -> None:
    """Otherwise all tests of pixels here would pass without the decoder."""
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
        payload = bytes(good.read_payloads(video_id, modality, 0, 1)[0])
        for _ in range(12):
            broken = bytearray(payload)
            for at in rng.integers(2, len(broken), rng.integers(1, 4)):
                broken[at] ^= 1 << int(rng.integers(8))
            files.append(bytes(broken))
        files += [payload[:length] for length in rng.integers(4, len(payload), 6)]
    whole = [payload for payload in files if has_size(payload, modality)]
    store = open_store(store_of(tmp_path / "store", modality, whole))
    read = sum(read_as_by_libjpeg(store, video_id, modality) for video_id in store.videos)
    assert 20 < read < len(whole) - 20


def read_as_by_libjpeg(store: Store, video_id: str, modality: str) -> bool:
    """Whether a file is read, to libjpeg's pixels; else both ways refuse it."""
    out = memory(store, video_id, modality, 2)
    try:
        store.read_into([(video_id, modality, 0, 2)], [out])
    except FormatError:
        with pytest.raises(FormatError):
            store.snippet(video_id, modality, 0, 2)
        return False
    planes = codec.images_to_planes(out, 2 if modality == "flow" else 3)
    np.testing.assert_array_equal(planes, store.snippet(video_id, modality, 0, 2))
    return True


def with_bits(payload: bytes, bits: str, change: Callable[[bytearray], None]) -> bytes:
    """A file whose header was changed and whose entropy-coded data are `bits`, padded with ones."""
    scan = payload.index(b"\xff\xda")
    header = bytearray(payload[: scan + 2 + payload[scan + 3]])
    change(header)
    whole = bits + "1" * (-len(bits) % 8)
    data = bytes(int(whole[k : k + 8], 2) for k in range(0, len(whole), 8))
    return bytes(header) + data.replace(b"\xff", b"\xff\x00") + b"\xff\xd9"


def no_change(header: bytearray) -> None: ...


def code_of_ones(header: bytearray) -> None:
    """Add a code of nine bits to the first table of DC, which had all but 111111111."""
    table = header.index(b"\xff\xc4")
    header[table + 3] += 1
    header[table + 5 + 8] += 1
    header.insert(table + 5 + 16 + 12, 11)


def twelve_blocks(header: bytearray) -> None:
    """Sampling factors 2x2 of all components, and the first tables for all."""
    frame, scan = header.index(b"\xff\xc0"), header.index(b"\xff\xda")
    for k in range(3):
        header[frame + 11 + 3 * k] = 0x22
        header[scan + 6 + 2 * k] = 0


# Codes of the usual first tables: DC of 0 and 6 bits, AC of 6 bits, end of the block.
DC_0, DC_6, AC_6, END = "00", "1110", "1111000", "1010"
LARGE = "110010"  # 50 in 6 bits, times 255 beyond what any image has


@pytest.mark.parametrize(
    ("change", "bits", "refused"),
    [
        (no_change, DC_0 + END, False),
        (code_of_ones, DC_0 + END, True),
        (no_change, DC_6 + LARGE + END, False),
        (no_change, DC_0 + AC_6 + LARGE + END, False),
        (no_change, DC_6 + LARGE + AC_6 + LARGE + END, False),
    ],
)
def test_gray_files_at_the_limits_of_the_format(
    tmp_path: Path, change: Callable[[bytearray], None], bits: str, refused: bool
) -> None:
    """No encoder writes such files, but each of their codes is in the file's tables."""
    plain = written(np.zeros((8, 16), np.uint8), cv2.IMWRITE_JPEG_QUALITY, 1)
    store = open_store(store_of(tmp_path / "store", "flow", [with_bits(plain, 2 * bits, change)]))
    assert read_as_by_libjpeg(store, "v0000", "flow") is not refused


def test_mcus_of_more_than_ten_blocks_are_refused(tmp_path: Path) -> None:
    plain = written(np.zeros((16, 16, 3), np.uint8), cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                    SAMPLINGS["444"])  # fmt: skip
    payload = with_bits(plain, 12 * (DC_0 + END), twelve_blocks)
    store = open_store(store_of(tmp_path / "store", "rgb", [payload], size=(16, 16)))
    assert not read_as_by_libjpeg(store, "v0000", "rgb")


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
