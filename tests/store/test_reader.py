"""Reading back: equal bytes in any process or thread, and one read per snippet."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import resource
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from checkout import ROOT
from store_making import open_writer

from flowpipe import codec, params
from flowpipe.errors import FormatError
from flowpipe.modality import MODALITIES, dequantise
from flowpipe.store import create_store, open_store
from flowpipe.store.image_ranges import ImageRanges
from flowpipe.store.reader import Store
from flowpipe.types import EncodedPlanes, Span, VideoRecord

VIDEOS = [("b", 7), ("a", 12), ("ü/x y", 1)]


def test_every_image_reads_back(make_store):
    made = make_store(VIDEOS, [("c", 5)], modalities=("rgb", "flow", "warped_flow", "rgb_diff"))
    store = open_store(made.path, check=True)
    assert list(store.videos) == sorted(made.planes) and len(store.videos) == 4
    assert store.incomplete == () and len(store.shards) == 2
    for video_id, streams in made.planes.items():
        video = store.videos[video_id]
        assert video.images == {m: len(p) for m, p in streams.items()}
        assert video.frames == len(made.pts_s[video_id])
        np.testing.assert_array_equal(video.pts_s, made.pts_s[video_id])
        for modality, planes in streams.items():
            got = store.snippet(video_id, modality, 0, len(planes))
            assert len(planes) == 0 or np.array_equal(got, planes)
            for k in range(len(planes)):
                np.testing.assert_array_equal(
                    store.snippet(video_id, modality, k, 1), planes[k : k + 1]
                )


def test_meta_is_read_back(make_store):
    made = make_store(VIDEOS, modalities=("flow",))
    video = open_store(made.path).videos["a"]
    assert video.labels == (3, 1) and video.subset == "training" and video.splits == ("train1",)
    assert video.segments[0].end_s == 1.5 and video.status == "done"
    assert video.meta["record"]["path"] == "/videos/a.avi"
    assert video.fps == pytest.approx(25) and video.size == {"flow": (6, 8)}
    clipped = open_store(made.path).column("a", "flow", "clipped")
    assert video.clipped_share["flow"] == clipped.sum() / (11 * 2 * 6 * 8)


def test_homographies_are_read_back(make_store):
    made = make_store([("a", 4)], modalities=("warped_flow",))
    store = open_store(made.path)
    assert store.column("a", "warped_flow", "homography").shape == (3, 3, 3)
    assert store.column("a", "warped_flow", "inliers").dtype == "<u4"
    with pytest.raises(KeyError, match="column 'nonsense' is unknown"):
        store.column("a", "warped_flow", "nonsense")


@pytest.mark.parametrize(("start", "length"), [(-1, 2), (0, 12), (11, 1), (3, -1), (100, 0)])
def test_a_range_outside_of_a_video_is_refused(make_store, start, length):
    store = open_store(make_store([("a", 12)]).path)
    with pytest.raises(IndexError, match=r"a has 11 images of flow"):
        store.snippet("a", "flow", start, length)


def test_an_empty_range_has_no_images(make_store):
    store = open_store(make_store([("a", 12), ("one", 1)]).path)
    assert store.snippet("a", "flow", 11, 0).shape == (0, 2, 6, 8)
    assert store.videos["one"].images == {"rgb": 1, "flow": 0}


def test_unknown_names_are_refused_with_the_nearest(make_store):
    store = open_store(make_store([("a", 12)]).path)
    with pytest.raises(KeyError, match="no video 'zz'"):
        store.snippet("zz", "rgb", 0, 1)
    with pytest.raises(KeyError, match="'warped_flow' is unknown; known: rgb, flow"):
        store.snippet("a", "warped_flow", 0, 1)
    assert "zz" not in store.videos


def test_snippets_keep_the_requested_order(make_store):
    made = make_store([("a", 12), ("b", 9)], [("c", 9)])
    store = open_store(made.path)
    requests = [("c", "flow", 3, 2), ("a", "rgb", 11, 1), ("b", "flow", 0, 8), ("a", "rgb", 0, 5)]
    for got, (video_id, modality, start, length) in zip(
        store.snippets(requests), requests, strict=True
    ):
        np.testing.assert_array_equal(got, made.planes[video_id][modality][start : start + length])


def test_images_of_a_snippet_are_read_by_one_call(make_store, monkeypatch):
    made = make_store([("a", 12), ("s", 6, 0, 2)], [("s", 5, 1, 2)])
    store = open_store(made.path)
    store.snippet("a", "flow", 0, 1), store.snippet("s", "flow", 6, 1)
    calls = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *a: calls.append(a) or pread(*a))
    store.read_payloads("a", "flow", 2, 9)
    assert [size for _, size, _ in calls] == [
        8 * 10,
        9 * len(store.read_payloads("a", "flow", 0, 1)[0]),
    ]
    calls.clear()
    store.read_payloads("s", "flow", 4, 4)  # over the seam between two shards
    assert len(calls) == 4


def test_parts_of_a_split_video_read_as_one(make_store):
    made = make_store(
        [("s", 5, 2, 3), ("s", 6, 0, 3), ("x", 3)], [("s", 4, 1, 3)], modalities=("rgb", "flow")
    )
    # The factory joins parts in the order of writing; this sorts them by part.
    store = open_store(made.path)
    video = store.videos["s"]
    assert video.frames == 15 and video.images == {"rgb": 15, "flow": 14} and video.parts == 3
    rgb, flow = made.planes["s"]["rgb"], made.planes["s"]["flow"]
    np.testing.assert_array_equal(
        store.snippet("s", "rgb", 0, 15), np.concatenate([rgb[5:11], rgb[11:15], rgb[:5]])
    )
    np.testing.assert_array_equal(
        store.snippet("s", "flow", 3, 9),
        np.concatenate([flow[4:10], flow[10:14], flow[:4]])[3:12],
    )
    assert store.column("s", "flow", "clipped").shape == (14,)


def test_incomplete_video_is_not_listed(make_store):
    made = make_store([("s", 5, 0, 3), ("s", 6, 2, 3), ("x", 3)])
    store = open_store(made.path)
    assert list(store.videos) == ["x"] and store.incomplete == ("s",)
    assert store.catalogue.table.keys_of("s") == {("s", 0, 3), ("s", 2, 3)}
    with pytest.raises(KeyError, match="lacks parts"):
        store.snippet("s", "rgb", 0, 1)


def test_flow_is_dequantised(make_store):
    made = make_store([("a", 3)])
    store = open_store(made.path)
    flow = store.flow("a", "flow", 0, 2)
    planes = made.planes["a"]["flow"].astype(np.float64)
    np.testing.assert_allclose(flow, planes * 40 / 255 - 20, atol=1e-5)
    assert flow.dtype == np.float32


def test_flow_and_values_refuse_what_they_do_not_fit(make_store):
    store = open_store(make_store([("a", 3)], modalities=tuple(MODALITIES)).path)
    assert {name: store.values("a", name, 0, 1).dtype.name for name in MODALITIES if name != "rgb"}
    for name, how in (("rgb", "snippet"), ("rgb_diff", "values"), ("audio", "values")):
        with pytest.raises(ValueError, match=f"{name} are no flow fields; .* by Store.{how}$"):
            store.flow("a", name, 0, 1)
    with pytest.raises(ValueError, match="rgb has no quantiser"):
        store.values("a", "rgb", 0, 1)
    for read in (store.flow, store.values):
        with pytest.raises(KeyError, match="lob"):
            read("a", "lob", 0, 1)


def test_the_error_of_the_quantiser_is_half_a_step():
    bound = 20.0
    values = np.linspace(-bound, bound, 100001)
    q = np.rint((values + bound) * 255 / (2 * bound)).astype(np.uint8)
    assert np.abs(dequantise(q, {"bound": bound}, "flow") - values).max() <= bound / 255 + 1e-6


def _sums(store: Store) -> dict[str, int]:
    return {v: int(store.snippet(v, "flow", 0, 5).sum()) for v in store.videos if v != "ü/x y"}


def _write_sums(store: Store, out: multiprocessing.queues.Queue) -> None:
    out.put(_sums(store))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_read_the_same(make_store, method):
    made = make_store(VIDEOS, [("c", 9)], params=codec.JpegParams())
    store = open_store(made.path)
    want = _sums(store)  # descriptors are open before the fork
    if method == "fork":
        context = multiprocessing.get_context("fork")
        out = context.Queue()
        children = [context.Process(target=_write_sums, args=(store, out)) for _ in range(3)]
        for child in children:
            child.start()
        assert [out.get(timeout=60) for _ in children] == [want] * 3
        for child in children:
            child.join(60)
            assert child.exitcode == 0
        return
    code = (
        "import pickle, sys, json\n"
        "store = pickle.loads(sys.stdin.buffer.read())\n"
        "print(json.dumps({v: int(store.snippet(v, 'flow', 0, 5).sum())"
        " for v in store.videos if len(v) == 1}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(store), capture_output=True, check=True
    )
    assert json.loads(done.stdout) == want


@contextmanager
def few_descriptors():
    """Let this process open few files, so that a store keeps only 16 shards open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 64), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_threads_read_the_same(make_store):
    made = make_store(*[[(f"v{i:02d}", 7)] for i in range(20)])
    with few_descriptors():
        store = open_store(made.path)  # shards are closed under the readers all the time
    want, wrong = _sums(open_store(made.path)), []

    def read() -> None:
        for _ in range(15):
            if _sums(store) != want:
                wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_deleted_index_is_made_again(make_store):
    made = make_store(VIDEOS, [("c", 9)])
    index = made.path / "index.h5"
    first = _sums(open_store(made.path))
    assert index.exists()
    index.unlink()
    assert _sums(open_store(made.path, refresh=False)) == first and not index.exists()
    index.write_bytes(b"not an index")
    assert _sums(open_store(made.path)) == first


