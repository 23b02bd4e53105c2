"""FORMAT.md, clause by clause: each test breaks or uses the clause of its number."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from checkout import ROOT
from store_making import QUANTISERS, RECIPE, Made, add_video, open_writer, record

import flowpipe
from flowpipe import codec, params
from flowpipe.errors import FlowpipeWarning, FormatError
from flowpipe.modality import MODALITIES, START_S
from flowpipe.store import (
    ShardWriter,
    StreamSpec,
    compiled_reader,
    layout,
    open_store,
    verify_store,
)
from flowpipe.store.check import check_shard
from flowpipe.store.manifest import log_records, read_manifest
from flowpipe.store.seal import compute_seal
from flowpipe.store.shard import read_shard
from flowpipe.types import EncodedPlanes, Span, VideoRecord

FORMAT = (Path(flowpipe.__file__).parent / "store" / "FORMAT.md").read_text(encoding="utf-8")


def edit(path: Path, change: Callable[[h5py.File], Any]) -> Path:
    """Change a shard and seal it again, as a faulty writer would."""
    with h5py.File(path, "r+", locking=False) as file:
        change(file)
        file.attrs.modify("seal", compute_seal(file))
    return path


def replace_table(file: h5py.File, name: str, values: Any, **how: Any) -> None:
    del file[name]
    file.create_dataset(name, data=values, **how)


def clauses(path: Path, decode: bool = False) -> set[str]:
    digest = params.digest(RECIPE)
    return {clause for _, clause, _ in check_shard(path, digest, decode)["faults"]}


@pytest.fixture
def shard(made_once, tmp_path) -> Path:
    two = [("a", 5), ("b", 3)]
    (path,) = made_once(tmp_path / "store", two, modalities=tuple(MODALITIES)).shards
    return path


def test_the_writer_keeps_every_clause(shard):
    assert clauses(shard, decode=True) == set()


def test_every_clause_has_a_test():
    numbers = re.findall(r"^- \*\*(S\d\d)\*\*", FORMAT, re.MULTILINE)
    assert numbers == [f"S{n:02d}" for n in range(1, len(numbers) + 1)]
    tests = {m[1] for name in globals() if (m := re.match(r"test_(S\d\d)_", name))}
    assert tests == set(numbers)


LEAF = re.compile(r"( +)(\w+)(/| +\(([\w,+]+)\) +(\S+))(?: {2,}(.*))?")
"""A line of section 3: a group, or a table with its shape and type, and what it holds."""


def documented_tables() -> dict[str, tuple[str, np.dtype[Any] | str, str]]:
    """Shape, type and description of every table of section 3, by path."""
    tree = FORMAT.split("## 3. The shard")[1].split("### The file")[0].split("```")[1]
    group: list[str] = []
    found = {}
    for line in tree.splitlines():
        if (leaf := LEAF.fullmatch(line)) is not None:
            depth, name, shape, dtype = len(leaf[1]) // 2, leaf[2], leaf[4], leaf[5]
            group = [*group[: depth - 1], name]
            if shape:
                kind = dtype if dtype == layout.TEXT else np.dtype(dtype)
                found["/".join(group)] = shape, kind, leaf[6] or ""
    return found


def declared_tables() -> dict[str, tuple[str, np.dtype[Any] | str]]:
    """Shape and type of every table that `layout` declares, by path."""
    tables = {layout.VIDEOS: layout.VIDEO_TABLES, layout.FRAMES: (layout.PTS,)}
    of_images = dict.fromkeys(t for name in MODALITIES for t in layout.image_tables(name))
    tables[f"{layout.STREAMS}/MODALITY"] = (*layout.ENTRY_TABLES, *of_images, layout.BYTES)
    return {
        f"{group}/{t.name}": (
            ",".join([t.rows, *map(str, t.shape or [""])]),
            t.dtype if t.dtype == layout.TEXT else np.dtype(t.dtype),
        )
        for group, some in tables.items()
        for t in some
    }


def test_the_document_lists_the_tables_that_layout_declares():
    documented = documented_tables()
    assert {path: facts[:2] for path, facts in documented.items()} == declared_tables()
    for name, row in MODALITIES.items():
        for column in row.columns:
            of = documented[f"streams/MODALITY/{column.name}"][2].partition(":")[0]
            assert name in of.split(", "), (name, column.name)
    assert f"version {layout.FORMAT_VERSION}" in FORMAT.splitlines()[0]


def clause_text(number: str) -> str:
    """The text of a clause, without its number."""
    return re.search(rf"^- \*\*{number}\*\*(.*?)(?=^- \*\*|^#)", FORMAT, re.M | re.S)[1]


def test_the_document_lists_the_attributes_that_layout_declares(made_once, tmp_path):
    lists = clause_text("S07").partition("on `/`:")[2]
    assert tuple(re.findall(r"`(\w+)`", lists)) == layout.ROOT_ATTRS
    declared = layout.stream_attributes("flow", {}, {})
    lists = clause_text("S15").partition("attributes")[2].partition(". All shards")[0]
    named = [name for name in re.findall(r"`(\w+)`", lists) if name != "name"]  # a key of codec
    assert named == list(declared)
    whole = re.search(r"`(\w+)` and `(\w+)` \(integers\)", lists)
    assert set(whole.groups()) == {name for name, value in declared.items() if type(value) is int}
    assert all(f"`{key}`" in clause_text("S14") for key in layout.META_KEYS)
    made = made_once(tmp_path / "store", [("a", 5)], modalities=("flow",))
    keys = json.loads((made.path / layout.STORE_FILE).read_text())
    assert set(re.findall(r"`(\w+)`", clause_text("S01"))) - {"recipe"} == set(keys) - {"recipe"}


def test_a_shard_has_the_tables_and_attributes_that_layout_declares(shard):
    wanted = {f"{layout.VIDEOS}/{t.name}": t for t in layout.VIDEO_TABLES}
    wanted[f"{layout.FRAMES}/{layout.PTS.name}"] = layout.PTS
    for name in MODALITIES:
        tables = (*layout.ENTRY_TABLES, *layout.image_tables(name), layout.BYTES)
        wanted |= {f"{layout.STREAMS}/{name}/{t.name}": t for t in tables}
    paths: list[str] = []
    with h5py.File(shard) as file:
        file.visit(paths.append)
        tables = {path: file[path] for path in paths if isinstance(file[path], h5py.Dataset)}
        assert set(tables) == set(wanted)
        for path, table in wanted.items():
            is_text = h5py.check_string_dtype(tables[path].dtype) is not None
            assert is_text == (table.dtype == layout.TEXT)
            assert is_text or tables[path].dtype == table.dtype
            assert tables[path].shape[1:] == table.shape
        assert set(file.attrs) == set(layout.ROOT_ATTRS)
        for name in MODALITIES:
            attributes = dict(file[layout.STREAMS][name].attrs)
            codec_of, quantiser = (json.loads(attributes[key]) for key in ("codec", "quantiser"))
            assert attributes == layout.stream_attributes(name, codec_of, quantiser)
        plain = [path for path in paths if path not in {f"streams/{name}" for name in MODALITIES}]
        assert not any(len(file[path].attrs) for path in plain)


def test_the_compiled_reader_reads_the_types_that_layout_declares():
    kernels = ROOT / "kernels" / "cpu"
    source, of_crop = ((kernels / name).read_text() for name in ("snippets.cpp", "jpeg_part.h"))
    fields = re.search(r"struct Snippet \{(.*?)\};", source, re.DOTALL)[1]
    crop = re.search(r"struct JpegPart \{(.*?)\};", of_crop, re.DOTALL)[1]
    lists = re.findall(r"(?:int64_t |uint8_t \*)([\w, ]+);", fields.replace("JpegPart part;", crop))
    names = tuple(name for some in lists for name in some.split(", "))
    assert names == compiled_reader.SNIPPET.names
    for table, kind in ((layout.OFFSET, "offsets"), (layout.CRC, "crcs")):
        bits = 8 * table.row.itemsize
        assert f"auto {kind} = reinterpret_cast<const uint{bits}_t *>" in source


def test_the_worked_example_of_the_document_is_right(tmp_path):
    made_with, raw = {"bound": 20.0}, codec.RawParams()
    path = tmp_path / "shard-example.h5"
    with ShardWriter(
        path, recipe=params.canonical(made_with), recipe_digest=params.digest(made_with),
        backend={}, streams={"flow": StreamSpec(raw, {"bound": 20.0, "zero_level": 128})},
    ) as writer:  # fmt: skip
        for video_id, frames, base in (("walk", 3, 0x20), ("run", 2, 0x60)):
            writer.begin(Span(VideoRecord(video_id, "")))
            values = np.arange((frames - 1) * 12).reshape(-1, 2, 2, 3) + base
            payloads = codec.encode(values.astype(np.uint8), raw)
            columns = {"clipped": np.zeros(frames - 1, "<u4")}
            writer.append(EncodedPlanes("flow", payloads, 2, 3, columns))
            writer.append_pts(np.arange(frames) / 25)
            writer.commit({})
        writer.publish()
    example = FORMAT.split("## 8.")[1]
    with h5py.File(path) as file:
        for name in re.findall(r"^/(\S+) +\S", example, re.MULTILINE):
            values = file[name].asstr()[:] if name.endswith("_id") else file[name][:]
            form = "{:08x}" if name.endswith("crc32") else "{}"
            line = re.search(rf"^/{name} +(.*)$", example, re.MULTILINE)[1]
            assert line == " ".join(form.format(v) for v in values.tolist()), name
        content = file["streams/flow/bytes"][:].tobytes().hex(" ")
    lines = re.findall(r"^  (50 35 [0-9a-f ]+)$", example, re.MULTILINE)
    assert " ".join(lines) == content


def test_three_lines_read_an_image(make_store, monkeypatch, tmp_path):
    """The code of section 4 runs unchanged."""
    made = make_store([("a", 5)], params=codec.JpegParams())
    code = re.search(r"## 4\..*?```python\n(.*?)```", FORMAT, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    shards = tmp_path / "STORE" / "shards"
    shards.mkdir(parents=True)
    shutil.copy(made.shards[0], shards / "shard-example.h5")
    names: dict[str, Any] = {}
    exec(code, names)
    planes = codec.decode([names["payload"]], 2)
    np.testing.assert_array_equal(planes, open_store(made.path).snippet("a", "flow", 0, 1))


def test_the_seal_is_that_of_section_5(shard):
    """The test computes the seal by the text of section 5."""

    def text(value: str) -> bytes:
        return len(value.encode()).to_bytes(8, "little") + value.encode()

    stream = b""
    with h5py.File(shard) as file:
        paths: list[str] = []
        file.visit(paths.append)
        for path in ["/", *sorted(paths)]:
            node = file[path]
            stream += text(path)
            for name in sorted(set(node.attrs) - {"seal"}):
                stream += text(name) + text(str(node.attrs[name]))
            if isinstance(node, h5py.Group):
                continue
            is_text = node.dtype.kind == "O"
            stream += text("text" if is_text else node.dtype.str) + text(str(node.shape))
            if is_text:
                stream += b"".join(text(value) for value in node.asstr()[:])
            elif not path.endswith("/bytes"):
                stream += node[()].tobytes()
        assert file.attrs["seal"] == hashlib.sha256(stream).hexdigest()


@pytest.mark.parametrize("key", ["format", "recipe", "class_names", "dataset", "created_utc"])
def test_S01_store_json(make_store, key):
    made = make_store([("a", 5)])
    path = made.path / "store.json"
    values = json.loads(path.read_text())
    del values[key]
    path.write_text(json.dumps(values))
    with pytest.raises(FormatError, match="S01"):
        open_store(made.path)
    assert "S01" in {p.clause for p in verify_store(made.path).problems}
    path.write_bytes(b"\xff{")
    assert "S01" in {p.clause for p in verify_store(made.path).problems}


def test_S02_recipe_digest(make_store, shard):
    edit(shard, lambda f: f.attrs.modify("recipe", '{"bound":15.0}'))
    assert clauses(shard) == {"S02"}
    path = shard.parent.parent / "store.json"
    path.write_text(path.read_text().replace("20.0", "15.0"))
    with pytest.raises(FormatError, match="S02"):
        open_store(path.parent)


def test_S03_other_files_are_ignored(make_store):
    made = make_store([("a", 5)])
    for name in (".shard-x.h5.host~1~00000000.tmp", ".x.h5", "x.h5.part", "notes.txt", "-x.h5"):
        (made.path / "shards" / name).write_bytes(b"no shard")
    assert len(open_store(made.path).shards) == 1 and verify_store(made.path).ok


def test_S04_one_recipe(make_store, rng):
    made = make_store([("a", 5)])
    other = made.path / "shards" / "other.h5"
    with open_writer(other, made_with={"bound": 15.0}) as writer:
        add_video(writer, Made(made.path), "b", 4, rng)
        writer.publish()
    assert clauses(other) == {"S04"}
    with pytest.warns(FlowpipeWarning, match="S04"):
        store = open_store(made.path)
    assert list(store.videos) == ["a"] and list(store.broken) == ["other.h5"]


def test_S05_published_whole_and_never_written_to(make_store, monkeypatch, rng, tmp_path):
    """Under its final name a shard is complete from the start, also when it is replaced."""
    made = make_store([("a", 5)])
    seen, replace = [], Path.replace

    def watch(self: Path, target: Path) -> Path:
        seen.append((check_shard(self, params.digest(RECIPE), True)["faults"], self.parent))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watch)
    before = made.shards[0].read_bytes()
    with made.shards[0].open("rb") as reader, open_writer(made.shards[0]) as writer:
        add_video(writer, Made(made.path), "b", 4, rng)
        assert made.shards[0].read_bytes() == before
        writer.publish()
        assert reader.read() == before  # who has it open keeps the old one
    assert seen == [([], made.shards[0].parent)]


def test_S06_index_is_derived(make_store):
    made = make_store([("a", 5), ("b", 3)])
    open_store(made.path)
    with h5py.File(made.path / "index.h5", "r+") as file:
        file["columns/frames"][:] = 99
    assert {p.clause for p in verify_store(made.path).problems} == {"S06"}
    (made.path / "index.h5").unlink()
    assert open_store(made.path).videos["a"].frames == 5 and verify_store(made.path).ok


@pytest.mark.parametrize("name", layout.ROOT_ATTRS)
def test_S07_root_attributes(shard, name):
    with h5py.File(shard, "r+") as file:
        del file.attrs[name]
    assert clauses(shard) == {"S07"}


def test_S08_seal(shard):
    with h5py.File(shard, "r+") as file:
        file["streams/flow"].attrs["quantiser"] = '{"bound":15.0}'
    assert clauses(shard) == {"S08"}
    with h5py.File(shard, "r+") as file:
        file.attrs["seal"] = layout.UNSEALED
    assert clauses(shard) == {"S08"}


@pytest.mark.parametrize(
    "change",
    [
        lambda f: replace_table(f, "frames/pts_s", f["frames/pts_s"][:], chunks=(2,)),
        lambda f: replace_table(f, "frames/pts_s", f["frames/pts_s"][:].astype(">f8")),
        lambda f: replace_table(f, "streams/flow/crc32", f["streams/flow/crc32"][:].astype("<u8")),
        lambda f: replace_table(f, "streams/flow/offset", f["streams/flow/offset"][:-1]),
        lambda f: replace_table(f, "videos/parts", [1, 1, 1], dtype="<u4"),
        lambda f: f.__delitem__("videos/meta"),
        lambda f: f.__delitem__("frames"),
        lambda f: replace_table(f, "streams/flow/bytes", f["streams/flow/bytes"][:].astype("<u2")),
        lambda f: replace_table(f, "streams/flow/bytes", f["streams/flow/bytes"][:].reshape(1, -1)),
        lambda f: replace_table(
            f, "streams/rgb/bytes", f["streams/rgb/bytes"][:], compression="gzip"
        ),
    ],
)
def test_S09_datasets(shard, change):
    assert clauses(edit(shard, change)) == {"S09"}


def test_S10_video_ids(shard):
    text = h5py.string_dtype()
    edit(shard, lambda f: replace_table(f, "videos/video_id", ["a", ""], dtype=text))
    assert "S10" in clauses(shard)
    edit(shard, lambda f: replace_table(f, "videos/video_id", ["a", "x" * 241], dtype=text))
    assert "S10" in clauses(shard)
    edit(shard, lambda f: replace_table(f, "videos/video_id", ["a", b"\xff\xfe"], dtype=text))
    assert clauses(shard) & {"S08", "S10"}


def test_S11_parts(shard):
    edit(shard, lambda f: replace_table(f, "videos/part", [0, 1], dtype="<u4"))
    assert "S11" in clauses(shard)
    edit(shard, lambda f: replace_table(f, "videos/part", [0, 0], dtype="<u4"))
    edit(
        shard, lambda f: replace_table(f, "videos/video_id", ["a", "a"], dtype=h5py.string_dtype())
    )
    assert "S11" in clauses(shard)


@pytest.mark.parametrize("values", [[0, 4], [1, 5], [5, 0]])
def test_S12_frames_follow_each_other(shard, values):
    edit(shard, lambda f: replace_table(f, "videos/frame_first", values, dtype="<u8"))
    assert "S12" in clauses(shard)


@pytest.mark.parametrize("value", [0.1, float("nan"), float("inf"), -1.0])
def test_S13_timestamps(shard, value):
    def change(file: h5py.File) -> None:
        file["frames/pts_s"][1] = value

    assert clauses(edit(shard, change)) == {"S13"}


@pytest.mark.parametrize("meta", ["{}", "no json", "[]", '{"record":{"video_id":"x"}}'])
def test_S14_meta(shard, meta):
    text = h5py.string_dtype()
    edit(shard, lambda f: replace_table(f, "videos/meta", [f["videos/meta"][0], meta], dtype=text))
    assert clauses(shard) == {"S14"}
    edit(shard, lambda f: replace_table(f, "videos/status", ["done", "perhaps"], dtype=text))
    assert clauses(shard) == {"S14"}


def test_S15_streams(shard, make_store, tmp_path):
    edit(shard, lambda f: f["streams/flow"].attrs.modify("codec", '{"name":"gif"}'))
    assert "S15" in clauses(shard)
    with h5py.File(shard, "r+") as file:
        del file["streams/flow"].attrs["quantiser"]
    assert clauses(edit(shard, lambda f: None)) == {"S15"}
    few = make_store([("a", 5)], modalities=("rgb",), path=tmp_path / "few")
    more = make_store([("b", 5)], path=tmp_path / "more")
    shutil.copy(more.shards[0], few.path / "shards" / "more.h5")
    problems = verify_store(few.path).problems
    assert [(p.shard, p.clause) for p in problems] == [(few.shards[0].name, "S15")]


@pytest.mark.parametrize("name", layout.stream_attributes("rgb", {}, {}))
def test_S15_attributes(shard, name):
    with h5py.File(shard, "r+") as file:
        before = file["streams/rgb"].attrs[name]
        del file["streams/rgb"].attrs[name]
    assert clauses(edit(shard, lambda f: None)) == {"S15"}
    edit(shard, lambda f: f["streams/rgb"].attrs.create(name, before))
    assert clauses(shard) == set()
    if not isinstance(before, str):
        edit(shard, lambda f: f["streams/rgb"].attrs.modify(name, before + 1))
        assert clauses(shard) == {"S15"}


@pytest.mark.parametrize(("at", "value"), [(0, 1), (2, 0), (-1, 10**9)])
def test_S16_offsets(shard, at, value):
    def change(file: h5py.File) -> None:
        file["streams/flow/offset"][at] = value

    assert "S16" in clauses(edit(shard, change))


def test_S17_crc(shard):
    def change(file: h5py.File) -> None:
        file["streams/rgb/bytes"][100] ^= 1

    assert clauses(edit(shard, change)) == {"S17"}


def test_S18_payloads_are_images(make_store, tmp_path):
    import cv2

    made = make_store([("a", 5)], params=codec.JpegParams(), modalities=("rgb", "flow"))
    planes = made.planes["a"]
    with h5py.File(made.shards[0]) as file:
        for name, shape in (("rgb", (6, 8, 3)), ("flow", (6, 16))):
            stream = file["streams"][name]
            a, b = stream["offset"][1:3]
            image = cv2.imdecode(stream["bytes"][a:b], cv2.IMREAD_UNCHANGED)
            assert image.shape == shape and len(planes[name]) == stream["crc32"].size
    edit(made.shards[0], lambda f: f["streams/rgb/height"].__setitem__(0, 7))
    assert clauses(made.shards[0]) == {"S18"}


@pytest.mark.parametrize("values", [[0, 3], [1, 4], [4, 0]])
def test_S19_images_follow_each_other(shard, values):
    edit(shard, lambda f: replace_table(f, "streams/flow/first", values, dtype="<u8"))
    assert "S19" in clauses(shard)


FRAMED = [name for name, row in MODALITIES.items() if not row.from_sound]


@pytest.mark.parametrize("modality", FRAMED)
def test_S20_alignment(shard, modality, make_store, tmp_path):
    context = MODALITIES[modality].context
    with h5py.File(shard) as file:
        assert file[f"streams/{modality}/count"][:].tolist() == [5 - context, 3 - context]
        assert ("frames k and k + 1" in file[f"streams/{modality}"].attrs["alignment"]) == context
    split = make_store(
        [("s", 4, 0, 2), ("s", 3, 1, 2)], modalities=(modality,), path=tmp_path / "s"
    )
    with h5py.File(split.shards[0]) as file:
        assert file[f"streams/{modality}/count"][:].tolist() == [4, 3 - context]
    assert open_store(split.path).videos["s"].images == {modality: 7 - context}

    def change(file: h5py.File) -> None:
        for name, column in file[f"streams/{modality}"].items():
            if column.shape[0] == 8 - 2 * context and name not in ("first", "count"):
                replace_table(file, f"streams/{modality}/{name}", column[:-1])
        stream = file[f"streams/{modality}"]
        stream["count"][1] -= 1
        replace_table(file, f"streams/{modality}/offset", stream["offset"][:-1])

    assert clauses(edit(shard, change)) >= {"S20"}


def test_S21_sizes(shard):
    edit(shard, lambda f: f["streams/flow/width"].__setitem__(1, 0))
    assert clauses(shard) == {"S21"}


def test_S22_columns(shard):
    with h5py.File(shard) as file:
        for name, row in MODALITIES.items():
            for column in row.columns:
                table = file[f"streams/{name}/{column.name}"]
                images = file[f"streams/{name}/crc32"].size
                assert table.dtype == column.dtype and table.shape == (images, *column.shape)
    edit(shard, lambda f: f.__delitem__("streams/warped_flow/homography"))
    assert clauses(shard) == {"S09"}


def test_S23_parts_join(make_store, tmp_path, rng):
    made = make_store([("s", 4, 0, 2), ("t", 4, 0, 2)], [("s", 3, 1, 2)])
    store = open_store(made.path)
    assert list(store.videos) == ["s"] and store.incomplete == ("t",)
    assert np.all(np.diff(store.videos["s"].pts_s) > 0)
    (problem,) = verify_store(made.path).problems
    assert (problem.clause, problem.video_id) == ("S23", "t")
    edit(made.shards[1], lambda f: f["frames/pts_s"].__setitem__(slice(None), [0.0, 0.1, 0.2]))
    assert {(p.clause, p.video_id) for p in verify_store(made.path).problems} == {
        ("S23", "s"), ("S23", "t"), ("S28", ""),
    }  # fmt: skip


def test_S24_choice_among_copies(make_store, tmp_path):
    made = make_store([("s", 4, 0, 2), ("s", 3, 1, 2), ("x", 3)], [("y", 3)])
    whole = make_store([("s", 7), ("x", 5)], path=tmp_path / "whole")
    shutil.copy(whole.shards[0], made.path / "shards" / "shard-z.h5")
    store = open_store(made.path)
    assert store.videos["s"].parts == 1 and store.videos["s"].shards == ("shard-z.h5",)
    assert store.videos["x"].frames == 3  # the first shard by name
    assert list(store.videos) == ["s", "x", "y"] and verify_store(made.path).ok


def test_S25_quantiser(make_store):
    made = make_store([("a", 5)], modalities=tuple(MODALITIES))
    store = open_store(made.path)
    assert store.quantiser("rgb") == {} and store.quantiser("flow") == QUANTISERS["flow"]
    planes = made.planes["a"]
    flow = store.flow("a", "flow", 0, 4)
    np.testing.assert_allclose(flow, planes["flow"] * (40 / 255) - 20, atol=2e-6)
    again = np.rint((np.clip(flow.astype(float), -20, 20) + 20) * 255 / 40)
    np.testing.assert_array_equal(again, planes["flow"])
    difference = store.values("a", "rgb_diff", 0, 4)
    np.testing.assert_array_equal(difference, planes["rgb_diff"].astype(int) - 128)


def test_S26_versions(shard):
    store = shard.parent.parent

    def later(file: h5py.File) -> None:
        file.attrs["format_version"] = "1.7"
        file.attrs["mood"] = "new"
        file["videos/colour"] = np.zeros(2)
        file["streams/flow/sharpness"] = np.zeros(6)
        file.create_group("streams/odour")["bytes"] = np.zeros(5, "u1")

    edit(shard, later)
    assert clauses(shard) == set() and open_store(store).videos["a"].frames == 5
    edit(shard, lambda f: f.attrs.modify("format_version", "2.0"))
    assert clauses(shard) == {"S26"}
    with pytest.raises(FormatError, match="format version 2.0; this flowpipe reads 1.x"):
        read_shard(shard)
    path = store / "store.json"
    path.write_text(path.read_text().replace('"format_version": "1.2"', '"format_version": "3.1"'))
    with pytest.raises(FormatError, match=r"3\.1"):
        open_store(store)


def test_S27_lines_of_the_manifest(shard):
    (path,) = (shard.parent.parent / "manifest").iterdir()
    crc, _, content = path.read_bytes().removesuffix(b"\n").partition(b" ")
    assert crc == b"%08x" % zlib.crc32(content)
    values = json.loads(content)
    assert values["n"] == 0 and values["publish"] == shard.name
    assert values["seal"] == read_shard(shard).attrs["seal"]
    assert values["keys"] == [["a", 0, 1], ["b", 0, 1]]


def test_S28_published_shards_exist(shard):
    manifest = read_manifest(shard.parent.parent)
    assert not manifest.lost({shard.name: read_shard(shard).attrs["seal"]})
    assert manifest.lost({}) and manifest.lost({shard.name: "0" * 64})


SOUNDS = [name for name, row in MODALITIES.items() if row.from_sound]


@pytest.mark.parametrize("modality", SOUNDS)
def test_S30_time_base_of_sound(shard, modality):
    assert layout.expected_images(5, modality, 0, 1) is None
    with h5py.File(shard) as file:
        stream = file[f"streams/{modality}"]
        assert START_S.name in stream.attrs["alignment"] and stream.attrs["context"] == 0
        assert stream[START_S.name].dtype == "<f8"
        values = stream[START_S.name][:]

    def drop_image(file: h5py.File) -> None:
        stream = file[f"streams/{modality}"]
        for name in ("crc32", START_S.name):
            replace_table(file, f"streams/{modality}/{name}", stream[name][:-1])
        replace_table(file, f"streams/{modality}/offset", stream["offset"][:-1])
        replace_table(file, f"streams/{modality}/bytes", stream["bytes"][: stream["offset"][-1]])
        stream["count"][1] -= 1

    assert clauses(edit(shard, drop_image)) == set()  # any number of images
    for wrong in (np.nan, values[0]):
        edit(
            shard,
            lambda f, wrong=wrong: f[f"streams/{modality}/{START_S.name}"].__setitem__(1, wrong),
        )
        assert clauses(shard) == {"S30"}


@pytest.mark.parametrize("modality", SOUNDS)
def test_S30_the_writer_refuses_times_that_do_not_increase(tmp_path, modality):
    with open_writer(tmp_path / "shards" / "shard-a.h5", (modality,)) as writer:
        writer.begin(Span(record("a")))
        payloads = codec.encode(np.zeros((2, 1, 6, 8), np.uint8), codec.RawParams())
        writer.append(EncodedPlanes(modality, payloads, 6, 8, {START_S.name: np.zeros(2)}))
        writer.append_pts([0.0])
        with pytest.raises(FormatError, match="must be finite and strictly increasing"):
            writer.commit({})


def test_S29_the_latest_record_is_used(shard):
    store, seal = shard.parent.parent, read_shard(shard).attrs["seal"]
    for label in (1, 2):
        log_records(store, {(shard.name, seal): [VideoRecord("a", "/a.avi", labels=(label,))]})
    assert read_manifest(store).records[shard.name, seal]["a"]["labels"] == [2]
