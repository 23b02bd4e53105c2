"""Writing: a shard is published complete or not at all, in every failure."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from checkout import python_path
from command import fill
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_making import RECIPE, Made, add_video, open_writer, record

from flowpipe import codec, params
from flowpipe.errors import DiskFullError, FlowpipeError, FormatError, RecipeError
from flowpipe.store import create_store, files, open_store, sweep, verify_store
from flowpipe.store.header import check_recipe
from flowpipe.types import EncodedPlanes, Span, VideoRecord

ROOT = Path(__file__).parents[2]


def hidden(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


def test_rollback_leaves_no_trace(tmp_path, rng):
    plain, rolled = Made(tmp_path), Made(tmp_path)
    paths = tmp_path / "a.h5", tmp_path / "b.h5"
    with open_writer(paths[0]) as writer:
        add_video(writer, plain, "v", 6, np.random.default_rng(1))
        add_video(writer, plain, "w", 6, np.random.default_rng(2))
        written = writer.bytes_written
        writer.publish()
    with open_writer(paths[1]) as writer:
        add_video(writer, rolled, "v", 6, np.random.default_rng(1))
        writer.begin(Span(record("bad")))
        for modality in ("rgb", "flow"):
            columns = {"clipped": np.ones(5, "<u4")} if modality == "flow" else {}
            writer.append(EncodedPlanes(modality, (b"x" * 1000,) * 5, 9, 9, columns))
        writer.append_pts([0.0, 1.0])
        writer.rollback()
        writer.rollback()
        add_video(writer, rolled, "w", 6, np.random.default_rng(2))
        assert writer.bytes_written == written
        writer.publish()
    shards = [h5py.File(path) for path in paths]
    for name in ("videos/frames", "frames/pts_s", "streams/flow/bytes", "streams/flow/clipped",
                 "streams/rgb/offset", "streams/rgb/height"):  # fmt: skip
        np.testing.assert_array_equal(shards[0][name], shards[1][name])
    assert not hidden(tmp_path)


def test_an_exception_leaves_no_file(tmp_path, rng):
    with pytest.raises(ZeroDivisionError), open_writer(tmp_path / "a.h5") as writer:
        add_video(writer, Made(tmp_path), "v", 6, rng)
        assert hidden(tmp_path)
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_is_not_published_leaves_no_file(tmp_path, rng):
    with open_writer(tmp_path / "a.h5") as writer:
        add_video(writer, Made(tmp_path), "v", 6, rng)
    assert list(tmp_path.iterdir()) == []


def test_empty_shard_is_refused(tmp_path):
    with open_writer(tmp_path / "a.h5") as writer, pytest.raises(FormatError, match="no video"):
        writer.publish()


def test_commit_refuses_what_breaks_the_format(tmp_path, rng):
    raw = codec.RawParams()
    rgb = codec.encode(rng.integers(0, 256, (3, 3, 4, 4), np.uint8), raw)
    flow = codec.encode(rng.integers(0, 256, (3, 2, 4, 4), np.uint8), raw)

    def flows(count: int) -> EncodedPlanes:
        return EncodedPlanes("flow", flow[:count], 4, 4, {"clipped": np.zeros(count, "<u4")})

    with open_writer(tmp_path / "a.h5") as writer:
        for count, pts, words in (
            (3, [0, 1, 2], "3 frames want 2 images of flow, got 3"),
            (1, [0, 1, 2], "3 frames want 2 images of flow, got 1"),
            (2, [0, 1], "2 frames want 3|2 frames want 2 images of rgb, got 3"),
            (2, [0, 2, 2], "strictly increasing"),
            (2, [0, 1, float("nan")], "finite"),
            (2, [], "0 timestamps"),
        ):
            writer.begin(Span(record("v")))
            writer.append(EncodedPlanes("rgb", rgb, 4, 4))
            writer.append(flows(count))
            writer.append_pts(pts)
            with pytest.raises(FormatError, match=words):
                writer.commit({})
            writer.rollback()
        writer.begin(Span(record("v")))
        writer.append(EncodedPlanes("rgb", rgb, 4, 4))
        with pytest.raises(FormatError, match="must keep their size") as caught:
            writer.append(EncodedPlanes("rgb", rgb, 8, 2))
        assert caught.value.reason == "resolution_change"
        with pytest.raises(RuntimeError, match="still open"):
            writer.begin(Span(record("w")))
        with pytest.raises(ValueError, match="status"):
            writer.commit({"status": "failed"})
        writer.rollback()
        with pytest.raises(ValueError, match="video id"):
            writer.begin(Span(record("x" * 300)))


def test_a_second_copy_of_a_video_is_refused(tmp_path, rng):
    with open_writer(tmp_path / "a.h5") as writer:
        add_video(writer, Made(tmp_path), "v", 6, rng)
        with pytest.raises(FormatError, match="already in"):
            writer.begin(Span(record("v")))


@pytest.mark.parametrize("name", ["../x.h5", ".hidden.h5", "x.hdf", "a b.h5", ""])
def test_the_name_of_a_shard_stays_in_its_folder(tmp_path, name):
    path = tmp_path / "shards" / name if name != "../x.h5" else tmp_path / "shards" / "..x.h5"
    with pytest.raises(ValueError, match="must be named"):
        open_writer(path)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    frames=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    window=st.integers(1, 9),
    modalities=st.sets(
        st.sampled_from(["rgb", "flow", "warped_flow", "rgb_diff"]), min_size=1, max_size=4
    ),
)
def test_videos_of_any_length_read_back(tmp_path_factory, frames, size, window, modalities):
    made = Made(tmp_path_factory.mktemp("store"))
    create_store(
        made.path, recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE),
        dataset={}, class_names=(),
    )  # fmt: skip
    rng = np.random.default_rng(len(frames))
    with open_writer(made.path / "shards" / "a.h5", sorted(modalities)) as writer:
        for number, count in enumerate(frames):
            add_video(writer, made, f"v{number}", count, rng, size=size, window=window)
        writer.publish()
    store = open_store(made.path, check=True)
    for video_id, streams in made.planes.items():
        for modality, planes in streams.items():
            if len(planes):
                got = store.snippet(video_id, modality, 0, len(planes))
                np.testing.assert_array_equal(got, planes)


def test_spools_lie_in_the_folder_and_not_in_memory(tmp_path):
    """Payloads go to hidden files in the shard's folder as they come."""
    with open_writer(tmp_path / "a.h5", ("rgb",)) as writer:
        writer.begin(Span(record("v")))
        writer.append(EncodedPlanes("rgb", (b"x" * (1 << 20),) * 4, 4, 4))
        sizes = [p.stat().st_size for p in tmp_path.iterdir()]
        assert sizes == [4 << 20] and writer.bytes_written == 4 << 20