def test_new_shard_is_found_beside_the_index(make_store):
    made = make_store([("a", 7)], [("s", 5, 0, 2)])
    assert list(open_store(made.path).videos) == ["a"]
    more = make_store([("s", 4, 1, 2), ("z", 3)], path=made.path.parent / "more")
    shutil.copy(more.shards[0], made.path / "shards" / "shard-later.h5")
    store = open_store(made.path)
    assert list(store.videos) == ["a", "s", "z"]
    np.testing.assert_array_equal(store.snippet("z", "rgb", 0, 3), more.planes["z"]["rgb"])


def test_copied_store_needs_no_new_index(make_store, tmp_path, monkeypatch):
    made = make_store([("a", 7)])
    open_store(made.path)
    copy = tmp_path / "copy"
    shutil.copytree(made.path, copy, copy_function=shutil.copyfile)
    os.utime(copy / "shards" / made.shards[0].name, (1, 1))
    monkeypatch.setattr("flowpipe.store.index.read_shard", None)
    assert open_store(copy).videos["a"].frames == 7
    assert open_store(copy).snippet("a", "rgb", 0, 7).shape == (7, 3, 6, 8)


def test_a_shard_replaced_under_an_open_store_is_refused(make_store):
    made = make_store([("a", 7)])
    store = open_store(made.path)
    shutil.copyfile(made.shards[0], made.path / "copy")
    (made.path / "copy").rename(made.shards[0])
    with pytest.raises(FormatError, match="open the store again"):
        store.snippet("a", "rgb", 0, 1)


