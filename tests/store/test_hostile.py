"""No content of a file crashes or misleads the reader: flips are found, hostile files refused."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowpipe import codec
from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.store import open_store, verify_store
from flowpipe.store.catalogue import Catalogue
from flowpipe.store.compiled_reader import snippet_reader
from flowpipe.store.index import open_catalogue
from flowpipe.store.index_file import Shards, read_index, write_index
from flowpipe.store.manifest import read_manifest
from flowpipe.store.seal import compute_seal
from flowpipe.store.shard import read_shard
from flowpipe.store.texts import PackedMeta, PackedStrings, pack_metas

FLIPS = int(os.environ.get("FLOWPIPE_FUZZ", "150"))


def answers(store: Path) -> list[bytes]:
    """Everything that a reader can read, as bytes."""
    opened, said = open_store(store, refresh=False), []
    for video_id, video in opened.videos.items():
        said += [video_id.encode(), repr((video.meta, video.frames, video.images)).encode()]
        said.append(video.pts_s.tobytes())
        for modality, count in video.images.items():
            planes = opened.snippet(video_id, modality, 0, count)
            out = np.zeros_like(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)))
            if modality == "rgb":
                opened.read_into([(video_id, modality, 0, count)], [out])
            said += [planes.tobytes(), out.tobytes(), repr(opened.quantiser(modality)).encode()]
        for name in ("clipped", "homography", "matches", "inliers"):
            said.append(opened.column(video_id, "warped_flow", name).tobytes())
    return said


@pytest.fixture
def small_store(made_once, tmp_path):
    return made_once(
        tmp_path / "store", [("a", 7), ("s", 5, 0, 2)], [("b", 4), ("s", 4, 1, 2)],
        modalities=("rgb", "warped_flow"), params=codec.JpegParams(),
    )  # fmt: skip


@pytest.mark.parametrize("target", ["index", "shard"])
@pytest.mark.parametrize("keep_time", [True, False])
def test_every_flip_is_detected_or_gives_the_same_answer(small_store, rng, target, keep_time):
    open_store(small_store.path)
    truth = answers(small_store.path)
    path = small_store.path / "index.h5" if target == "index" else small_store.shards[0]
    whole, status = path.read_bytes(), path.stat()
    used = np.flatnonzero(np.frombuffer(whole, np.uint8))
    detected = 0
    for number in range(FLIPS):
        at = int(rng.choice(used) if number % 3 else rng.integers(len(whole)))
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        if keep_time:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        try:
            found = answers(small_store.path)
        except FlowpipeError:
            detected += 1
        else:
            assert found == truth, f"a flip at byte {at} changed an answer"
    assert target == "index" or detected > FLIPS / 4


@pytest.mark.parametrize(
    "table", ["columns/rgb/first", "columns/shard", "whole", "shards/facts/blob"]
)
def test_a_changed_index_is_not_used(small_store, table):
    open_store(small_store.path)
    with h5py.File(small_store.path / "index.h5", "r+") as file:
        file[table][0] = file[table][0] ^ 1
    with pytest.raises(FormatError, match="does not have its CRC"):
        read_index(small_store.path)


def edit(shard: Path, change: Callable[[h5py.File], None]) -> None:
    """Change a shard as an attacker would who can compute its seal."""
    with h5py.File(shard, "r+") as file:
        change(file)
        try:
            file.attrs.modify("seal", compute_seal(file))
        except Exception as error:
            print(f"not sealed: {error!r}")


def external(file: h5py.File) -> None:
    del file["frames/pts_s"]
    file["frames"].create_dataset("pts_s", (9,), "<f8", external=[("/etc/passwd", 0, 72)])


def soft_link(file: h5py.File) -> None:
    file.move("frames/pts_s", "elsewhere")
    file["frames/pts_s"] = h5py.SoftLink("/elsewhere")


def external_link(file: h5py.File) -> None:
    del file["frames/pts_s"]
    file["frames/pts_s"] = h5py.ExternalLink("other.h5", "/pts_s")


def virtual(file: h5py.File) -> None:
    del file["frames/pts_s"]
    layout = h5py.VirtualLayout((9,), "<f8")
    layout[:] = h5py.VirtualSource("other.h5", "pts_s", (9,))
    file["frames"].create_virtual_dataset("pts_s", layout)


def bomb(file: h5py.File) -> None:
    file.create_dataset("bomb", ((1 << 30) + 1,), "u1", chunks=(1 << 20,), compression="gzip")


def far_offsets(file: h5py.File) -> None:
    file["streams/rgb/offset"][-1] = 1 << 40


def backward_offsets(file: h5py.File) -> None:
    file["streams/rgb/offset"][2] = (1 << 64) - 8


def far_frames(file: h5py.File) -> None:
    file["videos/frame_first"][1] = (1 << 63) + 5


def far_images(file: h5py.File) -> None:
    file["streams/warped_flow/first"][0] = 1 << 62


def odd_meta(file: h5py.File) -> None:
    file["videos/meta"][0] = '{"record": null}'


def deep_meta(file: h5py.File) -> None:
    file["videos/meta"][0] = "[" * 100_000


def deep_backend(file: h5py.File) -> None:
    file.attrs["backend"] = "[" * 20_000


def backend_without_names(file: h5py.File) -> None:
    file.attrs["backend"] = "3"


def codec_without_names(file: h5py.File) -> None:
    file["streams/rgb"].attrs["codec"] = '["jpeg"]'


def with_meta(**changes: object) -> Callable[[h5py.File], None]:
    """Change values of the meta of the first video, or of its record; None for gone."""

    def change(file: h5py.File) -> None:
        meta = json.loads(file["videos/meta"][0])
        for name, value in changes.items():
            inner = meta["record"] if name in RECORD else meta
            inner[name] = value
            if value is None:
                del inner[name]
        file["videos/meta"][0] = json.dumps(meta)

    return change


RECORD = ("labels", "splits", "segments", "ambiguous", "path")


def odd_text(file: h5py.File) -> None:
    file["videos/video_id"][0] = b"\xff\xfe"


@pytest.mark.parametrize(
    "change",
    [
        external, soft_link, external_link, virtual, bomb, far_offsets, backward_offsets,
        far_frames, far_images, odd_meta, deep_meta, odd_text, deep_backend, backend_without_names,
        codec_without_names, with_meta(labels=["a"]), with_meta(labels=7), with_meta(path=None),
        with_meta(segments=[{"label": 1}]), with_meta(ambiguous=[[1]]), with_meta(splits=[3]),
        with_meta(source=[]), with_meta(facts="x"), with_meta(clipped_share=None),
    ],
)  # fmt: skip
def test_a_hostile_shard_is_refused(small_store, change):
    edit(small_store.shards[0], change)
    with pytest.raises(FormatError):
        answers(small_store.path)


@pytest.mark.parametrize("meta", ["", "[" * 20_000, "3", "{}", '{"record": {"video_id": "a"}}'])
def test_metas_of_a_hostile_index_are_refused(small_store, meta):
    """An attacker who can write the index can compute its digests too."""
    header = open_store(small_store.path).header
    opened = open_catalogue(small_store.path, header.recipe_digest)
    table = opened.catalogue.table
    blocks = pack_metas([meta] * len(table.ids)) * len(table.metas.blocks)
    metas = PackedMeta(PackedStrings.pack(blocks), np.array([zlib.crc32(b) for b in blocks], "<u4"))
    forged = Catalogue(list(opened.catalogue.shards), replace(table, metas=metas))
    write_index(small_store.path, forged, opened.sources)
    store = open_store(small_store.path)
    for name in ("meta", "record", "labels", "splits", "segments", "clipped_share", "subset"):
        with pytest.raises(FormatError):
            getattr(store.videos["a"], name)


@pytest.mark.parametrize(
    "change",
    [
        {"streams": []},
        {"backend": 3},
        {"size": "x"},
        {"streams": {"rgb": {"images": -1}}},
        {"a": 1},
    ],
)
def test_shards_of_a_hostile_index_are_refused(small_store, change):
    header = open_store(small_store.path).header
    opened = open_catalogue(small_store.path, header.recipe_digest)
    facts = [json.dumps({**asdict(one), **change}) for one in opened.catalogue.shards]
    shards = Shards(
        [one.name for one in opened.catalogue.shards], np.zeros(2, "<u8"), np.zeros(2, "<i8"),
        PackedStrings.pack([text.encode() for text in facts]),
    )  # fmt: skip
    with pytest.raises(FormatError):
        shards[0]


@pytest.mark.parametrize("record", [{}, {"video_id": "a"}, {"video_id": "a", "path": 3}, None])
def test_records_of_a_hostile_manifest_are_ignored_and_reported(small_store, record):
    name, seal = next((f.name, f.seal) for f in open_store(small_store.path).catalogue.shards)
    (log,) = (small_store.path / "manifest").iterdir()
    number = len(log.read_bytes().splitlines())
    values = {"n": number, "utc_ns": 1, "relabel": name, "seal": seal, "records": [record]}
    content = json.dumps(values).encode()
    with log.open("ab") as file:
        file.write(b"%08x %s\n" % (zlib.crc32(content), content))
    assert open_store(small_store.path).videos["a"].labels == (3, 1)
    assert any("line of the manifest" in fault for fault in read_manifest(small_store.path).faults)
    assert not verify_store(small_store.path).ok


@pytest.mark.parametrize("kind", ["pipe", "folder", "/dev/zero"])
@pytest.mark.parametrize("target", ["index.h5", "shards/odd.h5"])
def test_odd_files_are_refused_before_they_are_read(small_store, kind, target):
    path = small_store.path / target
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(kind)
    if target == "index.h5":
        assert list(open_store(small_store.path).videos) == ["a", "b", "s"]
    else:
        with pytest.raises(FormatError):
            open_store(small_store.path)


def test_a_shard_cut_in_place_under_a_reader_is_an_error(small_store):
    store = open_store(small_store.path)
    out = np.zeros((1, 6, 8, 3), np.uint8)
    store.read_into([("a", "rgb", 0, 1)], [out])
    for keep in (3_000, 0):
        os.truncate(small_store.shards[0], keep)
        with pytest.raises(FormatError):
            store.snippet("a", "rgb", 0, 7)
        with pytest.raises(FormatError):
            store.read_into([("a", "rgb", 1, 1)], [out])


@pytest.mark.skipif(snippet_reader().library is None, reason="the compiled reader was not built")
def test_the_compiled_reader_bounds_every_number(small_store):
    """Offsets that change after the store was opened raise an error and allocate no memory."""
    store = open_store(small_store.path)
    out = np.zeros((2, 6, 8, 3), np.uint8)
    store.read_into([("a", "rgb", 0, 2)], [out])
    at = read_shard(small_store.shards[0]).streams["rgb"].at["offset"]
    status = small_store.shards[0].stat()
    for value in (0, 1 << 33, 1 << 63, (1 << 64) - 1):
        for k in (0, 1, 2):
            with small_store.shards[0].open("r+b") as file:
                file.seek(at + 8 * k)
                before = file.read(8)
                file.seek(at + 8 * k)
                file.write(value.to_bytes(8, "little"))
            os.utime(small_store.shards[0], ns=(status.st_atime_ns, status.st_mtime_ns))
            if int.from_bytes(before, "little") != value:
                with pytest.raises(FormatError):
                    store.read_into([("a", "rgb", 0, 2)], [out])
            with small_store.shards[0].open("r+b") as file:
                file.seek(at + 8 * k)
                file.write(before)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, "null", "[]", '{"format": "flowpipe-store"}', "\xff",
        '{"format": "flowpipe-store", "format_version": 1}',
    ],
)  # fmt: skip
def test_a_hostile_header_is_refused(small_store, text):
    (small_store.path / "store.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError, match=r"store\.json"):
        open_store(small_store.path)


def test_a_recipe_that_is_no_object_is_refused(small_store):
    path = small_store.path / "store.json"
    values = json.loads(path.read_text())
    values["recipe"], values["recipe_digest"] = "null", hashlib.sha256(b"null").hexdigest()
    path.write_text(json.dumps(values))
    with pytest.raises(FormatError, match="must hold an object"):
        open_store(small_store.path)
    assert not verify_store(small_store.path).ok