WRITE_FOREVER = """
    import sys, numpy as np
    from pathlib import Path
    from store_making import Made, add_video, open_writer
    path = Path(sys.argv[1])
    with open_writer(path) as writer:
        for number in range(10**6):
            add_video(writer, Made(path), f"v{number}", 20, np.random.default_rng(0), size=(64, 64))
            if number == int(sys.argv[2]):
                print("ready", flush=True)
                if sys.argv[3] == "publish":
                    writer.publish()
                    break
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": python_path(ROOT, ROOT / "tests" / "support")},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("stage", ["append", "publish"])
def test_killed_writer_leaves_no_final_name(tmp_path, rng, stage):
    shards = tmp_path / "shards"
    final = shards / "shard-a.h5"
    process = start(WRITE_FOREVER, final, 60, stage)
    assert process.stdout.readline() == "ready\n"
    time.sleep(float(rng.uniform(0, 0.02)))
    process.send_signal(signal.SIGKILL)
    process.wait()
    if final.exists():  # it had come to the rename: then it is whole
        with h5py.File(final) as file:
            assert len(file["videos/video_id"]) == 61
    swept = sweep(tmp_path)
    assert [p.name for p in shards.iterdir()] == ([final.name] if final.exists() else [])
    assert stage == "publish" or len(swept) == 2


def test_sweep_keeps_files_of_running_writers_and_recent_files(tmp_path, rng):
    with open_writer(tmp_path / "shards" / "a.h5") as writer:
        add_video(writer, Made(tmp_path), "v", 6, rng)
        young = tmp_path / "shards" / ".b.h5.elsewhere~12345~0123abcd.tmp-rgb"
        old = tmp_path / "shards" / ".c.h5.elsewhere~12345~0123abcd.tmp"
        other = tmp_path / "shards" / ".hidden"
        for path in (young, old, other):
            path.touch()
        os.utime(old, (1, 1))
        assert sweep(tmp_path) == [old]
        assert writer.publish().exists()
    assert young.exists() and other.exists()


def test_a_file_size_limit_is_reported_as_a_full_disk(tmp_path, rng):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    made = Made(tmp_path)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(DiskFullError, match="finished work is kept") as caught:  # noqa: SIM117
            with open_writer(tmp_path / "a.h5") as writer:
                resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
                for number in range(100):
                    add_video(writer, made, f"v{number}", 20, rng, size=(16, 16))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == [] and caught.value.reason == "disk_full"


@pytest.fixture
def tiny_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs; the size limit test stands in for it")
    yield disk
    subprocess.run(["umount", str(disk)], check=False)


def test_a_disk_that_fills_up_while_appending_is_reported(tiny_disk, rng):
    with pytest.raises(DiskFullError), open_writer(tiny_disk / "a.h5") as writer:
        for number in range(1000):
            add_video(writer, Made(tiny_disk), f"v{number}", 20, rng, size=(32, 32))
    assert list(tiny_disk.iterdir()) == []


def test_a_disk_that_fills_up_while_publishing_is_reported(tiny_disk, rng):
    with pytest.raises(DiskFullError, match="more needed"):  # noqa: SIM117
        with open_writer(tiny_disk / "a.h5") as writer:
            while writer.bytes_written < 1_700_000:
                number = len(writer.entries)
                add_video(writer, Made(tiny_disk), f"v{number}", 20, rng, size=(32, 32))
            writer.publish()
    assert list(tiny_disk.iterdir()) == []


def test_a_full_disk_inside_hdf5_is_reported(tiny_disk, rng, monkeypatch):
    monkeypatch.setattr(files, "check_space", lambda folder, count: None)
    with pytest.raises(DiskFullError):  # noqa: SIM117
        with open_writer(tiny_disk / "a.h5") as writer:
            while writer.bytes_written < 1_700_000:
                number = len(writer.entries)
                add_video(writer, Made(tiny_disk), f"v{number}", 20, rng, size=(32, 32))
            (tiny_disk / "ballast").write_bytes(b"x" * 1_300_000)
            writer.publish()
    assert [p.name for p in tiny_disk.iterdir()] == ["ballast"]


def test_files_are_copied_where_the_kernel_cannot_do_it(tmp_path, rng, monkeypatch):
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "not here")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    made = Made(tmp_path)
    with open_writer(tmp_path / "a.h5") as writer:
        add_video(writer, made, "v", 6, rng)
        writer.publish()
    with h5py.File(tmp_path / "a.h5") as file:
        payloads = codec.encode(made.planes["v"]["flow"], codec.RawParams())
        assert file["streams/flow/bytes"][()].tobytes() == b"".join(payloads)
        assert file["streams/flow/crc32"][:].tolist() == [zlib.crc32(p) for p in payloads]


def test_wrong_bytes_from_a_disk_are_detected(tmp_path, rng, monkeypatch):
    copy = files.copy_bytes

    def copy_badly(source: int, target: int, count: int, at: int) -> None:
        copy(source, target, count, at)
        os.pwrite(target, b"\x55", at + count // 2)

    monkeypatch.setattr(files, "copy_bytes", copy_badly)
    with pytest.raises(FormatError, match="read back"), open_writer(tmp_path / "a.h5") as writer:
        add_video(writer, Made(tmp_path), "v", 6, rng)
        writer.publish()
    assert list(tmp_path.iterdir()) == []


def test_a_store_refuses_another_recipe_and_names_the_differences(tmp_path):
    other = {**RECIPE, "bound": 15.0}
    for made_with in (RECIPE, RECIPE):
        create_store(
            tmp_path, recipe=params.canonical(made_with), recipe_digest=params.digest(made_with),
            dataset={}, class_names=("a",),
        )  # fmt: skip
    with pytest.raises(RecipeError, match="bound: 20.0 there, 15.0 here"):
        create_store(
            tmp_path, recipe=params.canonical(other), recipe_digest=params.digest(other),
            dataset={}, class_names=("a",),
        )  # fmt: skip
    with pytest.raises(RecipeError, match="labels would mix"):
        create_store(
            tmp_path, recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE),
            dataset={}, class_names=("b",),
        )  # fmt: skip
    with pytest.raises(RecipeError, match="another recipe"):
        open_store(tmp_path).check_recipe("0" * 64)


def test_other_modalities_hide_what_follows_from_them(tmp_path):
    jpeg = {"name": "jpeg", "quality": 95}
    made = {
        "modalities": ["rgb", "flow"], "codecs": {"rgb": jpeg, "flow": jpeg}, "bound": 20.0,
        "warp": {"estimator": "background"}, "size": {"width": 340}, "flow": {"name": "tvl1"},
    }  # fmt: skip
    header = create_store(
        tmp_path, recipe=params.canonical(made), recipe_digest=params.digest(made),
        dataset={}, class_names=(),
    )  # fmt: skip
    changed = {"codecs": {"rgb": jpeg}, "warp": {"estimator": "ransac"}, "modalities": ["rgb"]}
    for other, lines in (
        ({**made, **changed}, ["modalities: rgb,flow there, rgb here"]),
        ({**made, **changed, "bound": 15.0},
         ["modalities: rgb,flow there, rgb here", "bound: 20.0 there, 15.0 here"]),
        ({**made, "codecs": {"rgb": jpeg, "flow": {**jpeg, "quality": 90}}},
         ["codecs.flow.quality: 95 there, 90 here"]),
        ({"modalities": ["rgb", "flow"], "bound": 20.0, "imported": {"fps": 25}},
         ["codecs: present there, absent here", "flow: present there, absent here",
          "imported: absent there, present here", "size: present there, absent here",
          "warp: present there, absent here"]),
    ):  # fmt: skip
        with pytest.raises(RecipeError) as refused:
            check_recipe(tmp_path, header, params.digest(other), other)
        assert [line.strip() for line in str(refused.value).splitlines()[1:]] == lines


def test_processes_that_create_a_store_together_agree(tmp_path):
    script = """
        import sys
        from flowpipe import params
        from flowpipe.store import create_store
        made_with = {"bound": float(sys.argv[2])}
        create_store(sys.argv[1], recipe=params.canonical(made_with),
                     recipe_digest=params.digest(made_with), dataset={}, class_names=())
    """
    racers = [start(script, tmp_path / "s", bound) for bound in (20, 20, 15, 15)]
    codes = [racer.wait() for racer in racers]
    bound = json.loads(json.loads((tmp_path / "s" / "store.json").read_text())["recipe"])["bound"]
    assert [code == 0 for code in codes] == [bound == 20, bound == 20, bound == 15, bound == 15]
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["shards", "store.json"]


def test_a_shard_holds_twenty_thousand_entries(tmp_path):
    """20,000 entries in 10 shards: a smoke test of scale, not of speed."""
    made = tmp_path / "store"
    create_store(
        made, recipe=params.canonical(RECIPE), recipe_digest=params.digest(RECIPE),
        dataset={}, class_names=(),
    )  # fmt: skip
    payload = codec.encode(np.zeros((1, 3, 2, 2), np.uint8), codec.RawParams())
    for shard in range(10):
        with open_writer(made / "shards" / f"shard-{shard}.h5", ("rgb",)) as writer:
            for number in range(2_000):
                writer.begin(Span(VideoRecord(f"{number:05d}-{shard}", "")))
                writer.append(EncodedPlanes("rgb", payload, 2, 2))
                writer.append_pts([0.0])
                writer.commit({"record": {"video_id": "short", "path": ""}})
            writer.publish()
    store = open_store(made)
    assert len(store.videos) == 20_000
    again = open_store(made)
    assert again.snippet("01999-7", "rgb", 0, 1).shape == (1, 3, 2, 2)
    assert next(iter(again.videos)) == "00000-0" and "02000-0" not in again.videos


def test_a_published_shard_verifies(tmp_path, make_store):
    made = make_store([("a", 7), ("s", 5, 0, 2)], [("s", 5, 1, 2)])
    report = verify_store(made.path)
    assert report.ok, report.problems
    assert [row.videos for row in report.shards] == [2, 1]


def test_errors_keep_their_attributes_when_pickled():
    import pickle

    from flowpipe.store.layout import broken_clause

    error = pickle.loads(pickle.dumps(broken_clause("S09", "what")))
    assert isinstance(error, FlowpipeError) and str(error) == "S09: what"


@pytest.mark.parametrize("spare_kib", [0, 2, 4, 6, 8, 10, 12])
def test_a_disk_that_fills_up_while_a_shard_is_assembled_is_reported(
    spare_kib, small_disk, rng, monkeypatch
):
    """The disk fills up after the check of its space: HDF5 fails to write and to close the file."""
    disk = small_disk(256)
    made = Made(disk)
    writer = open_writer(disk / "shard-000000000000.h5")
    add_video(writer, made, "a", 6, rng)
    monkeypatch.setattr(files, "check_space", lambda *_: None)
    fill(disk, spare_kib << 10)
    with pytest.raises(DiskFullError, match="free some space"):
        writer.publish()
    assert [path.name for path in disk.iterdir()] == ["ballast"]
