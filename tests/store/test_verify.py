"""Verify detects every damage and survives crashes of HDF5 on damaged files."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from store_making import open_writer

from flowpipe import codec
from flowpipe.errors import FormatError
from flowpipe.store import open_store, salvage, verify_store
from flowpipe.store.check import check_shard
from flowpipe.store.check_process import CheckProcess
from flowpipe.store.shard import read_shard

FLIPS = int(os.environ.get("FLOWPIPE_FUZZ", "150"))


def read_all(path: Path) -> dict[str, object]:
    """All values of a shard, payloads included."""
    shard, found = read_shard(path, seal=False), {}
    found["attrs"], found["entries"] = dict(shard.attrs), shard.entries
    found["pts_s"] = shard.pts_s.tobytes()
    content = path.read_bytes()
    for name, stream in shard.streams.items():
        at = stream.at["bytes"]
        found[name] = (
            stream.codec, stream.quantiser, stream.offset.tobytes(), stream.crc32.tobytes(),
            content[at : at + int(stream.offset[-1])],
            [c.tobytes() for c in (*stream.columns.values(), *stream.entry_columns.values())],
        )  # fmt: skip
    return found


def digest_of(path: Path) -> str:
    with h5py.File(path) as file:
        return file.attrs["recipe_digest"]


def test_every_flip_is_detected_or_changes_no_value(make_store, rng, tmp_path):
    """Each byte of payloads and tables is covered; a byte that nothing reads is an exception."""
    made = make_store(
        [("a", 7), ("b", 4)], modalities=("rgb", "warped_flow"), params=codec.JpegParams()
    )
    shard, copy = made.shards[0], tmp_path / "copy.h5"
    whole, truth, digest = shard.read_bytes(), read_all(shard), digest_of(shard)
    used = np.flatnonzero(np.frombuffer(whole, np.uint8))  # most of the rest is alignment
    harmless = 0
    with CheckProcess() as child:
        for number in range(FLIPS):
            at = int(rng.choice(used) if number % 3 else rng.integers(len(whole)))
            broken = bytearray(whole)
            broken[at] ^= 1 << int(rng.integers(8))
            copy.write_bytes(broken)
            task = {"check": "shard", "path": str(copy), "digest": digest, "decode": False}
            if not child.ask(task, 30)["faults"]:
                assert read_all(copy) == truth, f"a flip at byte {at} went unseen"
                harmless += 1
    assert harmless < FLIPS / 2


def test_every_byte_of_payloads_and_tables_is_covered(make_store, tmp_path):
    """Every single byte in turn, over the datasets of a tiny shard."""
    made = make_store([("a", 2)], modalities=("warped_flow",))
    shard, copy = made.shards[0], tmp_path / "copy.h5"
    whole, digest = shard.read_bytes(), digest_of(shard)
    places = []
    with h5py.File(shard) as file:

        def add(name: str, node: object) -> None:
            if isinstance(node, h5py.Dataset) and node.dtype.kind != "O":
                places.extend(range(node.id.get_offset(), node.id.get_offset() + node.nbytes))

        file.visititems(add)
    for text in (b'{"record"', b"done", b"/videos/a.avi", b'"bound"'):
        places.append(whole.index(text) + 2)
    for at in places:
        broken = bytearray(whole)
        broken[at] ^= 0x10
        copy.write_bytes(broken)
        assert check_shard(copy, digest, False)["faults"], f"byte {at}"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.95])
def test_a_truncated_shard_is_detected(make_store, share):
    made = make_store([("a", 7)], [("b", 7)])
    size = made.shards[0].stat().st_size
    with h5py.File(made.shards[0]) as file:
        end = max(s["bytes"].id.get_offset() + s["bytes"].size for s in file["streams"].values())
    os.truncate(made.shards[0], min(int(size * share), end - 1))
    report = verify_store(made.path)
    assert not report.ok and {p.shard for p in report.problems} == {made.shards[0].name}
    assert [row.ok for row in report.shards] == [False, True]


def test_blocks_of_noise_never_crash_the_process(make_store, rng):
    made = make_store([("a", 7)], [("b", 7)])
    whole = made.shards[0].read_bytes()
    for _ in range(5):
        broken = bytearray(whole)
        at, length = int(rng.integers(len(whole))), int(rng.integers(8, 600))
        broken[at : at + length] = rng.bytes(len(broken[at : at + length]))
        made.shards[0].write_bytes(broken)
        truth_kept = bytes(broken) == whole
        report = verify_store(made.path, timeout_s=20)
        bad = {p.shard for p in report.problems} - {"index.h5"}
        assert bad <= {made.shards[0].name} and (bad or truth_kept or at > 0)


def test_a_bad_payload_is_located(make_store):
    made = make_store([("a", 7), ("b", 7)])
    planes = made.planes["b"]["flow"][3].transpose(1, 0, 2).tobytes()
    content = bytearray(made.shards[0].read_bytes())
    content[content.index(planes) + 7] ^= 4
    made.shards[0].write_bytes(content)
    (problem,) = verify_store(made.path).problems
    assert problem.clause == "S17" and problem.video_id == "b"
    assert problem.message == "image 3 of flow does not have its CRC"


def test_good_videos_are_salvaged(make_store):
    made = make_store([("a", 7), ("b", 7), ("s", 5, 0, 2), ("c", 2)], [("s", 3, 1, 2)])
    planes = made.planes["b"]["flow"][3].transpose(1, 0, 2).tobytes()
    content = bytearray(made.shards[0].read_bytes())
    content[content.index(planes) + 7] ^= 4
    made.shards[0].write_bytes(content)
    with open_writer(made.shards[0]) as writer:
        kept, lost = salvage(made.shards[0], writer, {})
        writer.publish()
    assert [k[0] for k in kept] == ["a", "s", "c"] and list(lost) == [("b", 0, 1)]
    assert "S17: image" in lost["b", 0, 1]
    assert verify_store(made.path).ok
    store = open_store(made.path, check=True)
    assert list(store.videos) == ["a", "c", "s"]
    for video_id in store.videos:
        planes = made.planes[video_id]["flow"]
        np.testing.assert_array_equal(store.snippet(video_id, "flow", 0, len(planes)), planes)
        assert store.videos[video_id].labels == (3, 1)
    assert store.videos["a"].meta["record"]["segments"][0]["label"] == 3


def test_damaged_tables_are_not_salvaged(make_store):
    made = make_store([("a", 7)])
    with h5py.File(made.shards[0], "r+") as file:
        file["frames/pts_s"][2] += 0.001
    with open_writer(made.path / "shards" / "new.h5") as writer:
        with pytest.raises(FormatError, match="S08"):
            salvage(made.shards[0], writer, {})


def test_a_payload_of_another_codec_is_detected(make_store, rng):
    """A shard whose checksums are right but whose bytes are no images of the recorded codec."""
    from store_making import record

    from flowpipe.types import EncodedPlanes, Span

    made = make_store([("a", 7)])
    path = made.path / "shards" / "shard-wrong.h5"
    with open_writer(path, ("rgb", "flow")) as writer:
        writer.begin(Span(record("w")))
        writer.append(EncodedPlanes("rgb", (b"not an image",) * 2, 6, 8))
        small = codec.encode(rng.integers(0, 256, (1, 2, 5, 8), np.uint8), codec.RawParams())
        writer.append(EncodedPlanes("flow", small, 6, 8, {"clipped": np.zeros(1, "<u4")}))
        writer.append_pts([0.0, 1.0])
        writer.commit({})
        writer.publish()
    report = verify_store(made.path, decode=True)
    assert {p.clause for p in report.problems} == {"S18"} and len(report.problems) == 3
    assert any("its size is (5, 16, 1)" in p.message for p in report.problems)


def test_a_stale_index_is_detected(make_store):
    made = make_store([("a", 7), ("b", 5)])
    open_store(made.path)
    assert verify_store(made.path).ok
    with h5py.File(made.path / "index.h5", "r+") as file:
        file["columns/frames"][0] += 1
    (problem,) = verify_store(made.path).problems
    assert problem.clause == "S06" and "frames" in problem.message
    (made.path / "index.h5").unlink()
    assert verify_store(made.path).ok


def test_one_process_reads_all_shards_and_the_index(make_store, monkeypatch):
    made, started, start = make_store([("a", 7)], [("b", 5)]), [], CheckProcess.start
    monkeypatch.setattr(
        CheckProcess, "start", lambda own: started.append(start(own)) or started[-1]
    )
    assert verify_store(made.path).ok
    assert len(started) == 1 and started[0].poll() is not None


def test_a_reader_that_hangs_is_killed(make_store):
    made = make_store([("a", 7)])
    task = {"check": "shard", "path": str(made.shards[0]), "digest": "", "decode": False}
    with CheckProcess() as child:
        child.start().send_signal(signal.SIGSTOP)
        began = time.monotonic()
        ((_, clause, message),) = child.ask(task, 1.0)["faults"]
        assert clause == "S09" and "hangs" in message and time.monotonic() - began < 20
        # and the next shard gets a new process
        good = {**task, "digest": digest_of(made.shards[0])}
        assert child.ask(good, 30)["faults"] == []


def test_a_crash_of_the_reader_is_reported_for_its_shard(make_store):
    made = make_store([("a", 7)])
    task = {"check": "shard", "path": str(made.shards[0]), "digest": "", "decode": False}
    with CheckProcess() as child:
        process = child.start()
        process.send_signal(signal.SIGSEGV)
        process.wait()
        ((_, clause, message),) = child.ask(task, 30)["faults"]
        assert clause == "S09" and "SIGSEGV" in message


def test_missing_parts_and_duplicate_videos_are_detected(make_store):
    made = make_store([("a", 7), ("s", 5, 0, 3)], [("s", 4, 2, 3), ("b", 3)])
    shutil.copy(made.shards[0], made.shards[0].with_name("shard-copy.h5"))
    report = verify_store(made.path, workers=2)
    (problem,) = report.problems
    assert problem.clause == "S23" and "parts [1] of 3 are missing" in problem.message
    assert any("a is stored more than once" in note for note in report.notes)
    store = open_store(made.path)
    assert list(store.videos) == ["a", "b"] and store.incomplete == ("s",)


def test_only_the_named_shards_are_checked(make_store):
    made = make_store([("a", 7)], [("b", 7)])
    seen = []
    report = verify_store(made.path, shards=[made.shards[1].name], on_shard=seen.append)
    assert [row.shard for row in report.shards] == [made.shards[1].name] == [r.shard for r in seen]
    assert report.plain()["ok"] and report.plain()["shards"][0]["images"] == 13


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(FormatError, match="is not a flowpipe store"):
        verify_store(tmp_path)