def test_a_shard_truncated_under_an_open_reader_is_refused(make_store):
    made = make_store([("a", 7)])
    store = open_store(made.path)
    store.snippet("a", "rgb", 0, 1)
    os.truncate(made.shards[0], store.catalogue.shards[0].streams["rgb"]["at"]["bytes"] + 50)
    with pytest.raises(FormatError, match="ends .* bytes early"):
        store.snippet("a", "rgb", 0, 6)


def test_an_index_truncated_under_an_open_reader_does_no_harm(make_store):
    """The test runs in its own process, because a fault in mapped memory kills the process."""
    made = make_store([("a", 7)])
    open_store(made.path)  # writes the index
    code = (
        "import os, sys; from flowpipe import open_store; store = open_store(sys.argv[1]);"
        "os.truncate(sys.argv[1] + '/index.h5', 0); print(store.videos['a'].status)"
    )
    command = [sys.executable, "-c", code, str(made.path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_crc_is_checked_before_decoding(make_store):
    made = make_store([("a", 7)])
    content = bytearray(made.shards[0].read_bytes())
    image = made.planes["a"]["flow"][3].transpose(1, 0, 2).tobytes()
    content[content.index(image) + 5] ^= 1
    made.shards[0].write_bytes(content)
    assert open_store(made.path, check=False).snippet("a", "flow", 3, 1).shape == (1, 2, 6, 8)
    assert len(open_store(made.path).read_payloads("a", "flow", 3, 1)) == 1
    for read in (
        open_store(made.path).snippet,
        partial(open_store(made.path).read_payloads, check=True),
    ):
        with pytest.raises(FormatError, match="S17: image 3 of flow"):
            read("a", "flow", 3, 1)


def test_broken_shard_is_refused_or_left_out(make_store):
    made = make_store([("a", 7)], [("b", 7)])
    made.shards[1].write_bytes(b"\0" * 5000)
    with pytest.raises(FormatError, match="cannot be opened as HDF5"):
        open_store(made.path)
    store = open_store(made.path, skip_broken=True)
    assert list(store.videos) == ["a"] and list(store.broken) == [made.shards[1].name]


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(FormatError, match="is not a flowpipe store"):
        open_store(tmp_path)


def test_a_store_in_a_read_only_folder_is_read(make_store):
    made = make_store([("a", 7)])
    # root may write anywhere; a folder named like the index makes the write fail for root too
    (made.path / "index.h5").mkdir()
    assert open_store(made.path).videos["a"].frames == 7


def test_no_more_shards_are_open_than_allowed(make_store):
    made = make_store(*[[(f"v{i:02d}", 3)] for i in range(20)])
    store = open_store(made.path)
    ranges = ImageRanges(store.path, store.catalogue, check=True)
    ranges.most_open = 4
    for video_id in store.videos:
        assert ranges.find(video_id, "rgb")
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert sum(str(made.path / "shards") in link for link in links) == 4


def test_a_process_that_only_reads_loads_no_torch_and_no_dask(make_store):
    made = make_store([("a", 7)])
    open_store(made.path)
    code = (
        "import sys; from flowpipe import open_store\n"
        f"open_store({str(made.path)!r}).snippet('a', 'flow', 0, 5)\n"
        "assert 'torch' not in sys.modules and 'dask' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_stray_bytes_in_file_names_survive(tmp_path, rng):
    path = "/videos/caf\udce9 \U0001f600.avi"
    made_with: dict[str, float] = {}
    create_store(
        tmp_path,
        recipe=params.canonical(made_with),
        recipe_digest=params.digest(made_with),
        dataset={"root": path},
        class_names=("é",),
    )
    with open_writer(tmp_path / "shards" / "a.h5", ("rgb",), made_with=made_with) as writer:
        writer.begin(Span(VideoRecord("v", path)))
        payloads = codec.encode(rng.integers(0, 256, (1, 3, 4, 4), np.uint8), codec.RawParams())
        writer.append(EncodedPlanes("rgb", payloads, 4, 4))
        writer.append_pts([0.0])
        writer.commit({})
        writer.publish()
    store = open_store(tmp_path)
    assert store.videos["v"].meta["record"]["path"] == path
    assert store.header.dataset["root"] == path and store.header.class_names == ("é",)
    assert open_store(tmp_path).videos["v"].meta["record"]["path"] == path


def test_damaged_tables_are_refused_when_the_store_is_opened(make_store):
    made = make_store([("a", 7)])
    with h5py.File(made.shards[0], "r+") as file:
        file["streams/flow/offset"][2] += 1
    with pytest.raises(FormatError, match="S08.*\n.*--repair"):
        open_store(made.path)
    assert "S08" in open_store(made.path, skip_broken=True).broken[made.shards[0].name]
